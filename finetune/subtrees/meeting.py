"""Meeting in the middle: trees far beyond the table's size, found by looking up both sides of a node at once.

For y = exp(L) - ln(R) every function R of the table asks for one exponential, exp(L) = y + ln(R), which is looked up: all
pairs of table functions under one root, in time linear in the table. The same is done below any path of known functions:
peel a small known child off the root, invert, and meet again (see `generator.inversion`).

`search_meeting` does that with no network, cheapest work first. It is the yardstick of the learned start, and its ally.

Legend: s state, f function of the table, m point, b tree, l token position.
"""

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Complex128, Float64, Int64
from torch import Tensor

from emlinit.generator.functions.inversion import EPS, left_wanted, lost_digits, right_wanted
from emlinit.generator.functions.lookup import TOLERANCE, Lookup, compress
from emlinit.generator.functions.table import FunctionTable
from emlinit.generator.grammar import EML, LEFT, PAD, RIGHT, ROOT
from emlinit.generator.node import solve_left
from emlinit.generator.records import Records

MAX_HITS = 128
"""Trees that one meeting hands on, small ones first: where a state's values are degenerate everything fits."""
MAX_BUDGET = 10**12
"""Lookups after which a search ends."""
_CHUNK = 1 << 19  # lookups at once
_COSTS = 64  # of states, from 0 on; no budget reaches as far
_WORTHLESS = 1e-3  # loss (see `lost_digits`) from which a value says nothing
_ROUNDINGS = 100  # a value may be off by its loss so many times
_ABOVE = 1e-9  # imaginary part of L: below it the branch under the principal one is not tried
_PEELED = 1 << 16  # states made at once: like the lookups, between two looks at the clock


@dataclass(frozen=True, eq=False)
class OpenTrees(Records):
    """Partial trees with one open subtree: the root, or what is left of it after peeling."""

    wanted: Complex128[Tensor, "s m"]
    """Values that the open subtree must have, at the points of all sets."""
    error: Float64[Tensor, "s m"]
    """Their absolute errors."""
    parent: Int64[Tensor, " s"]
    """Row of the state that was peeled, among the states of `parent_cost`."""
    parent_cost: Int64[Tensor, " s"]
    """Cost of that state; -1 at the root."""
    side: Int64[Tensor, " s"]
    """Which child the *open* one is: `LEFT` or `RIGHT` (`ROOT` at the root)."""
    known: Int64[Tensor, " s"]
    """Table row of its sibling."""

    def __len__(self) -> int:
        return len(self.wanted)

    def best_set(self, n_sets: int) -> tuple[Int64[Tensor, " s"], Float64[Tensor, " s"]]:
        """The set of points at which least is lost, and how much that is."""
        return best_point_set(self.wanted, self.error, n_sets)

    @staticmethod
    def root(y: Float64[Tensor, " m"]) -> "OpenTrees":
        """The whole tree is open."""
        none = torch.full((1,), -1)
        return OpenTrees(y.to(torch.complex128)[None], EPS * y.abs()[None], none, none, torch.full((1,), ROOT), none)


def best_point_set(
    wanted: Complex128[Tensor, "s m"], error: Float64[Tensor, "s m"], n_sets: int
) -> tuple[Int64[Tensor, " s"], Float64[Tensor, " s"]]:
    """The set of points at which least is lost of the values of each open subtree, and how much that is."""
    lost = lost_digits(wanted, error)
    least, which = rearrange(lost, "s (k m) -> s k m", k=n_sets).amax(-1).min(-1)
    return which, least


