"""From a table whose rows belong to groups to one law: its form, what the groups share, and what each has of its own.

Forms are searched in several views of the table (`groups.views`), each by `solve`. The laws found suggest forms
(`groups.variants`), which are fitted to all groups jointly for the patterns of shared and own constants that may pay
(`groups.sharing`); the shortest description is chosen.

Legend: p point, v input variable, g group.
"""

import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import sympy

from emlinit.finetune.groups.group_form import GroupForm, renamed
from emlinit.finetune.groups.grouped_law import GroupedLaw, written_law
from emlinit.finetune.groups.joint_fit import GroupedRows, JointFit, covariances, fit_shared
from emlinit.finetune.groups.labels import Groups, check_groups, groups_of
from emlinit.finetune.groups.rounding import residual_variance, rounded
from emlinit.finetune.groups.sharing import Priced, Prices, best_sharing
from emlinit.finetune.groups.variants import plain_forms, variants
from emlinit.finetune.groups.views import View, as_one_group, views
from emlinit.finetune.inputs import checked_data, checked_language
from emlinit.finetune.law.finding import EXACT_ERROR
from emlinit.finetune.law.language import Language
from emlinit.finetune.law.law import Law
from emlinit.finetune.law.symbol_names import symbols_for
from emlinit.finetune.options import (
    LOSSES,
    MAX_COMPLEXITY,
    MIN_ROWS,
    checked_choice,
    checked_names,
    checked_seconds,
    checked_seed,
)
from emlinit.finetune.plan import NamedSampler
from emlinit.finetune.sizes import constant_columns, said_of_constants
from emlinit.finetune.solver import solve
from emlinit.finetune.weights import row_weights
from emlinit.generator.errors import UserError

_SEARCH_SHARE, _LEAST_SHARE, _FITS = 0.7, 0.3, 3.0
"""Of the time, for searching: so much at most and at least; seconds that are left for fitting the forms to all groups."""
_ROWS_TO_CHOOSE = 4000  # that forms and patterns are compared on; the one chosen is fitted to all
_LAST_FITS = 1.5  # seconds for fitting after the search was stopped, or took longer than it should
_SECOND_ROUND, _LEAST_SECOND_ROUND = 0.35, 1.0
"""Of the time for searching, for rows that the best law so far has brought together, and the seconds that this needs."""
_LEAST_SEARCH = 0.05  # seconds
_MOST_ON_THE_WAY = 12  # laws of a view that were best for a while
_MOST_BEFORE, _MOST_AFTER = 4, 3  # laws of the front
_SAME_ERROR = 1e-6


@dataclass(frozen=True)
class GroupedEntry:
    """One law beside the chosen one."""

    law: GroupedLaw
    """The law."""
    nodes: int
    """Nodes that it takes to say the form (see `law.shape.told_nodes`)."""
    n_constants: int
    """Numbers fitted: shared ones, and own ones once for each group."""
    rmse: float
    """Root mean squared error over all rows, weighted as they are, in units of y."""
    nats: float
    """Length of the description of the data with it, in nats."""


@dataclass(frozen=True, eq=False)
class GroupedSolution:
    """What `solve_groups` found."""

    law: GroupedLaw
    """The chosen law, in the data's own units; its `names` are the columns that it reads."""
    front: list[GroupedEntry]
    """The fewest numbers and nodes first, each more accurate than the one before; holds the chosen law."""
    exact: bool
    """Whether the law fits all rows to machine precision."""
    rmse: float
    """Root mean squared error over all rows, weighted as they are, in units of y."""
    r2: float
    """1 - Σ w r² / Σ w (y - mean)²."""
    counts: tuple[int, ...]
    """Rows of each group."""
    group_rmse: tuple[float, ...]
    """Root mean squared error of each group."""
    seconds: float
    """Wall-clock time used."""
    notes: tuple[str, ...] = field(default=())
    """Remarks for the user, one line each."""


