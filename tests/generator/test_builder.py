"""Every operation of the builder equals its function, in as few nodes as it should, and synonyms come out as one."""

from collections.abc import Callable

import numpy as np
import pytest

from emlinit.generator.builder import Builder
from emlinit.generator.grammar import EML, ONE, PLUS, X1, C, J, W
from emlinit.generator.slots import Slot, distinct_nodes

TOLERANCE = 1e-13  # relative; a few operations in double precision
BOTH_SIGNS = np.random.default_rng(0).uniform(-0.9, 0.9, (60, 2))
POSITIVE = np.random.default_rng(1).uniform(0.1, 0.9, (60, 2))


def _value(slot: Slot, x: np.ndarray) -> np.ndarray:
    """The tokens read by plain recursion in complex arithmetic."""
    words = iter(zip(*slot.spelling(), strict=True))

    def read() -> np.ndarray:
        kind, constant = next(words)
        if kind == EML:
            return np.exp(read()) - np.log(read())
        if kind == PLUS:
            return read() + read()
        if kind in (W, J):
            return (constant if kind == W else 1j * constant) * read()
        if kind in (ONE, C):
            return np.full(len(x), 1.0 if kind == ONE else constant, dtype=complex)
        return x[:, kind - X1].astype(complex)

    return read().real


