"""The last touch to the law that is reported: the form that people know, and the short numbers that stand behind long ones.

A search finds 1.6e-267/(1.9e-269 + exp(-0.31 t)), and snaps the constants of that. The numbers of the form that is
printed, 85/(1 + exp(-0.31 (t - 1996))), may be simple where those of the program are not. So the constants are fitted once
more in that form (Gauss and Newton, from a start that is right already), and each that the data fix to many digits becomes
a short number if that says the same:

    1 + ln(1 + |c|/σ)  of a free constant   against   the cost of the short number + z²/2,    z = (c - short)/σ

Fixing one moves the others along their covariance. The program is then compiled from the formula.

Legend: p point, v input variable, k constant.
"""

from collections.abc import Mapping

import numpy as np
import sympy

from emlinit.finetune.fitting.prices import free_cost, integer_cost
from emlinit.finetune.fitting.simple_values import simple_values
from emlinit.finetune.law import lowering
from emlinit.finetune.law.finding import Finding
from emlinit.finetune.law.language import Language
from emlinit.finetune.law.law import AGREEMENT, Law
from emlinit.finetune.law.standard_errors import with_numbers
from emlinit.generator.errors import UserError
from emlinit.generator.formulas.compile_weighted import compile_weighted
from emlinit.generator.formulas.decompile import tidy_numbers
from emlinit.generator.formulas.expression import size_at_most
from emlinit.generator.formulas.known_forms import known_forms, replaced

_MOST_CONSTANTS = 8
_STEPS = 4  # of Gauss and Newton
_STEP = 6e-6  # of a central difference, relative: the cube root of the rounding unit
_CERTAIN = 1e-4  # relative error of a constant that may be rounded: a measured one keeps its digits and its error
_FARTHEST = 6.0  # standard errors
_DIGITS = 7  # of a short number
_ROUNDING = 1e-14  # of the target's size: the least error of a fit


def polished(
    finding: Finding, x: np.ndarray, y: np.ndarray, language: Language, weights: np.ndarray | None = None
) -> Finding:
    """The law in the form that people know, its long numbers short ones where the data allow it; the law itself if nothing
    is gained or a form does not hold.

    Args:
        finding: the law to report, its constants fitted to the rows.
        x: rows, float64 of shape (p, v), the columns of the law.
        y: targets, float64 of shape (p,).
        language: what it may be written in.
        weights: of the rows, positive, of mean 1; None: all alike.
    """
    law = finding.law
    n_fitted = finding.n_fitted
    root = np.ones(len(y)) if weights is None else np.sqrt(weights)
    for known in [*known_forms(law.expression), law.expression]:
        form = language.form(known)
        if form is None:
            continue
        start = Law(law.program, law.names, form)
        if size_at_most(form) > max(language.max_complexity, finding.size):
            continue
        try:
            better = _rounded(start, x, y, root)
        except (ArithmeticError, ValueError, UserError, np.linalg.LinAlgError):
            continue
        if better is None or (better.expression == law.expression):
            continue
        found = Finding.of(
            better,
            x,
            y,
            grammar=finding.grammar,
            origin=finding.origin,
            n_distinct=finding.n_distinct,
            misfit=finding.misfit,
        )
        if found.n_fitted <= n_fitted and (found.is_exact or not finding.is_exact):
            return found
    return finding


