"""Frequencies are read off uneven points, of one phase and of two; noise has none, and few points are not believed."""

import math

import pytest
import torch
from torch import Tensor

from emlinit.finetune.sparse.periods import MOST_PERIODS, plane_waves, rapid_frequencies


def _times(n: int = 600, spread: float = 50.0) -> Tensor:
    return spread * torch.rand(n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def _noise(n: int, seed: int) -> Tensor:
    return torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("omega", [1.3, 4.0, 11.7])
def test_a_frequency_is_near_enough_to_be_tuned(omega: float) -> None:
    t = _times()
    found = rapid_frequencies(t, 2 + 0.7 * (omega * t + 0.4).cos() + 0.2 * _noise(len(t), 1), lowest=1.0)
    assert len(found) == 1
    assert abs(float(found[0]) - omega) * 50.0 < 0.2 * math.pi  # angle that it is off by, over the whole range


def test_the_strongest_comes_first_and_each_is_found_beside_the_others() -> None:
    t = _times()
    y = (3.1 * t).sin() + 0.3 * (7.9 * t).cos() + 0.002 * t**2
    found = rapid_frequencies(t, y, lowest=1.0).tolist()
    assert found[:2] == pytest.approx([3.1, 7.9], abs=0.03)
    assert rapid_frequencies(t, y, lowest=1.0, most=1).tolist() == found[:1]
    assert rapid_frequencies(t, y, lowest=5.0)[0].item() == pytest.approx(7.9, abs=0.03)


def test_noise_has_none() -> None:
    t = _times(300)
    assert sum(len(rapid_frequencies(t, _noise(300, seed), lowest=1.0)) for seed in range(1, 41)) <= 3


@pytest.mark.parametrize("y", [lambda t: t**2 - 3 * t, lambda t: torch.ones_like(t)])
def test_a_trend_has_none(y: object) -> None:
    t = _times()
    assert callable(y)
    assert not len(rapid_frequencies(t, y(t), lowest=1.0))


def test_there_are_four_points_a_period_at_least() -> None:
    t = torch.linspace(0.0, 1.0, 101, dtype=torch.float64)
    found = rapid_frequencies(t, (2 * math.pi * 24 * t).sin(), lowest=60.0)
    assert found[0].item() == pytest.approx(48 * math.pi, rel=0.01)
    assert not len(rapid_frequencies(t, (2 * math.pi * 26.2 * t).sin(), lowest=160.0))
    t = torch.linspace(0.0, 1.0, 20_001, dtype=torch.float64)[torch.randperm(20_001)]
    assert len(rapid_frequencies(t, (2 * math.pi * (MOST_PERIODS - 2) * t).sin(), lowest=1000.0))
    assert not len(rapid_frequencies(t, (2 * math.pi * (MOST_PERIODS + 9) * t).sin(), lowest=1250.0))


def _plane(n: int = 400) -> Tensor:
    return 5 * torch.rand(2, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize(("omega", "other"), [(3.0, -5.0), (11.0, 13.0), (1.5, 2.0)])
def test_a_plane_wave_is_near_enough_to_be_tuned(omega: float, other: float) -> None:
    x, t = u = _plane()
    found = plane_waves(u, 2 * (omega * x + other * t + 0.4).sin() + 0.5 * _noise(400, 1) + x * t)
    assert len(found) == 1
    sign = 1 if found[0, 0] > 0 else -1
    assert (5.0 * (sign * found[0] - torch.tensor([omega, other]))).abs().max() < 0.2 * math.pi


def test_two_plane_waves_are_two() -> None:
    x, t = u = _plane()
    y = (6 * x - 5 * t).sin() + 0.6 * (2 * x + 8 * t).cos()
    found = plane_waves(u, y, most=2)
    assert found.flatten().tolist() == pytest.approx([6.0, -5.0, 2.0, 8.0], abs=0.1)
    assert plane_waves(u, y, most=1).tolist() == found[:1].tolist()


def test_noise_and_planes_have_no_plane_wave() -> None:
    u = _plane()
    assert sum(len(plane_waves(u, _noise(400, seed))) for seed in range(1, 41)) <= 3
    for y in (u[0] * u[1] - u[1] ** 2, torch.ones(400, dtype=torch.float64)):
        assert plane_waves(u, y).shape == (0, 2)
    for odd in (torch.stack([u[0], torch.zeros(400)]), torch.stack([u[0], torch.full((400,), torch.nan)]), u[:, :5]):
        assert plane_waves(odd.double(), (5 * u[0, : odd.shape[1]]).sin()).shape == (0, 2)


def test_odd_phases_have_none() -> None:
    y = (5.0 * _times()).sin()
    for u in (torch.zeros_like(y), torch.full_like(y, torch.nan), torch.full_like(y, torch.inf), y[:0]):
        assert rapid_frequencies(u, y[: len(u)], lowest=1.0).shape == (0,)
    holes = _times()
    holes[::7] = torch.inf
    assert rapid_frequencies(holes, y, lowest=1.0)[0].item() == pytest.approx(5.0, abs=0.01)
