"""What a law costs: the probability of the targets with everything unknown integrated out, whatever their units."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emlinit.finetune.fitting.prices import NATS_PER_NODE, description_length, rounding_floor


def lengths(
    mse: list[float], nodes: list[int], constants: list[int], n: int, y: np.ndarray, n_distinct: int | None = None
) -> list[float]:
    """Nats of some formulas beside targets y."""
    found: list[float] = description_length(
        torch.tensor(mse, dtype=torch.float64),
        torch.tensor(nodes),
        torch.tensor(constants),
        n,
        float(np.sqrt(np.mean(y**2))),
        n_distinct,
        float(y.std()),
    ).tolist()
    return found


def fitted(y: np.ndarray, *columns: np.ndarray) -> float:
    """Mean squared error of the best linear combination."""
    basis = np.column_stack(columns)
    return float(np.mean((y - basis @ np.linalg.lstsq(basis, y, rcond=None)[0]) ** 2))


def choice(x: np.ndarray, y: np.ndarray) -> str:
    """The shortest description of y among simple laws of x."""
    one = np.ones_like(x)
    laws = {
        "a": (fitted(y, one), 1, 1),
        "c/x": (fitted(y, 1 / x), 4, 1),
        "c/x^2": (fitted(y, x**-2), 5, 1),
        "c/x^3": (fitted(y, x**-3), 5, 1),
        "c x": (fitted(y, x), 3, 1),
        "a + b x": (fitted(y, one, x), 5, 2),
        "a + b/x": (fitted(y, one, 1 / x), 5, 2),
        "a + b/x + c/x^2": (fitted(y, one, 1 / x, x**-2), 10, 3),
    }
    mse, nodes, constants = (list(values) for values in zip(*laws.values(), strict=True))
    return list(laws)[int(np.argmin(lengths(mse, nodes, constants, len(y), y)))]


@settings(max_examples=30, deadline=None)
@given(st.floats(-6, 6), st.integers(4, 60))
def test_the_units_of_y_do_not_matter(decades: float, n: int) -> None:
    y = 3 + np.random.default_rng(n).standard_normal(n)
    unit = 10.0**decades
    mse = [0.5, 0.01, 1e-4]
    here = lengths(mse, [1, 5, 9], [1, 2, 3], n, y)
    there = lengths([one * unit**2 for one in mse], [1, 5, 9], [1, 2, 3], n, unit * y)
    np.testing.assert_allclose(np.diff(here), np.diff(there), rtol=1e-6)


def test_it_is_the_probability_with_error_and_constant_integrated_out() -> None:
    """One constant c of y = c + error: the integral over c, in an interval as long as the spread, and over the error's
    size is done numerically here."""
    y = np.array([4.1, 4.9, 5.6, 5.0, 4.4, 5.1])
    n, spread = len(y), float(y.std())
    c, log_sigma = np.linspace(-45, 55, 100_001)[:, None], np.linspace(-6, 12, 181)

    def evidence(residual: np.ndarray, shifts: np.ndarray) -> float:
        """∫∫ Π N(residual - shift; 0, σ²) d ln σ d shift, the latter as a mean over nothing if there is but one."""
        squares = np.square(residual - shifts).sum(1)[:, None]
        density = np.exp(-n * log_sigma - 0.5 * squares * np.exp(-2 * log_sigma)) / (2 * math.pi) ** (n / 2)
        step = 1.0 if len(shifts) == 1 else float(shifts[1, 0] - shifts[0, 0])
        return float(density.sum() * step * (log_sigma[1] - log_sigma[0]))

    by_hand = math.log(evidence(np.full(n, 0.2), np.zeros((1, 1)))) - math.log(evidence(y, c) / spread)
    nats = lengths([float(y.var()), 0.04], [1, 1], [1, 0], n, y)
    assert nats[0] - nats[1] == pytest.approx(by_hand, abs=1e-3)


@pytest.mark.parametrize("n", [4, 5, 6])
def test_a_few_precise_points_of_two_constants_buy_both(n: int) -> None:
    """24.6 - 21350/T to an error of a hundredth of the spread, and far better."""
    t = np.linspace(640, 790, n)
    for seed in range(5):
        noise = np.random.default_rng(seed).standard_normal(n)
        for error in (1e-4, 1e-2):
            assert choice(t / 700, 24.6 - 21350 / t + error * noise) == "a + b/x", (seed, error)


def test_noise_alone_gives_the_constant() -> None:
    rng = np.random.default_rng(0)
    found = [choice(np.linspace(0.5, 4, n), 3 + rng.standard_normal(n)) for n in (5, 8, 12, 30, 100) for _ in range(40)]
    assert found.count("a") >= 0.95 * len(found)


def test_more_rows_of_a_law_make_it_win() -> None:
    """Where few noisy rows cannot tell, many can, and none of them buys a constant more."""
    rng, shares = np.random.default_rng(0), []
    for n in (5, 15, 60, 400):
        x = np.linspace(0.3, 3, n)
        y = 2 + 0.5 / x
        shares.append(np.mean([choice(x, y + 0.3 * y.std() * rng.standard_normal(n)) == "a + b/x" for _ in range(60)]))
    assert shares == sorted(shares)
    assert shares[0] < 0.9 < 0.97 < shares[-1]


def test_with_many_points_a_constant_costs_its_digits() -> None:
    y = np.linspace(0, 1, 10_000)
    for error in (0.1, 1e-3):
        one, two = lengths([error**2] * 2, [5, 5], [1, 2], len(y), y)
        known = 0.5 * math.log(len(y)) + math.log(y.std() / error) - 0.5 * math.log(2 * math.pi)
        assert two - one == pytest.approx(known, abs=1e-3)


def test_no_more_constants_than_different_points() -> None:
    y = np.array([1.0, 2.0, 4.0, 8.0])
    assert np.isfinite(lengths([1e-4] * 5, [1] * 5, [0, 1, 2, 3, 4], 4, y)).tolist() == [True] * 4 + [False]
    assert np.isfinite(lengths([1e-4] * 3, [1] * 3, [1, 2, 3], 4, y, n_distinct=3)).tolist() == [True, True, False]
    assert not np.isfinite(lengths([math.nan, math.inf], [1, 1], [1, 1], 4, y)).any()


def test_nothing_is_gained_below_rounding() -> None:
    y = np.linspace(1, 2, 10)
    floor = rounding_floor(float(np.sqrt(np.mean(y**2))))
    worse, better = lengths([1e-3 * floor, 1e-9 * floor], [5, 5], [1, 1], 10, y)
    assert worse == pytest.approx(better, abs=0.01)
    assert lengths([floor], [6], [1], 10, y)[0] - lengths([floor], [5], [1], 10, y)[0] == pytest.approx(NATS_PER_NODE)
