"""Routing logits to start from: a decoder's predictions laid onto the slots of a full tree.

A candidate's tokens in prefix order fill slots: the first fills the readout, and after an `eml` come its left slot and
everything below it, then its right slot. At every position the decoder gave log-probabilities over all token kinds, not
only over the one it took: those are the slot's routing logits. Slots that the candidate does not use get a flat prior.

Legend: b batch (candidate), l token position, s slot, c choice.
"""

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from emlinit.finetune.routing.topology import heap_slots
from emlinit.generator.errors import UserError
from emlinit.generator.grammar import EML, ONE, PAD, X1


def token_slots(tokens: Int64[Tensor, "b l"], depth: int) -> tuple[Int64[Tensor, "b l"], Bool[Tensor, " b"]]:
    """Slot of `full_tree(depth)` that each token of an exact-grammar sequence fills (-1 on padding and below the tree).

    Returns:
        The slots, and whether each sequence fits into the tree.
    """
    b, length = tokens.shape
    readout = 2 ** (depth + 1) - 2
    stack = torch.full((b, length + 2), readout, device=tokens.device)  # open slots, next one on top
    heap = torch.zeros(b, length + 2, dtype=torch.int64, device=tokens.device)  # node that would fill each
    top = torch.ones(b, dtype=torch.int64, device=tokens.device)
    slots = torch.full_like(tokens, -1)
    fits = torch.ones(b, dtype=torch.bool, device=tokens.device)
    rows = torch.arange(b, device=tokens.device)
    for position in range(length):
        kind = tokens[:, position]
        used = (kind != PAD) & (top > 0)
        read = (top - 1).clamp_min(0)
        slot, node = stack[rows, read], heap[rows, read]
        slots[:, position] = torch.where(used, slot, -1)
        is_eml = used & (kind == EML)
        inside = node < 2**depth - 1
        fits &= inside | ~is_eml
        for offset, side in ((0, 1), (1, 0)):  # the right slot below, the left one on top
            child_slot = torch.where(inside & (slot >= 0), heap_slots(depth, node, torch.full_like(node, side)), -1)
            place = read + offset
            stack[rows, place] = torch.where(is_eml, child_slot, stack[rows, place])
            heap[rows, place] = torch.where(is_eml, 2 * node + 1 + side, heap[rows, place])
        top = top + torch.where(used, is_eml.long() * 2 - 1, 0)
    return slots, fits


def start_logits(
    tokens: Int64[Tensor, "b l"],
    kind_log_probs: Float[Tensor, "b l k"],
    depth: int,
    n_variables: int,
    *,
    confidence: float = 1.0,
    emphasis: float = 0.0,
) -> Float64[Tensor, "b s c"]:
    """Initial logits for `full_tree(depth, n_variables)` from a decoder's candidates in the exact grammar.

    Args:
        tokens: candidates in prefix order, padded.
        kind_log_probs: log-probabilities over token kinds at each position.
        depth: node levels of the tree; give the candidates' depth and a margin.
        n_variables: variables of the tree.
        confidence: factor on the log-probabilities; 1 trusts the decoder as it is, 0 is a random start.
        emphasis: added to the logit of the token that the candidate took.

    Raises:
        UserError: a candidate outside the exact grammar, with other variables, or deeper than the tree.
    """
    exact = (tokens == PAD) | (tokens == EML) | (tokens == ONE) | ((tokens >= X1) & (tokens < X1 + n_variables))
    if not bool(exact.all()):
        raise UserError(f"start_logits reads the exact grammar with {n_variables} variables: fit weighted candidates")
    slots, fits = token_slots(tokens, depth)
    if not bool(fits.all()):
        raise UserError(f"a candidate is deeper than {depth}: give a deeper tree")
    kinds = torch.tensor([ONE, *range(X1, X1 + n_variables), EML], device=tokens.device)
    predicted = kind_log_probs[:, :, kinds].to(torch.float64).clamp_min(-30.0)
    predicted = confidence * (predicted - predicted.mean(-1, keepdim=True))
    predicted = predicted + emphasis * (tokens[:, :, None] == kinds)
    logits = torch.zeros(len(tokens), 2 ** (depth + 1) - 1, len(kinds), dtype=torch.float64, device=tokens.device)
    row, position = (slots >= 0).nonzero(as_tuple=True)
    logits[row, slots[row, position]] = predicted[row, position]
    return logits
