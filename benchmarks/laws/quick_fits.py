"""The forms among which the study of the choice chooses, and their least-squares fits in milliseconds.

A form is a linear combination of basis functions that have constants of their own, y ≈ Φ(x; θ) β. For each θ the best β is
a projection (variable projection, Golub & Pereyra 1973): what is left is searched on a grid of θ, and from its best points
by damped Gauss-Newton steps (Levenberg and Marquardt) on the projected residual. θ lies in the units of the table, whose
variables are at most 1.

Legend: p point, v input variable, s start, q constant inside the basis functions, m basis function, k constant.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np

from emlinit.benchmarks.laws.suites import real_symbols
from emlinit.finetune.law.shape import told_nodes
from emlinit.generator.formulas.parse import parse_formula

MOST_CONSTANTS = 4
"""Of a form."""
_GRID_ROWS = 40  # of a table that are looked at on the grid
_STARTS, _STEPS = 4, 25
_STEP = 1e-6  # of a difference quotient, relative
_SINGULAR = 1e-9  # of a column's size: what is left of it beside the others

_Range = tuple[int | float, int | float]
CurveBasis = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Points (p, v) and θ (s, q, 1) to values (s, p, m)."""


@dataclass(frozen=True, eq=False)
class CurveForm:
    """One form of law."""

    formula: str
    """With some numbers in place of its constants: what it takes to be written."""
    basis: CurveBasis
    """Its functions."""
    ranges: tuple[_Range, ...] = ()
    """Lowest and highest of each constant inside them, of one sign if they are to be tried at all scales."""
    drawn: tuple[_Range, ...] | None = None
    """What the study draws these constants from: values that show in a table. None for a form that is no law of the study,
    and only lies near one."""
    ratio: _Range = (0.5, 2.0)
    """Standard deviations that its terms have in a table, and the size of a constant one: drawn between these."""
    points: int = 14
    """Of the grid in each direction."""

    @cached_property
    def n_variables(self) -> int:
        """1 or 2."""
        return 2 if "x2" in self.formula else 1

    @cached_property
    def n_constants(self) -> int:
        """Constants that are fitted."""
        return self.n_terms + len(self.ranges)

    @cached_property
    def n_terms(self) -> int:
        """Basis functions."""
        return int(self.basis(np.full((1, 2), 0.5), np.full((1, len(self.ranges), 1), 0.5)).shape[-1])

    @cached_property
    def nodes(self) -> int:
        """Nodes that it takes to say the form, as those of a law that is chosen from are counted."""
        return told_nodes(parse_formula(self.formula, real_symbols(self.n_variables)))

    @cached_property
    def grid(self) -> np.ndarray:
        """Starts, of shape (s, q)."""
        axes = [
            np.geomspace(low, high, self.points)
            if low * high > 0
            else np.sinh(np.linspace(np.arcsinh(low), np.arcsinh(high), 2 * self.points + 1))
            for low, high in self.ranges
        ]
        starts = list(itertools.product(*axes))
        return np.array(starts).reshape(len(starts), len(self.ranges))


@dataclass(frozen=True, eq=False)
class QuickFit:
    """A form, fitted."""

    squares: float
    """Sum of the squared residuals; infinite if it cannot be fitted."""
    leave_one_out: float
    """Sum of the squared errors at points that are left out, the form being linear near its fit (PRESS, Allen 1974)."""
    information: tuple[float, ...]
    """Eigenvalues of JᵀJ, J the derivatives by the logarithms of the constants; as many as `MOST_CONSTANTS`, filled with
    zeros."""


_FAILED = QuickFit(np.inf, np.inf, (0.0,) * MOST_CONSTANTS)


