"""Which random trees arithmetic cannot see: how many levels of exponentials their values need on the way, and how many of
them have no value key.

Trees are drawn by depth, on supports of their own and not through the canonical form. A tree counts if it makes a problem:
real, moderate and not constant at half of its points at least, *in truth*, which is worked out with numbers of three
levels, z, exp(z) and exp(exp(z)):

    exp raises a number that no double holds by one level, ln takes one away; what is taken from such a number is nothing.

Legend: b tree, p point.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Complex128, Float64, Int64
from torch import Tensor

from emlinit.generator.corpus.canonical import Canonicaliser
from emlinit.generator.corpus.examples import random_supports
from emlinit.generator.corpus.frozen import FROZEN_ONE_SHARE, FROZEN_VARIABLES
from emlinit.generator.corpus.trees import trees_by_depth
from emlinit.generator.evaluate import evaluate
from emlinit.generator.functions.table import INVALID_KEY
from emlinit.generator.grammar import EML, ONE, X1, subtree_lengths
from emlinit.generator.node import CEILING, exp_branch_cut, log_branch_cut
from emlinit.generator.program import programs_from_tokens

LEVELS = 2
"""Most exponentials on top of a double."""
_LIMIT = math.log(CEILING[torch.float64])  # from there on an exponential is held by its logarithm
_LARGEST, _REAL = 1e8, 1e-9  # as frozen problems are
_POINTS = 64
_BLOCK = 512


@dataclass(frozen=True)
class BlindSpot:
    """Counts of random trees of one depth."""

    depth: int
    """In eml nodes."""
    problems: int
    """Trees that make a problem."""
    by_levels: tuple[int, ...]
    """Of these, how many need 0, 1, ..., `LEVELS` exponentials on top of a double for half of the points."""
    seen: int
    """Of these, how many the evaluator certifies at half of the points at least, as is needed to train on them."""
    with_key: int
    """Of those, how many have a value key."""


def blind_spot(depth: int, n: int, seed: int) -> BlindSpot:
    """Count on `n` random trees that make a problem."""
    generator = torch.Generator().manual_seed(seed)
    canonicaliser = Canonicaliser(FROZEN_VARIABLES, 3)
    found = torch.zeros(0, 3, dtype=torch.int64)
    while len(found) < n:
        count = torch.randint(1, FROZEN_VARIABLES + 1, (_BLOCK, 1), generator=generator)
        mask = torch.arange(FROZEN_VARIABLES) < count
        tokens = trees_by_depth(torch.full((_BLOCK,), depth), mask, FROZEN_ONE_SHARE, generator)
        x = random_supports(_BLOCK, _POINTS, FROZEN_VARIABLES, generator, tokens.device)
        value, levels = leveled_values(tokens, x)
        usable = (value.imag.abs() <= _REAL * value.real.abs()) & (value.real.abs() <= _LARGEST)
        y = torch.where(usable, value.real, torch.nan)
        spread = y.nan_to_num(-torch.inf).amax(-1) - y.nan_to_num(torch.inf).amin(-1)
        varies = spread > 1e-4 * y.abs().nan_to_num(0.0).amax(-1)
        rows = torch.nonzero((usable.sum(-1) >= _POINTS // 2) & varies)[:, 0]
        tokens, needed = tokens[rows], torch.where(usable, levels, LEVELS + 1).kthvalue(_POINTS // 2).values[rows]
        programs = programs_from_tokens(tokens, torch.zeros(tokens.shape, dtype=torch.float64), FROZEN_VARIABLES)
        result = evaluate(programs, x[rows], imag=True)
        assert result.imag is not None
        certain = result.valid & usable[rows] & (result.imag.abs() <= _REAL * result.value.abs())
        seen = certain.sum(-1) >= _POINTS // 2
        key = canonicaliser.node_keys(tokens)[:, 0]
        found = torch.cat([found, torch.stack([needed, seen, seen & (key != INVALID_KEY)], -1).long()])
    needed, seen, keyed = found[:n].unbind(-1)
    by_levels = tuple(int((needed == level).sum()) for level in range(LEVELS + 1))
    return BlindSpot(depth, n, by_levels, int(seen.sum()), int(keyed.sum()))


def leveled_values(
    tokens: Int64[Tensor, "b l"], x: Float64[Tensor, "b p v"]
) -> tuple[Complex128[Tensor, "b p"], Int64[Tensor, "b p"]]:
    """Values of exact trees, NaN where they need more than `LEVELS`, and the levels that they need on the way.

    To the accuracy of a count: rounding is not certified.
    """
    spans = subtree_lengths(tokens)
    n_rows, length = tokens.shape
    number = torch.full((n_rows, length + 1, x.shape[1]), complex("nan"), dtype=torch.complex128)
    level = torch.zeros(number.shape, dtype=torch.int64)
    leaves = torch.cat([torch.ones_like(x[..., :1]), x], -1).transpose(1, 2).to(torch.complex128)
    row, place = torch.nonzero((tokens == ONE) | (tokens >= X1), as_tuple=True)
    kind = tokens[row, place]
    number[row, place] = leaves[row, torch.where(kind == ONE, 0, kind - X1 + 1)]
    needed = torch.zeros(n_rows, x.shape[1], dtype=torch.int64)
    for position in range(length - 2, -1, -1):  # children stand to the right of their parent
        rows = torch.nonzero(tokens[:, position] == EML)[:, 0]
        if not len(rows):
            continue
        left, right = position + 1, position + 1 + spans[rows, position + 1]
        exp, exp_level = _exp(number[rows, left], level[rows, left])
        log, log_level = _log(number[rows, right], level[rows, right])
        minus = torch.complex(log.real, log.imag + torch.pi)  # of -ln(r), where that is huge
        number[rows, position] = torch.where(exp_level > 0, exp, torch.where(log_level > 0, minus, exp - log))
        level[rows, position] = torch.maximum(exp_level, log_level)
        needed[rows] = torch.maximum(needed[rows], level[rows, position])
    root = number[:, 0].masked_fill(level[:, 0] > 0, complex("nan"))
    return root, needed


def _exp(number: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
    rises = (level > 0) | (number.real > _LIMIT)
    angle = torch.where(level == 1, number.imag, 0.0)
    falls = (level == 1) & (angle.cos() < -1e-9)  # minus infinity
    lost = (level >= LEVELS) & ~falls
    value = torch.where(rises, number, exp_branch_cut(number)).masked_fill(falls, 0.0)
    return value.masked_fill(lost, complex("nan")), torch.where(falls, 0, level + rises).clamp_max(LEVELS)


def _log(number: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
    angle = torch.atan2(number.imag.sin(), number.imag.cos())
    angle = torch.where(number.imag.abs() == torch.pi, torch.pi, angle)
    held = torch.complex(number.real, torch.where(level == 1, angle, number.imag))
    defined = torch.where(number == 0, complex("nan"), log_branch_cut(number))
    return torch.where(level > 0, held, defined), (level - 1).clamp_min(0)
