"""The shapes that scientists fit, each with few constants: a table, and how each is written as a program.

A shape is a handful of functions of one variable that share one to three constants θ which no linear fit finds, and for each
of these a grid over what the data span. Most are those of Ratkowsky, Handbook of Nonlinear Regression Models, 1990. How they
are fitted is in `shapes`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from emlinit.generator.builder import Builder
from emlinit.generator.slots import Slot

_RATES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # over the range of x
_FINE_RATES = tuple(0.5 * 2 ** (0.5 * step) for step in range(14))
_SIGNED_RATES = (-4.0, -1.5, -0.5, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
_ACTIVATIONS = (-40.0, -20.0, -12.0, -8.0, -5.0, -3.0, -2.0, -1.0, -0.5, 0.5, 1.0, 2.0, 4.0, 8.0)  # in middles of x
_WIDTHS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)  # in ranges of x
_EXPONENTS = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
_PLACES, _BESIDE = 17, 0.3  # positions over the range of x and a little to either side
_PLACES_OF_PEAKS = 81  # a width of the narrowest peak apart
_FAR = 15.0  # widths that a bell may be away from 0
_PLACES_OF_JUMPS = 800  # no fit moves a jump
_FREQUENCIES, _FREQUENCY_STEP = 56, 0.6 * math.pi  # radians over the range of x

Points = Float64[Tensor, " p"]


@dataclass(frozen=True)
class Range:
    """What the values of a variable span."""

    low: float
    """Smallest value."""
    high: float
    """Largest value."""

    @property
    def length(self) -> float:
        """Difference of the two."""
        return self.high - self.low

    def places(self, n: int = _PLACES) -> list[float]:
        """Positions over the range, and beside it."""
        ends = (self.low - _BESIDE * self.length, self.high + _BESIDE * self.length)
        return torch.linspace(*ends, n, dtype=torch.float64).tolist()

    def scales(self) -> list[float]:
        """Positive sizes, from a third of the smallest value (or a thousandth of the largest) to three times the largest."""
        least = max(self.low / 3, self.high / 1000)
        return torch.logspace(math.log10(least), math.log10(3 * self.high), _PLACES, dtype=torch.float64).tolist()

    def over(self, values: Sequence[float]) -> list[float]:
        """Rates, given over the range."""
        return [value / self.length for value in values]


@dataclass(frozen=True)
class Shape:
    """One shape."""

    name: str
    """What it is called."""
    grid: Callable[[Range], list[list[float]]]
    """Values of each θ that are tried, all with all."""
    functions: Callable[[Points, tuple[Float64[Tensor, "s 1"], ...]], Sequence[Tensor]]
    """Values (s, p) of each f_j, given x and each θ."""
    parts: Callable[[Builder, Slot, Sequence[float]], Sequence[Slot]]
    """Each f_j as part of a program, given x and θ."""
    positive: bool = False
    """Whether x must be positive; such a shape has no place of its own, and x must not be shifted for it."""
    with_constant: bool = True
    """Whether it is tried with a_0, too."""
    without_constant: bool = True
    """Whether it is tried without a_0, too."""
    on_line: bool = False
    """Whether it is tried on a line a_0 + b x, too, as peaks, steps and oscillations are measured."""
    with_fixed_powers: bool = False
    """Whether the powers in it, such as the square in a Gaussian, are part of the shape and no constants."""
    wave: bool = False
    """Whether its two functions are cosine and sine of one angle, and become one cosine with a phase."""


def _shifted_exponent(builder: Builder, x: Slot, rate: float, place: float) -> Slot:
    """exp(-rate (x - place))."""
    return builder.exp(builder.add(builder.scale(x, -rate), builder.constant(rate * place)))


def _one_over_one_plus(builder: Builder, value: Slot) -> Slot:
    return builder.reciprocal(builder.add(builder.constant(1.0), value))


def _deviation(builder: Builder, x: Slot, place: float) -> Slot:
    return builder.add(x, builder.constant(-place))


def _bell(builder: Builder, u: Slot, place: float, width: float) -> Slot:
    """exp(-(u - place)² / (2 width²)); the exponent multiplied out, which is one sum, unless the exponential of the
    constant in it would be 0 in double precision."""
    if abs(place) > _FAR * width:
        return builder.exp(builder.scale(builder.power(_deviation(builder, u, place), 2.0), -0.5 / width**2))
    square = builder.scale(builder.power(u, 2.0), -0.5 / width**2)
    line = builder.scale(u, place / width**2)
    return builder.exp(builder.add(square, line, builder.constant(-0.5 * (place / width) ** 2)))


def _damped(builder: Builder, x: Slot, theta: Sequence[float]) -> Sequence[Slot]:
    decay, angle = builder.exp(builder.scale(x, -theta[0])), builder.scale(x, theta[1])
    return [builder.mul(decay, builder.cos(angle)), builder.mul(decay, builder.sin(angle))]


def _kink(builder: Builder, x: Slot, theta: Sequence[float]) -> Sequence[Slot]:
    return [builder.absolute(_deviation(builder, x, theta[0])), x]


def _jump(builder: Builder, x: Slot, theta: Sequence[float]) -> Sequence[Slot]:
    deviation = _deviation(builder, x, theta[0])
    return [builder.divide(builder.absolute(deviation), deviation)]


def _inner_places(span: Range, n: int = 4 * _PLACES) -> list[float]:
    return torch.linspace(span.low, span.high, n, dtype=torch.float64)[1:-1].tolist()


SHAPES = (
    Shape(
        "exponential",
        lambda span: [span.over(_RATES) + span.over([-rate for rate in _RATES])],
        lambda x, t: [(-t[0] * x).exp()],
        lambda b, x, t: [b.exp(b.scale(x, -t[0]))],
        on_line=True,
    ),
    Shape(
        "power",
        lambda span: [[-3.0, -2.0, -1.5, -1.0, -0.5, 0.3, 0.5, 0.7, 1.5, 2.0, 3.0, 4.0]],
        lambda x, t: [x ** t[0]],
        lambda b, x, t: [b.power(x, t[0])],
        positive=True,
    ),
    Shape(
        "damped oscillation",
        lambda span: [
            span.over(_SIGNED_RATES),
            span.over([_FREQUENCY_STEP * number for number in range(1, _FREQUENCIES + 1)]),
        ],
        lambda x, t: [(-t[0] * x).exp() * (t[1] * x).cos(), (-t[0] * x).exp() * (t[1] * x).sin()],
        _damped,
        wave=True,
        on_line=True,
    ),
    Shape(
        "logistic",
        lambda span: [span.over([2 * rate for rate in _RATES]), span.places()],
        lambda x, t: [torch.sigmoid(t[0] * (x - t[1]))],
        lambda b, x, t: [_one_over_one_plus(b, _shifted_exponent(b, x, t[0], t[1]))],
        on_line=True,
    ),
    Shape(
        "saturation",
        lambda span: [span.scales()],
        lambda x, t: [x / (x + t[0])],
        lambda b, x, t: [_one_over_one_plus(b, b.scale(b.reciprocal(x), t[0]))],
        positive=True,
    ),
    Shape(
        "Hill",
        lambda span: [list(_EXPONENTS), span.scales()],
        lambda x, t: [1 / (1 + (t[1] / x) ** t[0])],
        lambda b, x, t: [_one_over_one_plus(b, b.scale(b.power(x, -t[0]), t[1] ** t[0]))],
        positive=True,
    ),
    Shape(
        "Planck",
        lambda span: [[1.0, 2.0, 3.0, 4.0, 5.0], span.over(_FINE_RATES)],
        lambda x, t: [x ** t[0] / torch.expm1(t[1] * x)],
        lambda b, x, t: [b.divide(b.power(x, t[0]), b.add(b.exp(b.scale(x, t[1])), b.constant(-1.0)))],
        positive=True,
        with_constant=False,
    ),
    Shape(
        "Gaussian",
        lambda span: [span.places(_PLACES_OF_PEAKS), [width * span.length for width in _WIDTHS]],
        lambda x, t: [(-0.5 * ((x - t[0]) / t[1]).square()).exp()],
        lambda b, x, t: [_bell(b, x, t[0], t[1])],
        with_fixed_powers=True,
        on_line=True,
    ),
    Shape(
        "Lorentzian",
        lambda span: [span.places(_PLACES_OF_PEAKS), [width * span.length for width in _WIDTHS]],
        lambda x, t: [1 / (1 + ((x - t[0]) / t[1]).square())],
        lambda b, x, t: [_one_over_one_plus(b, b.scale(b.power(_deviation(b, x, t[0]), 2.0), t[1] ** -2.0))],
        with_fixed_powers=True,
        on_line=True,
    ),
    Shape(
        "stretched exponential",
        lambda span: [list(_EXPONENTS), span.scales()],
        lambda x, t: [(-((x / t[1]) ** t[0])).exp()],
        lambda b, x, t: [b.exp(b.scale(b.power(x, t[0]), -(t[1] ** -t[0])))],
        positive=True,
    ),
    Shape(
        "Gompertz",
        lambda span: [span.over(_RATES) + span.over([-rate for rate in _RATES]), span.places()],
        lambda x, t: [(-(-t[0] * (x - t[1])).exp()).exp()],
        lambda b, x, t: [b.exp(b.negative(_shifted_exponent(b, x, t[0], t[1])))],
    ),
    Shape(
        "gamma curve",
        lambda span: [[-1.5, -0.5, 0.5, 1.0, 1.5, 2.0, 3.0, 4.5, 6.0], span.over(_SIGNED_RATES)],
        lambda x, t: [x ** t[0] * (-t[1] * x).exp()],
        lambda b, x, t: [b.mul(b.power(x, t[0]), b.exp(b.scale(x, -t[1])))],
        positive=True,
    ),
    Shape(
        "lognormal",
        lambda span: [[math.log(scale) for scale in span.scales()], [0.1, 0.2, 0.4, 0.8, 1.6]],
        lambda x, t: [(-0.5 * ((x.log() - t[0]) / t[1]).square()).exp()],
        lambda b, x, t: [_bell(b, b.ln(x), t[0], t[1])],
        positive=True,
        with_fixed_powers=True,
    ),
    Shape(
        "power of a shifted variable",
        lambda span: [
            [-span.low + part * span.length for part in (0.003, 0.03, 0.1, 0.3, 1.0, 3.0)],
            [-3.0, -2.0, -1.0, -0.5, 0.3, 0.5, 0.7, 1.5, 2.5, 3.5],
        ],
        lambda x, t: [(x + t[0]).clamp_min(0.0) ** t[1]],
        lambda b, x, t: [b.power(_deviation(b, x, -t[0]), t[1])],
    ),
    Shape(
        "Morse",
        lambda span: [span.over(_FINE_RATES)],
        lambda x, t: [(-t[0] * x).exp(), (-2 * t[0] * x).exp()],
        lambda b, x, t: [b.exp(b.scale(x, -t[0])), b.power(b.exp(b.scale(x, -t[0])), 2.0)],
        without_constant=False,
    ),
    Shape(
        "Arrhenius",
        lambda span: [[rate * 0.5 * (span.low + span.high) for rate in _ACTIVATIONS]],
        lambda x, t: [(t[0] / x).exp()],
        lambda b, x, t: [b.exp(b.scale(b.reciprocal(x), t[0]))],
        positive=True,
        with_fixed_powers=True,
    ),
    Shape(
        "exponential of a shifted reciprocal",
        lambda span: [
            [-rate * span.length for rate in (0.1, 0.3, 1.0, 3.0, 10.0)] + [0.3 * span.length, 3.0 * span.length],
            [-span.low + part * span.length for part in (0.03, 0.1, 0.3, 1.0, 3.0)],
        ],
        lambda x, t: [(t[0] / (x + t[1])).exp()],
        lambda b, x, t: [b.exp(b.scale(b.reciprocal(_deviation(b, x, -t[1])), t[0]))],
        with_constant=False,
    ),
    Shape(
        "arctangent",
        lambda span: [span.places(), [width * span.length for width in _WIDTHS]],
        lambda x, t: [((x - t[0]) / t[1]).atan()],
        lambda b, x, t: [b.atan(b.scale(_deviation(b, x, t[0]), 1 / t[1]))],
        without_constant=False,
    ),
    Shape(
        "kink",
        lambda span: [_inner_places(span)],
        lambda x, t: [(x - t[0]).abs(), x.expand(len(t[0]), -1)],
        _kink,
        with_fixed_powers=True,
    ),
    Shape(
        "symmetric kink",
        lambda span: [_inner_places(span)],
        lambda x, t: [(x - t[0]).abs()],
        lambda b, x, t: [b.absolute(_deviation(b, x, t[0]))],
        with_fixed_powers=True,
    ),
    Shape(
        "jump",
        lambda span: [_inner_places(span, _PLACES_OF_JUMPS)],
        lambda x, t: [(x - t[0]).sign()],
        _jump,
        without_constant=False,
        with_fixed_powers=True,
        on_line=True,
    ),
)
"""Every shape that is tried."""
