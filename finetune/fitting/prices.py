"""What a law costs to write down, in nats: the one list of prices that searching, snapping and choosing pay by.

The description of n targets with a law is

    n/2 · ln(mse)  +  constants  +  form,

the residuals at the precision that the law leaves, its constants, its shape. Three are priced, for three moments:

    a program      while there are thousands of candidates: `description_nats`, from counts alone. 1 nat a node and a
                   term; a constant ln(n)/2 and the digits that one point fixes.
    a formula      when one of a few is chosen: `description_length`, from what is printed. `NATS_PER_NODE` a node,
                   a shape that has a name being as many nodes as its numbers and two or three more. Residuals and
                   constants together are less the logarithm of the probability of the targets, whatever the error's size
                   and the constants may be:

                       (n-k)/2 ln(π R) - ln Γ((n-k)/2) + k/2 ln(n s²)

                   R the squared residuals' sum, s the spread of the targets. The error's size σ is integrated out with
                   density 1/σ; each constant moves the law along one direction of the n targets, a priori anywhere in s √n
                   (Jeffreys 1961; Kass & Raftery 1995). So with many points a constant costs ln(n)/2 and the digits that
                   one point fixes, as in Rissanen 1978: the better the data, the more a fitted 0.9965 costs that could be
                   1. With few points it takes one of n - k degrees of freedom: eight points do not buy a law of six
                   constants, while four that lie on a + b/x to four digits do buy two.
    one constant   when it is snapped: `free_cost`, the digits that its own standard error leaves, against the price
                   of the simple number in its place, `integer_cost` for what is not usual (see `simple_values`).

Legend: b candidate, e entry.
"""

import math

import torch
from jaxtyping import Float64, Int64, Real
from torch import Tensor

from emlinit.generator.program import Programs

NATS_PER_NODE = 1.5
"""Of a formula's expression: about the logarithm of the number of things that a node could be."""
RELATIVE_FLOOR = 1e-10
"""Residuals below this share of the target's scale are rounding: nothing is gained below it."""
_LOSS_FLOOR = 1e-28  # relative losses below it are all as good
_NORMALISED = 1.0526  # nats: the sum of exp(-log*(n)) over all n >= 1 is 1 with this added


def description_cost(programs: Programs) -> Int64[Tensor, " b"]:
    """Length of each program's description: nodes, terms and free constants. Proportional to bits, up to what a choice
    among few sources takes; the complexity of the printed formula is judged later, on the few that get so far."""
    return programs.n_nodes + programs.used_terms().flatten(1).sum(-1) + programs.n_free()


def description_nats(programs: Programs, loss: Float64[Tensor, " b"], n_points: int) -> Float64[Tensor, " b"]:
    """Nats to describe `n_points` targets with each program, roughly, up to a constant.

    Args:
        programs: candidates.
        loss: mean squared error relative to the variance of the targets.
        n_points: how many targets there are.
    """
    free, log_loss = programs.n_free(), loss.clamp_min(_LOSS_FLOOR).log()
    digits = -0.5 * log_loss.clamp_max(0.0)  # nats that each constant has to be known to
    form = (description_cost(programs) - free).double() + (0.5 * math.log(n_points) + digits) * free
    return 0.5 * n_points * log_loss + form


def rounding_floor(scale: float) -> float:
    """The mean squared error that counts as rounding, for a target of this root mean square."""
    return (RELATIVE_FLOOR * scale) ** 2 + 1e-300


def description_length(
    mse: Float64[Tensor, " e"],
    complexity: Real[Tensor, " e"],
    n_free: Int64[Tensor, " e"],
    n_points: int,
    scale: float,
    n_distinct: int | None = None,
    spread: float | None = None,
) -> Float64[Tensor, " e"]:
    """Nats to describe the data with each formula, up to a constant; infinite where the error is not finite or a law has as
    many constants as there are points, or different points, to tell.

    Args:
        mse: mean squared error.
        complexity: nodes of the expression, or what stands for them (see `Finding.description_nodes`).
        n_free: constants that are not simple numbers.
        n_points: points that `mse` is a mean over.
        scale: of the target (its root mean square); residuals below `RELATIVE_FLOOR` of it count as rounding.
        n_distinct: how many of the points differ; all of them by default. Repeated ones fix constants, but no form.
        spread: of the target (its standard deviation), against which the digits of a constant are counted, so that a law is
            no dearer because the target lies far from 0; `scale` by default.
    """
    floor = rounding_floor(scale)
    n_distinct = n_points if n_distinct is None else n_distinct
    spread = scale if spread is None else spread
    k = n_free.to(torch.float64)
    half = 0.5 * (n_points - k).clamp_min(1.0)
    residuals = half * (math.pi * n_points * (mse + floor)).log() - torch.lgamma(half)
    constants = 0.5 * k * math.log(n_points * (spread**2 + floor))
    length = residuals + constants + NATS_PER_NODE * complexity
    length = torch.where((k < n_distinct) & (k < n_points), length, torch.inf)
    return torch.where(mse.isfinite(), length, torch.inf)


def free_cost(value: float, error: float) -> float:
    """Nats that a free constant costs, `error` being its standard error (infinite: the data do not determine it)."""
    return 1.0 + (math.log1p(abs(value) / error) if error > 0 else math.inf)


def integer_cost(n: int) -> float:
    """Nats of an integer n >= 1 in the universal code, log*(n): log2 n + log2 log2 n + ... bits, as long as positive."""
    total, term = _NORMALISED, math.log2(n)
    while term > 0:
        total += term * math.log(2)
        term = math.log2(term)
    return total
