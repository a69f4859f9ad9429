"""A skeleton forgets the values of constants, names and order, and nothing else."""

import numpy as np
import pytest
import sympy

from emlinit.generator.corpus.formulas import FormulaConfig, sample_formula_programs
from emlinit.generator.corpus.skeletons import Skeleton, skeleton
from emlinit.generator.formulas.compile_weighted import compile_weighted
from emlinit.generator.formulas.parse import parse_formula
from emlinit.generator.grammar import from_text
from emlinit.generator.program import tokens_from_program

_SYMBOLS = sympy.symbols("x1:4", positive=True)


def _shape(formula: str, *, free_factors: bool = False) -> Skeleton:
    program = compile_weighted(parse_formula(formula, _SYMBOLS), _SYMBOLS)
    return skeleton(tokens_from_program(program)[0].tolist(), free_factors=free_factors)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("2*x1 + 3*x2", "5*x3 + 7*x1"),
        ("x1**2 + exp(3*x2)", "exp(0.1*x3) + x2**5"),
        ("2*x1*x2/x3 + x3", "4*x3*x2/x1 + x1"),
        ("2.5*sin(3*x1) + 1", "0.1*sin(2*x2) - 4"),
    ],
)
def test_names_order_and_values_do_not_matter(first: str, second: str) -> None:
    assert _shape(first) == _shape(second)


@pytest.mark.parametrize(
    ("first", "second"),
    [("x1 + x2", "x1 + exp(x2)"), ("x1*exp(x1)", "x1*exp(x2)"), ("x1 + 1", "x1"), ("exp(x1)", "log(x1)")],
)
def test_different_structures_differ(first: str, second: str) -> None:
    assert _shape(first) != _shape(second)
    assert _shape(first, free_factors=True) != _shape(second, free_factors=True)


def test_a_factor_one_is_a_factor_only_if_asked() -> None:
    assert _shape("exp(x1)") != _shape("3*exp(2*x1)")
    assert _shape("exp(x1)", free_factors=True) == _shape("3*exp(2*x1)", free_factors=True)


def test_padding_is_ignored() -> None:
    tokens = from_text("+ c:2.0 w:3.0 eml x2 x1")[0].tolist()
    assert skeleton(tokens) == skeleton([*tokens, 0, 0])


def test_the_skeleton_of_a_skeleton_is_itself() -> None:
    tokens, _ = sample_formula_programs(200, np.random.default_rng(0), FormulaConfig(max_variables=3))
    shapes = [skeleton(row.tolist()) for row in tokens]
    assert len(set(shapes)) > 100
    for shape in shapes:
        assert skeleton(shape) == shape
