"""Classes stand for tokens and coarse constants, and coarse means: the nearest bin."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from emlinit.generator.grammar import EML, ONE, PLUS, X1, C, J, W
from emlinit.model.vocabulary import BINS_PER_DECADE, DECADES, Vocabulary

HALF_A_BIN = 10 ** (0.5 / BINS_PER_DECADE) * (1 + 1e-9)


def test_every_class_comes_back() -> None:
    vocabulary = Vocabulary(5)
    classes = torch.arange(vocabulary.n_classes)[None]
    tokens, constants = vocabulary.dequantise(classes)
    assert torch.equal(vocabulary.quantise(tokens, constants), classes)
    assert set(tokens[0].tolist()) == set(range(vocabulary.n_kinds))
    has_value = (tokens == C) | (tokens == W) | (tokens == J)
    assert torch.equal(constants != 0, has_value)


@given(
    st.sampled_from([C, W, J]),
    st.floats(10.0**-DECADES, 10.0**DECADES),
    st.sampled_from([1.0, -1.0]),
)
def test_a_constant_goes_to_the_nearest_bin(kind: int, magnitude: float, sign: float) -> None:
    vocabulary = Vocabulary(2)
    classes = vocabulary.quantise(torch.tensor([[kind]]), torch.tensor([[sign * magnitude]], dtype=torch.float64))
    tokens, constants = vocabulary.dequantise(classes)
    ratio = float(constants) / (sign * magnitude)
    assert int(tokens) == kind
    assert 1 / HALF_A_BIN <= ratio <= HALF_A_BIN


def test_ones_are_exact_and_the_ends_are_clipped() -> None:
    vocabulary = Vocabulary(1)
    values = torch.tensor([[1.0, -1.0, 1e9, -1e9, 1e-9, 0.0]], dtype=torch.float64)
    _, coarse = vocabulary.dequantise(vocabulary.quantise(torch.full((1, 6), W), values))
    torch.testing.assert_close(coarse, torch.tensor([[1.0, -1.0, 1e3, -1e3, 1e-3, 1e-3]], dtype=torch.float64))
    assert coarse[0, :2].tolist() == [1.0, -1.0]


def test_tokens_without_a_constant_keep_their_kind() -> None:
    vocabulary = Vocabulary(3)
    tokens = torch.tensor([[PLUS, X1, EML, ONE, X1 + 2, 0]])
    back, constants = vocabulary.dequantise(vocabulary.quantise(tokens, torch.zeros(1, 6, dtype=torch.float64)))
    assert torch.equal(back, tokens)
    assert not bool(constants.any())
