"""Shared constants become simple numbers where the data allow it."""

import numpy as np
import sympy

from emlinit.finetune.groups.group_form import GroupForm
from emlinit.finetune.groups.joint_fit import GroupedRows, JointFit, fit_own, fit_shared
from emlinit.finetune.groups.rounding import residual_variance, rounded

X, A, P, C = sympy.symbols("x a p c", real=True)
POWER = GroupForm(A * X**P, (X,), (A, P), np.array([1.0, 1.5]))


def fitted(
    form: GroupForm, power: float, noise: float, own: list[bool], offset: float = 0.0
) -> tuple[JointFit, GroupedRows]:
    rng = np.random.default_rng(5)
    index = np.repeat([0, 1, 2], 12)
    x = rng.uniform(0.5, 4.0, (36, 1))
    y = np.array([2.1, 0.7, 1.3])[index] * x[:, 0] ** power + offset + noise * rng.normal(size=36)
    rows = GroupedRows.of(x, y, index)
    free = fit_own(form, rows)
    assert free is not None
    fit = fit_shared(form, rows, np.array(own), free.constants)
    assert fit is not None
    return fit, rows


def test_an_exponent_of_two_is_found_and_the_factors_keep_their_digits() -> None:
    found = rounded(*fitted(POWER, 2.0, 0.05, [True, False]))
    assert str(found.form.expression) == "a*x**2"
    assert found.constants.shape == (3, 1)
    np.testing.assert_allclose(found.constants[:, 0], [2.1, 0.7, 1.3], atol=0.02)


def test_an_exponent_that_is_not_simple_stays() -> None:
    fit, rows = fitted(POWER, 1.873, 0.01, [True, False])
    assert rounded(fit, rows) is fit


def test_a_shared_offset_that_is_none_goes() -> None:
    form = GroupForm(A * X**P + C, (X,), (A, P, C), np.array([1.0, 1.5, 0.0]))
    found = rounded(*fitted(form, 2.0, 0.0, [True, False, False]))
    assert str(found.form.expression) == "a*x**2"


def test_the_variance_is_that_of_the_freedom_left() -> None:
    fit, rows = fitted(POWER, 2.0, 0.05, [True, False])
    assert residual_variance(fit, rows) == fit.rss / (36 - 4)
