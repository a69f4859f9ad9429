"""Noise passes for noise, and what a law lacks does not; its size is told, and rows that stand apart are."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import f_oneway, kstest, rankdata

from emlinit.finetune.diagnostics.noise import (
    Noise,
    NoiseBesideLaw,
    Outliers,
    estimated_noise,
    is_white,
    noise_beside_law,
    outlying_rows,
    ranks,
)


def _rows(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(n, 1, generator=generator, dtype=torch.float64)
    return x, torch.randn(n, generator=generator, dtype=torch.float64)


def test_ranks_are_those_of_scipy() -> None:
    columns = np.random.default_rng(0).integers(0, 5, (40, 3)).astype(float)
    np.testing.assert_array_equal(ranks(columns), rankdata(columns, axis=0))


@pytest.mark.parametrize("n", [8, 30, 300])
def test_noise_is_white_nearly_always(n: int) -> None:
    assert sum(is_white(*_rows(n, seed)) for seed in range(200)) > 180


@pytest.mark.parametrize(("n", "size"), [(30, 2.5), (300, 0.9)])
def test_what_a_law_lacks_is_seen(n: int, size: float) -> None:
    seen = 0
    for seed in range(100):
        x, noise = _rows(n, seed)
        seen += not is_white(x, noise + size * (6.0 * x[:, 0]).sin())
    assert seen > 80


def test_the_order_of_the_rows_does_not_matter() -> None:
    x, noise = _rows(50, 0)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(1))
    for residual in (noise, noise + 3 * x[:, 0]):
        assert is_white(x, residual) == is_white(x[order], residual[order])


def test_nothing_is_said_of_few_rows_or_of_exact_fits() -> None:
    x, noise = _rows(5, 0)
    assert not is_white(x, noise)
    x, noise = _rows(20, 0)
    assert not is_white(x, torch.zeros(20, dtype=torch.float64))
    assert not is_white(x, noise.masked_fill(x[:, 0] > 0.9, torch.nan))


def _smooth(x: np.ndarray) -> np.ndarray:
    return np.sin(3 * x[:, 0]) * (0.5 + x[:, -1])


@pytest.mark.parametrize(("n", "v"), [(40, 1), (300, 1), (300, 2), (600, 3)])
def test_neighbours_tell_the_noise_of_a_smooth_function(n: int, v: int) -> None:
    found = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        x = rng.uniform(0, 1, (n, v))
        noise = estimated_noise(x, _smooth(x) + 0.2 * rng.normal(size=n))
        found += [] if noise is None else [noise]
    assert len(found) > 30
    assert {noise.method for noise in found} == {"neighbours"}
    variances = np.array([noise.value**2 for noise in found]) / 0.04
    assert variances.mean() == pytest.approx(1, abs=0.12)
    # A variance of f degrees of freedom spreads by sqrt(2/f); the estimate may say fewer than it has, hardly more.
    assert 2 / variances.var() > 0.6 * found[0].freedom
    assert found[0].freedom == pytest.approx(18 / 35 * (n - 2) if v == 1 else n / 3)


def test_spacing_and_units_do_not_matter_to_neighbours() -> None:
    rng = np.random.default_rng(1)
    uneven = 10 ** rng.uniform(-3, 3, (200, 1))
    y = 1e6 * (5 * np.log(uneven[:, 0]) + 0.3 * rng.normal(size=200))
    noise = estimated_noise(uneven, y)
    assert noise is not None
    assert noise.value == pytest.approx(3e5, rel=0.2)
    line = estimated_noise(uneven, 3 * uneven[:, 0])
    assert line is None or line.value < 1e-12 * np.ptp(uneven)
    order = rng.permutation(200)
    again = estimated_noise(uneven[order], y[order])
    assert again is not None
    assert again.value == pytest.approx(noise.value)


def test_replicates_tell_the_noise_whatever_the_function() -> None:
    rng = np.random.default_rng(2)
    x = np.repeat(rng.uniform(0, 1, (10, 2)), 4, axis=0)
    y = np.repeat(100 * rng.normal(size=10), 4) + 0.2 * rng.normal(size=40)
    noise = estimated_noise(x, y)
    pure = sum(np.sum((group - group.mean()) ** 2) for group in np.split(y, 10))
    copied = estimated_noise(np.concatenate([x, x]), np.concatenate([y, y]))
    for found in (noise, copied):
        assert found is not None
        assert (found.value, found.method, found.freedom) == (pytest.approx(math.sqrt(pure / 30)), "replicates", 30)


def test_replicates_that_agree_count_and_a_table_that_is_there_twice_does_not() -> None:
    rng = np.random.default_rng(10)
    x = np.repeat(np.arange(40.0), 5)[:, None]
    counts = rng.poisson(2.0, 200).astype(float)  # of few different values: many agree
    noise = estimated_noise(x, counts)
    assert noise is not None
    pooled = counts.reshape(40, 5).var(axis=1, ddof=1).mean()
    assert (noise.value, noise.freedom) == (pytest.approx(math.sqrt(pooled)), 160)
    line, y = np.linspace(0, 1, 50)[:, None], rng.normal(size=50)
    assert estimated_noise(np.repeat(line, 3, axis=0), np.repeat(y, 3)) == estimated_noise(line, y)


def test_weights_say_which_rows_are_noisier_and_which_do_not_count() -> None:
    rng = np.random.default_rng(3)
    x, weights = np.sort(rng.uniform(0, 1, (500, 1)), axis=0), rng.uniform(0.2, 5, 500)
    y = x[:, 0] + 0.2 * rng.normal(size=500) / np.sqrt(weights)
    noise = estimated_noise(x, y, weights)
    assert noise is not None
    assert noise.value == pytest.approx(0.2, rel=0.1)
    wild = np.where(np.arange(500) % 5 == 0, 100.0, y)
    kept = np.arange(500) % 5 > 0
    assert estimated_noise(x, wild, weights * kept) == estimated_noise(x[kept], y[kept], weights[kept])
    twice = np.repeat(x[:50], 2, axis=0)
    pairs = np.repeat(rng.normal(size=50), 2) + 0.2 * rng.normal(size=100) / np.sqrt(weights[:100])
    replicated = estimated_noise(twice, pairs, weights[:100])
    assert replicated is not None
    assert replicated.freedom == 50
    assert replicated.value == pytest.approx(0.2, rel=0.25)


def test_no_noise_is_told_where_it_cannot_be() -> None:
    rng = np.random.default_rng(4)
    assert estimated_noise(np.arange(4.0)[:, None], rng.normal(size=4)) is None
    assert estimated_noise(rng.uniform(0, 1, (60, 3)), rng.normal(size=60)) is None
    assert estimated_noise(np.ones((20, 1)), np.ones(20)) is None
    assert estimated_noise(np.ones((0, 1)), np.ones(0)) is None
    rough = rng.uniform(0, 1, (400, 2))
    assert estimated_noise(rough, np.sin(20 * rough[:, 0]) * rough[:, 1] + 0.01 * rng.normal(size=400)) is None


def test_lack_of_fit_is_an_analysis_of_variance_and_fair_to_a_right_law() -> None:
    x = np.repeat(np.linspace(0, 1, 8), 3)[:, None]
    y = np.random.default_rng(5).normal(size=24)
    beside = noise_beside_law(x, y.mean() - y, 1)
    classical = f_oneway(*np.split(y, 8))
    assert beside is not None
    assert (beside.f, beside.p) == pytest.approx((classical.statistic, classical.pvalue))
    assert beside.law_leaves == pytest.approx(y.std(ddof=1))
    p = []
    for seed in range(200):
        noise = 0.1 * np.random.default_rng(seed).normal(size=24)
        slope, offset = np.polyfit(x[:, 0], noise, 1)
        found = noise_beside_law(x, slope * x[:, 0] + offset - noise, 2)
        p += [] if found is None or found.p is None else [found.p]
    assert len(p) == 200
    assert kstest(p, "uniform").pvalue > 0.01
    lacking = noise_beside_law(x, 0.1 * y + np.sin(6 * x[:, 0]), 2)
    assert lacking is not None
    assert lacking.p is not None
    assert lacking.p < 1e-6


def test_a_law_that_is_undefined_or_has_as_many_constants_as_rows_is_not_judged() -> None:
    x = np.linspace(0, 1, 20)[:, None]
    residual = np.random.default_rng(6).normal(size=20)
    assert noise_beside_law(x, residual, 20) is None
    assert noise_beside_law(x, np.where(x[:, 0] > 0.9, np.nan, residual), 2) is None
    few_points = noise_beside_law(np.repeat(x[:3], 7, axis=0)[:20], residual, 3)
    assert few_points is not None
    assert few_points.f is None


def test_the_line_on_noise() -> None:
    replicates, neighbours = Noise(0.3123, "replicates", 12.0), Noise(0.3123, "neighbours", 10.3)
    assert str(NoiseBesideLaw(neighbours, 0.301)) == "noise: 0.312 (from neighbouring rows); the law leaves 0.301"
    assert str(NoiseBesideLaw(replicates, 0.301, 0.9412, 0.5512)) == (
        "noise: 0.312 (from 12 replicates); the law leaves 0.301: nothing is missing (F 0.941, p 0.55)"
    )
    assert str(NoiseBesideLaw(replicates, 0.9, 20.0, 1e-5)).endswith("something is missing (F 20, p 1e-05)")


def test_few_rows_that_carry_the_misfit_are_named() -> None:
    residual = np.random.default_rng(7).normal(size=40)
    residual[[5, 17]] = 30, -25
    found = outlying_rows(residual)
    assert found is not None
    assert found.rows == (5, 17)
    assert found.share == pytest.approx((30**2 + 25**2) / np.sum(residual**2))
    percent = int(100 * found.share)
    assert found.remark() == f"rows 6 and 18 carry {percent} % of the misfit: check them, or use --loss huber"
    assert found.remark(range(100, 140)).startswith("rows 105 and 117 carry")
    assert Outliers((2,), 1.0).remark() == "row 3 carries 99 % of the misfit: check it, or use --loss huber"
    assert Outliers((0, 1, 2), 0.5).remark().startswith("rows 1, 2 and 3 carry 50 %")


def test_no_row_is_named_for_noise_for_heavy_tails_or_where_many_are_wrong() -> None:
    named = sum(outlying_rows(np.random.default_rng(seed).normal(size=60)) is not None for seed in range(300))
    assert named == 0
    heavy = sum(outlying_rows(np.random.default_rng(seed).standard_t(3, size=60)) is not None for seed in range(300))
    assert heavy < 30
    rng = np.random.default_rng(8)
    assert outlying_rows(np.where(np.arange(60) % 6 == 0, 20.0, rng.normal(size=60))) is None  # ten of them
    assert outlying_rows(np.array([0.1, -0.1, 0.2, 50.0])) is None  # few rows
    assert outlying_rows(np.zeros(30)) is None
    assert outlying_rows(np.where(np.arange(30) == 3, np.nan, 1.0)) is None


def test_a_law_that_is_exact_but_for_one_row_names_it() -> None:
    residual = 1e-16 * np.random.default_rng(9).normal(size=30)
    residual[4] = 1e300
    found = outlying_rows(residual)
    assert found is not None
    assert found.rows == (4,)
