"""Contexts: what the guesses of a network have around an open subtree, and pairs of known functions that close it.

A guess may be wrong in one of its subtrees, however large, and right around it. Such a *context*, a tree with a hole, is as
likely as all guesses together that have it. The values that the hole must have follow from the data (see
`generator.inversion`), and a pair of functions of a table, exp(L) - ln(R), is looked up for it (see `meeting`): the network
decides the top of a tree and an exact search its bottom.

Legend: c context, b tree, l token position, k set of points, m point, v input variable.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Complex128, Float64, Int64
from torch import Tensor

from emlinit.finetune.subtrees.completion import splice
from emlinit.finetune.subtrees.matching import MEETING_ROWS
from emlinit.finetune.subtrees.meeting import MeetingSearch, best_point_set, pairs
from emlinit.generator.functions.inversion import open_slots
from emlinit.generator.functions.lookup import TOLERANCE
from emlinit.generator.grammar import PAD, ROOT, subtree_lengths
from emlinit.generator.records import Records

HOLE = -1
"""In the place of the open subtree of a context."""
MAX_CONTEXTS = 20_000
"""Most contexts remembered, likely ones first."""


@dataclass(frozen=True, eq=False)
class Contexts(Records):
    """Distinct trees with a hole, likeliest first."""

    tokens: Int64[Tensor, "c l"]
    """In prefix order, padded; `HOLE` stands for the open subtree."""
    wanted: Complex128[Tensor, "c km"]
    """Values that the hole must have, at the points of one set after the other."""
    error: Float64[Tensor, "c km"]
    """Their absolute errors."""
    mass: Float64[Tensor, " c"]
    """Sum of the probabilities of the guesses that have it."""

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def keys(self) -> Int64[Tensor, " c"]:
        """A number for each, different for different contexts but for one chance in 10^13."""
        return _row_keys(self.tokens)

    @staticmethod
    def of_trees(
        tokens: Int64[Tensor, "b l"],
        probability: Float64[Tensor, " b"],
        x: Float64[Tensor, "k m v"],
        y: Float64[Tensor, "k m"],
    ) -> "Contexts":
        """All contexts of some distinct trees whose holes can have values; the root is none."""
        points, targets = x.flatten(0, 1), y.flatten().to(torch.complex128)
        slots = open_slots(tokens, points, targets)
        _, lost = best_point_set(slots.wanted.flatten(0, 1), slots.error.flatten(0, 1), len(x))
        row, position = torch.nonzero((slots.side != ROOT) & (lost.view(tokens.shape) < TOLERANCE), as_tuple=True)
        hole, one = torch.full((len(row), 1), HOLE), torch.ones_like(row)
        if not len(row):
            return Contexts(tokens[:0], slots.wanted[:0, 0], slots.error[:0, 0], probability[:0])
        trees = splice(tokens[row], position, subtree_lengths(tokens)[row, position], hole, one)
        every = Contexts(trees, slots.wanted[row, position], slots.error[row, position], probability[row])
        return every.merged()

    def joined(self, other: "Contexts") -> "Contexts":
        """The contexts of both, masses added."""
        width = max(self.tokens.shape[1], other.tokens.shape[1])
        return Contexts.cat([self._padded(width), other._padded(width)]).merged()

    def merged(self) -> "Contexts":
        """Each once, with the sum of its masses, the likeliest first."""
        _, group = torch.unique(self.keys, return_inverse=True)
        n = int(group.max()) + 1 if len(group) else 0
        mass = torch.zeros(n, dtype=torch.float64).index_add(0, group, self.mass)
        first = torch.full((n,), len(self)).scatter_reduce(0, group, torch.arange(len(self)), "amin")
        order = mass.argsort(descending=True, stable=True)[:MAX_CONTEXTS]
        kept = self.rows(first[order])
        return Contexts(kept.tokens, kept.wanted, kept.error, mass[order])

    def filled(self, row: Int64[Tensor, " b"], parts: Int64[Tensor, "b j"]) -> Int64[Tensor, "b l"]:
        """Whole trees: the holes of some contexts filled with one subtree each."""
        tokens = self.tokens[row]
        hole = (tokens == HOLE).long().argmax(-1)
        return splice(tokens, hole, torch.ones_like(hole), parts, (parts != PAD).sum(-1))

    def _padded(self, width: int) -> "Contexts":
        tokens = torch.nn.functional.pad(self.tokens, (0, width - self.tokens.shape[1]), value=PAD)
        return Contexts(tokens, self.wanted, self.error, self.mass)


class ContextMeeting:
    """Contexts of all guesses so far, and which of them were met with what."""

    def __init__(self, meeting: MeetingSearch, x: Float64[Tensor, "k m v"], y: Float64[Tensor, "k m"]) -> None:
        """Begin with no guess; `x` and `y` are the points of the meeting."""
        self._meeting, self._x, self._y = meeting, x, y
        self._contexts: Contexts | None = None
        self._seen = torch.zeros(0, dtype=torch.int64)  # keys of the guesses
        stops = [rows.stop for rows in meeting.table.level_slices()]
        self._rows = {size: stop for size, stop in enumerate(stops) if size and stop <= MEETING_ROWS}
        self._met = {size: torch.zeros(0, dtype=torch.int64) for size in self._rows}

    def add(self, tokens: Int64[Tensor, "b l"], log_prob: Float64[Tensor, " b"]) -> None:
        """Take distinct guesses of the whole tree, padded, and their log-probabilities."""
        keys = _row_keys(tokens)
        new = ~torch.isin(keys, self._seen)
        self._seen = torch.cat([self._seen, keys[new]])
        if not bool(new.any()):
            return
        contexts = Contexts.of_trees(tokens[new], log_prob[new].exp(), self._x, self._y)
        self._contexts = contexts if self._contexts is None else self._contexts.joined(contexts)

    def run(self, try_trees: Callable[[Tensor], bool], lookups: int, deadline: float) -> bool:
        """Meet the likeliest contexts.

        Args:
            try_trees: takes whole trees, tokens of shape (b, l), scores them, and says whether the search is over.
            lookups: how many there are to be; each size of table functions gets as many.
            deadline: on the clock of `time.monotonic`.

        Returns:
            What `try_trees` said last.
        """
        contexts = self._contexts
        if contexts is None or not len(contexts):
            return False
        keys = contexts.keys
        for size, n_rows in self._rows.items():
            new = torch.nonzero(~torch.isin(keys, self._met[size]))[: max(lookups // len(self._rows) // n_rows, 1), 0]
            self._met[size] = torch.cat([self._met[size], keys[new]])
            wanted, error = contexts.wanted[new], contexts.error[new]
            for row, left, right in self._meeting.meet_open(wanted, error, size):
                if len(row):
                    parts = pairs(self._meeting.lookup(0, size), left, right)
                    if try_trees(contexts.filled(new[row], parts)):
                        return True
                if time.monotonic() > deadline:
                    return False
        return False


def _row_keys(tokens: Int64[Tensor, "b l"]) -> Int64[Tensor, " b"]:
    """A hash of rows, whatever their padding (`PAD` is 0)."""
    place = torch.arange(1, tokens.shape[1] + 1)
    weights = (place * 0x1E3779B97F4A7C15) ^ ((place * 0x2545F4914F6CDD1D) >> 7)
    return (tokens * (weights * weights + place)).sum(-1)
