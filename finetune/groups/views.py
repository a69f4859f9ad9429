"""Several views of a table of groups, in each of which the form of the law may show.

    own factors    y / a_i             one group        the rows of a large group: all own constants are numbers
    own offsets    y - c_i             all rows         as they are: groups play no part
    both           (y - c_i) / a_i

Groups that were measured at other places differ in size and mean for that alone. So a_i and c_i are those that bring the
groups onto one smooth curve, a polynomial s of the columns: y = a_i s(x) + c_i by least squares.

Legend: p point, v input variable, g group.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import sympy

from emlinit.finetune.groups.evaluation import JointEvaluation
from emlinit.finetune.groups.group_form import GroupForm
from emlinit.finetune.groups.joint_fit import GroupedRows, JointFit, fit_shared
from emlinit.finetune.groups.labels import Groups

_LARGE_GROUPS = 2
_HIGHEST_POWER = 5  # of a single column
_ROWS_A_TERM = 5
_MANY_TIMES = 30.0  # the smallest value of a column, from which its logarithm is taken
_MOST_COLUMNS = 5
_LEAST_SHARE, _NATS = 0.1, 30.0  # of a view that is so many nats longer the share is e times smaller
_ROUNDING = 1e-10  # of the target's spread
_LEAST_FACTOR = 1e-3  # of the largest: a group with a smaller one says nothing once it is divided by it


@dataclass(frozen=True, eq=False)
class View:
    """Rows to search for a form in."""

    name: str
    """What is seen."""
    share: float
    """Of the time for searching, relative to that of the other views."""
    rows: np.ndarray
    """Which rows, bool of shape (p,)."""
    y: np.ndarray
    """The targets of these rows, float64."""


def views(x: np.ndarray, y: np.ndarray, groups: Groups) -> Iterator[View]:
    """The views of a table, the likeliest first; those without a target that varies are left out.

    Args:
        x: the columns that vary, float64 of shape (p, v).
        y: targets, float64 of shape (p,).
        groups: of the rows.
    """
    largest = np.argsort(-groups.counts, kind="stable")[:_LARGE_GROUPS].tolist()
    alone = [
        View(f"group {groups.names[place]} alone", share, groups.index == place, y[groups.index == place])
        for share, place in zip((0.5, 0.4), largest, strict=True)
    ]
    kinds = {
        "all rows together": (False, False),
        "own factors": (True, False),
        "own offsets": (False, True),
        "own factors and offsets": (True, True),
    }
    told = {name: brought_together(x, y, groups, factors=f, offsets=o) for name, (f, o) in kinds.items()}
    shortest = min(each.nats for each in told.values())
    joined = [
        View(name, max(_LEAST_SHARE, float(np.exp((shortest - each.nats) / _NATS))), each.rows, each.y)
        for name, each in told.items()
    ]
    joined.sort(key=lambda view: -view.share)
    for view in (*joined[:1], *alone[:1], *joined[1:], *alone[1:]):
        if len(view.y) and np.isfinite(view.y).all() and np.ptp(view.y) > 0:
            yield view


@dataclass(frozen=True, eq=False)
class Brought:
    """Groups brought onto one curve."""

    rows: np.ndarray
    """Which rows can be used, bool of shape (p,)."""
    y: np.ndarray
    """The targets of these rows, float64; none where the curve cannot be fitted."""
    nats: float
    """Nats that it takes to say the data with a curve and these own constants, up to what all kinds have in common."""


def brought_together(x: np.ndarray, y: np.ndarray, groups: Groups, *, factors: bool, offsets: bool) -> Brought:
    """Targets less their group's offset, divided by its factor, so that the groups lie on one smooth curve."""
    spread = float(np.std(y)) or 1.0
    rows = GroupedRows.of(_in_units(x), y / spread, groups.index)
    variables = [sympy.Symbol(f"x{place}", real=True) for place in range(x.shape[1])]
    terms = _terms(variables, rows)
    coefficients = [sympy.Symbol(f"s{place}", real=True) for place in range(len(terms))]
    factor, offset = sympy.Symbol("a", real=True), sympy.Symbol("c", real=True)
    curve = sympy.Add(*(s * term for s, term in zip(coefficients, terms, strict=True)))
    level = sympy.Symbol("l", real=True)  # of the curve, where no own constant says it
    alone = [] if factors or offsets else [level]
    expression = (factor * (1 + curve) if factors else curve) + (offset if offsets else 0) + sympy.Add(*alone)
    own = [*([factor] if factors else []), *([offset] if offsets else [])]
    constants = (*own, *alone, *coefficients)
    form = GroupForm(expression, tuple(variables), constants, np.zeros(len(constants)))
    start = np.zeros((rows.n_groups, len(constants)))
    if factors:
        start[:, 0] = _signed_sizes(y / spread, groups)
    is_own = np.array([constant in own for constant in constants])
    fit = fit_shared(form, rows, is_own, start)
    if fit is None:
        return Brought(np.zeros(len(y), dtype=bool), np.zeros(0), float("inf"))
    mse = fit.rss / len(y) + _ROUNDING**2
    nats = 0.5 * len(y) * float(np.log(mse)) + 0.5 * float(np.log(len(y))) * fit.n_constants
    shift = fit.constants[:, len(own) - 1] * spread if offsets else np.zeros(rows.n_groups)
    scale = fit.constants[:, 0] if factors else np.ones(rows.n_groups)
    usable = np.abs(scale) > _LEAST_FACTOR * np.abs(scale).max()
    kept = usable[groups.index]
    index = groups.index[kept]
    return Brought(kept, np.asarray((y[kept] - shift[index]) / scale[index]), nats)


