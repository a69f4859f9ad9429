"""How residuals count: the weights of the rows, their errors where they are known, and the loss.

Residuals e = r √w, with weights of mean 1, count as one of three losses:

    squares   Σ e²
    huber     the least Σ s (β + B(e/s)) over s, B(z) = z² up to |z| = M and 2 M |z| - M² beyond (Huber 1981, sections
              7.7 and 7.8; β = E min(z², M²) makes s the standard deviation of normal errors)
    l1        Σ |e|, rounded off near 0

The robust ones are sums of squares with weights that follow the residuals, and are minimised as such. Of laws beside one
another it is s that tells (Huber's proposal 2): it solves Σ min(e²/s², M²) = n β, so that a row far off counts as one of M
standard deviations, wherever it is. What stands for the mean squared error is s² then, for both.

Legend: p point.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

SQUARES = "squares"
"""The loss of least squares; the others are `huber` and `l1`."""
_M = 1.345  # standard deviations: 95 % efficient for normal errors (Huber 1981, section 4.2)
_BETA = (
    math.erf(_M / math.sqrt(2))
    - _M * math.sqrt(2 / math.pi) * math.exp(-_M * _M / 2)
    + _M * _M * math.erfc(_M / math.sqrt(2))
)
_FAR = 3.0  # robust standard deviations
_ROUND = 0.02  # of the mean |e|: nearer to 0 than this |e| is a parabola
_ROUNDING = 1e-14  # of the largest |e|: the least scale


@dataclass(frozen=True, eq=False)
class Misfit:
    """How residuals count."""

    loss: str = SQUARES
    """`squares`, `huber` or `l1`."""
    weights: Float64[Tensor, " p"] | None = None
    """Of the rows, positive, of mean 1; None: all alike. The error of a row of weight w is σ/√w."""
    sigma: float | None = None
    """The standard deviation of a row of weight 1, in units of y, if the errors of the rows are known."""

    @property
    def is_robust(self) -> bool:
        """Whether rows that are far off count less than by their squares."""
        return self.loss != SQUARES

    @cached_property
    def is_plain(self) -> bool:
        """Whether it is that of ordinary least squares."""
        return not self.is_robust and self.weights is None

    def rows(self, rows: Tensor | slice) -> "Misfit":
        """That of some rows; their weights keep the scale of the others."""
        return self if self.weights is None else Misfit(self.loss, self.weights[rows], self.sigma)

    def to(self, device: torch.device) -> "Misfit":
        """The same on a device."""
        return self if self.weights is None else Misfit(self.loss, self.weights.to(device), self.sigma)

    def scaled(self, residual: Float64[Tensor, "*b p"]) -> Float64[Tensor, "*b p"]:
        """Residuals as if all rows were measured alike."""
        return residual if self.weights is None else residual * self.weights.sqrt()

    def mse(self, residual: Float64[Tensor, "*b p"]) -> Float64[Tensor, "*b"]:
        """What stands for the mean squared error: weighted, or the square of the robust scale."""
        e = self.scaled(residual)
        if self.is_robust:
            return robust_scale(e, torch.ones_like(e, dtype=torch.bool)).square()
        mean: Tensor = e.square().mean(-1)
        return mean if self.weights is None else mean / self.weights.mean()

    def variance(self, y: Float64[Tensor, " p"]) -> float:
        """That of the targets about the constant that fits them best: about their weighted mean, or their median."""
        if self.is_robust:
            scale = float(self.mse(y - y.median()))
            if scale > 0:
                return scale
        w = torch.ones_like(y) if self.weights is None else self.weights
        mean = (w * y).sum() / w.sum()
        return float((w * (y - mean).square()).sum() / w.sum())

    def described(self, mse: Float64[Tensor, "*b"]) -> Float64[Tensor, "*b"]:
        """Mean squared errors for the length of a description: known errors are not got below.

        With errors known, -ln L = n/2 q with q = χ²/n; unknown, n/2 ln q. Above q = 1 the second stands, so that errors
        that were given too small do no harm; below it the first, which has the same slope there.
        """
        if self.sigma is None:
            return mse
        q = mse / self.sigma**2
        return torch.where(q < 1, self.sigma**2 * (q - 1).exp(), mse)

    def sound(self, residual: Float64[Tensor, " p"]) -> Bool[Tensor, " p"]:
        """The rows that may be shown to what cannot weigh them: all, or with a robust loss those that are not far off."""
        if not self.is_robust or not bool(residual.isfinite().all()):
            return torch.ones_like(residual, dtype=torch.bool)
        e = self.scaled(residual).abs()
        return e <= torch.maximum(_FAR * robust_scale(e, torch.ones_like(e, dtype=torch.bool)), e.median())

    def fixed_weights(self, residual: Float64[Tensor, " p"]) -> Float64[Tensor, " p"] | None:
        """Weights with which least squares has its minimum where the loss has it, for a law with these residuals."""
        if not self.is_robust or not bool(residual.isfinite().all()):
            return self.weights
        e = self.scaled(residual)
        weights = robust_weights(e, torch.ones_like(e, dtype=torch.bool), self.loss).weights
        weights = weights if self.weights is None else weights * self.weights
        return weights / weights.mean()


PLAIN = Misfit()
"""That of ordinary least squares."""


@dataclass(frozen=True, eq=False)
class RobustWeights:
    """A robust loss at some residuals, as one of squares."""

    weights: Float64[Tensor, "*b p"]
    """Of the squares e²: with these held fixed, Σ weights e² / n changes as `objective` does, to first order."""
    objective: Float64[Tensor, "*b"]
    """The loss, as a mean squared error: e times k makes it k² times as large."""
    scale: Float64[Tensor, "*b"]
    """The robust scale."""


def robust_weights(e: Float64[Tensor, "*b p"], valid: Bool[Tensor, "*b p"], loss: str) -> RobustWeights:
    """A robust loss of residuals, those that are not valid left out."""
    n, size = valid.sum(-1).clamp_min(1), torch.where(valid, e, 0.0).abs()
    scale = robust_scale(e, valid)
    if loss == "l1":
        mean = size.sum(-1) / n
        near = (_ROUND * mean).clamp_min(torch.finfo(size.dtype).tiny)[..., None]
        rounded = torch.where(size > near, size, size.square() / (2 * near) + near / 2)
        rounded = torch.where(valid, rounded, 0.0).sum(-1) / n
        weights = (math.pi / 2) * rounded[..., None] / torch.maximum(size, near)
        return RobustWeights(weights, (math.pi / 2) * rounded.square(), scale)
    s = scale.clamp_min(torch.finfo(size.dtype).tiny)
    z = size / s[..., None]
    huber = torch.where(z <= _M, z.square(), 2 * _M * z - _M * _M)
    whole = s * (_BETA + torch.where(valid, huber, 0.0).sum(-1) / n)
    weights = (whole / (2 * _BETA * s))[..., None] * (_M / z.clamp_min(_M))
    return RobustWeights(weights, whole.square() / (4 * _BETA), scale)


def robust_scale(e: Float64[Tensor, "*b p"], valid: Bool[Tensor, "*b p"]) -> Float64[Tensor, "*b"]:
    """s of Σ min(e²/s², M²) = n β over the valid ones: the standard deviation of normal errors, whatever up to two fifths of
    them are; 0 if more than three fifths are 0."""
    size = torch.where(valid, e.abs(), torch.inf).sort(-1).values
    n = valid.sum(-1, keepdim=True)
    inside = torch.where(size.isfinite(), size, 0.0)
    squares = inside.square().cumsum(-1)
    count = torch.arange(1, e.shape[-1] + 1, dtype=e.dtype, device=e.device)
    # With s at the k-th smallest over M: whether s is still too small.
    sum_there = _M * _M * (squares / inside.square().clamp_min(torch.finfo(e.dtype).tiny) + n - count)
    small = (sum_there >= n * _BETA) & size.isfinite() & (inside > 0)
    k = torch.where(small, count, 0.0).amax(-1, keepdim=True)
    # None of the k smallest is cut off then, and all others are.
    left = torch.where(k > 0, squares.gather(-1, (k.long() - 1).clamp_min(0)), 0.0)
    scale = (left / (n * _BETA - _M * _M * (n - k)).clamp_min(torch.finfo(e.dtype).tiny)).sqrt()[..., 0]
    return torch.where(k[..., 0] > 0, scale, _ROUNDING * inside.amax(-1))
