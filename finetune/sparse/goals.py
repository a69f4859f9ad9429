"""Goals: what sparse sums are to be. A law y = g⁻¹(Σ a f(x)) is a sum for t = g(y); `TRANSFORMS` is the table of all g.

Rows are weighted by |dy/dt|, so that errors of t are errors of y to first order and the g compete fairly. A new g is one
entry of the table: where it is defined, its value, the slope of its inverse, and the inverse as part of a program.

Legend: p point.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from emlinit.generator.builder import Builder
from emlinit.generator.slots import Slot

_LARGEST = 1e12  # of g(y) over its median size: beyond it the sums would be about one point
_WIDEST_EXPONENT = 30.0  # range of y whose exponential is taken
_LEAST_COSINE = 1e-6  # of y whose sine is taken


@dataclass(frozen=True)
class Transform:
    """An invertible g, of y, of |y| with one sign for all points, or of y less its median."""

    name: str
    """What it is called."""
    is_defined: Callable[[Tensor], bool]
    """Whether g exists, and can be inverted, at all targets y."""
    value: Callable[[Tensor], Tensor]
    """t = g(y)."""
    slope: Callable[[Tensor], Tensor]
    """|dy/dt| as a function of y."""
    inverse: Callable[[Builder, Slot], Slot]
    """y as part of a program, given t."""
    of_modulus: bool = False
    """Whether g is taken of |y|; the sign of y is put back."""
    of_deviation: bool = False
    """Whether the median is subtracted from y first, and added again."""
    deep: bool = False
    """Whether long sums are searched for it."""
    quotients: bool = False
    """Whether quotients of two sums are searched for it, too."""
    tuned: bool = False
    """Whether functions with a θ to be found are searched for it."""


def _nowhere_zero(y: Tensor) -> bool:
    return bool((y != 0).all())


def _of_one_sign(y: Tensor) -> bool:
    return bool((y > 0).all()) or bool((y < 0).all())


def _power(exponent: float) -> Callable[[Builder, Slot], Slot]:
    return lambda builder, t: builder.power(t, exponent)


IDENTITY = Transform(
    "y",
    is_defined=lambda y: True,
    value=lambda y: y,
    slope=torch.ones_like,
    inverse=lambda builder, t: t,
    deep=True,
    quotients=True,
    tuned=True,
)

TRANSFORMS = (
    IDENTITY,
    Transform(
        "inverse",
        is_defined=_nowhere_zero,
        value=lambda y: 1 / y,
        slope=lambda y: y.square(),
        inverse=lambda builder, t: builder.reciprocal(t),
        tuned=True,
    ),
    Transform(
        "ln",
        is_defined=_of_one_sign,
        value=lambda y: y.log(),
        slope=lambda y: y,
        inverse=lambda builder, t: builder.exp(t),
        of_modulus=True,
        deep=True,
        tuned=True,
    ),
    Transform(
        "square",
        is_defined=_of_one_sign,
        value=lambda y: y.square(),
        slope=lambda y: 0.5 / y,
        inverse=_power(0.5),
        of_modulus=True,
        quotients=True,
    ),
    Transform(
        "inverse square",
        is_defined=_of_one_sign,
        value=lambda y: y**-2,
        slope=lambda y: y**3 / 2,
        inverse=_power(-0.5),
        of_modulus=True,
    ),
    Transform(
        "root",
        is_defined=_of_one_sign,
        value=lambda y: y.sqrt(),
        slope=lambda y: 2 * y.sqrt(),
        inverse=_power(2.0),
        of_modulus=True,
    ),
    Transform(
        "sine",
        is_defined=lambda y: float(y.abs().max()) <= math.pi / 2,
        value=lambda y: y.sin(),
        slope=lambda y: 1 / y.cos().clamp_min(_LEAST_COSINE),
        inverse=lambda builder, t: builder.asin(t),
    ),
    Transform(
        "exp",
        is_defined=lambda y: float(y.max() - y.min()) < _WIDEST_EXPONENT,
        value=lambda y: y.exp(),
        slope=lambda y: (-y).exp(),
        inverse=lambda builder, t: builder.ln(t),
        of_deviation=True,
    ),
)
"""Every g that is tried, y itself first; of equally good sums those for the earlier g come first."""


@dataclass(frozen=True, eq=False)
class Goal:
    """What a sparse sum is to be: t = g(y)."""

    transform: Transform
    """g."""
    value: Float64[Tensor, " p"]
    """t at the points."""
    weight: Float64[Tensor, " p"]
    """|dy/dt| at the points, by which errors of t are counted."""
    rational: bool = False
    """Whether atoms times t may be taken, too: then t is a sum over a sum."""
    sign: float = 1.0
    """-1 if g is taken of -y."""
    shift: float = 0.0
    """What is subtracted from y first."""
    deep: bool = False
    """Whether it is pursued for `terms` rounds, or for `shallow_terms`."""

    def inverted(self, t: Slot, builder: Builder) -> Slot:
        """y as a slot, given t."""
        y = self.transform.inverse(builder, t)
        if self.transform.of_modulus:
            y = builder.scale(y, self.sign)
        return builder.add(y, builder.constant(self.shift)) if self.transform.of_deviation else y


def goals_for(y: Float64[Tensor, " p"]) -> list[Goal]:
    """The g that are defined and harmless on all targets, y itself first."""
    goals = []
    for transform in TRANSFORMS:
        if not transform.is_defined(y):
            continue
        sign = math.copysign(1.0, float(y[0])) if transform.of_modulus else 1.0
        shift = float(y.median()) if transform.of_deviation else 0.0
        argument = y.abs() if transform.of_modulus else y - shift if transform.of_deviation else y
        value, weight = transform.value(argument), transform.slope(argument)
        goals.append(Goal(transform, value, weight, sign=sign, shift=shift, deep=transform.deep))
        if transform.quotients:
            goals.append(Goal(transform, value, weight, rational=True, sign=sign, shift=shift))
    return [goal for goal in goals if _harmless(goal)]


def _harmless(goal: Goal) -> bool:
    weighted = goal.weight * goal.value
    if not bool(goal.value.isfinite().all() & weighted.isfinite().all()):
        return False
    # y itself may well be 0 at most points.
    return goal.transform is IDENTITY or float(goal.value.abs().max()) <= _LARGEST * float(goal.value.abs().median())
