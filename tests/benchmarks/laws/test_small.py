"""Small tables: every kind in turn, two constants, few rows, and values that show them."""

import numpy as np
import pytest
import sympy

from emlinit.benchmarks.laws.small import SMALL_KINDS, draw_small_case
from emlinit.benchmarks.laws.suites import load_law_suite


def test_the_kinds_take_turns_and_have_two_constants() -> None:
    cases = [draw_small_case(number, 0, 10) for number in range(3 * len(SMALL_KINDS))]
    assert [case.name.rsplit("-", 1)[0] for case in cases] == 3 * list(SMALL_KINDS)
    for case in cases:
        assert 5 <= len(case.x) <= 20
        assert len({abs(number) for number in case.formula.atoms(sympy.Float)}) == 2, case.formula


def test_exponents_of_power_laws_are_no_halves() -> None:
    for number in range(list(SMALL_KINDS).index("power"), 30 * len(SMALL_KINDS), len(SMALL_KINDS)):
        exponent = max((power.exp for power in draw_small_case(number, 1, 1).formula.atoms(sympy.Pow)), key=abs)
        assert abs(2 * exponent - round(2 * exponent)) > 0.1


def test_the_suite_varies_and_is_noisy_as_told() -> None:
    problems = load_law_suite("small", noise=0.01, limit=4 * len(SMALL_KINDS))
    assert len(load_law_suite("small")) == 2 * len(SMALL_KINDS)
    shares = [np.std(problem.y - problem.clean) / problem.clean.std() for problem in problems]
    assert np.mean(shares) == pytest.approx(0.01, rel=0.2)
    for problem in problems:
        assert np.isfinite(problem.extended_y).all(), problem.name
        assert np.ptp(problem.clean) > 0.2 * abs(problem.clean).max(), problem.name