def meet(lookup: Lookup, wanted: Complex128[Tensor, "s m"]) -> tuple[Tensor, Tensor, Tensor]:
    """All pairs of table functions with exp(L) - ln(R) = wanted.

    Returns:
        state, row of L and row of R of each pair found.
    """
    states, lefts, rights = [], [], []
    for chunk in torch.split(torch.arange(len(wanted)), max(_CHUNK // len(lookup), 1)):
        exp_left = solve_left(wanted[chunk, None], lookup.log).flatten(0, 1)
        left = lookup.find(LEFT, exp_left)
        hit = torch.nonzero(left >= 0)[:, 0]
        states.append(chunk[hit // len(lookup)])
        lefts.append(left[hit])
        rights.append(hit % len(lookup))
    return torch.cat(states), torch.cat(lefts), torch.cat(rights)


def fit_everywhere(
    lookups: Sequence[Lookup],
    wanted: Complex128[Tensor, "h km"],
    error: Float64[Tensor, "h km"],
    left: Int64[Tensor, " h"],
    right: Int64[Tensor, " h"],
) -> Bool[Tensor, " h"]:
    """Which pairs of table functions, one for each open subtree, fit at the points of all sets, as far as digits are left.
    Where values are degenerate thousands fit at those of one.

    Args:
        lookups: the same functions at the points of each set.
        wanted: values that each open subtree must have, at the points of one set after the other.
        error: their absolute errors.
        left: row of L of each pair.
        right: row of R of each pair.
    """
    fits = torch.ones(len(wanted), dtype=torch.bool)
    lost, n_sets = lost_digits(wanted, error), len(lookups)
    for lookup, here, lost_here in zip(lookups, wanted.chunk(n_sets, 1), lost.chunk(n_sets, 1), strict=True):
        distance = (compress(lookup.exp[left] - lookup.log[right]) - compress(here)).abs()
        distance = torch.maximum(*distance.chunk(2, 1))
        fits &= ((distance <= TOLERANCE + _ROUNDINGS * lost_here) | (lost_here > _WORTHLESS)).all(-1)
    return fits


def pairs(lookup: Lookup, left: Int64[Tensor, " b"], right: Int64[Tensor, " b"]) -> Int64[Tensor, "b l"]:
    """The trees `eml L R` of known functions."""
    n_left, n_right = 2 * lookup.sizes[left].long() + 1, 2 * lookup.sizes[right].long() + 1
    if not len(left):
        return torch.zeros(0, 1, dtype=torch.int64)
    place = torch.arange(1 + int((n_left + n_right).max()))
    first, second = lookup.tokens_of(left), lookup.tokens_of(right)
    offset = place - 1
    in_left = offset < n_left[:, None]
    from_left = first.gather(1, offset.clamp(0, first.shape[1] - 1).expand(len(left), -1))
    behind = offset - n_left[:, None]
    from_right = second.gather(1, behind.clamp(0, second.shape[1] - 1))
    tokens = torch.where(in_left, from_left, torch.where(behind < n_right[:, None], from_right, PAD))
    tokens[:, 0] = EML
    return tokens


class MeetingSearch:
    """OpenTrees by cost, a known function of n nodes costing n + 1, and the meetings done so far."""

    def __init__(self, table: FunctionTable, x: Float64[Tensor, "k m v"], y: Float64[Tensor, "k m"]) -> None:
        """`x` and `y` are k sets of points of the data (see `lookup.choose_points`)."""
        self.table = table
        self._x = x
        self._n_sets = len(x)
        self._states = {0: OpenTrees.root(y.flatten())}
        self._lookups: dict[tuple[int, int], Lookup] = {}
        self._work = self._meetings()

    def lookup(self, point_set: int, max_size: int) -> Lookup:
        """The table up to a size at a set of points: smaller tables stay in the cache, and each query costs less."""
        key = (point_set, max_size)
        if key not in self._lookups:
            self._lookups[key] = Lookup.of_table(self.table, self._x[point_set], max_size)
        return self._lookups[key]

    def states(self, cost: int) -> OpenTrees:
        """All states of a cost."""
        for _ in self._open(cost):
            pass
        return self._states[cost]

    def _open(self, cost: int) -> Iterator[None]:
        """Make all states of a cost, some at a time."""
        if cost in self._states:
            return
        parts = [self._states[0].rows(slice(0, 0))]
        for size in range(min(cost, self.table.max_size + 1)):
            before = cost - 1 - size
            yield from self._open(before)
            rows = self.table.level_slices()[size]
            known = Lookup.of_table(self.table, self._x.flatten(0, 1), size)
            for states in torch.split(
                torch.arange(len(self._states[before])), max(_PEELED // (rows.stop - rows.start), 1)
            ):
                parts.append(self._peel(before, states, known, rows))
                yield
        self._states[cost] = OpenTrees.cat(parts)

    def _peel(self, before: int, some: Int64[Tensor, " s"], known: Lookup, rows: slice) -> OpenTrees:
        """Some states of cost `before` with every one of some known functions as either child."""
        states, n_known = self._states[before].rows(some), rows.stop - rows.start
        wanted, error = states.wanted[:, None], states.error[:, None]
        right, right_error = right_wanted(wanted, error, known.exp[rows])
        left, left_error = left_wanted(wanted, error, known.log[rows])
        # L is known up to multiples of 2 pi i: besides the principal branch the one below it, at the points where there is a
        # difference. A tree exp(l) - ln(r) of real l has it where r is negative, and is real elsewhere.
        above = left.imag > _ABOVE
        lower = torch.complex(left.real, torch.where(above, left.imag - 2 * torch.pi, left.imag))
        lower = lower.masked_fill(~above.any(-1, keepdim=True), complex("nan"))
        n = len(states) * n_known
        every = OpenTrees(
            wanted=torch.cat([right.flatten(0, 1), left.flatten(0, 1), lower.flatten(0, 1)]),
            error=torch.cat([right_error.flatten(0, 1), left_error.flatten(0, 1), left_error.flatten(0, 1)]),
            parent=some.repeat_interleave(n_known).repeat(3),
            parent_cost=torch.full((3 * n,), before),
            side=torch.tensor([RIGHT, LEFT, LEFT]).repeat_interleave(n),
            known=torch.arange(rows.start, rows.stop).repeat(len(states)).repeat(3),
        )
        return every.rows(torch.nonzero(every.best_set(self._n_sets)[1] < TOLERANCE)[:, 0])

    def close(self) -> None:
        """Give the memory back at once: the unfinished work and this object hold one another."""
        self._work.close()

    def run(self, try_trees: Callable[[Tensor], bool], deadline: float) -> bool:
        """Go on meeting until `try_trees` says that the search is over, or the time is up; what it said last."""
        for trees in self._work:
            if len(trees) and try_trees(trees):
                return True
            if time.monotonic() > deadline:
                break
        return False

    def _meetings(self) -> Generator[Tensor]:
        """Trees found, meeting at ever more states with ever larger tables; none after a step that has found none.

        Every round has a budget of lookups for each cost, four times that of the round before; a cost is met with the
        largest table that the budget allows.
        """
        sizes = range(min(2, self.table.max_size), self.table.max_size + 1)
        rows = [level.stop for level in self.table.level_slices()]
        budget = rows[sizes[0]]
        met: dict[int, int] = {}  # cost -> largest table size met with
        while budget < MAX_BUDGET:
            for cost in range(_COSTS):
                n_expected = len(self._states[cost]) if cost in self._states else 4 * len(self.states(cost - 1))
                if n_expected * rows[sizes[0]] > budget:
                    break
                for _ in self._open(cost):
                    yield torch.zeros(0, 1, dtype=torch.int64)
                fitting = [size for size in sizes if len(self.states(cost)) * rows[size] <= budget]
                if fitting and fitting[-1] > met.get(cost, 0):
                    met[cost] = fitting[-1]
                    yield from self._meet_all(cost, fitting[-1])
            budget *= 4

    def _meet_all(self, cost: int, size: int) -> Iterator[Tensor]:
        states = self._states[cost]
        for state, left, right in self.meet_open(states.wanted, states.error, size):
            yield self.trees(cost, state, left, right)

    def meet_open(
        self, wanted: Complex128[Tensor, "s km"], error: Float64[Tensor, "s km"], size: int
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Fill open subtrees with pairs of table functions of up to `size` nodes that fit at the points of all sets.

        Args:
            wanted: values that each must have, at the points of one set after the other.
            error: their absolute errors.
            size: of the largest functions.

        Yields:
            now and then, of the pairs found row of the open subtree, table row of L and table row of R.
        """
        best_set, _ = best_point_set(wanted, error, self._n_sets)
        for point_set, here in enumerate(rearrange(wanted, "s (k m) -> k s m", k=self._n_sets)):
            rows = torch.nonzero(best_set == point_set)[:, 0]
            lookup = self.lookup(point_set, size)
            for chunk in torch.split(rows, max(_CHUNK // len(lookup), 1)) if len(rows) else ():
                state, left, right = meet(lookup, here[chunk])
                if not len(state):  # the table at the other points is worked out where it is asked for
                    yield state, left, right
                    continue
                small = (lookup.sizes[left] + lookup.sizes[right]).argsort(stable=True)
                state, left, right = chunk[state[small]], left[small], right[small]
                everywhere = [self.lookup(number, size) for number in range(self._n_sets)]
                fits = fit_everywhere(everywhere, wanted[state], error[state], left, right)
                good = torch.nonzero(fits)[:MAX_HITS, 0]
                yield state[good], left[good], right[good]

    def trees(self, cost: int, state: Tensor, left: Tensor, right: Tensor) -> Int64[Tensor, "b l"]:
        """Whole trees: the open subtree of each state filled with `eml` of two table functions."""
        rows = []
        for s, first, second in zip(state.tolist(), left.tolist(), right.tolist(), strict=True):
            tokens = [EML, *self._known(first), *self._known(second)]
            at = cost
            while at > 0:
                states = self._states[at]
                sibling = self._known(int(states.known[s]))
                tokens = [EML, *tokens, *sibling] if int(states.side[s]) == LEFT else [EML, *sibling, *tokens]
                at, s = int(states.parent_cost[s]), int(states.parent[s])
            rows.append(torch.tensor(tokens))
        if not rows:
            return torch.zeros(0, 1, dtype=torch.int64)
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PAD)

    def _known(self, row: int) -> list[int]:
        return self.table.tokens[row, : 2 * int(self.table.sizes[row]) + 1].tolist()