def solve_groups(
    x: np.ndarray,
    y: np.ndarray,
    groups: Any,
    *,
    seconds: int | float = 20,
    initialisers: Mapping[str, NamedSampler] | None = None,
    seed: int = 0,
    names: Sequence[str] | None = None,
    column: str = "group",
    sigma: Any = None,
    sample_weight: Any = None,
    loss: str = LOSSES[0],
    progress: Callable[[float, str], None] | None = None,
    operators: str | Iterable[str] | None = None,
    forbid: str | Iterable[str] | None = None,
    max_complexity: int = MAX_COMPLEXITY,
    integer_exponents: bool = False,
    stop: Callable[[], bool] | None = None,
) -> GroupedSolution:
    """Search for the law behind data of several groups: one form, some of its constants shared, the others each group's own.

    Args:
        x: points, float64 of shape (p, v), finite.
        y: targets, float64 of shape (p,), finite.
        groups: the label of each row's group, text or numbers, p of them; at least two rows a group.
        seconds: time for the search.
        initialisers: the learned start of the weighted grammar; None loads the shipped one.
        seed: source of all randomness.
        names: column names, one a column of `x`; x1, x2, ... by default.
        column: what the groups are called.
        sigma: standard deviations of y, positive, one number or of shape (p,): rows weigh as 1/sigma², and the errors of the
            constants follow from it.
        sample_weight: weights of the rows in place of `sigma`, positive, of shape (p,); only their ratios count.
        loss: "squares": a robust one is not there for groups.
        progress: takes the share of the time used (0..1) and a remark.
        operators: what a law may be written in, as in `solve`.
        forbid: what it may not be written in.
        max_complexity: most nodes of its formula's expression tree; a constant counts as one, own or shared.
        integer_exponents: whether powers of what varies must have whole exponents.
        stop: asked again and again; once it says True the search ends with the best law so far.

    Raises:
        UserError: what `solve` refuses; labels that are missing or not one a row, fewer than two groups, a group of one
            row, more groups than half of the rows, weights or errors that are not positive numbers, or a robust loss.
    """
    began, seconds = time.monotonic(), checked_seconds(seconds)
    language = checked_language(operators, forbid, max_complexity, integer_exponents)
    seed = checked_seed(seed)
    x, y = checked_data(x, y)
    names = checked_names(names, x.shape[1])
    told = groups_of(groups, len(y))
    check_groups(told)
    if checked_choice(loss, "loss", LOSSES) != LOSSES[0]:
        raise UserError(f"the loss {loss} is not there for groups: leave it out, or the groups")
    weights, errors = row_weights(len(y), sigma, sample_weight)
    if weights is not None and not (weights > 0).all():
        raise UserError("a row of weight 0 says nothing of its group: leave such rows out")
    weights = None if weights is None else weights / weights.mean()
    constant = [(names[place], float(x[0, place])) for place in constant_columns(x, names)]

    def report(remark: str) -> None:
        if progress is not None:
            progress(min(1.0, (time.monotonic() - began) / seconds), remark)

    options: dict[str, Any] = {
        "grammar": "weighted",
        "initialisers": initialisers,
        "seed": seed,
        "operators": operators,
        "forbid": forbid,
        "max_complexity": max_complexity,
        "integer_exponents": integer_exponents,
        "stop": stop,
    }
    varying = [place for place, name in enumerate(names) if name not in dict(constant)]
    places = {place: (float(x[:, place].mean()), float(x[:, place].std())) for place in varying}
    pool = _Pool(names, language, places)
    rows = GroupedRows.of(x, y, told.index, weights)
    some = _rows_to_choose(told, np.random.default_rng(seed))
    fewer = rows if some is None else GroupedRows.of(x[some], y[some], told.index[some], _of(weights, some))
    prices, priced, alone = Prices.of(fewer), list[Priced](), dict[str, JointFit | None]()

    def is_stopped() -> bool:
        return stop is not None and stop()

    def search(seen: Sequence[View], until: float) -> None:
        """Look for laws in some views."""
        for number, view in enumerate(seen):
            left = until - time.monotonic()
            if is_stopped() or left < _LEAST_SEARCH:
                break
            share = view.share / sum(later.share for later in seen[number:])
            options["on_better"] = lambda law, _: pool.on_the_way.append(law)
            options["progress"] = lambda _, remark, name=view.name: report(f"{name}: {remark}")
            options["sample_weight"] = None if weights is None else weights[view.rows]
            found = solve(x[view.rows], view.y, seconds=left * share, names=names, **options)
            pool.add([found.law, *(entry.law for entry in found.front)])

    def fit(until: float) -> None:
        """Fit the forms to all groups; those that were fitted before, too, as the clock may have ended it."""
        report("fitting the forms to all groups")
        shortest = min((entry.nats for entry in priced), default=math.inf)
        priced.extend(best_sharing(pool.forms(), fewer, prices, until, shortest, alone))

    end = began + max(_LEAST_SHARE * seconds, min(_SEARCH_SHARE * seconds, seconds - _FITS))
    first = [view for view in views(x[:, varying], y, told) if len(view.y) >= MIN_ROWS]
    search(first, end - _SECOND_ROUND * (end - time.monotonic()))
    if not is_stopped() and end - time.monotonic() > _LEAST_SECOND_ROUND:
        fit(time.monotonic() + 0.5 * (end - time.monotonic()))
        best = min(priced, key=lambda entry: entry.nats).fit
        second = as_one_group(best, x, y, told.index)
        search([view for view in (second,) if view is not None and len(view.y) >= MIN_ROWS], end)
    now = time.monotonic()
    fit(now + _LAST_FITS if is_stopped() else max(began + seconds, now + min(_LAST_FITS, 0.3 * seconds)))
    known = None if errors is None or weights is None else float(errors[0] ** 2 * weights[0])
    notes = [*said_of_constants(constant), *(["stopped early: the best law so far"] if is_stopped() else [])]
    return _solution(priced, rows, fewer, x, y, weights, _Writer(names, told, column, known), began, notes)


