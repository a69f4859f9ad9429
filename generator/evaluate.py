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
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from emlinit.generator.node import CEILING, forward, within
from emlinit.generator.program import Programs

RTOL = {torch.float64: 1e-10, torch.float32: 1e-3}
"""Relative error up to which a value is certified by default."""
_BLOCK_ELEMENTS = 3 << 14  # rows x points of one buffer row-block: 384 KiB in float64, a few of them fit in L2
_CHUNK_POINTS = 2048
_LARGEST_UNSURE = 0.1  # error of an argument up to which a first-order bound is one


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What `evaluate` returns."""

    value: Float[Tensor, "b p"]
    """Re(readout); 0 where invalid."""
    valid: Bool[Tensor, "b p"]
    """Where the value is finite, below the ceiling and, if asked for, certified."""
    imag: Float[Tensor, "b p"] | None = None
    """Im(readout), if asked for; 0 where invalid."""


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
    for block, points in blocks(programs, rows, n_points):
        re, im, _, ok = _sweep_complex(Block(prepared, block, x, points), limit, bound)
        value[block, points] = torch.where(ok, re, 0.0)
        valid[block, points] = ok
        if imaginary is not None:
            imaginary[block, points] = torch.where(ok, im, 0.0)
    return Evaluation(value, valid, imaginary)


def evaluate_nodes(
    programs: Programs, x: Float[Tensor, "p v"], *, ceiling: float | None = None
) -> tuple[Float[Tensor, "b n p"], Float[Tensor, "b n p"]]:
    """Real and imaginary part of every node on shared points; NaN at the points where the program is not certified
    up to that node, and for nodes that a program does not have."""
    n_rows, n_points = len(programs), x.shape[-2]
    out = x.new_full((2, n_rows, programs.max_nodes, n_points), float("nan"))
    limit = CEILING[x.dtype] if ceiling is None else ceiling
    prepared = Prepared(programs, x.dtype)
    for block, points in blocks(programs, torch.arange(n_rows, device=x.device), n_points):
        plan = Block(prepared, block, x, points)
        _, _, buffers, _ = _sweep_complex(plan, limit, RTOL[x.dtype])
        for part, buffer in enumerate(buffers):
            out[part, block, : plan.n_nodes, points] = buffer.transpose(0, 1)
    return out[0], out[1]


def blocks(programs: Programs, rows: Tensor, n_points: int) -> Iterator[tuple[Tensor, slice]]:
    """Row indices, largest programs first, and a range of points: blocks whose buffers stay in the cache."""
    if not len(rows) or not n_points:
        return
    rows = rows[torch.argsort(programs.n_nodes[rows], descending=True, stable=True)]
    scale = 1 if rows.device.type == "cpu" else 256  # an accelerator wants large launches, not a warm cache
    step = max(_BLOCK_ELEMENTS * scale // min(n_points, _CHUNK_POINTS * scale), 1)
    for block in torch.split(rows, step):
        for start in range(0, n_points, _CHUNK_POINTS * scale):
            yield block, slice(start, min(start + _CHUNK_POINTS * scale, n_points))


class Prepared:
    """What all blocks of a batch need to know of its slots, worked out once."""

    def __init__(self, programs: Programs, dtype: torch.dtype) -> None:
        self.n_nodes = programs.n_nodes
        self.n_variables = programs.n_variables
        self.source = programs.source
        self.weight, self.bias = programs.weight.to(dtype), programs.bias.to(dtype)
        used = programs.used_terms()
        place = torch.arange(used.shape[2], device=used.device)
        self.n_terms = torch.where(used, place + 1, 1).amax(-1)  # (b, s)
        # A slot of one bare source needs no arithmetic at all; nor does one of a node that the program lacks.
        bare = (self.bias == 0).all(-1) & (self.weight[:, :, 0, 0] == 1) & (self.weight[:, :, 0, 1] == 0)
        slot = torch.arange(used.shape[1], device=used.device)
        missing = (slot >= 2 * self.n_nodes[:, None]) & (slot < used.shape[1] - 1)
        self.bare = bare & (self.n_terms == 1) | missing


class Block:
    """The rows of one block and where each source lies in its buffers: [1], variables, then node-major node rows."""

    def __init__(self, prepared: Prepared, rows: Tensor, x: Tensor, points: slice) -> None:
        n_nodes = prepared.n_nodes[rows]
        self.n_nodes = int(n_nodes[0])
        self.n_rows = len(rows)
        self.n_active = (n_nodes[None] > torch.arange(self.n_nodes, device=rows.device)[:, None]).sum(-1).tolist()
        last = prepared.source.shape[1] - 1
        slots = torch.tensor([*range(2 * self.n_nodes), last], device=rows.device)
        self.bare = prepared.bare[rows].all(0)[slots].tolist()
        most = prepared.n_terms[rows].amax(0)[slots].tolist()
        self.n_terms = [1 if bare else terms for bare, terms in zip(self.bare, most, strict=True)]
        pick = (rows[:, None], slots[None], slice(0, max(self.n_terms)))
        source, self.weight, self.bias = prepared.source[pick], prepared.weight[pick], prepared.bias[pick[:2]]
        # The same as columns over points: real part, imaginary part, their sizes added up; by slot and term.
        re, im = self.weight.unbind(-1)
        self._weights = torch.stack([re, im, re.abs() + im.abs()]).permute(2, 3, 0, 1)[..., None].contiguous()
        self.zero = self.bias.new_zeros(())
        re, im = self.bias.unbind(-1)
        self._biases = torch.stack([re, im, re.abs() + im.abs()]).permute(2, 0, 1)[..., None].contiguous()
        v = prepared.n_variables
        local = torch.arange(self.n_rows, device=rows.device)[:, None, None]
        shared = x.dim() == 2
        self.x = (x[points, :v].T if shared else x[rows][:, points, :v].permute(2, 0, 1).flatten(0, 1)).contiguous()
        self.first_node_row = 1 + len(self.x)
        # A source's first row and the number of rows it takes: one if all programs share it, else one a program.
        index = torch.arange(v + 1 + self.n_nodes, device=rows.device)
        own = (index > v) | ((index > 0) & (not shared))
        first = torch.cat([torch.zeros(1, dtype=torch.int64, device=rows.device), torch.where(own, self.n_rows, 1)])
        self.row = torch.where(own[source], first.cumsum(0)[source] + local, first.cumsum(0)[source])
        self.row = self.row.permute(1, 2, 0).contiguous()  # (slot, term, program)

    def rows(self, slot: int, active: int) -> tuple[Tensor, ...]:
        """Buffer rows that each term of a slot of the first `active` programs reads."""
        return self.row[slot, : self.n_terms[slot], :active].unbind(0)

    def weights(self, slot: int, active: int) -> list[tuple[Tensor, ...]]:
        """(Real part, imaginary part, their sizes added up) of each weight of a slot of the first `active` programs."""
        columns = self._weights[slot, : self.n_terms[slot], :, :active].flatten(0, 1).unbind(0)
        return [columns[at : at + 3] for at in range(0, len(columns), 3)]

    def biases(self, slot: int, active: int) -> tuple[Tensor, ...]:
        """(Real part, imaginary part, their sizes added up) of a slot's constant in the first `active` programs."""
        return self._biases[slot, :, :active].unbind(0)

    def buffer(self, fill_x: bool) -> Tensor:
        """Rows of values (or, without `fill_x`, of zeros): [1], variables, nodes; unused node rows are 0."""
        n_points = self.x.shape[-1]
        buffer = self.x.new_zeros(self.first_node_row + self.n_nodes * self.n_rows, n_points)
        if fill_x:
            buffer[0] = 1.0
            buffer[1 : self.first_node_row] = self.x
        return buffer

    def node_rows(self, node: int) -> slice:
        """Buffer rows of one node of the active programs."""
        start = self.first_node_row + node * self.n_rows
        return slice(start, start + self.n_active[node])


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
        valid &= (unsure <= _LARGEST_UNSURE) & (error <= rtol * value.abs())
    else:
        valid &= unsure < torch.inf
    return torch.where(valid, value, 0.0), valid


