"""Value and derivatives of many programs with respect to every constant, by one analytic reverse sweep.

The node is complex-differentiable (see `generator.node`). Points do not interact, so one backward sweep from the readout,
kept per point, gives the whole Jacobian. Points that overflow are done again in scaled numbers (see `evaluate`). As
`y = Re(readout)`,

    dy/d Re(w) = Re(a * source),   dy/d Im(w) = -Im(a * source),   a = d readout / d slot.

Legend: b batch, p point, v input variable, s slot, t term.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from emlinit.generator.blocks import Block, Prepared, blocks
from emlinit.generator.evaluate import SCALED_BLOCKS, slot_complex, slot_scaled
from emlinit.generator.node import (
    CEILING,
    Parts,
    Scaled,
    forward,
    in_doubles,
    reciprocal,
    reverse,
    scaled_eml,
    within,
)
from emlinit.generator.program import Programs


@dataclass(frozen=True, eq=False)
class Jacobian:
    """What `value_and_jacobian` returns."""

    value: Float64[Tensor, "b p"]
    """Re(readout); 0 where invalid."""
    valid: Bool[Tensor, "b p"]
    """Where the value and all derivatives are finite and no node exceeds the ceiling but for its logarithm."""
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
    overflows = torch.zeros(n_rows, dtype=torch.bool, device=x.device)

    def write(found: "_Found", rows: Tensor, points: slice, block: Block) -> None:
        """Put what was found into its place, where nothing was valid before."""
        fresh = found.valid & ~valid[rows, points]
        value[rows, points] += torch.where(fresh, found.value, 0.0)
        valid[rows, points] |= fresh
        for local, slot in enumerate([*range(2 * block.n_nodes), n_slots - 1]):
            part = torch.where(fresh[:, None, None], found.by_weight[:, local], 0.0)
            d_weight[rows, slot, : part.shape[1], :, points] += part
            d_bias[rows, slot, :, points] += torch.where(fresh[:, None], found.by_bias[:, local], 0.0)

    for rows, points in blocks(programs, torch.arange(n_rows, device=x.device), n_points):
        block = Block(prepared, rows, x, points)
        found = _sweep(block, ceiling)
        write(found, rows, points, block)
        overflows[rows] |= found.overflows.any(-1)
    for rows, points in blocks(programs, torch.nonzero(overflows)[:, 0], n_points, times=SCALED_BLOCKS):
        block = Block(prepared, rows, x, points)
        write(_sweep_scaled(block, ceiling), rows, points, block)
    d_weight.mul_(programs.used_terms()[..., None, None])
    return Jacobian(value, valid, d_weight.permute(0, 4, 1, 2, 3), d_bias.permute(0, 3, 1, 2))


class _Found(NamedTuple):
    """What a sweep has found for a block."""

    value: Tensor
    """Re(readout), (b, p)."""
    valid: Tensor
    """Where it and all derivatives are finite, bool (b, p)."""
    by_weight: Tensor
    """(b, s, t, 2, p)."""
    by_bias: Tensor
    """(b, s, 2, p)."""
    overflows: Tensor
    """Where scaled numbers may do better, bool (b, p)."""


def _sweep(block: Block, ceiling: float) -> _Found:
    """Forward and reverse sweep of one block."""
    values = (block.buffer(fill_x=True), block.buffer(fill_x=False))
    n_points = values[0].shape[1]
    worst = values[0].new_zeros(block.n_rows, n_points)
    largest = torch.full_like(worst, -torch.inf)  # argument of an exponential
    exponentials: list[Parts] = []
    reciprocals: list[Parts] = []
    for node, active in enumerate(block.n_active):
        left_re, left_im, _ = slot_complex(block, values, values[0], 2 * node, active, 0.0, False)
        right_re, right_im, _ = slot_complex(block, values, values[0], 2 * node + 1, active, 0.0, False)
        rows = block.node_rows(node)
        re, im = values[0][rows], values[1][rows]
        torch.maximum(largest[:active], left_re, out=largest[:active])
        exponential, _, squared = forward((left_re, left_im), (right_re, right_im), out=(re, im))
        torch.maximum(worst[:active], torch.maximum(re.abs(), im.abs()), out=worst[:active])
        exponentials.append(exponential)
        reciprocals.append(reciprocal(right_re, right_im, squared))
    last = 2 * block.n_nodes
    re, im, _ = slot_complex(block, values, values[0], last, block.n_rows, 0.0, False)
    overflows = ~(worst <= ceiling)

    gradients = _Gradients(block, values)
    gradients.pull(last, block.n_rows, (torch.ones_like(re), torch.zeros_like(re)))
    for node in range(block.n_nodes - 1, -1, -1):
        active, rows = block.n_active[node], block.node_rows(node)
        left, right = reverse(gradients.of(rows), exponentials[node], reciprocals[node])
        gradients.pull(2 * node, active, left)
        gradients.pull(2 * node + 1, active, right)
    valid = within(re, im, ceiling) & ~overflows & gradients.finite()
    return _Found(re, valid, gradients.by_weight, gradients.by_bias, overflows & ~(largest > ceiling))


def _sweep_scaled(block: Block, ceiling: float) -> _Found:
    """The same in scaled numbers: an adjoint is the derivative by the number's parts, m of m exp(s), and so neither
    overflows nor vanishes where the number does.

        slot m' exp(s') = Σ w m exp(s)    dy/dm = w exp(s - s') dy/dm'      dy/dw = m exp(s - s') dy/dm'
        node m exp(s) = exp(l) - ln(r)    dy/dl = exp(l - s) dy/dm          dy/dr = -exp(-s)/r dy/dm
    """
    numbers = Scaled(block.buffer(fill_x=True), *(block.buffer(fill_x=False) for _ in range(3)))
    lost = numbers.re.new_zeros(block.n_rows, numbers.re.shape[1], dtype=torch.bool)
    slots: list[Scaled] = []
    units: list[tuple[Tensor, Tensor]] = []
    exponentials: list[Parts] = []
    for node, active in enumerate(block.n_active):
        slots += [slot_scaled(block, numbers, 2 * node + side, active, ceiling) for side in (0, 1)]
        value, exponential, beyond = scaled_eml(slots[-2], slots[-1], ceiling)
        lost[:active] |= beyond
        kept = in_doubles(value, ceiling)
        for buffer, part in zip(numbers, kept, strict=True):
            buffer[block.node_rows(node)] = part
        numbers.error[block.node_rows(node)] = 0.0
        exponentials.append(exponential)
        units.append((value.scale, (value.scale - kept.scale).exp()))
    last = 2 * block.n_nodes
    readout = slot_scaled(block, numbers, last, block.n_rows, ceiling)
    unit = readout.scale.clamp_max(0.0).exp()
    value_re, value_im = readout.re * unit, readout.im * unit

    gradients = _Gradients(block, (numbers.re, numbers.im), numbers.scale)
    gradients.pull(last, block.n_rows, (unit, torch.zeros_like(unit)), readout.scale)
    for node in range(block.n_nodes - 1, -1, -1):
        active, rows = block.n_active[node], block.node_rows(node)
        left, right, (scale, share) = slots[2 * node], slots[2 * node + 1], units[node]
        a_re, a_im = gradients.of(rows)
        squared = right.re.square() + right.im.square()
        by_left, by_right = reverse(
            (a_re * share, a_im * share), exponentials[node], reciprocal(right.re.clone(), right.im.clone(), squared)
        )
        shrink = left.scale.clamp_max(0.0).exp()
        # What is tiny has ln(r) = 0 as it is; its derivative by r is beyond numbers, and r is the constant 1.
        fraction = torch.where(scale < 0, 0.0, (-scale).exp())
        gradients.pull(2 * node, active, (by_left[0] * shrink, by_left[1] * shrink), left.scale)
        gradients.pull(2 * node + 1, active, (by_right[0] * fraction, by_right[1] * fraction), right.scale)
    valid = within(value_re, value_im, ceiling) & (readout.scale <= 0) & ~lost & gradients.finite()
    return _Found(value_re, valid, gradients.by_weight, gradients.by_bias, lost)


class _Gradients:
    """Adjoints of all rows of a block's buffers, and the derivatives collected from them."""

    def __init__(self, block: Block, values: Parts, scale: Tensor | None = None) -> None:
        """`scale` is that of the values, if they are scaled numbers."""
        self._block, self._values, self._scale = block, values, scale
        self._adjoints = (block.buffer(fill_x=False), block.buffer(fill_x=False))
        n_points, n_slots = values[0].shape[1], 2 * block.n_nodes + 1
        self.by_weight = values[0].new_zeros(block.n_rows, n_slots, block.weight.shape[2], 2, n_points)
        self.by_bias = values[0].new_zeros(block.n_rows, n_slots, 2, n_points)

    def of(self, rows: slice) -> Parts:
        """Adjoints of some rows."""
        return self._adjoints[0][rows], self._adjoints[1][rows]

    def finite(self) -> Bool[Tensor, "b p"]:
        """Where all derivatives are finite."""
        return self.by_weight.sum((1, 2, 3)).isfinite() & self.by_bias.sum((1, 2)).isfinite()

    def pull(self, slot: int, active: int, adjoint: Parts, scale: Tensor | None = None) -> None:
        """Derivatives by the constants of a slot, and its adjoint handed on to its sources; `scale` is that of the slot."""
        block, values = self._block, self._values
        unit = 1.0 if scale is None else (-scale).exp()
        self.by_bias[:active, slot, 0] = adjoint[0] * unit
        self.by_bias[:active, slot, 1] = -adjoint[1] * unit
        for term in range(block.n_terms[slot]):
            rows = block.row[slot, term, :active]
            adjoint_re, adjoint_im = adjoint
            if scale is not None and self._scale is not None:
                share = (self._scale.index_select(0, rows) - scale).exp()
                adjoint_re, adjoint_im = adjoint_re * share, adjoint_im * share
            source_re, source_im = values[0].index_select(0, rows), values[1].index_select(0, rows)
            self.by_weight[:active, slot, term, 0] = adjoint_re * source_re - adjoint_im * source_im
            self.by_weight[:active, slot, term, 1] = -(adjoint_re * source_im + adjoint_im * source_re)
            weight_re, weight_im = block.weight[:active, slot, term, :1], block.weight[:active, slot, term, 1:]
            self._adjoints[0].index_add_(0, rows, adjoint_re * weight_re - adjoint_im * weight_im)
            self._adjoints[1].index_add_(0, rows, adjoint_re * weight_im + adjoint_im * weight_re)