def quick_fit(form: CurveForm, x: np.ndarray, y: np.ndarray) -> QuickFit:
    """Fit a form by least squares.

    Args:
        form: what to fit; fails where there are no more points than constants.
        x: points, float64 of shape (p, v), each variable in (0, 1].
        y: targets, float64 of shape (p,).
    """
    if len(y) <= form.n_constants:
        return _FAILED
    with np.errstate(all="ignore"):
        theta = form.grid
        if form.ranges:
            some = slice(None, None, -(-len(y) // _GRID_ROWS))
            squares = np.square(_residuals(form, x[some], y[some], theta)).sum(-1)
            theta = _refined(form, x, y, theta[np.argsort(squares, kind="stable")[:_STARTS]])
        residual = _residuals(form, x, y, theta)
        squares = np.square(residual).sum(-1)
        best = int(np.argmin(squares))
        if not np.isfinite(squares[best]):
            return _FAILED
        return _read(form, x, y, theta[best], residual[best])


def _residuals(form: CurveForm, x: np.ndarray, y: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """What is left of y after its projection on the basis, of shape (s, p); infinite where the basis is degenerate."""
    basis = form.basis(x, theta[:, :, None])
    sizes = np.linalg.norm(basis, axis=1, keepdims=True)
    basis = basis / sizes
    bad = ~np.isfinite(basis).all((1, 2))
    basis[bad] = 0.0
    q, r = np.linalg.qr(basis)
    bad |= np.abs(np.diagonal(r, axis1=1, axis2=2)).min(-1) < _SINGULAR
    left = y - np.einsum("spm,sm->sp", q, np.einsum("spm,p->sm", q, y))
    left[bad] = np.inf
    return np.asarray(left)


def _refined(form: CurveForm, x: np.ndarray, y: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """Levenberg-Marquardt steps of all starts at once, within the ranges; of shape (s, q)."""
    low, high = np.array(form.ranges).T
    residual = _residuals(form, x, y, theta)
    squares, damping = np.square(residual).sum(-1), np.full(len(theta), 1e-3)
    for _ in range(_STEPS):
        columns = []
        for place in range(theta.shape[1]):
            step = np.where(np.abs(theta[:, place]) > _STEP, _STEP * np.abs(theta[:, place]), _STEP)
            moved = theta.copy()
            moved[:, place] += step
            columns.append((_residuals(form, x, y, moved) - residual) / step[:, None])
        jacobian = np.nan_to_num(np.stack(columns, -1), nan=0.0, posinf=0.0, neginf=0.0)
        known = np.nan_to_num(residual, nan=0.0, posinf=0.0)
        gram = np.einsum("spq,spr->sqr", jacobian, jacobian)
        diagonal = np.einsum("sqq->sq", gram) + 1e-300
        gram = gram + np.einsum("s,sq,qr->sqr", damping, diagonal, np.eye(theta.shape[1])) + 1e-290 * np.eye(len(low))
        step_of_all = np.linalg.solve(gram, -np.einsum("spq,sp->sq", jacobian, known)[:, :, None])[:, :, 0]
        moved = np.clip(theta + step_of_all, low, high)
        left = _residuals(form, x, y, moved)
        after = np.square(left).sum(-1)
        better = after < squares
        gained = np.where(better, squares - after, 0.0)
        theta, residual = np.where(better[:, None], moved, theta), np.where(better[:, None], left, residual)
        is_done = (gained <= 1e-9 * squares).all() and damping.min() > 1e-2
        squares = np.where(better, after, squares)
        damping = np.clip(np.where(better, damping / 8, damping * 5), 1e-12, 1e8)
        if is_done:
            break
    return theta


def _read(form: CurveForm, x: np.ndarray, y: np.ndarray, theta: np.ndarray, residual: np.ndarray) -> QuickFit:
    basis = form.basis(x, theta[None, :, None])[0]
    beta = np.linalg.lstsq(basis, y, rcond=None)[0]
    columns = [*(basis * beta).T]
    for place, value in enumerate(theta):
        moved = theta.copy()
        moved[place] += _STEP * max(abs(value), _STEP)
        changed = form.basis(x, moved[None, :, None])[0] @ beta
        columns.append((changed - basis @ beta) / _STEP)
    jacobian = np.stack(columns, -1)
    if not np.isfinite(jacobian).all():
        return _FAILED
    sizes = np.linalg.norm(jacobian, axis=0)
    u = np.linalg.svd(jacobian / np.where(sizes > 0, sizes, 1.0), full_matrices=False)[0]
    leverage = np.minimum(np.square(u).sum(-1), 1 - 1e-9)
    values = np.square(np.linalg.svd(jacobian, compute_uv=False))
    return QuickFit(
        float(residual @ residual),
        float(np.square(residual / (1 - leverage)).sum()),
        tuple(np.pad(values, (0, MOST_CONSTANTS - len(values))).tolist()),
    )


def _of(*functions: Callable[..., np.ndarray], n_variables: int = 1) -> CurveBasis:
    """Functions of each variable, of shape (1, p), and then of each constant, of shape (s, 1)."""

    def basis(x: np.ndarray, theta: np.ndarray) -> np.ndarray:
        arguments = [*(x[None, :, place] for place in range(n_variables)), *theta.transpose(1, 0, 2)]
        shape = (len(theta), len(x))
        return np.stack([np.broadcast_to(function(*arguments), shape) for function in functions], -1)

    return basis


def _of_two(*functions: Callable[..., np.ndarray]) -> CurveBasis:
    return _of(*functions, n_variables=2)


def _one(u: np.ndarray, *_: np.ndarray) -> np.ndarray:
    return np.ones_like(u)


def _power_of(exponent: int | float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda u: u**exponent


def _logistic(u: np.ndarray, m: np.ndarray, w: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-(u - m) / w)))


def _hill(u: np.ndarray, h: np.ndarray, n: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + (h / u) ** n))


def _bell(u: np.ndarray, m: np.ndarray, w: np.ndarray) -> np.ndarray:
    return np.asarray(np.exp(-0.5 * ((u - m) / w) ** 2))


_EXPONENT, _RATE, _MIDDLE, _WIDTH = (-6.0, 6.0), (-30.0, 30.0), (-0.5, 1.6), (0.02, 1.5)

CURVE_FORMS: Mapping[str, CurveForm] = {
    "constant": CurveForm("2.37", _of(_one), drawn=()),
    **{
        f"c x^{exponent}": CurveForm(f"2.37*x1**({exponent})", _of(_power_of(float(Fraction(exponent)))), drawn=())
        for exponent in ("-3", "-2", "-3/2", "-1", "-1/2", "1/2", "1", "3/2", "2", "3")
    },
    "a + b x": CurveForm("2.37 + 1.43*x1", _of(_one, _power_of(1)), drawn=()),
    "a + b/x": CurveForm("2.37 + 1.43/x1", _of(_one, _power_of(-1)), drawn=()),
    "a + b/x^2": CurveForm("2.37 + 1.43/x1**2", _of(_one, _power_of(-2)), drawn=()),
    "a + b x^2": CurveForm("2.37 + 1.43*x1**2", _of(_one, _power_of(2)), drawn=()),
    "a + b sqrt x": CurveForm("2.37 + 1.43*x1**(1/2)", _of(_one, _power_of(0.5)), drawn=()),
    "a + b ln x": CurveForm("2.37 + 1.43*log(x1)", _of(_one, np.log), drawn=()),
    "a x + b x^2": CurveForm("2.37*x1 + 1.43*x1**2", _of(_power_of(1), _power_of(2))),
    "quadratic": CurveForm("2.37 + 1.43*x1 + 0.61*x1**2", _of(_one, _power_of(1), _power_of(2)), drawn=()),
    "cubic": CurveForm(
        "2.37 + 1.43*x1 + 0.61*x1**2 + 0.83*x1**3", _of(_one, *(_power_of(e) for e in (1, 2, 3))), drawn=()
    ),
    "power": CurveForm("2.37*x1**1.43", _of(lambda u, p: u**p), (_EXPONENT,), ((-3.3, 3.7),)),
    "a + power": CurveForm("2.37 + 1.43*x1**0.61", _of(_one, lambda u, p: u**p), (_EXPONENT,), ((-2.7, 3.7),)),
    "exponential": CurveForm("2.37*exp(-1.43*x1)", _of(lambda u, b: np.exp(b * u)), (_RATE,), ((-4, 4),)),
    "a + exponential": CurveForm(
        "2.37 + 1.43*exp(-0.61*x1)", _of(_one, lambda u, b: np.exp(b * u)), (_RATE,), ((-5, 4),)
    ),
    "charge": CurveForm("2.37*(1 - exp(-1.43*x1))", _of(lambda u, b: 1 - np.exp(-b * u)), ((0.05, 60),), ((1.5, 6),)),
    "saturation": CurveForm("2.37*x1/(1.43 + x1)", _of(lambda u, k: u / (k + u)), ((0.005, 30),), ((0.1, 0.8),)),
    "1/(a + b x)": CurveForm("2.37/(1.43 + x1)", _of(lambda u, k: 1 / (k + u)), ((0.005, 30),), ((0.1, 0.8),)),
    "hill": CurveForm("2.37*x1**1.7/(1.43 + x1**1.7)", _of(_hill), ((0.03, 5), (0.4, 8)), ((0.2, 0.6), (1.5, 4))),
    "a + hill": CurveForm(
        "0.61 + 2.37/(1.43 + x1**1.7)", _of(_one, _hill), ((0.03, 5), (0.4, 8)), ((0.2, 0.6), (1.5, 4))
    ),
    "logistic": CurveForm(
        "2.37/(1 + exp(1.43 - 0.61*x1))", _of(_logistic), (_MIDDLE, _WIDTH), ((0.3, 0.7), (0.06, 0.16))
    ),
    "a + logistic": CurveForm(
        "0.83 + 2.37/(1 + exp(1.43 - 0.61*x1))",
        _of(_one, _logistic),
        (_MIDDLE, _WIDTH),
        ((0.35, 0.65), (0.06, 0.13)),
    ),
    "gompertz": CurveForm(
        "2.37*exp(-exp(1.43 - 0.61*x1))",
        _of(lambda u, m, w: np.exp(-np.exp(-(u - m) / w))),
        (_MIDDLE, _WIDTH),
        ((0.2, 0.5), (0.08, 0.25)),
    ),
    "weibull": CurveForm(
        "2.37*(1 - exp(-1.43*x1**1.7))",
        _of(lambda u, t, p: 1 - np.exp(-((u / t) ** p))),
        ((0.03, 5), (0.3, 8)),
        ((0.3, 0.7), (1.4, 3)),
    ),
    "stretched": CurveForm(
        "2.37*exp(-1.43*x1**0.61)",
        _of(lambda u, t, p: np.exp(-((u / t) ** p))),
        ((0.03, 5), (0.3, 8)),
        ((0.2, 0.7), (1.4, 3)),
    ),
    "gaussian": CurveForm("2.37*exp(-(x1 - 1.43)**2/0.61)", _of(_bell), (_MIDDLE, _WIDTH), ((0.3, 0.7), (0.08, 0.3))),
    "a + gaussian": CurveForm(
        "0.83 + 2.37*exp(-(x1 - 1.43)**2/0.61)", _of(_one, _bell), (_MIDDLE, _WIDTH), ((0.3, 0.7), (0.08, 0.2))
    ),
    "arrhenius": CurveForm("2.37*exp(-1.43/x1)", _of(lambda u, b: np.exp(-b / u)), ((-60, 60),), ((0.3, 4),)),
    "damped": CurveForm(
        "2.37*exp(-1.43*x1)*cos(0.61*x1)",
        _of(lambda u, g, w: np.exp(-g * u) * np.cos(w * u)),
        ((0.05, 12), (1, 40)),
        ((0.8, 3), (6, 25)),
        points=24,
    ),
    "damped with a phase": CurveForm(
        "2.37*exp(-1.43*x1)*cos(0.61*x1 + 0.83)",
        _of(lambda u, g, w: np.exp(-g * u) * np.cos(w * u), lambda u, g, w: np.exp(-g * u) * np.sin(w * u)),
        ((0.05, 12), (1, 40)),
        ((0.8, 3), (6, 25)),
        points=24,
    ),
    "wave": CurveForm(
        "2.37*cos(0.61*x1 + 0.83)",
        _of(lambda u, w: np.cos(w * u), lambda u, w: np.sin(w * u)),
        ((1, 40),),
        ((6, 25),),
        points=60,
    ),
    "x exponential": CurveForm("2.37*x1*exp(-1.43*x1)", _of(lambda u, b: u * np.exp(-b * u)), ((-6, 30),), ((1.5, 6),)),
    # What nobody drew, and what a search finds all the same.
    "exp(-b sqrt x)": CurveForm("2.37*exp(-1.43*x1**(1/2))", _of(lambda u, b: np.exp(b * u**0.5)), (_RATE,)),
    "exp(-b/sqrt x)": CurveForm("2.37*exp(-1.43*x1**(-1/2))", _of(lambda u, b: np.exp(-b * u**-0.5)), ((-60, 60),)),
    "exp(-b x^2)": CurveForm("2.37*exp(-1.43*x1**2)", _of(lambda u, b: np.exp(b * u**2)), (_RATE,)),
    "1/(x^2 + k)": CurveForm("2.37/(x1**2 + 1.43)", _of(lambda u, k: 1 / (u**2 + k)), ((0.001, 30),)),
    "1/sqrt(x^2 + k)": CurveForm("2.37*(x1**2 + 1.43)**(-1/2)", _of(lambda u, k: (u**2 + k) ** -0.5), ((0.001, 30),)),
    "sqrt(x^2 + k)": CurveForm("2.37*(x1**2 + 1.43)**(1/2)", _of(lambda u, k: (u**2 + k) ** 0.5), ((0.001, 30),)),
    "x/sqrt(x + k)": CurveForm("2.37*x1*(x1 + 1.43)**(-1/2)", _of(lambda u, k: u * (u + k) ** -0.5), ((0.005, 30),)),
    "ln(x + k)": CurveForm("2.37*log(x1 + 1.43)", _of(lambda u, k: np.log(u + k)), ((0.005, 30),)),
    "c x ln x": CurveForm("2.37*x1*log(x1)", _of(lambda u: u * np.log(u))),
    "c x1 x2": CurveForm("2.37*x1*x2", _of_two(lambda u, w: u * w), drawn=()),
    "c x1/x2": CurveForm("2.37*x1/x2", _of_two(lambda u, w: u / w), drawn=()),
    "a + b x1 x2": CurveForm("2.37 + 1.43*x1*x2", _of_two(lambda u, w: 1 + 0 * u, lambda u, w: u * w), drawn=()),
    "a x1 + b x2": CurveForm("2.37*x1 + 1.43*x2", _of_two(lambda u, w: u, lambda u, w: w), drawn=()),
    "plane": CurveForm(
        "2.37 + 1.43*x1 + 0.61*x2", _of_two(lambda u, w: 1 + 0 * u, lambda u, w: u, lambda u, w: w), drawn=()
    ),
    "c x1^p x2^q": CurveForm(
        "2.37*x1**1.43*x2**0.61",
        _of_two(lambda u, w, p, q: u**p * w**q),
        (_EXPONENT, _EXPONENT),
        ((-2.2, 2.8), (-2.2, 2.8)),
        points=6,
    ),
    "c x1 exp(-b x2)": CurveForm(
        "2.37*x1*exp(-1.43*x2)", _of_two(lambda u, w, b: u * np.exp(b * w)), (_RATE,), ((-4, 4),)
    ),
    "c x1 x2^q": CurveForm("2.37*x1*x2**1.43", _of_two(lambda u, w, q: u * w**q), (_EXPONENT,), ((-2.2, 2.8),)),
}
"""By name. In a table of two variables those of one are of the first."""
