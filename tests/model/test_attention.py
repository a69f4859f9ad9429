"""Attention is what its formula says, hidden keys have no weight, and no later position is seen."""

import math

import pytest
import torch
from torch import Tensor

from emlinit.model.attention import attend


def _heads(n_queries: int, n_keys: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(n_queries)
    return tuple(  # type: ignore[return-value]
        torch.randn(3, 2, n, 8, generator=generator).to(device).requires_grad_(True)
        for n in (n_queries, n_keys, n_keys)
    )


def _formula(query: Tensor, key: Tensor, value: Tensor, visible: Tensor) -> Tensor:
    weight = (query @ key.mT / math.sqrt(query.shape[-1])).exp() * visible
    return weight / weight.sum(-1, keepdim=True) @ value


@pytest.mark.parametrize("kind", ["all", "hidden", "causal"])
def test_values_and_gradients_are_those_of_the_formula(kind: str, device: torch.device) -> None:
    n_queries, n_keys = (6, 6) if kind == "causal" else (5, 7)
    heads = _heads(n_queries, n_keys, device)
    visible = torch.ones(3, 1, 1, n_keys, dtype=torch.bool, device=device)
    visible[0, ..., 3:] = False
    order = torch.ones(n_queries, n_keys, dtype=torch.bool, device=device).tril()
    if kind == "causal":
        found, expected = attend(*heads, causal=True), _formula(*heads, order)
    elif kind == "hidden":
        found, expected = attend(*heads, visible), _formula(*heads, visible)
    else:
        found, expected = attend(*heads), _formula(*heads, torch.ones_like(visible))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(0)).to(device)
    gradients = [torch.autograd.grad((result * weights).sum(), heads) for result in (found, expected)]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_a_mask_of_ones_is_no_mask(device: torch.device) -> None:
    heads = _heads(5, 7, device)
    torch.testing.assert_close(attend(*heads, torch.ones(1, 1, 1, 7, dtype=torch.bool, device=device)), attend(*heads))


def test_no_plan_is_made_for_each_shape() -> None:
    assert not torch.backends.cuda.cudnn_sdp_enabled()
