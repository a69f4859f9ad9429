"""The routed network's value under hard choices, and its gradient by the soft ones.

Forward, every slot takes exactly the source it chose. Backward, the probability of *every* choice of a slot gets the
derivative it would have if the slot were the mixture `Σ_c probability_c · source_c`: the straight-through estimator, in
closed form. Three things follow and are used:

- Only nodes that the readout reaches, and the nodes their slots *could* take, are ever evaluated. Of a full tree of
  depth 6 that is a handful of 63.
- `eml` is holomorphic, so with `dy = Re(a · dslot)` one complex adjoint a slot and point gives everything: a node hands it
  on to its two slots (`generator.node.reverse`), and the probability of source z gets Σ_points Re(a · z).
- Invalid points (overflow, ln 0, above the ceiling) are marked where they arise, their value and all their derivatives
  are 0 from there on, and the mark is handed to whoever reads them. No NaN ever meets a gradient.

- What no double holds is kept as m exp(s) (`generator.node.Scaled`), at those points alone: the tables hold m then, and s
  has a table of its own, which most passes never make. Adjoints are derivatives by m. As an alternative that was not
  chosen such a number has no gradient.

A row is the values of one (restart, node) pair on all points. Rows that are real everywhere skip cos, sin and atan2.

Legend: r restart, p point, v input variable, n tree node, s slot, t term, c choice, k row.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from emlinit.finetune.routing.topology import Topology
from emlinit.generator.node import (
    Parts,
    Scaled,
    exp_parts,
    in_doubles,
    log_parts,
    reciprocal,
    reverse,
    scaled_eml,
    scaled_sum,
    within,
)

_LARGEST_ADJOINT = 1e150


@dataclass(frozen=True, eq=False)
class RoutePlan:
    """Which rows are evaluated, in which order, and what each one reads."""

    source: Int64[Tensor, "r s t"]
    """Chosen source of each term."""
    reached: Bool[Tensor, "r n"]
    """Nodes that the readout depends on."""
    row_of: Int64[Tensor, "r sources"]
    """Row of each source: 0 the constant, 1..v the variables, then evaluated nodes; -1 where not evaluated."""
    restart: tuple[Tensor, ...]
    """Restart of each row, one int64 tensor (k,) a level, deepest first."""
    node: tuple[Tensor, ...]
    """Node of each row, likewise."""


def plan_route(topology: Topology, choice: Int64[Tensor, "r s t"], *, candidates: bool = True) -> RoutePlan:
    """Find the nodes to evaluate: those reached and, with `candidates`, those that a reached slot could take."""
    r, leaves, n = len(choice), topology.n_variables + 1, topology.n_nodes
    source = topology.sources[torch.arange(topology.n_slots, device=choice.device)[:, None], choice]
    reached = torch.zeros(r, n, dtype=torch.bool, device=choice.device)
    needed = torch.zeros_like(reached)

    def mark(first: int, end: int, slot_reached: Tensor, slot_needed: Tensor) -> None:
        sources = source[:, first:end]
        restart, slot, term = ((sources >= leaves) & slot_needed[:, :, None]).nonzero(as_tuple=True)
        child = sources[restart, slot, term] - leaves
        needed[restart, child] = True
        from_reached = slot_reached[restart, slot]  # a node may have several parents: set, never write back a False
        reached[restart[from_reached], child[from_reached]] = True
        if candidates:
            could = topology.allowed[first:end] & (topology.sources[first:end] >= leaves)
            restart, slot, option = (could & slot_reached[:, :, None]).nonzero(as_tuple=True)
            needed[restart, topology.sources[first:end][slot, option] - leaves] = True

    everywhere = torch.ones(r, 1, dtype=torch.bool, device=choice.device)
    mark(2 * n, 2 * n + 1, everywhere, everywhere)
    for first, end in reversed(topology.levels):
        both = (reached[:, first:end], needed[:, first:end])
        mark(2 * first, 2 * end, both[0].repeat_interleave(2, 1), both[1].repeat_interleave(2, 1))
    row_of = torch.full((r, leaves + n), -1, device=choice.device)
    row_of[:, :leaves] = torch.arange(leaves, device=choice.device)
    restarts, nodes, rows = [], [], leaves
    for first, end in topology.levels:
        restart, node = needed[:, first:end].nonzero(as_tuple=True)
        node = node + first
        row_of[restart, leaves + node] = torch.arange(rows, rows + len(node), device=choice.device)
        restarts.append(restart)
        nodes.append(node)
        rows += len(node)
    return RoutePlan(source, reached, row_of, tuple(restarts), tuple(nodes))


class _Sweep:
    """Row tables of one forward pass, kept for the backward pass."""

    def __init__(self, plan: RoutePlan, weight: Tensor | None, bias: Tensor | None, x: Tensor, ceiling: float) -> None:
        self.plan, self.weight, self.bias, self.ceiling = plan, weight, bias, ceiling
        self.leaves = x.shape[1] + 1
        rows = self.leaves + sum(len(node) for node in plan.node)
        self.re, self.im = x.new_zeros(rows, len(x)), x.new_zeros(rows, len(x))
        self.re[0] = 1.0
        self.re[1 : self.leaves] = x.T
        self.bad = torch.zeros(rows, len(x), dtype=torch.bool, device=x.device)
        self.is_complex = torch.zeros(rows, dtype=torch.bool, device=x.device)
        self.scale: Tensor | None = None
        """Scales of all rows, once one is not 0."""
        self.exponentials: list[Parts] = []
        self.reciprocals: list[Parts] = []
        row = self.leaves
        for restart, node in zip(plan.restart, plan.node, strict=True):
            end = row + len(node)
            self._node(slice(row, end), self.slot(restart, 2 * node), self.slot(restart, 2 * node + 1))
            row = end
        everyone = torch.arange(len(plan.source), device=x.device)
        self.last = torch.full_like(everyone, plan.source.shape[1] - 1)
        re, im, self.readout_bad, _, scale = self.slot(everyone, self.last)
        self.unit: Tensor | None = None
        """What the readout's m is multiplied by, if anything."""
        if scale is not None:
            self.readout_bad, self.unit = self.readout_bad | (scale > 0), scale.clamp_max(0.0).exp()
            re, im = re * self.unit, im * self.unit
        self.readout_bad = self.readout_bad | ~within(re, im, ceiling)
        self.value = torch.where(self.readout_bad, 0.0, re)

    def rows(self, restart: Tensor, slot: Tensor) -> Tensor:
        """Rows that the terms of some slots read, (k, t)."""
        return self.plan.row_of[restart[:, None], self.plan.source[restart, slot]]

    def slot(self, restart: Tensor, slot: Tensor) -> "_Slot":
        """The values of some slots."""
        rows = self.rows(restart, slot)
        if self.weight is None or self.bias is None:
            only = rows[:, 0]
            scale = None if self.scale is None else self.scale[only]
            return _Slot(self.re[only], self.im[only], self.bad[only], self.is_complex[only], scale)
        bias, weight = self.bias[restart, slot], self.weight[restart, slot]
        re, im = bias[:, :1].expand(-1, self.re.shape[1]), bias[:, 1:].expand(-1, self.re.shape[1])
        bad, is_complex = torch.zeros_like(re, dtype=torch.bool), bias[:, 1] != 0
        for term in range(rows.shape[1]):
            w_re, w_im = weight[:, term, :1], weight[:, term, 1:]
            z_re, z_im = self.re[rows[:, term]], self.im[rows[:, term]]
            re, im = re + (w_re * z_re - w_im * z_im), im + (w_re * z_im + w_im * z_re)
            used = (weight[:, term] != 0).any(1)
            bad = bad | (self.bad[rows[:, term]] & used[:, None])
            is_complex = is_complex | (used & self.is_complex[rows[:, term]]) | (weight[:, term, 1] != 0)
        plain = _Slot(re, im, bad, is_complex, None)
        return plain if self.scale is None else self._scaled_sum(plain, rows, weight, bias)

    def _scaled_sum(self, plain: "_Slot", rows: Tensor, weight: Tensor, bias: Tensor) -> "_Slot":
        """The same sums, in scaled numbers where a term is one."""
        assert self.scale is not None
        used = (weight != 0).any(2)
        which, point = ((self.scale[rows] != 0) & used[:, :, None]).any(1).nonzero(as_tuple=True)
        terms = [
            (self._numbers(rows[which, term], point), weight[which, term, 0], weight[which, term, 1])
            for term in range(rows.shape[1])
        ]
        total = scaled_sum(terms, bias[which].unbind(1), self.ceiling)
        re, im, scale = plain.re.clone(), plain.im.clone(), torch.zeros_like(plain.re)
        for table, part in zip((re, im, scale), total, strict=False):
            table[which, point] = part
        return plain._replace(re=re, im=im, scale=scale)

    def _numbers(self, row: Tensor, point: Tensor) -> Scaled:
        """Single values of the tables; their rounding is not followed."""
        re = self.re[row, point]
        scale = torch.zeros_like(re) if self.scale is None else self.scale[row, point]
        return Scaled(re, self.im[row, point], scale, torch.zeros_like(re))

    def _node(self, rows: slice, left: "_Slot", right: "_Slot") -> None:
        """The nodes of a level, all in real arithmetic, then in complex those rows that a phase or a negative number makes
        so, and in scaled numbers the points that overflow."""
        l_re, l_im, l_bad, l_complex, l_scale = left
        r_re, r_im, r_bad, r_complex, r_scale = right
        e_re = l_re.exp()
        e_im = torch.zeros_like(e_re)
        turning = l_complex.nonzero()[:, 0]
        if len(turning):
            e_re[turning], e_im[turning] = exp_parts(e_re[turning], l_im[turning])
        log_re, log_im = r_re.log(), torch.zeros_like(r_re)
        q_re, q_im = r_re.reciprocal(), torch.zeros_like(r_re)
        cut = (r_complex | (r_re < 0).any(1)).nonzero()[:, 0]  # rows whose logarithm may leave the real line
        if len(cut):
            c_re, c_im = r_re[cut], r_im[cut]
            (log_re[cut], log_im[cut]), squared = log_parts(c_re, c_im)
            q_re[cut], q_im[cut] = reciprocal(c_re, c_im, squared)
        re, im = e_re - log_re, e_im - log_im
        wrong = l_bad | r_bad
        bad = wrong | ~within(re, im, self.ceiling)
        again = bad & ~wrong
        for scale in (l_scale, r_scale):
            again = again if scale is None else again | ((scale != 0) & ~wrong)
        if bool(again.any()):
            which, point = again.nonzero(as_tuple=True)
            found = self._scaled_node(left.at(which, point), right.at(which, point))
            node, bad[which, point] = found[0], found[3]
            for table, part in zip((re, im, e_re, e_im, q_re, q_im), (*node[:2], *found[1], *found[2]), strict=True):
                table[which, point] = part
            if bool((node.scale != 0).any()) and self.scale is None:
                self.scale = torch.zeros_like(self.re)
            if self.scale is not None:
                self.scale[rows.start + which, point] = torch.where(found[3], 0.0, node.scale)
            l_complex = l_complex.clone()
            l_complex[which[node.im != 0]] = True
        if bool(bad.any()):
            for table in (re, im, e_re, e_im, q_re, q_im):
                table.masked_fill_(bad, 0.0)
        self.re[rows], self.im[rows], self.bad[rows] = re, im, bad
        self.is_complex[rows] = l_complex
        self.is_complex[rows.start + cut] = True
        self.exponentials.append((e_re, e_im))
        self.reciprocals.append((q_re, q_im))

    def _scaled_node(self, left: Scaled, right: Scaled) -> tuple[Scaled, Parts, Parts, Tensor]:
        """Single nodes, exponentials and reciprocals such that `reverse` leads from the derivative by a node's m to those by
        its arguments', and where they are bad."""
        value, exponential, lost = scaled_eml(left, right, self.ceiling)
        node = in_doubles(value, self.ceiling)
        to_left = (value.scale - node.scale + left.scale.clamp_max(0.0)).exp()
        # What is tiny has ln(r) = 0 as it is; its derivative by r is beyond numbers.
        to_right = torch.where(node.scale < 0, 0.0, (-node.scale).exp())
        q_re, q_im = reciprocal(right.re.clone(), right.im.clone(), right.re.square() + right.im.square())
        e_re, e_im = exponential
        return node, (e_re * to_left, e_im * to_left), (q_re * to_right, q_im * to_right), lost


