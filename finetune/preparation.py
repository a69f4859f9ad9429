"""Before the search: which rows validate, which variables are read, and in which units the network sees them.

Units are changed by factors (a shift would turn a power law into something else), and a program is closed under such a
change: `restore_units` folds the factors back into its weights. Variables of few levels are shifted as well, away from 0: of
them only polynomials are searched, whose products a program takes through logarithms, and flags are often 0.

Legend: p point, v input variable.
"""

import math
import time
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from emlinit.finetune.fitting.misfit import PLAIN, Misfit
from emlinit.finetune.sparse.dictionary import FEW_LEVELS
from emlinit.generator.grammar import MAX_VARIABLES
from emlinit.generator.program import Programs
from emlinit.generator.tidy import shift_variables

MIN_ROWS_TO_HOLD_OUT = 16
"""With fewer rows all of them train, and the validation figures are those of the training rows."""
VALIDATION_SHARE = 0.2
_SEEN_X, _SEEN_Y = (0.3, 30.0), (0.01, 1000.0)  # largest |x| of a variable, rms of y: what pretraining was full of
_IMPORTANCE_ROWS, _FOREST_COLUMNS = 2000, 200
_TREES, _TREES_AT_ONCE = 200, 25
_LEAST_CHOOSING = 1.0  # seconds
MOST_ROWS = 50_000
"""Most rows that are looked at: of more, a random sample."""
TRAIN_ROWS, SEARCH_ROWS = 20_000, 2000
"""Most rows that the best candidates are fitted to, and most of those that structures are searched on.

Which law it is shows in so many rows or in none; only the constants of the law chosen gain from more.
"""

_ENOUGH_ROWS, _ENOUGH_VALUES = 64, 4  # without a zero, and of a variable in them: else rows with zeros stay


@dataclass(frozen=True, eq=False)
class Problem:
    """Data as the search sees it."""

    x: Tensor
    """All points in the search's units, float64 of shape (p, v), v <= MAX_VARIABLES."""
    y: Tensor
    """All targets in the search's units, float64 of shape (p,)."""
    train: Tensor
    """Indices of the training rows, at most `TRAIN_ROWS`, drawn at random."""
    search: Tensor
    """Indices of the training rows that structures are searched on, at most `SEARCH_ROWS`, drawn at random; those at
    which a variable is 0 are left out if there are enough others."""
    validation: Tensor
    """Indices of the validation rows; the training rows again if there are too few rows to hold some out."""
    columns: tuple[int, ...]
    """Columns of the data that are the variables."""
    x_unit: Tensor
    """Data units per unit of the search, one a variable."""
    x_shift: Tensor
    """What is subtracted from each variable, in data units, before it is divided by its unit."""
    y_unit: float
    """Data units of y per unit of the search."""
    misfit: Misfit = PLAIN
    """How residuals count, with the weights of all rows."""


def sample_of(y: np.ndarray, rng: np.random.Generator) -> np.ndarray | slice:
    """At most `MOST_ROWS` rows, drawn at random without repetition and in their order; all of them if there are no more.

    The rows of the smallest and the largest y are among them: a target that varies in few rows does not become constant.
    """
    if len(y) <= MOST_ROWS:
        return slice(None)
    drawn = rng.choice(len(y), MOST_ROWS - 2, replace=False, shuffle=False)
    rows: np.ndarray = np.union1d(drawn, [y.argmin(), y.argmax()])
    return rows


def prepare(
    x: np.ndarray, y: np.ndarray, rng: np.random.Generator, until: float = math.inf, misfit: Misfit = PLAIN
) -> Problem:
    """Draw the rows to train on and to hold out, and choose variables if there are too many; in the data's units.

    Args:
        x: points, float64 of shape (p, v), finite.
        y: targets, float64 of shape (p,), finite.
        rng: draws the rows.
        until: when choosing variables should end, on the clock of `time.monotonic`.
        misfit: how residuals count.
    """
    columns = choose_variables(x, y, until)
    n = len(y)
    order = rng.permutation(n)
    n_held = round(VALIDATION_SHARE * n) if n >= MIN_ROWS_TO_HOLD_OUT else 0
    if np.ptp(y[order[n_held:]]) == 0:  # what varies must not be held out
        n_held = 0
    held_out, others = order[:n_held], _differing_first(order[n_held:], y)
    train, search = np.sort(others[:TRAIN_ROWS]), np.sort(_without_zeros(x[:, columns], y, others)[:SEARCH_ROWS])
    validation = np.sort(held_out[: round(VALIDATION_SHARE * TRAIN_ROWS)]) if n_held else train
    return Problem(
        torch.from_numpy(x[:, columns]),
        torch.from_numpy(y.copy()),
        torch.from_numpy(train),
        torch.from_numpy(search),
        torch.from_numpy(validation),
        columns,
        torch.ones(len(columns), dtype=torch.float64),
        torch.zeros(len(columns), dtype=torch.float64),
        1.0,
        misfit,
    )


