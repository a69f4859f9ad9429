"""The quick fits of the study: every form is found again in its own values, and what is read off a fit is right."""

import numpy as np
import pytest

from emlinit.benchmarks.laws.choice_study import draw_table
from emlinit.benchmarks.laws.quick_fits import CURVE_FORMS, MOST_CONSTANTS, quick_fit

DRAWN = [name for name, form in CURVE_FORMS.items() if form.drawn is not None]


def table_of(name: str, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """A table that was made from one form."""
    for seed in range(3000):
        law, x, y = draw_table(np.random.default_rng(seed), 25, noise)
        if law == name:
            return x, y
    raise AssertionError(f"{name} is never drawn")


@pytest.mark.parametrize("name", DRAWN)
def test_a_form_is_found_again_in_its_own_values(name: str) -> None:
    x, y = table_of(name, 0.0)
    fit = quick_fit(CURVE_FORMS[name], x, y)
    assert fit.squares < 1e-8 * np.sum(y**2)


def test_the_fit_of_a_line_is_that_of_the_textbook() -> None:
    rng = np.random.default_rng(0)
    x = np.linspace(0.1, 1, 12)[:, None]
    y = 3 + 2 * x[:, 0] + 0.3 * rng.standard_normal(12)
    fit = quick_fit(CURVE_FORMS["a + b x"], x, y)
    design = np.column_stack([np.ones(12), x])
    beta = np.linalg.lstsq(design, y, rcond=None)[0]
    assert fit.squares == pytest.approx(np.sum((y - design @ beta) ** 2))
    left_out = [
        y[i] - design[i] @ np.linalg.lstsq(np.delete(design, i, 0), np.delete(y, i), rcond=None)[0] for i in range(12)
    ]
    assert fit.leave_one_out == pytest.approx(np.sum(np.square(left_out)))
    by_logarithms = design * beta
    values = np.linalg.eigvalsh(by_logarithms.T @ by_logarithms)[::-1]
    assert fit.information == pytest.approx((*values, 0.0, 0.0))


def test_as_many_constants_as_points_are_no_fit() -> None:
    x = np.array([[0.2], [0.5], [0.9]])
    y = np.array([1.0, 2.0, 2.5])
    assert quick_fit(CURVE_FORMS["quadratic"], x, y).squares == np.inf
    assert np.isfinite(quick_fit(CURVE_FORMS["a + b x"], x, y).squares)


def test_forms_count_their_constants_and_nodes() -> None:
    assert max(form.n_constants for form in CURVE_FORMS.values()) == MOST_CONSTANTS
    counts = {"constant": 1, "c x^-3": 1, "a + b/x": 2, "logistic": 3, "damped with a phase": 4, "c x1^p x2^q": 3}
    assert {name: CURVE_FORMS[name].n_constants for name in counts} == counts
    assert CURVE_FORMS["constant"].nodes == 1
    assert CURVE_FORMS["logistic"].nodes == 6  # a name, a variable and three numbers
    assert CURVE_FORMS["c x1 x2"].n_variables == 2
