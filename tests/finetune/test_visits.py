"""Which grammar is searched when."""

import math
import time

from emlinit.finetune.search.weighted import WeightedSearchConfig
from emlinit.finetune.visits import Clock, Deadline, visits


def test_auto_pays_three_visits_and_the_last_one_is_read_in_any_case() -> None:
    config = WeightedSearchConfig()
    first, second, third = visits("auto", config, 20.0)
    assert [visit.grammar for visit in (first, second, third)] == ["weighted", "exact", "weighted"]
    assert [visit.network for visit in (first, second, third)] == [False, True, True]
    assert first.worth_reading == config.surely_exact_loss < second.worth_reading < third.worth_reading == math.inf
    assert second.share is not None
    assert 0 < second.share < 1
    assert first.share is third.share is None
    names = [[stage.name for stage in visit.stages] for visit in (first, second, third)]
    assert names[1] == ["exact trees"]
    assert set(names[0]) > set(names[2])  # what needs no network is not searched twice, but for the simplest laws


def test_one_grammar_is_one_visit_that_is_read() -> None:
    for grammar in ("exact", "weighted"):
        (only,) = visits(grammar, WeightedSearchConfig(), 12.0)
        assert (only.grammar, only.network, only.worth_reading, only.share) == (grammar, True, math.inf, None)
    assert visits("weighted", WeightedSearchConfig(), 12.0)[0].max_rounds == 3


def test_what_is_switched_off_has_no_stage() -> None:
    (only,) = visits("weighted", WeightedSearchConfig(lookup=False, sparse=False, shapes=False), 12.0)
    assert [stage.name for stage in only.stages] == ["simplest laws", "network"]


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
    assert float(clock.end) == began + 100.0
    stopped = True
    assert clock.is_stopped
    assert time.monotonic() >= clock.deadline
    assert time.monotonic() >= share
    assert 0 < clock.end - time.monotonic() < 10
    assert not Clock(began, 100.0, None).is_stopped
    assert type(Clock(began, 100.0, None).deadline) is float
