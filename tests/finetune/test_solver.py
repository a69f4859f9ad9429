"""The whole chain with the shipped checkpoints: laws are read off data, the same ones for the same seed."""

import math
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

from emlinit.finetune.search.weighted import WeightedSearchConfig
from emlinit.finetune.solver import Solution, solve
from emlinit.generator.errors import UserError
from emlinit.model import EMLInitialiser


@pytest.fixture(scope="module")
def initialisers() -> dict[str, EMLInitialiser]:
    return {name: EMLInitialiser.load(f"builtin:{name}") for name in ("exact", "weighted")}


def _points(n: int, v: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.5, 3, (n, v))


def _assert_identical(solution: Solution, truth: object, v: int) -> None:
    """Relative error below 1e-6 on fresh points of a wider range."""
    x = np.random.default_rng(99).uniform(0.4, 4, (200, v))
    expected = truth(x)  # type: ignore[operator]
    np.testing.assert_allclose(solution.law.predict(x), expected, rtol=1e-6)
    assert solution.exact


def test_an_exact_law_is_found_and_ends_the_search(initialisers: dict[str, EMLInitialiser]) -> None:
    def truth(x: np.ndarray) -> np.ndarray:
        return np.e - np.log(np.exp(x[:, 1]) - np.log(x[:, 0]))

    x = _points(200, 2)
    options = WeightedSearchConfig(sparse=False, lookup=False)  # they find it first, with constants
    solution = solve(x, truth(x), seconds=60, initialisers=initialisers, names=["a", "b"], weighted=options)
    _assert_identical(solution, truth, 2)
    assert solution.grammar == "exact"
    assert solution.seconds < 60
    assert solution.law.names == ("a", "b")
    assert solution.front[-1].law is solution.law
    assert solution.validation["r2"] > 1 - 1e-12
    assert solution.checkpoint is not None
    assert solution.checkpoint[0] == "builtin:exact"


def test_what_needs_no_network_is_searched_first(initialisers: dict[str, EMLInitialiser]) -> None:
    """A law without constants that is a sparse sum is reported as one."""

    def truth(x: np.ndarray) -> np.ndarray:
        value: np.ndarray = x[:, 0] * np.log(x[:, 1])
        return value

    x = _points(200, 2)
    remarks: list[str] = []
    solution = solve(
        x, truth(x), seconds=60, initialisers=initialisers, progress=lambda share, remark: remarks.append(remark)
    )
    _assert_identical(solution, truth, 2)
    assert solution.grammar == "weighted"
    assert solution.law.formula in ("x1*log(x2)", "x1*ln(x2)")
    assert not any(remark.startswith("round") for remark in remarks)
    assert solution.checkpoint is None


def test_a_weighted_law_is_found_with_its_constants(initialisers: dict[str, EMLInitialiser]) -> None:
    def truth(x: np.ndarray) -> np.ndarray:
        return 2.5 * np.exp(-0.7 * x[:, 0]) + 0.3

    x = _points(200, 1)
    solution = solve(x, truth(x), grammar="weighted", seconds=60, initialisers=initialisers)
    _assert_identical(solution, truth, 1)
    assert solution.law.formula in ("2.5*exp(-0.7*x1) + 0.3", "0.3 + 2.5*exp(-0.7*x1)")


def test_a_law_in_si_units_is_found_in_time(initialisers: dict[str, EMLInitialiser]) -> None:
    """A capacitor that charges within nanoseconds: its rate is a whole number of millions."""
    t = np.linspace(0, 5e-7, 150)[:, None]
    y = np.array([float(f"{value:.12g}") for value in 5 * (1 - np.exp(-t[:, 0] / 8e-8))])
    solution = solve(t, y, seconds=20, initialisers=initialisers, names=["t"])
    assert solution.seconds < 40
    assert solution.law.formula == "5 - 5*exp(-12500000*t)"
    assert solution.exact
    assert solution.notes == ()


def test_what_is_offered_is_short_and_what_is_no_law_is_said_to_be_none(
    initialisers: dict[str, EMLInitialiser],
) -> None:
    x = _points(200, 1)
    noise = np.random.default_rng(5).standard_normal(200)
    noisy = solve(x, 2.5 * x[:, 0] + 0.1 * noise, seconds=3, initialisers=initialisers, max_complexity=6)
    assert all(entry.complexity <= 6 for entry in noisy.front)
    [note] = noisy.notes
    error = re.fullmatch(
        r"no exact law was found: the best of up to 6 nodes has an error of (.*) % of y's spread", note
    )
    assert error is not None
    expected = 100 * noisy.validation["rmse"] / np.std(2.5 * x[:, 0])
    assert 0.6 * expected < float(error[1]) < 1.5 * expected
    nothing = solve(x, noise, seconds=3, initialisers=initialisers)
    assert nothing.notes[-1].startswith("no law was found: the best of up to 30 nodes has an error of")
    with pytest.raises(UserError, match="max_complexity must be at least 1"):
        solve(x, noise, seconds=3, initialisers=initialisers, max_complexity=0)


def test_a_grid_that_holds_zeros(initialisers: dict[str, EMLInitialiser]) -> None:
    """A power is taken through a logarithm, which has no value at 0; the law is that of all rows."""
    first, second = (axis.ravel().astype(float) for axis in np.meshgrid(np.arange(5), np.arange(5)))
    x = np.stack([first, second], 1)
    y = 2 * first * second + first**2 - 1
    solution = solve(x, y, seconds=60, initialisers=initialisers, names=["a", "b"])
    assert solution.law.formula == "a**2 + 2*a*b - 1"
    np.testing.assert_array_equal(solution.law.predict(x), y)


