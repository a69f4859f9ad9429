"""The rim of the data: a right form holds there, whatever its noise, and a wrong one does not."""

import time
from collections.abc import Callable

import numpy as np
import pytest
import sympy

from emlinit.finetune.diagnostics.extrapolation import Extrapolation, extrapolated
from emlinit.finetune.law.law import Law
from emlinit.finetune.law.symbol_names import symbols_for
from emlinit.generator.formulas.compile_weighted import compile_weighted

NAMES = ("x1", "x2")
X1, X2 = symbols_for(NAMES)
ONE, TWO = compile_weighted(X1, (X1,)), compile_weighted(X1 + X2, (X1, X2))
"""They stand in for the laws' own programs: it is the formula that is fitted."""


def polynomial(x: np.ndarray, y: np.ndarray, degree: int) -> Law:
    """The one that fits best."""
    coefficients = np.polyfit(x[:, 0], y, degree)
    terms = [sympy.Float(float(c)) * X1 ** (degree - i) for i, c in enumerate(coefficients)]
    return Law(ONE, ("x1",), sympy.Add(*terms))


def fails(function: Callable[[np.ndarray], np.ndarray], degree: int, noise: float, n: int, draws: int = 12) -> int:
    """How often a polynomial fitted to noisy values of a function fails on the rim."""
    count = 0
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        x = rng.uniform(0, 1, (n, 1))
        y = function(x[:, 0]) + noise * rng.normal(size=n)
        found, _ = extrapolated(polynomial(x, y, degree), x, y)
        count += found is not None and found.fails
    return count


@pytest.mark.parametrize("n", [20, 60])
@pytest.mark.parametrize("degree", [1, 2, 3])
def test_a_right_form_holds(degree: int, n: int) -> None:
    assert fails(lambda x: 1 + x - 2 * x**degree, degree, 0.1, n) <= 1


@pytest.mark.parametrize(
    ("function", "degree"), [(lambda x: np.sin(6 * x), 2), (lambda x: np.exp(3 * x), 2), (np.exp, 1)]
)
@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_a_wrong_form_fails(function: Callable[[np.ndarray], np.ndarray], degree: int, noise: float) -> None:
    assert fails(function, degree, noise, 60) >= 11


def test_noise_that_grows_with_the_target_and_a_wrong_row_at_the_end_are_no_failure() -> None:
    count = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        x = rng.uniform(0, 1, (50, 1))
        y = (0.1 + x[:, 0] ** 3) * (1 + 0.1 * rng.normal(size=50))
        if seed >= 20:
            y = 1 + x[:, 0] + 0.05 * rng.normal(size=50) + np.where(x[:, 0] == x.max(), 1.0, 0.0)
        found, _ = extrapolated(polynomial(x, y, 3 if seed < 20 else 1), x, y)
        assert found is not None
        count += found.fails
    assert count <= 2


def test_a_mean_z2_is_one_for_a_right_form() -> None:
    found = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        x = rng.uniform(0, 1, (100, 1))
        y = 1 + 2 * x[:, 0] + 0.1 * rng.normal(size=100)
        found.append(extrapolated(polynomial(x, y, 1), x, y)[0])
    assert np.mean([one.mean_z2 for one in found if one]) == pytest.approx(0.85, abs=0.15)  # σ² is the larger of two
    assert np.mean([one.rmse for one in found if one]) == pytest.approx(0.1, rel=0.15)


def test_constants_are_fitted_to_the_inner_rows_alone() -> None:
    x = np.linspace(0, 1, 30)[:, None]
    y = 1 + 2 * x[:, 0] + 0.1 * np.sin(40 * x[:, 0])
    found, _ = extrapolated(polynomial(x, y, 1), x, y)
    assert found is not None
    assert found.rows == 6
    assert found.inside == ((x[3, 0], x[26, 0]),)
    rim = np.r_[0:3, 27:30]
    inner = np.polyfit(x[3:27, 0], y[3:27], 1)
    off = np.polyval(inner, x[rim, 0]) - y[rim]
    assert found.rmse == pytest.approx(np.sqrt(np.mean(off**2)), rel=1e-6)
    assert found.inside_rmse == pytest.approx(np.sqrt(np.mean((np.polyval(inner, x[3:27, 0]) - y[3:27]) ** 2)))
    assert found.r2 == pytest.approx(1 - np.sum(off**2) / np.sum((y[rim] - y[rim].mean()) ** 2))


def test_units_and_the_order_of_rows_do_not_matter_and_weights_of_zero_leave_rows_out() -> None:
    rng = np.random.default_rng(3)
    x = rng.uniform(1, 2, (40, 1))
    y = np.sqrt(x[:, 0]) + 0.01 * rng.normal(size=40)
    found, _ = extrapolated(polynomial(x, y, 1), x, y)
    order = rng.permutation(40)
    again, _ = extrapolated(polynomial(x, 1e12 * y, 1), x[order], 1e12 * y[order])
    more = np.append(x, [[5.0]], axis=0), np.append(y, 99.0)
    weighted, _ = extrapolated(polynomial(x, y, 1), *more, weights=np.append(np.full(40, 3.0), 0.0))
    assert found is not None
    for other in (again, weighted):
        assert other is not None
        assert (other.mean_z2, other.p, other.rows) == pytest.approx((found.mean_z2, found.p, found.rows), rel=1e-4)


