"""The cursor names the slot of every token as a recursive reading does, and only grammatical sequences are allowed."""

from collections.abc import Callable

import pytest
import torch

from emlinit.generator.corpus.stream import Batch
from emlinit.generator.grammar import EML, LEFT, ONE, PAD, PLUS, RIGHT, ROOT, X1, C, J, W, from_text
from emlinit.model import EMLInitialiser
from emlinit.model.tree_cursor import (
    ATOM,
    DONE,
    FIRST,
    PATH_LEVELS,
    REST,
    SLOT,
    TERM,
    TreeCursor,
    allowed_classes,
    walk,
)
from emlinit.model.vocabulary import Vocabulary

FIELDS = ("expected", "depth", "side", "parent", "term", "path")


def _read(tokens: list[int]) -> list[tuple[int, ...]]:
    """The slot of each token, recursively: (expected, depth, side, parent, term, path)."""
    slots: list[tuple[int, ...]] = []

    def fill(expected: int, depth: int, side: int, parent: int, term: int, path: list[int]) -> None:
        kind = tokens[len(slots)]
        slots.append((expected, depth, side, parent, term, sum(d * 3**i for i, d in enumerate(path[:PATH_LEVELS]))))
        if kind == EML:
            fill(SLOT, depth + 1, LEFT, EML, 0, [*path, 1])
            fill(SLOT, depth + 1, RIGHT, EML, 0, [*path, 2])
        elif kind == PLUS:
            fill(FIRST if expected == SLOT else TERM, depth, side, PLUS, term, path)
            fill(REST, depth, side, PLUS, term + 1, path)
        elif kind in (W, J):
            fill(ATOM, depth, side, kind, term, path)

    fill(SLOT, 0, ROOT, PAD, 0, [])
    return slots


@pytest.mark.parametrize("grammar", ["exact", "weighted"])
def test_walk_equals_a_recursive_reading(grammar: str, example_batch: Callable[[str], Batch]) -> None:
    tokens = example_batch(grammar).tokens
    view = walk(tokens)
    assert int((tokens == PLUS).sum()) > 20 or grammar == "exact"
    for row in range(len(tokens)):
        length = int((tokens[row] != PAD).sum())
        expected = torch.tensor(_read(tokens[row, :length].tolist()))
        found = torch.stack([getattr(view, name)[row, :length] for name in FIELDS], dim=-1)
        assert torch.equal(found, expected)
        assert bool((view.expected[row, length:] == DONE).all())


@pytest.mark.parametrize("grammar", ["exact", "weighted"])
def test_walk_equals_the_cursor_up_to_what_is_not_allowed(grammar: str) -> None:
    """Of random sequences, most of which break the grammar soon, with as few leaves as make some of them long."""
    generator = torch.Generator().manual_seed(5)
    kinds = torch.tensor([PAD, EML, ONE, X1] if grammar == "exact" else [PAD, EML, PLUS, W, J, ONE, X1, X1, C])
    tokens = kinds[torch.randint(len(kinds), (4000, 40), generator=generator)]
    tokens[:1000] = torch.where(tokens[:1000] == PAD, EML, tokens[:1000])
    tokens[:20, :30] = EML  # deeper than what is told apart
    view, cursor, vocabulary = walk(tokens), TreeCursor(4000, 41), Vocabulary(1)
    allowed = allowed_classes(grammar, vocabulary)
    classes = vocabulary.quantise(tokens, torch.ones(tokens.shape, dtype=torch.float64))
    in_order = torch.ones(len(tokens), dtype=torch.bool)
    n_compared = 0
    for position in range(tokens.shape[1]):
        for name in FIELDS:
            found, wanted = getattr(view, name)[:, position], getattr(cursor.view(), name)
            assert torch.equal(found[in_order], wanted[in_order])
            assert int(found.min()) >= 0
        n_compared += int(in_order.sum())
        in_order &= allowed[cursor.view().expected, classes[:, position]]
        cursor.advance(torch.where(in_order, tokens[:, position], PAD))
    assert n_compared > 10_000


@pytest.mark.parametrize("grammar", ["exact", "weighted"])
def test_the_corpus_is_grammatical(
    grammar: str, example_batch: Callable[[str], Batch], tiny: Callable[[str], EMLInitialiser]
) -> None:
    batch = example_batch(grammar)
    logits, classes, grammatical = tiny(grammar)(
        batch.tokens, batch.constants, batch.x, batch.y, batch.variable_mask, batch.point_mask
    )
    assert bool(grammatical.all())
    assert bool(torch.isfinite(logits.gather(-1, classes[..., None])).all())


@pytest.mark.parametrize(
    ("grammar", "text"),
    [
        ("exact", "+ x1 x1"),
        ("exact", "c:1.0"),
        ("exact", "eml w:2.0 x1 1"),
        ("weighted", "+ x1 c:1.0"),
        ("weighted", "w:2.0 c:1.0"),
        ("weighted", "w:2.0 w:3.0 x1"),
        ("weighted", "w:2.0 + x1 x2"),
        ("weighted", "+ + x1 x1 x2"),
        ("weighted", "+ c:1.0 c:2.0"),
        ("weighted", "eml x1 x3"),
    ],
)
def test_other_sequences_are_not(grammar: str, text: str, tiny: Callable[[str], EMLInitialiser]) -> None:
    tokens, constants = from_text(text)
    x, y = torch.ones(1, 4, 5, dtype=torch.float64), torch.ones(1, 4, dtype=torch.float64)
    two_variables = torch.tensor([[True, True, False, False, False]])
    points = torch.ones(1, 4, dtype=torch.bool)
    model = tiny(grammar)
    assert not bool(model(tokens[None], constants[None], x, y, two_variables, points)[2])
    legal = from_text("eml x1 eml 1 x2")
    assert bool(model(legal[0][None], legal[1][None], x, y, two_variables, points)[2])


@pytest.mark.parametrize("tokens", [[EML, 3, 3, 3], [PAD, 3, PAD, PAD], [EML, 3, PAD, PAD]])
def test_what_goes_on_or_stops_early_is_not_legal(tokens: list[int]) -> None:
    vocabulary = Vocabulary(1)
    batch = torch.tensor([tokens])
    classes = vocabulary.quantise(batch, torch.zeros(1, 4, dtype=torch.float64))
    legal = allowed_classes("exact", vocabulary)[walk(batch).expected].gather(-1, classes[..., None])
    assert not bool(legal.all())


def test_selected_rows_go_on_alone() -> None:
    cursor = TreeCursor(3, 8)
    cursor.advance(torch.tensor([EML, 3, PLUS]))
    cursor.select(torch.tensor([2, 2, 0]))
    assert cursor.view().expected.tolist() == [FIRST, FIRST, SLOT]
    cursor.advance(torch.tensor([C, 7, 3]))
    assert cursor.view().expected.tolist() == [REST, REST, SLOT]
    assert cursor.view().side.tolist() == [ROOT, ROOT, RIGHT]


def test_an_unknown_grammar_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one of exact, weighted"):
        allowed_classes("loose", Vocabulary(1))
