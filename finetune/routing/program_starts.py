"""Where Gumbel-hard training of laws with constants starts: the proposals themselves, laid onto the topology `program`.

A proposal's nodes become the last nodes of the topology; the nodes before them are spare, for its slots to take. Structure
starts at the decoder's own doubts: the source of a term has the log-probabilities of all kinds that the decoder gave at its
token, the node that was taken that of `eml`. Numbers start at the coarse constants that came with it, or at fitted ones.

Legend: b program (restart), l token position, s slot, t term, c choice, k token kind.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from emlinit.finetune.routing.topology import Topology, program
from emlinit.generator.errors import UserError
from emlinit.generator.grammar import EML, ONE, X1
from emlinit.generator.program import Programs, term_places
from emlinit.generator.records import Records
from emlinit.generator.tidy import drop_dead_nodes, drop_unused_terms, fold_ones

_LEAST = -12.0  # log-probability of what the decoder excludes
_NONE = 3.0  # logit of leaving a term out that no program has, above all its other choices
_NEW_FACTOR = 0.125  # of a term that comes into use: small beside those that are there, and exact in binary
_NEARLY_ONE = 1 + 1e-12  # a number that may be fitted is never 1, as one that may not is


@dataclass(frozen=True, eq=False)
class ProgramStarts(Records):
    """Restarts on one topology."""

    logits: Float64[Tensor, "b s t c"]
    """Routing logits."""
    weight: Float64[Tensor, "b s t 2"]
    """Factors."""
    bias: Float64[Tensor, "b s 2"]
    """Constants of the slots."""
    n_variables: int
    """Variables of the programs."""

    @property
    def topology(self) -> Topology:
        """What they are laid onto."""
        n_nodes, n_terms = self.bias.shape[1] // 2, self.weight.shape[2]
        return program(n_nodes, self.n_variables, weighted=True, n_terms=n_terms).to(self.logits.device)


def program_starts(
    programs: Programs,
    kinds: tuple[Int64[Tensor, "b l"], Float[Tensor, "b l k"]] | None = None,
    *,
    n_nodes: int,
    n_terms: int,
    confidence: float = 1.0,
    emphasis: float = 2.0,
) -> ProgramStarts:
    """Lay programs onto `program(n_nodes, ...)`.

    Args:
        programs: of at most `n_nodes` nodes and `n_terms` terms a slot.
        kinds: tokens of each program as the decoder wrote them (so that `programs_from_tokens` gives the programs, whose
            numbers may have been fitted since) and its log-probabilities over all token kinds; None if nobody was asked.
        n_nodes: nodes of the topology.
        n_terms: terms of its slots.
        confidence: factor on the decoder's log-probabilities.
        emphasis: added to the logit of what the program has.

    Raises:
        UserError: a program is larger than the topology.
    """
    b, n_slots, width = programs.source.shape
    if programs.max_nodes > n_nodes or width > n_terms:
        raise UserError(
            f"programs of {programs.max_nodes} nodes and {width} terms do not fit into {n_nodes} nodes of {n_terms} terms"
        )
    device, leaves = programs.device, programs.n_variables + 1
    topology = program(n_nodes, programs.n_variables, weighted=True, n_terms=n_terms).to(device)
    used = programs.used_terms()
    shift = n_nodes - programs.n_nodes[:, None]  # spare nodes come first
    slot = torch.arange(n_slots, device=device)
    place = torch.where(slot == n_slots - 1, 2 * n_nodes, slot + 2 * shift)  # b s
    there = (slot < 2 * programs.n_nodes[:, None]) | (slot == n_slots - 1)
    row, old = there.nonzero(as_tuple=True)
    new = place[row, old]
    source = torch.where(programs.source >= leaves, programs.source + shift[..., None], programs.source)
    source = torch.where(used, source, 0)

    weight = torch.zeros(b, topology.n_slots, n_terms, 2, dtype=torch.float64, device=device)
    weight[..., 0] = _NEW_FACTOR
    bias = weight.new_zeros(b, topology.n_slots, 2)
    own = torch.where((programs.weight == 1) & programs.free_weight, _NEARLY_ONE, programs.weight)
    weight[row, new, :width] = torch.where(used[..., None], own, weight[:, :1, :1])[row, old]
    bias[row, new] = torch.where((programs.bias == 1) & programs.free_bias, _NEARLY_ONE, programs.bias)[row, old]
    off = n_terms - used[row, old].sum(-1)  # these read the constant 1, which is taken off again
    bias[row, new, 0] -= _NEW_FACTOR * off

    logits = weight.new_zeros(b, topology.n_slots, n_terms, topology.n_choices)
    logits[..., 0] = _NONE
    choice = weight.new_zeros(b, n_slots, width, topology.n_choices)
    if kinds is not None:
        tokens, log_prob = kinds
        predicted = confidence * log_prob.to(device, torch.float64).clamp_min(_LEAST)
        is_term, slots, terms = term_places(tokens.to(device))
        at, position = is_term.nonzero(as_tuple=True)
        at_slot, at_term = slots[at, position], terms[at, position]
        columns = torch.tensor([ONE, *range(X1, X1 + programs.n_variables)], device=device)
        leaf = predicted[at, position][:, columns]
        node = predicted[at, position][:, [EML]].expand(-1, topology.n_choices - leaves)
        choice[at, at_slot, at_term] = torch.cat([leaf, node], 1)
    choice += emphasis * torch.nn.functional.one_hot(source, topology.n_choices)
    choice[..., 0] = torch.where(used, choice[..., 0], choice.amax(-1) + _NONE)
    logits[row, new, :width] = choice[row, old]
    return ProgramStarts(logits, weight, bias, programs.n_variables)


def without_spare(programs: Programs) -> Programs:
    """Programs of restarts that began at such starts, without what a slot need not have taken: terms that read the constant
    1 are part of its constant, which is not fitted where it is 0 or 1."""
    folded = fold_ones(programs)
    is_one = (folded.bias[..., :1] == 1) & (folded.bias[..., 1:] == 0)
    folded = replace(folded, free_bias=folded.free_bias & (folded.bias != 0) & ~is_one)
    return drop_unused_terms(drop_dead_nodes(folded))
