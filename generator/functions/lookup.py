"""Search among functions by the values that they take at a few points of a data set.

Values are compared on the scale of asinh, to an absolute tolerance: relative for large numbers, absolute for small ones.
A fixed generic projection of the compressed values to one number is sorted once; a query is a binary search and a
comparison of all points for the few functions whose projection is as near. Unlike a hash of rounded values it has no
edges at which equal values part.

Legend: f function of the table, q query, m point, v input variable.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Complex128, Float64, Int64
from torch import Tensor

from emlinit.generator.functions.inversion import is_finite, subtree_values_and_logs
from emlinit.generator.functions.table import FunctionTable
from emlinit.generator.grammar import LEFT, PAD, RIGHT, ROOT, subtree_lengths
from emlinit.generator.node import exp_branch_cut, log_branch_cut, log_of_node

N_POINTS = 4
"""Points that functions are told apart by."""
TOLERANCE = 1e-7
"""Largest difference, on the scale of asinh, of values that pass for equal: inversion loses digits."""
SAME = 1e-9
"""The same for values that were computed directly."""
_NEIGHBOURS = range(-2, 2)  # functions looked at: those whose projections are next to the wanted one


class Lookup:
    """Functions at a few points of a data set, searchable by value, by exponential and by logarithm."""

    def __init__(
        self,
        value: Complex128[Tensor, "f m"],
        log: Complex128[Tensor, "f m"],
        tokens: Callable[[Tensor], Tensor],
        sizes: Int64[Tensor, " f"],
    ) -> None:
        """Use `of_table` or `of_trees`.

        Args:
            value: values at the points; what is not finite is never found, though its logarithm may be.
            log: their logarithms.
            tokens: gives the prefix tokens of rows, padded.
            sizes: eml nodes of each function's tree.
        """
        self.value, self.exp, self.log = value, exp_branch_cut(value), log
        """Values, exponentials and principal logarithms, complex128 of shape (f, m)."""
        self.tokens_of = tokens
        """Prefix tokens of rows, int64, padded."""
        self.sizes = sizes
        """Eml nodes of each function's tree, int64 of shape (f,)."""
        self._index: dict[int, _Index] = {}

    @staticmethod
    def of_table(table: FunctionTable, x: Float64[Tensor, "m v"], max_size: int | None = None) -> "Lookup":
        """All functions of a table, or those of up to `max_size` nodes, in the table's order; 0.1 s for 100,000
        functions at 4 points."""
        slices = table.level_slices()
        last = slices[-1] if max_size is None else slices[min(max_size, table.max_size)]
        rows = slice(0, last.stop)
        value, log = table_values_and_logs(table, x, last.stop)
        return Lookup(value, log, table.tokens_of, table.sizes[rows])

    @staticmethod
    def of_trees(tokens: Int64[Tensor, "b l"], x: Float64[Tensor, "m v"]) -> "Lookup":
        """The distinct functions among all subtrees of exact-grammar trees, smallest first."""
        spans = subtree_lengths(tokens)
        row, position = torch.nonzero(tokens != PAD, as_tuple=True)
        order = spans[row, position].argsort(stable=True)
        row, position = row[order], position[order]
        value, log = (part[row, position] for part in subtree_values_and_logs(tokens, x))
        distinct = _distinct(value)
        row, position, value, log = row[distinct], position[distinct], value[distinct], log[distinct]
        span = spans[row, position]
        place = torch.arange(int(span.max()) if len(span) else 1)
        trees = tokens[row[:, None], (position[:, None] + place).clamp_max(tokens.shape[1] - 1)]
        trees = torch.where(place < span[:, None], trees, PAD)
        return Lookup(value, log, lambda rows: trees[rows], (span - 1) // 2)

    def joined(self, other: "Lookup", limit: int) -> "Lookup":
        """The distinct functions of both, at most `limit` of them, smallest first."""
        trees = [part.tokens_of(torch.arange(len(part))) for part in (self, other)]
        width = max(part.shape[1] for part in trees)
        tokens = torch.cat([torch.nn.functional.pad(part, (0, width - part.shape[1])) for part in trees])
        value, log = torch.cat([self.value, other.value]), torch.cat([self.log, other.log])
        sizes = torch.cat([self.sizes, other.sizes])
        order = sizes.argsort(stable=True)
        rows = order[_distinct(value[order])][:limit]
        tokens = tokens[rows]
        return Lookup(value[rows], log[rows], lambda which: tokens[which], sizes[rows])

    def __len__(self) -> int:
        return len(self.value)

    def find(self, side: int, target: Complex128[Tensor, "q m"]) -> Int64[Tensor, " q"]:
        """Row of the function f with f = target (`ROOT`), exp(f) = target (`LEFT`) or ln(f) = target (`RIGHT`); -1 where
        there is none. Of functions with the same exponential any one is returned."""
        if side not in self._index:
            self._index[side] = _Index({ROOT: self.value, LEFT: self.exp, RIGHT: self.log}[side])
        return self._index[side].find(target)


def _weights(width: int) -> Tensor:
    """The projection: generic weights, no two of which, nor simple sums of which, are alike."""
    return 0.5 + torch.frac(math.sqrt(2) * torch.arange(1, width + 1, dtype=torch.float64)) / 2


def _distinct(value: Tensor) -> Tensor:
    """Rows of distinct finite values, ascending; of equal ones (to `SAME`) the first."""
    rows = torch.nonzero(is_finite(value).all(-1))[:, 0]
    points = compress(value[rows])
    weights = _weights(points.shape[1])
    slack = SAME * float(weights.sum())  # equal values have projections as near as this
    kept = [rows[:0]]
    while len(rows):
        keys, order = (points @ weights).sort()
        group = torch.cat([torch.zeros(1, dtype=torch.int64), (keys.diff() > slack).cumsum(0)])
        first = torch.full((int(group[-1]) + 1,), len(rows)).scatter_reduce(0, group, order, "amin")
        kept.append(rows[first])
        # What only looks like the first of its group goes round again.
        differs = (points[order] - points[first[group]]).abs().amax(-1) > SAME
        rest = order[differs].sort().values
        rows, points = rows[rest], points[rest]
    return torch.cat(kept).sort().values


class _Index:
    """Rows sorted by a projection of their compressed values."""

    def __init__(self, values: Tensor) -> None:
        rows = torch.nonzero(is_finite(values).all(-1))[:, 0]
        points = compress(values[rows])
        self.weights = _weights(points.shape[1])
        self.keys, order = (points @ self.weights).sort(stable=True)  # of equal ones the first row is found
        self.rows, self.points = rows[order], points[order]

    def find(self, target: Tensor) -> Tensor:
        """The nearest row of those next to it in projection, -1 where none of them is as near as `TOLERANCE`."""
        found = torch.full((len(target),), -1)
        usable = torch.nonzero(is_finite(target).all(-1))[:, 0]
        if not len(self.keys) or not len(usable):
            return found
        last = len(self.keys) - 1
        points = compress(target[usable])
        keys = points @ self.weights
        slack = TOLERANCE * float(self.weights.sum())
        place = torch.searchsorted(self.keys, keys)
        above, below = self.keys[place.clamp_max(last)] - keys, keys - self.keys[(place - 1).clamp_min(0)]
        some = torch.nonzero(torch.minimum(above.abs(), below.abs()) <= slack)[:, 0]
        best = torch.full((len(some),), TOLERANCE, dtype=torch.float64)
        for offset in _NEIGHBOURS:
            candidate = (place[some] + offset).clamp(0, last)
            distance = (self.points[candidate] - points[some]).abs().amax(-1)
            closer = distance < best
            best = torch.where(closer, distance, best)
            found[usable[some[closer]]] = self.rows[candidate[closer]]
        return found


def compress(values: Complex128[Tensor, "q m"]) -> Float64[Tensor, "q k"]:
    """asinh of the real parts, then of the imaginary parts."""
    return torch.asinh(torch.cat([values.real, values.imag], dim=-1))


def table_values(table: FunctionTable, x: Float64[Tensor, "m v"], n_rows: int) -> Complex128[Tensor, "f m"]:
    """The values of `table_values_and_logs`."""
    return table_values_and_logs(table, x, n_rows)[0]


def table_values_and_logs(
    table: FunctionTable, x: Float64[Tensor, "m v"], n_rows: int
) -> tuple[Complex128[Tensor, "f m"], Complex128[Tensor, "f m"]]:
    """Values of the first `n_rows` functions (whole sizes) of a table, NaN or infinite where they are not defined, and their
    principal logarithms, which are right also where no double holds the value.

    Every function is the difference of an exponential and a logarithm of functions before it.
    """
    value, exp, log = (torch.empty(n_rows, len(x), dtype=torch.complex128) for _ in range(3))
    for size, rows in enumerate(table.level_slices()):
        if rows.start >= n_rows:
            break
        if size == 0:
            leaves = torch.cat([torch.ones(1, len(x), dtype=torch.float64), x.T[: table.n_variables]])
            value[rows] = leaves.to(torch.complex128)
            log[rows] = log_branch_cut(value[rows])
        else:
            left, right = table.left[rows].long(), table.right[rows].long()
            value[rows] = exp[left] - log[right]
            log[rows] = log_of_node(value[rows], value[left], log[right])
        if rows.stop < n_rows:  # the last ones are nobody's children
            exp[rows] = exp_branch_cut(value[rows])
    return value, log


def choose_points(
    x: Float64[Tensor, "p v"], y: Float64[Tensor, " p"], n_points: int = N_POINTS
) -> Int64[Tensor, "k m"]:
    """Three sets of rows at which functions are told apart well: from all data, from the upper and from the lower third
    of y, as an inversion that loses all digits in one range of y loses none in another.

    Each holds moderate numbers (nothing overflows), no variable near 0, 1 or another one (where different functions
    agree, or are not defined), and points far from one another. With few rows the sets overlap.
    """
    n_points = min(n_points, len(y))
    by_y = y.argsort(stable=True)
    third = len(y) // 3 if len(y) >= 6 * n_points else len(y)
    return torch.stack([rows[_generic(x[rows], n_points)] for rows in (by_y, by_y[-third:], by_y[:third])])


def _generic(x: Tensor, n_points: int) -> Tensor:
    size = x.abs().amax(-1)
    rows = torch.nonzero(size <= size.median())[:, 0]
    rows = rows if len(rows) >= 4 * n_points else torch.arange(len(x))
    points = x[rows]
    columns = torch.cat([points, torch.zeros(len(rows), 1), torch.ones(len(rows), 1)], dim=-1)
    gaps = (columns[:, :, None] - columns[:, None, :]).abs()
    gaps = gaps.masked_fill((gaps == 0).all(0), torch.inf)  # a column and itself, or columns that no row tells apart
    generic = gaps.flatten(1).amin(-1)
    chosen = [int(generic.argmax())]
    spread = points.std(0).clamp_min(1e-300) if len(rows) > 1 else torch.ones(x.shape[1])
    while len(chosen) < n_points:
        distance = ((points[:, None] - points[chosen]) / spread).norm(dim=-1).amin(-1)
        merit = distance.clamp_max(1.0) * generic.clamp_max(0.3 * float(generic.max()))
        merit[chosen] = -1.0
        chosen.append(int(merit.argmax()))
    return rows[torch.tensor(chosen)]
