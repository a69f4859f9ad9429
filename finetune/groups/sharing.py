"""Which constants of a form all groups share, and which are each group's own: the shortest description decides.

Of k constants there are 2^k patterns. One with fewer own constants cannot fit better, so that the fit of any pattern that
owns more bounds what it can be worth. Patterns are fitted in the order of these bounds until none left can win; of forms
with many constants they are shared one by one, as long as that pays.

    n/2 ln(rss/n) + constants + form      constants: those shared, and the own ones once for each group

Legend: p point, k constant, g group.
"""

import heapq
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, product

import numpy as np
import torch

from emlinit.finetune.fitting.prices import description_length
from emlinit.finetune.groups.group_form import GroupForm
from emlinit.finetune.groups.joint_fit import GroupedRows, JointFit, fit_own, fit_shared
from emlinit.finetune.law.finding import count_distinct

_ALL_PATTERNS = 5
"""Constants up to which every pattern is considered."""

_AT_ONCE = 4  # forms that are bounded before the best of them are fitted


@dataclass(frozen=True)
class Priced:
    """A fit beside the length of its description."""

    fit: JointFit
    """The constants."""
    nats: float
    """Nats that it takes to say the data with it."""


@dataclass(frozen=True)
class Prices:
    """What all forms for the same rows are priced by."""

    n_points: int
    """Rows, weighted ones by their weights' share."""
    n_distinct: int
    """Different rows."""
    scale: float
    """Root mean square of the target."""
    spread: float
    """Standard deviation of the target."""

    @classmethod
    def of(cls, rows: GroupedRows) -> "Prices":
        """Those of some rows; weights are taken to have a mean of 1."""
        n_distinct = count_distinct(np.column_stack([rows.x, rows.index]))
        return cls(len(rows.y), n_distinct, float(np.sqrt(np.mean(rows.y**2))), float(rows.y.std()))

    def nats(self, rss: float, form: GroupForm, n_constants: int) -> float:
        """Length of the description (see `fitting.prices.description_length`)."""
        length = description_length(
            torch.tensor([rss / self.n_points], dtype=torch.float64),
            torch.tensor([float(form.nodes)], dtype=torch.float64),
            torch.tensor([n_constants]),
            self.n_points,
            self.scale,
            self.n_distinct,
            self.spread,
        )
        return float(length[0])

    def of_fit(self, fit: JointFit) -> Priced:
        """A fit with its price."""
        return Priced(fit, self.nats(fit.rss, fit.form, fit.n_constants))


def best_sharing(
    forms: Iterable[GroupForm],
    rows: GroupedRows,
    prices: Prices,
    deadline: float = float("inf"),
    shortest: float = float("inf"),
    alone: dict[str, JointFit | None] | None = None,
) -> Iterator[Priced]:
    """The fits of forms that may be worth reading: of each the best pattern found, and what was better than all before.

    Args:
        forms: what may be the form of the law.
        rows: the data.
        prices: of the rows.
        deadline: on the clock of `time.monotonic`; after it no fit is begun.
        alone: keeps the fits of each group alone by what a form is called, for another call with the same rows.
        shortest: nats of the best that is known already; what cannot be shorter is left out.
    """
    seen, alone = set(), {} if alone is None else alone
    queue = iter(forms)
    while piece := list(islice(queue, _AT_ONCE)):
        bounded: list[tuple[float, int, JointFit]] = []
        for number, form in enumerate(piece):
            if form.said not in alone:
                alone[form.said] = fit_own(form, rows)
            free = alone[form.said]
            if free is not None:  # no pattern of the form can be shorter than with this error and all constants shared
                bounded.append((prices.nats(free.rss, form, len(form.constants)), number, free))
            if time.monotonic() >= deadline and bounded:
                break
        for bound, _, free in sorted(bounded, key=lambda entry: entry[:2]):
            same = len(free.own), free.form.nodes, f"{free.rss:.3e}"
            if bound >= shortest or same in seen:  # or one family, its constants written in another way
                continue
            seen.add(same)
            few = len(free.own) <= _ALL_PATTERNS
            for priced in (_of_all_patterns if few else _one_by_one)(free, rows, prices, shortest, deadline):
                shortest = min(shortest, priced.nats)
                yield priced
            if time.monotonic() >= deadline and np.isfinite(shortest):
                return


def _of_all_patterns(
    free: JointFit, rows: GroupedRows, prices: Prices, shortest: float, deadline: float
) -> Iterator[Priced]:
    """Best first by what a pattern can be at best; ends when nothing left can be shorter."""
    form, fitted = free.form, {tuple(free.own.tolist()): free}
    whole = prices.of_fit(free)
    shortest = min(shortest, whole.nats)
    yield whole

    def bound(own: tuple[bool, ...]) -> tuple[float, JointFit]:
        above = [fit for other, fit in fitted.items() if all(a or not b for a, b in zip(other, own, strict=True))]
        nearest = max(above, key=lambda fit: fit.rss)
        n_constants = sum(rows.n_groups if each else 1 for each in own)
        return prices.nats(nearest.rss, form, n_constants), nearest

    queue = [(bound(own)[0], own) for own in product((False, True), repeat=len(free.own)) if own not in fitted]
    heapq.heapify(queue)
    while queue and time.monotonic() < deadline:
        told, own = heapq.heappop(queue)
        now, nearest = bound(own)
        if now > told:  # it was told before fits that say more
            heapq.heappush(queue, (now, own))
            continue
        if now >= shortest:
            return
        fit = fit_shared(form, rows, np.array(own), nearest.constants)
        if fit is None:
            continue
        fitted[own] = fit
        priced = prices.of_fit(fit)
        shortest = min(shortest, priced.nats)
        yield priced


def _one_by_one(
    free: JointFit, rows: GroupedRows, prices: Prices, shortest: float, deadline: float
) -> Iterator[Priced]:
    """Share the constant that it pays most to share, again and again."""
    at = prices.of_fit(free)
    yield at
    while at.fit.own.any() and time.monotonic() < deadline:
        tried = []
        for k in np.flatnonzero(at.fit.own):
            own = at.fit.own.copy()
            own[k] = False
            fit = fit_shared(at.fit.form, rows, own, at.fit.constants)
            if fit is not None:
                tried.append(prices.of_fit(fit))
        best = min(tried, key=lambda priced: priced.nats, default=None)
        if best is None or not best.nats < max(at.nats, shortest):
            return
        at = best
        yield at