def test_a_law_with_a_rate_and_two_variables_one_of_them_a_flag() -> None:
    rng = np.random.default_rng(4)
    x = np.column_stack([rng.uniform(0, 3, 120), rng.integers(0, 2, 120)])
    y = 2.5 * np.exp(-0.7 * x[:, 0]) + 0.4 * x[:, 1] + 0.02 * rng.normal(size=120)
    law = Law(TWO, NAMES, sympy.Float(2.49) * sympy.exp(-sympy.Float(0.71) * X1) + sympy.Float(0.4) * X2)
    found, _ = extrapolated(law, x, y)
    assert found is not None
    assert not found.fails
    assert found.inside[1] == (0.0, 1.0)  # both levels stay
    assert 20 <= found.rows <= 24
    line = Law(TWO, NAMES, sympy.Float(2.0) - sympy.Float(0.7) * X1 + sympy.Float(0.4) * X2)
    wrong, _ = extrapolated(line, x, y)
    assert wrong is not None
    assert wrong.fails


def test_a_law_without_constants_is_compared_as_it_is() -> None:
    rng = np.random.default_rng(9)
    x = rng.uniform(1, 4, (80, 2))
    law = Law(TWO, NAMES, X1 * X2)
    found, _ = extrapolated(law, x, law.predict(x) + 0.1 * rng.normal(size=80))
    assert found is not None
    assert not found.fails
    assert found.mean_z2 == pytest.approx(0.9, abs=0.4)
    wrong, _ = extrapolated(law, x, law.predict(x) + 1e-4 * np.prod(x, 1) ** 4 + 0.01 * rng.normal(size=80))
    assert wrong is not None
    assert wrong.fails


def test_rows_of_one_value_stay_together() -> None:
    x = np.repeat([0.0, 0.1, 0.3, 1, 3, 10, 30, 100, 300], 3)[:, None]
    y = 1 + x[:, 0] + np.random.default_rng(5).normal(size=27)
    found, _ = extrapolated(polynomial(x, y, 1), x, y)
    assert found is not None
    assert (found.rows, found.inside) == (6, ((0.1, 100.0),))


def test_a_law_that_is_undefined_outside_fails_and_so_does_one_that_is_exact_inside_only() -> None:
    x = np.linspace(0, 1, 40)[:, None]
    pole = Law(ONE, ("x1",), sympy.Float(0.5) / (X1 - 1))
    y = -0.5 / (1.001 - x[:, 0]) + 0.001 * np.random.default_rng(6).normal(size=40)
    found, _ = extrapolated(pole, x, y)
    assert found is not None
    assert found.fails
    assert found.remark() == (
        "outside its data the law fails: as the inner rows have it, it is undefined on the outermost"
    )
    bent = 2 * x[:, 0] + 3 * np.maximum(0.0, x[:, 0] - 0.9)
    found, _ = extrapolated(Law(ONE, ("x1",), sympy.Float(2.1) * X1), x, bent)
    assert found is not None
    assert found.fails
    assert found.inside_rmse < 1e-12


def test_why_there_is_nothing_to_say() -> None:
    rng = np.random.default_rng(7)
    x = rng.uniform(0, 1, (14, 1))
    assert extrapolated(polynomial(x, x[:, 0], 1), x, x[:, 0]) == (None, "too few rows")
    flags = rng.integers(0, 3, (40, 1)).astype(float)
    y = flags[:, 0] + 0.1 * rng.normal(size=40)
    assert extrapolated(polynomial(flags, y, 1), flags, y) == (
        None,
        "no variable of the law has enough different values",
    )
    mean = Law(ONE, ("x1",), sympy.Float(0.5))
    assert extrapolated(mean, rng.uniform(0, 1, (40, 1)), y)[1] == "no variable of the law has enough different values"


def test_the_remark_says_by_how_much() -> None:
    failed = Extrapolation(6, 0.1, 2.0, 0.5, 16.0, 1e-6, True, ((0.0, 1.0),))
    assert failed.remark() == (
        "outside its data the law fails: fitted to the inner rows, it misses the 6 outermost by 4 times what noise allows"
    )
    assert Extrapolation(6, 0.9, 0.5, 0.5, 1.0, 0.5, False, ((0.0, 1.0),)).remark() == ""


def test_many_rows_take_no_time() -> None:
    rng = np.random.default_rng(8)
    x = rng.uniform(0, 3, (50_000, 2))
    law = Law(TWO, NAMES, sympy.Float(2.5) * sympy.exp(-sympy.Float(0.7) * X1) + sympy.Float(0.4) * X2)
    y = law.predict(x) + 0.1 * rng.normal(size=50_000)
    began = time.process_time()
    found, _ = extrapolated(law, x, y)
    assert time.process_time() - began < 1
    assert found is not None
    assert not found.fails
