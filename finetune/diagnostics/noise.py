"""Noise: how large it is, and whether what a law leaves over is noise; then there is nothing more to find.

*White:* of neighbouring rows, in order of the one variable, residuals of a law that lacks something have the same sign more
often than not: r = Σ e_i e_{i+1} / Σ e_i², which is 0 ± 1/√n for noise (von Neumann 1941). In several variables neighbours
are too far apart for such a test to see much.

*Its size,* without trust in the law:

    replicates    σ² = Σ_groups Σ (y - mean)² / (rows - groups)         rows at one point
    one variable  σ² = mean of e²/c²,  e = a y₋ + b y₊ - y,  c² = a² + b² + 1    second differences; a, b from the spacing
    several       γ(k) = mean of (y - y of the k-th neighbour)²/2 against δ(k) = mean of distance²: σ² where δ is 0

The second is that of Gasser, Sroka and Jennen-Steinmetz (Biometrika 73, 1986), whose estimate has 18/35 of the degrees of
freedom of as many rows; the third is the Gamma test of Stefánsson, Končar and Jones (1997). Where a law is known to be
near, its residuals take the place of y: they are smoother. A law that leaves more than replicates say lacks something:

    F = ((Σ r² - Σ_pure)/(groups - constants)) / (Σ_pure/(rows - groups))      Draper and Smith, Applied Regression Analysis

*Rows apart:* a few rows may carry most of the misfit, z = (r - median)/(1.4826 · median |r - median|) far beyond what the
others have, with a gap between. If there are many, the noise has heavy tails and no row stands apart.

Legend: p point, v input variable.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from scipy.special import fdtrc  # scipy.stats has it, too, and takes half a second to load
from torch import Tensor

_SURE = 2.0  # standard deviations
_LEAST_ROWS = 6
_LEAST_REPLICATES = 3  # degrees of freedom, from which replicates are asked and not neighbours
_LEAST_FREEDOM = 3.0  # of a noise that is told
_SHARE_OF_SECOND_DIFFERENCES = 18 / 35  # degrees of freedom a row
_NEIGHBOURS, _ROWS_A_VARIABLE = 10, 50  # of the Gamma test, and rows that it needs for each variable
_SHARE_OF_NEIGHBOURS = 1 / 3  # degrees of freedom a row; measured, see its test
_TOO_FAR = 1.2  # times the noise: what the nearest neighbours may differ by, in squares; beyond, the line is a guess
_MOST_ROWS = 5000  # whose neighbours are looked for
_LACKS = 0.001  # probability of an F as large, below which a law is said to lack something
_MAY_LACK = 0.2  # probability of an F as large, below which a law may lack something
_AS_LARGE_AS = 1.2  # times the noise: as large as it, for all that few rows tell
_DEVIATIONS_OF_MEDIAN = 1.4826  # standard deviations of a normal distribution in its median absolute deviation
_APART = 5.0  # standard deviations, of a row that may carry a misfit of its own
_MOST_APART, _SHARE_APART = 5, 0.1  # such rows, and of all rows, at most: more are heavy tails
_GAP = 2.0  # times the largest of the other rows, that the least of them is
_MOST_OF_MISFIT = 0.5  # of Σ r², that they carry together


@dataclass(frozen=True)
class Noise:
    """The size of the noise in a target."""

    value: float
    """Standard deviation, in units of the target, of a measurement of weight 1."""
    method: str
    """`replicates` or `neighbours`: what it was estimated from."""
    freedom: float
    """Degrees of freedom of the estimate; for `replicates`, rows less different points."""


@dataclass(frozen=True)
class NoiseBesideLaw:
    """The noise in a target, and what a law leaves of it."""

    noise: Noise
    """The noise."""
    law_leaves: float
    """sqrt(Σ w r² / (points - constants)) of the law."""
    f: float | None = None
    """Lack of fit: mean square of the law's misses at the different points over that of the noise; None without
    replicates, or with no more points than constants."""
    p: float | None = None
    """Probability of so large an `f` if the law is right."""

    def __str__(self) -> str:
        """Such as `noise: 0.312 (from 12 replicates); the law leaves 0.301: nothing is missing (F 0.94, p 0.55)`."""
        source = f"{self.noise.freedom:.0f} replicates" if self.noise.method == "replicates" else "neighbouring rows"
        text = f"noise: {self.noise.value:.3g} (from {source}); the law leaves {self.law_leaves:.3g}"
        if self.f is None or self.p is None:
            return text
        verdict = "something is missing" if self.p < _LACKS else "nothing is missing"
        return f"{text}: {verdict} (F {self.f:.3g}, p {self.p:.2g})"


@dataclass(frozen=True)
class Outliers:
    """Rows that carry most of what a law misses."""

    rows: tuple[int, ...]
    """Their places, from 0, in order."""
    share: float
    """Of the sum of the squared residuals that is theirs."""
    count_little: bool = False
    """Whether the loss is a robust one."""

    def remark(self, numbers: Sequence[int] | None = None) -> str:
        """One line that names them.

        Args:
            numbers: of all rows, as the reader counts them; from 1 without.
        """
        names = [str(row + 1 if numbers is None else numbers[row]) for row in self.rows]
        several = len(names) > 1
        named = f"rows {', '.join(names[:-1])} and {names[-1]} carry" if several else f"row {names[0]} carries"
        percent = min(math.floor(100 * self.share), 99)
        advice = "it counts little" if self.count_little else "or use --loss huber"
        if several:
            advice = advice.replace("it counts", "they count")
        return f"{named} {percent} % of the misfit: check {'them' if several else 'it'}, {advice}"


def is_white(x: Float64[Tensor, "p 1"], residual: Float64[Tensor, " p"]) -> bool:
    """Whether residuals show no more structure along x than noise does; False for too few to say so, and for those of an
    exact fit, which are rounding."""
    if len(residual) < _LEAST_ROWS or not bool((residual != 0).any()) or not bool(residual.isfinite().all()):
        return False
    ordered = residual[x[:, 0].argsort(stable=True)]
    correlation = float((ordered[1:] * ordered[:-1]).sum() / ordered.square().sum())
    return correlation < _SURE / math.sqrt(len(ordered))


def leaves_only_noise(
    x: Float64[np.ndarray, "p v"],
    residual: Float64[np.ndarray, " p"],
    n_constants: int,
    weights: Float64[np.ndarray, " p"] | None = None,
) -> bool:
    """Whether what a law leaves over is as large as the noise and, along a single variable, white; False where the noise
    cannot be told. Parameters as for `noise_beside_law`."""
    scaled = residual if weights is None else residual * np.sqrt(weights)
    if x.shape[1] == 1 and not is_white(torch.from_numpy(x), torch.from_numpy(scaled)):
        return False
    beside = noise_beside_law(x, residual, n_constants, weights)
    if beside is None:
        return False
    nothing_lacks = beside.p is None or beside.p > _MAY_LACK
    return nothing_lacks and beside.law_leaves <= _AS_LARGE_AS * beside.noise.value


def estimated_noise(
    x: Float64[np.ndarray, "p v"], y: Float64[np.ndarray, " p"], weights: Float64[np.ndarray, " p"] | None = None
) -> Noise | None:
    """The noise in y, from replicates if there are some, else from neighbouring rows.

    Args:
        x: points.
        y: finite targets, or what a law leaves of them.
        weights: relative, not negative: the variance of a target is that of a weight of 1 over its weight; those of weight
            0 do not count. All 1 by default.

    Returns:
        None where it cannot be told: few rows, neighbours in several variables that are too far apart, targets that do
        not differ where they should.
    """
    weights = np.ones(len(y)) if weights is None else weights
    used = weights > 0
    if not used.any():
        return None
    rows, times = np.unique(np.column_stack([x, y, weights])[used], axis=0, return_counts=True)
    if times.min() > 1:  # the whole table is there twice, and not the measurements: these may agree now and then
        x, y, weights = rows[:, :-2], rows[:, -2], rows[:, -1]
    else:
        x, y, weights = x[used], y[used], weights[used]
    return _from_replicates(x, y, weights) or _from_neighbours(x, y, weights)


def noise_beside_law(
    x: Float64[np.ndarray, "p v"],
    residual: Float64[np.ndarray, " p"],
    n_constants: int,
    weights: Float64[np.ndarray, " p"] | None = None,
) -> NoiseBesideLaw | None:
    """The noise that data hold, whatever the law, beside what the law leaves; None where either cannot be told.

    Args:
        x: points, all that the data say of them and not only what the law reads.
        residual: law less target.
        n_constants: that were fitted.
        weights: as for `estimated_noise`.
    """
    weights = np.ones(len(residual)) if weights is None else weights
    n_rows = int(np.count_nonzero(weights))
    if not np.isfinite(residual).all() or n_rows <= n_constants:
        return None
    noise = estimated_noise(x, residual, weights)
    if noise is None:
        return None
    squares = float(weights @ residual**2)
    leaves = math.sqrt(squares / (n_rows - n_constants))
    n_points = n_rows - noise.freedom
    if noise.method != "replicates" or n_points <= n_constants:
        return NoiseBesideLaw(noise, leaves)
    pure = noise.value**2 * noise.freedom
    f = max(0.0, squares - pure) / (n_points - n_constants) / noise.value**2
    return NoiseBesideLaw(noise, leaves, f, float(fdtrc(n_points - n_constants, noise.freedom, f)))


def ranks(columns: Float64[np.ndarray, "p v"]) -> Float64[np.ndarray, "p v"]:
    """Rank of each number in its column, from 1; equal ones share the mean of theirs."""
    result = np.empty_like(columns)
    for place, column in enumerate(columns.T):
        _, inverse, counts = np.unique(column, return_inverse=True, return_counts=True)
        result[:, place] = (np.cumsum(counts) - (counts - 1) / 2)[inverse.ravel()]
    return result


def outlying_rows(residual: Float64[np.ndarray, " p"], *, count_little: bool = False) -> Outliers | None:
    """The few rows that carry most of the misfit; None if there are none.

    Args:
        residual: law less target, each over its standard deviation where that is known or weighed.
        count_little: whether the loss is a robust one.
    """
    if not len(residual) or not np.isfinite(residual).all():
        return None
    off = np.abs(residual - np.median(residual))
    deviation = _DEVIATIONS_OF_MEDIAN * float(np.median(off))
    is_apart = off > max(_APART * deviation, np.finfo(np.float64).eps * float(off.max()))
    rows = np.flatnonzero(is_apart)
    if not 0 < len(rows) <= min(_MOST_APART, int(_SHARE_APART * len(residual))):
        return None
    squares = np.square(residual / np.abs(residual).max())
    share = float(squares[rows].sum() / squares.sum())
    if share < _MOST_OF_MISFIT or off[rows].min() < _GAP * off[~is_apart].max():
        return None
    return Outliers(tuple(rows.tolist()), share, count_little)


def _from_replicates(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> Noise | None:
    """From rows at one point."""
    _, group = np.unique(x, axis=0, return_inverse=True)
    group = group.ravel()
    n_groups = int(group.max()) + 1
    freedom = len(y) - n_groups
    if freedom < _LEAST_REPLICATES:
        return None
    means = np.bincount(group, weights * y) / np.bincount(group, weights)
    variance = float(weights @ np.square(y - means[group])) / freedom
    return Noise(math.sqrt(variance), "replicates", float(freedom)) if variance > 0 else None


def _from_neighbours(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> Noise | None:
    if x.shape[1] == 1:
        variance, freedom = _second_differences(x[:, 0], y, weights)
    else:
        variance, freedom = _gamma_test(x, y, weights)
    return Noise(math.sqrt(variance), "neighbours", freedom) if variance > 0 and freedom >= _LEAST_FREEDOM else None


def _second_differences(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Variance and its degrees of freedom, from each row and what its two neighbours say of it."""
    if len(y) < 3:
        return 0.0, 0.0
    order = np.argsort(x, kind="stable")
    x, y, inverse = x[order], y[order], 1 / weights[order]
    wide = x[2:] - x[:-2]
    before = np.divide(x[2:] - x[1:-1], wide, out=np.full(len(wide), 0.5), where=wide > 0)
    after = 1 - before
    off = before * y[:-2] + after * y[2:] - y[1:-1]
    expected = before**2 * inverse[:-2] + after**2 * inverse[2:] + inverse[1:-1]
    return float(np.mean(off**2 / expected)), _SHARE_OF_SECOND_DIFFERENCES * len(off)


