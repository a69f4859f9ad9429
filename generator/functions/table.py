"""All distinct functions of the exact grammar up to a size, each with its smallest tree.

Bottom-up: a function of size n is `exp(l) - ln(r)` of two smaller ones whose sizes sum to n - 1. Two functions are the same
if their values agree on generic probe points, compared through a hash of the rounded values. What is left out: values
that double precision cannot give to the digits compared (a difference below 1e-5 of its terms), and what grows beyond
the ceiling at a probe, or takes ln 0.

How many there are depends on the points, the range and the ceiling: see `docs/function-counts.md`.

Legend: f function, m probe point, v variable, l token position.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int8, Int32, Int64
from torch import Tensor

from emlinit.generator.grammar import EML, MAX_VARIABLES, ONE, PAD, X1
from emlinit.generator.node import CEILING, log_branch_cut

INVALID_KEY = -1
_KEY_BITS = 36  # values are compared to about 1.5e-11 of their size
_GENERIC = 0.7390851332151607
_CANCELLED, _ZERO = 1e-5, 1e-12  # of the larger term: below the first a difference is inexact, below the second it is 0
_BLOCK_PAIRS = 1 << 16  # pairs tried at once: some tens of MB in flight


def probe_points(n_variables: int, n_probes: int = 3) -> Float64[Tensor, "m v"]:
    """Fixed positive points at which functions are told apart: fractional parts of multiples of square roots of primes."""
    roots = np.sqrt([2.0, 3.0, 5.0, 7.0, 11.0, 13.0])[:n_variables]
    steps = np.arange(1, n_probes + 1)[:, None]
    return torch.from_numpy(0.6 + 1.4 * np.modf(steps * roots + 0.1234567)[0])


def value_keys(re: Float64[Tensor, "*f m"], im: Float64[Tensor, "*f m"]) -> Int64[Tensor, "*f"]:
    """A hash of the complex values at all probes, equal for values that agree to about 1e-11; `INVALID_KEY` where any
    value is not finite."""
    # Away from powers of two and from ties, where simple values such as 1 would be split by their rounding errors.
    re, im = re * _GENERIC, im * _GENERIC
    size = torch.maximum(re.abs(), im.abs())
    finite = torch.isfinite(size).all(-1)
    exponent = torch.frexp(torch.where(torch.isfinite(size), size, 0.0)).exponent
    key = torch.zeros(re.shape[:-1], dtype=torch.int64, device=re.device)
    for part in (re, im):
        scaled = torch.ldexp(torch.where(torch.isfinite(part), part, 0.0), _KEY_BITS - exponent).round().long()
        for probe in range(re.shape[-1]):
            key = (key ^ (scaled[..., probe] + 0x9E3779B9 + (key << 6) + (key >> 2))) * 0x2545F4914F6CDD1D
            key = (key ^ exponent[..., probe].long()) * 0x9E3779B97F4A7C1
    key = key ^ (key >> 29)
    return torch.where(finite, key.abs(), INVALID_KEY)


@dataclass(frozen=True, eq=False)
class FunctionTable:
    """Distinct functions ordered by size: row 0 is the constant 1, rows 1..v the variables, children before parents."""

    n_variables: int
    """Variables that the functions may read."""
    max_size: int
    """Most eml nodes of a tree."""
    sizes: Int64[Tensor, " f"]
    """Eml nodes of the smallest tree; ascending."""
    left: Int32[Tensor, " f"]
    """Row of the left child; -1 for leaves."""
    right: Int32[Tensor, " f"]
    """Row of the right child; -1 for leaves."""
    tokens: Int8[Tensor, "f l"]
    """The smallest tree (of several, the first found) in prefix order, padded with `PAD` to 2 * max_size + 1."""
    counts: tuple[int, ...]
    """New functions at each size 0..max_size."""
    keys: Int64[Tensor, " f"]
    """Value keys at the probes of the build, ascending."""
    order: Int64[Tensor, " f"]
    """Row of each key."""

    def __len__(self) -> int:
        return len(self.sizes)

    def find(self, keys: Int64[Tensor, "*b"]) -> Int64[Tensor, "*b"]:
        """Row of each key, -1 where the table has no such function."""
        place = torch.searchsorted(self.keys, keys.contiguous()).clamp_max(len(self.keys) - 1)
        return torch.where(self.keys[place] == keys, self.order[place], -1)

    def to(self, device: torch.device | str) -> "FunctionTable":
        """The same table on another device."""
        tensors: dict[str, Any] = {
            name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        return replace(self, **tensors)

    def tokens_of(self, rows: Int64[Tensor, "*b"]) -> Int64[Tensor, "*b l"]:
        """Prefix tokens of the trees of some rows, padded to 2 * max_size + 1."""
        return self.tokens[rows].long()

    def level_slices(self) -> tuple[slice, ...]:
        """The rows of each size 0..max_size."""
        ends = np.cumsum(self.counts).tolist()
        return tuple(slice(end - count, end) for end, count in zip(ends, self.counts, strict=True))


def check_table(table: FunctionTable) -> None:
    """Make sure that a table read from a file has the form of a built one: no look-up in it can go astray.

    That each key is of its row's function is not worked out again.

    Raises:
        ValueError: it has not.
    """
    n_rows, n_leaves = sum(table.counts), table.n_variables + 1
    wide = (n_rows, 2 * table.max_size + 1)
    forms = {"left": torch.int32, "right": torch.int32, "tokens": torch.int8, "keys": torch.int64, "order": torch.int64}
    for name, dtype in forms.items():
        tensor: Tensor = getattr(table, name)
        if tensor.dtype != dtype or tuple(tensor.shape) != (wide if name == "tokens" else wide[:1]):
            raise ValueError(f"{name} is of another form")
    if len(table.counts) != table.max_size + 1 or table.counts[0] != n_leaves:
        raise ValueError("other counts")
    children = torch.stack([table.left, table.right]).long()
    inner = children[:, n_leaves:]
    if bool((children[:, :n_leaves] != -1).any()) or bool(((inner < 0) | (inner >= n_rows)).any()):
        raise ValueError("children that are no rows")
    # A child is smaller than its parent, so no row can be below itself.
    if not torch.equal(table.sizes[inner].sum(0) + 1, table.sizes[n_leaves:]):
        raise ValueError("children of other sizes")
    if not torch.equal(table.tokens, _tokens(table.left, table.right, table.n_variables, table.counts)):
        raise ValueError("tokens that are not of the children")
    if bool((table.keys < 0).any()) or bool((table.keys[1:] <= table.keys[:-1]).any()):
        raise ValueError("keys that are not ascending")
    if bool(((table.order < 0) | (table.order >= n_rows)).any()) or bool(
        (torch.bincount(table.order, minlength=n_rows) != 1).any()
    ):
        raise ValueError("an order that leaves rows out")


def build_table(
    n_variables: int,
    max_size: int,
    probes: Float64[Tensor, "m v"] | None = None,
    *,
    ceiling: float = CEILING[torch.float64],
    block_pairs: int = _BLOCK_PAIRS,
    progress: Callable[[float], None] | None = None,
) -> FunctionTable:
    """All distinct functions of up to `max_size` nodes in up to `n_variables` variables.

    Args:
        n_variables: variables that a tree may read, at least 1.
        max_size: most eml nodes of a tree, at least 0.
        probes: points at which functions are compared; `probe_points(n_variables)` by default.
        ceiling: functions are left out if `exp(l)`, `ln(r)` or a value on the way to them is larger at a probe.
        block_pairs: pairs of children tried at once; bounds the memory beyond that of the table itself.
        progress: called with the share of the pairs tried so far, 0..1.

    Raises:
        ValueError: `n_variables` is outside 1..MAX_VARIABLES or `max_size` is negative.
    """
    if not 1 <= n_variables <= MAX_VARIABLES or max_size < 0:
        raise ValueError(
            f"no table of {n_variables} variables and size {max_size}: use 1..{MAX_VARIABLES} and 0 or more"
        )
    probes = probe_points(n_variables) if probes is None else probes
    ones = torch.ones(1, len(probes), dtype=torch.complex128)
    value = torch.cat([ones, probes.T[:n_variables].to(torch.complex128)])
    known = np.sort(value_keys(value.real, value.imag).numpy())
    keys = [value_keys(value.real, value.imag)]
    children = [torch.full((2, len(value)), -1)]
    exps, logs = [torch.exp(value)], [log_branch_cut(value)]
    starts = [0]
    share = _Share(max_size, progress)
    for size in range(1, max_size + 1):
        starts.append(starts[-1] + len(keys[-1]))
        found: list[tuple[Tensor, Tensor, Tensor]] = []
        n_pairs = [len(exps[left]) * len(logs[size - 1 - left]) for left in range(size)]
        share.begin(size, sum(n_pairs))
        for left in range(size):
            right = size - 1 - left
            width = len(logs[right])
            for rows in torch.split(torch.arange(len(exps[left])), max(block_pairs // width, 1)):
                value, key = _combine(exps[left][rows], logs[right], ceiling)
                first = _first_new(key.numpy(), known)
                known = _merge(known, key.numpy()[first])
                pick = torch.from_numpy(first)
                pair = torch.stack([starts[left] + rows[0] + pick // width, starts[right] + pick % width])
                found.append((key[pick], value[pick], pair))
                share.add(len(rows) * width)
        keys.append(torch.cat([key for key, _, _ in found]))
        children.append(torch.cat([pair for _, _, pair in found], 1))
        if size < max_size:
            value = torch.cat([value for _, value, _ in found])
            exps.append(torch.exp(value))
            logs.append(log_branch_cut(value))
    if progress is not None:
        progress(1.0)
    counts = tuple(len(key) for key in keys)
    left_row, right_row = torch.cat(children, 1).int()
    sorted_keys, order = torch.cat(keys).sort()
    tokens = _tokens(left_row, right_row, n_variables, counts)
    sizes = torch.repeat_interleave(torch.arange(max_size + 1), torch.tensor(counts))
    return FunctionTable(n_variables, max_size, sizes, left_row, right_row, tokens, counts, sorted_keys, order)


class _Share:
    """Tells `progress` how far the build is. A size has about 5 times the pairs of the size before, which is near enough:
    the pairs of the sizes to come are not known before their functions are."""

    def __init__(self, max_size: int, progress: Callable[[float], None] | None) -> None:
        self._progress = progress
        self._max_size = max_size
        self._done = self._total = 0.0

    def begin(self, size: int, n_pairs: int) -> None:
        self._total = self._done + n_pairs * sum(5.0**k for k in range(self._max_size - size + 1))

    def add(self, n_pairs: int) -> None:
        self._done += n_pairs
        if self._progress is not None:
            self._progress(min(self._done / self._total, 1.0))


def _combine(exp: Tensor, log: Tensor, ceiling: float) -> tuple[Tensor, Tensor]:
    """Values and keys of every pair, left-major."""
    value = (exp[:, None] - log[None]).flatten(0, 1)
    larger = torch.maximum(exp.abs()[:, None].expand(-1, len(log), -1), log.abs()[None]).flatten(0, 1)
    size = value.abs()
    value = torch.where(size <= _ZERO * larger, 0.0, value)
    unsure = (size > _ZERO * larger) & (size < _CANCELLED * larger) | ~(larger < ceiling)
    key = value_keys(value.real.contiguous(), value.imag.contiguous())
    return value, torch.where(unsure.any(-1), INVALID_KEY, key)


def _first_new(keys: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Where each valid key that is not among the sorted `known` occurs first, ascending."""
    unique, first = np.unique(keys, return_index=True)
    place = np.minimum(np.searchsorted(known, unique), len(known) - 1)
    return np.sort(first[(known[place] != unique) & (unique != INVALID_KEY)])


