"""All distinct functions of the exact grammar up to a size, each with its smallest tree.

Bottom-up: a function of size n is `exp(l) - ln(r)` of two smaller ones whose sizes sum to n - 1. Two functions are the same
if their values agree on generic probe points, compared through a hash of the rounded values. What is left out: values
that double precision cannot give to the digits compared (a difference below 1e-5 of its terms), and what grows beyond
the ceiling at a probe, or takes ln 0 - at each of the sets of probes.

How many there are depends on the points, the range and the ceiling: see `docs/function-counts.md`.

Legend: f, g function, k set of probes, m probe point, v variable, l token position.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Complex128, Float64, Int8, Int32, Int64
from torch import Tensor

from emlinit.generator.grammar import EML, MAX_VARIABLES, ONE, PAD, X1
from emlinit.generator.node import CEILING, absorbs, exp_branch_cut, is_negligible, log_branch_cut, log_of_node

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


def probe_sets(n_variables: int) -> Float64[Tensor, "k m v"]:
    """Sets of probe points, in the order in which they are asked: `probe_points`, smaller ones, at which less overflows, and
    those of `probe_points` with the other sign. Of random trees that have values anywhere fewer than 1 % have none at
    any of them (see `benchmarks.trees.blind_spot`)."""
    middle = probe_points(n_variables)
    return torch.stack([middle, 0.1 + 0.3 * (middle - 0.6), -middle])


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
    keys: Int64[Tensor, " k"]
    """Value keys at the sets of probes of the build, ascending: as many of a function as there are sets where it has one."""
    order: Int64[Tensor, " k"]
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
        shape = {"tokens": wide, "keys": table.keys.shape, "order": table.keys.shape}.get(name, wide[:1])
        if tensor.dtype != dtype or tensor.shape != shape or tensor.ndim != len(shape):
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
        (torch.bincount(table.order, minlength=n_rows) == 0).any()
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
        probes: points at which functions are compared; by default `probe_sets(n_variables)`, one set where the others fail.
        ceiling: functions are left out if `exp(l)` or `ln(r)` is larger at a probe of each set; a node below them may be
            larger where only its logarithm is used.
        block_pairs: pairs of children tried at once; bounds the memory beyond that of the table itself.
        progress: called with the share of the pairs tried so far, 0..1.

    Raises:
        ValueError: `n_variables` is outside 1..MAX_VARIABLES or `max_size` is negative.
    """
    if not 1 <= n_variables <= MAX_VARIABLES or max_size < 0:
        raise ValueError(
            f"no table of {n_variables} variables and size {max_size}: use 1..{MAX_VARIABLES} and 0 or more"
        )
    sets = probe_sets(n_variables) if probes is None else probes[None]
    ones = torch.ones(*sets.shape[:2], 1, dtype=torch.float64)
    value = torch.cat([ones, sets[..., :n_variables]], -1).permute(2, 0, 1).to(torch.complex128)  # (f, k, m)
    keys = [value_keys(value.real, value.imag)]
    known = np.unique(keys[0].numpy())
    children = [torch.full((2, len(value)), -1)]
    values, exps, logs = [value], [_faithful_exp(value)], [log_branch_cut(value)]
    starts = [0]
    share = _Share(max_size, progress)
    for size in range(1, max_size + 1):
        starts.append(starts[-1] + len(keys[-1]))
        found: list[tuple[Tensor, Tensor]] = []
        n_pairs = [len(exps[left]) * len(logs[size - 1 - left]) for left in range(size)]
        share.begin(size, sum(n_pairs))
        held: list[tuple[Tensor, Tensor]] = []
        for left in range(size):
            right = size - 1 - left
            width = len(logs[right])
            for rows in torch.split(torch.arange(len(exps[left])), max(block_pairs // width, 1)):
                key = _pair_keys(exps[left][rows], logs[right], ceiling)
                pick = torch.from_numpy(_first_new(key.numpy(), known))
                # What is new at one set of probes may be an old function in another spelling, which was not seen there.
                everywhere = _keys(exps[left][rows][pick // width], logs[right][pick % width], ceiling)
                unseen = _all_new(everywhere.numpy(), known)
                pick, everywhere = pick[torch.from_numpy(unseen)], everywhere[torch.from_numpy(unseen)]
                known = _merge(known, everywhere.numpy())
                of_left, of_right = rows[0] + pick // width, pick % width
                found.append((everywhere, torch.stack([starts[left] + of_left, starts[right] + of_right])))
                if size < max_size:
                    value = _difference(exps[left][of_left], logs[right][of_right])
                    held.append((value, log_of_node(value, values[left][of_left], logs[right][of_right])))
                share.add(len(rows) * width)
        keys.append(torch.cat([key for key, _ in found]))
        children.append(torch.cat([pair for _, pair in found], 1))
        if size < max_size:
            values.append(torch.cat([value for value, _ in held]))
            exps.append(_faithful_exp(values[-1]))
            logs.append(torch.cat([log for _, log in held]))
    if progress is not None:
        progress(1.0)
    counts = tuple(len(key) for key in keys)
    left_row, right_row = torch.cat(children, 1).int()
    by_row = torch.cat(keys).numpy()
    own, first = np.unique(by_row, return_index=True)  # a constant has the same key at all sets
    sorted_keys, order = (torch.from_numpy(part[own != INVALID_KEY]) for part in (own, first // by_row.shape[1]))
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


def _faithful_exp(value: Complex128[Tensor, "*n"]) -> Complex128[Tensor, "*n"]:
    """Exponentials, NaN where they say nothing of the value."""
    return exp_branch_cut(value).masked_fill(is_negligible(value.real, value.imag), complex("nan"))


def _difference(exp: Complex128[Tensor, "*n"], log: Complex128[Tensor, "*n"]) -> Complex128[Tensor, "*n"]:
    """exp - log; 0 or NaN where a double cannot tell it from 0, or not to the digits compared, and NaN where it says nothing
    of a term."""
    value = exp - log
    share = value.abs() / torch.maximum(exp.abs(), log.abs())  # NaN where a term overflows
    unknown = (share > _ZERO) & (share < _CANCELLED) | absorbs((exp.real, exp.imag), (log.real, log.imag))
    return value.masked_fill(unknown, complex("nan")).masked_fill(share <= _ZERO, 0.0)


def _keys(exp: Tensor, log: Tensor, ceiling: float) -> Tensor:
    """Keys of differences; none where a term exceeds the ceiling."""
    value = _difference(exp, log)
    value = value.masked_fill(~(torch.maximum(exp.abs(), log.abs()) < ceiling), complex("nan"))
    return value_keys(value.real.contiguous(), value.imag.contiguous())


def _pair_keys(
    exp: Complex128[Tensor, "f k m"], log: Complex128[Tensor, "g k m"], ceiling: float
) -> Int64[Tensor, " fg"]:
    """Keys of every pair, left-major, at the first set of probes where there is one."""
    shape = (len(exp), len(log), exp.shape[2])
    key = _keys(exp[:, None, 0].expand(shape).flatten(0, 1), log[None, :, 0].expand(shape).flatten(0, 1), ceiling)
    for point_set in range(1, exp.shape[1]):
        missing = torch.nonzero(key == INVALID_KEY)[:, 0]
        of_left, of_right = missing // len(log), missing % len(log)
        key[missing] = _keys(exp[of_left, point_set], log[of_right, point_set], ceiling)
    return key


def _first_new(keys: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Where each valid key that is not among the sorted `known` occurs first, ascending."""
    unique, first = np.unique(keys, return_index=True)
    place = np.minimum(np.searchsorted(known, unique), len(known) - 1)
    return np.sort(first[(known[place] != unique) & (unique != INVALID_KEY)])


def _all_new(keys: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Rows of keys (f, k) of which none is among the sorted `known` nor occurs before, ascending."""
    new = np.ones(len(keys), dtype=bool)
    for column in keys.T:
        new &= np.isin(np.arange(len(column)), _first_new(column, known)) | (column == INVALID_KEY)
    return np.flatnonzero(new)


def _merge(known: np.ndarray, fresh: np.ndarray) -> np.ndarray:
    fresh = np.unique(fresh[fresh != INVALID_KEY])
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
