"""Shapes that scientists fit: sigmoids, bells, damped oscillations, dose curves, kinks, each with few constants.

    y = Σ a_j f_j(x; θ) + a_0 + b x

A shape is a handful of functions f_j of one variable that share one to three constants θ which no linear fit finds. For
these a grid is laid over what the data span; at each of its points the a_j follow by least squares, and the best points are
starts that the fit of all constants seldom leaves for worse. So nothing has to be guessed, and a few thousand small solves
take a tenth of a second. Most shapes are those of Ratkowsky, Handbook of Nonlinear Regression Models, 1990.

Legend: p point, v input variable, s start, k constant of θ, j function of a shape.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float64
from torch import Tensor

from emlinit.finetune.search.shape_table import SHAPES, Points, Range, Shape
from emlinit.finetune.sparse.dictionary import FEW_LEVELS
from emlinit.generator.builder import Builder
from emlinit.generator.formulas.compile_weighted import program_from_slot
from emlinit.generator.program import Programs
from emlinit.generator.slots import Slot
from emlinit.generator.tidy import fix_simple_exponents

_RIDGE = 1e-12  # of the normal equations, on functions of unit length: two of them may be one on these points
_LARGEST = 1e12  # modulus of a function
_ASIDE = 0.00137  # ranges that a middle is moved where it is a value
_FAR = 3.0  # ranges of a variable that its middle may be away from 0


def centres(x: Float64[Tensor, "p v"]) -> Float64[Tensor, " v"]:
    """The middle of each variable that is far from 0 for its range, such as a year, and 0 for the others. It is none of the
    values: of 0 there is no logarithm, of which squares are made."""
    low, high = x.aminmax(dim=0)
    middle = (low + high) / 2
    middle = torch.where((x == middle).any(0), middle + _ASIDE * (high - low), middle)
    return torch.where(middle.abs() > _FAR * (high - low), middle, 0.0)


def propose_shapes(
    x: Float64[Tensor, "p v"],
    y: Float64[Tensor, " p"],
    weights: Float64[Tensor, " p"] | None = None,
    *,
    starts: int = 2,
    shapes: Sequence[Shape] = SHAPES,
) -> Programs | None:
    """Programs of all shapes in each variable, from their best starts, alone, on a constant, and on a line.

    Args:
        x: points, finite.
        y: targets, finite, not constant.
        weights: of the points, positive; None: all alike. Starts are compared with them.
        starts: how many of each.
        shapes: what is tried.

    Returns:
        Candidates whose constants are near a best fit, or None if no shape can be taken of these variables.
    """
    n_variables = x.shape[1]
    root = None if weights is None else weights.sqrt()
    programs = []
    for number in range(1, n_variables + 1):
        column = x[:, number - 1]
        span = Range(float(column.min()), float(column.max()))
        if not span.length > 0 or len(torch.unique(column)) <= FEW_LEVELS:
            continue
        for shape in shapes:
            if shape.positive and span.low <= 0:
                continue
            backgrounds = [shape.without_constant, shape.with_constant, shape.on_line]
            for n_background in (n for n, wanted in enumerate(backgrounds) if wanted):
                for theta, factors in _best_starts(shape, column, y, root, span, n_background, starts):
                    program = _program(shape, theta, factors, number, n_variables, span.low > 0)
                    if program is not None:
                        programs.append(program)
    programs += _smaller_or_larger(x, y) + power_laws(x, y)
    return Programs.cat(programs) if programs else None


def power_laws(x: Float64[Tensor, "p v"], y: Points) -> list[Programs]:
    """a x1^p1 x2^p2 ... of several variables, each a program: a plane in logarithms, then without the exponent that matters
    least, and so on."""
    n_variables = x.shape[1]
    kept = [i for i in range(n_variables) if bool((x[:, i] > 0).all()) and len(torch.unique(x[:, i])) > FEW_LEVELS]
    sign = math.copysign(1.0, float(y[0]))
    if not bool((sign * y > 0).all()):
        return []
    programs = []
    while len(kept) > 1 and len(y) > len(kept) + 1:
        logs = torch.cat([torch.ones_like(y)[:, None], x[:, kept].log()], 1)
        weighted = y.abs()[:, None] * logs  # errors of ln y times y are errors of y
        solution = torch.linalg.lstsq(weighted, (y.abs() * y.abs().log())[:, None], driver="gelsd").solution[:, 0]
        builder = Builder(n_variables, [i + 1 for i in kept])
        try:
            value = builder.constant(sign * math.exp(float(solution[0])))
            for i, exponent in zip(kept, solution[1:].tolist(), strict=True):
                value = builder.mul(value, builder.power(builder.variable(i + 1), exponent))
            programs.append(program_from_slot(builder.readout(value), n_variables))
        except (ArithmeticError, ValueError):
            return programs
        reach = solution[1:].abs() * logs[:, 1:].std(0)
        del kept[int(reach.argmin())]
    return programs


def _smaller_or_larger(x: Float64[Tensor, "p v"], y: Points) -> list[Programs]:
    """a |u - v| + b u + c v + d for any two variables: min(u, v) = (u + v - |u - v|)/2 is one of them."""
    programs, n_variables = [], x.shape[1]
    for i in range(n_variables):
        for j in range(i + 1, n_variables):
            u, v = x[:, i], x[:, j]
            value = torch.stack([(u - v).abs(), u, v, torch.ones_like(u)], 1)
            if len(y) <= value.shape[1] or not bool((u < v).any() & (u > v).any()):
                continue
            factors = torch.linalg.lstsq(value, y[:, None], driver="gelsd").solution[:, 0].tolist()
            builder = Builder(n_variables)
            first, second = builder.variable(i + 1), builder.variable(j + 1)
            parts = [builder.absolute(builder.add(first, builder.negative(second))), first, second]
            terms = [builder.scale(part, factor) for part, factor in zip(parts, factors, strict=False)]
            for constant in ([builder.constant(factors[3])], []):
                value_slot = builder.readout(builder.add(*terms, *constant))
                programs.append(fix_simple_exponents(program_from_slot(value_slot, n_variables)))
    return programs


def _best_starts(
    shape: Shape, x: Points, y: Points, root: Points | None, span: Range, n_background: int, n: int
) -> list[tuple[list[float], list[float]]]:
    """The θ of the grid that fit best, each with the factors a_j and, of a background of so many functions, a_0 and b."""
    axes = [torch.tensor(axis, dtype=torch.float64) for axis in shape.grid(span)]
    theta = torch.cartesian_prod(*axes).view(-1, len(axes))
    functions = list(shape.functions(x, tuple(theta.T[:, :, None])))
    functions += [column.expand_as(functions[0]) for column in (torch.ones_like(x), x)[:n_background]]
    value = torch.stack(functions, 1)  # (s, j, p)
    if value.shape[1] >= len(y):
        return []
    fine = (value.abs() < _LARGEST).flatten(1).all(1) & (value.abs().amax(2) > 0).all(1)  # also not NaN
    theta, value = theta[fine], value[fine]
    if not len(theta):
        return []
    if root is not None:
        value, y = value * root, y * root
    size = torch.linalg.vector_norm(value, dim=2, keepdim=True)
    unit = value / size
    gram = unit @ unit.mT + _RIDGE * torch.eye(value.shape[1], dtype=torch.float64)
    factors = torch.linalg.solve(gram, unit @ y[:, None])[..., 0]
    error = (y - (factors[..., None] * unit).sum(1)).square().sum(1)
    best = error.argsort(stable=True)[:n]
    return list(zip(theta[best].tolist(), (factors / size[..., 0])[best].tolist(), strict=True))


def _program(
    shape: Shape, theta: Sequence[float], factors: Sequence[float], number: int, n_variables: int, positive: bool
) -> Programs | None:
    """A shape in one variable as a program; None where a constant overflows."""
    builder = Builder(n_variables, [number] if positive else [])
    try:
        parts = list(shape.parts(builder, builder.variable(number), theta))
        if shape.wave:  # a cos u + b sin u = c cos(u + φ)
            a, b = factors[0], factors[1]
            decay = builder.exp(builder.scale(builder.variable(number), -theta[0]))
            angle = builder.add(builder.scale(builder.variable(number), theta[1]), builder.constant(math.atan2(-b, a)))
            parts = [builder.scale(builder.mul(decay, builder.cos(angle)), math.hypot(a, b))]
            rest = factors[2:]
        else:
            parts = [builder.scale(part, factor) for part, factor in zip(parts, factors, strict=False)]
            rest = factors[len(parts) :]
        value = builder.add(*parts, background(builder, number, rest))
        program = program_from_slot(builder.readout(value), n_variables)
    except (ArithmeticError, ValueError):
        return None
    return fix_simple_exponents(program) if shape.with_fixed_powers else program


def background(builder: Builder, number: int, factors: Sequence[float]) -> Slot:
    """a_0 + b x of the factors there are; 0 without any."""
    functions = (builder.constant(1.0), builder.variable(number))
    return builder.add(*(builder.scale(f, a) for f, a in zip(functions, factors, strict=False)), builder.constant(0.0))
