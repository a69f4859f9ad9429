"""All distinct functions of the exact grammar up to a size, each with its smallest tree.

Bottom-up: a function of size n is `exp(l) - ln(r)` of two smaller ones whose sizes sum to n - 1. Two functions are the same
if their values agree on generic probe points, compared through a hash of the rounded values.

Legend: f function, m probe point, v variable, l token position.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from emlinit.generator.grammar import EML, ONE, PAD, X1

INVALID_KEY = -1
_KEY_BITS = 36  # values are compared to about 1.5e-11 of their size
_GENERIC = 0.7390851332151607
_CANCELLED, _ZERO = 1e-5, 1e-12  # of the larger term: below the first a difference is inexact, below the second it is 0


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
    """Distinct functions, sorted by key."""

    keys: Int64[Tensor, " f"]
    """Ascending."""
    sizes: Int64[Tensor, " f"]
    """Size of the smallest tree."""
    tokens: Int64[Tensor, "f l"]
    """The smallest tree (of several, the first found)."""

    def find(self, keys: Int64[Tensor, "*b"]) -> Int64[Tensor, "*b"]:
        """Row of each key, -1 where the table has no such function."""
        row = torch.searchsorted(self.keys, keys.contiguous()).clamp_max(len(self.keys) - 1)
        return torch.where(self.keys[row] == keys, row, -1)


def build_table(n_variables: int, max_size: int, probes: Float64[Tensor, "m v"]) -> FunctionTable:
    """All distinct functions of up to `max_size` nodes in up to `n_variables` variables."""
    ones = torch.ones(1, len(probes), dtype=torch.complex128)
    values = [torch.cat([ones, probes.T[:n_variables].to(torch.complex128)])]
    tokens = [torch.tensor([[ONE], *([X1 + i] for i in range(n_variables))])]
    known = value_keys(values[0].real, values[0].imag)
    keys = [known]
    for size in range(1, max_size + 1):
        level: list[tuple[Tensor, Tensor, Tensor]] = []
        for left in range(size):
            right = size - 1 - left
            value, key = _combine(values[left], values[right])
            fresh = torch.nonzero((key != INVALID_KEY) & ~torch.isin(key, known))[:, 0]
            pair = _join(tokens[left][fresh // len(values[right])], tokens[right][fresh % len(values[right])], size)
            level.append((key[fresh], value[fresh], pair))
        key, value, pair = (torch.cat(parts) for parts in zip(*level, strict=True))
        first = torch.from_numpy(np.sort(np.unique(key.numpy(), return_index=True)[1]))
        keys.append(key[first])
        values.append(value[first])
        tokens.append(pair[first])
        known = torch.cat([known, key[first]])
    width = 2 * max_size + 1
    sizes = torch.cat([torch.full((len(key),), size) for size, key in enumerate(keys)])
    all_tokens = torch.cat([torch.nn.functional.pad(t, (0, width - t.shape[1]), value=PAD) for t in tokens])
    order = torch.argsort(known)
    return FunctionTable(known[order], sizes[order], all_tokens[order])


def _combine(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Values and keys of every pair, left-major."""
    exp = torch.exp(left)
    # + 0 turns an imaginary part of -0 into 0: the branch cut belongs to +pi
    log = torch.log(torch.complex(right.real + 0.0, right.imag + 0.0))
    value = (exp[:, None] - log[None]).flatten(0, 1)
    larger = torch.maximum(exp.abs()[:, None].expand(-1, len(right), -1), log.abs()[None]).flatten(0, 1)
    size = value.abs()
    value = torch.where(size <= _ZERO * larger, 0.0, value)
    unsure = (size > _ZERO * larger) & (size < _CANCELLED * larger) | ~(larger < 1e100)
    key = value_keys(value.real.contiguous(), value.imag.contiguous())
    return value, torch.where(unsure.any(-1), INVALID_KEY, key)


def _join(left: Tensor, right: Tensor, size: int) -> Tensor:
    """Tokens of `eml left right` for rows of equal lengths."""
    assert left.shape[1] + right.shape[1] == 2 * size
    return torch.cat([torch.full((len(left), 1), EML), left, right], dim=1)
