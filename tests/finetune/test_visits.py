"""Which grammar is searched when."""

import math
import time

from emlinit.finetune.search.weighted import SparseSearch
from emlinit.finetune.search.weighted_stage import WeightedSearchConfig
from emlinit.finetune.sparse.laws import LONG_SUMS, QUICK_SUMS
from emlinit.finetune.visits import EXACT_LOSS, Clock, Deadline, visits


def test_auto_pays_four_visits_and_the_last_one_is_read_in_any_case() -> None:
    config = WeightedSearchConfig()
    planned = visits("auto", config, 20.0)
    assert [visit.grammar for visit in planned] == ["weighted", "exact", "weighted", "weighted"]
    assert [visit.network for visit in planned] == [False, True, True, True]
    worth = [visit.worth_reading for visit in planned]
    assert worth == [config.surely_exact_loss, EXACT_LOSS, config.surely_exact_loss, math.inf]
    assert [visit.share is None for visit in planned] == [True, False, False, True]
    names = [[stage.name for stage in visit.stages] for visit in planned]
    assert names == [
        ["simplest laws", "sparse sums", "lookup"],
        ["exact trees"],
        ["network"],
        ["sparse sums", "network"],
    ]
    families = [
        stage.config.sparse_config.families
        for visit in planned
        for stage in visit.stages
        if isinstance(stage, SparseSearch)
    ]
    assert families == [QUICK_SUMS, LONG_SUMS]  # nothing is searched twice
    assert planned[3].stages[1] is planned[2].stages[0]  # the rounds go on where they were


def test_one_grammar_has_its_visits() -> None:
    (only,) = visits("exact", WeightedSearchConfig(), 12.0)
    assert (only.grammar, only.network, only.worth_reading, only.share) == ("exact", True, math.inf, None)
    weighted = visits("weighted", WeightedSearchConfig(), 12.0)
    assert {visit.grammar for visit in weighted} == {"weighted"}
    assert weighted[-1].worth_reading == math.inf
    assert weighted[-1].max_rounds == 3


def test_what_is_switched_off_has_no_stage() -> None:
    planned = visits("weighted", WeightedSearchConfig(lookup=False, sparse=False, shapes=False), 12.0)
    assert [[stage.name for stage in visit.stages] for visit in planned] == [
        ["simplest laws"],
        ["network"],
        ["network"],
    ]


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