def _amplify(error: Tensor, magnitude: Tensor | float) -> Tensor:
    """`error / magnitude`, growing to infinity (or NaN) as the error reaches a tenth of the magnitude, in place."""
    if isinstance(magnitude, Tensor):
        return error.div_(torch.sub(magnitude, error, alpha=10.0).clamp_min_(0.0))
    return error.div_(torch.rsub(error, magnitude, alpha=10.0).clamp_min_(0.0))


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


def _sweep_complex(
    block: Block, ceiling: float, rtol: float | None
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor], Tensor]:
    """Real and imaginary part of the readout, of all nodes (n, b, p; NaN where not certified), and the mask."""
    values = (block.buffer(fill_x=True), block.buffer(fill_x=False))
    errors = block.buffer(fill_x=False)
    unit = 4 * torch.finfo(errors.dtype).eps
    worst = errors.new_zeros(block.n_rows, errors.shape[1])
    certify = rtol is not None
    for node, active in enumerate(block.n_active):
        left_re, left_im, left_error = slot_complex(block, values, errors, 2 * node, active, unit, certify)
        right_re, right_im, right_error = slot_complex(block, values, errors, 2 * node + 1, active, unit, certify)
        rows = block.node_rows(node)
        re, im = values[0][rows], values[1][rows]
        log_re, squared = forward((left_re, left_im), (right_re, right_im), out=(re, im))[1:]
        so_far = worst[:active]
        torch.maximum(so_far, torch.maximum(re.abs(), im.abs()), out=so_far)
        if certify:
            modulus = squared.sqrt_()
            unsure = (right_re < 0) & (right_im != 0) & (right_im.abs() <= right_error)
            bound = _amplify(left_error, 1.0).add_(unit).add_(left_im.abs(), alpha=unit).mul_(left_re)
            bound.add_(_amplify(right_error, modulus)).add_(log_re.abs_().add_(1.0), alpha=unit)
            errors[rows] = bound.masked_fill_(unsure, float("inf"))
    re, im, error = slot_complex(block, values, errors, 2 * block.n_nodes, block.n_rows, unit, certify)
    valid = (worst <= ceiling) & within(re, im, ceiling)
    if rtol is not None:
        valid &= error <= rtol * re.abs()
    first, shape = block.first_node_row, (block.n_nodes, block.n_rows, errors.shape[1])
    parts = [part[first:].view(shape) for part in values]
    if rtol is not None:
        limit = torch.maximum(parts[0].abs(), parts[1].abs()) * rtol
        certain = errors[first:].view(shape) <= limit
        parts = [torch.where(certain, part, float("nan")) for part in parts]
    return re, im, (parts[0], parts[1]), valid


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
