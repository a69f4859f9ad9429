"""Forms that the user gives: NIST's archive to its certified digits, and what is refused."""

import json
import subprocess
import sys
from collections.abc import Collection
from itertools import chain, permutations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from emlinit.finetune.forms import FittedForm, fit_form
from emlinit.generator.errors import UserError

_DATA = Path(__file__).resolve().parents[2] / "benchmarks" / "laws" / "data"
_FACTS: dict[str, dict[str, Any]] = {
    fact["name"]: fact for fact in json.loads((_DATA / "nist.json").read_text())["problems"]
}
_DIGITS = 1e-6  # relative error of each constant: six digits
_TWINS = {
    "enso": ("b4 b5 b6", "b7 b8 b9"),
    **dict.fromkeys(("gauss1", "gauss2", "gauss3"), ("b3 b4 b5", "b6 b7 b8")),
    **dict.fromkeys(("lanczos1", "lanczos2", "lanczos3"), ("b1 b2", "b3 b4", "b5 b6")),
    "mgh17": ("b2 b4", "b3 b5"),
}
"""Constants that may be exchanged with each other without a change of the form."""
_HARD_WITHOUT_START = ("gauss1", "gauss2", "gauss3")
"""Two blended peaks on a decay, five constants to be looked for: gauss1 takes the ten seconds, and of the others the search
ends in a worse minimum. Any start of the archive leads there."""
X = np.linspace(0.5, 3.0, 30)
Y = 2.0 * np.exp(-1.3 * X) + 0.01 * np.sin(50 * X)


def _points(name: str) -> tuple[np.ndarray, np.ndarray]:
    table = np.loadtxt(_DATA / "nist" / f"{name}.csv", delimiter=",", skiprows=1)
    return table[:, :-1], table[:, -1]


def _fit(name: str, start: str | None, **options: Any) -> FittedForm:
    fact = _FACTS[name]
    return fit_form(fact["form"], *_points(name), start=None if start is None else fact[start], **options)


def _twin(name: str, found: dict[str, float]) -> dict[str, float]:
    """The certified constants, exchanged as the ones found are."""
    certified = _FACTS[name]["certified"]
    groups = [group.split() for group in _TWINS.get(name, ())]
    options = []
    for order in permutations(groups):
        there = dict(zip(chain(*groups), chain(*order), strict=True))
        options.append({constant: certified[there.get(constant, constant)] for constant in certified})
    return min(options, key=lambda option: sum(abs(found[k] / value - 1) for k, value in option.items()))


@pytest.mark.parametrize("name", _FACTS)
def test_nists_certified_values_are_reached_from_the_second_start(name: str) -> None:
    fit, fact = _fit(name, "start2"), _FACTS[name]
    assert fit.constants == pytest.approx(fact["certified"], rel=_DIGITS)
    loose = 1e-2 if name == "lanczos1" else 1e-5  # its residuals of 1e-13 are near the rounding errors
    assert fit.standard_errors == pytest.approx(fact["standard_errors"], rel=loose)
    assert fit.residual_deviation == pytest.approx(fact["residual_deviation"], rel=loose)


def _missed(names: Collection[str], start: str | None) -> set[str]:
    """The sets of which a certified constant is not reached, found by a process of its own: where every call is checked for
    its types the search would run ten times as long."""
    facts = {name: _FACTS[name] for name in names}
    code = (
        "import json, sys; from emlinit import fit_form; import numpy as np\n"
        "for form, path, start in json.load(sys.stdin):\n"
        "    table = np.loadtxt(path, delimiter=',', skiprows=1)\n"
        "    print(json.dumps(fit_form(form, table[:, :-1], table[:, -1], start=start).constants))"
    )
    tasks = [(fact["form"], str(_DATA / "nist" / f"{name}.csv"), start and fact[start]) for name, fact in facts.items()]
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(tasks), capture_output=True, text=True, check=True
    )
    found = dict(zip(facts, map(json.loads, done.stdout.splitlines()), strict=True))
    return {
        name for name, constants in found.items() if constants != pytest.approx(_twin(name, constants), rel=_DIGITS)
    }


@pytest.mark.slow
def test_nists_certified_values_are_reached_from_the_first_start() -> None:
    assert _missed(_FACTS, "start1") == set()


@pytest.mark.slow
def test_nists_certified_values_are_reached_without_a_start() -> None:
    assert _missed([name for name in _FACTS if name not in _HARD_WITHOUT_START], None) == set()


def test_columns_go_by_their_names_and_other_names_are_constants() -> None:
    frame = pd.DataFrame({"left": np.arange(30.0), "time": X, "right": 1.0})
    fit = fit_form("a*exp(-k*time)", frame, Y)
    assert fit.constants == pytest.approx({"a": 2.0, "k": 1.3}, abs=0.05)
    assert fit.constants == pytest.approx(fit_form("a*exp(-k*x)", X, Y).constants, rel=1e-8)
    assert fit.constants == pytest.approx(fit_form("a*exp(-k*x2)", frame.to_numpy(), Y).constants, rel=1e-8)
    np.testing.assert_array_equal(fit.predict(frame[["right", "time"]]), fit.predict(frame))
    np.testing.assert_allclose(fit.predict(frame), fit.constants["a"] * np.exp(-fit.constants["k"] * X), rtol=1e-14)
    assert fit.formula == f"{fit.constants['a']!r}*exp(-{fit.constants['k']!r}*time)"
    with pytest.raises(UserError, match="no column 'time'"):
        fit.predict(frame[["left"]])


