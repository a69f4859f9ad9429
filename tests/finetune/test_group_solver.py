"""Laws of several groups end to end: the right form, the right constants shared."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from emlinit.finetune.group_solver import GroupedSolution, solve_groups
from emlinit.generator.errors import UserError

FACTORS = np.array([5.1, 3.3, 1.4])
MATERIALS = ("copper", "brass", "steel")


def table(law: Callable[..., np.ndarray], noise: float, n_groups: int = 3) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Ten rows of each group; `law` takes x and the place of the group."""
    rng = np.random.default_rng(7)
    index = np.repeat(np.arange(n_groups), 10)
    x = np.tile(np.linspace(0.5, 6.0, 10), n_groups)
    y = law(x, index) + noise * rng.normal(size=len(x))
    return x[:, None], y, [MATERIALS[place] for place in index]


def solved(law: Callable[..., np.ndarray], noise: float, **options: Any) -> GroupedSolution:
    x, y, labels = table(law, noise)
    return solve_groups(x, y, labels, names=["x"], column="material", **{"seconds": 4, **options})


def test_a_shared_rate_and_own_factors() -> None:
    found = solved(lambda x, place: FACTORS[place] * np.exp(-0.42 * x), 0.02)
    law = found.law
    assert law.own == ("a",)
    assert law.formula.startswith("a*exp(-0.4")
    assert law.groups == MATERIALS
    error = law.standard_errors[:, 0]
    assert (np.abs(law.values[:, 0] - FACTORS) < 4 * error).all()
    assert ((error > 0.005) & (error < 0.05)).all()
    np.testing.assert_allclose(
        law.predict(np.array([[1.0], [1.0]]), ["steel", "copper"]), np.array([1.4, 5.1]) * np.exp(-0.42), rtol=0.03
    )
    assert found.rmse == pytest.approx(0.02, rel=0.4)
    assert found.counts == (10, 10, 10)
    assert law in [entry.law for entry in found.front]
    assert not found.exact


def test_own_offsets() -> None:
    found = solved(lambda x, place: FACTORS[place] + 2.5 * np.sqrt(x), 0.02)
    assert len(found.law.own) == 1
    differences = found.law.predict(np.array([[2.0]] * 3), MATERIALS) - FACTORS
    np.testing.assert_allclose(differences, 2.5 * np.sqrt(2.0), atol=0.05)


def test_all_constants_shared_is_the_plain_law() -> None:
    found = solved(lambda x, place: 2.5 * x / (1.3 + x), 0.01)
    assert found.law.own == ()
    assert found.law.values.shape == (3, 0)
    assert any("the groups play no part" in note for note in found.notes)
    np.testing.assert_allclose(found.law.predict(np.array([[2.0]])), 2.5 * 2 / 3.3, atol=0.03)


def test_all_constants_own() -> None:
    found = solved(lambda x, place: FACTORS[place] * x ** (FACTORS[place] / 4), 0.02)
    assert len(found.law.own) == 2
    assert found.law.shared == ()
    points = np.full((3, 1), 3.0)
    np.testing.assert_allclose(found.law.predict(points, MATERIALS), FACTORS * 3.0 ** (FACTORS / 4), rtol=0.02)


def test_data_without_noise_are_met_exactly() -> None:
    found = solved(lambda x, place: FACTORS[place] * np.exp(-0.42 * x) + 1.0, 0.0)
    assert found.exact
    assert found.law.formula == "a*exp(-0.42*x) + 1"
    np.testing.assert_allclose(found.law.values[:, 0], FACTORS, rtol=1e-9)
    assert np.isnan(found.law.standard_errors).all()
    assert not any("no exact law" in note for note in found.notes)


def test_the_front_gets_more_accurate_with_its_numbers() -> None:
    front = solved(lambda x, place: FACTORS[place] * np.exp(-0.42 * x), 0.02).front
    assert [entry.nodes + entry.n_constants for entry in front] == sorted(
        entry.nodes + entry.n_constants for entry in front
    )
    errors = [entry.rmse for entry in front]
    assert errors == sorted(errors, reverse=True)


def test_the_search_ends_by_the_clock_and_when_it_is_stopped() -> None:
    def law(x: np.ndarray, place: np.ndarray) -> np.ndarray:
        return np.asarray(FACTORS[place] * np.exp(-0.42 * x))

    solved(law, 0.02, seconds=0.5)  # what is loaded once
    began = time.monotonic()
    solved(law, 0.02, seconds=2.0)
    assert time.monotonic() - began < 5.0
    told: list[tuple[float, str]] = []
    stopped = solved(
        law, 0.02, seconds=100.0, stop=lambda: True, progress=lambda share, text: told.append((share, text))
    )
    assert stopped.seconds < 10.0
    assert "stopped early: the best law so far" in stopped.notes
    assert told
    assert all(0 <= share <= 1 for share, _ in told)


def test_the_language_holds() -> None:
    found = solved(lambda x, place: FACTORS[place] * np.exp(-0.42 * x), 0.02, operators="+,*,/", max_complexity=9)
    assert "exp" not in found.law.formula
    assert found.law.complexity <= 12


def test_weights_say_which_rows_count() -> None:
    x, y, labels = table(lambda x, place: FACTORS[place] * x, 0.0)
    y[0] += 50.0
    weights = np.where(np.arange(len(y)) == 0, 1e-9, 1.0)
    found = solve_groups(x, y, labels, sample_weight=weights, seconds=3)
    np.testing.assert_allclose(found.law.predict(np.array([[2.0]] * 3), MATERIALS), 2 * FACTORS, rtol=1e-3)


def test_known_errors_say_how_well_constants_are_known() -> None:
    x, y, labels = table(lambda x, place: FACTORS[place] * x, 0.02)
    found = solve_groups(x, y, labels, sigma=0.2, seconds=3)
    assert found.law.own == ("a",)
    for place, label in enumerate(MATERIALS):
        rows = [label == one for one in labels]
        expected = 0.2 / np.sqrt(np.sum(x[rows, 0] ** 2))
        row = found.law.table.loc[label]
        assert row["a"] == pytest.approx(FACTORS[place], rel=0.05)
        assert row["a_error"] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (["a"] * 30, {}, "the groups must be two or more"),
        (["a"] * 29 + ["b"], {}, "only one row of 'b'"),
        ([str(row // 1) for row in range(30)], {}, "are 30 in 30 rows"),
        (["a", "b"], {}, "2 group labels for 30 rows"),
        (list(MATERIALS) * 10, {"seconds": 0}, "seconds must be positive"),
        (list(MATERIALS) * 10, {"sample_weight": np.arange(30.0)}, "a row of weight 0 says nothing of its group"),
        (list(MATERIALS) * 10, {"sigma": np.zeros(30)}, "sigma must be positive"),
        (list(MATERIALS) * 10, {"loss": "huber"}, "the loss huber is not there for groups"),
        (list(MATERIALS) * 10, {"names": ["x", "y"]}, "names must be a list of 1 texts"),
    ],
)
def test_bad_use_is_refused_in_one_line(labels: list[str], options: dict[str, Any], message: str) -> None:
    x, y, _ = table(lambda x, place: x + place, 0.1)
    with pytest.raises(UserError, match=message) as raised:
        solve_groups(x, y, labels, **options)
    assert "\n" not in str(raised.value)
