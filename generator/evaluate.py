"""Safe evaluation of many different programs at once: the value, and a mask that says where it can be trusted.

    node = exp(l) - ln(r)         principal branch, Im ln in (-pi, pi]

Notable:
- Nodes are evaluated in order, node i of every program of a block together; programs are sorted by size so that the
  active ones are always a prefix. Blocks are small enough for the buffers to stay in the cache.
- Real and imaginary parts live in two real tensors: a complex `exp` or `log` of PyTorch costs three times as much. What
  is real everywhere takes a path of its own, and only programs with an invalid point there are evaluated again in
  complex arithmetic (a logarithm of a negative number leaves the real line).
- A point is invalid if anything on the way overflows, is undefined (`ln 0`), or exceeds the ceiling. With `rtol` it must
  also be *certified*: a running first-order error bound goes along with every node,

      e(exp l) = exp(l) * e(l),    e(ln r) = e(r) / |r|,    plus rounding,

  and the value counts only if its bound is below `rtol * |value|`. So a logarithm of what is zero but for rounding, a
  cancellation, or a value at the branch cut whose side is decided by rounding never passes for a number.
- Invalid values are returned as 0 with the mask False; nothing is clamped.

Legend: b batch, p point, v input variable, n tree node.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from emlinit.generator.blocks import Block, Prepared, blocks
from emlinit.generator.node import (
    CEILING,
    LARGEST_UNSURE,
    Parts,
    Scaled,
    absorbs,
    amplify,
    forward,
    in_doubles,
    is_negligible,
    scaled_eml,
    scaled_sum,
    within,
)
from emlinit.generator.program import Programs

RTOL = {torch.float64: 1e-10, torch.float32: 1e-3}
"""Relative error up to which a value is certified by default."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What `evaluate` returns."""

    value: Float[Tensor, "b p"]
    """Re(readout); 0 where invalid."""
    valid: Bool[Tensor, "b p"]
    """Where the value is finite, below the ceiling and, if asked for, certified."""
    imag: Float[Tensor, "b p"] | None = None
    """Im(readout), if asked for; 0 where invalid."""


SCALED_BLOCKS = 8
"""How many times as large the blocks of scaled numbers are: each node is a hundred operations there."""


def evaluate(
    programs: Programs,
    x: Float[Tensor, "p v"] | Float[Tensor, "b p v"],
    *,
    ceiling: float | None = None,
    rtol: float | str | None = "default",
    imag: bool = False,
) -> Evaluation:
    """Evaluate every program of a batch on its points.

    Args:
        programs: the batch; on the device of `x`.
        x: points, of shape (p, v) shared by all programs or (b, p, v); its dtype (float64 or float32) is the arithmetic.
        ceiling: largest absolute value of a node or of the result; by default 1e100 (float64) or 1e18 (float32).
        rtol: certify values to this relative error; "default" is 1e-10 (float64) or 1e-3 (float32), None asks only that
            everything is finite.
        imag: also return the imaginary part of the readout.

    Raises:
        ValueError: `x` has fewer columns than the programs have variables, or is not float32/float64.
    """
    if x.dtype not in CEILING:
        raise ValueError(f"x must be float32 or float64, got {x.dtype}")
    if x.shape[-1] < programs.n_variables:
        raise ValueError(f"x has {x.shape[-1]} columns, the programs read {programs.n_variables} variables")
    limit = CEILING[x.dtype] if ceiling is None else ceiling
    bound = RTOL[x.dtype] if rtol == "default" else rtol
    assert not isinstance(bound, str)
    n_rows, n_points = len(programs), x.shape[-2]
    value = x.new_zeros(n_rows, n_points)
    valid = torch.zeros(n_rows, n_points, dtype=torch.bool, device=x.device)
    prepared = Prepared(programs, x.dtype)
    imaginary = x.new_zeros(n_rows, n_points) if imag else None
    is_real = (programs.weight[..., 1] == 0).flatten(1).all(-1) & (programs.bias[..., 1] == 0).all(-1)
    rows = torch.nonzero(is_real)[:, 0]
    for block, points in blocks(programs, rows, n_points):
        block_value, block_valid = _sweep_real(Block(prepared, block, x, points), limit, bound)
        value[block, points] = block_value
        valid[block, points] = block_valid
    rows = torch.nonzero(~(is_real & valid.all(-1)))[:, 0]
    overflows = torch.zeros(n_rows, dtype=torch.bool, device=x.device)
    for block, points in blocks(programs, rows, n_points):
        swept = _sweep_complex(Block(prepared, block, x, points), limit, bound)
        value[block, points] = torch.where(swept.valid, swept.re, 0.0)
        valid[block, points] = swept.valid
        if imaginary is not None:
            imaginary[block, points] = torch.where(swept.valid, swept.im, 0.0)
        overflows[block] |= swept.overflows.any(-1)
    for block, points in blocks(programs, torch.nonzero(overflows)[:, 0], n_points, times=SCALED_BLOCKS):
        swept = _sweep_scaled(Block(prepared, block, x, points), limit, bound)
        fresh = swept.valid & ~valid[block, points]
        value[block, points] += torch.where(fresh, swept.re, 0.0)
        valid[block, points] |= fresh
        if imaginary is not None:
            imaginary[block, points] += torch.where(fresh, swept.im, 0.0)
    return Evaluation(value, valid, imaginary)


