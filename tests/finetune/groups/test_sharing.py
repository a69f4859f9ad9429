"""Which constants are shared: the pattern that the data were made with, and what it is worth."""

import itertools
import time

import numpy as np
import pytest
import sympy

from emlinit.finetune.groups.group_form import GroupForm
from emlinit.finetune.groups.joint_fit import GroupedRows, fit_own, fit_shared
from emlinit.finetune.groups.sharing import Priced, Prices, best_sharing

X, A, K, C = sympy.symbols("x a k c", real=True)
DECAY = GroupForm(A * sympy.exp(-K * X) + C, (X,), (A, K, C), np.array([1.0, 1.0, 0.0]))
LINE = GroupForm(A + K * X, (X,), (A, K), np.array([1.0, 1.0]))
VALUES = np.array([[5.1, 0.42, 0.5], [3.3, 0.9, 1.7], [1.4, 1.6, -0.8]])


def made_with(own: tuple[bool, bool, bool], noise: float = 0.02) -> GroupedRows:
    rng = np.random.default_rng(3)
    index = np.repeat(np.arange(3), 14)
    x = rng.uniform(0.2, 5.0, (len(index), 1))
    a, k, c = np.where(own, VALUES, VALUES[0])[index].T
    return GroupedRows.of(x, a * np.exp(-k * x[:, 0]) + c + noise * rng.normal(size=len(index)), index)


def best(forms: list[GroupForm], rows: GroupedRows, deadline: float = float("inf")) -> Priced:
    return min(best_sharing(forms, rows, Prices.of(rows), deadline), key=lambda priced: priced.nats)


@pytest.mark.parametrize("own", list(itertools.product((False, True), repeat=3)))
def test_the_pattern_that_the_data_were_made_with_is_chosen(own: tuple[bool, bool, bool]) -> None:
    rows = made_with(own)
    found = best([LINE, DECAY], rows)
    assert found.fit.form is DECAY
    assert tuple(found.fit.own.tolist()) == own
    true = np.where(own, VALUES, VALUES[0])
    np.testing.assert_allclose(found.fit.constants, true, atol=0.15)


def test_no_pattern_is_shorter_than_the_one_found() -> None:
    rows = made_with((True, False, False), noise=0.3)
    prices, found = Prices.of(rows), best([DECAY], rows)
    free = fit_own(DECAY, rows)
    assert free is not None
    for own in itertools.product((False, True), repeat=3):
        fit = fit_shared(DECAY, rows, np.array(own), free.constants)
        assert fit is not None
        assert found.nats <= prices.of_fit(fit).nats + 1e-6


def test_own_constants_cost_once_for_each_group() -> None:
    prices = Prices(100, 100, 1.0, 1.0)
    assert prices.nats(1.0, LINE, 4) > prices.nats(1.0, LINE, 3) + 2.0


def test_forms_of_many_constants_are_shared_one_by_one() -> None:
    b = sympy.symbols("b0:4", real=True)
    powers = [X**power for power in range(1, 5)]
    expression = A + sum((one * power for one, power in zip(b, powers, strict=True)), K * sympy.sin(3 * X))
    form = GroupForm(expression, (X,), (A, K, *b), np.ones(6))
    rng = np.random.default_rng(4)
    index = np.repeat(np.arange(3), 20)
    x = rng.uniform(-1, 1, (60, 1))
    y = np.array([1.0, 2.0, -1.0])[index] + 0.7 * np.sin(3 * x[:, 0]) + (x ** np.arange(1, 5)).sum(1)
    found = best([form], GroupedRows.of(x, y + 0.01 * rng.normal(size=60), index))
    np.testing.assert_array_equal(found.fit.own, [True, False, False, False, False, False])


def test_a_deadline_that_has_passed_leaves_something() -> None:
    assert np.isfinite(best([DECAY, LINE], made_with((True, False, False)), time.monotonic() - 1.0).nats)
