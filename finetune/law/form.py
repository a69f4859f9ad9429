"""A law whose form is given: its values, its derivatives by its constants, and the constants that fit data best.

Where the form is linear in some of the constants, as in f = φ₀(c) + Φ(c) a, the best a for given c is known (variable
projection, Golub and Pereyra 1973), so that only c is searched for:

    a(c) = Φ⁺ (y - φ₀),     residual(c) = P (y - φ₀),     ∂ residual / ∂ c ≈ -P ∂f/∂c at a(c),     P = 1 - Φ Φ⁺

The approximation is Kaufman's (1975); the last steps are taken in all constants with the full Jacobian. Derivatives are
symbolic: differences would leave some six digits of the constants, and fewer where they trade off.

Legend: s start, p point, v input variable, k constant.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import sympy
from jaxtyping import Float64
from scipy.optimize import least_squares

from emlinit.finetune.law.lowering import Node, evaluate_complex, lower
from emlinit.generator.errors import UserError
from emlinit.generator.formulas.parse import names_in, parse_formula
from emlinit.generator.formulas.printing import formula_text, shortened

_ROUNDING = 1e-13  # singular values below this share of the largest hold rounding errors only
_DEPENDENT = 1e-10  # below this share (of unit columns) they say that constants trade off
_TOUCHED = 1e-6  # share of a constant in such a direction from which it counts as undetermined
_STEP = 6e-6  # cube root of the rounding error: best for a central difference
_ROWS_TO_SEARCH = 1000  # starts are compared on so many rows; the last fit is on all of them
_DRAWS = 1000  # starts of a round
_TRIES = 4  # of them, from which a minimum is looked for
_QUIET_ROUNDS = 4  # without a better minimum, a constant to be drawn and one, after which the search ends
_NUMBERS_AT_ONCE = 2**20  # values of the form held at once
_SAME = 1e-6  # relative difference up to which two sums of squares are of one minimum
_POWERS = (-3.0, 1.5)  # of the data's scale, between which magnitudes are drawn: coefficients of x³, squares of places


@dataclass(frozen=True, eq=False)
class Form:
    """A formula with variables and constants to be fitted."""

    expression: sympy.Expr
    """The formula; its free symbols are the two below."""
    variables: tuple[sympy.Symbol, ...]
    """One a column of x, real."""
    constants: tuple[sympy.Symbol, ...]
    """What is fitted, real."""

    @cached_property
    def linear(self) -> np.ndarray:
        """Whether the form is linear in a constant and in those marked before it together, of shape (k,)."""
        found: list[sympy.Symbol] = []
        for constant, slope in zip(self.constants, self._slopes, strict=True):
            if not slope.has(constant, *found):
                found.append(constant)
        return np.array([constant in found for constant in self.constants])

    def values(self, constants: np.ndarray, x: np.ndarray) -> np.ndarray:
        """The form at points x of shape (p, v) for several choices of its constants, of shape (s, k).

        Returns:
            float64 of shape (s, p), NaN where it is not real.
        """
        return self._run(self._value, constants, x)

    def derivatives(self, constants: np.ndarray, x: np.ndarray, chosen: np.ndarray | None = None) -> np.ndarray:
        """Derivatives by the chosen constants (a mask of shape (k,); all without one), of shape (s, p, chosen).

        Where the symbolic one is undefined, such as that of x^c at x = 0, it is a central difference.
        """
        indices = [k for k in range(len(self.constants)) if chosen is None or chosen[k]]
        columns = [self._derivative(k, constants, x) for k in indices]
        return np.stack(columns, 2) if columns else np.zeros((len(constants), len(x), 0))

    def covariance(self, constants: Float64[np.ndarray, " k"], x: Float64[np.ndarray, "p v"], rss: float) -> np.ndarray:
        """Covariance of fitted constants, s² (Jᵀ J)⁻¹, of shape (k, k).

        Where the data do not determine a constant its variance is infinite and its other entries are NaN.
        """
        jacobian = self.derivatives(constants[None], x)[0]
        n_points, n_constants = jacobian.shape
        norms = np.sqrt(np.square(jacobian).sum(0))
        usable = bool(np.isfinite(norms).all()) and n_points > n_constants
        scale = np.where(usable & (norms > 0), norms, 1.0)
        _, values, vectors = np.linalg.svd(jacobian / scale if usable else np.zeros_like(jacobian), full_matrices=False)
        weak = values <= _DEPENDENT * values.max()
        touched = (np.abs(vectors[weak]) > _TOUCHED).any(0)
        half = vectors[~weak] / values[~weak, None] / scale
        result: np.ndarray = half.T @ half * rss / max(n_points - n_constants, 1)
        result[touched] = result[:, touched] = np.nan
        result[touched, touched] = np.inf
        return result

    def formula(self, constants: Float64[np.ndarray, " k"]) -> str:
        """The formula with numbers for its constants, at full precision."""
        numbers = dict(zip(self.constants, map(sympy.Float, constants.tolist()), strict=True))
        return formula_text(self.expression.xreplace(numbers))

    def steepness(self, constants: np.ndarray, x: np.ndarray) -> float:
        """Sum of the squares of the derivatives by the variables, each in units of its largest value."""
        slopes = [self._run(node, constants[None], x)[0] for node in self._steepness_nodes]
        return float(
            sum(np.square(slope * column).sum() for slope, column in zip(slopes, np.abs(x).max(0), strict=True))
        )

    def _derivative(self, k: int, constants: np.ndarray, x: np.ndarray) -> np.ndarray:
        result = self._run(self._slope_nodes[k], constants, x)
        undefined = ~np.isfinite(result)
        if undefined.any():
            step = np.zeros_like(constants)
            step[:, k] = _STEP * np.maximum(np.abs(constants[:, k]), _STEP)
            moved = self.values(constants + step, x) - self.values(constants - step, x)
            result[undefined] = (moved / (2 * step[:, k, None]))[undefined]
        return result

    def _run(self, node: Node, constants: np.ndarray, x: np.ndarray) -> np.ndarray:
        columns = np.column_stack([np.tile(x, (len(constants), 1)), np.repeat(constants, len(x), 0)])
        result = evaluate_complex(node, columns)
        real = np.where(result.imag == 0, result.real, np.nan)
        return real.reshape(len(constants), len(x))

    @cached_property
    def _symbols(self) -> list[sympy.Symbol]:
        return [*self.variables, *self.constants]

    @cached_property
    def _slopes(self) -> list[sympy.Expr]:
        return [self.expression.diff(constant) for constant in self.constants]

    @cached_property
    def _value(self) -> Node:
        return lower(self.expression, self._symbols)

    @cached_property
    def _steepness_nodes(self) -> list[Node]:
        return [lower(self.expression.diff(variable), self._symbols) for variable in self.variables]

    @cached_property
    def _slope_nodes(self) -> list[Node]:
        return [lower(slope, self._symbols) for slope in self._slopes]


@dataclass(frozen=True, eq=False)
class FormFit:
    """Constants of a form that are a minimum of the sum of squares."""

    constants: np.ndarray
    """Float64 of shape (k,)."""
    rss: float
    """Sum of the squares of the residuals."""
    converged: bool = False
    """Whether the last steps changed neither the constants nor the sum of squares."""


def parsed_form(text: str, columns: Sequence[str]) -> Form:
    """A form from text: names of columns are its variables, every other name is a constant.

    Raises:
        UserError: it is no formula, names no column or no constant, or one of its constants drops out.
    """
    constants = [sympy.Symbol(name, real=True) for name in names_in(text) if name not in columns]
    variables = [sympy.Symbol(name, real=True) for name in columns]
    expression = parse_formula(text, [*variables, *constants])
    there = ", ".join(columns)
    if not constants:
        raise UserError(f"'{shortened(text)}' has no constants to fit: every name but {shortened(there)} is one")
    if not expression.free_symbols & {*variables}:
        raise UserError(f"'{shortened(text)}' names no column of X: it has {shortened(there)}")
    lost = [constant.name for constant in constants if constant not in expression.free_symbols]
    if lost:
        raise UserError(f"the constant '{lost[0]}' drops out of '{shortened(text)}': leave it out")
    return Form(expression, tuple(variables), tuple(constants))


def best_fit(
    form: Form,
    x: Float64[np.ndarray, "p v"],
    y: Float64[np.ndarray, " p"],
    start: Float64[np.ndarray, " k"],
    *,
    seconds: float,
    rng: np.random.Generator,
) -> FormFit | None:
    """The constants with the least sum of squares that is found; None if no start is defined at all points.

    Args:
        form: what is fitted.
        x: finite points.
        y: finite targets.
        start: where to begin, NaN for a constant without a start. If none is missing in which the form is not linear,
            this is the only start, else many are drawn.
        seconds: time to look for a start; the last fit is not cut short.
        rng: draws the starts.
    """
    deadline = time.monotonic() + seconds
    drawn = np.isnan(start) & ~form.linear
    if drawn.any():
        chosen = rng.permutation(len(y))[:_ROWS_TO_SEARCH]
        ends = [_searched(form, x[chosen], y[chosen], start, deadline, rng)]
    else:  # either way may end in a minimum of its own
        ends = [_descend(form, start, x, y), None if np.isnan(start).any() else _polished(form, start, x, y)]
    found = min((end for end in ends if end is not None), key=lambda end: end.rss, default=None)
    return None if found is None else _polished(form, _mirrored(form, found.constants, x, y, drawn), x, y)


def _searched(
    form: Form, x: np.ndarray, y: np.ndarray, start: np.ndarray, deadline: float, rng: np.random.Generator
) -> FormFit | None:
    """The best minimum of rounds of starts, which end when many rounds in a row found none better.

    In every other round some constants of the best minimum are drawn anew: of several peaks those that are found stay.
    """
    best: FormFit | None = None
    n_rounds = quiet = 0
    while quiet < _QUIET_ROUNDS * (1 + np.isnan(start[~form.linear]).sum()):
        starts = _drawn_starts(x, start, rng)
        if best is not None and n_rounds % 2:
            starts = np.where(np.isnan(start) & (rng.random(starts.shape) < 0.5), best.constants, starts)
        n_rounds, quiet = n_rounds + 1, quiet + 1
        for constants in _promising(form, starts, x, y):
            end = _descend(form, constants, x, y)
            if end is not None and (best is None or _is_better(form, end, best, x)):
                best, quiet = end, 0
            if time.monotonic() > deadline:
                return best
        if time.monotonic() > deadline:
            return best
    return best


def _is_better(form: Form, one: FormFit, other: FormFit, x: np.ndarray) -> bool:
    """Whether a fit has the smaller sum of squares or, at the same one, is the smoother: at even steps of x an oscillation
    has faster aliases that meet the same points."""
    if abs(one.rss - other.rss) > _SAME * other.rss:
        return bool(one.rss < other.rss)
    return form.steepness(one.constants, x) < (1 - _SAME) * form.steepness(other.constants, x)


def _drawn_starts(x: np.ndarray, start: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Starts of shape (s, k): each constant is a place among the data, or a number of either sign whose magnitude is spread
    evenly in its logarithm, around powers of the data's scale."""
    shape = (_DRAWS, len(start))
    places = x[rng.integers(len(x), size=shape), rng.integers(x.shape[1], size=shape)]
    scales = np.log10(np.maximum(np.abs(x).max(0), np.finfo(float).tiny))[rng.integers(x.shape[1], size=shape)]
    exponents = rng.uniform(*_POWERS, shape) * scales + rng.uniform(-1.5, 1.5, shape)
    magnitudes = rng.choice([-1.0, 1.0], shape) * 10**exponents
    drawn = np.where(rng.random(shape) < 0.3, places, magnitudes)
    return np.where(np.isnan(start), drawn, start)