def _differing_first(rows: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The same rows, with one first at which y differs from the next: so it does in any sample from the head."""
    different = np.flatnonzero(y[rows] != y[rows[0]])
    first = different[0] if len(different) else 0
    return np.concatenate([rows[first : first + 1], rows[:first], rows[first + 1 :]])


def _without_zeros(x: np.ndarray, y: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The rows at which no variable is 0, as far as enough are left and each variable, and y, keeps several values.

    A program takes powers through logarithms, so x² has no value at 0 there; the formula that is read from it has one,
    and is fitted and judged on all rows.
    """
    table = np.column_stack([x, y])
    kept, n_values = rows, [min(_ENOUGH_VALUES, len(np.unique(column))) for column in table[rows].T]
    for zero in sorted((x[rows] == 0).T, key=np.count_nonzero):
        left = np.intersect1d(kept, rows[~zero])
        enough = len(left) >= min(_ENOUGH_ROWS, len(rows) / 2)
        if enough and all(len(np.unique(table[left, i])) >= n for i, n in enumerate(n_values)):
            kept = left
    return rows[np.isin(rows, kept)]


def in_known_units(problem: Problem) -> Problem:
    """A problem in the data's units, in units that bring sizes which the initialiser never met into the range it knows."""
    x, y = problem.x.numpy(), problem.y.numpy()
    x_shift = np.array([_shift(np.unique(column)) for column in x.T])
    x = x - x_shift
    x_unit = np.array([_unit(np.abs(column).max(), _SEEN_X) for column in x.T])
    y_unit = _unit(float(np.abs(y).max()) * float(np.sqrt(np.mean((y / np.abs(y).max()) ** 2))), _SEEN_Y)
    return replace(
        problem,
        x=torch.from_numpy(x / x_unit),
        y=torch.from_numpy(y / y_unit),
        x_unit=torch.from_numpy(x_unit),
        x_shift=torch.from_numpy(x_shift),
        y_unit=y_unit,
    )


def _shift(levels: np.ndarray) -> float:
    """What makes two or three levels positive if they are not: the lowest one becomes their range."""
    few = 1 < len(levels) <= FEW_LEVELS and levels[0] <= 0
    return float(levels[0] - (levels[-1] - levels[0])) if few else 0.0


def _unit(size: float, seen: tuple[float, float]) -> float:
    """A power of ten that brings `size` to between 1 and 10, or 1 if it is near enough already."""
    low, high = seen
    return 1.0 if low <= size <= high or size == 0 else float(10.0 ** np.floor(np.log10(size)))


def choose_variables(x: np.ndarray, y: np.ndarray, until: float = math.inf) -> tuple[int, ...]:
    """The columns to read: all but the constant ones, or, of more than `MAX_VARIABLES`, those that a random forest's
    splits on y use most (Breiman 2001), in their order. A table of constant columns keeps its first.

    Trees are grown until the time is up. What they cost grows with the columns: of very many, only those are given to them
    whose ranks go up, or first down and then up, with those of y more than the others' do.
    """
    varying = np.flatnonzero(np.ptp(x, axis=0) > 0)
    if not len(varying):
        return (0,)
    if len(varying) <= MAX_VARIABLES:
        return tuple(varying.tolist())
    from sklearn.ensemble import ExtraTreesRegressor

    until = max(until, time.monotonic() + _LEAST_CHOOSING)  # loading scikit-learn takes a second or more
    rows = slice(None, None, max(1, len(y) // _IMPORTANCE_ROWS))
    # Ranks: a forest on raw y would only see a few huge values.
    ranks = _ranks(y[rows, None])[:, 0]
    if len(varying) > _FOREST_COLUMNS:
        column_ranks = _ranks(x[rows][:, varying])
        score = np.maximum(_correlation(column_ranks, ranks), _correlation(column_ranks**2, ranks))
        varying = varying[np.sort(np.argsort(-score, kind="stable")[:_FOREST_COLUMNS])]
    forest = ExtraTreesRegressor(min_samples_leaf=2, random_state=0, warm_start=True)
    for n_trees in range(_TREES_AT_ONCE, _TREES + 1, _TREES_AT_ONCE):
        forest.set_params(n_estimators=n_trees).fit(x[rows][:, varying], ranks)
        if time.monotonic() > until:
            break
    best = np.argsort(-forest.feature_importances_, kind="stable")[:MAX_VARIABLES]
    return tuple(sorted(varying[best].tolist()))


def _ranks(columns: np.ndarray) -> np.ndarray:
    """Ranks within each column of shape (p, c), from -1 to 1."""
    places: np.ndarray = np.argsort(np.argsort(columns, axis=0), axis=0)
    return places * (2.0 / (len(columns) - 1)) - 1.0


def _correlation(columns: np.ndarray, y: np.ndarray) -> np.ndarray:
    """|Correlation| of each column of shape (p, c) with y of shape (p,)."""
    columns = columns - columns.mean(0)
    sizes = np.linalg.norm(columns, axis=0) * np.linalg.norm(y - y.mean())
    correlation: np.ndarray = np.abs((y - y.mean()) @ columns) / np.maximum(sizes, np.finfo(np.float64).tiny)
    return correlation


def restore_units(programs: Programs, problem: Problem) -> Programs:
    """The same laws in the data's own units."""
    return shift_variables(_rescaled(programs, 1 / problem.x_unit, problem.y_unit), problem.x_shift)


def in_search_units(programs: Programs, problem: Problem) -> Programs:
    """Laws in the data's own units as the search would write them: the inverse of `restore_units`."""
    return _rescaled(shift_variables(programs, -problem.x_shift), problem.x_unit, 1 / problem.y_unit)


def _rescaled(programs: Programs, of_x: Tensor, of_y: float) -> Programs:
    """Programs that read each variable times a factor, of shape (v,), and whose value is multiplied by one."""
    per_source = torch.ones(programs.n_variables + 1 + programs.max_nodes, dtype=torch.float64)
    per_source[1 : 1 + programs.n_variables] = of_x
    weight = programs.weight * per_source[programs.source][..., None]
    bias = programs.bias.clone()
    weight[:, -1] *= of_y
    bias[:, -1] *= of_y
    return programs.with_constants(weight, bias)
