"""Fits the numbers printed in a formula, by SciPy: independent of the searches that found it, in double precision.

What is a constant and what is form: a number that stands as a term, a factor, a base or an argument is a constant, and
so is a float in an exponent. Whole and fractional exponents (x**2, sqrt) and the factors 1 and -1, which are not
printed, are form; the floats 1.0 and -1.0 are constants.

Legend: p point, v input variable, k constant.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.optimize
import sympy

from emlinit.generator.formulas.expression import evaluate_expression

_STEP = 6e-6  # of a central difference, relative: the cube root of the rounding unit
_HUGE = 1e100  # the residual where the formula is undefined
_SPREAD = 0.5  # of the logarithm of the random factors of a restart


@dataclass(frozen=True)
class Parametrised:
    """A formula with symbols in place of its constants."""

    expression: sympy.Expr
    """In the variables and `constants`."""
    constants: tuple[sympy.Symbol, ...]
    """A symbol for each, in the order in which they stand in the formula."""
    found: tuple[float, ...]
    """The value of each in the formula as it was found."""

    def at(self, values: Sequence[float] | np.ndarray) -> sympy.Expr:
        """The formula with other constants."""
        numbers = [sympy.Integer(0) if value == 0 else sympy.Float(float(value)) for value in values]
        return self.expression.subs(dict(zip(self.constants, numbers, strict=True)))

    def without(self, number: int) -> "Parametrised":
        """The formula with one constant set to 0."""
        keep = [place for place in range(len(self.constants)) if place != number]
        return Parametrised(
            self.expression.subs(self.constants[number], 0),
            tuple(self.constants[place] for place in keep),
            tuple(self.found[place] for place in keep),
        )


def parametrise(expr: sympy.Expr) -> Parametrised:
    """Find the constants of a formula; a number as a whole is one, such as `2*pi`.

    Raises:
        ValueError: a number in the formula is not real and finite.
    """
    symbols: list[sympy.Symbol] = []
    found: list[float] = []

    def constant(number: sympy.Expr) -> sympy.Expr:
        value = complex(number.evalf(17))
        if value.imag != 0 or not np.isfinite(value.real):
            raise ValueError(f"'{number}' is not a real finite number")
        symbols.append(sympy.Dummy(f"c{len(symbols)}", real=True))
        found.append(value.real)
        return symbols[-1]

    def walk(node: sympy.Expr) -> sympy.Expr:
        if not node.free_symbols:
            return constant(node)
        if node.is_Symbol:
            return node
        if node.is_Add or node.is_Mul:
            numbers = [arg for arg in node.args if not arg.free_symbols]
            rest = [walk(arg) for arg in node.args if arg.free_symbols]
            number = node.func(*numbers)
            if node.is_Mul and abs(number) == 1:
                return node.func(number, *rest)
            return node.func(*rest, *([constant(number)] if numbers else []))
        if node.is_Pow and node.exp.is_Rational:
            return walk(node.base) ** node.exp
        return node.func(*(walk(arg) for arg in node.args))

    expression = walk(expr)
    return Parametrised(expression, tuple(symbols), tuple(found))


def refit(
    formula: Parametrised, variables: Sequence[sympy.Symbol], x: np.ndarray, y: np.ndarray, *, restarts: int = 0
) -> np.ndarray | None:
    """Least-squares constants, from those found and from random multiples of them.

    Args:
        formula: of `parametrise`.
        variables: the symbol of each column of x.
        x: points, float64 of shape (p, v).
        y: targets, float64 of shape (p,).
        restarts: further starts, always the same ones.

    Returns:
        float64 of shape (k,), those of the best start; None if the formula is undefined at a point at every start.
    """
    symbols = [*variables, *formula.constants]
    n, k = len(x), len(formula.constants)

    def values(constants: np.ndarray) -> np.ndarray:
        """Constants (r, k) -> values (r, p): all rows in one evaluation."""
        table = np.concatenate([np.tile(x, (len(constants), 1)), np.repeat(constants, n, axis=0)], axis=1)
        return values_or_nan(formula.expression, symbols, table).reshape(len(constants), n)

    def residuals(constants: np.ndarray) -> np.ndarray:
        return _tame(values(constants[None])[0] - y)

    def jacobian(constants: np.ndarray) -> np.ndarray:
        steps = _STEP * np.where(constants == 0, 1.0, np.abs(constants))
        shifted = values(np.concatenate([constants + np.diag(steps), constants - np.diag(steps)]))
        return _tame((shifted[:k] - shifted[k:]) / (2 * steps[:, None]), undefined=0.0).T

    if k == 0 or k > n:
        return np.array(formula.found)
    rng = np.random.default_rng(0)
    found = np.array(formula.found)
    starts = [found] + [found * np.exp(_SPREAD * rng.standard_normal(k)) for _ in range(restarts)]
    best, least = None, np.inf
    for start in starts:
        if not np.isfinite(values(start[None])).all():
            continue
        tight = {"xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-15}
        with np.errstate(all="ignore"):
            fit = scipy.optimize.least_squares(
                residuals, start, jacobian, method="lm", x_scale="jac", max_nfev=200, **tight
            )
        if fit.cost < least and np.isfinite(fit.x).all():
            best, least = np.asarray(fit.x), float(fit.cost)
        if least <= 1e-26 * float(np.square(y).sum()):
            break
    return best


def _tame(values: np.ndarray, undefined: float = _HUGE) -> np.ndarray:
    """Numbers that MINPACK can square."""
    return np.asarray(np.nan_to_num(values, nan=undefined).clip(-_HUGE, _HUGE))


def values_or_nan(expr: sympy.Expr, symbols: Sequence[sympy.Symbol], x: np.ndarray) -> np.ndarray:
    """Values of a formula at x, float64 of shape (p,); NaN where it is undefined or not real, or cannot be computed."""
    try:
        value = np.broadcast_to(evaluate_expression(expr, symbols, x), len(x))
    except (KeyError, OverflowError, TypeError, ValueError, ZeroDivisionError):
        return np.full(len(x), np.nan)
    with np.errstate(all="ignore"):
        real = np.abs(value.imag) <= 1e-9 * np.abs(value.real)
    return np.where(np.isfinite(value) & real, value.real, np.nan)
