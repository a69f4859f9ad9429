"""A tree that is wrong in one subtree is completed to the exact function, and whatever is returned fits the points."""

import pytest
import torch
from torch import Tensor

from emlinit.finetune.subtrees.completion import MAX_COMPLETIONS, complete, splice
from emlinit.generator.corpus.trees import trees_by_size
from emlinit.generator.evaluate import Evaluation, evaluate
from emlinit.generator.formulas.exact_identities import EXACT_IDENTITIES
from emlinit.generator.functions.inversion import subtree_values
from emlinit.generator.functions.lookup import Lookup, choose_points, compress
from emlinit.generator.functions.table import FunctionTable, build_table
from emlinit.generator.grammar import PAD, from_text, is_complete, pad_sequences, subtree_lengths
from emlinit.generator.program import programs_from_tokens


@pytest.fixture(scope="module")
def table() -> FunctionTable:
    return build_table(2, 3)


def _points(n: int = 60) -> Tensor:
    return 0.5 + 2.5 * torch.rand(n, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def _evaluate(tokens: Tensor, x: Tensor, rtol: float | None = None) -> Evaluation:
    zeros = torch.zeros(tokens.shape, dtype=torch.float64)
    return evaluate(programs_from_tokens(tokens, zeros, 2), x, rtol=rtol, imag=True)


def _random_trees(sizes: Tensor, generator: torch.Generator) -> Tensor:
    return trees_by_size(sizes, torch.ones(len(sizes), 2, dtype=torch.bool), 0.3, generator)


def _laws(x: Tensor, kind: str) -> Tensor:
    """Trees that are real and not constant on the data."""
    if kind == "random":
        generator = torch.Generator().manual_seed(0)
        tokens = _random_trees(torch.randint(4, 10, (150,), generator=generator), generator)
        result = _evaluate(tokens, x, 1e-10)
    else:
        tokens = pad_sequences([from_text(text, 2) for text in EXACT_IDENTITIES.values()])[0]
        result = _evaluate(tokens, x)
    assert result.imag is not None
    real = (result.valid & (result.imag.abs() < 1e-9 * (1 + result.value.abs()))).all(-1)
    return tokens[real & (result.value.std(-1) > 1e-6)]


def _spoil(tree: Tensor, generator: torch.Generator) -> Tensor:
    """The tree with a random subtree of up to 3 nodes, not all of it, replaced by another tree of up to 3."""
    spans = subtree_lengths(tree[None])[0]
    places = torch.nonzero((spans > 0) & (spans <= 7))[:, 0]
    places = places[places > 0]
    place = places[torch.randint(len(places), (1,), generator=generator)]
    while True:
        other = _random_trees(torch.randint(0, 4, (1,), generator=generator), generator)
        spoilt = splice(tree[None], place, spans[place], other, (other != PAD).sum(-1))
        if spoilt[0].tolist() != tree[: spoilt.shape[1]].tolist():
            return spoilt


# Measured: 93 % of the random trees and 92 % of the identities, each spoilt often. Lost are subtrees of which y holds no
# digits at these points, or that have values at a branch cut.
@pytest.mark.parametrize(("kind", "n", "share"), [("random", 30, 0.8), ("identities", 15, 0.6)])
def test_a_wrong_subtree_is_replaced_by_the_right_one(kind: str, n: int, share: float, table: FunctionTable) -> None:
    x = _points()
    laws = _laws(x, kind)
    assert len(laws) >= n
    rows = choose_points(x, x[:, 0])[0]
    lookup = Lookup.of_table(table, x[rows])
    generator = torch.Generator().manual_seed(1)
    right, fitting, returned = 0, 0, 0
    for law in laws:
        spoilt, y = _spoil(law, generator), _evaluate(law[None], x).value[0]
        found = complete(lookup, spoilt, x[rows], y[rows].to(torch.complex128))
        assert len(found.unique(dim=0)) == len(found) <= MAX_COMPLETIONS
        if len(found):
            assert bool(is_complete(found, 2).all())
            length = (found != PAD).sum(-1)
            assert bool((length.diff() >= 0).all())
            result = _evaluate(found, x)
            same = (result.value - y).abs() <= 1e-7 * (1 + y.abs())
            right += bool((same & result.valid).all(-1).any())
            values = subtree_values(found, x[rows])[:, 0]
            distance = (compress(values) - compress(y[None, rows].to(torch.complex128))).abs().amax(-1)
            defined = torch.isfinite(distance)  # where a logarithm of what is next to nothing is wanted, 0 is found
            assert bool((distance[defined] < 1e-5).all())
            fitting += int(defined.sum())
            returned += len(found)
    assert right > share * len(laws)
    assert fitting > 0.8 * returned


def test_parts_of_other_trees_complete_too() -> None:
    x = _points()
    rows = choose_points(x, x[:, 0])[0]
    law, spoilt, other = (
        from_text(text, 2)[0][None]
        for text in ("eml 1 eml eml x1 1 eml x2 x1", "eml 1 eml x2 eml x2 x1", "eml x1 eml eml x1 1 x2")
    )
    y = _evaluate(law, x).value[0, rows].to(torch.complex128)
    found = complete(Lookup.of_trees(other, x[rows]), spoilt, x[rows], y)
    assert found.tolist() == law.tolist()
    nothing = complete(Lookup.of_trees(from_text("eml x2 x2", 2)[0][None], x[rows]), spoilt, x[rows], y)
    assert nothing.shape[0] == 0


def test_the_whole_tree_is_looked_up_once(table: FunctionTable) -> None:
    x = _points(4)
    tokens = pad_sequences([from_text(text, 2) for text in ("x1", "x2", "1")])[0]  # nothing else is open
    y = (x[:, 0].exp() - x[:, 1].log()).to(torch.complex128)
    assert complete(Lookup.of_table(table, x), tokens, x, y).tolist() == [from_text("eml x1 x2")[0].tolist()]


def test_splice_does_what_lists_do() -> None:
    generator = torch.Generator().manual_seed(3)
    tokens, parts = (_random_trees(torch.randint(0, 7, (200,), generator=generator), generator) for _ in range(2))
    spans, length = subtree_lengths(tokens), (tokens != PAD).sum(-1)
    place = (torch.rand(200, generator=generator) * length).long()
    span = spans[torch.arange(200), place]
    part_span = (parts != PAD).sum(-1)
    assert bool((part_span < span).any() & (part_span > span).any() & (place + span < length).any())
    spliced = splice(tokens, place, span, parts, part_span)
    assert bool(is_complete(spliced, 2).all())
    for row, tree, at, n, part in zip(
        spliced, tokens.tolist(), place.tolist(), span.tolist(), parts.tolist(), strict=True
    ):
        expected = [kind for kind in (*tree[:at], *part, *tree[at + n :]) if kind != PAD]
        assert row.tolist() == expected + [PAD] * (len(row) - len(expected))
    assert spliced.shape[1] == int((length - span + part_span).max())
