"""Running stages: what they yield gets into the pool before they go on, and those that lack something are passed over."""

import math
import time
from collections.abc import Generator
from dataclasses import dataclass, replace

import pytest
import torch

from emlinit.finetune.search.candidates import CandidatePool
from emlinit.finetune.search.exact import ExactTrees
from emlinit.finetune.search.rounds import NetworkRounds
from emlinit.finetune.search.stages import Candidates, Need, Stage, Task, run_stages
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
    runs = run_stages([stage], task)
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
    assert [run.name for run in run_stages(stages, _task())] == ["first", "last"]
    assert [run.name for run in run_stages(stages, _task(sampler=_Guesses()))] == ["first", "network", "last"]


def test_a_candidate_comes_from_the_stage_that_yields_it() -> None:
    network = frozenset[Need]({"network"})
    task = _task(sampler=_Guesses())
    run_stages([_Yields((0.3,), name="first"), _Yields((0.2,), name="network", needs=network)], task)
    assert task.pool.origins(task.pool.best(2)) == [("network", True), ("first", False)]
    task = _task(sampler=_Guesses())
    run_stages([_Yields((0.3,), name="both", needs=network, network=False)], task)
    assert task.pool.origins(task.pool.best(1)) == [("both", False)]


def test_a_network_stage_without_a_round_finds_nothing() -> None:
    task = _task(sampler=_Guesses(), max_rounds=0)
    (run,) = run_stages([NetworkRounds(WeightedSearchConfig())], task)
    assert (run.name, run.steps, run.best_loss) == ("network", 0, math.inf)


def test_a_stage_that_fails_is_closed() -> None:
    stage = _Yields((0.5, 0.4))
    task = _task()

    def full(programs: Programs, loss: torch.Tensor, origin: object) -> None:
        raise MemoryError

    task.pool.add = full  # type: ignore[method-assign]
    with pytest.raises(MemoryError):
        run_stages([stage], task)
    assert stage.closed


def test_the_shuffled_rows_are_one_draw_of_the_generator() -> None:
    task = _task()
    first = task.shuffled
    assert torch.equal(first, torch.randperm(20, generator=torch.Generator().manual_seed(3)))
    assert torch.equal(task.shuffled, first)


def test_all_stages_keep_to_the_protocol_and_have_names_of_their_own() -> None:
    config = WeightedSearchConfig()
    stages: list[Stage] = [*stages_without_network(config), NetworkRounds(config), ExactTrees()]
    assert all(isinstance(stage, Stage) for stage in stages)
    assert len({stage.name for stage in stages}) == len(stages)


def test_who_watches_is_called_when_candidates_are_in_the_pool() -> None:
    seen: list[float] = []
    task = _task()
    task = replace(task, found=lambda: seen.append(task.pool.best_loss))
    run_stages([_Yields((0.5, 0.2, 0.3))], task)
    assert seen == [0.5, 0.2, 0.2]
