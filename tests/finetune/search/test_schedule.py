"""Running stages: what they yield gets into the pool before they go on, those that lack something are passed over, and of
those that take turns nobody starves and what gains most has most of the time."""

import math
import time
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch

from emlinit.finetune.search.candidates import CandidatePool
from emlinit.finetune.search.exact import ExactTrees
from emlinit.finetune.search.rounds import NetworkRounds
from emlinit.finetune.search.schedule import Schedule, Turn, run_in_order
from emlinit.finetune.search.stages import Candidates, Need, Stage, StageRun, Task
from emlinit.finetune.search.weighted import stages_without_network
from emlinit.finetune.search.weighted_stage import WeightedSearchConfig
from emlinit.generator.grammar import from_text
from emlinit.generator.program import Programs, programs_from_tokens
from emlinit.model.propose import Proposals


def _program(text: str) -> Programs:
    tokens, constants = from_text(text, 1)
    return programs_from_tokens(tokens[None], constants[None], 1)


@dataclass
class _Yields:
    """A stage that yields given losses, and remembers the pool's best when it goes on after each."""

    losses: tuple[float, ...]
    enough: float = 0.0
    name: str = "yields"
    needs: frozenset[Need] = frozenset()
    network: bool | None = None

    def __post_init__(self) -> None:
        self.seen: list[float] = []
        self.closed = False

    def done(self, task: Task) -> bool:
        return task.pool.best_loss <= self.enough

    def run(self, task: Task) -> Generator[Candidates]:
        try:
            for loss in self.losses:
                yield Candidates(_program("x1"), torch.tensor([loss], dtype=torch.float64), self.network)
                self.seen.append(task.pool.best_loss)
                if self.done(task):
                    return
        finally:
            self.closed = True


class _Guesses:
    """A sampler that is never meant to be asked."""

    def propose(
        self, x: torch.Tensor, y: torch.Tensor, n: int, *, generator: object, temperature: float, n_bags: int
    ) -> Proposals:
        raise AssertionError


def _task(**changes: object) -> Task:
    x = torch.linspace(0.5, 2.0, 20, dtype=torch.float64)[:, None]
    task = Task(
        x,
        x[:, 0].sin(),
        CandidatePool(20),
        deadline=time.monotonic() + 60.0,
        generator=torch.Generator().manual_seed(3),
    )
    return replace(task, **changes)  # type: ignore[arg-type]


def test_what_was_yielded_is_in_the_pool_when_the_stage_goes_on() -> None:
    task, stage = _task(), _Yields((0.5, 0.2, 0.3), enough=0.2)
    runs = run_in_order([stage], task)
    assert stage.seen == [0.5, 0.2]
    assert stage.closed
    assert [(run.name, run.steps, run.best_loss) for run in runs] == [("yields", 2, 0.2)]
    assert runs[0].seconds >= 0
    assert task.pool.best_loss == 0.2


def test_a_stage_that_is_done_or_lacks_something_is_passed_over() -> None:
    network, table = frozenset[Need]({"network"}), frozenset[Need]({"table"})
    stages = [
        _Yields((0.1,), name="first"),
        _Yields((0.05,), name="done", enough=0.1),
        _Yields((0.01,), name="network", needs=network),
        _Yields((0.01,), name="table", needs=table),
        _Yields((0.02,), name="last"),
    ]
    assert [run.name for run in run_in_order(stages, _task())] == ["first", "last"]
    assert [run.name for run in run_in_order(stages, _task(sampler=_Guesses()))] == ["first", "network", "last"]


def test_a_candidate_comes_from_the_stage_that_yields_it() -> None:
    network = frozenset[Need]({"network"})
    task = _task(sampler=_Guesses())
    run_in_order([_Yields((0.3,), name="first"), _Yields((0.2,), name="network", needs=network)], task)
    assert task.pool.origins(task.pool.best(2)) == [("network", True), ("first", False)]
    task = _task(sampler=_Guesses())
    run_in_order([_Yields((0.3,), name="both", needs=network, network=False)], task)
    assert task.pool.origins(task.pool.best(1)) == [("both", False)]


def test_a_network_stage_without_a_round_finds_nothing() -> None:
    task = _task(sampler=_Guesses(), max_rounds=0)
    (run,) = run_in_order([NetworkRounds(WeightedSearchConfig())], task)
    assert (run.name, run.steps, run.best_loss) == ("network", 0, math.inf)


def test_a_stage_that_fails_is_closed() -> None:
    stage = _Yields((0.5, 0.4))
    task = _task()

    def full(programs: Programs, loss: torch.Tensor, origin: object) -> None:
        raise MemoryError

    task.pool.add = full  # type: ignore[method-assign]
    with pytest.raises(MemoryError):
        run_in_order([stage], task)
    assert stage.closed


def test_all_stages_keep_to_the_protocol_and_have_names_of_their_own() -> None:
    config = WeightedSearchConfig()
    stages: list[Stage] = [*stages_without_network(config), NetworkRounds(config), ExactTrees()]
    assert all(isinstance(stage, Stage) for stage in stages)
    assert len({stage.name for stage in stages}) == len(stages)


