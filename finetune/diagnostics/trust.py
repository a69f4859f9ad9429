"""How far the law that is reported is to be trusted: all diagnostics of one law, and what is said of them.

Legend: p point, v input variable.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from emlinit.finetune.diagnostics.extrapolation import Extrapolation, extrapolated
from emlinit.finetune.diagnostics.noise import NoiseBesideLaw, Outliers, noise_beside_law, outlying_rows
from emlinit.finetune.law.finding import Finding


@dataclass(frozen=True)
class Trust:
    """Diagnostics of a law."""

    noise: NoiseBesideLaw | None = None
    """The noise in the target, whatever the law, and what the law leaves; None for an exact law and where it cannot be
    told."""
    extrapolation: Extrapolation | None = None
    """How the law does on the outermost rows when its constants are fitted to the others."""
    no_extrapolation: str = ""
    """Why there is none, in a few words."""
    outliers: Outliers | None = None
    """Rows that carry most of the misfit; None if there are none."""

    def remarks(self) -> Iterator[str]:
        """What a user should know, one line each."""
        for check in (self.extrapolation, self.outliers):
            if check is not None and check.remark():
                yield check.remark()


def trust_in(finding: Finding, x: np.ndarray) -> Trust:
    """Diagnose a law; with a robust loss, rows that are far off count as rows apart only.

    Args:
        finding: the law, its constants fitted to all rows.
        x: points, float64 of shape (p, v), the columns of the law.
    """
    if finding.is_exact:
        return Trust(no_extrapolation="the law is exact")
    residual, misfit = torch.from_numpy(finding.residual), finding.misfit
    weights = None
    if not misfit.is_plain:
        base = torch.ones_like(residual) if misfit.weights is None else misfit.weights
        weights = (base * misfit.sound(residual)).numpy()
    extrapolation, why = extrapolated(finding.law, x, finding.y, weights)
    return Trust(
        noise_beside_law(x, finding.residual, finding.n_fitted, weights),
        extrapolation,
        why,
        outlying_rows(misfit.scaled(residual).numpy(), count_little=misfit.is_robust),
    )
