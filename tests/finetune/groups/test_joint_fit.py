"""Joint fits: the minimum of scipy, the groups apart, known constants, and the covariance of the whole Jacobian."""

import numpy as np
import pytest
import sympy
from scipy.optimize import least_squares

from emlinit.finetune.groups.group_form import GroupForm
from emlinit.finetune.groups.joint_fit import GroupedRows, covariances, fit_own, fit_shared

X, A, K, C = sympy.symbols("x a k c", real=True)
DECAY = GroupForm(A * sympy.exp(-K * X) + C, (X,), (A, K, C), np.array([1.0, 1.0, 0.0]))
FACTORS = np.array([5.1, 3.3, -1.4, 2.2])
OWN_FACTOR = np.array([True, False, False])


def decays(
    noise: float, rows_each: int = 9, rates: float | np.ndarray = 0.42
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    index = rng.permutation(np.repeat(np.arange(len(FACTORS)), rows_each))
    x = rng.uniform(0.5, 6.0, (len(index), 1))
    y = FACTORS[index] * np.exp(-np.broadcast_to(rates, FACTORS.shape)[index] * x[:, 0]) + 0.5
    return x, y + noise * rng.normal(size=len(y)), index


def test_rows_are_sorted_and_summed_by_group() -> None:
    x, y, index = decays(0.1)
    rows = GroupedRows.of(x, y, index)
    assert rows.n_groups == 4
    np.testing.assert_allclose(rows.sums(rows.y), [y[index == place].sum() for place in range(4)])


def test_exact_data_give_the_constants_they_were_made_from() -> None:
    rows = GroupedRows.of(*decays(0.0))
    free = fit_own(DECAY, rows)
    assert free is not None
    fit = fit_shared(DECAY, rows, OWN_FACTOR, free.constants)
    assert fit is not None
    np.testing.assert_allclose(fit.constants, np.column_stack([FACTORS, np.full(4, 0.42), np.full(4, 0.5)]), rtol=1e-8)
    assert fit.n_constants == 6


def test_a_joint_fit_is_the_minimum_that_scipy_finds() -> None:
    x, y, index = decays(0.1)
    weights = np.random.default_rng(2).uniform(0.5, 2.0, len(y))
    rows = GroupedRows.of(x, y, index, weights)
    free = fit_own(DECAY, rows)
    assert free is not None
    fit = fit_shared(DECAY, rows, OWN_FACTOR, free.constants)
    assert fit is not None

    def residual(at: np.ndarray) -> np.ndarray:
        return (at[index] * np.exp(-at[4] * x[:, 0]) + at[5] - y) * np.sqrt(weights)

    reference = least_squares(residual, np.array([*FACTORS, 0.42, 0.5]), ftol=1e-15, xtol=1e-15, gtol=1e-15)
    assert fit.rss == pytest.approx(2 * reference.cost, rel=1e-9)
    np.testing.assert_allclose(fit.constants[:, 0], reference.x[:4], rtol=1e-5)
    np.testing.assert_allclose(fit.constants[0, 1:], reference.x[4:], rtol=1e-5)

    variance = fit.rss / (len(y) - 6)
    shared, own = covariances(fit, rows, variance)
    expected = np.sqrt(variance * np.diag(np.linalg.inv(reference.jac.T @ reference.jac)))
    np.testing.assert_allclose(own[:, 0], expected[:4], rtol=1e-4)
    np.testing.assert_allclose(shared, expected[4:], rtol=1e-4)


def test_groups_fitted_alone_are_as_good_as_each_by_itself() -> None:
    x, y, index = decays(0.02, rates=np.array([0.2, 0.5, 1.0, 3.0]))
    fit = fit_own(DECAY, GroupedRows.of(x, y, index))
    assert fit is not None
    assert fit.own.all()
    for place in range(4):
        there = index == place

        def residual(at: np.ndarray, there: np.ndarray = there) -> np.ndarray:
            return np.asarray(at[0] * np.exp(-at[1] * x[there, 0]) + at[2] - y[there])

        start = [FACTORS[place], [0.2, 0.5, 1.0, 3.0][place], 0.5]
        assert fit.squares[place] <= 2 * least_squares(residual, start).cost * 1.01 + 1e-12


def test_what_the_data_do_not_determine_has_an_infinite_error() -> None:
    twice = GroupForm(A * sympy.exp(C) * X, (X,), (A, C), np.array([1.0, 0.1]))
    x = np.linspace(1, 2, 8)[:, None]
    rows = GroupedRows.of(x, 2 * x[:, 0] + 0.01 * np.sin(9 * x[:, 0]), np.repeat([0, 1], 4))
    fit = fit_own(twice, rows)
    assert fit is not None
    _, own = covariances(fit, rows, 1e-4)
    assert np.isinf(own).all()


def test_a_form_that_is_undefined_at_a_row_has_no_fit() -> None:
    rows = GroupedRows.of(np.array([[-1.0], [1.0], [2.0], [3.0]]), np.arange(4.0), np.array([0, 0, 1, 1]))
    form = GroupForm(A + sympy.log(X), (X,), (A,), np.array([1.0]))
    assert fit_own(form, rows) is None
