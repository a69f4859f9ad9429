"""Standard errors of fitted constants from the Jacobian: the usual linear approximation at the fit.

    covariance = s² (Jᵀ W J)⁻¹,     s² = Σ w r² / (points - constants)

Legend: b batch (candidate), p point, v input variable, s slot, t term.
"""

import torch
from jaxtyping import Float64
from torch import Tensor

from emlinit.finetune.fitting.factor import factorise, fit_data
from emlinit.finetune.fitting.packed import PackedConstants, flatten, split_constants
from emlinit.generator.program import Programs

_DEPENDENT = 1e-10  # singular values below this share of the largest (of unit columns) say that constants trade off
_TOUCHED = 1e-6  # share of a constant in such a direction from which it counts as undetermined


def standard_errors(
    programs: Programs,
    x: Float64[Tensor, "... p v"],
    y: Float64[Tensor, "... p"],
    *,
    weights: Float64[Tensor, "... p"] | None = None,
    chunk_numbers: int = 2**21,
) -> tuple[Float64[Tensor, "b s t 2"], Float64[Tensor, "b s 2"]]:
    """Standard errors of the weights and biases: 0 where not free, infinite where the data do not determine them.

    Raises:
        UserError: no points, or shapes or weights that cannot be used.
    """
    data = fit_data(x, y, weights)
    linear, below = split_constants(programs)
    factor, _, _ = factorise(programs, linear, below, data, chunk_numbers)
    used = torch.cat([linear.used, below.used], 1)
    columns, squares = factor[:, :, :-1], factor[:, :, -1].square().sum(1)
    norms = torch.linalg.vector_norm(columns, dim=1)
    scaled = columns / torch.where(norms > 0, norms, 1.0)[:, None]
    scaled = torch.where(used[:, None], scaled, 0.0)
    _, values, vectors = torch.linalg.svd(scaled, full_matrices=False)
    weak = values <= _DEPENDENT * values.amax(1, keepdim=True) if values.shape[1] else values > 0
    touched = (weak[:, :, None] & (vectors.abs() > _TOUCHED)).any(1)
    variance = (vectors / torch.where(weak, torch.inf, values)[:, :, None]).square().sum(1)
    freedom = data.y.shape[-1] - used.sum(1)
    variance = variance * (squares / freedom.clamp_min(1))[:, None] / torch.where(norms > 0, norms, 1.0).square()
    undetermined = touched | (norms == 0) | (freedom <= 0)[:, None]
    error = torch.where(used, torch.where(undetermined, torch.inf, variance.sqrt()), 0.0)
    both = PackedConstants(torch.cat([linear.index, below.index], 1), used)
    flat = both.add(torch.zeros_like(flatten(programs)), error)
    n_weight = programs.weight[0].numel()
    return flat[:, :n_weight].reshape(programs.weight.shape), flat[:, n_weight:].reshape(programs.bias.shape)
