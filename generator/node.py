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
- *Scaled* numbers, m · exp(s), hold what no double holds. A logarithm needs no more, ln(m) + s; so a node may be as large as
  exp(1e100) where its reader takes its logarithm or divides it away, and only an exponential of what is huge is a true
  overflow (and 0, if its real part is below zero). This is one level of the level-index arithmetic of Clenshaw and Olver
  (1984). Tiny numbers are held so, too, where nothing is subtracted from them: exp(-800) - ln(1). It is several times
  slower, and for the few points that overflow otherwise.

Where everything is real the evaluators take `exp` and `log` of real tensors instead: no angle, and ln(r) for ln(r²) / 2.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

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
    product with sin(0) would be NaN. And where it is pi or -pi, as that of the logarithm of a negative number: the sine of
    the double next to pi, 1e-16, would put that number beside the branch cut, on either side of it.
    """
    return magnitude * angle.cos(), torch.where(_is_real(angle), 0.0, magnitude * angle.sin())


def _is_real(angle: Float[Tensor, "*n"]) -> Bool[Tensor, "*n"]:
    """Whether the angle is that of a real number: 0, or the floating-point number nearest to pi or -pi."""
    return (angle == 0) | (angle.abs() == math.pi)  # of float32, too: the comparison is in its type


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


class Scaled(NamedTuple):
    """Complex numbers (re + i im) · exp(scale) and what they may be wrong by; see the module."""

    re: Tensor
    im: Tensor
    """Their parts."""
    scale: Tensor
    """Natural logarithm of the unit that the parts are in; 0 for numbers that a double holds."""
    error: Tensor
    """Error bound of first order, in that unit. Above `LARGEST_UNSURE` of the number nothing but its logarithm is known."""

    def rows(self, index: Tensor) -> "Scaled":
        """Some rows."""
        return Scaled(*(part.index_select(0, index) for part in self))


LARGEST_UNSURE = 0.1
"""Error of an argument up to which a first-order bound is one."""
_SURELY_NEGATIVE = 1e-3  # of a huge number's modulus: its real part, from which on its exponential is 0


def amplify(error: Tensor, magnitude: Tensor | float) -> Tensor:
    """`error / magnitude`, growing to infinity (or NaN) as the error reaches a tenth of the magnitude, in place."""
    if isinstance(magnitude, Tensor):
        return error.div_(torch.sub(magnitude, error, alpha=10.0).clamp_min_(0.0))
    return error.div_(torch.rsub(error, magnitude, alpha=10.0).clamp_min_(0.0))


_ABSORBED = 1e-8  # of the other argument: with less than this beside it an argument tells nothing apart


def absorbs(exponential: Parts, log_right: Parts, fraction: Tensor | float = 1.0) -> Bool[Tensor, "*n"]:
    """Where one of exp(l) and ln(r) is nothing beside the other, so that their difference says nothing of it; a logarithm
    of exactly 0 may be. `fraction` is the unit of ln(r), in those of exp(l)."""
    e, log = (torch.maximum(re.abs(), im.abs()) for re, im in (exponential, log_right))
    return (e < _ABSORBED * log * fraction) | ((log * fraction < _ABSORBED * e) & (log != 0))


def is_negligible(re: Float[Tensor, "*n"], im: Float[Tensor, "*n"]) -> Bool[Tensor, "*n"]:
    """Where a number, not 0, is nothing beside 1, so that its exponential says nothing of it."""
    size = torch.maximum(re.abs(), im.abs())
    return (size < _ABSORBED) & (size != 0)


def scaled_eml(
    left: Scaled, right: Scaled, ceiling: float, *, faithful: bool = False
) -> tuple[Scaled, Parts, Bool[Tensor, "*n"]]:
    """eml(left, right) of scaled numbers.

    Args:
        left: l.
        right: r.
        ceiling: largest size of a double; nodes beyond it are scaled.
        faithful: whether a node of which one argument is absorbed counts as unknown (see `absorbs`).

    Returns:
        the node, exp(l) in the unit of the node, and where it is a true overflow or undefined.
    """
    unit = 4 * torch.finfo(left.re.dtype).eps
    limit = math.log(ceiling)
    shrink = left.scale.clamp_max(0.0).exp()
    l_re, l_im, l_error = left.re * shrink, left.im * shrink, left.error * shrink
    beyond = left.scale > 0
    size = torch.maximum(l_re.abs(), l_im.abs())
    falls = beyond & (l_re < -_SURELY_NEGATIVE * size) & (l_error < 0.1 * _SURELY_NEGATIVE * size)
    overflows = beyond & ~falls
    is_one = (right.re == 1) & (right.im == 0) & (right.scale == 0) & (right.error == 0)
    is_scaled = ~beyond & ((l_re > limit) | (is_one & (l_re < -limit)))
    scale = torch.where(is_scaled, l_re, 0.0)
    magnitude = torch.where(falls, 0.0, (l_re - scale).exp()).masked_fill(overflows, torch.nan)
    exponential = exp_parts(magnitude, torch.where(beyond, 0.0, l_im))
    doubt = torch.where(is_scaled, l_error, amplify(l_error.clone(), 1.0)) + unit * (1.0 + l_im.abs())
    # An argument that is not known well may still be known to be far below zero: so is its exponential then.
    vague = ~is_scaled & ~(l_error < LARGEST_UNSURE)
    doubt = torch.where(vague, 2.0 * (l_re + l_error).clamp_max(limit).exp(), doubt * magnitude).masked_fill(falls, 0.0)

    modulus = torch.hypot(right.re, right.im)
    log_re, log_im = modulus.log() + right.scale, torch.atan2(_positive_zero(right.im), right.re)
    log_error = torch.where(right.scale == 0, amplify(right.error.clone(), modulus), right.error / modulus)
    log_error = log_error + unit * (1.0 + log_re.abs())
    on_cut = (right.re < 0) & (right.im != 0) & (right.im.abs() <= right.error)
    log_error = torch.where(is_one, 0.0, log_error.masked_fill(on_cut, torch.inf))
    fraction = (-scale.clamp_min(0.0)).exp()
    node = Scaled(
        exponential[0] - log_re * fraction,
        exponential[1] - log_im * fraction,
        scale,
        doubt + torch.where(fraction == 0, 0.0, log_error * fraction),
    )
    if faithful:
        absorbed = absorbs(exponential, (log_re, log_im), fraction) | is_negligible(l_re, l_im)
        node = node._replace(error=node.error.masked_fill(absorbed, torch.inf))
    lost = overflows | ~within(node.re, node.im, ceiling) | ~(scale.abs() <= ceiling) | (modulus == 0)
    return node, exponential, lost


def scaled_sum(terms: Sequence[tuple[Scaled, Tensor, Tensor]], bias: Sequence[Tensor], ceiling: float) -> Scaled:
    """bias + Σ weight · number, complex.

    Args:
        terms: number, real and imaginary part of its weight.
        bias: real and imaginary part.
        ceiling: largest size of a double.
    """
    none = terms[0][0].re.new_full((), -torch.inf)
    sizes = [re.abs() + im.abs() for _, re, im in terms]
    bias_size = bias[0].abs() + bias[1].abs()
    scale = torch.where(bias_size > 0, 0.0, none).expand_as(terms[0][0].re)
    for (number, _, _), size in zip(terms, sizes, strict=True):
        used = (size > 0) & ((number.re != 0) | (number.im != 0))
        scale = torch.maximum(scale, torch.where(used, number.scale, none))
    scale = torch.where(scale == none, 0.0, scale)
    share = (-scale).exp()
    re, im, whole = bias[0] * share, bias[1] * share, bias_size * share
    error = torch.zeros_like(scale)
    for (number, weight_re, weight_im), size in zip(terms, sizes, strict=True):
        share = torch.where(size > 0, (number.scale - scale).exp(), 0.0)
        part_re, part_im = number.re * share, number.im * share
        re = re + part_re * weight_re - part_im * weight_im
        im = im + part_im * weight_re + part_re * weight_im
        vague = number.error >= LARGEST_UNSURE * torch.maximum(number.re.abs(), number.im.abs())
        own = torch.where((number.scale != 0) & vague, torch.inf, number.error) * share * size
        error = error + torch.where(size > 0, own, 0.0)
        whole = whole + (part_re.abs() + part_im.abs()) * size
    unit = 4 * torch.finfo(scale.dtype).eps
    return in_doubles(Scaled(re, im, scale, error + unit * whole), ceiling)


def in_doubles(number: Scaled, ceiling: float) -> Scaled:
    """The same numbers, without a scale where a double can hold them and they are known that well."""
    size = torch.maximum(number.re.abs(), number.im.abs())
    fits = (size.log() + number.scale <= math.log(ceiling)) & (number.scale != 0)
    half = torch.where(fits, number.scale / 2, 0.0).exp()  # twice, as the whole may overflow
    known = number.error < LARGEST_UNSURE * size
    error = torch.where(fits & ~known, torch.inf, number.error * half * half)
    return Scaled(number.re * half * half, number.im * half * half, number.scale.masked_fill(fits, 0.0), error)


def log_branch_cut(z: Complex128[Tensor, "*n"]) -> Complex128[Tensor, "*n"]:
    """Principal logarithm with Im in (-pi, pi], also where the imaginary part of a negative number is -0."""
    return torch.log(_positive_zero(z))


def exp_branch_cut(z: Complex128[Tensor, "*n"]) -> Complex128[Tensor, "*n"]:
    """Exponential, real where Im z is pi or -pi: the logarithm of a negative number leads back to it."""
    exponential = torch.exp(z)
    return torch.complex(exponential.real, exponential.imag.masked_fill(z.imag.abs() == math.pi, 0.0))


def log_of_node(
    value: Complex128[Tensor, "*#n"], left: Complex128[Tensor, "*#n"], log_right: Complex128[Tensor, "*#n"]
) -> Complex128[Tensor, "*#n"]:
    """Principal logarithm of nodes of the values exp(l) - ln(r), also where those are infinite, as no double holds them:
    there it is l + ln(1 - ln(r) exp(-l))."""
    log, huge = log_branch_cut(value), torch.isinf(value)
    if bool(huge.any()):
        argument = left.expand_as(value)[huge]
        held = argument + torch.log(1.0 - log_right.expand_as(value)[huge] * torch.exp(-argument))
        turns = torch.ceil((held.imag - math.pi) / (2 * math.pi))
        log[huge] = torch.complex(held.real, held.imag - 2 * math.pi * turns)
    return log


def eml(left: Complex128[Tensor, "*#n"], right: Complex128[Tensor, "*#n"]) -> Complex128[Tensor, "*#n"]:
    """The node's values."""
    return exp_branch_cut(left) - log_branch_cut(right)


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
