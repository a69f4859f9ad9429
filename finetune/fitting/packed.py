"""A program's free constants as one packed row per candidate, split into those that enter linearly and the rest.

`y = Re(bias + Σ_t weight_t · source_t)` at the readout, so the readout's own constants are linear in y whatever the
sources are, and everything below the readout is not. Variable projection rests on this split: the linear ones have a
closed form, and only the others need an iteration.

Legend: b batch (candidate), p point, s slot, t term, k packed constant, m all real numbers of a program.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from emlinit.generator.jacobian import Jacobian
from emlinit.generator.program import Programs
from emlinit.generator.records import Records


@dataclass(frozen=True)
class PackedConstants(Records):
    """Where the packed constants of each candidate live in `flatten(programs)`."""

    index: Int64[Tensor, "b k"]
    """Position in the flat row of all m = 2·s·t + 2·s real numbers."""
    used: Bool[Tensor, "b k"]
    """False on padding: candidates have different numbers of free constants."""

    def add(self, flat: Float64[Tensor, "b m"], step: Float64[Tensor, "b k"]) -> Float64[Tensor, "b m"]:
        """The flat rows with `step` added to the packed constants; padding adds nothing."""
        return flat.scatter_add(1, self.index, torch.where(self.used, step, 0.0))

    def derivatives(self, jacobian: Jacobian) -> Float64[Tensor, "b k p"]:
        """Derivatives of y by the packed constants, 0 on padding."""
        by_weight = jacobian.d_weight.permute(0, 2, 3, 4, 1).flatten(1, 3)
        by_bias = jacobian.d_bias.permute(0, 2, 3, 1).flatten(1, 2)
        n_weight = by_weight.shape[1]
        out = by_weight.new_zeros(*self.index.shape, by_weight.shape[2])
        for source, mask, first in (
            (by_weight, self.used & (self.index < n_weight), 0),
            (by_bias, self.used & (self.index >= n_weight), n_weight),
        ):
            row, column = mask.nonzero(as_tuple=True)
            out[row, column] = source[row, self.index[row, column] - first]
        return out


def flatten(programs: Programs) -> Float64[Tensor, "b m"]:
    """All weights and biases of each candidate in one row, weights first."""
    return torch.cat([programs.weight.flatten(1), programs.bias.flatten(1)], 1)


def unflatten(programs: Programs, flat: Float64[Tensor, "b m"]) -> Programs:
    """`programs` with the weights and biases of `flat`."""
    n_weight = programs.weight[0].numel()
    weight = flat[:, :n_weight].reshape(programs.weight.shape)
    return programs.with_constants(weight, flat[:, n_weight:].reshape(programs.bias.shape))


def split_constants(programs: Programs) -> tuple[PackedConstants, PackedConstants]:
    """The free constants of the readout (linear in y) and those below it."""
    weight, bias = programs.free_weight.clone(), programs.free_bias.clone()
    weight[:, :-1], bias[:, :-1] = False, False
    bias[:, -1, 1] = False  # the imaginary part of the readout's bias does not reach y
    linear = torch.cat([weight.flatten(1), bias.flatten(1)], 1)
    weight, bias = programs.free_weight.clone(), programs.free_bias.clone()
    weight[:, -1], bias[:, -1] = False, False
    below = torch.cat([weight.flatten(1), bias.flatten(1)], 1)
    return _pack(linear), _pack(below)


def _pack(mask: Bool[Tensor, "b m"]) -> PackedConstants:
    count = mask.sum(1)
    width = int(count.max()) if len(mask) else 0
    index = mask.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :width]
    return PackedConstants(index, torch.arange(width, device=mask.device) < count[:, None])
