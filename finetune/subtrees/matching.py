"""What is known of the data at a few points: parts of trees seen so far, and a table of all small functions if there is one.

Both are searched by the values that an open subtree must have (see `generator.inversion`). The parts alone *recombine*
candidates: a subtree that one of them has right completes another one that is right everywhere else.

Legend: b tree, l token position, p point of the data, m point of the lookup.
"""

from jaxtyping import Bool, Complex128, Float64, Int64
from torch import Tensor

from emlinit.finetune.subtrees.completion import complete
from emlinit.finetune.subtrees.meeting import MAX_HITS, fit_everywhere, meet, pairs
from emlinit.generator.functions.inversion import lost_digits
from emlinit.generator.functions.lookup import TOLERANCE, Lookup, choose_points
from emlinit.generator.functions.table import FunctionTable

MAX_PARTS = 20_000
"""Parts remembered, small ones first."""
COMPLETION_ROWS, MEETING_ROWS = 80_000, 30_000
"""Most table functions that completion looks up, and that are met at an open subtree: this is done many times."""


class Matcher:
    """Closes open subtrees exactly, from parts of other trees and from a table."""

    def __init__(
        self,
        x: Float64[Tensor, "p v"],
        y: Float64[Tensor, " p"],
        *,
        table: FunctionTable | None = None,
        recombine: bool = True,
    ) -> None:
        """Choose the points; `recombine` says whether parts are remembered."""
        self.rows = choose_points(x, y)
        """Rows of the data that values are compared at: sets of points, int64 of shape (k, m)."""
        self.x = x[self.rows]
        self._table, self._recombine = table, recombine
        self._parts: dict[int, Lookup] = {}
        self._tables: dict[int, tuple[Lookup, Lookup]] = {}

    def learn(self, tokens: Int64[Tensor, "b l"]) -> None:
        """Remember all subtrees of some trees."""
        if not self._recombine or not len(tokens):
            return
        for point_set, x in enumerate(self.x):
            new = Lookup.of_trees(tokens, x)
            old = self._parts.get(point_set)
            self._parts[point_set] = new if old is None else old.joined(new, MAX_PARTS)

    def table(self, point_set: int) -> tuple[Lookup, Lookup] | None:
        """What of the table is looked up for completion, and what of it is met, at a set of points."""
        if self._table is None:
            return None
        if point_set not in self._tables:
            stops = [rows.stop for rows in self._table.level_slices()]
            first, second = (
                Lookup.of_table(self._table, self.x[point_set], sum(stop <= most for stop in stops) - 1)
                for most in (COMPLETION_ROWS, MEETING_ROWS)
            )
            self._tables[point_set] = (first, second)
        return self._tables[point_set]

    def candidates(
        self, wanted: Complex128[Tensor, " p"], error: Float64[Tensor, " p"], tokens: Int64[Tensor, "b l"]
    ) -> list[Int64[Tensor, "c k"]]:
        """Trees that should have the values `wanted`: completions of `tokens`, and pairs of known functions.

        They fit a few points, the set of them at which least of the wanted values is lost; the caller checks them on all.

        Args:
            wanted: values at all points of the data.
            error: their absolute errors.
            tokens: candidates, padded.
        """
        targets = wanted[self.rows]
        lost = lost_digits(targets, error[self.rows]).amax(-1)
        point_set = int(lost.argmin())
        if float(lost[point_set]) > TOLERANCE:
            return []
        target, x = targets[point_set], self.x[point_set]
        parts, table = self._parts.get(point_set), self.table(point_set)
        found = []
        for lookup in (parts, table and table[0]):
            if lookup:
                found.append(complete(lookup, tokens, x, target))
        for lookup in (parts, table and table[1]):
            if not lookup:
                continue
            _, left, right = meet(lookup, target[None])
            if table and lookup is table[1]:  # of parts each set of points has its own
                fits = self._fit_everywhere(targets, error[self.rows], left, right)
                left, right = left[fits], right[fits]
            small = (lookup.sizes[left] + lookup.sizes[right]).argsort(stable=True)[:MAX_HITS]
            found.append(pairs(lookup, left[small], right[small]))
        return [trees for trees in found if len(trees)]

    def _fit_everywhere(
        self,
        targets: Complex128[Tensor, "k m"],
        error: Float64[Tensor, "k m"],
        left: Int64[Tensor, " h"],
        right: Int64[Tensor, " h"],
    ) -> Bool[Tensor, " h"]:
        """Which pairs of functions of the table that is met fit at the points of all sets."""
        tables = [table[1] for number in range(len(targets)) if (table := self.table(number))]
        every, own = (part.flatten().expand(len(left), -1) for part in (targets, error))
        return fit_everywhere(tables, every, own, left, right)
