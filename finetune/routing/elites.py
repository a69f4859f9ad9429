"""The elite repository: the best distinct programs a search has visited, and new starts made from them.

After GMEQL (Chen, arXiv 2012.06921): elites are picked by a power law over their rank, and a fifth of the picked
program's slots is drawn anew from the routing prior. Structure is changed before weights: a slot that keeps its sources
keeps its numbers, a slot that takes new sources starts with fresh ones.

Legend: r restart, s slot, t term, c choice, e elite.
"""

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from emlinit.finetune.routing.hard_route import plan_route
from emlinit.finetune.routing.network import reached_slots
from emlinit.finetune.routing.topology import Topology


class EliteRepository:
    """Keeps the `capacity` best distinct programs of one topology and counts all distinct ones ever offered."""

    def __init__(self, topology: Topology, capacity: int, *, power: float = 1.5) -> None:
        """`power`: an elite of rank k (from 1) is picked with probability proportional to k^-power."""
        self.topology, self.capacity, self.power = topology, capacity, power
        shape = (0, topology.n_slots, topology.n_terms)
        self.loss: Float64[Tensor, " e"] = torch.zeros(0, dtype=torch.float64)
        """Losses, best first."""
        self.choice: Int64[Tensor, "e s t"] = torch.zeros(shape, dtype=torch.int64)
        """Choices of each elite; 0 on slots that its readout does not reach."""
        self.weight: Tensor | None = torch.zeros(*shape, 2, dtype=torch.float64) if topology.weighted else None
        self.bias: Tensor | None = torch.zeros(*shape[:2], 2, dtype=torch.float64) if topology.weighted else None
        self._key = torch.zeros(0, dtype=torch.int64)
        self._seen: set[int] = set()
        constants = torch.Generator().manual_seed(0)  # of the hash, not of the search
        self._hash = torch.randint(-(2**62), 2**62, shape[1:], generator=constants)

    def __len__(self) -> int:
        return len(self.loss)

    @property
    def n_visited(self) -> int:
        """Distinct structures offered so far."""
        return len(self._seen)

    def keys(self, choice: Int64[Tensor, "r s t"]) -> Int64[Tensor, " r"]:
        """A 64-bit hash of each structure (choices of unreached slots must be 0)."""
        return (choice.cpu() * self._hash).flatten(1).sum(1)

    def knows(self, choice: Int64[Tensor, "r s t"]) -> Bool[Tensor, " r"]:
        """Which structures were offered before."""
        return torch.tensor([key in self._seen for key in self.keys(choice).tolist()], dtype=torch.bool)

    def offer(
        self,
        choice: Int64[Tensor, "r s t"],
        loss: Float64[Tensor, " r"],
        weight: Float64[Tensor, "r s t 2"] | None = None,
        bias: Float64[Tensor, "r s 2"] | None = None,
    ) -> None:
        """Take in programs with their losses; of equal structures the best is kept, losses must be finite to enter."""
        keys, loss = self.keys(choice), loss.detach().cpu()
        self._seen.update(keys.tolist())
        worst = self.loss[-1] if len(self) >= self.capacity else torch.inf
        rows = ((loss < worst) & loss.isfinite()).nonzero()[:, 0]
        if self.weight is None:  # without weights the loss of a known structure cannot change
            rows = rows[~torch.isin(keys[rows], self._key)]
        if not len(rows):
            return
        all_loss = torch.cat([self.loss, loss[rows]])
        all_key = torch.cat([self._key, keys[rows]])
        order = all_loss.argsort(stable=True)
        known: set[int] = set()
        keep = []
        for index, key in zip(order.tolist(), all_key[order].tolist(), strict=True):
            if key not in known:
                known.add(key)
                keep.append(index)
                if len(keep) == self.capacity:
                    break
        picked = torch.tensor(keep)
        self.loss, self._key = all_loss[picked], all_key[picked]
        self.choice = torch.cat([self.choice, choice[rows].cpu()])[picked]
        if self.weight is not None and self.bias is not None:
            assert weight is not None, "a weighted topology's programs come with weights"
            assert bias is not None, "a weighted topology's programs come with biases"
            self.weight = torch.cat([self.weight, weight[rows].detach().cpu()])[picked]
            self.bias = torch.cat([self.bias, bias[rows].detach().cpu()])[picked]

    def pick(self, n: int, generator: torch.Generator) -> Int64[Tensor, " n"]:
        """Indices of n elites, with repetition, by the power law over ranks."""
        rank = torch.arange(1, len(self) + 1, dtype=torch.float64)
        return torch.multinomial(rank**-self.power, n, replacement=True, generator=generator)


def mutate(
    topology: Topology,
    choice: Int64[Tensor, "r s t"],
    prior: Float64[Tensor, "r s t c"],
    share: float,
    generator: torch.Generator,
) -> tuple[Int64[Tensor, "r s t"], Bool[Tensor, "r s"]]:
    """Draw a share of the slots in use anew from the prior, at least one of them in every program.

    Args:
        topology: the allowed sources.
        choice: the programs.
        prior: routing logits.
        share: probability of each reached slot to be drawn anew.
        generator: for the draws (on the CPU).

    Returns:
        The new choices and the slots drawn anew. Slots that come into use through a new choice are always drawn.
    """
    lottery = torch.rand(choice.shape[:2], generator=generator, dtype=torch.float64)
    prior = prior.masked_fill(~topology.allowed[:, None], -torch.inf)
    flat = prior.softmax(-1).flatten(0, -2).cpu()
    sample = torch.multinomial(flat, 1, generator=generator).view(prior.shape[:-1])
    return cross_over(topology, choice, sample.to(choice.device), lottery.to(choice.device), share)


def cross_over(
    topology: Topology,
    choice: Int64[Tensor, "r s t"],
    sample: Int64[Tensor, "r s t"],
    lottery: Float64[Tensor, "r s"],
    share: float,
) -> tuple[Int64[Tensor, "r s t"], Bool[Tensor, "r s"]]:
    """Programs with some of their slots taken from a sample; the random part of `mutate` is given.

    Args:
        topology: the allowed sources.
        choice: the programs.
        sample: choices to take.
        lottery: a number in 0..1 for each slot; of the slots in use those below `share` are taken, and the lowest.
        share: probability of a slot in use to be taken.

    Returns:
        The new choices and the slots taken from the sample, among them all that were not in use.
    """
    used = reached_slots(plan_route(topology, choice, candidates=False).reached)
    lottery = torch.where(used, lottery, torch.inf)
    drawn = (lottery < share) | (lottery == lottery.amin(1, keepdim=True)) | ~used
    return torch.where(drawn[:, :, None], sample, choice), drawn
