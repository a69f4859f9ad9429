"""The one operator on numbers: eml(l, r) = exp(l) - ln(r), complex, forwards, differentiated and solved for an argument.

    forward       exp(l) = e^(Re l) (cos Im l + i sin Im l)        ln(r) = ln(|r|²) / 2 + i atan2(Im r, Re r)
    derivative    d/dl = exp(l)                                    d/dr = -1 / r
    inversion     exp(l) = eml(l, r) + ln(r)                       ln(r) = exp(l) - eml(l, r)

Notable:
- The logarithm is the principal one, Im ln in (-pi, pi]. A negative number with the imaginary part -0 lies *on* the cut, yet
  `atan2` and `torch.log` put it below and say -pi. Such zeros do arise (e^-800 exp(-i) is -0 in its imaginary part), so
  negative zeros are made positive first: `_positive_zero`, and every logarithm of ours goes through it.
- The operator is holomorphic, so the reverse sweep needs one complex adjoint `a` with dy = Re(a · d node).
- Two forms of a complex number, by use. *Parts*, two real tensors (float64 or float32), where many points are evaluated: a
  complex `exp` or `log` of PyTorch costs three times as much. complex128 where values are compared to the last digits and
  solved for: there |r|² must not overflow. They differ in the last bit, so neither stands in for the other.
- Overflow, ln 0 and what comes of them stay visible as inf and NaN: it is for the callers to mark such points (`within`).

Where everything is real the evaluators take `exp` and `log` of real tensors instead: no angle, and ln(r) for ln(r²) / 2.
"""

import math

import torch
from jaxtyping import Bool, Complex128, Float
from torch import Tensor

Parts = tuple[Tensor, Tensor]
"""Real and imaginary part, two real tensors of one shape."""
CEILING = {torch.float64: 1e100, torch.float32: 1e18}
"""Largest absolute value a node may have; its square must not overflow in the complex logarithm."""


def _positive_zero(number: Tensor) -> Tensor:
    """The same numbers, real or complex, but 0 for -0: the branch cut belongs to +pi."""
    return number + 0.0


def exp_parts(magnitude: Float[Tensor, "*n"], angle: Float[Tensor, "*n"]) -> Parts:
    """magnitude · exp(i angle), the exponential of ln(magnitude) + i angle.

    Where the angle is 0 the imaginary part is 0: a real argument stays real even where the magnitude overflows, whose
    product with sin(0) would be NaN.
    """
    return magnitude * angle.cos(), torch.where(angle == 0, 0.0, magnitude * angle.sin())


def log_parts(re: Float[Tensor, "*n"], im: Float[Tensor, "*n"]) -> tuple[Parts, Float[Tensor, "*n"]]:
    """Principal logarithm, and the squared modulus, which does not overflow below `CEILING`."""
    squared = re.square().add_(im.square())
    return (squared.log().mul_(0.5), torch.atan2(_positive_zero(im), re)), squared


def forward(left: Parts, right: Parts, out: Parts) -> tuple[Parts, Tensor, Tensor]:
    """Write eml(left, right) into `out`; the real part of `left` is overwritten with its exponential, |exp(l)|.

    Returns:
        exp(l), Re ln(r) and |r|², of which callers make error bounds and derivatives.
    """
    magnitude = left[0].exp_()
    (log_re, log_im), squared = log_parts(*right)
    exponential = exp_parts(magnitude, left[1])
    torch.sub(exponential[0], log_re, out=out[0])
    torch.sub(exponential[1], log_im, out=out[1])
    return exponential, log_re, squared


def within(re: Float[Tensor, "*n"], im: Float[Tensor, "*n"], ceiling: float) -> Bool[Tensor, "*n"]:
    """Where both parts are at most `ceiling` in size; False for NaN."""
    return (re.abs() <= ceiling) & (im.abs() <= ceiling)


def reciprocal(re: Float[Tensor, "*n"], im: Float[Tensor, "*n"], squared: Float[Tensor, "*n"]) -> Parts:
    """1 / z from the parts of z and |z|², in place of the parts."""
    return re.div_(squared), im.neg_().div_(squared)


def reverse(adjoint: Parts, exponential: Parts, reciprocal_right: Parts) -> tuple[Parts, Parts]:
    """Adjoints of the left and of the right argument, a · exp(l) and -a / r, from that of the node."""
    (a_re, a_im), (e_re, e_im), (q_re, q_im) = adjoint, exponential, reciprocal_right
    left = a_re * e_re - a_im * e_im, a_re * e_im + a_im * e_re
    right = a_im * q_im - a_re * q_re, -(a_re * q_im + a_im * q_re)
    return left, right


def log_branch_cut(z: Complex128[Tensor, "*n"]) -> Complex128[Tensor, "*n"]:
    """Principal logarithm with Im in (-pi, pi], also where the imaginary part of a negative number is -0."""
    return torch.log(_positive_zero(z))


def eml(left: Complex128[Tensor, "*#n"], right: Complex128[Tensor, "*#n"]) -> Complex128[Tensor, "*#n"]:
    """The node's values."""
    return torch.exp(left) - log_branch_cut(right)


def solve_left(value: Complex128[Tensor, "*#n"], log_right: Complex128[Tensor, "*#n"]) -> Complex128[Tensor, "*#n"]:
    """The exp(l) of a node that has the values `value` over the right argument with the logarithm `log_right`. It exists
    always; l itself is known up to multiples of 2 pi i."""
    return value + log_right


def solve_right(value: Complex128[Tensor, "*#n"], exp_left: Complex128[Tensor, "*#n"]) -> Complex128[Tensor, "*#n"]:
    """The ln(r) of a node that has the values `value` beside a left argument with the exponential `exp_left`; NaN where
    there is no such r."""
    return principal_only(exp_left - value)


def principal_only(log_value: Complex128[Tensor, "*n"]) -> Complex128[Tensor, "*n"]:
    """NaN where a number cannot be a principal logarithm (with a margin for rounding)."""
    outside = (log_value.imag > math.pi * (1 + 1e-9)) | (log_value.imag <= -math.pi * (1 - 1e-9))
    return log_value.masked_fill(outside, complex("nan"))
