"""Shorter forms of a formula, within bounded work.

Sympy cannot be told to stop: signals reach the main thread only, and an exception raised from outside inside another
thread may land where Python swallows it. So the work is bounded instead: transformations whose cost explodes see small
formulas only, and the clock is read between them. A formula of the same size always gets the same treatment, unless the
time is up.
"""

import math
import time
from collections.abc import Callable, Iterator

import sympy

from emlinit.generator.expression import complexity

_SAME = 1e-14  # numbers that differ by less than this share are one number
_LARGEST_FOR_CHEAP, _LARGEST_FOR_COSTLY = 120, 28  # nodes of the formulas that are transformed


def shorter_forms(expr: sympy.Expr, seconds: float | int) -> list[sympy.Expr]:
    """Equivalent forms of `expr`, cheap ones first; some may be longer than `expr`. After `seconds` no further
    transformation is begun.

    Constants that are no small integers or fractions are held as symbols meanwhile, because sympy would otherwise carry
    them about as rationals.
    """
    held, constants = _hold_floats(expr)
    return [form.xreplace(constants) for form in _forms(held, time.monotonic() + seconds)]


def _forms(expr: sympy.Expr, until: float) -> Iterator[sympy.Expr]:
    """Each transformation of the given form and of the shortest one so far."""
    shortest = expr
    for number, transform in enumerate(_TRANSFORMS):
        largest = _LARGEST_FOR_CHEAP if number < _N_CHEAP else _LARGEST_FOR_COSTLY
        for start in dict.fromkeys((expr, shortest)):
            if complexity(start) > largest or time.monotonic() > until:
                continue
            try:
                form = transform(start)
                candidates = [form, sympy.powsimp(form)]
            except Exception:  # sympy fails in many ways on odd input; that costs only this form
                continue
            for candidate in candidates:
                if candidate != start:
                    yield candidate
                    shortest = min(shortest, candidate, key=complexity)


def _recognise_inverse(expr: sympy.Expr) -> sympy.Expr:
    """ln(u + sqrt(u**2 + 1)) is asinh u, ln(u + sqrt(u**2 - 1)) is acosh u."""

    def inverse(argument: sympy.Expr) -> sympy.Expr:
        for root in argument.args if argument.is_Add else ():
            if root.is_Pow and root.exp == sympy.Rational(1, 2):
                u = argument - root
                difference = sympy.expand(root.base - u**2)
                if difference in (1, -1):
                    return sympy.asinh(u) if difference == 1 else sympy.acosh(u)
        return sympy.log(argument)

    return expr.replace(sympy.log, inverse)


def _join_logarithms(expr: sympy.Expr) -> sympy.Expr:
    """ln a + ln b = ln(a b), but p ln a stays."""
    joined = sympy.logcombine(expr)
    return joined.replace(sympy.log, lambda u: u.exp * sympy.log(u.base) if u.is_Pow else sympy.log(u))


def _unit_coefficients(expr: sympy.Expr) -> sympy.Expr:
    """(a u + b)**p = a**p (u + b/a)**p, with `a` the number before the term that comes first."""

    def scaled(base: sympy.Expr, exponent: sympy.Expr) -> sympy.Expr:
        if not base.is_Add or not exponent.is_number:
            return sympy.Pow(base, exponent)
        terms = sorted((term for term in base.args if term.free_symbols), key=lambda t: (-complexity(t), str(t)))
        number = sympy.Mul(*(f for f in terms[0].args if not _varies(f))) if terms and terms[0].is_Mul else sympy.S.One
        if not exponent.is_Integer and number.is_negative:
            number = -number
        return number**exponent * sympy.Add(*(term / number for term in base.args)) ** exponent

    return expr.replace(sympy.Pow, scaled)


def _varies(expr: sympy.Expr) -> bool:
    return any(not isinstance(symbol, sympy.Dummy) for symbol in expr.free_symbols)


_TRANSFORMS: tuple[Callable[[sympy.Expr], sympy.Expr], ...] = (
    sympy.expand,
    sympy.factor_terms,
    _join_logarithms,
    _recognise_inverse,
    lambda expr: expr.replace(sympy.asin, lambda u: sympy.Rational(1, 2) * sympy.pi - sympy.acos(u)),
    _unit_coefficients,
    # From here on costly ones.
    sympy.exptrigsimp,
    sympy.together,
    sympy.trigsimp,
    sympy.simplify,
    lambda expr: sympy.factor(sympy.expand(expr)),
)
_N_CHEAP = 6


def _hold_floats(expr: sympy.Expr) -> tuple[sympy.Expr, dict[sympy.Basic, sympy.Expr]]:
    """Replace each float by a positive symbol, with its sign outside; numbers equal up to rounding by the same one.

    Quarters become fractions and quarter turns fractions of pi, which rules of sympy can read.
    """
    there: dict[sympy.Basic, sympy.Expr] = {}
    back: dict[sympy.Basic, sympy.Expr] = {}
    for number in sorted(expr.atoms(sympy.Float), key=float):
        modulus = abs(float(number))
        if (4 * modulus).is_integer() and modulus < 100:
            held = sympy.Rational(int(4 * modulus), 4)
        elif abs(modulus - math.pi / 2) < _SAME * modulus:
            held = sympy.pi / 2
        else:
            close = (symbol for symbol, value in back.items() if abs(float(value) - modulus) < _SAME * modulus)
            held = next(close, None) or sympy.Dummy(f"c{len(back)}", positive=True)
            back.setdefault(held, sympy.Float(modulus))
        there[number] = held if number > 0 else -held
    return expr.xreplace(there), back
