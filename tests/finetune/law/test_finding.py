"""A law beside data: its errors, on all rows and on some, and where it is undefined."""

import numpy as np
import pytest

from emlinit.finetune.law.finding import Finding, errors_of, residuals
from emlinit.finetune.law.law import Law
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
