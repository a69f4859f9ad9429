"""Small tables: laws of two constants in five to twenty rows, as they are read off an instrument by hand.

Ten kinds, drawn over and over like those of the field. Where the law holds an exponent it is none that stands for another,
such as 1.49; ranges are such that the rows could tell the law from its neighbours if they were precise.

Legend: p point, v input variable.
"""

import math
from collections.abc import Callable, Mapping

import numpy as np
import sympy

from emlinit.benchmarks.laws.field import CurveKind, DrawnColumn, FieldCase, draw_case

_X = sympy.Symbol("x1", real=True)
_ROWS = (5, 20)
_Drawn = tuple[sympy.Expr, list[DrawnColumn], int]
_Rng = np.random.Generator


def draw_small_case(number: int, seed: int, n_fresh: int) -> FieldCase:
    """Case `number` of the endless list, in which the kinds take turns; as `draw_case` of the field."""
    return draw_case(number, seed, n_fresh, SMALL_KINDS)


def _constant(rng: _Rng, low: int | float, high: int | float) -> sympy.Expr:
    """Of three digits, uniform in its logarithm."""
    return sympy.Float(float(f"{math.exp(rng.uniform(math.log(low), math.log(high))):.2e}"))


def _exponent(rng: _Rng) -> sympy.Expr:
    """Of two decimals, and no multiple of a half."""
    while True:
        value = round(float(rng.uniform(-2.5, 3.5)), 2)
        if min(abs(2 * value - round(2 * value)), abs(value)) > 0.15:
            return sympy.Float(value)


def _of(rng: _Rng, formula: sympy.Expr, low: int | float, high: int | float) -> _Drawn:
    spacing = str(rng.choice(("even", "random", "log") if low > 0 else ("even", "random")))
    return formula, [DrawnColumn(low, high, spacing)], int(rng.integers(_ROWS[0], _ROWS[1] + 1))


def _wide(rng: _Rng) -> tuple[float, float]:
    """A range over a factor of 5 to 30."""
    low = float(rng.uniform(0.3, 3))
    return low, low * float(rng.uniform(5, 30))


def _sum_with(function: Callable[[sympy.Expr], sympy.Expr]) -> CurveKind:
    """a + b g(x), the two terms of about the same size."""

    def draw(rng: _Rng) -> _Drawn:
        low, high = _wide(rng)
        a = _constant(rng, 0.3, 300)
        size = abs(float(function(sympy.Float(low)) - function(sympy.Float(high))))
        b = sympy.Float(float(f"{float(a) * rng.choice([-1, 1]) * rng.uniform(0.3, 3) / size:.2e}"))
        return _of(rng, a + b * function(_X), low, high)

    return draw


def _power(rng: _Rng) -> _Drawn:
    return _of(rng, _constant(rng, 0.3, 300) * _X ** _exponent(rng), *_wide(rng))


def _exponential(rng: _Rng) -> _Drawn:
    b = _constant(rng, 0.05, 5)
    sign = int(rng.choice([-1, -1, 1]))
    return _of(rng, _constant(rng, 0.3, 300) * sympy.exp(sign * b * _X), 0.0, rng.uniform(1.5, 4) / float(b))


def _charge(rng: _Rng) -> _Drawn:
    b = _constant(rng, 0.05, 5)
    return _of(rng, _constant(rng, 0.3, 300) * (1 - sympy.exp(-b * _X)), 0.1 / float(b), rng.uniform(2, 5) / float(b))


def _saturation(rng: _Rng) -> _Drawn:
    k = _constant(rng, 0.1, 50)
    return _of(rng, _constant(rng, 0.3, 300) * _X / (k + _X), 0.1 * float(k), float(k) * rng.uniform(3, 10))


def _reciprocal(rng: _Rng) -> _Drawn:
    k = _constant(rng, 0.1, 50)
    return _of(rng, _constant(rng, 0.3, 300) / (k + _X), 0.1 * float(k), float(k) * rng.uniform(3, 10))


def _arrhenius(rng: _Rng) -> _Drawn:
    b, low = _constant(rng, 500, 3000), 280.0
    a = sympy.Float(float(f"{math.exp(float(b) / 300) * float(_constant(rng, 0.1, 10)):.2e}"))
    return _of(rng, a * sympy.exp(-b / _X), low, float(rng.uniform(340, 450)))


SMALL_KINDS: Mapping[str, CurveKind] = {
    "line": _sum_with(lambda x: x),
    "inverse": _sum_with(lambda x: 1 / x),
    "logarithm": _sum_with(sympy.log),
    "root": _sum_with(sympy.sqrt),
    "power": _power,
    "exponential": _exponential,
    "charge": _charge,
    "saturation": _saturation,
    "reciprocal": _reciprocal,
    "arrhenius": _arrhenius,
}
"""By name, in the order in which they take turns: constants, column and rows of a law of each."""
