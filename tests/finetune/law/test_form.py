"""A form's values, derivatives and linear constants, and the mirror images that are not told apart."""

import numpy as np
import pytest

from emlinit.finetune.law.form import best_fit, parsed_form

X = np.linspace(0.5, 3.0, 25)[:, None]


@pytest.mark.parametrize(
    ("text", "linear"),
    [
        ("a + b*x", "ab"),
        ("a*exp(-b*x) + c", "ac"),
        ("a*b*x + c", "ac"),  # linear in either, not in both
        ("(a + b*x)/(1 + c*x)", "ab"),
        ("x**a", ""),
    ],
)
def test_constants_in_which_the_form_is_linear(text: str, linear: str) -> None:
    form = parsed_form(text, ["x"])
    assert [c.name for c, is_linear in zip(form.constants, form.linear, strict=True) if is_linear] == list(linear)


def test_values_and_derivatives_are_those_of_the_formula() -> None:
    form = parsed_form("a*exp(-b*x) + atan(c/x)", ["x"])
    constants = np.array([[2.0, 0.7, 1.5], [-1.0, 0.2, 0.3]])
    values, slopes = form.values(constants, X), form.derivatives(constants, X)
    x = X[:, 0]
    for (a, b, c), value, slope in zip(constants, values, slopes, strict=True):
        np.testing.assert_allclose(value, a * np.exp(-b * x) + np.arctan(c / x), rtol=1e-14)
        by_hand = [np.exp(-b * x), -a * x * np.exp(-b * x), x / (x**2 + c**2)]
        np.testing.assert_allclose(slope, np.stack(by_hand, 1), rtol=1e-13)


def test_what_is_not_real_is_nan() -> None:
    form = parsed_form("a*sqrt(x - b)", ["x"])
    values = form.values(np.array([[1.0, 1.0]]), X)[0]
    np.testing.assert_array_equal(np.isnan(values), X[:, 0] < 1.0)


def test_a_width_that_is_squared_is_positive() -> None:
    form = parsed_form("a*exp(-(x - m)**2/w**2)", ["x"])
    y = form.values(np.array([[2.0, 1.5, 0.4]]), X)[0]
    for seed in range(3):
        fit = best_fit(form, X, y, np.full(3, np.nan), seconds=5.0, rng=np.random.default_rng(seed))
        assert fit is not None
        assert fit.converged
        np.testing.assert_allclose(fit.constants, [2.0, 1.5, 0.4], rtol=1e-9)
