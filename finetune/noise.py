"""Whether what a law leaves over is noise: then there is nothing more to find, however long one looks.

Of neighbouring rows, in order of the one variable, residuals of a law that lacks something have the same sign more often
than not: r = Σ e_i e_{i+1} / Σ e_i², which is 0 ± 1/√n for noise (von Neumann 1941). In several variables neighbours are too
far apart for such a test to see much.

Legend: p point.
"""

import math

from jaxtyping import Float64
from torch import Tensor

_SURE = 2.0  # standard deviations
_LEAST_ROWS = 6


def is_white(x: Float64[Tensor, "p 1"], residual: Float64[Tensor, " p"]) -> bool:
    """Whether residuals show no more structure along x than noise does; False for too few to say so, and for those of an
    exact fit, which are rounding."""
    if len(residual) < _LEAST_ROWS or not bool((residual != 0).any()) or not bool(residual.isfinite().all()):
        return False
    ordered = residual[x[:, 0].argsort(stable=True)]
    correlation = float((ordered[1:] * ordered[:-1]).sum() / ordered.square().sum())
    return correlation < _SURE / math.sqrt(len(ordered))