class _Pool:
    """The forms that the laws found suggest, each once."""

    def __init__(self, names: Sequence[str], language: Language, places: Mapping[int, tuple[float, float]]) -> None:
        self.columns, self.language, self.places = symbols_for(names), language, places
        self.of_name = dict(zip(names, self.columns, strict=True))
        self.on_the_way: list[Law] = []
        self.variables = tuple(sympy.Symbol(symbol.name, real=True) for symbol in self.columns)
        self.expressions: dict[sympy.Expr, bool] = {}
        self.made: dict[str, GroupForm] = {}

    def add(self, laws: Sequence[Law]) -> None:
        """Note the laws of a view, the chosen one first, and what was best on the way."""
        for place, law in enumerate([*laws, *self.on_the_way[::-1][:_MOST_ON_THE_WAY]]):
            if law.is_real:
                symbols = {old: self.of_name[name] for old, name in zip(law.symbols, law.names, strict=True)}
                self.expressions.setdefault(renamed(law.expression, symbols), place == 0)
        self.on_the_way.clear()

    def forms(self) -> Iterator[GroupForm]:
        """The forms, those of the chosen laws first; one that was given before is the same object."""
        chosen, others = (
            [
                variants(each, self.columns, self.variables, self.language)
                for each, first in self.expressions.items()
                if first == wanted
            ]
            for wanted in (True, False)
        )
        plain = plain_forms(self.columns, self.variables, self.language, self.places)
        seen: set[str] = set()
        for form in itertools.chain(*chosen, plain, *others):
            if form.said not in seen:
                seen.add(form.said)
                yield self.made.setdefault(form.said, form)


def _of(weights: np.ndarray | None, rows: np.ndarray) -> np.ndarray | None:
    return None if weights is None else weights[rows]


