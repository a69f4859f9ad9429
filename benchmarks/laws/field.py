"""Tables as people bring them: the curves of the textbooks with drawn constants, units, ranges and numbers of rows.

A law that is found on unit ranges may be missed where the time is in nanoseconds, the year is 1996 or a factor has four
levels. So each kind is drawn over and over: its constants have two or three digits, as those of handbooks, its variable
is spaced evenly, evenly in the logarithm, at random or over a few levels, and a time scale comes from nanoseconds to years.

Legend: p point, v input variable.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import sympy

from emlinit.generator.corpus.frozen import real_values

_X1, _X2 = (sympy.Symbol(f"x{number}", real=True) for number in (1, 2))
_SPACINGS = ("even", "random")
_MOST_TRIES = 100  # draws of constants for which the law may be undefined or flat
_EXTENDED = 0.25  # of a range, added at its upper end to see whether a law holds outside


@dataclass(frozen=True)
class DrawnColumn:
    """Where the values of a variable come from."""

    low: int | float
    """Smallest value."""
    high: int | float
    """Largest value."""
    spacing: str = "random"
    """`even`, `log`, `random`, or `levels`."""
    levels: tuple[float, ...] = ()
    """The values of a factor, every one as often as every other."""

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """n values, of shape (n,)."""
        if self.spacing == "levels":
            return rng.permutation(np.resize(np.array(self.levels), n))
        if self.spacing == "random":
            return np.asarray(rng.uniform(self.low, self.high, n))
        return np.asarray((np.geomspace if self.spacing == "log" else np.linspace)(self.low, self.high, n))

    def elsewhere(self, n: int, rng: np.random.Generator, beyond: float = 0.0) -> np.ndarray:
        """n values that are no training points, up to a share of the range beyond its upper end; levels stay levels."""
        if self.spacing == "levels":
            return rng.choice(np.array(self.levels), n)
        return np.asarray(rng.uniform(self.low, self.high + beyond * (self.high - self.low), n))


_Drawn = tuple[sympy.Expr, list[DrawnColumn], int]
_Rng = np.random.Generator
CurveKind = Callable[[_Rng], _Drawn]
"""Draws a law, its columns and its number of rows."""


@dataclass(frozen=True, eq=False)
class FieldCase:
    """One table: its law in x1, x2, and how its rows were drawn."""

    name: str
    """Kind and number, as in "logistic-07"."""
    formula: sympy.Expr
    """The law in real symbols."""
    x: np.ndarray
    """Rows, float64 of shape (p, v)."""
    fresh: np.ndarray
    """Other points of the same ranges, of shape (f, v)."""
    extended: np.ndarray
    """Points of ranges that are a quarter longer, of shape (f, v)."""


def draw_case(number: int, seed: int, n_fresh: int, kinds: Mapping[str, CurveKind] | None = None) -> FieldCase:
    """Case `number` of the endless list, in which the kinds take turns.

    Args:
        number: 0, 1, 2, ...
        seed: of the whole list, >= 0.
        n_fresh: points beside the rows.
        kinds: what takes turns; `KINDS` by default.
    """
    kinds = KINDS if kinds is None else kinds
    kind = list(kinds)[number % len(kinds)]
    rng = np.random.default_rng([seed, number, len(kinds)])
    for _ in range(_MOST_TRIES):
        formula, columns, n_rows = kinds[kind](rng)
        x = np.stack([column.draw(n_rows, rng) for column in columns], 1)
        y = real_values(formula, (_X1, _X2)[: x.shape[1]], x)
        if np.isfinite(y).all() and np.ptp(y) > 0:
            break
    return FieldCase(
        f"{kind}-{number // len(kinds):03d}",
        formula,
        x,
        np.stack([column.elsewhere(n_fresh, rng) for column in columns], 1),
        np.stack([column.elsewhere(n_fresh, rng, _EXTENDED) for column in columns], 1),
    )


def _digits(value: float, digits: int = 3) -> sympy.Expr:
    """A number as it would be written down."""
    return sympy.Float(float(f"{value:.{digits - 1}e}"))


def _number(rng: _Rng, low: int | float, high: int | float) -> sympy.Expr:
    """A constant of two or three digits, uniform in its logarithm."""
    return _digits(math.exp(rng.uniform(math.log(low), math.log(high))), int(rng.integers(2, 4)))


def _scale(rng: _Rng) -> float:
    """Of a variable: from nanoseconds to thousands, mostly near 1."""
    return float(10.0 ** rng.choice([-9, -6, -3, -1, 0, 0, 0, 0, 1, 3]))


def _amplitude(rng: _Rng) -> sympy.Expr:
    return _number(rng, 0.2, 500)


def _rows(rng: _Rng, low: int = 40, high: int = 200) -> int:
    return int(rng.integers(low, high))


def _time(rng: _Rng, scale: float, periods: float, start: float = 0.0) -> DrawnColumn:
    return DrawnColumn(start * scale, periods * scale, str(rng.choice(_SPACINGS)))


def _charge(rng: _Rng) -> _Drawn:
    a, scale = _amplitude(rng), _scale(rng)
    tau = _digits(scale * float(_number(rng, 0.3, 3)))
    return a * (1 - sympy.exp(-_X1 / tau)), [_time(rng, float(tau), rng.uniform(2, 6))], _rows(rng)


def _decay(rng: _Rng) -> _Drawn:
    a, c, scale = _amplitude(rng), _amplitude(rng), _scale(rng)
    tau = _digits(scale * float(_number(rng, 0.3, 3)))
    return c + a * sympy.exp(-_X1 / tau), [_time(rng, float(tau), rng.uniform(2, 5))], _rows(rng)


def _logistic(rng: _Rng) -> _Drawn:
    a, width = _amplitude(rng), _number(rng, 0.3, 3)
    middle = _digits(float(width) * rng.uniform(4, 8))
    return a / (1 + sympy.exp(-(_X1 - middle) / width)), [_time(rng, float(middle), rng.uniform(1.7, 2.5))], _rows(rng)


def _logistic_with_baseline(rng: _Rng) -> _Drawn:
    formula, columns, n_rows = _logistic(rng)
    return formula + _number(rng, 0.1, 5), columns, n_rows


def _year_logistic(rng: _Rng) -> _Drawn:
    a, rate, middle = _amplitude(rng), _number(rng, 0.1, 0.6), int(rng.integers(1975, 2005))
    low, high = middle - int(rng.integers(12, 25)), middle + int(rng.integers(12, 25))
    column = DrawnColumn(low, high, "even")
    return a / (1 + sympy.exp(-rate * (_X1 - middle))), [column], high - low + 1


def _hill(rng: _Rng) -> _Drawn:
    a, half = _amplitude(rng), _number(rng, 0.5, 50)
    n = sympy.Integer(int(rng.integers(2, 5))) if rng.random() < 0.6 else _number(rng, 1.3, 4)
    column = DrawnColumn(float(half) * 0.05, float(half) * rng.uniform(3, 8), str(rng.choice(("log", "random"))))
    return a * _X1**n / (half**n + _X1**n), [column], _rows(rng)


def _saturation(rng: _Rng) -> _Drawn:
    a, half = _amplitude(rng), _number(rng, 0.1, 50)
    column = DrawnColumn(
        float(half) * 0.1, float(half) * rng.uniform(4, 10), str(rng.choice(("log", "random", "even")))
    )
    return a * _X1 / (half + _X1), [column], _rows(rng, 20)


def _doses(rng: _Rng) -> _Drawn:
    a, c, half = _amplitude(rng), _amplitude(rng), _number(rng, 1, 20)
    doses = tuple(float(d) for d in [0, 1, 2, 5, 10, 20, 50, 100][: int(rng.integers(6, 9))])
    return (
        c + a * _X1 / (half + _X1),
        [DrawnColumn(0, doses[-1], "levels", doses)],
        len(doses) * int(rng.integers(3, 10)),
    )


def _damped(rng: _Rng) -> _Drawn:
    a, scale = _amplitude(rng), _scale(rng)
    omega, decay = _digits(float(_number(rng, 1, 6)) / scale), _digits(float(_number(rng, 0.1, 0.8)) / scale)
    wave = (sympy.sin, sympy.cos)[int(rng.integers(2))](omega * _X1)
    return a * sympy.exp(-decay * _X1) * wave, [_time(rng, scale, rng.uniform(5, 10))], _rows(rng, 80)


def _planck(rng: _Rng) -> _Drawn:
    a, b = _amplitude(rng), _number(rng, 0.3, 3)
    return a * _X1**3 / (sympy.exp(b * _X1) - 1), [_time(rng, 1 / float(b), rng.uniform(6, 9), 0.05)], _rows(rng, 60)


def _gaussian(rng: _Rng) -> _Drawn:
    a, c, width = _amplitude(rng), _number(rng, 0.1, 10), _number(rng, 0.3, 3)
    middle = _digits(float(width) * rng.uniform(3, 6))
    return (
        c + a * sympy.exp(-((_X1 - middle) ** 2) / (2 * width**2)),
        [_time(rng, float(middle), rng.uniform(1.7, 2.2))],
        _rows(rng, 60),
    )


def _arrhenius(rng: _Rng) -> _Drawn:
    b = _number(rng, 500, 3000)
    a = _digits(math.exp(float(b) / 300) * float(_number(rng, 0.1, 10)))
    return (
        a * sympy.exp(-b / _X1),
        [DrawnColumn(280, rng.uniform(320, 450), str(rng.choice(_SPACINGS)))],
        _rows(rng, 20),
    )


def _power(rng: _Rng) -> _Drawn:
    a, c = _amplitude(rng), _amplitude(rng)
    p = sympy.Rational(int(rng.choice([-4, -3, -1, 1, 3, 5])), 2)
    return (
        c + a * _X1**p,
        [DrawnColumn(rng.uniform(0.5, 2), rng.uniform(5, 30), str(rng.choice(_SPACINGS)))],
        _rows(rng, 25),
    )


def _kink(rng: _Rng) -> _Drawn:
    high = float(_number(rng, 2, 50))
    place, a, c = _digits(high * rng.uniform(0.25, 0.75)), _number(rng, 0.3, 5), _number(rng, 0.3, 20)
    return a * sympy.Abs(_X1 - place) + c, [DrawnColumn(0, high, str(rng.choice(_SPACINGS)))], _rows(rng)


def _smaller(rng: _Rng) -> _Drawn:
    scale, sign = float(_number(rng, 0.5, 20)), int(rng.choice([-1, 1]))
    return (
        (_X1 + _X2 + sign * sympy.Abs(_X1 - _X2)) / 2,
        [DrawnColumn(rng.uniform(0, 0.2) * scale, scale), DrawnColumn(0, scale)],
        _rows(rng),
    )


def _flag(rng: _Rng) -> _Drawn:
    a, b, c = _number(rng, 0.3, 9), _number(rng, 0.3, 9), _number(rng, 0.3, 20)
    x = DrawnColumn(rng.uniform(-5, 1), rng.uniform(3, 12), str(rng.choice(_SPACINGS)))
    return (a + b * _X2) * _X1 + c, [x, DrawnColumn(0, 1, "levels", (0.0, 1.0))], _rows(rng)


def _levels(rng: _Rng) -> _Drawn:
    """A factorial plan of three settings."""
    a, b, c, d = (_number(rng, 0.3, 9) for _ in range(4))
    plan = (-1.0, 0.0, 1.0)
    columns = [DrawnColumn(rng.uniform(0.5, 2), rng.uniform(4, 9)), DrawnColumn(-1, 1, "levels", plan)]
    return a + b * _X2 + c * _X2**2 + d * _X1, columns, len(plan) ** 2 * int(rng.integers(4, 9))


KINDS: dict[str, CurveKind] = {
    "charge": _charge,
    "decay": _decay,
    "logistic": _logistic,
    "baseline": _logistic_with_baseline,
    "years": _year_logistic,
    "hill": _hill,
    "saturation": _saturation,
    "doses": _doses,
    "damped": _damped,
    "planck": _planck,
    "gaussian": _gaussian,
    "arrhenius": _arrhenius,
    "power": _power,
    "kink": _kink,
    "smaller": _smaller,
    "flag": _flag,
    "levels": _levels,
}
"""By name, in the order in which they take turns: constants, columns and rows of a law of each."""
