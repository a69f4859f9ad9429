"""The rounds of the network: proposals, fitted all at once, and the best programs grown by what the proposals are made of.

A proposal is seldom right as a whole. So each round adds its proposals to a library of parts (see `growing.parts`), and the
best programs so far, whoever found them, grow by these parts again and again (see `growing.grow`).

Legend: b candidate, p point, v input variable.
"""

import time
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from emlinit.finetune.fitting.levenberg_marquardt import FitConfig
from emlinit.finetune.fitting.prices import description_cost
from emlinit.finetune.growing.grow import grow
from emlinit.finetune.growing.parts import PartLibrary
from emlinit.finetune.search.candidates import CandidatePool, distinct_rows
from emlinit.finetune.search.stages import Candidates, Need, Task
from emlinit.finetune.search.weighted_stage import WeightedStage
from emlinit.generator.program import Programs
from emlinit.model.propose import Proposals

_STALE = 0.99  # of the best loss: a round that does not get below it has brought nothing new
_SCREEN = FitConfig(steps=8)  # of all candidates, on few rows
_FIT = FitConfig(steps=15)  # of the best of them, on more


@dataclass
class _Progress:
    """How far the rounds are."""

    number: int = 0
    """Rounds so far."""
    stale: int = 0
    """Rounds in a row that brought nothing new."""
    longest: float = 0.0
    """Seconds of the longest step."""
    library: PartLibrary | None = None
    """Parts of all proposals so far, on the device where programs grow."""
    rows: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    """Those of the task that the parts are evaluated at."""
    proposals: Proposals | None = None
    """The latest ones."""


@dataclass(frozen=True)
class NetworkRounds(WeightedStage):
    """Candidates of the initialiser, warmer each round, until several rounds in a row bring nothing new."""

    so_far: _Progress = field(default_factory=_Progress)
    """How far it is."""
    on_device: ClassVar[bool] = True
    name: ClassVar[str] = "network"
    needs: ClassVar[frozenset[Need]] = frozenset({"network"})

    def done(self, task: Task) -> bool:
        """Whether there is a law, or the time is up. A long sum that fits to rounding is none: it was there before."""
        return task.time_is_up or task.pool.holds_law

    def run(self, task: Task) -> Generator[Candidates]:
        """A round proposes from fresh bags of points, fits all constants at once on a sample of the rows, the most promising
        again on more of them, and lets programs grow. No step begins that would end after the deadline if it took as long
        as the longest."""
        assert task.sampler is not None
        config, so_far = self.config, self.so_far
        while (
            (task.max_rounds is None or so_far.number < task.max_rounds)
            and so_far.stale < config.patience
            and not self._is_over(task)
        ):
            before = task.pool.best_loss
            began = time.monotonic()
            rows = task.sound(torch.arange(len(task.y)))
            so_far.proposals = task.sampler.propose(
                task.x[rows],
                task.y[rows],
                config.proposals,
                generator=task.generator,
                temperature=config.temperature(so_far.number),
                n_bags=config.bags,
            )
            found = self.best_of(task, so_far.proposals.programs)
            self._took(began)
            yield found
            task.report(f"round {so_far.number}")
            for _ in range(config.growths):
                if self._is_over(task):
                    break
                began = time.monotonic()
                grown = self._grown(task)
                if grown is None:
                    break
                found = self.best_of(task, grown)
                self._took(began)
                yield found
                task.report(f"round {so_far.number}, grown")
            so_far.stale = 0 if task.pool.best_loss < _STALE * before else so_far.stale + 1
            so_far.number += 1

    def _is_over(self, task: Task) -> bool:
        return time.monotonic() + self.so_far.longest >= task.deadline or self.done(task)

    def _took(self, began: float) -> None:
        self.so_far.longest = max(self.so_far.longest, time.monotonic() - began)

    def best_of(self, task: Task, programs: Programs) -> Candidates:
        """Fit programs on few rows, and on more what is good for its cost, then what is good at all; the library gets the
        parts of all that fit at all."""
        quick = self.fit(task, programs, self.config.screen_points, _SCREEN)
        screened = CandidatePool(min(len(task.y), self.config.screen_points))
        screened.add(quick.programs, quick.loss)
        if screened.programs is None:
            return Candidates(programs[:0], quick.loss[:0])
        order = (screened.front(), screened.shortest(self.config.refit // 3), screened.best(self.config.refit))
        chosen = distinct_rows(order, self.config.refit)
        fitted = self.fit(task, screened.programs[chosen], self.config.fit_points, _FIT)
        if self.config.growths:
            defined = torch.isfinite(quick.loss)
            library = self._library(task)
            # With the constants that were proposed, too, which may be the better ones.
            library.add(programs[defined.to(programs.device)])
            library.add(quick.programs[defined])
            library.add(fitted.programs[torch.isfinite(fitted.loss)])
        return fitted

    def _library(self, task: Task) -> PartLibrary:
        growing = self.config.growing
        if self.so_far.library is None:
            self.so_far.rows = task.sound(task.shuffled)[: growing.points]
            self.so_far.library = PartLibrary(task.x[self.so_far.rows].to(task.device), growing.parts)
        return self.so_far.library

    def _grown(self, task: Task) -> Programs | None:
        """What the best programs of each cost, and the shortest descriptions, may become."""
        growing, pool = self.config.growing, task.pool
        if pool.programs is None:
            return None
        rows = torch.cat([pool.front(), pool.shortest(growing.bases)])
        rows = rows[pool.cost[rows] < growing.most_cost]
        rows = distinct_rows((rows,), growing.bases)
        if not len(rows):
            return None
        library = self._library(task)
        y = task.y[self.so_far.rows].to(task.device)
        grown = grow(pool.programs[rows].to(task.device), library, y, growing.candidates)
        if grown is None:
            return None
        short = description_cost(grown) <= growing.most_cost
        return grown[short] if bool(short.any()) else None
