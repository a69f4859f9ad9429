"""How good a found formula is, the same for every method: exact, of the right form, accurate, and how complicated.

Legend: p point, v input variable.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import sympy

from emlinit.benchmarks.laws.refit import Parametrised, parametrise, refit, values_or_nan
from emlinit.benchmarks.laws.suites import LawProblem
from emlinit.generator.formulas.decompile import complexity, tidy_numbers
from emlinit.generator.formulas.simplify import shorter_forms

EXACT_RTOL = 1e-6
"""Largest relative error of an exact formula."""
_FLOOR = 1e-9  # of the rms of y: absolute error that is forgiven, for points where y passes through 0
_ACCURATE_SHARE, _ACCURATE_RTOL, _ACCURATE_ATOL = 0.95, 0.05, 1e-3
_RESTARTS = 2
_SAME = 1e-9  # of a number, relative: as close to a simple one after an exact refit, it is that one
_LARGEST_TO_SIMPLIFY = 60  # nodes: beyond, the time that sympy takes cannot be bounded


@dataclass(frozen=True)
class LawScore:
    """What a formula is worth."""

    exact: bool
    """Whether it is the law as printed: at every fresh and extended point |f - y| <= 1e-6 |y| (or 1e-9 of the rms of y
    there, which forgives rounding where y passes through 0)."""
    refitted: bool
    """Whether it is exact, as printed or once its constants are fitted to the law's noiseless values at the training
    points (which are the targets, if the problem has no noise)."""
    right_form: bool
    """Whether it is the law but for the values of its constants: `refitted`, and no constant is superfluous. One is
    superfluous if it was not 0 and may be set to 0, with the others fitted again, without loss of exactness. A formula
    of no more nodes than the law holds nothing superfluous: some laws have terms that vanish on their own points."""
    accurate: bool
    """Whether at least 95 % of the fresh points are met to 5 % or 0.001 (`numpy.isclose`)."""
    r2: float
    """Coefficient of determination at the fresh points; minus infinity if the formula is undefined at one of them."""
    complexity: int
    """Nodes of its shortest form that is known; after an exact refit without noise, those of the refitted formula with
    its numbers tidied. 0 if there is no formula."""
    complexity_ratio: float
    """`complexity` over that of the true law; NaN if there is no formula."""


FAILED = LawScore(False, False, False, False, -np.inf, 0, np.nan)
"""The score where there is no formula."""


def score_law(formula: sympy.Expr | None, problem: LawProblem) -> LawScore:
    """Score a formula in the real symbols of `problem.names`; None, and what cannot be computed, has failed."""
    symbols = [sympy.Symbol(name, real=True) for name in problem.names]
    if formula is None or formula.free_symbols - set(symbols):
        return FAILED
    predicted = values_or_nan(formula, symbols, problem.fresh)
    r2 = _r2(predicted, problem.fresh_y)
    accurate = np.isclose(predicted, problem.fresh_y, rtol=_ACCURATE_RTOL, atol=_ACCURATE_ATOL).mean()
    exact = is_identical_law(formula, symbols, problem)
    fitted = _fitted(formula, symbols, problem)
    shown = formula
    if problem.noise == 0 and fitted is not None:
        tidied = _tidied(fitted, symbols, problem)
        shown = min((formula, tidied), key=complexity) if exact else tidied
    size = complexity(shortest_on_points(shown, symbols, problem))
    right_form = fitted is not None and (size <= problem.complexity or not _has_superfluous(fitted, symbols, problem))
    return LawScore(
        exact=exact,
        refitted=exact or fitted is not None,
        right_form=right_form,
        accurate=bool(accurate >= _ACCURATE_SHARE),
        r2=r2,
        complexity=size,
        complexity_ratio=size / problem.complexity,
    )


def is_identical_law(formula: sympy.Expr, symbols: Sequence[sympy.Symbol], problem: LawProblem) -> bool:
    """Whether a formula is the law; see `LawScore.exact`."""
    for x, y in ((problem.fresh, problem.fresh_y), (problem.extended, problem.extended_y)):
        error = np.abs(values_or_nan(formula, symbols, x) - y)
        allowed = np.maximum(EXACT_RTOL * np.abs(y), _FLOOR * np.sqrt(np.square(y).mean()))
        if not (error <= allowed).all():  # NaN is no less than anything
            return False
    return True


def _fitted(formula: sympy.Expr, symbols: Sequence[sympy.Symbol], problem: LawProblem) -> Parametrised | None:
    """The formula with constants with which it is the law; None if there are none."""
    try:
        form = parametrise(formula)
    except (ValueError, TypeError):
        return None
    constants = refit(form, symbols, problem.x, problem.clean, restarts=_RESTARTS)
    if constants is None:
        return None
    fitted = Parametrised(form.expression, form.constants, tuple(map(float, constants)))
    return fitted if is_identical_law(fitted.at(fitted.found), symbols, problem) else None


def _has_superfluous(fitted: Parametrised, symbols: Sequence[sympy.Symbol], problem: LawProblem) -> bool:
    for number in range(len(fitted.constants)):
        less = fitted.without(number)
        if less.expression.has(sympy.zoo, sympy.nan, sympy.oo, -sympy.oo):
            continue
        constants = refit(less, symbols, problem.x, problem.clean)
        if constants is not None and is_identical_law(less.at(constants), symbols, problem):
            return True
    return False


def _tidied(fitted: Parametrised, symbols: Sequence[sympy.Symbol], problem: LawProblem) -> sympy.Expr:
    """The fitted formula with simple numbers written as such, as far as it stays the law."""
    scale = max(map(abs, fitted.found), default=1.0)
    rounded = [0.0 if abs(value) < _SAME * scale else _rounded(value) for value in fitted.found]
    for values in (rounded, fitted.found):
        form = tidy_numbers(fitted.at(values))
        if is_identical_law(form, symbols, problem):
            return form
    return fitted.at(fitted.found)


def _rounded(value: float) -> float:
    short = float(f"{value:.4g}")
    return short if abs(short - value) <= _SAME * abs(value) else value


def shortest_on_points(formula: sympy.Expr, symbols: Sequence[sympy.Symbol], problem: LawProblem) -> sympy.Expr:
    """The shortest form known that has the formula's values at the fresh points: numbers are worked out, factors of 1
    dropped, and roots, powers and absolute values are simplified as those of positive variables where all points are
    positive. Formulas of more than 60 nodes are only tidied."""
    points = np.concatenate([problem.x, problem.fresh, problem.extended])
    own = {
        symbol: sympy.Symbol(symbol.name, real=True, positive=True if (points[:, column] > 0).all() else None)
        for column, symbol in enumerate(symbols)
    }
    best = tidy_numbers(formula)
    positive = _without_absolutes(best.xreplace(own), list(own.values()), points)
    forms = [best, positive, tidy_numbers(formula.evalf()), positive.evalf()]
    if complexity(positive) <= _LARGEST_TO_SIMPLIFY:
        forms += [tidy_numbers(form) for form in shorter_forms(positive, 1.0)]
        forms += [form.evalf() for form in forms[4:]]
    expected = values_or_nan(formula, symbols, problem.fresh)
    for form in sorted(forms, key=complexity):
        form = form.xreplace({new: old for old, new in own.items()})
        if np.allclose(values_or_nan(form, symbols, problem.fresh), expected, rtol=1e-9, atol=0, equal_nan=True):
            return form
    return formula


def _without_absolutes(formula: sympy.Expr, symbols: Sequence[sympy.Symbol], points: np.ndarray) -> sympy.Expr:
    """|u| is u or -u where u has one sign at all points."""

    def signed(argument: sympy.Expr) -> sympy.Expr:
        values = values_or_nan(argument, symbols, points)
        if (values >= 0).all():
            return argument
        return -argument if (values <= 0).all() else sympy.Abs(argument)

    return formula.replace(sympy.Abs, signed)


def _r2(predicted: np.ndarray, y: np.ndarray) -> float:
    if not np.isfinite(predicted).all():
        return -np.inf
    with np.errstate(all="ignore"):
        return float(1 - np.square(predicted - y).sum() / np.square(y - y.mean()).sum())