class _Form:
    """A formula with symbols in place of its decimal numbers; those that differ in sign only are one.

    Numbers are put into the formula as it was given, so that what is not evaluated in it stays so.
    """

    def __init__(self, law: Law, short: Mapping[float, sympy.Expr] | None = None) -> None:
        """`short` holds the constants that are numbers already, by their size in the law."""
        self.law = law
        self.short = dict(short or {})
        self.sizes = sorted({abs(float(atom)) for atom in law.expression.atoms(sympy.Float)} - set(self.short))
        self.values = np.array(self.sizes)
        constants = [sympy.Dummy(f"c{number}", real=True) for number in range(len(self.sizes))]
        expression = self._with(dict(zip(self.sizes, constants, strict=True)))
        self.predictor = lowering.lower(expression, (*law.symbols, *constants))

    def with_number(self, place: int, number: float, values: np.ndarray) -> "_Form":
        """One constant written as a number, the others at these values."""
        form = _Form(self.law, {**self.short, self.sizes[place]: tidy_numbers(sympy.Float(number))})
        form.values = np.delete(values, place)
        return form

    def written(self) -> sympy.Expr:
        """The formula."""
        numbers = (tidy_numbers(sympy.Float(float(value))) for value in self.values)
        return _without_ones(self._with(dict(zip(self.sizes, numbers, strict=True))))

    def _with(self, numbers: Mapping[float, sympy.Expr]) -> sympy.Expr:
        return with_numbers(self.law, {**self.short, **numbers})

    def predict(self, x: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Values of shape (p,) with other constants."""
        return lowering.evaluate_real(
            self.predictor, np.column_stack([x, np.broadcast_to(values, (len(x), len(values)))])
        )

    def jacobian(self, x: np.ndarray, root: np.ndarray) -> np.ndarray:
        """Derivatives by the constants, times the roots of the weights, of shape (p, k): central differences, since that of
        |x - c| is no plain formula."""
        steps = np.diag(_STEP * np.abs(self.values))
        columns = [
            (self.predict(x, self.values + step) - self.predict(x, self.values - step)) / (2 * step[place])
            for place, step in enumerate(steps)
        ]
        return np.column_stack([root * column for column in columns])


def _rounded(law: Law, x: np.ndarray, y: np.ndarray, root: np.ndarray) -> Law | None:
    """The law with its constants fitted again and some of them short; None if it cannot be fitted so."""
    form = _Form(law)
    if not 0 < len(form.values) <= _MOST_CONSTANTS or len(y) <= len(form.values) + 1:
        return None
    squares = _fit(form, x, y, root)
    floor = len(y) * (_ROUNDING * np.sqrt(np.mean(y**2))) ** 2
    if squares is None or not squares <= (1 + 1e-9) * float(np.sum((root * (law.predict(x) - y)) ** 2)) + floor:
        return None
    variance = max(squares, floor) / (len(y) - len(form.values))
    tried: set[tuple[float, float]] = set()
    while len(form.values):
        move = _best_move(form, x, root, variance, tried)
        if move is None:
            break
        place, number, saved, values = move
        tried.add((form.sizes[place], number))
        fixed = form.with_number(place, number, values)
        after = _fit(fixed, x, y, root)
        if after is not None and (after - squares) / (2 * variance) < saved:
            form, squares = fixed, after
    return _compiled(law, form.written(), x)


def _compiled(law: Law, expression: sympy.Expr, x: np.ndarray) -> Law | None:
    symbols = [
        sympy.Symbol(symbol.name, positive=True) if (column > 0).all() else sympy.Symbol(symbol.name, real=True)
        for symbol, column in zip(law.symbols, x.T, strict=True)
    ]
    there = dict(zip(law.symbols, symbols, strict=True))
    written = Law(compile_weighted(expression.xreplace(there), symbols), law.names, expression)
    return written if written.disagreement(x) <= AGREEMENT else None


def _fit(form: _Form, x: np.ndarray, y: np.ndarray, root: np.ndarray) -> float | None:
    """Gauss-Newton steps on the constants as long as they help; the weighted sum of squares, None if it is not finite."""
    residual = root * (y - form.predict(x, form.values))
    best = float(residual @ residual)
    for _ in range(_STEPS if len(form.values) else 0):
        if not np.isfinite(best):
            return None
        step = np.linalg.lstsq(form.jacobian(x, root), residual, rcond=None)[0]
        values = form.values + step
        moved = root * (y - form.predict(x, values))
        after = float(moved @ moved)
        if not after < best:
            break
        form.values, residual, best = values, moved, after
    return best if np.isfinite(best) else None


def _best_move(
    form: _Form, x: np.ndarray, root: np.ndarray, variance: float, tried: set[tuple[float, float]]
) -> tuple[int, float, float, np.ndarray] | None:
    """The constant to fix, its short number, the nats saved by it, and where it moves all constants."""
    jacobian = form.jacobian(x, root)
    sizes = np.linalg.norm(jacobian, axis=0)
    if not (np.isfinite(sizes).all() and (sizes > 0).all()):
        return None
    inverse = np.linalg.pinv((jacobian / sizes).T @ (jacobian / sizes)) / np.outer(sizes, sizes)
    best: tuple[int, float, float, np.ndarray] | None = None
    gain = 0.0
    for place, value in enumerate(form.values.tolist()):
        error = float(np.sqrt(variance * inverse[place, place]))
        if not 0 < error < _CERTAIN * abs(value):
            continue
        for number, cost in _short_numbers(value, error):
            if number == 0 or (form.sizes[place], number) in tried:
                continue
            saved = free_cost(value, error) - cost
            z = (value - number) / error
            if abs(z) <= _FARTHEST and saved - z**2 / 2 > gain:
                gain = saved - z**2 / 2
                values = form.values + inverse[:, place] / inverse[place, place] * (number - value)
                best = place, number, saved, values
    return best


def _short_numbers(value: float, error: float) -> list[tuple[float, float]]:
    """Simple numbers near a constant, and decimal ones of few digits, with what they cost in nats."""
    found = simple_values(value, error, largest_z=_FARTHEST)
    for digits in range(1, _DIGITS + 1):
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        whole, places = abs(round(float(mantissa) * 10 ** (digits - 1))), abs(int(exponent) - digits + 1)
        if whole % 10:
            found.append((float(f"{value:.{digits - 1}e}"), integer_cost(whole) + integer_cost(1 + places)))
    return found


def _without_ones(expression: sympy.Expr) -> sympy.Expr:
    """What is left of products that are not evaluated once a factor in them became 1."""
    if not expression.args:
        return expression
    args = [_without_ones(arg) for arg in expression.args]
    if expression.is_Mul and sympy.S.One in args:
        args = [arg for arg in args if arg != 1]
        return args[0] if len(args) == 1 else sympy.Mul(*args, evaluate=False)
    if all(new is old for new, old in zip(args, expression.args, strict=True)):
        return expression
    return replaced(expression, dict(zip(expression.args, args, strict=True)))