def _merge(known: np.ndarray, fresh: np.ndarray) -> np.ndarray:
    fresh = np.sort(fresh)
    return np.insert(known, np.searchsorted(known, fresh), fresh)


def _tokens(left: Tensor, right: Tensor, n_variables: int, counts: tuple[int, ...]) -> Tensor:
    """Prefix tokens of every row from its children's, size by size."""
    max_size = len(counts) - 1
    tokens = torch.full((len(left), 2 * max_size + 1), PAD, dtype=torch.int8)
    tokens[: n_variables + 1, 0] = torch.tensor([ONE, *range(X1, X1 + n_variables)])
    starts = [0, *np.cumsum(counts).tolist()]
    for size in range(1, max_size + 1):
        tokens[starts[size] : starts[size + 1], 0] = EML
        # The rows of one size are in the order of the left child's size.
        ends = torch.searchsorted(
            left[starts[size] : starts[size + 1]].contiguous(), torch.tensor(starts[1 : size + 1])
        )
        begin = starts[size]
        for left_size, end in enumerate((starts[size] + ends).tolist()):
            rows, middle = slice(begin, end), 2 + 2 * left_size
            tokens[rows, 1:middle] = tokens[left[rows], : middle - 1]
            tokens[rows, middle : 2 * size + 1] = tokens[right[rows], : 2 * size + 1 - middle]
            begin = end
    return tokens