def evaluate_nodes(
    programs: Programs,
    x: Float[Tensor, "p v"] | Float[Tensor, "b p v"],
    *,
    ceiling: float | None = None,
    faithful: bool = False,
) -> tuple[Float[Tensor, "b n p"], Float[Tensor, "b n p"]]:
    """Real and imaginary part of every node; NaN at the points where the program is not certified
    up to that node, and for nodes that a program does not have.

    With `faithful` nor is a node known that says nothing of one of its arguments, as it is nothing beside the other
    (exp(-40) beside ln 2): functions that differ elsewhere have the same values then.
    """
    n_rows, n_points = len(programs), x.shape[-2]
    out = x.new_full((2, n_rows, programs.max_nodes, n_points), float("nan"))
    limit = CEILING[x.dtype] if ceiling is None else ceiling
    prepared = Prepared(programs, x.dtype)
    for block, points in blocks(programs, torch.arange(n_rows, device=x.device), n_points):
        swept = _sweep_complex(Block(prepared, block, x, points), limit, RTOL[x.dtype], faithful=faithful)
        for part, buffer in enumerate(swept.nodes):
            out[part, block, : len(buffer), points] = buffer.transpose(0, 1)
        overflowing = torch.nonzero(swept.overflows.any(-1))[:, 0]
        if len(overflowing):
            some = block[overflowing]
            swept = _sweep_scaled(Block(prepared, some, x, points), limit, RTOL[x.dtype], faithful=faithful)
            for part, buffer in enumerate(swept.nodes):
                out[part, some, : len(buffer), points] = buffer.transpose(0, 1)
    return out[0], out[1]


class _Swept(NamedTuple):
    """What a sweep has found for a block."""

    re: Tensor
    im: Tensor
    """The readout, (b, p)."""
    nodes: Parts
    """All nodes, (n, b, p); NaN where they are not certified."""
    valid: Tensor
    """Where the readout is valid, bool (b, p)."""
    overflows: Tensor
    """Where anything on the way exceeds the ceiling or is undefined, or the error bound is, so that scaled numbers may do
    better, bool (b, p)."""


