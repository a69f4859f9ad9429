"""Where the data points lie: ranges, spacing and clusters as users' tables have them.

Legend: b batch, p point, v input variable.
"""

import torch
from jaxtyping import Float64
from torch import Tensor


def random_supports(
    n_rows: int,
    n_points: int,
    n_variables: int,
    generator: torch.Generator,
    device: torch.device,
    *,
    positive: float = 0.7,
) -> Float64[Tensor, "b p v"]:
    """Random points; every row and variable has its own range.

    A range is positive with probability `positive`, else of mixed sign. Its width is log-uniform over a factor of 40, its
    lower end anywhere from near zero to several widths. Points are uniform, log-uniform (positive ranges only), evenly
    spaced, or gathered in up to four clusters.
    """
    shape = (n_rows, 1, n_variables)

    def uniform(low: float, high: float, full: tuple[int, ...] = shape) -> Tensor:
        draw = torch.rand(full, generator=generator, device=device, dtype=torch.float64)
        return low + (high - low) * draw

    width = torch.exp(uniform(-1.2, 2.5))
    is_positive = uniform(0.0, 1.0) < positive
    low = torch.where(is_positive, torch.exp(uniform(-3.0, 1.2)), -width * uniform(0.1, 1.0))
    high = low + width
    points = (n_rows, n_points, n_variables)
    draw = uniform(0.0, 1.0, points)
    even = torch.linspace(0, 1, n_points, device=device, dtype=torch.float64)[None, :, None].expand(points)
    # An even spacing in more than one variable is a line unless each variable has its own order.
    even = even.gather(1, torch.rand(points, generator=generator, device=device).argsort(1))
    centre = uniform(0.0, 1.0, (n_rows, 4, n_variables))
    member = torch.randint(0, 4, points, generator=generator, device=device)
    cluster = (centre.gather(1, member) + 0.1 * (draw - 0.5)).clamp(0, 1)
    kind = uniform(0.0, 1.0)
    unit = torch.where(kind < 0.65, draw, torch.where(kind < 0.8, even, cluster))
    flat = low + (high - low) * unit
    log = torch.exp(low.abs().log() + (high.abs() / low.abs()).log() * unit)
    use_log = is_positive & (uniform(0.0, 1.0) < 0.2)
    return torch.where(use_log, log, flat)
