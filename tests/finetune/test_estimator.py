"""EMLRegressor keeps scikit-learn's rules and gives what the solver found."""

import math
import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sympy
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from emlinit.finetune import EMLRegressor
from emlinit.generator.errors import UserError

QUICK_SECONDS = 0.3
"""The checks fit some fifty times; what they ask does not depend on how good the law is."""
QUICK_COMPLEXITY = 5
"""Laws that are read however short the time: some checks compare two fits, and the clock must not decide between these."""

EXPECTED_FAILURES: dict[str, str] = {
    "check_sample_weight_equivalence_on_dense_data": "a fifth of the rows is held out by chance: another one of other rows"
}
"""Check -> reason."""


@parametrize_with_checks(
    [EMLRegressor(seconds=QUICK_SECONDS, max_complexity=QUICK_COMPLEXITY, grammar="weighted", random_state=0)],
    expected_failed_checks=lambda _: EXPECTED_FAILURES,
)
def test_scikit_learn_rules(estimator: EMLRegressor, check: object) -> None:
    assert callable(check)
    check(estimator)


@pytest.fixture(scope="module")
def kepler() -> tuple[pd.DataFrame, np.ndarray, EMLRegressor]:
    axis = np.linspace(0.4, 30.0, 25)
    frame = pd.DataFrame({"noise": np.random.default_rng(0).normal(size=25), "semi-major axis": axis})
    period = 365.25 * axis**1.5
    return frame, period, EMLRegressor(seconds=5, grammar="weighted", random_state=0).fit(frame, period)


def test_a_law_is_found_and_all_views_show_it(kepler: tuple[pd.DataFrame, np.ndarray, EMLRegressor]) -> None:
    frame, period, model = kepler
    assert model.score(frame, period) > 0.999
    symbol = dict(zip(model.law_.names, model.law_.symbols, strict=True))["semi-major axis"]
    by_sympy = sympy.lambdify([symbol], model.sympy())(frame["semi-major axis"].to_numpy())
    np.testing.assert_allclose(by_sympy, model.predict(frame), rtol=1e-9)
    assert "semi-major axis" in model.latex()
    assert list(model.equations_.columns) == ["complexity", "rmse", "formula", "sympy", "law", "chosen"]
    assert model.equations_["chosen"].sum() == 1
    assert model.equations_.loc[model.equations_["chosen"], "formula"].item() == model.law_.formula
    assert model.equations_["complexity"].is_monotonic_increasing
    for constant in model.constants_:
        assert repr(abs(constant.value)) in model.law_.formula
        assert constant.standard_error is None or constant.standard_error >= 0


def test_standard_errors_of_values_are_those_of_the_linear_theory() -> None:
    rng = np.random.default_rng(0)
    x = np.column_stack([rng.normal(size=60), rng.uniform(1, 9, 60)])
    y = 3.217 + 1.5043 * x[:, 1] + 0.3 * rng.normal(size=60)
    model = EMLRegressor(seconds=3, grammar="weighted", max_complexity=5, random_state=0).fit(x, y)
    assert len(model.constants_) == 2
    new = np.array([[0.0, 0.0], [0.0, 5.0], [0.0, 50.0]])
    value, error = model.predict(new, return_std=True)
    np.testing.assert_array_equal(value, model.predict(new))
    design, there = np.column_stack([np.ones(60), x[:, 1]]), np.column_stack([np.ones(3), new[:, 1]])
    s2 = np.sum((y - model.predict(x)) ** 2) / 58
    expected = np.sqrt(np.diag(there @ np.linalg.inv(design.T @ design) @ there.T) * s2)
    np.testing.assert_allclose(error, expected, rtol=1e-6)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(new, return_std=True)[1], error)


def test_an_exact_law_has_no_errors() -> None:
    x = np.arange(1.0, 21.0)[:, None]
    model = EMLRegressor(seconds=3, grammar="weighted", random_state=0).fit(x, 2 * x[:, 0])
    assert model.solution_.exact
    assert model.predict(x, return_std=True)[1].tolist() == [0.0] * 20
    assert model.solution_.no_extrapolation == "the law is exact"


def test_a_fitted_model_is_pickled_whole(kepler: tuple[pd.DataFrame, np.ndarray, EMLRegressor]) -> None:
    frame, _, model = kepler
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(frame), model.predict(frame))
    assert again.latex() == model.latex()


def test_the_constructor_only_stores() -> None:
    model = EMLRegressor(seconds=-1, grammar="nonsense", checkpoint="nowhere", device="abacus", random_state=0)
    assert clone(model).get_params() == model.get_params()
    x, y = np.arange(6.0)[:, None], np.arange(6.0)
    with pytest.raises(UserError, match="seconds must be positive, got -1"):
        model.fit(x, y)
    with pytest.raises(UserError, match="unknown device 'abacus'"):
        model.set_params(seconds=1).fit(x, y)
    with pytest.raises(UserError, match="unknown grammar 'nonsense'"):
        model.set_params(device="cpu").fit(x, y)
    with pytest.raises(UserError, match="unknown checkpoint 'nowhere'"):
        model.set_params(grammar="exact").fit(x, y)


