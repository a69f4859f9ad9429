"""Tidying programs without changing what they compute, and reading logarithms in them.

Legend: b batch, s slot, t term, n tree node.
"""

import math
from dataclasses import replace

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from emlinit.generator.program import Programs


def fold_constants(programs: Programs) -> Programs:
    """Nodes of plain real numbers, such as eml(1, 1) = e, become part of the constants of the slots that read them.

    The factor of such a term, if free, makes the slot's constant free. A node whose own numbers are free or whose right
    slot is not positive stays.
    """
    source, weight, bias = programs.source.clone(), programs.weight.clone(), programs.bias.clone()
    free_weight, free_bias = programs.free_weight.clone(), programs.free_bias.clone()
    leaves = programs.n_variables + 1
    for node in range(programs.max_nodes):
        pair = slice(2 * node, 2 * node + 2)
        plain = (source[:, pair] == 0).flatten(1).all(1) & (weight[:, pair, :, 1] == 0).flatten(1).all(1)
        plain &= (bias[:, pair, 1] == 0).all(1) & ~free_bias[:, pair].flatten(1).any(1)
        plain &= ~free_weight[:, pair].flatten(1).any(1) & (node < programs.n_nodes)
        left, right = (weight[:, pair, :, 0].sum(-1) + bias[:, pair, 0]).unbind(1)
        value = left.exp() - right.log()
        reads = (source == leaves + node) & (plain & (right > 0) & value.isfinite())[:, None, None]
        bias += (
            torch.where(reads[..., None], weight, 0.0) * torch.where(reads, value[:, None, None], 0.0)[..., None]
        ).sum(2)
        free_bias |= (reads[..., None] & free_weight).any(2)
        source = torch.where(reads, 0, source)
        weight = torch.where(reads[..., None], 0.0, weight)
        free_weight = free_weight & ~reads[..., None]
    folded = replace(programs, source=source, weight=weight, bias=bias, free_weight=free_weight, free_bias=free_bias)
    return drop_dead_nodes(folded)


def fold_ones(programs: Programs) -> Programs:
    """Terms that read the constant 1 become part of their slot's constant, free if their factors are."""
    is_one = (programs.source == 0)[..., None]
    return replace(
        programs,
        weight=torch.where(is_one, 0.0, programs.weight),
        bias=programs.bias + torch.where(is_one, programs.weight, 0.0).sum(2),
        free_weight=programs.free_weight & ~is_one,
        free_bias=programs.free_bias | (programs.free_weight & is_one).any(2),
    )