def _sweep_real(block: Block, ceiling: float, rtol: float | None) -> tuple[Tensor, Tensor]:
    """Value and mask of a block in real arithmetic; a logarithm of a negative number makes its point invalid."""
    values = block.buffer(fill_x=True)
    errors = block.buffer(fill_x=False) if rtol is not None else None
    unit = 4 * torch.finfo(values.dtype).eps
    largest = values.new_full((block.n_rows, values.shape[1]), -torch.inf)  # argument of an exponential
    unsure = values.new_zeros(block.n_rows, values.shape[1])  # absolute (exp) or relative (ln) error of an argument
    for node, active in enumerate(block.n_active):
        left, left_error = _slot_real(block, values, errors, 2 * node, active, unit)
        right, right_error = _slot_real(block, values, errors, 2 * node + 1, active, unit)
        rows = block.node_rows(node)
        largest_so_far, unsure_so_far = largest[:active], unsure[:active]
        torch.maximum(largest_so_far, left, out=largest_so_far)
        exp, log = left.exp_(), right.log()
        torch.sub(exp, log, out=values[rows])
        if errors is None or left_error is None or right_error is None:
            torch.maximum(unsure_so_far, log.abs_(), out=unsure_so_far)  # infinite at ln 0, NaN below
            continue
        torch.maximum(unsure_so_far, left_error, out=unsure_so_far)
        bound = right_error.div_(right)
        torch.maximum(unsure_so_far, bound, out=unsure_so_far)
        torch.addcmul(bound.add_(log.abs_(), alpha=unit).add_(exp, alpha=unit), exp, left_error, out=errors[rows])
    value, error = _slot_real(block, values, errors, 2 * block.n_nodes, block.n_rows, unit)
    # ln of a double is below 1000 in size: the exponential alone decides whether a node passes the ceiling.
    valid = (largest <= math.log(ceiling)) & (value.abs() <= ceiling)
    if error is not None and rtol is not None:
        valid &= (unsure <= LARGEST_UNSURE) & (error <= rtol * value.abs())
    else:
        valid &= unsure < torch.inf
    return torch.where(valid, value, 0.0), valid


def _slot_real(
    block: Block, values: Tensor, errors: Tensor | None, slot: int, active: int, unit: float
) -> tuple[Tensor, Tensor | None]:
    """Value and error bound of one slot of the first `active` programs, in tensors that the caller may overwrite."""
    rows = block.rows(slot, active)
    if block.bare[slot]:
        return values.index_select(0, rows[0]), None if errors is None else errors.index_select(0, rows[0])
    total, _, scale = block.biases(slot, active)
    error = block.zero
    addcmul: Callable[..., Tensor] = Tensor.addcmul
    add: Callable[..., Tensor] = Tensor.add  # the first term makes the sums, the others are added in place
    for row, (weight, _, size) in zip(rows, block.weights(slot, active), strict=True):
        part = values.index_select(0, row).mul_(weight)
        total = add(total, part)
        if errors is not None:
            error = addcmul(error, errors.index_select(0, row), size)
            scale = add(scale, part.abs_())
        addcmul, add = Tensor.addcmul_, Tensor.add_
    return total, None if errors is None else error.add_(scale, alpha=unit)


def _sweep_complex(block: Block, ceiling: float, rtol: float | None, *, faithful: bool = False) -> _Swept:
    """A block in complex arithmetic."""
    values = (block.buffer(fill_x=True), block.buffer(fill_x=False))
    errors = block.buffer(fill_x=False)
    unit = 4 * torch.finfo(errors.dtype).eps
    worst = errors.new_zeros(block.n_rows, errors.shape[1])
    largest = torch.full_like(worst, -torch.inf)  # argument of an exponential
    certify = rtol is not None
    for node, active in enumerate(block.n_active):
        left_re, left_im, left_error = slot_complex(block, values, errors, 2 * node, active, unit, certify)
        right_re, right_im, right_error = slot_complex(block, values, errors, 2 * node + 1, active, unit, certify)
        rows = block.node_rows(node)
        re, im = values[0][rows], values[1][rows]
        torch.maximum(largest[:active], left_re, out=largest[:active])
        if faithful:
            absorbed = is_negligible(left_re, left_im)
        exponential, log_re, squared = forward((left_re, left_im), (right_re, right_im), out=(re, im))
        so_far = worst[:active]
        torch.maximum(so_far, torch.maximum(re.abs(), im.abs()), out=so_far)
        if certify:
            modulus = squared.sqrt_()
            if faithful:
                absorbed |= absorbs(exponential, (log_re, exponential[1] - im))
            unsure = (right_re < 0) & (right_im != 0) & (right_im.abs() <= right_error)
            bound = amplify(left_error, 1.0).add_(unit).add_(left_im.abs(), alpha=unit).mul_(left_re)
            bound.add_(amplify(right_error, modulus)).add_(log_re.abs_().add_(1.0), alpha=unit)
            errors[rows] = bound.masked_fill_(unsure | absorbed if faithful else unsure, float("inf"))
    re, im, error = slot_complex(block, values, errors, 2 * block.n_nodes, block.n_rows, unit, certify)
    overflows = ~(worst <= ceiling)  # True for NaN
    valid = within(re, im, ceiling) & ~overflows
    if rtol is not None:
        valid &= error <= rtol * re.abs()
        overflows |= error.isnan()  # of an exponential that is 0, of an argument that is not known well
    overflows &= ~(largest > ceiling)  # beyond which scaled numbers overflow, too
    return _Swept(re, im, _certain_nodes(block, values, errors, rtol), valid, overflows)