def _rows_to_choose(groups: Groups, rng: np.random.Generator) -> np.ndarray | None:
    """Of many rows some of every group, drawn at random; None if there are few."""
    if len(groups.index) <= _ROWS_TO_CHOOSE:
        return None
    order = rng.permutation(len(groups.index))
    order = order[np.argsort(groups.index[order], kind="stable")]
    ends = np.cumsum(groups.counts)
    place_in_group = np.arange(len(order)) - np.repeat(ends - groups.counts, groups.counts)
    most = max(_ROWS_TO_CHOOSE // len(groups.names), 2)
    return np.sort(order[place_in_group < most])


def _solution(
    priced: Sequence[Priced],
    rows: GroupedRows,
    fewer: GroupedRows,
    x: np.ndarray,
    y: np.ndarray,
    weights: np.ndarray | None,
    write: "_Writer",
    began: float,
    notes: Sequence[str],
) -> GroupedSolution:
    """Choose the shortest description, fit it to all rows, and put the front beside it."""
    best = min(priced, key=lambda entry: (entry.nats, entry.fit.n_constants))
    fit = best.fit
    if fewer is not rows:
        fit = fit_shared(fit.form, rows, fit.own, fit.constants) or fit
    fit = rounded(fit, rows)
    law = write(fit, rows)
    groups = write.groups
    residual = law.predict(x[:, [write.names.index(name) for name in law.names]], write.labels) - y
    weights = np.ones(len(y)) if weights is None else weights
    rmse = math.sqrt(float(np.average(residual**2, weights=weights)))
    variance = float(np.average((y - np.average(y, weights=weights)) ** 2, weights=weights))
    relative = rmse / math.sqrt(variance) if variance > 0 else 0.0
    exact = relative <= EXACT_ERROR and len(y) > fit.n_constants + 1
    nats = Prices.of(rows).of_fit(fit).nats if fewer is rows else best.nats  # of the same rows as the others'
    squares, shares = (np.bincount(groups.index, one, len(groups.names)) for one in (weights * residual**2, weights))
    chosen = GroupedEntry(law, fit.form.nodes, fit.n_constants, rmse, nats)
    return GroupedSolution(
        law=law,
        front=_front(priced, best, chosen, fewer, write),
        exact=exact,
        rmse=rmse,
        r2=1.0 - relative**2,
        counts=tuple(groups.counts.tolist()),
        group_rmse=tuple(np.sqrt(squares / shares).tolist()),
        seconds=time.monotonic() - began,
        notes=(*notes, *_how_good(law, exact, relative)),
    )


def _how_good(law: GroupedLaw, exact: bool, relative: float) -> Iterator[str]:
    varies = bool(law.expression.free_symbols - {*law.own_symbols})
    if not law.own:
        yield "all constants are shared: the groups play no part in the law, one formula stands for all rows"
    if not varies and not exact:
        each = "a constant for each group" if law.own else "one constant"
        yield f"no law was found: nothing is better than {each}"
    if not exact:
        yield f"no exact law was found: the best has an error of {100 * relative:.2g} % of y's spread"


def _front(
    priced: Sequence[Priced], best: Priced, chosen: GroupedEntry, rows: GroupedRows, write: "_Writer"
) -> list[GroupedEntry]:
    """What takes more numbers and nodes than the one before is more accurate; the chosen law in the place of its fit."""
    front: list[GroupedEntry] = []
    least = math.inf

    def size(entry: Priced) -> int:
        return entry.fit.form.nodes + entry.fit.n_constants

    for entry in sorted(priced, key=lambda entry: (size(entry), entry.fit.rss)):
        fit = entry.fit
        if entry is best:
            front.append(chosen)
        elif fit.rss < least * (1 - _SAME_ERROR) and math.isfinite(entry.nats):
            rmse = math.sqrt(fit.rss / len(rows.y))
            front.append(GroupedEntry(write(fit), fit.form.nodes, fit.n_constants, rmse, entry.nats))
        else:
            continue
        least = min(least, fit.rss)
    place = next(number for number, entry in enumerate(front) if entry is chosen)
    before = [entry for entry in front[:place] if entry.rmse > chosen.rmse]
    after = [entry for entry in front[place + 1 :] if entry.rmse < chosen.rmse]
    return [*sorted(before, key=lambda e: e.nats)[:_MOST_BEFORE][::-1], chosen, *after[:_MOST_AFTER]]


@dataclass(frozen=True, eq=False)
class _Writer:
    """Writes fits as laws in the columns' names."""

    names: Sequence[str]
    groups: Groups
    column: str
    variance: float | None = None
    """Of the error of a row of weight 1, if it is known."""

    @property
    def labels(self) -> list[str]:
        return [self.groups.names[place] for place in self.groups.index.tolist()]

    def __call__(self, fit: JointFit, rows: GroupedRows | None = None) -> GroupedLaw:
        """The law of a fit; with standard errors if the rows are given that it was fitted to."""
        n_own = int(fit.own.sum())
        errors = np.full(len(fit.own) - n_own, np.nan), np.full((len(self.groups.names), n_own), np.nan)
        if rows is not None:
            variance = residual_variance(fit, rows) if self.variance is None else self.variance
            relative = math.sqrt(fit.rss / len(rows.y)) / (float(np.std(rows.y)) or 1.0)
            if math.isfinite(variance) and relative > EXACT_ERROR:
                errors = covariances(fit, rows, variance)
        return written_law(fit.form, fit.own, fit.constants, self.names, self.groups.names, errors, self.column)
