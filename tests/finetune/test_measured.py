"""Measured data: known errors of the rows, weights, and rows that are far off.

The tables are drawn here, each with its law; what is asked for is the law, and constants that are right within their errors.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import sympy

from emlinit import EMLRegressor, solve
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


@pytest.mark.parametrize("loss", ["huber", "l1"])
def test_a_robust_loss_finds_the_line_beside_rows_that_are_far_off(loss: str) -> None:
    x, y = _line_with_two_rows_off()
    solution = solve(x, y, loss=loss, seconds=SECONDS, grammar="weighted")
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
