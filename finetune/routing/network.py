"""The routed EML network: one categorical choice a slot, over any topology, many restarts at once.

Each slot holds logits over its sources. A forward pass draws Gumbel noise, takes the largest (a *hard* program, the one
that would be reported), and lets gradients flow to all choices through the tempered softmax (straight-through
Gumbel-softmax; Jang et al. 2017, Maddison et al. 2017). In a weighted topology a term has a complex factor and a slot a
complex constant, trained along.

Legend: r restart, p point, v input variable, s slot, t term, c choice.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor, nn

from emlinit.finetune.routing.hard_route import HardRoute, plan_route
from emlinit.finetune.routing.topology import Topology
from emlinit.generator.errors import UserError
from emlinit.generator.node import CEILING
from emlinit.generator.program import Programs


@dataclass(frozen=True, eq=False)
class Routed:
    """What a forward pass of `RoutedEML` returns."""

    value: Float64[Tensor, "r p"]
    """Re(readout) of the hard program of each restart, 0 where invalid; its gradient is the soft one."""
    valid: Bool[Tensor, "r p"]
    """Where that value is finite and nothing on the way exceeded the ceiling."""
    choice: Int64[Tensor, "r s t"]
    """The choices made; those of slots that the readout does not reach are 0."""
    probability: Float64[Tensor, "r s t c"]
    """Choice probabilities by the logits alone (no noise, temperature 1), for the entropy."""
    reached: Bool[Tensor, "r s"]
    """Slots that the value depends on."""


class RoutedEML(nn.Module):
    """`r` independent copies of a routed network on one topology.

    Args:
        topology: the allowed sources of each slot.
        logits: float64 (r, s, c) or (r, s, t, c), the start; disallowed choices are ignored.
        weight: float64 (r, s, t, 2), start of the factors (weighted topologies; default 1 for a slot's first term,
            else 0.1).
        bias: float64 (r, s, 2), start of the slots' constants (weighted topologies; default 0).
        ceiling: largest absolute value of a node; beyond it a point is invalid.

    Raises:
        UserError: logits that do not fit the topology.
    """

    def __init__(
        self,
        topology: Topology,
        logits: Tensor,
        *,
        weight: Float64[Tensor, "r s t 2"] | None = None,
        bias: Float64[Tensor, "r s 2"] | None = None,
        ceiling: float = CEILING[torch.float64],
    ) -> None:
        super().__init__()
        shape = (topology.n_slots, topology.n_terms, topology.n_choices)
        if logits.ndim == 3:
            logits = logits[:, :, None].expand(-1, -1, topology.n_terms, -1)
        if tuple(logits.shape[1:]) != shape:
            raise UserError(f"logits have shape {tuple(logits.shape)}: this topology needs (restarts, *{shape})")
        self.topology, self.ceiling = topology.to(logits.device), ceiling
        self.logits = nn.Parameter(logits.to(torch.float64).clone())
        self.weight: nn.Parameter | None = None
        self.bias: nn.Parameter | None = None
        if topology.weighted:
            if weight is None:
                weight = logits.new_zeros(len(logits), *shape[:2], 2, dtype=torch.float64)
                weight[:, :, :, 0] = 0.1
                weight[:, :, 0, 0] = 1.0
            self.weight = nn.Parameter(weight.clone())
            self.bias = nn.Parameter(weight.new_zeros(len(logits), shape[0], 2) if bias is None else bias.clone())

    def forward(
        self,
        x: Float64[Tensor, "p v"],
        *,
        temperature: float | Tensor = 1.0,
        noise: float | Tensor = 0.0,
        generator: torch.Generator | None = None,
        unit_noise: Callable[[Tensor], Tensor] | None = None,
        seen: Callable[[Tensor], Tensor] | None = None,
        redraws: int = 3,
    ) -> Routed:
        """Draw one hard program for each restart and evaluate it.

        Args:
            x: the points.
            temperature: of the softmax that gradients flow through; a tensor (r, 1, 1, 1) sets it for each restart.
            noise: scale of the Gumbel noise on the logits, likewise; 1 samples from softmax(logits), 0 is its mode.
            generator: for the noise (on the CPU).
            unit_noise: gives standard Gumbel noise, float64 (k, s, t, c), to the restarts of numbers (k,), in place of
                `generator`: restarts that must not depend on one another draw it from generators of their own.
            seen: tells which canonical choices (r, s, t) are known already, as bool (r,); those restarts draw again,
                each time with more noise.
            redraws: how often at most.
        """
        logits = self.logits.masked_fill(~self.topology.allowed[:, None], -torch.inf)
        draw = unit_noise or (lambda rows: self._unit_noise(len(rows), generator))
        gumbel = self._scaled(noise, torch.arange(len(logits)), draw)
        choice = (logits.detach() + gumbel).argmax(-1)
        for attempt in range(redraws if seen is not None else 0):
            assert seen is not None
            rows = seen(self.canonical(choice)).nonzero()[:, 0]
            if not len(rows):
                break
            scale = (noise[rows] if isinstance(noise, Tensor) else noise) * (1.0 + 0.5 * (attempt + 1))
            gumbel[rows] = self._scaled(scale, rows, draw)
            choice[rows] = (logits.detach()[rows] + gumbel[rows]).argmax(-1)
        plan = plan_route(self.topology, choice)
        soft = ((logits + gumbel) / temperature).softmax(-1)
        route: Callable[..., tuple[Tensor, Tensor]] = HardRoute.apply
        value, valid = route(soft, self.weight, self.bias, self.topology, plan, x, self.ceiling)
        slots = reached_slots(plan.reached)
        return Routed(value, valid, torch.where(slots[:, :, None], choice, 0), logits.softmax(-1), slots)

    def canonical(self, choice: Int64[Tensor, "r s t"]) -> Int64[Tensor, "r s t"]:
        """The choices with those of slots that the readout does not reach set to 0."""
        slots = reached_slots(plan_route(self.topology, choice, candidates=False).reached)
        return torch.where(slots[:, :, None], choice, 0)

    def _scaled(self, scale: float | Tensor, rows: Int64[Tensor, " k"], draw: Callable[[Tensor], Tensor]) -> Tensor:
        if not isinstance(scale, Tensor) and scale == 0:  # nothing is drawn
            return self.logits.new_zeros(len(rows), *self.logits.shape[1:])
        return scale * draw(rows)

    def _unit_noise(self, n_rows: int, generator: torch.Generator | None) -> Float64[Tensor, "k s t c"]:
        uniform = torch.rand(n_rows, *self.logits.shape[1:], generator=generator, dtype=torch.float64)
        return -(-uniform.clamp(1e-300, 1 - 1e-16).log()).log().to(self.logits.device)

    def programs(self, choice: Int64[Tensor, "r s t"]) -> Programs:
        """The hard programs of some choices, one a restart, with the present weights."""
        if self.weight is None or self.bias is None:
            return programs_from_choices(self.topology, choice)
        return programs_from_choices(self.topology, choice, self.weight.detach(), self.bias.detach())


def reached_slots(reached: Bool[Tensor, "r n"]) -> Bool[Tensor, "r s"]:
    """Slots of the reached nodes, and the readout."""
    return torch.cat([reached.repeat_interleave(2, 1), reached.new_ones(len(reached), 1)], 1)


def programs_from_choices(
    topology: Topology,
    choice: Int64[Tensor, "r s t"],
    weight: Float64[Tensor, "r s t 2"] | None = None,
    bias: Float64[Tensor, "r s 2"] | None = None,
) -> Programs:
    """Hard choices as programs: only reached nodes are kept, renumbered in order.

    In a weighted topology numbers are free but for factors of exactly 1 and what is exactly 0.
    """
    plan = plan_route(topology, choice, candidates=False)
    r, leaves = len(choice), topology.n_variables + 1
    count = plan.reached.sum(1)
    n = int(count.max()) if r else 0
    place = torch.where(plan.reached, plan.reached.long().cumsum(1) - 1, 0)
    renumber = torch.cat([torch.arange(leaves, device=choice.device).expand(r, -1), leaves + place], 1)
    source = renumber.gather(1, plan.source.flatten(1)).view_as(plan.source)
    slots = reached_slots(plan.reached)
    target = torch.cat([2 * place, 2 * place + 1], 1).view(r, 2, -1).transpose(1, 2).flatten(1)
    target = torch.cat([target, target.new_full((r, 1), 2 * n)], 1)
    restart, slot = slots.nonzero(as_tuple=True)
    into = (restart, target[restart, slot])
    n_slots, t = 2 * n + 1, topology.n_terms
    if weight is None or bias is None:
        weight = torch.zeros(*choice.shape, 2, dtype=torch.float64, device=choice.device)
        weight[..., 0] = 1.0
        bias = weight.new_zeros(*choice.shape[:2], 2)
    is_one = (weight[..., 0] == 1) & (weight[..., 1] == 0)
    free_weight, free_bias = (weight != 0) & ~is_one[..., None], bias != 0

    def scatter(old: Tensor, *shape: int) -> Tensor:
        new = old.new_zeros(r, n_slots, *shape)
        new[into] = old[restart, slot]
        return new

    free_weight, free_bias = free_weight & topology.weighted, free_bias & topology.weighted
    return Programs(
        scatter(source, t),
        scatter(weight, t, 2),
        scatter(bias, 2),
        count,
        topology.n_variables,
        scatter(free_weight, t, 2),
        scatter(free_bias, 2),
    )
