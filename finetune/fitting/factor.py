"""The triangular factor of [Jacobian | residual] for many programs, over chunks of points.

Memory does not grow with the number of points, and no normal equations are formed: their condition number is the square
of the Jacobian's.

Legend: b batch (candidate), p point, v input variable, k packed constant.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from emlinit.finetune.fitting.misfit import SQUARES
from emlinit.finetune.fitting.packed import PackedConstants
from emlinit.generator.errors import UserError
from emlinit.generator.jacobian import value_and_jacobian
from emlinit.generator.program import Programs

_LARGEST_DERIVATIVE = 1e140  # its square must stay finite
_POINTS_AT_ONCE = 4096  # most points for which a chunk of candidates is sized; more come in chunks themselves


@dataclass(frozen=True)
class FitData:
    """Points to fit to, shared by all candidates or one set for each."""

    x: Tensor
    """Points (p, v), or (b, p, v)."""
    y: Tensor
    """Targets (p,), or (b, p)."""
    weights: Tensor
    """Weights (p,), or (b, p), non-negative, summing to 1 over the points."""
    loss: str = SQUARES
    """What the residuals count as (see `misfit`)."""

    def rows(self, rows: Tensor) -> "FitData":
        """The data of some candidates; what is shared by all stays as it is."""
        return FitData(
            self.x if self.x.ndim == 2 else self.x[rows],
            self.y if self.y.ndim == 1 else self.y[rows],
            self.weights if self.weights.ndim == 1 else self.weights[rows],
            self.loss,
        )

    def points(self, first: int, last: int) -> "FitData":
        """Some of the points, for all candidates."""
        return FitData(self.x[..., first:last, :], self.y[..., first:last], self.weights[..., first:last], self.loss)


def fit_data(
    x: Float64[Tensor, "... p v"],
    y: Float64[Tensor, "... p"],
    weights: Float64[Tensor, "... p"] | None,
    loss: str = SQUARES,
) -> FitData:
    """Check the shapes and normalise the weights (None: all alike).

    Raises:
        UserError: no points, or shapes or weights that cannot be used.
    """
    if y.shape[-1] == 0 or x.shape[-2] != y.shape[-1]:
        raise UserError(f"x has {x.shape[-2]} points and y {y.shape[-1]}: give the same number, at least one")
    weights = torch.ones_like(y) if weights is None else weights
    total = weights.sum(-1, keepdim=True)
    if weights.shape[-1] != y.shape[-1] or bool((weights < 0).any()) or not bool((total > 0).all()):
        raise UserError("weights must be one non-negative number a point, not all zero")
    return FitData(x, y, weights / total, loss)


def factorise(
    programs: Programs, linear: PackedConstants, below: PackedConstants, data: FitData, chunk_numbers: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Factorise [J_lin | J_below | r], rows weighted by the root of the weights, invalid points left out.

    Returns:
        The triangular factor (b, k + 1, k + 1), the (weighted) share of valid points (b,), and the (weighted) mean of
        y², valid points counting as 0 (b,).
    """
    b, p = len(programs), data.y.shape[-1]
    numbers = programs.weight[0].numel() + programs.bias[0].numel()
    rows = max(1, min(b, chunk_numbers // (numbers * min(p, _POINTS_AT_ONCE))))
    if rows < b:
        parts = [
            factorise(programs.rows(chunk), linear.rows(chunk), below.rows(chunk), data.rows(chunk), chunk_numbers)
            for chunk in torch.split(torch.arange(b, device=data.y.device), rows)
        ]
        return (
            torch.cat([a for a, _, _ in parts]),
            torch.cat([a for _, a, _ in parts]),
            torch.cat([a for *_, a in parts]),
        )
    width = linear.index.shape[1] + below.index.shape[1] + 1
    factor = data.y.new_zeros(b, 0, width)  # of the points so far
    valid_share, penalty = data.y.new_zeros(b), data.y.new_zeros(b)
    points = max(1, chunk_numbers // (numbers * b))
    for first in range(0, p, points):
        part = data.points(first, first + points)
        jacobian = value_and_jacobian(programs, part.x)
        weights = torch.where(jacobian.valid, part.weights, 0.0)
        residual = (part.y - jacobian.value)[:, None]
        block = torch.cat([linear.derivatives(jacobian), below.derivatives(jacobian), residual], 1)
        largest = block[:, :-1].abs().amax(1) if width > 1 else torch.zeros_like(weights)
        if not bool((largest < _LARGEST_DERIVATIVE).all()):  # also where it is NaN
            block[:, :-1] = torch.where((largest < _LARGEST_DERIVATIVE)[:, None], block[:, :-1], 0.0)
        block *= weights.sqrt()[:, None]
        factor = torch.linalg.qr(torch.cat([factor, block.mT], 1) if first else block.mT, mode="r").R
        valid_share = valid_share + weights.sum(1)
        penalty = penalty + ((part.weights - weights) * part.y.square()).sum(1)
    if factor.shape[1] < width:  # fewer points than constants
        factor = torch.nn.functional.pad(factor, (0, 0, 0, width - factor.shape[1]))
    return factor, valid_share, penalty