def drop_dead_nodes(programs: Programs) -> Programs:
    """The same programs without the nodes that their readouts do not depend on."""
    b, s, _ = programs.source.shape
    leaves, n = programs.n_variables + 1, s // 2
    live = torch.zeros(b, leaves + n, dtype=torch.bool, device=programs.device)
    used = programs.used_terms()
    for slot in range(s - 1, -1, -1):  # readout first, then every node after its readers
        reads = used[:, slot] & (live[:, leaves + slot // 2, None] if slot < s - 1 else torch.ones_like(used[:, slot]))
        row, term = reads.nonzero(as_tuple=True)
        live[row, programs.source[row, slot, term]] = True
    nodes = live[:, leaves:]
    place = nodes.long().cumsum(1) - 1
    renumber = torch.cat([torch.arange(leaves, device=programs.device).expand(b, -1), leaves + place.clamp_min(0)], 1)
    source = torch.where(used, renumber.gather(1, programs.source.flatten(1)).view_as(programs.source), 0)
    keep = torch.cat([nodes.repeat_interleave(2, 1), nodes.new_ones(b, 1)], 1)
    target = torch.cat([(2 * place).repeat_interleave(2, 1), place.new_full((b, 1), s - 1)], 1)
    target[:, 1:-1:2] += 1
    rows, slots = keep.nonzero(as_tuple=True)

    def move(old: Tensor) -> Tensor:
        new = torch.zeros_like(old)
        new[rows, target[rows, slots]] = old[rows, slots]
        return new

    return Programs(
        move(source),
        move(programs.weight),
        move(programs.bias),
        nodes.sum(1),
        programs.n_variables,
        move(programs.free_weight),
        move(programs.free_bias),
    )[torch.arange(b, device=programs.device)]


def drop_unused_terms(programs: Programs) -> Programs:
    """The same programs with the terms of each slot side by side, and no more places for them than are needed."""
    used = programs.used_terms()
    order = (
        (~used).to(torch.int8).argsort(dim=-1, stable=True)[..., : max(1, int(used.sum(-1).max()) if len(used) else 1)]
    )
    pairs = order[..., None].expand(*order.shape, 2)
    return replace(
        programs,
        source=torch.where(used, programs.source, 0).gather(-1, order),
        weight=programs.weight.gather(2, pairs),
        free_weight=programs.free_weight.gather(2, pairs),
    )


def logarithm_shifts(programs: Programs) -> Float64[Tensor, "b s"]:
    """For each slot e · (sum of the fixed weights on logarithms), 0 if one of these weights is still free.

    As ln u = e - eml(1, u), a slot `c + w·eml(1, u)` is `(c + w·e) - w·ln u`: this is the w·e.
    """
    b, s, t = programs.source.shape
    is_log = _reads(programs, _is_constant_slot(programs, 0)).view(b, s, t) & (programs.weight[..., 0] != 0)
    unsure = (is_log & programs.free_weight[..., 0]).any(-1)
    shift: Tensor = math.e * torch.where(is_log, programs.weight[..., 0], 0.0).sum(-1)
    return torch.where(unsure, 0.0, shift)


def fix_simple_exponents(programs: Programs) -> Programs:
    """The same programs with the multiples of 1/2 that logarithms are multiplied by in an exponent no longer free: the 2 in
    exp(2 ln u)."""
    b, s, t = programs.source.shape
    is_log = _reads(programs, _is_constant_slot(programs, 0)).view(b, s, t)
    weight = programs.weight[..., 0]
    simple = is_log & ((2 * weight - (2 * weight).round()).abs() < 1e-12) & (programs.weight[..., 1] == 0)
    simple[:, 1::2] = False  # a right slot
    simple[:, -1] = False  # the readout
    return replace(programs, free_weight=programs.free_weight & ~simple[..., None])


def scaled_exponentials(programs: Programs) -> Bool[Tensor, "b s"]:
    """Left slots of plain exponentials eml(·, 1) whose every reader has a free factor: a constant there is for free."""
    b, s, _ = programs.source.shape
    leaves = programs.n_variables + 1
    fixed_reader = programs.used_terms() & ~programs.free_weight[..., 0]
    bound = torch.zeros(b, leaves + s // 2, dtype=torch.int64, device=programs.device)
    bound.scatter_add_(1, programs.source.flatten(1), fixed_reader.flatten(1).long())
    loose = _is_constant_slot(programs, 1) & (bound[:, leaves:] == 0)
    out = torch.zeros(b, s, dtype=torch.bool, device=programs.device)
    out[:, : s - 1 : 2] = loose
    return out


def _is_constant_slot(programs: Programs, side: int) -> Bool[Tensor, "b n"]:
    """Nodes whose slot on one side is the plain number 1."""
    slots = slice(side, programs.source.shape[1] - 1, 2)
    plain = (programs.source[:, slots] == 0).all(-1) & (programs.bias[:, slots, 1] == 0)
    plain &= (programs.weight[:, slots, :, 1] == 0).all(-1) & ~programs.free_bias[:, slots].any(-1)
    plain &= ~programs.free_weight[:, slots].flatten(2).any(-1)
    return plain & (programs.weight[:, slots, :, 0].sum(-1) + programs.bias[:, slots, 0] == 1.0)


def _reads(programs: Programs, nodes: Bool[Tensor, "b n"]) -> Tensor:
    """For each term, flattened, whether its source is one of `nodes`."""
    leaves = nodes.new_zeros(len(nodes), programs.n_variables + 1)
    return torch.cat([leaves, nodes], 1).gather(1, programs.source.flatten(1))


def shift_variables(programs: Programs, shift: Float64[Tensor, " v"]) -> Programs:
    """The same laws where each variable was `shift` less: x - shift is read in place of x."""
    by_source = torch.zeros(programs.n_variables + 1 + programs.max_nodes, dtype=torch.float64)
    by_source[1 : 1 + programs.n_variables] = shift
    moved = (programs.weight * by_source[programs.source][..., None]).sum(-2)
    return programs.with_constants(programs.weight, programs.bias - moved)