def _gamma_test(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Variance and its degrees of freedom; 0 if neighbours are too far apart to tell."""
    x = x[:, np.ptp(x, axis=0) > 0]
    if len(y) < _ROWS_A_VARIABLE * max(1, x.shape[1]) or not x.shape[1]:
        return 0.0, 0.0
    if len(y) > _MOST_ROWS:
        rows = np.random.default_rng(0).choice(len(y), _MOST_ROWS, replace=False)
        x, y, weights = x[rows], y[rows], weights[rows]
    from scipy.spatial import cKDTree  # slow to load, and seldom needed

    places = ranks(x) / len(y)  # whatever the unit, and however unevenly they lie
    distance, neighbour = cKDTree(places).query(places, k=_NEIGHBOURS + 1)
    # A row is its own nearest neighbour, but not surely the first among copies: any of those is at distance 0.
    distance, neighbour = distance[:, 1:], neighbour[:, 1:]
    apart = neighbour != np.arange(len(y))[:, None]
    share = 1 / weights[:, None] + 1 / weights[neighbour]
    half = np.where(apart, np.square(y[:, None] - y[neighbour]) / share, np.nan)
    gamma, delta = np.nanmean(half, axis=0), np.mean(distance**2, axis=0)
    slope, variance = np.polyfit(delta, gamma, 1) if np.ptp(delta) > 0 else (0.0, gamma.mean())
    variance = gamma[0] if slope < 0 else variance  # farther rows differ no more: noise alone
    if not variance > 0 or gamma[0] > _TOO_FAR * variance:
        return 0.0, 0.0
    return float(variance), _SHARE_OF_NEIGHBOURS * len(y)