class _Slot(NamedTuple):
    """Values of some slots."""

    re: Tensor
    im: Tensor
    """Parts (k, p)."""
    bad: Tensor
    """Points that count for nothing, bool (k, p)."""
    is_complex: Tensor
    """Which rows may be complex, bool (k,)."""
    scale: Tensor | None
    """That of the parts (see `Scaled`), if any is not 0, (k, p)."""

    def at(self, which: Tensor, point: Tensor) -> Scaled:
        """Single values."""
        re = self.re[which, point]
        scale = torch.zeros_like(re) if self.scale is None else self.scale[which, point]
        return Scaled(re, self.im[which, point], scale, torch.zeros_like(re))


class HardRoute(torch.autograd.Function):
    """`value, valid = HardRoute.apply(probability, weight, bias, topology, plan, x, ceiling)`.

    Args of `apply`:
        probability: float64 (r, s, t, c), read by the backward pass only.
        weight, bias: float64 (r, s, t, 2) and (r, s, 2), real and imaginary parts; both None in the exact grammar.
        topology, plan: the network and the hard choices, planned with their candidates.
        x: float64 (p, v).
        ceiling: largest absolute value of a node.

    Returns:
        value: float64 (r, p), Re(readout), 0 where invalid.
        valid: bool (r, p).
    """

    @staticmethod
    def forward(
        ctx: Any,
        probability: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        topology: Topology,
        plan: RoutePlan,
        x: Tensor,
        ceiling: float,
    ) -> tuple[Tensor, Tensor]:
        """See the class."""
        sweep = _Sweep(plan, weight, bias, x, ceiling)
        ctx.sweep, ctx.topology, ctx.shape = sweep, topology, probability.shape
        valid = ~sweep.readout_bad
        ctx.mark_non_differentiable(valid)
        return sweep.value, valid

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients by the probabilities and, in a weighted topology, by weights and biases."""
        sweep, plan = ctx.sweep, ctx.sweep.plan
        adjoint = _Adjoint(sweep, ctx.topology, ctx.shape)
        readout = torch.where(sweep.readout_bad, 0.0, gradients[0])
        if sweep.unit is not None:
            readout = readout * sweep.unit
        everyone = torch.arange(len(readout), device=readout.device)
        adjoint.pull(everyone, sweep.last, readout, torch.zeros_like(readout))
        row = sweep.re.shape[0]
        for level in reversed(range(len(plan.node))):
            restart, node = plan.restart[level], plan.node[level]
            row -= len(node)
            live = plan.reached[restart, node].nonzero()[:, 0]
            if not len(live):
                continue
            (e_re, e_im), (q_re, q_im) = sweep.exponentials[level], sweep.reciprocals[level]
            left, right = reverse(
                (adjoint.re[row + live], adjoint.im[row + live]), (e_re[live], e_im[live]), (q_re[live], q_im[live])
            )
            adjoint.pull(restart[live], 2 * node[live], *left)
            adjoint.pull(restart[live], 2 * node[live] + 1, *right)
        return adjoint.by_probability, adjoint.by_weight, adjoint.by_bias, None, None, None, None


class _Adjoint:
    """Adjoints of all rows, and the gradients collected from them."""

    def __init__(self, sweep: _Sweep, topology: Topology, shape: torch.Size) -> None:
        self.sweep, self.topology = sweep, topology
        self.re, self.im = torch.zeros_like(sweep.re), torch.zeros_like(sweep.im)
        self.by_probability = sweep.re.new_zeros(shape)
        self.by_weight = None if sweep.weight is None else torch.zeros_like(sweep.weight)
        self.by_bias = None if sweep.bias is None else torch.zeros_like(sweep.bias)

    def pull(self, restart: Tensor, slot: Tensor, a_re: Tensor, a_im: Tensor) -> None:
        """Take the adjoints (k, p) of some slots: gradients of their choices and numbers, adjoints of their sources."""
        sweep, limit = self.sweep, _LARGEST_ADJOINT
        a_re, a_im = (a.nan_to_num_(0.0, limit, -limit) for a in (a_re, a_im))
        rows = sweep.rows(restart, slot)
        scale = None if sweep.scale is None else sweep.slot(restart, slot).scale
        for term in range(rows.shape[1]):
            share: Tensor | None = None  # a unit of the source in those of the slot, where they differ
            if sweep.weight is None or self.by_weight is None:
                t_re, t_im = a_re, a_im
            else:
                z_re, z_im = sweep.re[rows[:, term]], sweep.im[rows[:, term]]
                if sweep.scale is not None and scale is not None:
                    share = (sweep.scale[rows[:, term]] - scale).exp()
                    z_re, z_im = z_re * share, z_im * share
                self.by_weight[restart, slot, term, 0] = (a_re * z_re - a_im * z_im).sum(1)
                self.by_weight[restart, slot, term, 1] = -(a_re * z_im + a_im * z_re).sum(1)
                w_re, w_im = (part[:, None] for part in sweep.weight[restart, slot, term].unbind(1))
                t_re, t_im = a_re * w_re - a_im * w_im, a_re * w_im + a_im * w_re
            self._choices(restart, slot, term, t_re, t_im, scale)
            if share is not None:
                t_re, t_im = t_re * share, t_im * share
            inner = (rows[:, term] >= sweep.leaves).nonzero()[:, 0]
            self.re.index_add_(0, rows[inner, term], t_re[inner])
            self.im.index_add_(0, rows[inner, term], t_im[inner])
        if self.by_bias is not None:
            unit = 1.0 if scale is None else (-scale).exp()
            self.by_bias[restart, slot, 0], self.by_bias[restart, slot, 1] = (a_re * unit).sum(1), -(a_im * unit).sum(1)

    def _choices(
        self, restart: Tensor, slot: Tensor, term: int, a_re: Tensor, a_im: Tensor, scale: Tensor | None
    ) -> None:
        sweep, leaves = self.sweep, self.sweep.leaves
        out = a_re.new_zeros(len(slot), self.by_probability.shape[3])
        own_re, own_im = a_re, a_im
        if scale is not None:
            unit = torch.where(scale < 0, 0.0, (-scale).exp())
            a_re, a_im = a_re * unit, a_im * unit
        out[:, :leaves] = a_re @ sweep.re[:leaves].T
        could, option = self.topology.allowed[slot, leaves:].nonzero(as_tuple=True)
        rows = sweep.plan.row_of[restart[could], self.topology.sources[slot[could], leaves + option]]
        z_re, z_im = sweep.re[rows], sweep.im[rows]
        if sweep.scale is not None and scale is not None:
            above = sweep.scale[rows] - scale[could]
            share = torch.where(above > 0, 0.0, above.exp())
            mixed = (own_re[could] * z_re - own_im[could] * z_im) * share
        else:
            mixed = a_re[could] * z_re - a_im[could] * z_im
        out[could, leaves + option] = mixed.sum(1)
        self.by_probability[restart, slot, term] = out
