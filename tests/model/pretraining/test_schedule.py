"""Warmup, a constant part that knows no budget, and a cool-down."""

import pytest

from emlinit.model.pretraining.optimisation import OptimiserConfig
from emlinit.model.pretraining.schedule import is_cooling, learning_rate_at

CONFIG = OptimiserConfig(learning_rate=1.0, final_learning_rate=0.1, warmup_steps=10)


def test_it_warms_up_stays_and_falls() -> None:
    warmup = [learning_rate_at(step, 0.0, 0.2, CONFIG) for step in range(12)]
    assert warmup == pytest.approx([min(1.0, (step + 1) / 10) for step in range(12)])
    assert {learning_rate_at(100, progress / 100, 0.2, CONFIG) for progress in range(81)} == {1.0}
    falling = [learning_rate_at(100, progress, 0.2, CONFIG) for progress in (0.8, 0.81, 0.85, 0.9, 0.95, 1.0)]
    assert falling == sorted(falling, reverse=True)
    assert len(set(falling)) == len(falling)
    assert falling[2] == pytest.approx(0.1 + 0.9 * (1 - 0.25**0.5))
    assert falling[-1] == learning_rate_at(100, 1.5, 0.2, CONFIG) == pytest.approx(0.1)


def test_the_constant_part_does_not_know_the_budget() -> None:
    rates = [[learning_rate_at(step, step / budget, 0.2, CONFIG) for step in range(80)] for budget in (100, 10_000)]
    assert rates[0] == rates[1]


def test_without_a_cooldown_it_never_falls() -> None:
    assert not is_cooling(1.0, 0.0)
    assert learning_rate_at(100, 1.0, 0.0, CONFIG) == 1.0
    assert is_cooling(0.5, 1.0)
    assert learning_rate_at(100, 0.25, 1.0, CONFIG) == pytest.approx(0.1 + 0.9 * 0.5)
