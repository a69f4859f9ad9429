"""The front and the choice: nothing on the front is dominated, and the choice follows the data, not the noise."""

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emlinit.finetune.fitting.prices import description_length
from emlinit.finetune.law.front import pareto_front, shortest_description

ENTRIES = st.lists(st.tuples(st.integers(1, 8), st.integers(0, 8)), min_size=1, max_size=12)


def double(values: list[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@settings(max_examples=60, deadline=None)
@given(ENTRIES)
def test_front_is_exactly_what_nothing_dominates(entries: list[tuple[int, int]]) -> None:
    complexity = torch.tensor([c for c, _ in entries])
    loss = double([float(value) for _, value in entries])
    front = pareto_front(complexity, loss).tolist()
    assert front
    assert complexity[front].tolist() == sorted(set(complexity[front].tolist()))
    assert loss[front].tolist() == sorted(set(loss[front].tolist()), reverse=True)
    for c, value in entries:
        assert any(complexity[i] <= c and loss[i] <= value for i in front)


def test_losses_that_are_not_finite_are_never_on_the_front() -> None:
    assert pareto_front(torch.tensor([1, 2, 3]), double([torch.inf, torch.nan, 1.0])).tolist() == [2]
    assert pareto_front(torch.tensor([1]), double([torch.inf])).tolist() == []


def test_exact_law_wins_over_simpler_and_longer_ones() -> None:
    complexity, n_free = torch.tensor([1, 5, 7, 15]), torch.tensor([1, 2, 2, 4])
    mse = double([1.0, 1e-2, 1e-31, 1e-32])
    assert shortest_description(complexity, n_free, mse, mse, 150, 50, 1.0) == 2


def test_noise_is_not_worth_complexity() -> None:
    complexity, n_free = torch.tensor([1, 7, 25]), torch.tensor([1, 2, 9])
    train, validation = double([1.0, 1.00e-2, 0.97e-2]), double([1.0, 1.01e-2, 1.05e-2])
    assert shortest_description(complexity, n_free, train, validation, 150, 50, 1.0) == 1


def test_overfit_law_is_refused_by_validation() -> None:
    complexity, n_free = torch.tensor([5, 9]), torch.tensor([2, 6])
    train, validation = double([1e-2, 1e-9]), double([1e-2, 5.0])
    assert shortest_description(complexity, n_free, train, validation, 20, 20, 1.0) == 0
    assert shortest_description(complexity, n_free, train, double([1e-2, torch.inf]), 20, 20, 1.0) == 0
    assert shortest_description(complexity, n_free, train, double([0.0, 0.0]), 20, 0, 1.0) == 1


def test_what_fits_well_where_it_was_fitted_is_refused_where_it_fails() -> None:
    """All points taken together, the second law is the shorter description by hundreds of nats; the validation points alone
    say that it was fitted to the noise."""
    complexity, n_free = torch.tensor([5, 9]), torch.tensor([2, 6])
    train = double([1e-2, 1e-4])
    n_train, n_validation = 1600, 400
    for worse, chosen in ((2.0, 0), (1.2, 1)):  # beyond the window of exp(6 / 20) = 1.35, and within it
        validation = double([1e-2, worse * 1e-2])
        together = (n_train * train + n_validation * validation) / (n_train + n_validation)
        lengths = description_length(together, complexity, n_free, n_train + n_validation, 1.0)
        assert lengths[1] < lengths[0] - 100
        assert shortest_description(complexity, n_free, train, validation, n_train, n_validation, 1.0) == chosen


def test_four_nodes_more_must_save_more_than_some_nats() -> None:
    complexity, n_free = torch.tensor([5, 9]), torch.tensor([1, 1])
    for nats, chosen in ((3.0, 0), (4.5, 0), (8.0, 1)):
        mse = double([1e-2, 1e-2 * math.exp(-nats / 50)])  # of 100 points
        assert shortest_description(complexity, n_free, mse, mse, 100, 0, 1.0) == chosen


def test_description_grows_with_everything_that_costs() -> None:
    base = description_length(double([1e-2]), torch.tensor([5]), torch.tensor([2]), 100, 1.0)
    assert description_length(double([2e-2]), torch.tensor([5]), torch.tensor([2]), 100, 1.0) > base
    assert description_length(double([1e-2]), torch.tensor([6]), torch.tensor([2]), 100, 1.0) > base
    assert description_length(double([1e-2]), torch.tensor([5]), torch.tensor([3]), 100, 1.0) > base
    assert description_length(double([torch.nan]), torch.tensor([5]), torch.tensor([2]), 100, 1.0) == torch.inf


def test_a_fitted_constant_costs_more_the_better_the_data() -> None:
    """An exponent of 0.9965 that could be 1 saves a nat or two of residuals, less than its digits."""
    complexity, n_free = torch.tensor([5, 5]), torch.tensor([1, 2])
    for error in (0.1, 0.01, 1e-3):
        mse = double([error**2, error**2 * 0.88])  # of 25 points: 1.6 nats, a constant 1.8 standard errors off
        assert shortest_description(complexity, n_free, mse, mse, 25, 0, 1.0) == 0
    base = [description_length(double([error**2]), complexity[:1], torch.tensor([0]), 25, 1.0) for error in (0.1, 1e-3)]
    more = [description_length(double([error**2]), complexity[:1], torch.tensor([1]), 25, 1.0) for error in (0.1, 1e-3)]
    assert more[1] - base[1] > more[0] - base[0] > 0
