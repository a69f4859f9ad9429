"""Forms with constants from row to row: values, derivatives, and what they are called."""

import numpy as np
import pytest
import sympy

from emlinit.finetune.groups.group_form import GroupForm, renamed

X, A, K, M = sympy.symbols("x a k m", real=True)


def form(expression: sympy.Expr, *constants: sympy.Symbol) -> GroupForm:
    return GroupForm(expression, (X,), constants, np.full(len(constants), 1.0))


def test_values_take_the_constants_of_their_row() -> None:
    x = np.array([[0.0], [1.0], [2.0]])
    constants = np.array([[1.0, 0.0], [2.0, 1.0], [3.0, -1.0]])
    found = form(A * sympy.exp(-K * X), A, K).values(constants, x)
    np.testing.assert_allclose(found, [1.0, 2 * np.exp(-1), 3 * np.exp(2)])
    assert np.isnan(form(sympy.log(A * X), A).values(np.array([[-1.0]]), np.array([[1.0]]))).all()


@pytest.mark.parametrize(
    "expression",
    [A * sympy.exp(-K * X), A * X**K, A / (1 + sympy.exp(-K * (X - A))), A * sympy.Abs(X - K), A + 0 * K + K * X],
)
def test_derivatives_are_those_of_differences(expression: sympy.Expr) -> None:
    rng = np.random.default_rng(0)
    x, constants = rng.uniform(1, 3, (7, 1)), rng.uniform(0.5, 0.9, (7, 2))
    tested = form(expression, A, K)
    slopes = tested.derivatives(constants, x)
    for k in range(2):
        step = np.zeros(2)
        step[k] = 1e-6
        moved = (tested.values(constants + step, x) - tested.values(constants - step, x)) / 2e-6
        np.testing.assert_allclose(slopes[:, k], moved, rtol=1e-6, atol=1e-8)


def test_a_derivative_that_is_undefined_is_a_difference() -> None:
    slopes = form(A * X**K, A, K).derivatives(np.array([[2.0, 1.5]]), np.array([[0.0]]))
    np.testing.assert_allclose(slopes, [[0.0, 0.0]], atol=1e-12)


def test_forms_that_differ_in_names_and_signs_are_the_same() -> None:
    said = form(A * sympy.exp(-K * X), A, K).said
    assert form(M * sympy.exp(A * X), M, A).said == said
    assert form(A * sympy.exp(K * X**2), A, K).said != said
    assert form(A * (1 - sympy.exp(-K * X)), A, K).said != form(A * (1 + sympy.exp(-K * X)), A, K).said


def test_numbers_before_a_bracket_stay_there() -> None:
    written = form(1 / (1 + sympy.exp(-K * (X - M))), K, M).with_numbers(np.array([0.5, np.nan]))
    assert str(written) in ("1/(1 + exp(-0.5*(-m + x)))", "1/(1 + exp(-0.5*(x - m)))")
    assert str(renamed(written, {M: sympy.Symbol("a")})).count("(") == str(written).count("(")


def test_a_form_is_priced_with_numbers_of_no_special_kind() -> None:
    offset = GroupForm(A * sympy.exp(K * X) + M, (X,), (A, K, M), np.array([1.0, -1.0, 0.0]))
    alone = GroupForm(A * sympy.exp(K * X), (X,), (A, K), np.array([1.0, -1.0]))
    assert offset.nodes == alone.nodes + 1
    np.testing.assert_array_equal(offset.linear, [True, False, True])