CASES: dict[str, tuple[Callable[[Builder, Slot, Slot], Slot], Callable[..., np.ndarray], int, bool]] = {
    # name: what the builder does, what it should equal, largest number of nodes, whether both signs are allowed
    "exp": (lambda b, x, y: b.exp(x), lambda x, y: np.exp(x), 1, True),
    "ln": (lambda b, x, y: b.ln(x), lambda x, y: np.log(x), 1, False),
    "product": (lambda b, x, y: b.mul(x, y), lambda x, y: x * y, 3, True),
    "quotient": (lambda b, x, y: b.divide(x, y), lambda x, y: x / y, 3, True),
    "square": (lambda b, x, y: b.power(x, 2.0), lambda x, y: x**2, 2, True),
    "root": (lambda b, x, y: b.sqrt(x), lambda x, y: np.sqrt(x), 2, False),
    "power": (lambda b, x, y: b.general_power(x, y), lambda x, y: x**y, 5, False),
    "sin": (lambda b, x, y: b.sin(x), lambda x, y: np.sin(x), 1, True),
    "x sin": (lambda b, x, y: b.mul(x, b.sin(y)), lambda x, y: x * np.sin(y), 2, True),
    "sin cos": (lambda b, x, y: b.mul(b.sin(x), b.cos(y)), lambda x, y: np.sin(x) * np.cos(y), 2, True),
    "cos squared": (lambda b, x, y: b.power(b.cos(x), 2.0), lambda x, y: np.cos(x) ** 2, 1, True),
    "sin + cos": (lambda b, x, y: b.add(b.sin(x), b.cos(x)), lambda x, y: np.sin(x) + np.cos(x), 1, True),
    "sin sin": (lambda b, x, y: b.sin(b.sin(x)), lambda x, y: np.sin(np.sin(x)), 3, True),
    "x / cos": (lambda b, x, y: b.divide(x, b.cos(y)), lambda x, y: x / np.cos(y), 5, True),
    "damped": (
        lambda b, x, y: b.mul(b.exp(b.scale(x, -2.0)), b.cos(x)), lambda x, y: np.exp(-2 * x) * np.cos(x), 1, True
    ),
    "hypotenuse": (
        lambda b, x, y: b.sqrt(b.add(b.power(x, 2.0), b.power(y, 2.0))), lambda x, y: np.hypot(x, y), 6, True
    ),
    "logistic": (
        lambda b, x, y: b.reciprocal(b.add(b.constant(1.0), b.exp(x))), lambda x, y: 1 / (1 + np.exp(x)), 3, True
    ),
    "tan": (lambda b, x, y: b.tan(x), lambda x, y: np.tan(x), 3, True),
    "tanh": (lambda b, x, y: b.tanh(x), lambda x, y: np.tanh(x), 3, True),
    "sinh": (lambda b, x, y: b.sinh(x), lambda x, y: np.sinh(x), 2, True),
    "cosh": (lambda b, x, y: b.cosh(x), lambda x, y: np.cosh(x), 2, True),
    "atan": (lambda b, x, y: b.atan(x), lambda x, y: np.arctan(x), 1, True),
    "exp atan": (lambda b, x, y: b.exp(b.atan(x)), lambda x, y: np.exp(np.arctan(x)), 3, True),
    "asin": (lambda b, x, y: b.asin(x), lambda x, y: np.arcsin(x), 5, True),
    "acos": (lambda b, x, y: b.acos(x), lambda x, y: np.arccos(x), 5, True),
    "asinh": (lambda b, x, y: b.asinh(x), lambda x, y: np.arcsinh(x), 5, True),
    "atanh": (lambda b, x, y: b.atanh(x), lambda x, y: np.arctanh(x), 2, True),
    "absolute": (lambda b, x, y: b.absolute(x), lambda x, y: np.abs(x), 4, True),
    "ln of square": (lambda b, x, y: b.ln(b.power(x, 2.0)), lambda x, y: np.log(x**2), 3, True),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_operation_equals_its_function_within_its_size(name: str) -> None:
    build, function, largest_size, both_signs = CASES[name]
    builder = Builder(2)
    slot = builder.readout(build(builder, builder.variable(1), builder.variable(2)))
    for x in (POSITIVE, BOTH_SIGNS) if both_signs else (POSITIVE,):
        wanted = function(x[:, 0], x[:, 1])
        np.testing.assert_allclose(_value(slot, x), wanted, rtol=TOLERANCE, atol=TOLERANCE * np.abs(wanted).max())
    assert slot.size() <= largest_size


SYNONYMS: list[tuple[Callable[[Builder, Slot, Slot], Slot], Callable[[Builder, Slot, Slot], Slot]]] = [
    (lambda b, x, y: b.mul(x, y), lambda b, x, y: b.mul(y, x)),
    (lambda b, x, y: b.mul(b.exp(x), b.exp(y)), lambda b, x, y: b.exp(b.add(y, x))),
    (lambda b, x, y: b.divide(b.constant(1.0), x), lambda b, x, y: b.power(x, -1.0)),
    (lambda b, x, y: b.exp(b.ln(x)), lambda b, x, y: x),
    (lambda b, x, y: b.mul(x, b.mul(x, x)), lambda b, x, y: b.power(x, 3.0)),
    (lambda b, x, y: b.cos(b.negative(x)), lambda b, x, y: b.cos(x)),
    (lambda b, x, y: b.add(x, y, b.negative(x)), lambda b, x, y: y),
    (lambda b, x, y: b.add(b.mul(b.sin(x), b.cos(x))), lambda b, x, y: b.scale(b.sin(b.scale(x, 2.0)), 0.5)),
]


@pytest.mark.parametrize("case", range(len(SYNONYMS)))
def test_synonyms_have_the_same_tokens(case: int) -> None:
    spellings = []
    for build in SYNONYMS[case]:
        builder = Builder(2)
        slot = builder.readout(build(builder, builder.variable(1), builder.variable(2)))
        spellings.append(slot.spelling())
    assert spellings[0][0] == spellings[1][0]
    np.testing.assert_allclose(spellings[0][1], spellings[1][1], rtol=1e-13)


def test_positive_variables_let_logarithms_through() -> None:
    sizes = []
    for positive in ((), (1, 2)):
        builder = Builder(2, positive)
        product = builder.mul(builder.power(builder.variable(1), 2.0), builder.variable(2))
        sizes.append(builder.sqrt(product).size())
    assert sizes == [5, 3]


def test_equal_nodes_are_one_object() -> None:
    builder = Builder(1)
    root = builder.sqrt(builder.add(builder.exp(builder.variable(1)), builder.constant(1.0)))
    both = builder.add(root, builder.power(root, 3.0))
    assert both.size() > len(distinct_nodes(both))
    assert len(set(distinct_nodes(both))) == len(distinct_nodes(both))


def test_impossible_constants_raise() -> None:
    builder = Builder(1)
    with pytest.raises(ArithmeticError):
        builder.ln(builder.constant(-1.0))
    with pytest.raises(ArithmeticError):
        builder.reciprocal(builder.constant(0.0))
    with pytest.raises(ArithmeticError):
        builder.exp(builder.constant(1e6))
