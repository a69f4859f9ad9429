"""Functions of a table whose linear combination is data, or nearly so: y = a f(x) + b, or y = a f(x) + a' g(x) + b.

At p points a function is a vector. Centred and of norm 1, its product with the target is Pearson's r, and the best a and b
leave the share 1 - r² of the variance of y. So the table is evaluated and standardised once, and one matrix product
compares all functions with all targets. With their products among themselves, pairs are compared as cheaply:

    R² = (r_yf² + r_yg² - 2 r_yf r_yg r_fg) / (1 - r_fg²).

Everything is float64: 1 - R² is known to 1e-15, so an exact match is told from one that is off by 1e-7 of y's spread.

Kept are the functions that are real, finite and not constant at the points, and of those that are affine images of one
another (such as e - ln x and e^e - ln x) only the smallest: of a table in positive variables a third is left.

Legend: f function, p point, v input variable, t target, k hit, n term of a hit.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from emlinit.generator.functions.lookup import table_values
from emlinit.generator.functions.table import FunctionTable
from emlinit.generator.node import CEILING, exp_branch_cut, log_branch_cut

_REAL = 1e-9  # imaginary part, relative to the largest value, up to which a function counts as real
_VARIES = 1e-7  # standard deviation, relative to the largest value, above which it counts as not constant
_SAME = 1e-8  # difference of two projections of unit vectors that pass for equal
_INDEPENDENT = 1e-4  # 1 - r² of two functions from which they make a pair; below, R² would be made of rounding errors
_BLOCK_NUMBERS = 1 << 20  # numbers of a block


@dataclass(frozen=True, eq=False)
class LinearHits:
    """The best functions (n = 1) or pairs (n = 2) of each target, best first: target ~ sum of slope * function +
    intercept."""

    row: Int64[Tensor, "t k n"]
    """Rows of the table; -1 where there are no more."""
    correlation: Float64[Tensor, "t k"]
    """Multiple correlation R of the combination over the points, 0..1; 0 where there is none."""
    slope: Float64[Tensor, "t k n"]
    """Least-squares factor of each function."""
    intercept: Float64[Tensor, "t k"]
    """Least-squares constant."""
    lowest: Float64[Tensor, "t k"]
    """Smallest value of the combination at the points."""
    highest: Float64[Tensor, "t k"]
    """Largest value."""


class StandardisedTable:
    """A table's functions at the points of a data set, centred and of norm 1."""

    def __init__(self, table: FunctionTable, x: Float64[Tensor, "p v"], max_functions: int = 50_000) -> None:
        """Evaluate the table; 0.1 s for 23,000 functions at 128 points.

        Args:
            table: its variables are the first columns of `x`.
            x: at least two points, finite.
            max_functions: the largest sizes are left out, until no more functions than this are evaluated.

        Raises:
            ValueError: `x` has fewer than two points, or fewer columns than the table has variables.
        """
        if len(x) < 2 or x.shape[1] < table.n_variables:
            raise ValueError(f"x of shape {tuple(x.shape)}: need 2 points and {table.n_variables} columns at least")
        # Generic directions: projections that are equal up to sign mean vectors that are.
        steps = torch.arange(1, len(x) + 1, dtype=torch.float64)
        directions = torch.stack([torch.frac(steps * root) - 0.5 for root in (2**0.5, 3**0.5)], 1)
        parts = []
        for rows, value in _blocks(table, x, max_functions):
            kept, *standardised = _standardise(value)
            parts.append((rows[kept], *standardised))
        rows, vectors, mean, norm = (torch.cat(column) for column in zip(*parts, strict=True))
        smallest = _distinct(vectors @ directions)
        self.rows: Tensor = rows[smallest]
        """Rows of the table that are kept, ascending, so small trees first; int64 of shape (f,)."""
        self.vectors: Tensor = vectors[smallest]
        """Their values, centred and of norm 1; float64 of shape (f, p)."""
        self.mean: Tensor = mean[smallest]
        """What was subtracted, float64 of shape (f,)."""
        self.norm: Tensor = norm[smallest]
        """What the rest was divided by, float64 of shape (f,)."""
        self.sizes: Tensor = table.sizes[self.rows]
        """Eml nodes of their trees; int64 of shape (f,)."""

    def __len__(self) -> int:
        return len(self.rows)

    def correlations(self, targets: Float64[Tensor, "t p"]) -> tuple[Int64[Tensor, " s"], Float64[Tensor, "s f"]]:
        """Which targets vary, and Pearson's r of each of them with every function."""
        kept, units, _, _ = _standardise(targets.to(torch.complex128))
        return kept, units @ self.vectors.T

    def best(self, targets: Float64[Tensor, "t p"], k: int, *, per_size: int = 0) -> LinearHits:
        """The functions that correlate best with each target, whatever the sign.

        Args:
            targets: finite; one that does not vary has no hits.
            k: most hits of a target.
            per_size: hits that each size of tree is sure of (within k), before the other places are filled: a small
                function that comes near is worth as much as many large ones that come nearer.
        """
        kept, r = self.correlations(targets)
        score = r.abs()
        for size in torch.unique(self.sizes) if per_size else ():
            own = torch.nonzero(self.sizes == size)[:, 0]
            top = score[:, own].topk(min(per_size, len(own)), 1).indices
            score.scatter_add_(1, own[top], torch.full(top.shape, 2.0, dtype=torch.float64))
        top = score.topk(min(k, len(self)), 1).indices
        return self._fit(targets, kept, top[..., None], r)

    def best_pairs(self, targets: Float64[Tensor, "t p"], k: int, *, n_first: int = 256) -> LinearHits:
        """The pairs of functions whose combination correlates best with each target: each of the `n_first` smallest
        functions with the partner that suits it best, and of these pairs the best.

        Args:
            targets: finite; one that does not vary has no hits.
            k: most hits of a target.
            n_first: functions that are tried as the first of a pair.
        """
        n = min(n_first, len(self))
        kept, r = self.correlations(targets)
        score, partner = r.new_full((2, len(kept), n), -1.0)
        partner = partner.long()
        for start in range(0, len(self) if n else 0, step := max(_BLOCK_NUMBERS // max(n, 1), 1)):
            products = self.vectors[:n] @ self.vectors[start : start + step].T
            room = 1.0 - products.square()
            # Each pair once: the second function comes after the first.
            usable = torch.ones_like(room, dtype=torch.bool).triu(1 - start) & (room > _INDEPENDENT)
            for target in range(len(kept)):
                first, second = r[target, :n, None], r[target, None, start : start + step]
                share = (first.square() + second.square() - 2.0 * first * second * products) / room
                best, place = torch.where(usable, share, -1.0).max(1)
                better = best > score[target]
                score[target][better], partner[target][better] = best[better], place[better] + start
        top = score.topk(min(k, int((score >= 0).sum(1).min())) if len(kept) else 0, 1).indices
        return self._fit(targets, kept, torch.stack([top, partner.gather(1, top)], -1), r)

    def _fit(self, targets: Tensor, kept: Tensor, members: Tensor, r: Tensor) -> LinearHits:
        """Least squares of the targets `kept` by functions `members` (s, k, n), ordered by R; `r` are correlations."""
        shape = (len(targets), *members.shape[1:])
        row = torch.full(shape, -1)
        correlation, intercept, lowest, highest = torch.zeros(4, *shape[:2], dtype=torch.float64)
        slope = torch.zeros(shape, dtype=torch.float64)
        if members.numel():
            chosen = self.vectors[members]
            own = r[torch.arange(len(kept))[:, None, None], members]
            factor = torch.linalg.solve(chosen @ chosen.mT, own)
            centre = targets[kept].mean(1, keepdim=True)
            norm = torch.linalg.vector_norm(targets[kept] - centre, dim=1)
            row[kept] = self.rows[members]
            correlation[kept] = (factor * own).sum(-1).clamp(0.0, 1.0).sqrt()
            slope[kept] = factor * norm[:, None, None] / self.norm[members]
            intercept[kept] = centre - (slope[kept] * self.mean[members]).sum(-1)
            value = centre[..., None] + (factor[..., None] * chosen).sum(-2) * norm[:, None, None]
            lowest[kept], highest[kept] = value.amin(-1), value.amax(-1)
        order = correlation.argsort(dim=1, descending=True, stable=True)
        terms = order[..., None].expand_as(row)
        correlation, intercept, lowest, highest = (
            figure.gather(1, order) for figure in (correlation, intercept, lowest, highest)
        )
        return LinearHits(row.gather(1, terms), correlation, slope.gather(1, terms), intercept, lowest, highest)


def _blocks(table: FunctionTable, x: Tensor, max_functions: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows and complex values of all functions up to a size. Only those that have parents are held at once; the largest,
    which are most of a table, are made block by block."""
    slices = table.level_slices()
    size = max((size for size, rows in enumerate(slices) if rows.stop <= max_functions), default=0)
    n_held = slices[max(size - 1, 0)].stop
    value = table_values(table, x, n_held)
    step = max(_BLOCK_NUMBERS // len(x), 1)
    for rows in torch.split(torch.arange(n_held), step):
        yield rows, value[rows]
    exp, log = exp_branch_cut(value), log_branch_cut(value)
    for rows in torch.split(torch.arange(n_held, slices[size].stop), step):
        if len(rows):
            yield rows, exp[table.left[rows].long()] - log[table.right[rows].long()]


def _standardise(value: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Which complex rows are real, finite and vary, those rows centred and of norm 1, and their means and norms."""
    largest = value.real.abs().amax(1)
    fine = (largest < CEILING[torch.float64]) & (value.imag.abs().amax(1) <= _REAL * largest)  # False for NaN
    rows = torch.nonzero(fine)[:, 0]
    mean = value.real[rows].mean(1)
    off = value.real[rows] - mean[:, None]
    norm = torch.linalg.vector_norm(off, dim=1)
    varies = norm > _VARIES * value.shape[1] ** 0.5 * largest[rows]
    return rows[varies], off[varies] / norm[varies, None], mean[varies], norm[varies]


def _distinct(projection: Float64[Tensor, "f 2"]) -> Int64[Tensor, " d"]:
    """The first of each run of rows with equal projections up to sign, ascending."""
    projection = projection * torch.where(projection[:, :1] < 0, -1.0, 1.0)
    order = projection[:, 0].argsort(stable=True)
    ordered = projection[order]
    new = torch.ones(len(order), dtype=torch.bool)
    new[1:] = ((ordered[1:] - ordered[:-1]).abs() > _SAME).any(1)
    run = new.cumsum(0) - 1
    first = torch.full((int(new.sum()),), len(order)).scatter_reduce(0, run, order, "amin")
    return first.sort().values
