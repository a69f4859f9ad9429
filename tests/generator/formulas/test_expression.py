"""Numbers of a formula: to the last digit where there are few, and at once where there would be endlessly many."""

import math
import time

import numpy as np
import pytest
import sympy

from emlinit.generator.formulas.expression import (
    complexity,
    double_of,
    evaluate_expression,
    number_value,
    size_at_most,
)
from emlinit.generator.formulas.known_forms import known_forms


@pytest.mark.parametrize(
    ("text", "size"),
    [("2.1*sin(3*x + 0.5) + 1", 10), ("x/y", 5), ("sqrt(2)*pi*x", 3), ("x**sqrt(2)", 3), ("4", 1), ("pi/2", 1)],
)
def test_a_number_is_one_node_however_it_is_written(text: str, size: int) -> None:
    assert size_at_most(sympy.sympify(text)) == size


def test_a_bell_is_as_long_as_its_shortest_spelling() -> None:
    bell = sympy.sympify("4.1*exp(-2.13*(x - 6.2)**2)")
    (form, *_) = known_forms(bell)
    assert complexity(form) > complexity(bell)
    assert size_at_most(form) == size_at_most(bell) == complexity(bell)


def test_a_number_is_its_value() -> None:
    x = sympy.Symbol("x")
    for number, value in ((3 * sympy.exp(-2), 3 * math.exp(-2)), (sympy.pi / 3, math.pi / 3), (sympy.sqrt(5), 5**0.5)):
        assert abs(double_of(number) - value) <= 1e-15 * value
        assert abs(number_value(number) - value) <= 3e-16 * value
        np.testing.assert_allclose(evaluate_expression(number * x, [x], np.ones((2, 1))), value, rtol=1e-15)


def test_a_number_beyond_double_precision_is_not_worked_out() -> None:
    """As soon as sympy is asked for a sign of such a number it works out all its digits."""
    tower: sympy.Expr = sympy.Integer(4930210)
    began = time.process_time()
    for _ in range(4):
        tower = sympy.exp(tower, evaluate=False)
        assert not np.isfinite(number_value(tower))
        assert not np.isfinite(number_value(sympy.Pow(tower, -1, evaluate=False)))
    assert time.process_time() - began < 0.5
