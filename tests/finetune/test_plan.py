"""What is searched when, and that the clock is kept."""

import math
import time

from emlinit.finetune.plan import Clock, Deadline, quick_stages, stages_in_turn
from emlinit.finetune.search.training import WeightedTraining
from emlinit.finetune.search.weighted import SparseSearch
from emlinit.finetune.search.weighted_stage import TrainingConfig, WeightedSearchConfig
from emlinit.finetune.sparse.laws import LONG_SUMS, QUICK_SUMS


def _names(grammar: str, config: WeightedSearchConfig | None = None) -> list[tuple[str, str]]:
    return [(name, stage.name) for name, stage, _ in stages_in_turn(grammar, config or WeightedSearchConfig())]


def test_what_is_quick_comes_first_and_nothing_is_searched_twice() -> None:
    config = WeightedSearchConfig()
    quick, turns = quick_stages(config), stages_in_turn("auto", config)
    assert [stage.name for stage in quick] == ["simplest laws", "sparse sums", "lookup"]
    assert all("network" not in stage.needs for stage in quick)
    assert _names("auto") == [
        ("exact", "exact trees"),
        ("weighted", "network"),
        ("weighted", "Gumbel-hard training"),
        ("weighted", "sparse sums"),
    ]
    families = [
        stage.config.sparse_config.families
        for stage in [*quick, *(stage for _, stage, _ in turns)]
        if isinstance(stage, SparseSearch)
    ]
    assert families == [QUICK_SUMS, LONG_SUMS]
    assert math.isclose(sum(share for _, _, share in turns), 1.0)


def test_training_starts_from_what_the_rounds_propose() -> None:
    (_, _, _), (_, rounds, _), (_, training, _), _ = stages_in_turn("auto", WeightedSearchConfig())
    assert isinstance(training, WeightedTraining)
    assert training.rounds is rounds


def test_one_grammar_has_its_stages() -> None:
    assert _names("exact") == [("exact", "exact trees")]
    assert {name for name, _ in _names("weighted")} == {"weighted"}


def test_what_is_switched_off_has_no_stage() -> None:
    config = WeightedSearchConfig(lookup=False, sparse=False, shapes=False, training=TrainingConfig(restarts=0))
    assert [stage.name for stage in quick_stages(config)] == ["simplest laws"]
    assert _names("weighted", config) == [("weighted", "network")]


def test_a_deadline_passes_with_the_time_or_when_the_search_is_stopped() -> None:
    stopped = False
    deadline = Deadline(10.0, lambda: stopped)
    now = 9.0
    assert not now >= deadline
    assert not now > deadline
    assert now < deadline
    assert now <= deadline
    assert deadline <= 10.0
    assert min(deadline, 12.0) is deadline
    assert min(deadline, 8.0) == 8.0
    assert type(deadline - now) is float
    stopped = True
    assert now >= deadline
    assert now > deadline
    assert not now < deadline
    assert not now <= deadline
    assert min(deadline, 8.0) is deadline


def test_a_clock_that_is_stopped_leaves_little_time_to_read() -> None:
    stopped = False
    began = time.monotonic()
    clock = Clock(began, 100.0, None, lambda: stopped)
    share = clock.at(began + 50.0)
    assert time.monotonic() < clock.deadline
    assert time.monotonic() < share
    assert began + 97.0 < float(clock.end) < began + 100.0 < clock.latest < began + 103.0
    stopped = True
    assert clock.is_stopped
    assert time.monotonic() >= clock.deadline
    assert time.monotonic() >= share
    assert 0 < clock.end - time.monotonic() < 10
    assert not Clock(began, 100.0, None).is_stopped
    assert type(Clock(began, 100.0, None).deadline) is float
