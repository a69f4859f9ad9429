"""The rules of choosing: the same whatever the units of y, and as their sources have them."""

import numpy as np
import pytest

from emlinit.benchmarks.laws.choice_criteria import CHOICE_CRITERIA, FittedForms

RNG = np.random.default_rng(0)
Y = 5 + RNG.standard_normal(20)
FORMS = FittedForms(
    Y,
    np.array([0.9, 0.4, 0.39]) * np.sum((Y - Y.mean()) ** 2),
    np.array([1.0, 0.6, 0.8]) * np.sum((Y - Y.mean()) ** 2),
    np.array([[500.0, 0, 0, 0], [500.0, 8.0, 0, 0], [500.0, 8.0, 0.3, 0]]),
    np.array([1, 2, 3]),
)


@pytest.mark.parametrize("rule", CHOICE_CRITERIA)
@pytest.mark.parametrize("unit", [1e-3, 40.0])
def test_the_units_of_y_do_not_matter(rule: str, unit: float) -> None:
    other = FittedForms(
        FORMS.y * unit,
        FORMS.squares * unit**2,
        FORMS.leave_one_out * unit**2,
        FORMS.information * unit**2,
        FORMS.constants,
    )
    here, there = CHOICE_CRITERIA[rule](FORMS), CHOICE_CRITERIA[rule](other)
    np.testing.assert_allclose(np.diff(here), np.diff(there), rtol=1e-6)


@pytest.mark.parametrize("rule", CHOICE_CRITERIA)
def test_a_constant_that_explains_nothing_does_not_pay(rule: str) -> None:
    """The third form explains a fortieth of what the second one leaves; the second explains more than half of all."""
    nats = CHOICE_CRITERIA[rule](FORMS)
    assert nats[1] < nats[2]
    assert nats[1] < nats[0]


def test_the_information_criteria_are_those_of_the_papers() -> None:
    n, k = 20, np.array([2, 3, 4])  # the error counts as one
    fit = 0.5 * n * np.log(FORMS.squares)
    akaike = fit + k + k * (k + 1) / (n - k - 1)
    np.testing.assert_allclose(np.diff(CHOICE_CRITERIA["AICc"](FORMS)), np.diff(akaike))
    np.testing.assert_allclose(np.diff(CHOICE_CRITERIA["BIC"](FORMS)), np.diff(fit + 0.5 * k * np.log(n)))


def test_the_hyper_g_prior_has_its_closed_form() -> None:
    """Liang et al. 2008: the Bayes factor against the constant is 2F1((n-1)/2, 1; (a+p)/2; R²) (a-2)/(p+a-2)."""
    from scipy.special import hyp2f1

    n, p, a = 20, 1, 3
    explained = 1 - FORMS.squares[1] / np.sum((Y - Y.mean()) ** 2)
    factor = (a - 2) / (p + a - 2) * hyp2f1((n - 1) / 2, 1, (p + a) / 2, explained)
    assert CHOICE_CRITERIA["hyper-g"](FORMS)[1] == pytest.approx(-np.log(factor), abs=1e-3)
