"""Independent runs of Gumbel-hard training, many at once: what one run alone would do.

A run is one restart of `gumbel` left to itself. It begins at given logits and makes a fixed number of steps; at the end
of each short life it begins again, from those logits or from the best program that it has visited itself, mutated. Runs
of a batch share nothing: no elites, no memory of what was visited, no randomness (each has a seed). So the share of runs
that find a program estimates the probability of one run, which a search with shared elites does not tell.

Legend: r run, p point, v input variable, s slot, t term, c choice.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from emlinit.finetune.routing.elites import EliteRepository, cross_over
from emlinit.finetune.routing.gumbel import GumbelConfig, Restarts, lift, losses
from emlinit.finetune.routing.network import Routed
from emlinit.finetune.routing.topology import Topology
from emlinit.generator.errors import UserError


@dataclass(frozen=True, eq=False)
class VisitedPrograms:
    """One program of each run."""

    choice: Int64[Tensor, "r s t"]
    """Its structure; the choices of slots that it does not use are 0."""
    loss: Float64[Tensor, " r"]
    """mse / var(y) on the points, an invalid point counting `invalid_loss`."""


@dataclass(frozen=True, eq=False)
class IndependentRuns:
    """Where each run began, where it ended, and the best that it saw."""

    start: VisitedPrograms
    """The mode of the logits that were given."""
    end: VisitedPrograms
    """The mode of the logits after the last step."""
    best: VisitedPrograms
    """The best of the start, the end and the programs drawn in between, one a step."""


def train_independent(
    topology: Topology,
    logits: Float64[Tensor, "r s c"],
    x: Float64[Tensor, "p v"],
    y: Float64[Tensor, " p"],
    config: GumbelConfig,
    *,
    seeds: Sequence[int],
    learning_rate: Float64[Tensor, " r"] | None = None,
) -> IndependentRuns:
    """Train every run for `config.steps` steps.

    Args:
        topology: the allowed sources of each slot, in the exact grammar.
        logits: the start of each run; its first life begins exactly there, later ones add noise.
        x: points.
        y: targets, not constant.
        config: options; `capacity`, `seconds` and `exact_tolerance` are not used: a run keeps one program and never stops
            early.
        seeds: of each run; runs with equal seeds meet the same noise as long as they visit the same programs.
        learning_rate: of each run, in place of the one in `config`; 0 leaves noise and memory alone at work.

    Raises:
        UserError: a constant target, a weighted topology, or logits that do not fit it.
    """
    if topology.weighted:
        raise UserError("independent runs are counted in the exact grammar: give a topology without weights")
    if not bool(y.var(correction=0) > 0):
        raise UserError("the target is constant: there is nothing to search for")
    runs = _Runs(topology, logits, x, y, config, seeds)
    rate = logits.new_full((len(logits),), config.learning_rate) if learning_rate is None else learning_rate
    start = runs.mode()
    runs.remember(start)
    for _ in range(config.steps):
        runs.step(rate.view(-1, 1, 1, 1))
    end = runs.mode()
    runs.remember(end)
    return IndependentRuns(start, end, runs.best)


class _OwnGenerators:
    """A generator for each run. One call a run: only so does what it draws not depend on the others."""

    def __init__(self, seeds: Sequence[int]) -> None:
        self._each = [torch.Generator().manual_seed(seed) for seed in seeds]

    def uniform(self, rows: Int64[Tensor, " k"], n: int) -> Float64[Tensor, "k n"]:
        return self._stack(rows, lambda generator: torch.rand(n, generator=generator, dtype=torch.float64))

    def normal(self, rows: Int64[Tensor, " k"], shape: torch.Size) -> Float64[Tensor, "k s t c"]:
        return self._stack(rows, lambda generator: torch.randn(shape, generator=generator, dtype=torch.float64))

    def gumbel(self, rows: Int64[Tensor, " k"], shape: torch.Size) -> Float64[Tensor, "k s t c"]:
        empty = torch.empty(shape, dtype=torch.float64)
        own = self._stack(rows, lambda generator: empty.clone().exponential_(generator=generator))
        return -own.clamp_min(1e-300).log()

    def _stack(self, rows: Int64[Tensor, " k"], draw: Callable[[torch.Generator], Tensor]) -> Tensor:
        return torch.stack([draw(self._each[row]) for row in rows.tolist()])


class _Runs:
    """The restarts of `gumbel` with a generator, a memory and a best program for each."""

    def __init__(
        self, topology: Topology, logits: Tensor, x: Tensor, y: Tensor, config: GumbelConfig, seeds: Sequence[int]
    ) -> None:
        self.topology, self.x, self.y, self.config = topology, x, y, config
        self.random = _OwnGenerators(seeds)
        self.restarts = Restarts(topology, logits, config)
        prior, everyone = self.restarts.prior, torch.arange(len(logits))
        self.restarts.begin(everyone, prior, 0.5 + self.random.uniform(everyone, 1)[:, 0])
        self._keys = EliteRepository(topology, 1).keys
        self._visited = torch.zeros(len(logits), config.steps + 2, dtype=torch.int64)
        self._n_visited = 0
        nowhere = torch.zeros(prior.shape[:3], dtype=torch.int64)
        self.best = VisitedPrograms(nowhere, torch.full((len(logits),), torch.inf, dtype=torch.float64))

    @torch.no_grad()
    def mode(self) -> VisitedPrograms:
        """The likeliest program of each run."""
        routed: Routed = self.restarts.net(self.x)
        return VisitedPrograms(routed.choice, losses(routed, self.y, self.y.var(correction=0), self.config)[1])

    def remember(self, visit: VisitedPrograms) -> None:
        """Note what was visited, and keep it where it is the best so far."""
        self._visited[:, self._n_visited] = self._keys(visit.choice)
        self._n_visited += 1
        better = visit.loss < self.best.loss
        self.best = VisitedPrograms(
            torch.where(better[:, None, None], visit.choice, self.best.choice),
            torch.where(better, visit.loss, self.best.loss),
        )

    def seen(self, choice: Int64[Tensor, "r s t"]) -> Bool[Tensor, " r"]:
        """Which runs drew what they visited before."""
        return (self._keys(choice)[:, None] == self._visited[:, : self._n_visited]).any(1)

    def step(self, learning_rate: Float64[Tensor, "r 1 1 1"]) -> None:
        """Visit one program, follow its gradient, and begin anew where a life is over."""
        routed = self.restarts.draw(self.x, unit_noise=self._unit_noise, seen=self.seen)
        loss, score = losses(routed, self.y, self.y.var(correction=0), self.config)
        self.remember(VisitedPrograms(routed.choice, score))
        ended = self.restarts.step(loss, learning_rate)
        if len(ended):
            self._begin(ended)

    def _unit_noise(self, rows: Int64[Tensor, " k"]) -> Float64[Tensor, "k s t c"]:
        return self.random.gumbel(rows, self.restarts.prior.shape[1:])

    def _begin(self, rows: Int64[Tensor, " k"]) -> None:
        """From the given logits, or from the run's best program, mutated."""
        config, prior = self.config, self.restarts.prior[rows]
        lottery = self.random.uniform(rows, self.topology.n_slots)
        allowed = self.topology.allowed[:, None]
        sample = (prior + self._unit_noise(rows)).masked_fill(~allowed, -torch.inf).argmax(-1)
        mutant, _ = cross_over(self.topology, self.best.choice[rows], sample, lottery, config.mutation_share)
        from_best = self.random.uniform(rows, 1) < config.elite_share
        lifted = prior + lift(self.topology, mutant, config) * from_best[:, :, None, None]
        logits = lifted + config.start_noise * self.random.normal(rows, prior.shape[1:])
        self.restarts.begin(rows, logits, 0.5 + self.random.uniform(rows, 1)[:, 0])