def as_one_group(fit: JointFit, x: np.ndarray, y: np.ndarray, index: np.ndarray) -> View | None:
    """All rows as they would be in the largest group, if the law so far is right; None if it has no own constants.

    What a row differs from the law by goes along, in the size that the law has there: a form that is nearly right brings the
    groups together well enough for the right one to show.
    """
    if not fit.own.any() or not fit.form.expression.free_symbols & {*fit.form.variables}:
        return None
    form, largest = fit.form, fit.constants[np.bincount(index).argmax()]
    level = sympy.Add(*(t for t in sympy.Add.make_args(form.expression) if not t.free_symbols & {*form.variables}))
    both = JointEvaluation([form.expression, level], (*form.variables, *form.constants))
    here = both(np.concatenate([x, fit.constants[index]], axis=1))
    there = both(np.concatenate([x, np.tile(largest, (len(x), 1))], axis=1))
    own, others = (values[:, 0] - values[:, 1] for values in (here, there))
    sums = [np.bincount(index, values) for values in (own * others, own**2)]
    with np.errstate(all="ignore"):
        ratio = (sums[0] / sums[1])[index]
        targets = there[:, 0] + (y - here[:, 0]) * ratio
    kept = np.isfinite(targets) & (np.abs(ratio) < 1 / _LEAST_FACTOR)
    return View("as one group", 1.0, kept, targets[kept]) if kept.any() and np.ptp(targets[kept]) > 0 else None


def _in_units(x: np.ndarray) -> np.ndarray:
    """Columns between -1 and 1, those of many sizes as logarithms."""
    columns = []
    for column in x.T:
        lowest, highest = float(column.min()), float(column.max())
        column = np.log(column) if lowest > 0 and highest > _MANY_TIMES * lowest else column
        middle, half = (column.max() + column.min()) / 2, (column.max() - column.min()) / 2
        columns.append((column - middle) / (half or 1.0))
    return np.column_stack(columns)


def _terms(variables: list[sympy.Symbol], rows: GroupedRows) -> list[sympy.Expr]:
    """The terms of the polynomial, so many that there are several rows for each beside the groups' own numbers."""
    if len(variables) == 1:
        highest = min(_HIGHEST_POWER, len(np.unique(rows.x)) - 1)
        terms = [sympy.chebyshevt_poly(power, variables[0]) for power in range(1, highest + 1)]
    else:
        few = variables[:_MOST_COLUMNS]
        terms = [*few, *(one * other for one, other in combinations(few, 2)), *(each**2 for each in few)]
    return terms[: max(1, (len(rows.y) - 2 * rows.n_groups) // _ROWS_A_TERM)]


def _signed_sizes(y: np.ndarray, groups: Groups) -> np.ndarray:
    """Root mean square of each group's targets with the sign of their mean, of shape (g,); 1 where all are 0."""
    sums, squares = (np.bincount(groups.index, values, len(groups.names)) for values in (y, y**2))
    sizes = np.sqrt(squares / groups.counts)
    return np.where(sizes > 0, np.where(sums < 0, -sizes, sizes), 1.0)