def test_who_watches_is_called_when_candidates_are_in_the_pool() -> None:
    seen: list[float] = []
    task = _task()
    task = replace(task, found=lambda: seen.append(task.pool.best_loss))
    run_in_order([_Yields((0.5, 0.2, 0.3))], task)
    assert seen == [0.5, 0.2, 0.2]


class _Clock:
    """Time that passes only when somebody works."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    clock = _Clock()
    monkeypatch.setattr("emlinit.finetune.search.schedule.time.monotonic", clock)
    return clock


@dataclass
class _Works:
    """A stage that works for so long a step, and makes the description so much shorter a step."""

    name: str
    clock: _Clock
    gain: float = 0.0
    seconds: float = 0.5
    steps: int = 10_000
    needs: frozenset[Need] = frozenset()

    shortest: ClassVar[list[float]] = [1e6]  # of all of them

    def done(self, task: Task) -> bool:
        return self.clock() >= 200.0

    def run(self, task: Task) -> Generator[Candidates]:
        for _ in range(self.steps):
            self.clock.now += self.seconds
            self.shortest[0] -= self.gain
            yield Candidates(_program("x1"), torch.tensor([0.5], dtype=torch.float64))


def _turns(
    *stages: _Works, shares: tuple[float, ...], before: tuple[StageRun, ...] = ()
) -> tuple[Schedule, list[Turn]]:
    task = _task()
    turns = [Turn(stage, task, share) for stage, share in zip(stages, shares, strict=True)]
    return Schedule(turns, lambda: _Works.shortest[0], lambda took: max(10.0, took), before), turns


def test_without_gains_the_shares_decide_until_it_is_in_vain(clock: _Clock) -> None:
    schedule, turns = _turns(_Works("a", clock), _Works("b", clock), shares=(0.6, 0.2))
    assert not schedule.run(lambda: False)
    assert 110.0 < clock() < 112.0  # ten seconds without a gain
    assert turns[0].seconds == pytest.approx(3 * turns[1].seconds, rel=0.2)


def test_what_was_done_before_counts(clock: _Clock) -> None:
    began = clock()
    gained, vain = StageRun("a", 4.0, 1, 0.5, 3.0, 0.0), StageRun("b", 6.0, 1, 0.5, 0.0, 6.0)
    schedule, _ = _turns(_Works("c", clock), shares=(1.0,), before=(gained, vain))
    assert not schedule.run(lambda: False)
    assert clock() - began == pytest.approx(4.5, abs=0.6)  # ten seconds without a gain, six of them before

    began = clock()
    schedule, _ = _turns(_Works("c", clock), shares=(1.0,), before=(StageRun("a", 15.0, 1, 0.5, 3.0, 0.0), vain))
    assert not schedule.run(lambda: False)
    assert clock() - began == pytest.approx(9.5, abs=0.6)  # as long as it took to the gain


def test_who_gains_has_more_of_the_time_and_nobody_starves(clock: _Clock) -> None:
    schedule, turns = _turns(_Works("a", clock, gain=0.0), _Works("b", clock, gain=5.0), shares=(0.8, 0.2))
    assert not schedule.run(lambda: False)
    assert clock() >= 200.0
    first, second = (turn.seconds / 100 for turn in turns)
    assert first == pytest.approx(0.4, abs=0.05)  # half of the time is given by the shares, all of the other half to b
    assert second == pytest.approx(0.6, abs=0.05)
    assert turns[1].run.gain == pytest.approx(5.0 * turns[1].steps)
    assert turns[0].run.gain == 0.0


def test_a_stage_that_ends_leaves_its_time_to_the_others(clock: _Clock) -> None:
    schedule, turns = _turns(_Works("a", clock, steps=2), _Works("b", clock, gain=1.0), shares=(0.9, 0.1))
    schedule.run(lambda: False)
    assert [turn.finished for turn in turns] == [True, False]
    assert turns[0].steps == 2
    assert turns[1].seconds == pytest.approx(99.0, abs=1.0)


def test_a_pause_is_asked_for_after_every_slice_and_ended_where_it_began(clock: _Clock) -> None:
    schedule, turns = _turns(_Works("a", clock, gain=1.0, seconds=0.2), shares=(1.0,))
    asked: list[int] = []

    def pause() -> bool:
        asked.append(turns[0].steps)
        return len(asked) % 3 == 0

    assert schedule.run(pause)
    assert asked == [3, 6, 9]  # a slice is half a second
    assert schedule.run(pause)
    assert turns[0].steps == 18
    schedule.close()
    assert not turns[0].ready


def test_a_part_of_a_stage_is_named() -> None:
    task = _task()

    @dataclass
    class Parts(_Yields):
        def run(self, task: Task) -> Generator[Candidates]:
            yield Candidates(_program("x1"), torch.tensor([0.5], dtype=torch.float64), part="peeling")

    run_in_order([Parts((0.5,))], task)
    assert task.pool.origins(task.pool.best(1)) == [("peeling", False)]