@pytest.mark.parametrize(
    ("parameter", "value", "message"),
    [
        ("seconds", math.inf, r"seconds must be at most 1e\+09, got inf"),
        ("seconds", math.nan, "seconds must be positive, got nan"),
        ("seconds", 0, "seconds must be positive, got 0"),
        ("seconds", "5", "seconds must be a number, got '5'"),
        ("seconds", None, "seconds must be a number, got None"),
        ("seconds", True, "seconds must be a number, got True"),
        ("random_state", -1, r"random_state must be from 0 to 2\^63 - 1, got -1"),
        ("random_state", 2**64, r"random_state must be from 0 to 2\^63 - 1, got 18446744073709551616"),
        ("random_state", "x", "random_state must be a whole number, a RandomState or None, got 'x'"),
        ("random_state", 1.5, "random_state must be a whole number, a RandomState or None, got 1.5"),
        ("grammar", None, "unknown grammar None: use one of"),
        ("grammar", 3, "unknown grammar 3: use one of"),
        ("grammar", ["exact"], r"unknown grammar \['exact'\]: use one of"),
        ("device", None, "unknown device None: use one of"),
        ("device", 3, "unknown device 3: use one of"),
        ("device", ["cpu"], r"unknown device \['cpu'\]: use one of"),
        ("checkpoint", 3, "checkpoint must be text such as builtin:exact, or None: got 3"),
        ("checkpoint", ["builtin:exact"], r"checkpoint must be text such as builtin:exact, or None: got \['builtin"),
    ],
)
def test_parameters_of_any_type_are_refused_in_one_line(parameter: str, value: Any, message: str) -> None:
    model = EMLRegressor(**{parameter: value})
    with pytest.raises(UserError, match=f"^{message}") as raised:
        model.fit(np.arange(6.0)[:, None], np.arange(6.0))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("random_state", [np.int64(3), np.uint8(3), np.random.RandomState(3), None])
def test_sources_of_randomness_that_are_taken(random_state: Any) -> None:
    model = EMLRegressor(seconds=np.float32(2), random_state=random_state).fit(np.arange(6.0)[:, None], np.ones(6))
    assert model.law_.formula == "1"


def test_a_frame_of_booleans_is_fitted_and_what_is_none_of_numbers_is_refused_in_one_line() -> None:
    x = np.arange(8.0)
    frame = pd.DataFrame({"a": x, "on": x % 2 == 0, "same": 5.0})
    model = EMLRegressor(seconds=3, grammar="weighted", random_state=0).fit(frame, 2 * x)
    np.testing.assert_allclose(model.predict(frame), 2 * x, atol=1e-9)
    assert "the same in every row, and so no variables: same is 5" in model.solution_.notes
    with pytest.raises(UserError, match=r"^no feature varies"):
        model.fit(frame[["same"]], 2 * x)
    dated = pd.DataFrame({"t": pd.date_range("2024-01-01", periods=8)})
    with pytest.raises(UserError, match=r"^column 't' of X holds dates"):
        model.fit(dated, 2 * x)  # it would be counted in nanoseconds
    with pytest.raises(UserError, match=r"^column 'on' of X holds text"):
        model.predict(frame.assign(on="yes"))


def test_groups_have_constants_of_their_own() -> None:
    x = np.tile(np.linspace(0.5, 6.0, 10), 2)
    labels = np.repeat(["steel", "copper"], 10)
    factors = np.where(labels == "steel", 1.4, 5.1)
    frame = pd.DataFrame({"same": 5.0, "x": x})
    model = EMLRegressor(seconds=4, random_state=0).fit(frame, factors * np.exp(-0.42 * x), groups=labels)
    assert model.law_.own == ("a",)
    np.testing.assert_allclose(model.law_.table["a"].to_numpy(), [1.4, 5.1], rtol=1e-6)
    np.testing.assert_allclose(model.predict(frame, groups=labels), factors * np.exp(-0.42 * x), rtol=1e-6)
    assert r"a_{\text{group}}" in model.latex()
    assert model.equations_["chosen"].sum() == 1
    assert model.constants_ == model.law_.shared
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(frame, groups=labels), model.predict(frame, groups=labels))
    with pytest.raises(UserError, match="give the groups of the rows"):
        model.predict(frame)
    with pytest.raises(UserError, match="knows no group 'gold'"):
        model.predict(frame[:1], groups=["gold"])
    with pytest.raises(UserError, match="there are 1 group labels for 20 rows"):
        model.fit(frame, x, groups=["gold"])
    with pytest.raises(UserError, match="exact grammar has no constants"):
        EMLRegressor(grammar="exact").fit(frame, x, groups=labels)
