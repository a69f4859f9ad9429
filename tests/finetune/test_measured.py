"""Measured data: few rows, known errors of the rows, weights, and rows that are far off.

The tables are drawn here, each with its law; what is asked for is the law, and constants that are right within their errors.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sympy

from emlinit import EMLRegressor, fit_form, solve
from emlinit.finetune.solver import Solution
from emlinit.scripts.solve import main

SECONDS = 4


def _line_with_two_rows_off() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    x = np.linspace(1, 20, 24)
    y = 3.2 + 1.75 * x + 0.3 * rng.standard_normal(24)
    y[[5, 17]] += [14.0, -11.0]
    return x[:, None], y


def _square_root_of_two_precisions() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(6)
    x = np.linspace(0.2, 5, 20)
    sigma = np.where(x > 3, 0.32, 0.02)
    return x[:, None], 2.4 * np.sqrt(x) + sigma * rng.standard_normal(20), sigma


def _is_line(solution: Solution) -> bool:
    (symbol,) = solution.law.symbols
    slope = sympy.diff(solution.law.expression, symbol)
    return slope != 0 and not slope.free_symbols


def _few_rows(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Precise tables of 4 to 16 rows, each of a law of two or three constants."""
    noise = np.random.default_rng(8).standard_normal
    if kind == "power":
        x = np.linspace(1.2, 1.8, 6)
        return x, 0.91 * x**3.37 * (1 + 0.004 * noise(6))
    if kind == "reciprocal":
        x = np.array([548.0, 617.0, 702.0, 770.0])
        return x, 24.6 - 21350.0 / x + 0.03 * noise(4)
    if kind == "logistic":
        x = np.arange(1.0, 16.0)
        return x, 640 / (1 + np.exp(4.3 - 0.66 * x)) * (1 + 0.01 * noise(15))
    x = np.repeat([0.025, 0.07, 0.13, 0.27, 0.6, 1.2], 2)
    return x, 187 * x / (0.094 + x) + 2.0 * noise(12)


FEW_ROWS = {
    "power": ("a*x**p", {"a": 0.91, "p": 3.37}),
    "reciprocal": ("a + b/x", {"a": 24.6, "b": -21350.0}),
    "logistic": ("a/(1 + exp(b*(x - c)))", {"a": 640.0, "b": -0.66, "c": 4.3 / 0.66}),
    "saturation": ("a*x/(b + x)", {"a": 187.0, "b": 0.094}),
}


@pytest.mark.parametrize("kind", FEW_ROWS)
def test_few_rows_give_the_law_that_they_lie_on(kind: str) -> None:
    x, y = _few_rows(kind)
    form, constants = FEW_ROWS[kind]
    law = solve(x[:, None], y, names=["x"], seconds=3 * SECONDS, grammar="weighted").law
    fitted = fit_form(form, pd.DataFrame({"x": x}), y, start=constants)
    between = np.linspace(x.min(), x.max(), 50)
    # The same curve as the right form's own fit, and as short: not a longer law that bends through the points.
    expected = fitted.predict(pd.DataFrame({"x": between}))
    np.testing.assert_allclose(law.predict(between[:, None]), expected, atol=2e-3 * np.ptp(y))
    numbers = {abs(float(number)) for number in law.expression.atoms(sympy.Float)}
    assert len(numbers) <= len(constants)


def test_a_robust_loss_finds_the_line_beside_rows_that_are_far_off() -> None:
    x, y = _line_with_two_rows_off()
    solution = solve(x, y, loss="huber", seconds=SECONDS, grammar="weighted")
    assert _is_line(solution)
    near, far = solution.law.predict(np.array([[1.0], [20.0]]))
    assert near == pytest.approx(3.2 + 1.75, abs=0.4)
    assert far == pytest.approx(3.2 + 35.0, abs=0.4)
    assert solution.weights is not None
    assert set(np.argsort(solution.weights)[:2]) == {5, 17}
    assert not solution.exact


def test_known_errors_weigh_the_rows() -> None:
    x, y, sigma = _square_root_of_two_precisions()
    solution = solve(x, y, sigma=sigma, seconds=SECONDS, grammar="weighted")
    (symbol,) = solution.law.symbols
    factor = sympy.simplify(solution.law.expression / sympy.sqrt(symbol))
    assert not factor.free_symbols
    expected = np.sum(y * np.sqrt(x[:, 0]) / sigma**2) / np.sum(x[:, 0] / sigma**2)  # weighted least squares
    assert float(factor) == pytest.approx(expected, rel=1e-6) or float(factor) == pytest.approx(2.4, abs=1e-12)
    np.testing.assert_array_equal(solution.sigma, sigma)


def test_a_row_of_weight_0_is_not_there() -> None:
    x, y = _line_with_two_rows_off()
    weight = np.ones(24)
    weight[[5, 17]] = 0.0
    counted = weight > 0
    options = {"seconds": SECONDS, "grammar": "weighted", "random_state": 0}
    weighted = EMLRegressor(**options).fit(x, y, sample_weight=weight)
    without = EMLRegressor(**options).fit(x[counted], y[counted])
    assert weighted.law_.formula == without.law_.formula
    assert weighted.solution_.weights is not None
    np.testing.assert_array_equal(weighted.solution_.weights == 0, ~counted)


def test_the_command_reads_errors_and_losses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, y, sigma = _square_root_of_two_precisions()
    path = tmp_path / "t.csv"
    rows = "".join(f"{a!r},{b!r},{s!r}\n" for a, b, s in zip(x[:, 0].tolist(), y.tolist(), sigma.tolist(), strict=True))
    path.write_text("x,y,dy\n" + rows)
    assert main([str(path), "--sigma", "dy", "--loss", "squares", "--seconds", str(SECONDS), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["features"] == ["x"]
    assert record["target"] == "y"
    assert "sqrt(x)" in record["formula"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sigma", "dz"], "error: --sigma 'dz' is no column and no positive number"),
        (["--sigma", "x"], "error: column 'x' holds the errors of the target and cannot be a feature too"),
        (["--sigma", "dy"], "error: column 'dy' holds the error 0 in line 3"),
        (["--sigma", "0"], "error: --sigma '0' is no column and no positive number"),
        (["--loss", "l3"], "error: argument --loss"),
    ],
)
def test_bad_use_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    path = tmp_path / "t.csv"
    path.write_text("x,y,dy\n1,2,0.1\n2,4,0\n3,7,0.1\n4,8,0.1\n")
    argv = [str(path), *options, *(["--features", "x"] if options[1] == "x" else [])]
    try:
        code = main(argv)
    except SystemExit as end:  # argparse
        code = int(str(end.code))
    shown = capsys.readouterr()
    assert code == 2
    assert shown.out == ""
    assert shown.err.strip().splitlines()[-1].startswith(message)