def _certain_nodes(block: Block, values: Parts, errors: Tensor, rtol: float | None) -> Parts:
    first, shape = block.first_node_row, (block.n_nodes, block.n_rows, errors.shape[1])
    re, im = (part[first:].view(shape) for part in values)
    if rtol is not None:
        certain = errors[first:].view(shape) <= torch.maximum(re.abs(), im.abs()) * rtol
        re, im = (torch.where(certain, part, float("nan")) for part in (re, im))
    return re, im


def _sweep_scaled(block: Block, ceiling: float, rtol: float | None, *, faithful: bool = False) -> _Swept:
    """A block in scaled numbers."""
    numbers = Scaled(block.buffer(fill_x=True), *(block.buffer(fill_x=False) for _ in range(3)))
    lost = numbers.error.new_zeros(block.n_rows, numbers.error.shape[1], dtype=torch.bool)
    for node, active in enumerate(block.n_active):
        left = slot_scaled(block, numbers, 2 * node, active, ceiling)
        right = slot_scaled(block, numbers, 2 * node + 1, active, ceiling)
        value, _, beyond = scaled_eml(left, right, ceiling, faithful=faithful)
        lost[:active] |= beyond
        for buffer, part in zip(numbers, in_doubles(value, ceiling), strict=True):
            buffer[block.node_rows(node)] = part
    re, im, scale, error = slot_scaled(block, numbers, 2 * block.n_nodes, block.n_rows, ceiling)
    unit = scale.clamp_max(0.0).exp()
    re, im = re * unit, im * unit
    valid = ~lost & (scale <= 0) & within(re, im, ceiling)
    if rtol is not None:
        valid &= error * unit <= rtol * re.abs()
    doubles = (numbers.re.masked_fill(numbers.scale != 0, torch.nan), numbers.im)
    return _Swept(re, im, _certain_nodes(block, doubles, numbers.error, rtol), valid, lost)


def slot_scaled(block: Block, numbers: Scaled, slot: int, active: int, ceiling: float) -> Scaled:
    """One slot of the first `active` programs, of buffers of scaled numbers."""
    rows = block.rows(slot, active)
    if block.bare[slot]:
        return numbers.rows(rows[0])
    weights = block.weights(slot, active)
    terms = [(numbers.rows(row), re, im) for row, (re, im, _) in zip(rows, weights, strict=True)]
    return scaled_sum(terms, block.biases(slot, active)[:2], ceiling)


def slot_complex(
    block: Block, values: tuple[Tensor, Tensor], errors: Tensor, slot: int, active: int, unit: float, certify: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Real part, imaginary part and error bound of one slot of the first `active` programs, in fresh tensors."""
    rows = block.rows(slot, active)
    if block.bare[slot]:
        error = errors.index_select(0, rows[0]) if certify else errors
        return values[0].index_select(0, rows[0]), values[1].index_select(0, rows[0]), error
    total_re, total_im, scale = block.biases(slot, active)
    error = block.zero
    addcmul: Callable[..., Tensor] = Tensor.addcmul  # the first term makes the sums, the others are added in place
    for row, (weight_re, weight_im, size) in zip(rows, block.weights(slot, active), strict=True):
        re, im = values[0].index_select(0, row), values[1].index_select(0, row)
        total_re = addcmul(total_re, re, weight_re).addcmul_(im, weight_im, value=-1.0)
        total_im = addcmul(total_im, im, weight_re).addcmul_(re, weight_im)
        if certify:
            error = addcmul(error, errors.index_select(0, row), size)
            scale = addcmul(scale, re.abs_().add_(im.abs_()), size)
        addcmul = Tensor.addcmul_
    return total_re, total_im, error.add_(scale, alpha=unit) if certify else errors
