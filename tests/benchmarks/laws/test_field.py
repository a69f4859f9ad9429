"""The curves of the field: every kind is drawn, anew for each number, the same for each seed, and as its name says."""

import numpy as np
import pytest

from emlinit.benchmarks.laws.field import KINDS, draw_case
from emlinit.benchmarks.laws.suites import load_law_suite


def test_the_kinds_take_turns_and_no_case_is_another() -> None:
    cases = [draw_case(number, 0, 10) for number in range(2 * len(KINDS))]
    assert [case.name.rsplit("-", 1)[0] for case in cases] == 2 * list(KINDS)
    assert len({str(case.formula) for case in cases}) == len(cases)


def test_a_case_depends_on_number_and_seed_only() -> None:
    first, again, other = draw_case(3, 0, 10), draw_case(3, 0, 10), draw_case(3, 1, 10)
    assert first.formula == again.formula != other.formula
    np.testing.assert_array_equal(first.x, again.x)
    np.testing.assert_array_equal(first.extended, again.extended)


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_the_suite_is_finite_and_noisy_as_told(noise: float) -> None:
    for problem in load_law_suite("field", noise=noise, limit=3 * len(KINDS)):
        for values in (problem.y, problem.fresh_y, problem.extended_y):
            assert np.isfinite(values).all(), problem.name
        assert 20 <= len(problem.y) <= 200
        assert np.std(problem.y - problem.clean) == pytest.approx(noise * problem.clean.std(), rel=0.5, abs=0)


def test_factors_keep_their_levels() -> None:
    for number, kind in enumerate(KINDS):
        if kind in ("flag", "levels"):
            case = draw_case(number, 5, 100)
            assert set(case.extended[:, 1]) == set(case.x[:, 1])
            assert len(set(case.x[:, 1])) <= 3
