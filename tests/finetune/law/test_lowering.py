"""Lowering: the values and the printed source are the same operations, with the brackets and cuts that these need."""

import math

import numpy as np
import pytest
import sympy
from sympy import Add, Mul

from emlinit.finetune.law.lowering import evaluate_complex, evaluate_real, lower
from emlinit.finetune.law.python_module import python_source
from emlinit.generator.formulas.expression import evaluate_expression

X, Y, Z = SYMBOLS = sympy.symbols("x y z")
BASE = sympy.exp(X) + 1

FORMULAS = {
    "sum in a difference": Add(X, Mul(-1, Y + Z, evaluate=False), evaluate=False),
    "quotient in a quotient": X / (Y / (Z + 2) + 1),
    "product below": X / (Y * Z),
    "power of a power": (BASE ** sympy.exp(Y / 9)) ** sympy.exp(Z / 9),
    "power in an exponent": BASE ** (BASE ** sympy.exp(Z / 9)),
    "sign of a power": -(X**2),
    "power of a sign": (-X) ** 3 + (-X - 1) ** 2,
    "sign in a product": X * (-Y - 2) * Z,
    "reciprocal functions": sympy.cot(X) / sympy.sec(Y) ** 2 * sympy.acot(Z),
    "square roots": sympy.sqrt(X - Y) * sympy.sqrt(sympy.log(Z)),
    "outside their real domains": sympy.asin(3 * X) + sympy.acos(2 * Y) + sympy.atanh(Z) + sympy.acosh(X),
    "shared terms": sympy.sin(X + Y * Z) ** 2 + sympy.exp(sympy.sin(X + Y * Z)),
    "numbers": 0.1 * X + 1e-30 * Y + sympy.Rational(2, 7) * Z - sympy.pi,
    "real parts": sympy.re(sympy.log(X)) + sympy.im(sympy.sqrt(Y)) + sympy.arg(Z) + sympy.atan2(X, Y),
}


def _points() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(60, 3)) * 1.5


@pytest.mark.parametrize("name", FORMULAS)
def test_values_source_and_sympy_agree(name: str) -> None:
    formula, x = FORMULAS[name], _points()
    operations = lower(formula, SYMBOLS)
    value = evaluate_real(operations, x)
    module: dict[str, object] = {}
    exec(python_source(operations, SYMBOLS, [s.name for s in SYMBOLS], "y", str(formula)), module)
    by_source = module["law"](*(np.ascontiguousarray(column) for column in x.T))  # type: ignore[operator]
    np.testing.assert_array_equal(by_source, value)
    for row in range(5):
        numbers = {symbol: sympy.Float(float(number), 30) for symbol, number in zip(SYMBOLS, x[row], strict=True)}
        exact = complex(formula.subs(numbers).evalf(20))
        np.testing.assert_allclose(value[row], exact.real, rtol=1e-10, atol=1e-12)


def test_a_negative_number_is_on_the_upper_side_of_the_cut() -> None:
    # -sqrt(4) is -2 - 0j where the column has negative numbers, too; its logarithm has the imaginary part π all the same.
    operations = lower(sympy.log(-sympy.sqrt(X)), [X])
    value = evaluate_complex(operations, np.array([[4.0], [-1.0]]))
    assert value[0].imag == math.pi


def test_what_numpy_lacks_is_said() -> None:
    with pytest.raises(ValueError, match="has no NumPy counterpart"):
        lower(sympy.gamma(X), [X])
    with pytest.raises(ValueError, match="beyond double precision"):
        lower(X + sympy.Float("1e400"), [X])


def test_functions_of_real_numbers_take_the_real_part() -> None:
    """As `evaluate_expression` has it: NumPy's arctan2 knows no complex numbers, and its sign of one is another number."""
    formula, x = sympy.atan2(sympy.log(X), sympy.sqrt(Y)) + sympy.sign(sympy.log(Z)), _points()
    wanted = evaluate_expression(formula, SYMBOLS, x)
    np.testing.assert_allclose(evaluate_complex(lower(formula, SYMBOLS), x), wanted, rtol=1e-14)


def test_a_number_beyond_double_precision_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"the number 9\.9900\d+e\+30102 is beyond double precision"):
        lower(sympy.Float(2.0) ** 100000 * X, SYMBOLS)
