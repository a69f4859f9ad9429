"""The text form round-trips; depth, size and subtree lengths agree with a recursive reading."""

import pytest
import torch

from emlinit.generator.corpus.trees import add_constants, trees_by_size
from emlinit.generator.errors import UserError
from emlinit.generator.grammar import (
    EML,
    ONE,
    PAD,
    PLUS,
    X1,
    C,
    depth,
    from_text,
    is_complete,
    pad_sequences,
    size,
    subtree_lengths,
    to_text,
)


def _random_weighted(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.ones(n, 3, dtype=torch.bool)
    sizes = torch.randint(0, 9, (n,), generator=generator)
    return add_constants(trees_by_size(sizes, mask, 0.3, generator), mask, generator)


def _read(kinds: list[int], start: int) -> tuple[int, int, int]:
    """Depth, size and end of the expression at `start`, recursively."""
    kind = kinds[start]
    if kind in (ONE, C) or kind >= X1:
        return 0, 0, start + 1
    first_depth, first_size, end = _read(kinds, start + 1)
    if kind not in (EML, PLUS):
        return first_depth, first_size, end
    second_depth, second_size, end = _read(kinds, end)
    is_eml = int(kind == EML)
    return max(first_depth, second_depth) + is_eml, first_size + second_size + is_eml, end


def test_text_round_trip() -> None:
    tokens, constants = _random_weighted(500, 0)
    assert bool(is_complete(tokens, 3).all())
    for row in range(len(tokens)):
        length = int((tokens[row] != PAD).sum())
        read_tokens, read_constants = from_text(to_text(tokens[row], constants[row]), 3)
        assert torch.equal(read_tokens, tokens[row, :length])
        assert torch.equal(read_constants, constants[row, :length])


def test_depth_size_and_lengths_match_recursion() -> None:
    tokens, _ = _random_weighted(500, 1)
    depths, sizes, lengths = depth(tokens), size(tokens), subtree_lengths(tokens)
    assert int(depths.max()) >= 4
    for row, kinds in enumerate(tokens.tolist()):
        expected_depth, expected_size, end = _read(kinds, 0)
        assert (int(depths[row]), int(sizes[row]), int(lengths[row, 0])) == (expected_depth, expected_size, end)
        for position in range(end):
            assert int(lengths[row, position]) == _read(kinds, position)[2] - position


def test_a_variable_that_is_not_there_makes_no_expression() -> None:
    tokens = torch.tensor([[EML, ONE, X1 + 1], [EML, ONE, X1 + 2]])
    assert is_complete(tokens, 2).tolist() == [True, False]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("eml 1", "not one complete expression"),
        ("1 1", "not one complete expression"),
        ("", "not one complete expression"),
        ("eml 1 y", "unknown word 'y'"),
        ("x9", "outside x1..x5"),
        ("c:nan", "finite number"),
        ("c:__import__('os')", "finite number"),
    ],
)
def test_bad_text_is_named(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        from_text(text)


def test_incomplete_rows_are_found() -> None:
    tokens, _ = pad_sequences([from_text("eml 1 x1"), from_text("x1")])
    broken = tokens.clone()
    broken[0, 2] = PAD
    assert is_complete(tokens).tolist() == [True, True]
    assert is_complete(broken).tolist() == [False, True]
