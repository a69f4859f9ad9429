"""Value and derivatives of many programs with respect to every constant, by one analytic reverse sweep.

The node is complex-differentiable (see `generator.node`). Points do not interact, so one backward sweep from the readout,
kept per point, gives the whole Jacobian. As `y = Re(readout)`,

    dy/d Re(w) = Re(a * source),   dy/d Im(w) = -Im(a * source),   a = d readout / d slot.

Legend: b batch, p point, v input variable, s slot, t term.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from emlinit.generator.evaluate import Block, Prepared, blocks, slot_complex
from emlinit.generator.node import CEILING, Parts, forward, reciprocal, reverse, within
from emlinit.generator.program import Programs


@dataclass(frozen=True, eq=False)
class Jacobian:
    """What `value_and_jacobian` returns."""

    value: Float64[Tensor, "b p"]
    """Re(readout); 0 where invalid."""
    valid: Bool[Tensor, "b p"]
    """Where the value and all derivatives are finite and no node exceeds the ceiling."""
    d_weight: Float64[Tensor, "b p s t 2"]
    """Derivatives by the real and imaginary part of each weight; 0 where invalid and for unused terms."""
    d_bias: Float64[Tensor, "b p s 2"]
    """Derivatives by the real and imaginary part of each bias; 0 where invalid."""


def value_and_jacobian(
    programs: Programs, x: Float64[Tensor, "p v"] | Float64[Tensor, "b p v"], *, ceiling: float = CEILING[torch.float64]
) -> Jacobian:
    """Values and derivatives of a batch of programs.

    Memory is that of the result, `b * p * s * (t + 1) * 2` doubles: split large batches or many points before the call.
    The mask does not certify rounding (see `evaluate`): a fit needs finite numbers, not proven ones.
    """
    n_rows, n_points = len(programs), x.shape[-2]
    n_slots, n_terms = programs.source.shape[1:]
    prepared = Prepared(programs, x.dtype)
    value = x.new_zeros(n_rows, n_points)
    valid = torch.zeros(n_rows, n_points, dtype=torch.bool, device=x.device)
    d_weight = x.new_zeros(n_rows, n_slots, n_terms, 2, n_points)
    d_bias = x.new_zeros(n_rows, n_slots, 2, n_points)
    for rows, points in blocks(programs, torch.arange(n_rows, device=x.device), n_points):
        block = Block(prepared, rows, x, points)
        slots = [*range(2 * block.n_nodes), n_slots - 1]
        block_value, block_valid, by_weight, by_bias = _sweep(block, ceiling)
        value[rows, points] = block_value
        valid[rows, points] = block_valid
        for local, slot in enumerate(slots):
            d_weight[rows, slot, : by_weight.shape[2], :, points] = by_weight[:, local]
            d_bias[rows, slot, :, points] = by_bias[:, local]
    d_weight.mul_(programs.used_terms()[..., None, None])
    return Jacobian(value, valid, d_weight.permute(0, 4, 1, 2, 3), d_bias.permute(0, 3, 1, 2))


def _sweep(block: Block, ceiling: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Forward and reverse sweep of one block: value, mask, d_weight (b, s, t, 2, p) and d_bias (b, s, 2, p)."""
    values = (block.buffer(fill_x=True), block.buffer(fill_x=False))
    n_points = values[0].shape[1]
    worst = values[0].new_zeros(block.n_rows, n_points)
    exponentials: list[Parts] = []
    reciprocals: list[Parts] = []
    for node, active in enumerate(block.n_active):
        left_re, left_im, _ = slot_complex(block, values, values[0], 2 * node, active, 0.0, False)
        right_re, right_im, _ = slot_complex(block, values, values[0], 2 * node + 1, active, 0.0, False)
        rows = block.node_rows(node)
        re, im = values[0][rows], values[1][rows]
        exponential, _, squared = forward((left_re, left_im), (right_re, right_im), out=(re, im))
        torch.maximum(worst[:active], torch.maximum(re.abs(), im.abs()), out=worst[:active])
        exponentials.append(exponential)
        reciprocals.append(reciprocal(right_re, right_im, squared))
    last = 2 * block.n_nodes
    re, im, _ = slot_complex(block, values, values[0], last, block.n_rows, 0.0, False)
    valid = (worst <= ceiling) & within(re, im, ceiling)

    adjoints = (block.buffer(fill_x=False), block.buffer(fill_x=False))
    by_weight = re.new_zeros(block.n_rows, last + 1, block.weight.shape[2], 2, n_points)
    by_bias = re.new_zeros(block.n_rows, last + 1, 2, n_points)

    def pull(slot: int, active: int, adjoint_re: Tensor, adjoint_im: Tensor) -> None:
        """Derivatives by the constants of one slot, and its adjoint handed on to its sources."""
        by_bias[:active, slot, 0] = adjoint_re
        by_bias[:active, slot, 1] = -adjoint_im
        for term in range(block.n_terms[slot]):
            rows = block.row[slot, term, :active]
            source_re, source_im = values[0].index_select(0, rows), values[1].index_select(0, rows)
            by_weight[:active, slot, term, 0] = adjoint_re * source_re - adjoint_im * source_im
            by_weight[:active, slot, term, 1] = -(adjoint_re * source_im + adjoint_im * source_re)
            weight_re, weight_im = block.weight[:active, slot, term, :1], block.weight[:active, slot, term, 1:]
            adjoints[0].index_add_(0, rows, adjoint_re * weight_re - adjoint_im * weight_im)
            adjoints[1].index_add_(0, rows, adjoint_re * weight_im + adjoint_im * weight_re)

    pull(last, block.n_rows, torch.ones_like(re), torch.zeros_like(re))
    for node in range(block.n_nodes - 1, -1, -1):
        active, rows = block.n_active[node], block.node_rows(node)
        left, right = reverse((adjoints[0][rows], adjoints[1][rows]), exponentials[node], reciprocals[node])
        pull(2 * node, active, *left)
        pull(2 * node + 1, active, *right)
    finite = by_weight.sum((1, 2, 3)).isfinite() & by_bias.sum((1, 2)).isfinite()
    valid = valid & finite
    by_weight = torch.where(valid[:, None, None, None], by_weight, 0.0)
    by_bias = torch.where(valid[:, None, None], by_bias, 0.0)
    return torch.where(valid, re, 0.0), valid, by_weight, by_bias
