"""Completion: in every candidate tree, open each subtree in turn and look up what would have to stand there.

A candidate that is right in all but one of its subtrees determines the values of that one (see `generator.inversion`);
if a function with these values is known - from a table of all small ones, or as a part of other candidates - putting
it there makes the tree exact. All subtrees of all candidates are opened and looked up in one batch, so a candidate no
longer has to be right: it has to be right somewhere else.

Legend: b candidate, c completion, l token position, m point, v input variable.
"""

import torch
from jaxtyping import Complex128, Float64, Int64
from torch import Tensor

from emlinit.generator.functions.inversion import open_slots
from emlinit.generator.functions.lookup import Lookup
from emlinit.generator.grammar import LEFT, PAD, RIGHT, ROOT, subtree_lengths
from emlinit.generator.records import first_of_each

MAX_COMPLETIONS = 512
"""Most trees returned, small ones first."""


def complete(
    lookup: Lookup, tokens: Int64[Tensor, "b l"], x: Float64[Tensor, "m v"], y: Complex128[Tensor, " m"]
) -> Int64[Tensor, "c k"]:
    """Candidates with one subtree replaced by a known function, such that they give `y` at the few points `x`.

    Args:
        lookup: known functions at the points `x`.
        tokens: candidates of the exact grammar, padded.
        x: the points of the lookup.
        y: values that the tree should have there; real data, or the values wanted at an open subtree.

    Returns:
        distinct trees in prefix order, padded; they have to be checked on the data.
    """
    slots = open_slots(tokens, x, y)
    spans = subtree_lengths(tokens)
    row, position, found = (torch.zeros(0, dtype=torch.int64) for _ in range(3))
    for side in (ROOT, LEFT, RIGHT):
        rows, places = torch.nonzero(slots.possible & (slots.side == side), as_tuple=True)
        if side == ROOT:  # the same question for all of them
            rows, places = rows[:1], places[:1]
        known = lookup.find(side, slots.target[rows, places])
        hit = known >= 0
        row, position, found = (
            torch.cat(pair) for pair in ((row, rows[hit]), (position, places[hit]), (found, known[hit]))
        )
    new_span = 2 * lookup.sizes[found].long() + 1
    length = (tokens != PAD).sum(-1)[row] - spans[row, position] + new_span
    order = length.argsort(stable=True)[: 4 * MAX_COMPLETIONS]
    row, position, found, new_span, length = (t[order] for t in (row, position, found, new_span, length))
    if not len(row):
        return tokens[:0]
    trees = splice(tokens[row], position, spans[row, position], lookup.tokens_of(found), new_span)
    return trees[first_of_each(trees)[:MAX_COMPLETIONS]]


def splice(
    tokens: Int64[Tensor, "b l"],
    position: Int64[Tensor, " b"],
    span: Int64[Tensor, " b"],
    part: Int64[Tensor, "b k"],
    part_span: Int64[Tensor, " b"],
) -> Int64[Tensor, "b m"]:
    """Each row of `tokens` with the `span` tokens from `position` on replaced by the first `part_span` of `part`."""
    length = (tokens != PAD).sum(-1) - span + part_span
    place = torch.arange(int(length.max()))
    offset = place - position[:, None]
    inside = (offset >= 0) & (offset < part_span[:, None])
    new = part.gather(1, offset.clamp(0, part.shape[1] - 1))
    behind = torch.where(offset < 0, place, place - (part_span - span)[:, None])
    old = tokens.gather(1, behind.clamp(0, tokens.shape[1] - 1))
    return torch.where(place < length[:, None], torch.where(inside, new, old), PAD)
