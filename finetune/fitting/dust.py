"""Dust: terms of the last sum that nobody could see on the data, such as the second one of 2 x - 6.3e-14 x**5.

They come from fitting rounding errors. A term goes if its largest contribution is below a billionth of the spread of the
targets and the law, fitted again, is as good without it, up to rounding.

Legend: b candidate, p point, v input variable, s slot, t term.
"""

from dataclasses import replace

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from emlinit.finetune.fitting.levenberg_marquardt import FitConfig, fit_constants
from emlinit.generator.evaluate import evaluate
from emlinit.generator.program import Programs
from emlinit.generator.tidy import drop_dead_nodes

LARGEST_DUST = 1e-9
"""Largest contribution of a term that goes, as a share of the standard deviation of the targets."""
_WORSE, _ROUNDING = 1.05, 1e-10  # what the error may grow by: as a factor, and as a share of that deviation
_TRIALS = 64  # candidates that are evaluated at once


def drop_dust(
    programs: Programs,
    x: Float64[Tensor, "p v"],
    y: Float64[Tensor, " p"],
    *,
    weights: Float64[Tensor, " p"] | None = None,
    config: FitConfig,
) -> Programs:
    """The candidates, each without its dust if it is as good without.

    Args:
        programs: fitted candidates.
        x: points.
        y: targets.
        weights: of the points, as they were fitted.
        config: how the other constants are fitted again.
    """
    spread = float(y.std(correction=0))
    if not len(programs) or not spread > 0:
        return programs
    terms, bias = _dust(programs, x, LARGEST_DUST * spread)
    dusty = (terms.any(1) | bias).nonzero()[:, 0]
    if not len(dusty):
        return programs
    root = torch.ones_like(y) if weights is None else weights.sqrt()
    before = _mse(programs[dusty], x, y, root)
    without = _without(programs[dusty], terms[dusty], bias[dusty])
    cleaned = fit_constants(without, x, y, weights=weights, config=config).programs
    good = _mse(cleaned, x, y, root).sqrt() <= _WORSE * before.sqrt() + _ROUNDING * spread
    order = torch.arange(len(programs))
    order[dusty[good]] = len(programs) + good.nonzero()[:, 0]
    return Programs.cat([programs, drop_dead_nodes(cleaned)]).rows(order)


def _dust(programs: Programs, x: Tensor, largest: float) -> tuple[Bool[Tensor, "b t"], Bool[Tensor, " b"]]:
    """Which terms of the readout are dust, and whether its constant is."""
    used, whole = programs.used_terms()[:, -1], _values(programs, x)
    terms = torch.zeros_like(used)
    for term in range(used.shape[1]):
        rows = used[:, term].nonzero()[:, 0]
        if len(rows):
            alone = torch.zeros_like(used[rows])
            alone[:, term] = True
            less = _values(_without(programs[rows], alone, torch.zeros(len(rows), dtype=torch.bool)), x)
            terms[rows, term] = (less - whole[rows]).abs().amax(1) < largest  # never where either is undefined
    terms &= ~(used & terms).eq(used).all(1, keepdim=True)  # not all of them
    constant = programs.bias[:, -1, 0]
    return terms, (constant != 0) & (constant.abs() < largest)


def _without(programs: Programs, terms: Bool[Tensor, "b t"], bias: Bool[Tensor, " b"]) -> Programs:
    """The candidates without some terms of the readout, and without its constant."""
    copies = {
        name: getattr(programs, name).clone() for name in ("source", "weight", "bias", "free_weight", "free_bias")
    }
    copies["weight"][:, -1][terms] = 0.0
    copies["free_weight"][:, -1][terms] = False
    copies["source"][:, -1][terms] = 0
    copies["bias"][bias, -1] = 0.0
    copies["free_bias"][bias, -1] = False
    return replace(programs, **copies)


def _values(programs: Programs, x: Tensor) -> Float64[Tensor, "b p"]:
    """Values at the points, NaN where undefined."""
    parts = []
    for start in range(0, len(programs), _TRIALS):
        result = evaluate(programs[start : start + _TRIALS], x, rtol=None)
        parts.append(torch.where(result.valid, result.value, torch.nan))
    return torch.cat(parts)


def _mse(programs: Programs, x: Tensor, y: Tensor, root: Tensor) -> Float64[Tensor, " b"]:
    """Mean squared error over the points at which a candidate is defined, residuals times the roots of weights."""
    return ((_values(programs, x) - y) * root).square().nanmean(1)
