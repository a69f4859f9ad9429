"""Who searches when: stages take turns, in slices, each as long as its gains are worth.

A stage is a generator, so that it can be left and taken up again. Its slice lasts half a second, or until it next yields.
What a slice gained is by how many nats the shortest description of the targets became shorter, in whatever grammar. Half of
the time is given by fixed shares, so that nobody starves, half by what the last slices gained a second (proportional
sharing by virtual time, as in stride scheduling; Waldspurger & Weihl 1995).
"""

import math
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing

from emlinit.finetune.search.candidates import Origin
from emlinit.finetune.search.stages import Candidates, Stage, StageRun, Task

_SLICE = 0.5  # seconds
_FIXED = 0.5  # of the time, by shares
_GAIN = 0.1  # nats; less is the last digits of a constant
_KEPT = 0.5  # of the gains and seconds before the latest slice


class Turn:
    """A stage that takes turns, and how it fared."""

    def __init__(self, stage: Stage, task: Task, share: float) -> None:
        """A stage that has not begun; `share` is its part of the time beside the shares of the others."""
        self.stage, self.task, self.share = stage, task, share
        self.finished = not stage.needs <= task.has
        self.seconds, self.steps, self.best_loss, self.gain, self.quiet = 0.0, 0, math.inf, 0.0, 0.0
        self.virtual = _SLICE / share
        """Seconds over weight; to begin with those of a slice, so that a small share waits for its first."""
        self._found: Generator[Candidates] | None = None
        self._recent_gain = self._recent_seconds = 0.0

    @property
    def ready(self) -> bool:
        """Whether it can go on now."""
        return not self.finished and not self.stage.done(self.task)

    @property
    def rate(self) -> float:
        """Nats a second of the latest slices."""
        return self._recent_gain / self._recent_seconds if self._recent_seconds else 0.0

    @property
    def run(self) -> StageRun:
        """What it did so far."""
        return StageRun(self.stage.name, self.seconds, self.steps, self.best_loss, self.gain, self.quiet)

    def slice(self, shortest: Callable[[], float]) -> float:
        """Go on for a slice; returns by how many nats `shortest()` became shorter."""
        began, before = time.monotonic(), shortest()
        if self._found is None:
            self._found = self.stage.run(self.task)
        for candidates in self._found:
            _keep(candidates, self.stage, self.task)
            self.steps += 1
            self.best_loss = min([self.best_loss, *candidates.loss.tolist()])
            if time.monotonic() - began >= _SLICE:
                break
        else:
            self.finished = True
        took = time.monotonic() - began
        gained = max(0.0, before - shortest()) if math.isfinite(before) else 0.0
        self.quiet = 0.0 if gained > _GAIN else self.quiet + took
        self.seconds += took
        self.gain += gained
        self._recent_gain = _KEPT * self._recent_gain + gained
        self._recent_seconds = _KEPT * self._recent_seconds + took
        return gained

    def close(self) -> None:
        """End it for good."""
        if self._found is not None:
            self._found.close()
        self.finished = True


class Schedule:
    """Stages that take turns; it can be left and taken up again."""

    def __init__(
        self,
        turns: Sequence[Turn],
        shortest: Callable[[], float],
        patience: Callable[[float], float] = lambda _: math.inf,
        before: Sequence[StageRun] = (),
    ) -> None:
        """Begin with nothing done.

        Args:
            turns: the first one begins at once, the others as their shares say.
            shortest: tells the length of the shortest description, in nats.
            patience: takes the seconds that it took to the last gain, and tells those without another one after which there
                is no more to do.
            before: what was done before, in order.
        """
        self.turns, self._shortest, self._patience = turns, shortest, patience
        if turns:
            turns[0].virtual = 0.0
        self._now = 0.0
        since = seconds_without_gain(before)
        self._gained = time.monotonic() - since
        self._began = self._gained + since - sum(run.seconds for run in before)

    def run(self, pause: Callable[[], bool]) -> bool:
        """Let the stages take turns until `pause()` says so; whether there is more to do."""
        while True:
            ready = [turn for turn in self.turns if turn.ready]
            if not ready or self._is_vain():
                return False
            for turn in ready:  # a stage that could not go on for a while does not catch up
                turn.virtual = max(turn.virtual, self._now)
            turn = min(ready, key=lambda turn: turn.virtual)
            self._now = turn.virtual
            weight, before = self._weight(turn, ready), turn.seconds
            if turn.slice(self._shortest) > _GAIN:
                self._gained = time.monotonic()
            turn.virtual += (turn.seconds - before) / weight
            if pause():
                return True

    def close(self) -> None:
        """End all stages."""
        for turn in self.turns:
            turn.close()

    def _weight(self, turn: Turn, ready: Sequence[Turn]) -> float:
        shares, rates = sum(one.share for one in ready), sum(one.rate for one in ready)
        by_gain = turn.rate / rates if rates > 0 else turn.share / shares
        return _FIXED * turn.share / shares + (1 - _FIXED) * by_gain

    def _is_vain(self) -> bool:
        """Whether nothing was gained for long."""
        waited = time.monotonic() - self._gained
        return waited > self._patience(self._gained - self._began)


def seconds_without_gain(runs: Sequence[StageRun]) -> float:
    """Seconds since one of some stages, that ran one after the other, last gained something."""
    seconds = 0.0
    for run in reversed(runs):
        seconds += run.quiet
        if run.quiet < run.seconds:
            break
    return seconds


def run_in_order(stages: Sequence[Stage], task: Task) -> list[StageRun]:
    """Run stages one after the other and fill the task's pool.

    Those that are done, or lack what they need, are passed over; returns what the others did.
    """
    runs = []
    for stage in stages:
        turn = Turn(stage, task, 1.0)
        if not turn.ready:
            continue
        with closing(turn):
            while not turn.finished:
                turn.slice(lambda: task.pool.best_nats)
        runs.append(turn.run)
    return runs


def _keep(candidates: Candidates, stage: Stage, task: Task) -> None:
    """Put what a stage has found into the pool of its task."""
    network = "network" in stage.needs if candidates.network is None else candidates.network
    task.pool.add(candidates.programs, candidates.loss, Origin(candidates.part or stage.name, network))
    task.found()
