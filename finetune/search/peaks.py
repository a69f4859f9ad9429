"""Several peaks on one background, as in a spectrum: Gaussians or Lorentzians of one variable on a constant or a line.

    y = Σ a_j f(x; m_j, w_j) + a_0 + b x

One wide peak fits two near ones better than either does, so peaks are not found one after the other: beside the background,
what any two of the grid leave of y follows from three correlations,

    1 - R² = 1 - (r_f² + r_g² - 2 r_f r_g r_fg) / (1 - r_fg²),

so all pairs are compared at once. Further peaks follow the best pair one by one, and after each all take the best place
beside the others. The fit of all constants does the rest, and the description length says how many there are.

Legend: p point, s peak of the grid, k peak of a sum, b function of the background.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from emlinit.finetune.search.shape_table import SHAPES, Range, Shape
from emlinit.finetune.search.shapes import background
from emlinit.generator.builder import Builder
from emlinit.generator.formulas.compile_weighted import program_from_slot
from emlinit.generator.program import Programs
from emlinit.generator.tidy import fix_simple_exponents

MOST_PEAKS = 4
"""Most peaks of a sum."""
_PEAKS = tuple(shape for shape in SHAPES if shape.name in ("Gaussian", "Lorentzian"))
_CONSTANTS_OF_A_PEAK = 3  # height, middle and width
_LEAST_LEFT = 1e-6  # of the squared length of a function, beside the background and the peaks that are there
_PLACES, _WIDTHS = 61, (math.log10(0.015), math.log10(0.35), 10)  # in ranges of x: first, last, how many
_SWEEPS = 8
_ALIKE = 0.98  # correlation from which two peaks are one
_WORTH_IT = 0.8  # of the squared error: one peak more has to leave less


def propose_peaks(x: Float64[Tensor, "p v"], y: Float64[Tensor, " p"]) -> Programs | None:
    """Sums of two to `MOST_PEAKS` peaks of one kind in the one variable, on a constant and on a line, near a best fit.

    Args:
        x: points, finite.
        y: targets, finite, not constant.

    Returns:
        None with several variables, or where different points are too few for two peaks.
    """
    column = x[:, 0]
    n_levels = len(torch.unique(column))
    if x.shape[1] > 1 or n_levels <= 2 * _CONSTANTS_OF_A_PEAK + 1:
        return None
    span = Range(float(column.min()), float(column.max()))
    programs = []
    for shape in _PEAKS:
        for n_background in (1, 2):
            for theta, factors in _sums_of_peaks(shape, column, y, span, n_background):
                program = _program(shape, theta, factors)
                if n_levels > _CONSTANTS_OF_A_PEAK * len(theta) + n_background and program is not None:
                    programs.append(program)
    return Programs.cat(programs) if programs else None


def _sums_of_peaks(
    shape: Shape, x: Float64[Tensor, " p"], y: Float64[Tensor, " p"], span: Range, n_background: int
) -> Iterator[tuple[list[list[float]], list[float]]]:
    """The best pair of peaks, the best three, and so on, while each one more is worth it: the middle and the width of each,
    and all factors."""
    places = torch.linspace(span.low, span.high, _PLACES, dtype=torch.float64)
    widths = span.length * torch.logspace(*_WIDTHS, dtype=torch.float64)
    theta = torch.cartesian_prod(places, widths)
    (value,) = shape.functions(x, tuple(theta.T[:, :, None]))  # (s, p)
    behind = torch.stack([torch.ones_like(x), x])[:n_background]
    single = _best_beside(value, behind, y)
    error = _left(torch.cat([value[single], behind]), y)
    chosen = _best_pair(value, behind, y)
    while 2 <= len(chosen) <= MOST_PEAKS:
        functions = torch.cat([value[chosen], behind])
        before, error = error, _left(functions, y)
        if not error < _WORTH_IT * before:
            return
        factors = torch.linalg.lstsq(functions.T, y[:, None], driver="gelsd").solution[:, 0]
        yield theta[chosen].tolist(), factors.tolist()
        chosen = _settled(torch.cat([chosen, _best_beside(value, functions, y)]), value, behind, y)


def _best_pair(
    value: Float64[Tensor, "s p"], taken: Float64[Tensor, "k p"], y: Float64[Tensor, " p"]
) -> Int64[Tensor, " n"]:
    """The two functions that leave least of y beside what is taken, or none where nothing is left of y or of them."""
    unit, rest = _beside(value, taken, y)
    r, between = unit @ rest, unit @ unit.T
    explained = (r.square()[:, None] + r.square() - 2 * r[:, None] * r * between) / (1 - between.square())
    explained = torch.where((between.abs() < _ALIKE) & (unit != 0).any(1), explained, -1.0)
    best = int(explained.argmax())
    if not float(explained.flatten()[best]) > 0:
        return torch.zeros(0, dtype=torch.int64)
    return torch.tensor([best // len(value), best % len(value)])


def _left(functions: Float64[Tensor, "k p"], y: Float64[Tensor, " p"]) -> float:
    """Sum of squares that functions leave of y."""
    basis = torch.linalg.qr(functions.T).Q
    return float((y - basis @ (basis.T @ y)).square().sum())


def _settled(
    chosen: Int64[Tensor, " k"], value: Float64[Tensor, "s p"], behind: Float64[Tensor, "b p"], y: Float64[Tensor, " p"]
) -> Int64[Tensor, " k"]:
    """Peaks moved one after the other to where each is best beside the others."""
    for _ in range(_SWEEPS):
        before = chosen.clone()
        for k in range(len(chosen)):
            others = torch.cat([chosen[:k], chosen[k + 1 :]])
            chosen[k] = _best_beside(value, torch.cat([value[others], behind]), y)
        if torch.equal(chosen, before):
            break
    return chosen


def _best_beside(
    value: Float64[Tensor, "s p"], taken: Float64[Tensor, "k p"], y: Float64[Tensor, " p"]
) -> Int64[Tensor, " 1"]:
    """The function that leaves least of y beside what is taken."""
    unit, rest = _beside(value, taken, y)
    return (unit @ rest).abs().argmax()[None]


def _beside(
    value: Float64[Tensor, "s p"], taken: Float64[Tensor, "k p"], y: Float64[Tensor, " p"]
) -> tuple[Float64[Tensor, "s p"], Float64[Tensor, " p"]]:
    """Functions and target less their part in what is taken: the functions of unit length, or 0 where little is left."""
    basis = torch.linalg.qr(taken.T).Q
    left = value - (value @ basis) @ basis.T
    norm, before = (torch.linalg.vector_norm(each, dim=1, keepdim=True) for each in (left, value))
    return torch.where(norm.square() > _LEAST_LEFT * before.square(), left / norm, 0.0), y - basis @ (basis.T @ y)


def _program(shape: Shape, theta: Sequence[Sequence[float]], factors: Sequence[float]) -> Programs | None:
    """Peaks on a background as a program in one variable; None where a constant overflows."""
    builder = Builder(1)
    try:
        parts = [
            builder.scale(shape.parts(builder, builder.variable(1), peak)[0], factor)
            for peak, factor in zip(theta, factors, strict=False)
        ]
        value = builder.add(*parts, background(builder, 1, factors[len(theta) :]))
        return fix_simple_exponents(program_from_slot(builder.readout(value), 1))
    except (ArithmeticError, ValueError):
        return None
