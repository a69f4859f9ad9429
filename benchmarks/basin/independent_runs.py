"""Independent runs of Gumbel-hard training, many at once: what one run alone would do.

A run is one restart of `gumbel` left to itself. It begins at given logits and makes a fixed number of steps; at the end
of each short life it begins again, from those logits or from the best program that it has visited itself, mutated. Runs
of a batch share nothing: no elites, no memory of what was visited, no randomness (each has a seed). So the share of runs
that find a program estimates the probability of one run, which a search with shared elites does not tell.

Legend: r run, p point, v input variable, s slot, t term, c choice.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from emlinit.finetune.routing.elites import EliteRepository
from emlinit.finetune.routing.gumbel import GumbelConfig, adam_step, losses, schedule
from emlinit.finetune.routing.hard_route import plan_route
from emlinit.finetune.routing.network import Routed, RoutedEML, reached_slots
from emlinit.finetune.routing.topology import Topology
from emlinit.generator.errors import UserError


@dataclass(frozen=True, eq=False)
class Visit:
    """One program of each run."""

    choice: Int64[Tensor, "r s t"]
    """Its structure; the choices of slots that it does not use are 0."""
    loss: Float64[Tensor, " r"]
    """mse / var(y) on the points, an invalid point counting `invalid_loss`."""


@dataclass(frozen=True, eq=False)
class IndependentRuns:
    """Where each run began, where it ended, and the best that it saw."""

    start: Visit
    """The mode of the logits that were given."""
    end: Visit
    """The mode of the logits after the last step."""
    best: Visit
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


class _OwnNoise(RoutedEML):
    """A routed network whose copies draw from generators of their own and remember what they drew."""

    def __init__(self, topology: Topology, logits: Tensor, seeds: Sequence[int], steps: int) -> None:
        super().__init__(topology, logits)
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.everyone = torch.arange(len(seeds))
        self.drawing = self.everyone
        self._keys = EliteRepository(topology, 1).keys
        self._visited = torch.zeros(len(seeds), steps + 2, dtype=torch.int64)
        self._n_visited = 0

    def remember(self, choice: Int64[Tensor, "r s t"]) -> None:
        self._visited[:, self._n_visited] = self._keys(choice)
        self._n_visited += 1

    def seen(self, choice: Int64[Tensor, "r s t"]) -> Bool[Tensor, " r"]:
        """Which runs drew what they visited before; they are the ones that draw next."""
        repeated = (self._keys(choice)[:, None] == self._visited[:, : self._n_visited]).any(1)
        self.drawing = repeated.nonzero()[:, 0] if bool(repeated.any()) else self.everyone
        return repeated

    def gumbel(self, rows: Int64[Tensor, " k"]) -> Float64[Tensor, "k s t c"]:
        """Gumbel noise of some runs. One call a run: only so does it not depend on the others."""
        own = [torch.empty_like(self.logits[0]).exponential_(generator=self.generators[row]) for row in rows.tolist()]
        return -torch.stack(own).clamp_min(1e-300).log()

    def _gumbel(self, scale: float | Tensor, rows: int, generator: torch.Generator | None) -> Tensor:
        drawing, self.drawing = self.drawing, self.everyone
        if not isinstance(scale, Tensor) and scale == 0:
            return self.logits.new_zeros(rows, *self.logits.shape[1:])
        return scale * self.gumbel(drawing)


class _Runs:
    """The runs' logits, ages and Adam's moments, and the best program of each."""

    def __init__(
        self, topology: Topology, logits: Tensor, x: Tensor, y: Tensor, config: GumbelConfig, seeds: Sequence[int]
    ) -> None:
        self.topology, self.x, self.y, self.config = topology, x, y, config
        self.net = _OwnNoise(topology, logits, seeds, config.steps)
        self.prior = self.net.logits.detach().clone()
        self.moments = (torch.zeros_like(self.prior), torch.zeros_like(self.prior))
        self.age = torch.zeros(len(logits), dtype=torch.float64)
        self.life = self._lives(self.net.everyone)
        nowhere = torch.zeros(self.prior.shape[:3], dtype=torch.int64)
        self.best = Visit(nowhere, torch.full((len(logits),), torch.inf, dtype=torch.float64))

    @torch.no_grad()
    def mode(self) -> Visit:
        routed: Routed = self.net(self.x)
        return Visit(routed.choice, losses(routed, self.y, self.y.var(correction=0), self.config)[1])

    def remember(self, visit: Visit) -> None:
        self.net.remember(visit.choice)
        better = visit.loss < self.best.loss
        self.best = Visit(
            torch.where(better[:, None, None], visit.choice, self.best.choice),
            torch.where(better, visit.loss, self.best.loss),
        )

    def step(self, learning_rate: Float64[Tensor, "r 1 1 1"]) -> None:
        """Visit one program, follow its gradient, and begin anew where a life is over."""
        config = self.config
        temperature, noise = schedule(config, (self.age / self.life).clamp_max(1.0).view(-1, 1, 1, 1))
        routed: Routed = self.net(
            self.x, temperature=temperature, noise=noise, seen=self.net.seen, redraws=config.redraws
        )
        loss, score = losses(routed, self.y, self.y.var(correction=0), config)
        self.remember(Visit(routed.choice, score))
        self.net.zero_grad(set_to_none=True)
        torch.autograd.backward(loss.sum())
        self.age += 1
        adam_step(self.net.logits, self.moments, self.age, learning_rate)
        ended = (self.age >= self.life).nonzero()[:, 0]
        if len(ended):
            self._begin(ended)

    def _begin(self, rows: Int64[Tensor, " k"]) -> None:
        config, prior = self.config, self.prior[rows]
        choice = self.best.choice[rows]
        used = reached_slots(plan_route(self.topology, choice, candidates=False).reached)
        lottery = torch.where(used, self._uniform(rows, self.topology.n_slots), torch.inf)
        drawn = (lottery < config.mutation_share) | (lottery == lottery.amin(1, keepdim=True)) | ~used
        allowed = self.topology.allowed[:, None]
        sample = (prior + self.net.gumbel(rows)).masked_fill(~allowed, -torch.inf).argmax(-1)
        mutant = torch.where(drawn[:, :, None], sample, choice)
        lift = torch.nn.functional.one_hot(mutant, self.topology.n_choices) * config.confidence
        from_best = self._uniform(rows, 1) < config.elite_share
        noise = torch.stack(
            [
                torch.randn(prior.shape[1:], generator=self.net.generators[row], dtype=prior.dtype)
                for row in rows.tolist()
            ]
        )
        self.net.logits.data[rows] = prior + lift * from_best[:, :, None, None] + config.start_noise * noise
        self.age[rows] = 0.0
        self.life[rows] = self._lives(rows)
        for moment in self.moments:
            moment[rows] = 0.0

    def _lives(self, rows: Int64[Tensor, " k"]) -> Float64[Tensor, " k"]:
        return (self.config.lifetime * (0.5 + self._uniform(rows, 1)[:, 0])).round().clamp_min(1.0)

    def _uniform(self, rows: Int64[Tensor, " k"], n: int) -> Float64[Tensor, "k n"]:
        own = [torch.rand(n, generator=self.net.generators[row], dtype=torch.float64) for row in rows.tolist()]
        return torch.stack(own)
