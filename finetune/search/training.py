"""Gumbel-hard training of laws with constants: structure first, from the routing logits of proposals, then the numbers.

Restarts begin at the latest proposals and at the best programs so far, whoever found them, laid onto one topology (see
`routing.program_starts`). While structures are drawn and their logits trained, numbers stay as they are, coarse as a
decoder gives them; a structure is remembered by what is left of its error once its value is scaled and shifted. The best
structures are then fitted all at once.

Legend: b program, r restart, p point, v input variable.
"""

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from emlinit.finetune.routing.gumbel import train_gumbel_hard
from emlinit.finetune.routing.program_starts import ProgramStarts, program_starts, without_spare
from emlinit.finetune.search.candidates import distinct_rows
from emlinit.finetune.search.rounds import NetworkRounds
from emlinit.finetune.search.stages import Candidates, Need, Task
from emlinit.finetune.search.weighted_stage import WeightedStage
from emlinit.generator.program import Programs
from emlinit.generator.tidy import drop_unused_terms

_WRITTEN = 2  # times the nodes of the topology: as many may a program have, written out as a tree


@dataclass(frozen=True)
class WeightedTraining(WeightedStage):
    """Gumbel-hard training, again and again: from the latest proposals of the network's rounds and from the best
    programs."""

    rounds: NetworkRounds
    """Whose proposals they are."""
    on_device: ClassVar[bool] = True
    name: ClassVar[str] = "Gumbel-hard training"
    needs: ClassVar[frozenset[Need]] = frozenset({"network"})

    def done(self, task: Task) -> bool:
        """Whether there is a law, nothing was proposed yet, or the time is up."""
        return task.time_is_up or task.pool.holds_law or not self.rounds.so_far.proposals

    def run(self, task: Task) -> Generator[Candidates]:
        """Train, and fit the best structures, until `done` or nothing is small enough to be trained."""
        while not self.done(task):
            starts = self._starts(task)
            if starts is None:
                return
            yield self.rounds.best_of(task, self._trained(starts, task))
            task.report(self.name)

    def _trained(self, starts: ProgramStarts, task: Task) -> Programs:
        """The best structures that restarts visit."""
        training, device = self.config.training, task.device
        rows = task.shuffled[: training.points]
        each = torch.arange(training.restarts_on(device)) % len(starts.logits)
        starts = starts.rows(each).to(device)
        found = train_gumbel_hard(
            starts.topology,
            starts.logits,
            task.x[rows].to(device),
            task.y[rows].to(device),
            replace(training.gumbel, seconds=task.seconds_left),
            generator=task.generator,
            weight=starts.weight,
            bias=starts.bias,
        )
        programs = without_spare(found.programs)
        # Nodes that are shared again and again make a formula of thousands.
        return programs[programs.n_written_nodes() <= _WRITTEN * (training.nodes + training.spare)]

    def _starts(self, task: Task) -> ProgramStarts | None:
        """Half of the restarts from the likeliest proposals, half from the best programs."""
        training, proposals, pool = self.config.training, self.rounds.so_far.proposals, task.pool
        assert proposals is not None
        parts: list[tuple[Programs, tuple[Tensor, Tensor] | None]] = []
        likeliest = self._small(proposals.programs)[: training.programs]
        if len(likeliest):
            kinds = (proposals.tokens[likeliest], proposals.kind_log_probs[likeliest])
            parts.append((drop_unused_terms(proposals.programs[likeliest]), kinds))
        if pool.programs is not None:
            small = self._small(pool.programs)
            best = distinct_rows((pool.front(), pool.shortest(len(pool))), len(pool))
            best = best[torch.isin(best, small)][: training.programs]
            if len(best):
                parts.append((drop_unused_terms(pool.programs[best]), None))
        if not parts:
            return None
        n_nodes = training.spare + max(some.max_nodes for some, _ in parts)
        n_terms = max(some.source.shape[2] for some, _ in parts)
        return ProgramStarts.cat(
            [program_starts(some, kinds, n_nodes=n_nodes, n_terms=n_terms) for some, kinds in parts]
        )

    def _small(self, programs: Programs) -> Tensor:
        """Rows of those that are small enough."""
        training, n_terms = self.config.training, programs.used_terms().sum(-1).amax(-1)
        return ((programs.n_nodes <= training.nodes) & (n_terms <= training.terms)).nonzero()[:, 0]
