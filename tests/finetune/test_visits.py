"""Which grammar is searched when."""

import math

from emlinit.finetune.search.weighted import WeightedSearchConfig
from emlinit.finetune.visits import visits


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