def _promising(form: Form, starts: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The starts of the least sum of squares after the linear constants are solved for."""
    at_once = max(1, _NUMBERS_AT_ONCE // (len(x) * (1 + int(form.linear.sum()))))
    sums = [_projected_rss(form, starts[i : i + at_once], x, y) for i in range(0, len(starts), at_once)]
    rss = np.concatenate(sums)
    order = np.argsort(rss)[:_TRIES]
    chosen: np.ndarray = starts[order[np.isfinite(rss[order])]]
    return chosen


def _projected_rss(form: Form, starts: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Sum of squares for each start with the best linear constants, of shape (s,); infinite where undefined."""
    starts = np.where(form.linear, 0.0, starts)
    with np.errstate(all="ignore"):
        rest = y - form.values(starts, x)
        columns = form.derivatives(starts, x, form.linear)
        columns = columns / np.maximum(np.abs(columns).max(1, keepdims=True, initial=0.0), np.finfo(float).tiny)
        defined = np.isfinite(rest).all(1) & np.isfinite(columns).all((1, 2))
        basis = np.linalg.qr(np.where(defined[:, None, None], columns, 0.0))[0]
        rest = rest - np.einsum("spl,sql,sq->sp", basis, basis, np.where(defined[:, None], rest, 0.0), optimize=True)
        return np.where(defined, np.square(rest).sum(1), np.inf)


class _Projection:
    """The residual with the linear constants at their best, and its derivatives by the others."""

    def __init__(self, form: Form, x: np.ndarray, y: np.ndarray) -> None:
        self.form, self.x, self.y = form, x, y
        self.at: np.ndarray | None = None
        self.residual = self.constants = np.zeros(0)

    def solve(self, nonlinear: np.ndarray) -> None:
        if self.at is not None and (self.at == nonlinear).all():
            return
        linear = self.form.linear
        constants = np.zeros(len(linear))
        constants[~linear] = nonlinear
        rest = self.y - self.form.values(constants[None], self.x)[0]
        columns = self.form.derivatives(constants[None], self.x, linear)[0]
        self.at, self.constants, self.basis, self.residual = nonlinear.copy(), constants, columns, rest
        if not np.isfinite(columns).all() or not np.isfinite(rest).all():
            self.residual = np.full(len(rest), np.nan)
        elif linear.any():
            scale = np.abs(columns).max(0)
            scale[scale == 0] = 1.0
            u, values, vt = np.linalg.svd(columns / scale, full_matrices=False)
            kept = values > _ROUNDING * values[0]
            self.basis = u[:, kept]
            self.residual = rest - self.basis @ (self.basis.T @ rest)
            constants[linear] = vt[kept].T @ ((self.basis.T @ rest) / values[kept]) / scale

    def __call__(self, nonlinear: np.ndarray) -> np.ndarray:
        self.solve(nonlinear)
        return self.residual

    def rss(self, constants: np.ndarray) -> float:
        with np.errstate(all="ignore"):
            return float(np.square(self(constants[~self.form.linear])).sum())

    def jacobian(self, nonlinear: np.ndarray) -> np.ndarray:
        self.solve(nonlinear)
        slopes = self.form.derivatives(self.constants[None], self.x, ~self.form.linear)[0]
        slopes = np.where(np.isfinite(slopes), slopes, 0.0)
        return np.asarray(self.basis @ (self.basis.T @ slopes) - slopes)


def _descend(form: Form, constants: np.ndarray, x: np.ndarray, y: np.ndarray) -> FormFit | None:
    """The minimum below a start, found in the constants in which the form is not linear; None if it is undefined there."""
    projection = _Projection(form, x, y)
    nonlinear = constants[~form.linear]
    with np.errstate(all="ignore"):
        if not np.isfinite(projection(nonlinear)).all():
            return None
        if len(nonlinear):
            nonlinear = least_squares(
                projection,
                nonlinear,
                projection.jacobian,
                x_scale="jac",
                ftol=1e-10,
                xtol=1e-10,
                gtol=None,
                max_nfev=100,
            ).x
        rss = float(np.square(projection(nonlinear)).sum())
    return FormFit(projection.constants, rss)


def _mirrored(form: Form, constants: np.ndarray, x: np.ndarray, y: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """The same fit with positive numbers where the sign tells nothing, as that of a width that is squared."""
    projection = _Projection(form, x, y)
    rss = projection.rss(constants)
    for k in np.flatnonzero(drawn & (constants < 0)):
        mirrored = constants.copy()
        mirrored[k] *= -1
        if projection.rss(mirrored) <= (1 + _SAME) * rss:
            constants = projection.constants
    return constants


def _polished(form: Form, constants: np.ndarray, x: np.ndarray, y: np.ndarray) -> FormFit | None:
    """The last steps, in all constants at once; None if the form is undefined there."""

    def residual(at: np.ndarray) -> np.ndarray:
        return np.asarray(form.values(at[None], x)[0] - y)

    def jacobian(at: np.ndarray) -> np.ndarray:
        slopes = form.derivatives(at[None], x)[0]
        return np.where(np.isfinite(slopes), slopes, 0.0)

    if not np.isfinite(residual(constants)).all():
        return None
    with np.errstate(all="ignore"):
        end = least_squares(
            residual, constants, jacobian, x_scale="jac", ftol=1e-15, xtol=1e-15, gtol=None, max_nfev=1000
        )
    return FormFit(end.x, float(np.square(end.fun).sum()), end.status > 0)
