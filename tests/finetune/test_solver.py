"""The whole chain with the shipped checkpoints: laws are read off data, the same ones for the same seed."""

import math
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import sympy
import torch

from emlinit.finetune.diagnostics.extrapolation import Extrapolation
from emlinit.finetune.law.law import Law
from emlinit.finetune.search.weighted_stage import WeightedSearchConfig
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
    options = WeightedSearchConfig(sparse=False, lookup=False, shapes=False)  # they find it first, with constants
    solution = solve(x, truth(x), seconds=60, initialisers=initialisers, names=["a", "b"], weighted=options)
    _assert_identical(solution, truth, 2)
    assert solution.grammar == "exact"
    assert solution.seconds < 60
    assert solution.law.names == ("a", "b")
    assert solution.front[-1].law is solution.law
    assert solution.validation["r2"] > 1 - 1e-12
    assert solution.stage in ("exact lookup", "meeting")
    assert solution.checkpoint is None  # it was found before the network was asked
    (last,) = [run for run in solution.stages if run["grammar"] == "exact"]
    assert list(last) == ["grammar", "stage", "seconds", "steps", "gained_nats", "relative_error"]
    assert last["relative_error"] < 1e-9


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
    with pytest.raises(UserError, match="max_complexity must be a whole number from 1 on, got 0"):
        solve(x, noise, seconds=3, initialisers=initialisers, max_complexity=0)


def test_a_target_of_all_sizes_is_told_how_it_is_weighed(initialisers: dict[str, EMLInitialiser]) -> None:
    x = np.geomspace(1, 100, 40)[:, None]
    y = 3e4 * x[:, 0] ** -2.5 * np.exp(0.1 * np.random.default_rng(3).standard_normal(40))
    solution = solve(x, y, seconds=3, initialisers=initialisers)
    assert solution.notes[-1].startswith("the target spans 5 decades, and its smaller values hardly count")
    assert not any("decades" in note for note in solve(x, y + 100, seconds=3, initialisers=initialisers).notes)


def test_noise_the_rim_and_a_wrong_row_are_told_of(initialisers: dict[str, EMLInitialiser]) -> None:
    rng = np.random.default_rng(0)
    x = np.repeat(np.linspace(1, 9, 20), 2)[:, None]
    y = 2.17 + 1.83 * x[:, 0] + 0.1 * rng.normal(size=40)
    y[11] += 8
    solution = solve(x, y, seconds=5, initialisers=initialisers, grammar="weighted", max_complexity=5)
    assert solution.outliers is not None
    assert solution.outliers.rows == (11,)
    assert solution.outliers.remark() in solution.notes
    assert solution.noise is not None
    assert (solution.noise.noise.method, solution.noise.noise.freedom) == ("replicates", 20)
    assert solution.extrapolation is not None
    assert not solution.extrapolation.fails
    assert solution.extrapolation.rows == 8
    assert solution.no_extrapolation == ""


