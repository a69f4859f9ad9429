"""Noise passes for noise, and what a law lacks does not."""

import pytest
import torch

from emlinit.finetune.noise import is_white


def _rows(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(n, 1, generator=generator, dtype=torch.float64)
    return x, torch.randn(n, generator=generator, dtype=torch.float64)


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