def test_the_same_seed_gives_the_same_law(initialisers: dict[str, EMLInitialiser]) -> None:
    x = _points(100, 1)
    y = 3.1 * x[:, 0] ** 1.5
    laws = []
    for global_seed in (1, 2):  # which must not matter
        torch.manual_seed(global_seed)
        solution = solve(x, y, grammar="weighted", seconds=60, initialisers=initialisers, seed=7)
        laws.append((solution.law.formula, solution.law.eml, [entry.law.formula for entry in solution.front]))
    assert laws[0] == laws[1]


def test_a_constant_target_is_answered_at_once(initialisers: dict[str, EMLInitialiser]) -> None:
    solution = solve(_points(20, 8), np.full(20, 2.5), seconds=60, initialisers=initialisers)
    assert solution.law.formula == "2.5"
    assert solution.exact
    assert solution.seconds < 5
    np.testing.assert_array_equal(solution.law.predict(_points(4, 5)), 2.5)


def test_too_many_variables_are_narrowed_down_and_named(initialisers: dict[str, EMLInitialiser]) -> None:
    x = _points(120, 8)
    names = [f"column {i}" for i in range(8)]
    solution = solve(x, 2.0 * x[:, 6] + 1.0, grammar="weighted", seconds=60, initialisers=initialisers, names=names)
    assert "column 6" in solution.law.names
    assert any("variables read" in note and "column 6" in note for note in solution.notes)
    chosen = [names.index(name) for name in solution.law.names]
    np.testing.assert_allclose(solution.law.predict(x[:, chosen]), 2.0 * x[:, 6] + 1.0, rtol=1e-9)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.ones((2, 1)), np.arange(2.0), "at least 3 rows"),
        (np.ones((5, 1)), np.array([1, 2, np.nan, 3, 4]), "NaN or infinite"),
        (np.ones(5), np.arange(5.0), "x must be"),
        (np.ones((5, 0)), np.arange(5.0), "x must be"),
        (np.ones((5, 1)), np.ones((5, 1)), r"y \(points,\): got \(5, 1\) and \(5, 1\)"),
        (np.full((5, 1), None), np.arange(5.0), "NaN or infinite"),
        (np.full((5, 1), [{}]), np.arange(5.0), "x must hold real numbers"),
        (np.ones((5, 1), dtype=complex), np.arange(5.0), "x must hold real numbers"),
        (np.ones((5, 1)), np.full(5, 1j, dtype=object), "y must hold real numbers"),
        (np.full((5, 1), 10**400), np.arange(5.0), "x must hold real numbers"),
        (np.ones((5, 1)), np.arange(5).astype("datetime64[D]"), "y must hold real numbers"),
    ],
)
def test_bad_data_are_refused(x: Any, y: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        solve(x, y, initialisers={})
    assert "\n" not in str(raised.value)


_WITHOUT_TYPE_CHECKS = """
import math
import numpy as np
from emlinit.finetune.solver import solve
from emlinit.generator.errors import UserError

x, y, nothing = np.linspace(1, 2, 20).reshape(10, 2), np.arange(10.0), [0.0] * 3
for arguments in (
    dict(seconds=math.nan), dict(seconds="5"), dict(seconds=None), dict(seconds=math.inf), dict(seconds=0),
    dict(seed=-1), dict(seed=2**64), dict(seed=1.5), dict(seed="x"), dict(seed=None),
    dict(grammar="nonsense"), dict(grammar=None), dict(grammar=["exact"]), dict(grammar=3),
    dict(names=["a"]), dict(names=["a", "a"]), dict(names=[1, 2]), dict(names="ab"), dict(names=5),
    dict(x=None), dict(x=1.0), dict(x=[[1.0], [2.0, 3.0], [4.0]]), dict(x=[["a"], ["b"]]), dict(x={}), dict(y="text"),
    dict(y=None), dict(y=y[:, None]), dict(y=y * 1j), dict(x=x * 1j), dict(x=x.astype("timedelta64[s]")),
):
    try:
        solve(**{"x": x, "y": y, **arguments})
    except UserError as error:
        assert "\\n" not in str(error), arguments
    else:
        raise AssertionError(arguments)
found = solve([[1], [2], [3]], [4, 4, 4], seed=np.int32(3), seconds=np.float32(2), names=np.array(["a"]))
assert (found.law.formula, found.law.names) == ("4", ("a",)), found.law
print("done")
"""


def test_arguments_of_any_type_are_taken_or_refused_in_one_line() -> None:
    """In a process of its own: here the tests check the types before the function sees them."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _WITHOUT_TYPE_CHECKS], capture_output=True, text=True, check=False
    )
    assert done.stdout == "done\n", done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seconds": math.nan}, "seconds must be positive, got nan"),
        ({"seed": -1}, r"seed must be from 0 to 2\^63 - 1, got -1"),
        ({"grammar": "nonsense"}, "unknown grammar 'nonsense': use one of auto, exact, weighted"),
        ({"names": ["a"]}, "names must be a list of 2 texts"),
        ({"names": ["a", "a"]}, "names must be all different"),
    ],
)
def test_options_are_checked_before_any_work(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}"):
        solve(_points(10, 2), np.arange(10.0), **options)


def test_a_missing_initialiser_is_named() -> None:
    with pytest.raises(UserError, match="no initialiser for the exact grammar"):
        solve(_points(10, 1), np.arange(10.0), grammar="exact", initialisers={})
