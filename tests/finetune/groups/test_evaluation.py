"""Expressions evaluated together are what they are alone."""

import numpy as np
import sympy

from emlinit.finetune.groups.evaluation import JointEvaluation
from emlinit.finetune.law.lowering import evaluate_complex, lower

X, A = sympy.symbols("x a", real=True)


def test_together_is_as_alone() -> None:
    expressions = [
        A * sympy.exp(-2 * X) + 1,
        sympy.exp(-2 * X),
        sympy.log(X) * A**3,
        sympy.sqrt(X - 1),
        2 + 0 * X,
        X**A,
    ]
    points = np.random.default_rng(0).uniform(-2, 3, (50, 2))
    together = JointEvaluation(expressions, [X, A])(points)
    for column, expression in zip(together.T, expressions, strict=True):
        alone = evaluate_complex(lower(expression, [X, A]), points)
        np.testing.assert_array_equal(column, np.where(alone.imag == 0, alone.real, np.nan))


def test_what_they_have_in_common_is_computed_once() -> None:
    one = sympy.exp(sympy.sin(X))
    assert len(JointEvaluation([one, one + A, 2 * one], [X, A])._steps) < len(JointEvaluation([one], [X, A])._steps) + 5


def test_one_that_cannot_be_computed_is_undefined_and_the_others_are_not() -> None:
    both = JointEvaluation([sympy.Derivative(sympy.sign(X), X), X], [X])
    assert not both.is_complete
    found = both(np.array([[1.5]]))
    assert np.isnan(found[0, 0])
    assert found[0, 1] == 1.5
