"""Outside the data: the rim of the rows is held out once, and predicted by the law as the inner rows have it.

Rows drawn at random lie between others, so that whatever follows the data holds on them; a wrong form shows beyond the
rows that it was fitted to. The constants of the chosen form are fitted to the inner rows alone. What the form may miss the
rim by is known: with e the errors there, G = H gᵀ the root of the covariance of the values (`law.standard_errors`) and
σ² the noise of a measurement,

    z² = mean of e²/(|G|² + σ²),      F = eᵀ (σ² 1 + GᵀG)⁻¹ e / rows  of the distribution F(rows, freedom inside)

the latter is the test of Chow (Econometrica 28, 1960), which knows that errors of constants move all of the rim together.
The form fails if F is too large to be chance and z² is beyond `_TOO_FAR`, so that with many rows a trifle is no failure.
σ² is s² of the inner rows, or what neighbouring rows of the rim differ by if that is more, and G is that of equal noise or
that of the residuals as they are (White, Econometrica 48, 1980, each residual over the root of 1 - leverage): noise that
grows with the target, or one wrong row at the end, is no failure of the form.

Legend: p point, v input variable, k constant.
"""

import math
from dataclasses import dataclass

import numpy as np
import sympy
from scipy.special import fdtrc

from emlinit.finetune.diagnostics.noise import ranks
from emlinit.finetune.law import lowering
from emlinit.finetune.law.finding import errors_of, residuals
from emlinit.finetune.law.law import Law
from emlinit.finetune.law.standard_errors import law_errors, with_numbers

_LEAST_ROWS = 15
_LEAST_AT_AN_END = 2  # rows
_LEAST_LEVELS_INSIDE = 3  # different values of a variable that stay
_SHARE = 0.1  # of the rows at either end of a variable,
_MOST_RIM = 1 / 3  # and about so many of all rows, whatever the number of variables
_FREEDOM_INSIDE = 5  # rows more than constants
_MOST_ROWS = 2000  # that are looked at
_MOST_EVALUATIONS = 40  # of the law by a fit, each with its differences
_MOST_LEVERAGE = 0.9  # of a row: 1 for one that the fit goes through whatever its target is
_TOO_FAR = 3.0  # mean z²
_CHANCE = 0.01  # of an F as large


@dataclass(frozen=True)
class Extrapolation:
    """How a law that was fitted to the inner rows does on the rim."""

    rows: int
    """Rows of the rim."""
    r2: float
    """Share of the variance on the rim that is predicted; NaN where the target does not vary there, -infinity where the
    law is undefined."""
    rmse: float
    """Root mean squared error on the rim, in units of y; infinite where the law is undefined."""
    inside_rmse: float
    """The same on the inner rows, which were fitted."""
    mean_z2: float
    """Mean squared error on the rim over what noise and the errors of the constants allow: about 1 for a right form."""
    p: float
    """Probability of such errors if the form is right."""
    fails: bool
    """Whether the form does not hold outside."""
    inside: tuple[tuple[float, float], ...]
    """Of each column of the law, the least and the greatest value of the inner rows."""

    def remark(self) -> str:
        """What is said of a form that fails; empty for one that holds."""
        if not self.fails:
            return ""
        if not math.isfinite(self.rmse):
            return "outside its data the law fails: as the inner rows have it, it is undefined on the outermost"
        times = math.sqrt(self.mean_z2)
        return (
            f"outside its data the law fails: fitted to the inner rows, it misses the {self.rows} outermost by {times:.2g} "
            "times what noise allows"
        )


