"""Matrices of one shape together take the steps that they take one after the other."""

import pytest
import torch
from torch import Tensor, nn

from emlinit.model.pretraining.muon import BatchedMuon, fastest_dtype, orthogonalised

SHAPES = [(8, 8), (16, 8), (8, 16), (8, 32), (8, 8), (16, 8), (24, 8), (32, 8)]
LARGEST_DIFFERENCE = 5e-5
"""Of steps of some 5e-3: in bfloat16 products of one batch may be added up in another order."""


def _gradients(seed: int) -> list[Tensor]:
    """Of very unequal singular values, as gradients are."""
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(shape, generator=generator) * torch.rand(shape[1], generator=generator) ** 4 for shape in SHAPES
    ]


def test_the_steps_are_those_of_torch() -> None:
    starts = [0.1 * gradient for gradient in _gradients(0)]
    ours, theirs = ([nn.Parameter(start.clone()) for start in starts] for _ in range(2))
    options = {"lr": 2e-3, "weight_decay": 0.03}
    optimisers = (
        BatchedMuon(ours, **options, dtype=torch.bfloat16),
        torch.optim.Muon(theirs, **options, adjust_lr_fn="match_rms_adamw"),
    )
    for seed in range(1, 6):
        for matrices, optimiser in zip((ours, theirs), optimisers, strict=True):
            for matrix, gradient in zip(matrices, _gradients(seed), strict=True):
                matrix.grad = gradient
            optimiser.step()
    for mine, other, start in zip(ours, theirs, starts, strict=True):
        assert float((mine - other).detach().abs().max()) <= LARGEST_DIFFERENCE
        assert float((mine - start).detach().abs().max()) > 50 * LARGEST_DIFFERENCE


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_batch_equals_a_loop(dtype: torch.dtype) -> None:
    matrices = torch.stack([gradient for gradient, shape in zip(_gradients(0), SHAPES, strict=True) if shape == (8, 8)])
    together = orthogonalised(matrices, dtype)
    assert together.dtype == dtype
    for matrix, alone in zip(matrices, together, strict=True):
        torch.testing.assert_close(orthogonalised(matrix[None], dtype)[0], alone, rtol=1e-5, atol=1e-6)


def test_singular_values_come_near_one_and_vectors_stay() -> None:
    generator = torch.Generator().manual_seed(3)
    matrices = torch.randn(4, 12, 20, generator=generator)
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    result = orthogonalised(matrices, torch.float32)
    values = left.mT @ result @ right.mT  # diagonal in the old singular vectors
    diagonal = values.diagonal(dim1=1, dim2=2)
    assert float(diagonal.min()) > 0.6
    assert float(diagonal.max()) < 1.3
    assert float((values - torch.diag_embed(diagonal)).abs().max()) < 1e-4
    assert torch.equal(orthogonalised(torch.zeros(1, 2, 3), torch.float32), torch.zeros(1, 2, 3))


@pytest.mark.parametrize(("has_unit", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_bfloat16_is_for_hardware_that_multiplies_it(
    has_unit: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: has_unit)
    assert fastest_dtype(torch.device("cpu")) == dtype
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_unit)
    assert fastest_dtype(torch.device("cuda")) == dtype
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported")  # of torch alone, which may drop it
    assert fastest_dtype(torch.device("cpu")) == torch.float32
