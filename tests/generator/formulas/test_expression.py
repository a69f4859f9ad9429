"""Numbers of a formula: to the last digit where there are few, and at once where there would be endlessly many."""

import math
import time

import numpy as np
import sympy

from emlinit.generator.formulas.expression import double_of, evaluate_expression, number_value


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
