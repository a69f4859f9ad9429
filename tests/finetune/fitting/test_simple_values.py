"""Simple numbers near a constant: those that laws are made of, and none that are near by chance."""

import math

import pytest

from emlinit.finetune.fitting.simple_values import simple_values


@pytest.mark.parametrize("value", [2 * math.pi, math.pi / 2, 4 * math.pi / 3, 8 * math.pi, math.e, -math.pi])
def test_multiples_of_pi_and_e_are_offered(value: float) -> None:
    assert value in dict(simple_values(value, 1e-9))


@pytest.mark.parametrize(("value", "by_chance"), [(22.03, 7 * math.pi), (15.71, 5 * math.pi), (5.76, 11 * math.pi / 6)])
def test_odd_multiples_are_not(value: float, by_chance: float) -> None:
    offered = dict(simple_values(value, 0.05))
    assert by_chance not in offered
    assert len(offered) > 1


def test_the_cheapest_comes_first_and_zero_costs_nothing() -> None:
    costs = [cost for _, cost in simple_values(0.5, 0.2)]
    assert costs == sorted(costs)
    assert simple_values(0.5, 0.2)[0] == (0.0, 0.0)
    assert simple_values(math.inf, 1.0) == [(0.0, 0.0)]
    assert {number for number, _ in simple_values(0.93, math.inf)} == {0.0, 1.0}
