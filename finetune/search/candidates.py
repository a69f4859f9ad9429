"""The pool of candidates that a search has found: the best ones, the shortest descriptions of the data, and for every cost
the best that costs no more.

Legend: b candidate.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from emlinit.finetune.fitting.prices import description_cost, description_nats
from emlinit.finetune.search.ingredients import holds_none_of
from emlinit.generator.evaluate import evaluate
from emlinit.generator.program import Programs

_ROUNDING = 1e-18  # loss of what is exact: such losses are all alike
_SAME_NATS, _SAME_FIT = 0.01, 1e-4  # differences of the description's length and of ln(loss) that tell no laws apart
_SAME_LOSS = 1e-12  # relative difference: candidates that cost as much and agree so far are one found twice
_CLEARLY_BETTER = 0.999  # of the loss of what costs less: a smaller gain is no step of the front
_LAW_DIGITS, _DIGITS_PER_CONSTANT = 9.0, 2.2  # of the root mean squared error, relative to the deviation of the targets
_SMALLEST_LOSS = 1e-30
CAPACITY = 96
"""Candidates with the smallest losses that are kept."""
CAPACITY_SHORTEST = 64
"""Shortest descriptions that are kept."""


class Origin(NamedTuple):
    """Where a candidate comes from."""

    stage: str
    """Name of the stage that found it."""
    network: bool
    """Whether a proposal of the network is among its ancestors."""


SOMEWHERE = Origin("", network=False)
"""Of candidates that nobody has asked about."""


class CandidatePool:
    """Grows by `add`; forgets what is neither among the best, nor among the shortest descriptions of `n_points` targets, nor
    on the front of loss against cost.

    It takes no program that has an ingredient of `without` (see `ingredients`).
    """

    def __init__(self, n_points: int, n_distinct: int | None = None, without: frozenset[str] = frozenset()) -> None:
        """Begin empty.

        Args:
            n_points: targets that losses are means over.
            n_distinct: how many of their points differ; all of them by default.
            without: ingredients that no program may have.
        """
        self.n_points = n_points
        self.n_distinct = n_points if n_distinct is None else n_distinct
        self.without = without
        self.programs: Programs | None = None
        self.loss: Float64[Tensor, " b"] = torch.zeros(0, dtype=torch.float64)
        self.cost: Int64[Tensor, " b"] = torch.zeros(0, dtype=torch.int64)
        self._origins: list[Origin] = []
        self._origin: Int64[Tensor, " b"] = torch.zeros(0, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.loss)

    @property
    def best_loss(self) -> float:
        """Smallest loss so far; infinite when empty."""
        return float(self.loss.min()) if len(self) else float("inf")

    @property
    def best_nats(self) -> float:
        """Length of the shortest description of the targets; infinite when empty."""
        return float(self.nats.min()) if len(self) else float("inf")

    @property
    def holds_law(self) -> bool:
        """Whether a candidate fits to rounding, with so few constants that this is no accident: a series or a long sum gains
        about a digit with every constant."""
        if self.programs is None:
            return False
        digits = -0.5 * self.loss.clamp_min(_SMALLEST_LOSS).log10()
        n_free = self.programs.n_free()
        return bool(
            ((digits >= _LAW_DIGITS) & (digits >= _DIGITS_PER_CONSTANT * n_free) & (n_free + 1 < self.n_distinct)).any()
        )

    def origins(self, rows: Int64[Tensor, " n"]) -> list[Origin]:
        """Where some candidates come from."""
        return [self._origins[number] for number in self._origin[rows].tolist()]

    def add(self, programs: Programs, loss: Float64[Tensor, " b"], origin: Origin = SOMEWHERE) -> None:
        """Take in candidates with finite losses. Of those that agree in cost and loss to twelve digits one is kept."""
        rows = torch.nonzero(torch.isfinite(self.judged(programs, loss)))[:, 0]
        if not len(rows):
            return
        programs, loss = programs[rows], loss[rows]
        if origin not in self._origins:
            self._origins.append(origin)
        origins = torch.cat([self._origin, torch.full_like(rows, self._origins.index(origin))])
        if self.programs is not None:
            programs, loss = Programs.cat([self.programs, programs]), torch.cat([self.loss, loss])
        cost = description_cost(programs)
        order = _sorted(cost, loss)
        cost, loss = cost[order], loss[order]
        repeated = torch.zeros(len(order), dtype=torch.bool)
        repeated[1:] = (cost[1:] == cost[:-1]) & ((loss[1:] - loss[:-1]).abs() <= _SAME_LOSS * loss[1:].abs())
        order, cost, loss = order[~repeated], cost[~repeated], loss[~repeated]
        origins = origins[order]
        keep = torch.zeros(len(order), dtype=torch.bool)
        keep[loss.argsort(stable=True)[:CAPACITY]] = True
        keep[_front(loss)] = True
        programs = programs[order]
        keep[description_nats(programs, loss, self.n_points).argsort(stable=True)[:CAPACITY_SHORTEST]] = True
        self.programs, self.loss, self.cost, self._origin = programs[keep], loss[keep], cost[keep], origins[keep]

    def judged(self, programs: Programs, loss: Float64[Tensor, " b"]) -> Float64[Tensor, " b"]:
        """The losses, infinite for programs that the pool does not take."""
        return torch.where(holds_none_of(programs, self.without), loss, torch.inf) if self.without else loss

    def front(self) -> Int64[Tensor, " f"]:
        """Rows on the front, cheapest first: each has a smaller loss than everything that costs no more."""
        return _front(self.loss)

    @property
    def nats(self) -> Float64[Tensor, " b"]:
        """Length of the description of the targets with each candidate (see `prices`)."""
        assert self.programs is not None
        return description_nats(self.programs, self.loss, self.n_points)

    def shortest(self, n: int, most_cost: int | None = None) -> Int64[Tensor, " n"]:
        """Rows that describe the targets in the fewest nats, of those that cost no more than so much, and each law once:
        fitted from several starts it comes in several times, equal to a few digits. Exact ones may well be different."""
        nats = self.nats
        order: Tensor = nats.argsort(stable=True)
        order = order if most_cost is None else order[self.cost[order] <= most_cost]
        nats, loss = nats[order], self.loss[order]
        same = ((nats[:, None] - nats).abs() <= _SAME_NATS) & (loss > _ROUNDING)
        same &= (loss[:, None] / loss.clamp_min(_SMALLEST_LOSS)).log().abs() <= _SAME_FIT
        return order[~same.tril(-1).any(1)][:n]

    def residual(self, x: Float64[Tensor, "p v"], y: Float64[Tensor, " p"]) -> Float64[Tensor, " p"]:
        """What the shortest description leaves at points in the units of the search: target less value, NaN where that is
        undefined."""
        assert self.programs is not None
        result = evaluate(self.programs[self.shortest(1)], x, rtol=None)
        return torch.where(result.valid, y - result.value, torch.nan)[0]

    def best_with_each_number_of_constants(self, most: int, most_cost: int) -> Int64[Tensor, " n"]:
        """The row with the smallest loss of each number of free constants from 1 on, of those that cost so much at most."""
        assert self.programs is not None
        n_free = torch.where(self.cost <= most_cost, self.programs.n_free(), 0)
        order = self.loss.argsort(stable=True)
        rows = [order[n_free[order] == number][:1] for number in range(1, most + 1)]
        return torch.cat(rows)

    def best(self, n: int) -> Int64[Tensor, " n"]:
        """Rows with the smallest losses."""
        return self.loss.argsort(stable=True)[:n]


def distinct_rows(choices: Sequence[Int64[Tensor, "..."]], n: int) -> Int64[Tensor, " n"]:
    """The first `n` different rows of several lists, one list after the other."""
    return torch.tensor(list(dict.fromkeys(torch.cat(list(choices)).tolist()))[:n], dtype=torch.int64)


def _sorted(cost: Tensor, loss: Tensor) -> Tensor:
    """Order by cost, then loss."""
    by_loss = loss.argsort(stable=True)
    return by_loss[cost[by_loss].argsort(stable=True)]


def _front(loss: Tensor) -> Tensor:
    """Rows, of a list sorted by cost, that beat all before them by more than a thousandth."""
    if not len(loss):
        return torch.zeros(0, dtype=torch.int64)
    before = torch.cat([loss.new_full((1,), float("inf")), torch.cummin(loss, 0).values[:-1]])
    return torch.nonzero(loss < _CLEARLY_BETTER * before)[:, 0]
