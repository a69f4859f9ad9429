"""What is searched when, with what share of the time, and what is read off it.

First comes what is quick and needs no network, one stage after the other; then stages of both grammars take turns, in slices
as long as their gains are worth (see `search.schedule`). Candidates are read as formulas as soon as one may be exact, and
when the time is over. To add a way of searching, write a stage (see `search.stages`) and put it into `quick_stages` or
`stages_in_turn`.

Legend: p point, v input variable.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from emlinit.finetune.diagnostics.noise import leaves_only_noise
from emlinit.finetune.finalists import exact_finalists, law_in, read_laws, weighted_finalists
from emlinit.finetune.law.finding import Finding
from emlinit.finetune.law.language import Language
from emlinit.finetune.law.law import Law
from emlinit.finetune.preparation import Problem, in_known_units, restore_units
from emlinit.finetune.search.candidates import CandidatePool
from emlinit.finetune.search.exact import ExactTrees
from emlinit.finetune.search.rounds import NetworkRounds
from emlinit.finetune.search.schedule import Schedule, Turn, run_in_order, seconds_without_gain
from emlinit.finetune.search.stages import Sampler, Stage, StageRun, Task
from emlinit.finetune.search.training import WeightedTraining
from emlinit.finetune.search.weighted import stages_without_network
from emlinit.finetune.search.weighted_stage import WeightedSearchConfig
from emlinit.finetune.sparse.laws import LONG_SUMS, QUICK_SUMS
from emlinit.generator.functions.table import FunctionTable

ROUNDS_SHARE, EXACT_SHARE, TRAINING_SHARE, LONG_SHARE = 0.6, 0.15, 0.05, 0.2
"""Of the time after the quick sums, as far as it is not given by what was gained: rounds of the network, trees without
constants, Gumbel-hard training, sums of many terms."""
EXACT_LOSS = 1e-15
"""Loss up to which `auto` takes a tree without constants for a candidate, and beyond which, beside a law that fits to
rounding, only the simplest candidates are read."""
_FINISH_SHARE, _FINISH_LEAST = 0.25, 1.0  # of the time, and in seconds: for reading candidates as formulas
_FINISH_STOPPED = 4.0  # seconds for that, once the search was stopped
_LAST_WORD, _LEAST_LAST_WORD = 0.02, 0.3  # of the time, and in seconds: for asking the network about what was read
_BETTER = 2.0  # nats by which a description is shorter before it is told of
_PATIENCE = 0.1  # seconds for simplifying what is told of
_PATIENT_SHARE, _LEAST_PATIENCE = 0.5, 10.0  # of the time, and seconds: without a gain for so long a search ends
_PATIENCE_AT_NOISE = 1.0  # seconds, where what is left over is noise
_ABOUT = 2.0  # times the loss of another law: about as good
_SHORT_SHARE = 0.5  # of the most nodes: what costs no more can leave only noise
_MARGIN_AT_NOISE = 20.0  # nats: what is so much longer than the shortest description is no law that leaves only noise
_SECONDS_PER_ROUND = 5.0  # more than a round takes: on a free machine few rounds, not the clock, should end the search


@runtime_checkable
class NamedSampler(Sampler, Protocol):
    """A sampler that says where it is from, as an `EMLInitialiser` does."""

    source: tuple[str, str]
    """Its name and a checksum."""
    revision: str | None
    """Commit hash of what comes from the Hub."""


class Deadline(float):
    """A time on the clock of `time.monotonic` that has passed as soon as somebody says so.

    What is compared with it, `time.monotonic() >= deadline`, asks each time; so a search is stopped wherever it looks at
    the clock. A sum or a difference is a plain number.
    """

    stopped: Callable[[], bool]

    def __new__(cls, when: float, stopped: Callable[[], bool]) -> "Deadline":
        """The time `when`, unless `stopped` says True before."""
        deadline = super().__new__(cls, when)
        deadline.stopped = stopped
        return deadline

    # Python asks the right operand first where its class is made from that of the left one.
    def __lt__(self, now: float) -> bool:
        return self.stopped() or float(self) < now

    def __le__(self, now: float) -> bool:
        return self.stopped() or float(self) <= now

    def __gt__(self, now: float) -> bool:
        return not self.stopped() and float(self) > now

    def __ge__(self, now: float) -> bool:
        return not self.stopped() and float(self) >= now


@dataclass(frozen=True)
class Clock:
    """When the search began, how long it may take, and who may end it before."""

    began: float
    """On the clock of `time.monotonic`."""
    seconds: float
    """Time for everything."""
    progress: Callable[[float, str], None] | None
    """Takes the share of the time used (0..1) and a remark."""
    stop: Callable[[], bool] | None = None
    """Whether the search has been stopped."""

    @property
    def is_stopped(self) -> bool:
        """Whether somebody has stopped the search."""
        return self.stop is not None and self.stop()

    def at(self, when: float) -> float:
        """A time on the clock of `time.monotonic`, which has passed once the search is stopped."""
        return when if self.stop is None else Deadline(when, self.stop)

    @property
    def deadline(self) -> float:
        """When searching ends (on the clock of `time.monotonic`), so that time is left to read what was found."""
        return self.at(self.began + self.seconds - max(_FINISH_LEAST, _FINISH_SHARE * self.seconds))

    @property
    def end(self) -> float:
        """When reading ends, too; asked for after the search was stopped, soon."""
        end = self.began + self.seconds - max(_LEAST_LAST_WORD, _LAST_WORD * self.seconds)
        return min(end, time.monotonic() + _FINISH_STOPPED) if self.is_stopped else self.at(end)

    @property
    def latest(self) -> float:
        """When the last word must have been spoken, at the latest: a little after the time is over."""
        return self.began + self.seconds + max(_LEAST_LAST_WORD, _LAST_WORD * self.seconds)

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


def quick_stages(config: WeightedSearchConfig) -> list[Stage]:
    """What is searched first, one after the other, in the weighted grammar: it needs no network, takes a second or two,
    and is often all there is to find."""
    return stages_without_network(config, QUICK_SUMS)


def stages_in_turn(grammar: str, config: WeightedSearchConfig) -> list[tuple[str, Stage, float]]:
    """What takes turns then: the grammar, the stage, and its share of the time (see `search.schedule`)."""
    if grammar == "exact":
        return [("exact", ExactTrees(), 1.0)]
    rounds = NetworkRounds(config)
    # Sums of many terms approximate nearly everything and are seldom the law.
    long = stages_without_network(replace(config, shapes=False, lookup=False), LONG_SUMS)[1:]
    planned: list[tuple[str, Stage, float]] = [
        ("exact", ExactTrees(), EXACT_SHARE),  # begins with looking up, which takes no time
        ("weighted", rounds, ROUNDS_SHARE),
        ("weighted", WeightedTraining(config, rounds), TRAINING_SHARE if config.training.restarts else 0.0),
        *(("weighted", stage, LONG_SHARE) for stage in long),
    ]
    return [(name, stage, share) for name, stage, share in planned if grammar in ("auto", name) and share > 0]


class Search:
    """The searches of both grammars: one pool, one source of randomness and one choice of units each."""

    def __init__(
        self,
        data: Data,
        samplers: Mapping[str, NamedSampler],
        table: FunctionTable,
        seed: int,
        clock: Clock,
        language: Language | None = None,
        on_better: Callable[[Law, float], object] | None = None,
    ) -> None:
        """Begin with nothing found.

        Args:
            data: the data.
            samplers: the initialiser of each grammar.
            table: all small functions.
            seed: source of all randomness.
            clock: how long it may take.
            language: what a law may be written in; all by default.
            on_better: takes each law that is better than those before, and its error relative to the deviation of y.
        """
        self.data, self.samplers, self.table, self.clock = data, samplers, table, clock
        self.language, self.on_better = language or Language(), on_better
        self.too_long: list[Finding] = []
        """Laws that are in the language but for their length."""
        self.runs: list[tuple[str, StageRun]] = []
        """What the stages did, in order, each with its grammar."""
        self.told: Finding | None = None
        """The law that was told of last."""
        self.shortest = math.inf
        """Nats of its description."""
        self.problems = {"exact": data.problem, "weighted": in_known_units(data.problem)}
        self._read_nats = dict.fromkeys(self.problems, math.inf)
        # Each its own: how far the clock lets one search go must not change what the next one draws.
        self.generators = {name: torch.Generator().manual_seed(seed) for name in self.problems}
        # Of as many points as losses are taken over: with more, what fits these few by chance would pay.
        seen = data.problem.x[data.problem.search]
        n_distinct = len(torch.unique(seen, dim=0))
        # A tree without constants is found by its values; what it is made of is seen when it is simplified.
        without = {"exact": frozenset[str](), "weighted": self.language.without}
        self.pools = {name: CandidatePool(len(seen), n_distinct, without[name]) for name in self.problems}

    def run(self, grammar: str, config: WeightedSearchConfig) -> list[Finding]:
        """Search one grammar or both, reading candidates as formulas whenever they may be exact, and at the end."""
        found: list[Finding] = []
        rounds = math.ceil(self.clock.seconds / _SECONDS_PER_ROUND)
        tasks = {name: self._task(name, rounds if name == "weighted" else None) for name in self.pools}
        if grammar != "exact":
            for stage in quick_stages(config):
                if not self._is_vain():
                    self.runs += [("weighted", run) for run in run_in_order([stage], tasks["weighted"])]
            found += self._read_what_is_new(config)
        turns = [(name, Turn(stage, tasks[name], share)) for name, stage, share in stages_in_turn(grammar, config)]
        # A tree without constants is found at a stroke or not at all: there nothing is ever gained before.
        patience = (lambda _: math.inf) if grammar == "exact" else self._patience
        before = [run for _, run in self.runs]
        schedule = Schedule([turn for _, turn in turns], self._shortest_description, patience, before)
        with closing(schedule):
            going = True
            while going and not any(finding.is_exact for finding in found):
                going = schedule.run(lambda: self._is_news(config))
                found += self._read_what_is_new(config)
        self.runs += [(name, turn.run) for name, turn in turns if turn.steps]
        if any(finding.is_exact for finding in found):
            return found
        for name in ("exact", "weighted"):
            # An identity fits to rounding or is none; alone, there is nothing else to show.
            worth_it = name in (grammar, "weighted") or self.pools[name].best_loss <= EXACT_LOSS
            if grammar in ("auto", name) and worth_it:
                found += self._read(name)
        return found

    def _task(self, grammar: str, max_rounds: int | None) -> Task:
        problem = self.problems[grammar]
        sampler = self.samplers.get(grammar)
        return Task(
            problem.x[problem.search],
            problem.y[problem.search],
            self.pools[grammar],
            deadline=self.clock.deadline,
            generator=self.generators[grammar],
            sampler=sampler,
            table=self.table,
            device=getattr(sampler, "device", torch.device("cpu")),
            max_rounds=max_rounds,
            progress=self.clock.report,
            misfit=problem.misfit.rows(problem.search),
            found=lambda: self._tell(grammar),
        )

    def _shortest_description(self) -> float:
        return min(pool.best_nats for pool in self.pools.values())

    def _patience(self, took: float) -> float:
        """Seconds without a gain after which a search ends: as many as it took to the last one, and many more than that;
        few where what the best candidate leaves over is noise."""
        whole = max(_LEAST_PATIENCE, _PATIENT_SHARE * self.clock.seconds)
        return min(whole, _PATIENCE_AT_NOISE) if self._is_at_the_noise() else max(whole, took)

    def _is_vain(self) -> bool:
        """Whether there is nothing to gain any more, as far as the stages tell that ran one after the other."""
        runs = [run for _, run in self.runs]
        waited = seconds_without_gain(runs)
        return waited > _PATIENCE_AT_NOISE and waited > self._patience(sum(run.seconds for run in runs) - waited)

    def _is_at_the_noise(self) -> bool:
        name = min(self.pools, key=lambda name: self.pools[name].best_nats)
        pool, problem = self.pools[name], self.problems[name]
        if pool.programs is None:
            return False
        best = pool.shortest(1)
        if int(pool.cost[best]) > _SHORT_SHARE * self.language.max_complexity:
            return False  # a long sum follows the noise
        x, y = problem.x[problem.search], problem.y[problem.search]
        residual = pool.residual(x, y)
        weights = problem.misfit.rows(problem.search).fixed_weights(residual)
        told = None if weights is None else weights.numpy()
        return leaves_only_noise(x.numpy(), residual.numpy(), int(pool.programs[best].n_free()), told)

    def _is_news(self, config: WeightedSearchConfig) -> bool:
        """Whether a candidate may be exact that was not there when candidates were last read."""
        return any(self._may_be_exact(name, config) for name in self.pools)

    def _may_be_exact(self, grammar: str, config: WeightedSearchConfig) -> bool:
        pool, least = self.pools[grammar], EXACT_LOSS if grammar == "exact" else config.surely_exact_loss
        fits = pool.best_loss <= least or (grammar == "weighted" and pool.holds_law)
        return fits and pool.best_nats < self._read_nats[grammar]

    def _read_what_is_new(self, config: WeightedSearchConfig) -> list[Finding]:
        """What may be exact, as formulas."""
        return [finding for name in self.pools if self._may_be_exact(name, config) for finding in self._read(name)]

    def _read(self, grammar: str) -> list[Finding]:
        """The best candidates of a grammar as formulas."""
        problem, pool, clock, language = self.problems[grammar], self.pools[grammar], self.clock, self.language
        self._read_nats[grammar] = pool.best_nats
        clock.report("reading the candidates as formulas")
        x, y, end = self.data.x, self.data.y, clock.end

        def read(margin: float = math.inf, most_loss: float = math.inf) -> list[Finding]:
            if grammar == "exact":
                finalists = exact_finalists(pool, problem)
            else:
                most = language.max_complexity
                finalists = weighted_finalists(
                    pool, problem, x, y, end, max_complexity=most, margin=margin, most_loss=most_loss
                )
            return read_laws(
                finalists, self.data.names, x, y, end, grammar=grammar, language=language, misfit=problem.misfit
            )

        margin = _MARGIN_AT_NOISE if grammar == "weighted" and self._is_at_the_noise() else math.inf
        most_loss = EXACT_LOSS if grammar == "weighted" and pool.holds_law else math.inf
        found = read(margin, most_loss)
        if min(margin, most_loss) < math.inf and not self._is_said(pool, found):
            found = read()
        if clock.is_stopped and self.told is not None:  # what was seen is kept, however little was read
            found.append(self.told)
        self.too_long += [finding for finding in found if finding.size > language.max_complexity]
        return [finding for finding in found if finding.size <= language.max_complexity]

    def _is_said(self, pool: CandidatePool, found: Sequence[Finding]) -> bool:
        """Whether one of some laws may be offered and fits about as well as the shortest description: it may be too long, or
        the language have no words for it."""
        loss = float(pool.loss[pool.shortest(1)])
        offered = (finding for finding in found if finding.size <= self.language.max_complexity)
        return any(finding.is_exact or finding.overall.relative**2 <= _ABOUT * loss for finding in offered)

    def _tell(self, grammar: str) -> None:
        """Tell whoever watches of the shortest description, if it is a better one and can be said."""
        problem, pool = self.problems[grammar], self.pools[grammar]
        if self.on_better is None or pool.programs is None:
            return
        # What costs more than a law may have nodes is mostly too long.
        rows = pool.shortest(1, self.language.max_complexity)
        if not len(rows) or float(pool.nats[rows]) > self.shortest - _BETTER:
            return
        best = int(rows)
        program = restore_units(pool.programs[best], problem)
        law = law_in(program, self.data.names, self.data.x, _PATIENCE, self.language)
        if law is None:
            return
        (origin,) = pool.origins(rows)
        told = Finding.of(law, self.data.x, self.data.y, grammar=grammar, origin=origin, misfit=problem.misfit)
        if told.size <= self.language.max_complexity:
            self.shortest, self.told = float(pool.nats[best]), told
            self.on_better(law, float(pool.loss[best]) ** 0.5)
