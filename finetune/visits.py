"""Which grammar is searched when, with which stages and how much of the time, and what is read off each visit.

A visit is one time that a grammar is searched; `auto` pays three: what needs no network, trees without constants, and the
network's rounds. To change the order of the grammars or their shares of the time, change `visits`; to add a way of
searching, write a stage (see `search.stages`).

Legend: p point, v input variable.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from emlinit.finetune.finalists import exact_finalists, read_laws, weighted_finalists
from emlinit.finetune.law.finding import Finding
from emlinit.finetune.options import MAX_COMPLEXITY
from emlinit.finetune.preparation import Problem, in_known_units
from emlinit.finetune.search.candidates import CandidatePool
from emlinit.finetune.search.exact import ExactTrees
from emlinit.finetune.search.stages import Sampler, Stage, Task, run_stages
from emlinit.finetune.search.weighted import WeightedSearchConfig, weighted_stages
from emlinit.generator.functions.table import FunctionTable

EXACT_SHARE = 0.3
"""Share of the time left after the search without a network that `auto` gives to the exact grammar."""
EXACT_LOSS = 1e-15
"""Loss up to which `auto` takes a tree without constants for a candidate."""
_FINISH_SHARE, _FINISH_LEAST = 0.25, 1.0  # of the time, and in seconds: for reading candidates as formulas
_SECONDS_PER_ROUND = 5.0  # more than a round takes: on a free machine few rounds, not the clock, should end the search


@runtime_checkable
class NamedSampler(Sampler, Protocol):
    """A sampler that says where it is from, as an `EMLInitialiser` does."""

    source: tuple[str, str]
    """Its name and a checksum."""
    revision: str | None
    """Commit hash of what comes from the Hub."""


@dataclass(frozen=True)
class Clock:
    """When the search began and how long it may take."""

    began: float
    """On the clock of `time.monotonic`."""
    seconds: float
    """Time for everything."""
    progress: Callable[[float, str], None] | None
    """Takes the share of the time used (0..1) and a remark."""

    @property
    def deadline(self) -> float:
        """When searching ends (on the clock of `time.monotonic`), so that time is left to read what was found."""
        return self.began + self.seconds - max(_FINISH_LEAST, _FINISH_SHARE * self.seconds)

    @property
    def end(self) -> float:
        """When reading ends, too."""
        return self.began + self.seconds

    def used(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self.began

    def report(self, remark: str) -> None:
        """Pass a remark on."""
        if self.progress is not None:
            self.progress(min(1.0, self.used() / self.seconds), remark)


@dataclass(frozen=True, eq=False)
class Data:
    """The data in their own units, the columns that are read."""

    x: np.ndarray
    """Points, float64 of shape (p, v)."""
    y: np.ndarray
    """Targets, float64 of shape (p,)."""
    names: list[str]
    """Names of the columns."""
    problem: Problem
    """Which rows train, search and validate."""


@dataclass(frozen=True)
class Visit:
    """One time that a grammar is searched."""

    grammar: str
    """`exact` or `weighted`."""
    stages: list[Stage]
    """What is tried, in this order."""
    network: bool = True
    """Whether the initialiser may be asked."""
    share: float | None = None
    """Of the time left for searching; None for all of it."""
    worth_reading: float = math.inf
    """Loss up to which something must have come for candidates to be read as formulas."""
    max_rounds: int | None = None
    """Most rounds of the network."""


def visits(grammar: str, config: WeightedSearchConfig, seconds: float) -> list[Visit]:
    """What is searched in turn, until a law is exact."""
    max_rounds = math.ceil(seconds / _SECONDS_PER_ROUND)
    if grammar == "exact":
        return [Visit("exact", [ExactTrees()])]
    if grammar == "weighted":
        return [Visit("weighted", weighted_stages(config), max_rounds=max_rounds)]
    # What needs no network first: it takes a second or two, and is often all there is to find.
    # An identity fits to rounding or is none: there is nothing to choose among the others.
    rest = replace(config, lookup=False, sparse=False)
    return [
        Visit("weighted", weighted_stages(config), network=False, worth_reading=config.surely_exact_loss),
        Visit("exact", [ExactTrees()], share=EXACT_SHARE, worth_reading=EXACT_LOSS),
        Visit("weighted", weighted_stages(rest), max_rounds=max_rounds),
    ]


class Search:
    """The searches of both grammars: one pool, one source of randomness and one choice of units each."""

    def __init__(
        self,
        data: Data,
        samplers: Mapping[str, NamedSampler],
        table: FunctionTable,
        seed: int,
        clock: Clock,
        max_complexity: int = MAX_COMPLEXITY,
    ) -> None:
        self.data, self.samplers, self.table, self.clock = data, samplers, table, clock
        self.max_complexity = max_complexity
        self.problems = {"exact": data.problem, "weighted": in_known_units(data.problem)}
        # Each its own: how far the clock lets one search go must not change what the next one draws.
        self.generators = {name: torch.Generator().manual_seed(seed) for name in self.problems}
        # Of as many points as losses are taken over: with more, what fits these few by chance would pay.
        self.pools = {name: CandidatePool(len(data.problem.search)) for name in self.problems}

    def run(self, visit: Visit) -> list[Finding]:
        """Search, and read the best candidates as formulas."""
        problem, pool, clock = self.problems[visit.grammar], self.pools[visit.grammar], self.clock
        now = time.monotonic()
        task = Task(
            problem.x[problem.search],
            problem.y[problem.search],
            pool,
            deadline=clock.deadline if visit.share is None else now + visit.share * (clock.deadline - now),
            generator=self.generators[visit.grammar],
            sampler=self.samplers[visit.grammar] if visit.network else None,
            table=self.table,
            max_rounds=visit.max_rounds,
            progress=clock.report,
        )
        asked = any(run.asked_network for run in run_stages(visit.stages, task))
        if pool.best_loss > visit.worth_reading:
            return []
        clock.report("reading the candidates as formulas")
        x, y = self.data.x, self.data.y
        if visit.grammar == "exact":
            programs = exact_finalists(pool, problem)
        else:
            programs = weighted_finalists(pool, problem, x, y, clock.end, max_complexity=self.max_complexity)
        return read_laws(
            programs,
            self.data.names,
            x,
            y,
            clock.end,
            grammar=visit.grammar,
            asked_network=asked,
            max_complexity=self.max_complexity,
        )
