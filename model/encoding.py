"""Numbers as features that a network can read exactly and in scale.

Each number becomes the 32 bits of its float32 form (exact: sign, 8 exponent bits, 23 mantissa bits; half precision bits as
in NeSymReS, arXiv 2106.06427, lose the low digits), the low mantissa bits scaled down so that what is noise to a beginner
does not drown what is not, and smooth features of its size: sign, log2|x| coarse and fine, asinh, tanh, mantissa, x and
exp(x) where they are small, and waves of asinh(x) at four scales.
The range is that of float32: magnitudes above 3.4e38 are read as 3.4e38, below 1.2e-38 as 0.

Legend: b batch, p point, v input variable, n number (variables, then y), f feature.
"""

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Float32
from torch import Tensor

N_BITS = 32
_WAVES = (1.0, 2.0, 4.0, 8.0)
N_SCALE = 8 + 2 * len(_WAVES)
N_FEATURES = N_BITS + N_SCALE
"""Features of one number."""

_LARGEST = torch.finfo(torch.float32).max
_SMALLEST = torch.finfo(torch.float32).tiny


def number_features(values: Float[Tensor, "*shape"]) -> Float32[Tensor, "*shape f"]:
    """Features of each number, float32 with a new last axis of `N_FEATURES`; finite input only."""
    single = values.clamp(-_LARGEST, _LARGEST).to(torch.float32)
    single = torch.where(single.abs() < _SMALLEST, 0.0, single)
    shifts = torch.arange(N_BITS, dtype=torch.int32, device=values.device)
    bits = (single.contiguous().view(torch.int32)[..., None] >> shifts) & 1
    mantissa, exponent = torch.frexp(single)
    log2 = torch.where(single == 0, -126.0, exponent + torch.log2(mantissa.abs().clamp_min(0.5)))
    size = torch.asinh(single)
    scale = [
        single.sign(),
        log2 / 32,
        (log2 / 4).clamp(-4, 4),
        size / 2,
        torch.tanh(single),
        mantissa,
        single.clamp(-4, 4) / 2,
        single.clamp(-8, 3).exp() / 4,
    ]
    for frequency in _WAVES:
        scale += [torch.sin(frequency * size), torch.cos(frequency * size)]
    weight = torch.cat([torch.linspace(0.1, 0.5, 23), torch.full((9,), 0.5)]).to(values.device)
    return torch.cat([(bits.to(torch.float32) * 2 - 1) * weight, torch.stack(scale, dim=-1)], dim=-1)


def n_point_features(n_variables: int) -> int:
    """Width of `point_features` with `n_variables` columns."""
    return (n_variables + 1) * N_FEATURES + n_variables


def point_features(
    x: Float[Tensor, "b p v"], y: Float[Tensor, "b p"], variable_mask: Bool[Tensor, "b v"]
) -> Float32[Tensor, "b p f"]:
    """Features of each point: all variables, then y, then one presence flag a variable.

    Absent variables (False in `variable_mask`) give zeros whatever their column holds.
    """
    shown = repeat(variable_mask, "b v -> b p v", p=x.shape[1])
    numbers = torch.cat([torch.where(shown, x, 0.0), rearrange(y, "b p -> b p 1")], dim=-1)
    features = number_features(numbers)
    present = torch.nn.functional.pad(variable_mask, (0, 1), value=True).to(torch.float32)
    features = rearrange(features * rearrange(present, "b n -> b 1 n 1"), "b p n f -> b p (n f)")
    return torch.cat([features, shown.to(torch.float32)], dim=-1)