def test_errors_and_shares_are_those_of_linear_regression() -> None:
    fit = fit_form("a + b*x", X, Y)
    design = np.column_stack([np.ones_like(X), X])
    best, (rss,), *_ = np.linalg.lstsq(design, Y, rcond=None)
    covariance = np.linalg.inv(design.T @ design) * rss / 28
    np.testing.assert_allclose(list(fit.constants.values()), best, rtol=1e-10)
    np.testing.assert_allclose(fit.covariance, covariance, rtol=1e-9)
    assert fit.standard_errors["b"] == pytest.approx(np.sqrt(covariance[1, 1]))
    assert fit.residual_deviation == pytest.approx(np.sqrt(rss / 28))
    assert fit.r2 == pytest.approx(np.corrcoef(X, Y)[0, 1] ** 2)


def test_the_same_seed_gives_the_same_fit_and_a_start_is_used() -> None:
    assert fit_form("a*exp(-k*x)", X, Y, seed=1).constants == fit_form("a*exp(-k*x)", X, Y, seed=1).constants
    form, wave = "a*sin(b*x + c)", 1.5 * np.sin(2.0 * X + 0.3)
    near = fit_form(form, X, wave, start={"a": 1.0, "b": 1.9, "c": 0.0})
    assert near.constants == pytest.approx({"a": 1.5, "b": 2.0, "c": 0.3}, rel=1e-8)
    part = fit_form(form, X, wave, start={"b": 1.9, "c": 0.0})  # a is solved for
    assert part.constants == pytest.approx(near.constants, rel=1e-8)


def test_at_even_steps_the_slowest_oscillation_is_taken() -> None:
    t = np.arange(60.0)
    fit = fit_form("a*cos(b*x) + c*sin(b*x)", t, 2 * np.cos(0.4 * t))
    assert fit.constants == pytest.approx({"a": 2.0, "b": 0.4, "c": 0.0}, abs=1e-7)


def test_constants_that_trade_off_have_no_error() -> None:
    fit = fit_form("a*b*x + c", X, Y)
    assert np.isinf([fit.standard_errors["a"], fit.standard_errors["b"]]).all()
    line = fit_form("a*x + c", X, Y)  # which has one degree of freedom more
    assert fit.standard_errors["c"] == pytest.approx(line.standard_errors["c"] * np.sqrt(28 / 27), rel=1e-6)


def test_a_power_is_fitted_where_a_variable_is_0() -> None:
    x = np.linspace(0.0, 4.0, 20)
    assert fit_form("a*x**b", x, 3 * x**1.5).constants == pytest.approx({"a": 3.0, "b": 1.5}, rel=1e-8)


@pytest.mark.parametrize(
    ("form", "x", "y", "options", "message"),
    [
        ("a*epx(x)", X, Y, {}, "unknown function 'epx': did you mean 'exp'"),
        ("a*x +", X, Y, {}, "is not a formula"),
        ("__import__('os')", X, Y, {}, "cannot stand in a formula|unknown function"),
        (3, X, Y, {}, "the form must be a text"),
        ("2*x", X, Y, {}, "has no constants to fit"),
        ("a*b", X, Y, {}, "names no column of X: it has x1"),
        ("a*x2", X, Y, {}, "no column 'x2': its columns are x1"),
        ("a*x - a*x + b*x", X, Y, {}, "the constant 'a' drops out"),
        ("a + b*x", X[:1], Y[:1], {}, "1 rows are too few for 2 constants"),
        ("a*x", X[:0], Y[:0], {}, "0 rows"),
        ("a*x", X, Y[:3], {}, "X has 30 rows and y has 3"),
        ("a*x", np.where(X > 2, np.inf, X), Y, {}, "infinite number in row"),
        ("a*x", X, np.where(X > 2, np.nan, Y), {}, "y holds NaN"),
        ("a*x", np.array(["1", "2"]), Y[:2], {}, "X holds text"),
        ("a*log(-x)", X, Y, {}, "is not a real number at all rows"),
        ("a*x**b", -X, Y, {"start": {"b": 0.5}}, "is not a real number at all rows"),
        ("a*x", X, Y, {"start": {"b": 1.0}}, "start holds 'b': the constants of the form are a"),
        ("a*x", X, Y, {"start": {"a": np.nan}}, "the start of 'a' must be a finite number"),
        ("a*x", X, Y, {"start": [1.0]}, "start must be a dict"),
        ("a*x", X, Y, {"seconds": 0}, "seconds must be positive"),
        ("a*x", X, Y, {"seed": -1}, "seed must be from 0"),
    ],
)
def test_what_cannot_be_fitted_is_said_in_one_line(
    form: Any, x: np.ndarray, y: np.ndarray, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        fit_form(form, x, y, **options)
    assert "\n" not in str(caught.value)