def test_a_law_that_fails_outside_is_said_to(
    initialisers: dict[str, EMLInitialiser], monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = Extrapolation(4, 0.1, 2.0, 0.5, 16.0, 1e-6, True, ((0.0, 1.0),))
    monkeypatch.setattr("emlinit.finetune.diagnostics.trust.extrapolated", lambda *_: (failed, ""))
    x = np.linspace(1, 9, 40)[:, None]
    y = 2.17 + 1.83 * x[:, 0] + 0.1 * np.random.default_rng(0).normal(size=40)
    solution = solve(x, y, seconds=2, initialisers=initialisers, grammar="weighted", max_complexity=5)
    assert solution.extrapolation is failed
    assert failed.remark() in solution.notes


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
    dict(operators="sine"), dict(operators=3), dict(forbid=[1]), dict(max_complexity=0), dict(max_complexity="9"),
    dict(integer_exponents="no"), dict(grammar="nonsense"), dict(grammar=None), dict(grammar=["exact"]), dict(grammar=3),
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
        ({"operators": "+,sine"}, r"unknown operator 'sine': did you mean 'sin'\?"),
        ({"max_complexity": 0}, "max_complexity must be a whole number from 1 on, got 0"),
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


def _wave() -> tuple[np.ndarray, np.ndarray]:
    x = _points(120, 1)
    return x, 2 * np.sin(3 * x[:, 0] + 0.5) + 1 + 0.01 * np.random.default_rng(1).normal(size=120)


def test_a_law_is_written_in_the_operators_that_are_asked_for(initialisers: dict[str, EMLInitialiser]) -> None:
    x, y = _wave()
    options = WeightedSearchConfig(patience=0)
    cases: list[tuple[dict[str, Any], set[str]]] = [
        ({"operators": "+,*,sin"}, {"sin"}),
        ({"operators": ["+", "*", "cos"]}, {"cos"}),
        ({"forbid": "sin,cos"}, set()),
    ]
    for asked, waves in cases:
        solution = solve(x, y, grammar="weighted", seconds=60, initialisers=initialisers, weighted=options, **asked)
        functions = {
            type(part).__name__ for entry in solution.front for part in entry.law.sympy().atoms(sympy.Function)
        }
        assert functions & {"sin", "cos"} == waves
        assert not waves or solution.validation["r2"] > 0.999
        assert len(solution.front) > 1


def test_powers_are_whole_if_that_is_asked_for(initialisers: dict[str, EMLInitialiser]) -> None:
    x = _points(100, 1)
    y = 1.5 * x[:, 0] ** 1.7
    options = WeightedSearchConfig(patience=0)
    solution = solve(
        *(x, y),
        grammar="weighted",
        seconds=60,
        initialisers=initialisers,
        integer_exponents=True,
        max_complexity=14,
        weighted=options,
    )
    for entry in solution.front:
        powers = entry.law.sympy().atoms(sympy.Pow)
        assert all(power.exp.is_Integer or not power.base.free_symbols for power in powers), entry.law.formula
        assert entry.complexity <= 14
    assert solution.validation["r2"] > 0.99


def test_what_is_left_out_for_its_length_is_told_of(initialisers: dict[str, EMLInitialiser]) -> None:
    x = _points(100, 1)
    y = 2 * np.sin(3 * x[:, 0] + 0.5) + 1
    options = WeightedSearchConfig(patience=0)
    solution = solve(
        *(x, y), grammar="weighted", seconds=60, initialisers=initialisers, max_complexity=9, weighted=options
    )
    assert max(entry.complexity for entry in solution.front) <= 9
    assert not solution.exact
    assert any(re.match(r"an exact law of \d+ nodes was found and left out", note) for note in solution.notes)


def test_where_nothing_may_be_written_the_constant_is_given(initialisers: dict[str, EMLInitialiser]) -> None:
    x = _points(60, 1)
    options = WeightedSearchConfig(patience=0)
    solution = solve(
        x, x[:, 0] + 1.0, grammar="weighted", seconds=3, initialisers=initialisers, operators="tan", weighted=options
    )
    assert not solution.law.sympy().free_symbols
    assert "of the laws that may be written none is better than a constant" in solution.notes


@pytest.mark.parametrize("grammar", ["auto", "weighted"])
def test_a_search_that_is_stopped_gives_the_best_law_so_far(
    grammar: str, initialisers: dict[str, EMLInitialiser]
) -> None:
    x, y = _wave()
    told: list[float] = []
    solution = solve(
        *(x, y),
        grammar=grammar,
        seconds=600,
        initialisers=initialisers,
        stop=lambda: bool(told) and told[-1] < 0.1,
        on_better=lambda law, error: told.append(error),
    )
    assert solution.seconds < 100
    assert "stopped early: the best law so far" in solution.notes
    assert solution.validation["r2"] > 0.98


@pytest.mark.parametrize("grammar", ["auto", "exact", "weighted"])
def test_a_search_that_is_stopped_at_once_still_has_a_law(
    grammar: str, initialisers: dict[str, EMLInitialiser]
) -> None:
    x, y = _wave()
    solution = solve(x, y, grammar=grammar, seconds=600, initialisers=initialisers, stop=lambda: True)
    assert solution.seconds < 60
    assert math.isfinite(solution.train["rmse"])


def test_better_laws_are_told_of_in_the_data_s_units_as_they_are_found(initialisers: dict[str, EMLInitialiser]) -> None:
    x, y = _wave()
    told: list[tuple[Law, float]] = []
    solve(
        1000 * x,
        y,
        grammar="weighted",
        seconds=60,
        initialisers=initialisers,
        weighted=WeightedSearchConfig(patience=0),
        on_better=lambda law, error: told.append((law, error)),
    )
    assert len(told) >= 2
    assert told[-1][1] < told[0][1]
    for law, error in told:
        rmse = float(np.sqrt(np.mean((law.predict(1000 * x) - y) ** 2)))
        assert rmse / float(np.std(y)) == pytest.approx(error, rel=0.3)
