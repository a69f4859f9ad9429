"""From a program back to an ordinary formula: `to_sympy`.

The program is transcribed with all variables taken to be positive, which is what a formula with logarithms and powers
mostly means, and compared with the program at points; if the two differ, it is transcribed again with those variables
positive that are so at the points. A formula that is not real there is transcribed once more with the sign that the argument
of each logarithm has at the points: ln u is ln(-u) + i pi for u < 0, and ln |u| where u has either sign. In the last resort
the program is written word for word.
Then a better form is looked for under a time limit, and kept only if it still agrees: a shorter one, and before all one
without `I`, `re` or `Abs`, as a formula of real numbers is written.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial

import numpy as np
import sympy
import torch

from emlinit.generator.evaluate import evaluate
from emlinit.generator.formulas.bounds import LARGEST_EXPONENT
from emlinit.generator.formulas.expression import complexity, evaluate_expression
from emlinit.generator.formulas.printing import float_text
from emlinit.generator.formulas.simplify import join_numbers, join_roots, settle_signs, shorter_forms
from emlinit.generator.formulas.transcribe import Transcriber, literal
from emlinit.generator.program import Programs, tokens_from_program

__all__ = ["complexity", "to_sympy"]

_AGREEMENT = 1e-12  # of the largest |y|: formula against program
_DEFINED_SHARE = 0.3  # of points of our own choice: where a formula must at least be finite
_SHORT = 30  # nodes up to which a real form is worth more than a complex one, whatever its length
_CLUMSY = 2  # a real form this many times as long as the complex one is worth less
_UNREAL = (sympy.re, sympy.im, sympy.Abs, sympy.arg, sympy.sign, sympy.conjugate, sympy.atan2)
NOT_OF_REALS = (sympy.I, sympy.re, sympy.im, sympy.arg, sympy.conjugate)
"""What stands in no formula of real numbers."""
_ROUNDING = 1e-14  # of a number: so close to a simple one, it is that one
_N_POINTS = 64


def to_sympy(
    programs: Programs,
    index: int,
    symbols: Sequence[sympy.Symbol],
    *,
    points: np.ndarray | None = None,
    simplify_seconds: float | int = 1.0,
) -> sympy.Expr:
    """Read one program as a formula.

    Args:
        programs: a batch.
        index: which of them.
        symbols: one symbol a variable.
        points: float64 (p, v), where the formula must agree with the program; give the data here, because more can be
            simplified where all of it is positive. By default points between -3 and 3, positive for a symbol declared
            so, at some of which the formula may be undefined.
        simplify_seconds: time limit, in all; nothing is begun to find a better form after it. 0 leaves that out.

    Returns:
        The best form found whose real part agrees with the program, to 1e-12 of the largest |y|, wherever the program is
        valid. Where none does, the program word for word, with complex exponentials and logarithms.

    Raises:
        OverflowError: none does, and a number in the program is beyond double precision.
    """
    until = time.monotonic() + simplify_seconds
    program = programs[index].to("cpu")
    check = _Check.at(program, _points(symbols) if points is None else points, strict=points is not None)
    known = [symbol.is_positive or (points is not None and check.positive(i)) for i, symbol in enumerate(symbols)]
    exact = bool(program.is_exact()[0])

    def tidied(expr: sympy.Expr) -> sympy.Expr:
        return _tidied(expr if exact else join_numbers(expr))

    kinds = dict.fromkeys(((True,) * len(symbols), tuple(map(bool, known))))
    unreal: sympy.Expr | None = None
    for positive, by_sign in [*((kind, False) for kind in kinds), (tuple(map(bool, known)), True)]:
        if by_sign and points is None:
            continue
        own = [sympy.Symbol(f"v{i}", positive=sure or None, real=True) for i, sure in enumerate(positive)]
        try:
            sign = partial(check.sign, symbols=own) if by_sign else None
            transcription = Transcriber(program, own, sign).readout()
        except (ArithmeticError, TypeError, ValueError):
            continue
        best = next((form for form in (tidied(transcription), transcription) if check.agrees(form, own)), None)
        if best is None:
            continue
        settled = settle_signs(best, partial(check.sign, symbols=own))
        if settled != best and check.agrees(settled, own):
            best = min(best, settled, key=_length)
        for form in shorter_forms(best, until - time.monotonic()) if simplify_seconds > 0 else ():
            form = tidied(form)
            if check.rank(form, own) < check.rank(best, own) and check.agrees(form, own):
                best = form
        length = complexity(best)
        fits = length <= max(_SHORT, _CLUMSY * len(tokens_from_program(program)[0]))  # tokens: known at once, and fewer
        if by_sign or fits or length <= _CLUMSY * complexity(literal(program, symbols)):
            best = best.xreplace(dict(zip(own, symbols, strict=True)))
            joined = join_roots(best)
            if complexity(joined) <= complexity(best) and check.agrees(joined, symbols):
                best = joined
            if not best.has(*NOT_OF_REALS) and check.real(best, symbols):
                return best
            unreal = best if unreal is None else unreal
    unreal = literal(program, symbols) if unreal is None else unreal
    return unreal if exact else join_numbers(unreal)


def tidy_numbers(expr: sympy.Expr) -> sympy.Expr:
    """Write floats that are a short decimal, a simple fraction or a multiple of pi, up to rounding, as such."""
    tidy = {number: _tidy(float(number)) for number in expr.atoms(sympy.Float)}
    # A large whole number as an exponent would be worked out: (2 x)**12500000 begins with a number of 3762875 digits.
    powers = {n for power in expr.atoms(sympy.Pow) for n in power.exp.atoms(sympy.Float) if abs(n) > LARGEST_EXPONENT}
    return expr.xreplace({number: value for number, value in tidy.items() if number not in powers})


def _tidy(value: float) -> sympy.Expr:
    rounded = float(f"{value:.13g}")
    if rounded.is_integer() and abs(rounded) < 1e9:
        return sympy.Integer(int(rounded))
    if f"{rounded:.9g}" == f"{rounded:.13g}":
        return sympy.Float(rounded)
    for unit, factor in ((sympy.S.One, 1.0), (sympy.pi, math.pi)):
        fraction = Fraction(value / factor).limit_denominator(12)
        if abs(fraction.numerator) <= 24 and abs(float(fraction) * factor - value) <= _ROUNDING * abs(value):
            return unit * sympy.Rational(fraction.numerator, fraction.denominator)
    return sympy.Float(value)


def _tidied(expr: sympy.Expr) -> sympy.Expr:
    """Tidy numbers, and a sine where a cosine's phase is a shorter number as a sine's."""

    def cosine(angle: sympy.Expr) -> sympy.Expr:
        phase, rest = angle.as_coeff_Add()
        forms = [sympy.cos(angle)]
        if phase.is_Float:
            forms += [sign * sympy.sin(rest + _tidy(float(phase) + sign * math.pi / 2)) for sign in (1, -1)]
        return min(forms, key=lambda form: sum(len(float_text(n)) for n in form.atoms(sympy.Float)))

    return tidy_numbers(expr).replace(sympy.cos, cosine)


def _length(expr: sympy.Expr) -> tuple[bool, int, int]:
    """What makes a form the better one: real numbers throughout, then nodes, then digits."""
    unreal = expr.has(sympy.I, *_UNREAL)
    return unreal, complexity(expr), sum(len(float_text(number)) for number in expr.atoms(sympy.Number))


@dataclass(frozen=True)
class _Check:
    """Points with the program's values, to hold a formula against."""

    x: np.ndarray
    y: np.ndarray
    strict: bool
    others: np.ndarray
    """Points at which the program has no value; a formula may have one there: x (a + 1/x) is a x + 1."""

    @staticmethod
    def at(program: Programs, x: np.ndarray, *, strict: bool) -> "_Check":
        x = np.ascontiguousarray(x, dtype=np.float64)
        result = evaluate(program, torch.from_numpy(x), rtol=None if strict else "default")
        valid = result.valid[0].numpy()
        return _Check(x[valid], result.value[0].numpy()[valid], strict, x[~valid] if strict else x[:0])

    def rank(self, expr: sympy.Expr, symbols: Sequence[sympy.Symbol]) -> tuple[bool, bool, int, int]:
        """What makes a form the better one, the less the better: real numbers throughout, then a value at all points that
        were given, then its length."""
        unreal, n_nodes, n_digits = _length(expr)
        return unreal, self._undefined_elsewhere(expr, symbols), n_nodes, n_digits

    def _undefined_elsewhere(self, expr: sympy.Expr, symbols: Sequence[sympy.Symbol]) -> bool:
        if not len(self.others):
            return False
        try:
            return not np.isfinite(evaluate_expression(expr, symbols, self.others)).all()
        except (KeyError, OverflowError, TypeError):
            return True

    def positive(self, column: int) -> bool:
        return bool((self.x[:, column] > 0).all())

    def sign(self, expr: sympy.Expr, symbols: Sequence[sympy.Symbol]) -> int:
        """1 or -1 where the formula is real and of that sign at all points, else 0."""
        try:
            value = evaluate_expression(expr, symbols, self.x)
        except (KeyError, OverflowError, TypeError):
            return 0
        if not len(value) or not (value.imag == 0).all():
            return 0
        return int((value.real > 0).all()) - int((value.real < 0).all())

    def real(self, expr: sympy.Expr, symbols: Sequence[sympy.Symbol]) -> bool:
        """Whether a formula that agrees is real at the points, but for rounding; of points of our own nothing is asked."""
        if not self.strict or not len(self.y):
            return True
        value = evaluate_expression(expr, symbols, self.x)
        return bool(np.abs(value.imag).max() <= _AGREEMENT * np.abs(self.y).max())

    def agrees(self, expr: sympy.Expr, symbols: Sequence[sympy.Symbol]) -> bool:
        if not len(self.y):
            return True
        try:
            value = evaluate_expression(expr, symbols, self.x)
        except (KeyError, OverflowError, TypeError):
            return False
        finite = np.isfinite(value)
        if (self.strict and not finite.all()) or finite.mean() < _DEFINED_SHARE:
            return False
        y = self.y[finite]
        return bool(np.abs(value.real[finite] - y).max() <= _AGREEMENT * np.abs(y).max())


def _points(symbols: Sequence[sympy.Symbol]) -> np.ndarray:
    """Points that belong to no grid: multiples of square roots of primes, modulo 1, on both signs as far as allowed."""
    roots = np.sqrt([sympy.prime(place + 1) for place in range(len(symbols))]).astype(float)
    unit = np.modf(np.arange(1, _N_POINTS + 1)[:, None] * roots)[0]
    low = np.array([0.0 if symbol.is_positive else -3.0 for symbol in symbols])
    points = low + (3.0 - low) * unit
    points[::2] = np.abs(points[::2])  # half of them positive in every variable
    return np.asarray(points)