def extrapolated(
    law: Law, x: np.ndarray, y: np.ndarray, weights: np.ndarray | None = None
) -> tuple[Extrapolation | None, str]:
    """Hold out the rim, fit the constants of a law to the other rows, and predict the rim.

    Args:
        law: its constants fitted to all rows.
        x: points of shape (p, v), the columns of the law; finite.
        y: targets of shape (p,), finite.
        weights: relative, not negative, of shape (p,): the variance of a target is that of a weight of 1 over its weight;
            rows of weight 0 do not count. All 1 by default.

    Returns:
        What came of it, or None and why there is nothing to say.
    """
    rows = np.arange(len(y)) if weights is None else np.flatnonzero(weights > 0)
    if len(rows) > _MOST_ROWS:
        rows = np.sort(np.random.default_rng(0).choice(rows, _MOST_ROWS, replace=False))
    # However the rows are ordered: of equally near neighbours the same ones.
    rows = rows[np.lexsort((y[rows], *x[rows].T))]
    x, y, weights = x[rows], y[rows], np.ones(len(rows)) if weights is None else weights[rows]
    read = [symbol in law.expression.free_symbols for symbol in law.symbols]
    rim = _rim(x, read)
    sizes = sorted({abs(float(atom)) for atom in law.expression.atoms(sympy.Float)})
    if len(y) < _LEAST_ROWS or len(y) - rim.sum() < len(sizes) + _FREEDOM_INSIDE:
        return None, "too few rows"
    if not rim.any():
        return None, "no variable of the law has enough different values"
    try:
        inner = _fitted(law, sizes, x[~rim], y[~rim], weights[~rim])
        errors = None if inner is None else law_errors(inner, x[~rim], y[~rim], weights=weights[~rim])
    except (ValueError, OverflowError):  # a step led to where the law is undefined, or to a number that overflows
        errors = None
    if inner is None or errors is None:
        return None, "the inner rows do not fix the constants"
    off = residuals(inner, x[rim], y[rim])
    outside, inside = errors_of(off, y[rim]), errors_of(residuals(inner, x[~rim], y[~rim]), y[~rim])
    bounds = tuple((float(column.min()), float(column.max())) for column in x[~rim].T)
    n_rows = int(rim.sum())
    if not math.isfinite(outside.rmse):
        return Extrapolation(n_rows, -math.inf, math.inf, inside.rmse, math.inf, 0.0, True, bounds), ""
    moves = errors.moves(x[rim])
    deviation_inside = errors.deviation or inside.rmse  # of inner rows that are fitted exactly: rounding
    if not np.isfinite(moves).all() or not deviation_inside > 0:
        return None, "the inner rows do not say how well the law is known outside"
    relative = weights / weights[~rim].mean()
    if errors.deviation > 0:
        unit_moves = errors.moves(x[~rim]) * np.sqrt(relative[~rim])[:, None] / errors.deviation
        if np.square(unit_moves).sum(1).max() > _MOST_LEVERAGE:
            return None, "single rows fix constants"  # what is left of them tells nothing of their noise
        inner_off = residuals(inner, x[~rim], y[~rim]) * np.sqrt(relative[~rim])
        uneven = moves / errors.deviation @ _uneven_root(unit_moves, inner_off)
        moves = max(moves, uneven, key=lambda root: float(np.square(root).sum()))
    all_off = residuals(law, x, y) * np.sqrt(relative)
    noise = max(deviation_inside**2, _differences(x[:, read], all_off, rim))
    deviation = np.sqrt(noise / relative[rim])
    mean_z2 = float(np.mean(off**2 / (np.square(moves).sum(1) + deviation**2)))
    unit, pull = off / deviation, moves / deviation[:, None]
    solved = np.linalg.solve(np.eye(pull.shape[1]) + pull.T @ pull, pull.T @ unit)
    f = max(0.0, float(unit @ (unit - pull @ solved))) / n_rows
    p = float(fdtrc(n_rows, errors.freedom, f))
    fails = mean_z2 > _TOO_FAR and p < _CHANCE
    r2 = outside.r2 if np.ptp(y[rim]) > 0 else math.nan
    return Extrapolation(n_rows, r2, outside.rmse, inside.rmse, mean_z2, p, fails, bounds), ""


def _rim(x: np.ndarray, read: list[bool]) -> np.ndarray:
    """Whether a row is among the outermost of a variable, of shape (p,); rows of one value stay together."""
    n_rows, n_read = len(x), sum(read)
    rim = np.zeros(n_rows, dtype=bool)
    if not n_read:
        return rim
    share = min(_SHARE, (1 - (1 - _MOST_RIM) ** (1 / n_read)) / 2)
    wanted = max(_LEAST_AT_AN_END, math.ceil(share * n_rows))
    for column in x[:, read].T:
        levels, counts = np.unique(column, return_counts=True)
        below = int(np.searchsorted(np.cumsum(counts), wanted)) + 1  # levels that are held out at the lower end
        above = int(np.searchsorted(np.cumsum(counts[::-1]), wanted)) + 1
        if below + above + _LEAST_LEVELS_INSIDE <= len(levels):
            rim |= (column < levels[below]) | (column > levels[-above - 1])
    return rim


def _fitted(law: Law, sizes: list[float], x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> Law | None:
    """The law with its constants fitted to some rows, from where they are; None if that does not succeed."""
    if not sizes:
        return law
    constants = [sympy.Dummy(f"c{number}", real=True) for number in range(len(sizes))]
    form = with_numbers(law, dict(zip(sizes, constants, strict=True)))
    operations = lowering.lower(form, (*law.symbols, *constants))
    root, scale = np.sqrt(weights), float(np.abs(y).max()) or 1.0

    def residual(factors: np.ndarray) -> np.ndarray:
        columns = np.column_stack([x, np.broadcast_to(factors * sizes, (len(x), len(sizes)))])
        off = lowering.evaluate_real(operations, columns) - y
        return np.asarray(root * off / scale)

    if not np.isfinite(residual(np.ones(len(sizes)))).all():
        return None
    from scipy.optimize import least_squares  # takes half a second to load, and exact laws do without

    with np.errstate(all="ignore"):
        fit = least_squares(
            residual, np.ones(len(sizes)), "3-point", x_scale="jac", xtol=1e-12, max_nfev=_MOST_EVALUATIONS
        )
    if not np.isfinite(fit.x).all() or not fit.x.all():
        return None
    numbers = [sympy.Float(float(number)) for number in fit.x * sizes]
    return Law(law.program, law.names, with_numbers(law, dict(zip(sizes, numbers, strict=True))))


def _uneven_root(basis: np.ndarray, off: np.ndarray) -> np.ndarray:
    """A root of Uᵀ diag(r²/(1 - h)) U of shape (rank, rank), U an orthonormal basis of the derivatives and h the squares of
    its rows."""
    leverage = np.square(basis).sum(1)
    rows = basis * (off / np.sqrt(1 - leverage))[:, None]
    return np.asarray(np.linalg.qr(rows, mode="r")).T


def _differences(x: np.ndarray, off: np.ndarray, rim: np.ndarray) -> float:
    """Half the mean square of what a row of the rim and its two nearest neighbours differ by: noise, and little of a
    trend."""
    from scipy.spatial import cKDTree

    places = ranks(x)  # whatever the units, and however unevenly the rows lie
    _, near = cKDTree(places).query(places[rim], k=3)
    apart = near != np.flatnonzero(rim)[:, None]
    return float(np.mean(np.square(off[rim][:, None] - off[near]), where=apart) / 2)
