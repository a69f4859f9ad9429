"""Scores say what they say: exact, of the right form, accurate, and nothing for what cannot be computed."""

from dataclasses import replace

import numpy as np
import pytest
import sympy

from emlinit.benchmarks.laws.refit import parametrise, refit, values_or_nan
from emlinit.benchmarks.laws.scoring import FAILED, LawScore, score_law
from emlinit.benchmarks.laws.suites import LawProblem, load_law_suite
from emlinit.generator.formulas.decompile import complexity
from emlinit.generator.formulas.parse import parse_formula

X = [sympy.Symbol(name, real=True) for name in ("x1", "x2")]


def problem(text: str, noise: float = 0.0) -> LawProblem:
    """A law of x1 and x2 between 0.5 and 3."""
    formula, rng = parse_formula(text, X), np.random.default_rng(0)
    x, fresh, extended = (rng.uniform(0.5, high, (n, 2)) for n, high in ((100, 3.0), (300, 3.0), (300, 4.0)))
    clean, fresh_y, extended_y = (values_or_nan(formula, X, points) for points in (x, fresh, extended))
    y = clean + noise * clean.std() * rng.standard_normal(len(x))
    return LawProblem(
        "p", "s", formula, ("x1", "x2"), x, y, clean, noise, fresh, fresh_y, extended, extended_y, complexity(formula)
    )


def score(text: str, of: LawProblem) -> LawScore:
    return score_law(parse_formula(text, X), of)


@pytest.mark.parametrize("suite", ["nguyen", "gmeql", "feynman"])
def test_every_law_is_itself(suite: str) -> None:
    problems = load_law_suite(suite, limit=8)
    assert len(problems) == 8
    for one in problems:
        found = score_law(one.formula, one)
        assert found.exact, one.name
        assert found.refitted, one.name
        assert found.right_form, one.name
        assert found.accurate, one.name
        assert found.r2 == pytest.approx(1.0)
        assert found.complexity_ratio <= 1, one.name


def test_other_constants_are_the_right_form_but_not_exact() -> None:
    law = problem("1.5*exp(-0.7*x1)/x2 + 0.3")
    found = score("1.48*exp(-0.71*x1)/x2 + 0.31", law)
    assert not found.exact
    assert found.refitted
    assert found.right_form
    assert found.accurate
    assert found.complexity_ratio == 1
    far = score("8.0*exp(-0.1*x1)/x2 + 1.0", law)
    assert far.right_form
    assert not far.accurate


def test_the_form_is_judged_without_the_noise() -> None:
    law = problem("1.5*exp(-0.7*x1)/x2 + 0.3", noise=0.2)
    found = score("1.3*exp(-0.6*x1)/x2 + 0.4", law)
    assert found.right_form
    assert not found.exact


@pytest.mark.parametrize(
    "text",
    [
        "1.5*exp(-0.7*x1)/x2 + 0.3 + 0.0004*x1",
        "1.5*exp(-0.7*x1 + 0.0002*x2)/x2 + 0.3",
        "1.5*exp(-0.7*x1)/x2 + 0.3 + 0.01*sin(3.1*x1)",
        "1.5*exp(-0.7*x1)/(x2 + 0.0001) + 0.3",
        "1.5*exp(-0.7*x1)/x2*x1**0.001 + 0.3",
    ],
)
def test_what_is_superfluous_is_not_the_right_form(text: str) -> None:
    found = score(text, problem("1.5*exp(-0.7*x1)/x2 + 0.3", noise=0.01))
    assert found.refitted
    assert not found.right_form


def test_constants_that_say_the_same_twice_are_not_superfluous() -> None:
    law = problem("2.0*x1*exp(0.5*x2)")
    assert score("1.2*(1.3*x1*exp(0.4*x2 + 0.1))", law).right_form
    assert score("1.2*(1.3*x1)**1.1*exp(0.4*x2)", law).right_form


@pytest.mark.parametrize("text", ["x1**2*x2", "x1**2.0", "sqrt(x1)", "2.1/x1", "2.0 + 3.0*x1", "sin(2.2*x1)", "1.7"])
def test_wrong_forms_are_wrong(text: str) -> None:
    found = score(text, problem("2.5*x1**3"))
    assert not found.exact
    assert not found.refitted
    assert not found.right_form
    assert not found.accurate
    assert found.complexity > 0


def test_whole_exponents_are_form_and_floats_are_constants() -> None:
    law = problem("2.5*x1**3")
    assert not score("2.5*x1**2", law).refitted
    assert score("2.3*x1**2.9", law).right_form


def test_factors_of_one_and_protections_cost_nothing() -> None:
    law = problem("x1*sqrt(x2) + 1.25")
    for text in ("1.0*x1*sqrt(abs(x2)) + 1.25", "x1*sqrt(abs(1.0*abs(x2))) + 1.0 + 0.25", "x1*x2**0.5 + 1.25"):
        found = score(text, law)
        assert found.exact, text
        assert found.complexity_ratio == 1, text
    rounded = score("0.99999997*x1*sqrt(x2) + 1.25000003", law)
    assert rounded.exact
    assert rounded.complexity_ratio == 1


def test_what_cannot_be_computed_has_failed() -> None:
    law = problem("x1 + x2")
    assert score_law(None, law) == FAILED
    assert score_law(sympy.Symbol("z"), law) == FAILED
    for bad in (
        sympy.zoo,
        sympy.nan,
        sympy.oo * X[0],
        sympy.I * X[0],
        sympy.log(-X[0]),
        sympy.sqrt(X[0] - 2),
        X[0] ** 1e300,
        sympy.exp(sympy.exp(50 * X[0])),
        sympy.Float(1e300) * sympy.Float(1e300) * X[0],
        sympy.gamma(X[0]),
        sympy.Piecewise((X[0], X[0] > 1), (X[1], True)),
        sympy.Integer(10) ** 400 * X[0],
    ):
        found = score_law(bad, law)
        assert not any((found.exact, found.refitted, found.right_form, found.accurate)), bad
        assert found.r2 < 1


def test_where_the_law_passes_through_zero_rounding_is_forgiven() -> None:
    law = problem("x1 - x2")
    points = law.fresh.copy()
    points[:10, 1] = points[:10, 0]
    law = replace(law, fresh=points, fresh_y=points[:, 0] - points[:, 1])
    assert score("x1 - x2 + 1e-12", law).exact
    assert not score("x1 - x2 + 1e-8", law).exact


def test_constants_are_fitted_to_double_precision() -> None:
    law = problem("1.5*exp(-0.7*x1)/x2 + 0.3")
    assert len(parametrise(parse_formula("2.0*exp(-x1)/x2 + 0.1*x1**2", X)).constants) == 2
    form = parametrise(parse_formula("2.0*exp(-1.1*x1)/x2 + 0.1", X))
    constants = refit(form, X, law.x, law.y)
    assert constants is not None
    fitted = dict(zip(form.found, constants, strict=True))
    assert fitted == pytest.approx({2.0: 1.5, -1.1: -0.7, 0.1: 0.3}, rel=1e-11)


def test_a_fit_starts_only_where_the_formula_is_defined() -> None:
    law = problem("x1 + x2")
    form = parametrise(parse_formula("log(x1 - 5.0)", X))
    assert refit(form, X, law.x, law.y) is None
