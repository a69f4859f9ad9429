"""A law beside data: its errors, on all rows and on some, and where it is undefined."""

import numpy as np
import pytest
import sympy

from emlinit.finetune.fitting.prices import NATS_PER_NODE, integer_cost
from emlinit.finetune.law.finding import Finding, errors_of, odd_number_nats, residuals
from emlinit.finetune.law.law import Law
from emlinit.finetune.law.symbol_names import symbols_for
from emlinit.generator.grammar import from_text
from emlinit.generator.program import programs_from_tokens

X = np.linspace(0.5, 4.0, 60)[:, None]


def _law(text: str) -> Law:
    tokens, constants = from_text(text, 1)
    return Law.from_program(programs_from_tokens(tokens[None], constants[None], 1), ["x"])


def test_errors_are_those_of_the_definition() -> None:
    y = 2.0 * X[:, 0] + np.cos(7.0 * X[:, 0])
    finding = Finding.of(_law("w:2.0 x1"), X, y, grammar="weighted", origin=("network", True))
    np.testing.assert_allclose(finding.residual, -np.cos(7.0 * X[:, 0]), atol=1e-14)
    everywhere = finding.errors()
    assert everywhere.rmse == finding.rmse == pytest.approx(np.sqrt(np.mean(np.cos(7.0 * X[:, 0]) ** 2)))
    assert everywhere.r2 == pytest.approx(1.0 - np.mean(finding.residual**2) / np.var(y))
    assert everywhere.relative == pytest.approx(np.sqrt(1.0 - everywhere.r2))
    rows = np.array([3, 5, 8])
    assert finding.errors(rows).rmse == pytest.approx(np.sqrt(np.mean(finding.residual[rows] ** 2)))
    assert (finding.grammar, finding.origin, finding.complexity) == ("weighted", ("network", True), 3)


def test_a_law_that_is_undefined_somewhere_has_no_finite_error() -> None:
    finding = Finding.of(_law("eml 1 x1"), X - 0.5, np.ones(60), grammar="exact")  # e - ln x, at x = 0
    assert finding.rmse == np.inf
    assert finding.errors(np.arange(1, 60)).rmse < np.inf
    assert not finding.is_exact


def test_a_constant_target_is_met_or_not() -> None:
    assert errors_of(np.zeros(4), np.ones(4)) == (0.0, 1.0, 0.0)
    assert errors_of(np.full(4, 0.1), np.ones(4)).r2 == -np.inf


def test_an_exact_law_has_fewer_constants_than_rows() -> None:
    law = _law("+ c:0.3 w:2.57 x1")
    y = law.predict(X)
    assert Finding.of(law, X, y, grammar="weighted").is_exact
    assert not Finding.of(law, X[:3], y[:3], grammar="weighted").is_exact
    np.testing.assert_array_equal(residuals(law, X, y), 0.0)


@pytest.mark.parametrize("formula", ["2.37*x**3", "x/4 + 3/2", "4*x**(-3/4)", "7.5*x", "2*pi*x"])
def test_numbers_that_laws_are_made_of_cost_their_node(formula: str) -> None:
    assert odd_number_nats(sympy.sympify(formula)) == 0


def test_other_numbers_cost_what_they_take_to_say() -> None:
    x = sympy.Symbol("x")
    seventh, tenth = (odd_number_nats(2.5 * x ** sympy.Rational(1, q)) for q in (7, 10))
    assert seventh == pytest.approx(integer_cost(1) + integer_cost(7) - NATS_PER_NODE)
    assert tenth > seventh > 2
    assert odd_number_nats(x**1996 + 1996) == pytest.approx(integer_cost(1996) - NATS_PER_NODE)  # told once
    assert odd_number_nats((x + 5) ** sympy.Rational(1, 5)) > odd_number_nats(x + 5) > 0


def test_a_root_nobody_takes_is_no_shorter_than_a_fitted_constant() -> None:
    """29.7 sqrt x + 267 beside 210 (x + 5)^(1/5), which has a third more of an error and one decimal number less."""
    x = np.array([[2.7], [5.1], [9.3], [14.8], [21.6]])
    y = 29.7 * np.sqrt(x[:, 0]) + 267.0 + 0.2 * np.array([1, -1, 0.5, 0.7, -1])
    symbol = symbols_for(("x",))[0]
    program = programs_from_tokens(*(part[None] for part in from_text("w:1.0 x1", 1)), 1)

    def nodes(expression: sympy.Expr) -> float:
        return Finding.of(Law(program, ("x",), expression), x, y, grammar="weighted").description_nodes

    root, fifth = nodes(29.7 * sympy.sqrt(symbol) + 267.1), nodes(210.1 * (symbol + 5) ** sympy.Rational(1, 5))
    assert fifth > root + 3
