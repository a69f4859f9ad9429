"""The encoder reads numbers exactly, and neither order nor padding nor absent variables change what it says."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from emlinit.model import EMLInitialiser
from emlinit.model.encoder import PointEncoder
from emlinit.model.encoding import N_BITS, N_FEATURES, n_point_features, number_features, point_features

TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}
"""Sums over points are taken in another order; everything else is the same float32 arithmetic."""


@pytest.fixture(scope="module")
def encoder(tiny: Callable[[str], EMLInitialiser]) -> PointEncoder:
    return tiny("exact").encoder


@pytest.fixture
def data() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(3, 10, 5, dtype=torch.float64, generator=generator) * 10
    y = torch.randn(3, 10, dtype=torch.float64, generator=generator).exp()
    mask = torch.tensor([[True, False, False, False, False], [True, True, False, False, False], [True] * 5])
    return x, y, mask, torch.ones(3, 10, dtype=torch.bool)


def test_the_order_of_points_does_not_matter(
    encoder: PointEncoder, data: tuple[Tensor, Tensor, Tensor, Tensor]
) -> None:
    x, y, mask, points = data
    latents = encoder(x, y, mask, points)
    order = torch.randperm(10, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(encoder(x[:, order], y[:, order], mask, points), latents, **TOLERANCE)
    paired_otherwise = encoder(x[:, order], y, mask, points)
    assert float((paired_otherwise - latents).abs().max()) > 1e-2


@pytest.mark.parametrize("filler", [0.0, 1e30, float("nan"), float("inf")])
def test_padding_does_not_matter(
    encoder: PointEncoder, data: tuple[Tensor, Tensor, Tensor, Tensor], filler: float
) -> None:
    x, y, mask, points = data
    padded = (
        torch.nn.functional.pad(x, (0, 0, 0, 7), value=filler),
        torch.nn.functional.pad(y, (0, 7), value=filler),
        mask,
        torch.nn.functional.pad(points, (0, 7), value=False),
    )
    latents = encoder(x, y, mask, points)
    torch.testing.assert_close(encoder(*padded), latents, **TOLERANCE)
    assert float((encoder(x[:, :9], y[:, :9], mask, points[:, :9]) - latents).abs().max()) > 1e-3


def test_absent_variables_do_not_matter_and_present_ones_do(
    encoder: PointEncoder, data: tuple[Tensor, Tensor, Tensor, Tensor]
) -> None:
    x, y, mask, points = data
    latents = encoder(x, y, mask, points)
    other = torch.where(mask[:, None], x, torch.nan)
    assert torch.equal(encoder(other, y, mask, points), latents)
    changed = x.clone()
    changed[:, :, 0] += 1
    assert bool(((encoder(changed, y, mask, points) - latents).abs().amax((1, 2)) > 1e-2).all())


def test_a_batch_equals_a_loop(encoder: PointEncoder, data: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    whole = encoder(*data)
    for row in range(len(whole)):
        torch.testing.assert_close(encoder(*(t[row : row + 1] for t in data))[0], whole[row], **TOLERANCE)


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False), min_size=1))
def test_the_bits_are_the_number(values: list[float]) -> None:
    features = number_features(torch.tensor(values, dtype=torch.float64))
    assert features.shape == (len(values), N_FEATURES)
    assert bool(torch.isfinite(features).all())
    shifts = torch.arange(N_BITS, dtype=torch.int64)
    pattern = ((features[:, :N_BITS] > 0).to(torch.int64) << shifts).sum(-1)
    read = torch.where(pattern >= 2**31, pattern - 2**32, pattern).to(torch.int32).view(torch.float32)
    assert torch.equal(read, torch.tensor(values, dtype=torch.float32))


def test_numbers_beyond_float32_are_read_at_its_ends() -> None:
    far = number_features(torch.tensor([1e300, -1e300, 1e-300], dtype=torch.float64))
    largest = float(torch.finfo(torch.float32).max)
    near = number_features(torch.tensor([largest, -largest, 0.0], dtype=torch.float64))
    assert torch.equal(far, near)


def test_point_features_have_the_announced_width() -> None:
    features = point_features(
        torch.ones(2, 3, 4, dtype=torch.float64),
        torch.ones(2, 3, dtype=torch.float64),
        torch.ones(2, 4, dtype=torch.bool),
    )
    assert features.shape == (2, 3, n_point_features(4))
