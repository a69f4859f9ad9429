"""The last touch: the form that people know with its own simple numbers, measured constants left as they are."""

import numpy as np
import pytest
import sympy

from emlinit.finetune.law.finding import Finding
from emlinit.finetune.law.language import Language
from emlinit.finetune.law.law import AGREEMENT, Law
from emlinit.finetune.law.polish import polished
from emlinit.generator.formulas.compile_weighted import compile_weighted

NAME = "t"
T = sympy.Symbol(NAME)
REAL = sympy.Symbol(NAME, real=True)
RNG = np.random.default_rng(0)


def finding(expression: sympy.Expr, x: np.ndarray, y: np.ndarray) -> Finding:
    law = Law(compile_weighted(expression.xreplace({T: REAL}), [REAL]), (NAME,), expression)
    return Finding.of(law, x[:, None], y, grammar="weighted")


def polish(expression: sympy.Expr, x: np.ndarray, y: np.ndarray, language: Language | None = None) -> Finding:
    return polished(finding(expression, x, y), x[:, None], y, language or Language())


def test_a_logistic_in_years_is_said_by_its_height_rate_and_middle() -> None:
    t = np.arange(1950.0, 2021.0)
    y = np.array([float(f"{value:.9g}") for value in 85 / (1 + np.exp(-0.31 * (t - 1996)))])
    b, c = 85 * np.exp(-0.31 * 1996.0 + 5e-12), np.exp(-0.31 * 1996.0)
    law = polish(sympy.Float(b) / (sympy.Float(c) + sympy.exp(sympy.Float(-0.31) * T)), t, y).law
    assert law.formula == "85/(1 + exp(-0.31*(t - 1996)))"
    assert law.disagreement(t[:, None]) <= AGREEMENT


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_long_numbers_become_short_where_the_data_say_so(scale: float) -> None:
    t = np.linspace(0, 3, 60)
    y = scale * (2.75 * np.exp(-0.37 * t) + 4)
    off = 1 + 3e-12
    expression = sympy.Float(2.75 * scale * off) * sympy.exp(sympy.Float(-0.37 * off) * T) + sympy.Float(
        4 * scale / off
    )
    found = polish(expression, t, y)
    assert found.law.predict(t[:, None]) == pytest.approx(y, rel=1e-13)
    numbers = sorted(abs(float(number)) / scale for number in found.law.expression.atoms(sympy.Float, sympy.Integer))
    assert {2.75, 4.0} <= {float(f"{number:.15g}") for number in numbers}


def test_measured_constants_keep_their_digits() -> None:
    t = np.linspace(0, 3, 60)
    y = 5 * np.exp(-2 * t) + 0.05 * RNG.standard_normal(60)
    start = finding(sympy.Float(4.983) * sympy.exp(sympy.Float(-1.994) * T), t, y)
    found = polished(start, t[:, None], y, Language())
    assert found.n_fitted == 2
    assert found.rmse <= start.rmse


def test_a_number_that_only_looks_short_is_kept() -> None:
    t = np.linspace(0.1, 3, 60)
    y = 2.000004 * t + 1.37
    law = polish(sympy.Float(2.000004) * T + sympy.Float(1.37), t, y).law
    assert float(law.expression.coeff(T)) == 2.000004


def test_one_that_becomes_1_is_not_written() -> None:
    t = np.linspace(0.1, 3, 60)
    y = np.exp(-0.7 * t)
    law = polish(sympy.Float(1 + 1e-13) * sympy.exp(sympy.Float(-0.7) * T), t, y).law
    assert law.formula == "exp(-0.7*t)"


def test_the_language_decides_over_the_form() -> None:
    t = np.linspace(0.5, 9, 80)
    y = 5 / (1 + np.exp(-1.25 * (t - 4)))
    expression = 1 / (sympy.Float(0.2) + sympy.Float(0.2 * np.exp(5.0)) * sympy.exp(sympy.Float(-1.25) * T))
    assert polish(expression, t, y).law.formula == "5/(1 + exp(-1.25*(t - 4)))"
    short = polish(expression, t, y, Language(max_complexity=4))
    assert short.complexity <= finding(expression, t, y).complexity


@pytest.mark.parametrize("value", [0.0, np.inf])
def test_what_cannot_be_fitted_stays(value: float) -> None:
    t = np.linspace(1, 2, 5)
    start = finding(sympy.Float(2.5) * T, t, np.full(5, value))
    assert polished(start, t[:, None], start.y, Language()) is start or np.isfinite(value)
