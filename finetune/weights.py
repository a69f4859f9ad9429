"""What a caller says of the errors of y, as weights of the rows.

Legend: p point.
"""

from typing import Any

import numpy as np
import torch

from emlinit.finetune.fitting.misfit import Misfit
from emlinit.finetune.options import in_one_line
from emlinit.generator.errors import UserError

_WIDEST = 1e8  # ratio of the largest error to the smallest: beyond it the other rows say nothing in double precision


def row_weights(
    n_rows: int, sigma: Any = None, sample_weight: Any = None
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Weights, non-negative, and standard deviations, positive, both float64 of shape (p,); None if they are not known.

    Args:
        n_rows: how many rows there are.
        sigma: standard deviations of y, one number for all rows or one a row.
        sample_weight: weights of the rows; only their ratios count.

    Raises:
        UserError: both are given, they are not numbers of that shape, not finite, negative, or all 0.
    """
    if sigma is not None and sample_weight is not None:
        raise UserError("give sigma or sample_weight, not both: rows weigh as 1/sigma²")
    if sigma is not None:
        errors = _checked(sigma, "sigma", n_rows)
        if not (errors > 0).all():
            place = int(np.argmin(errors))
            raise UserError(
                f"sigma must be positive, and is {errors[place]:g} in row {place + 1}: a value without error would outweigh "
                "all others; give the error that it has, or leave the row out"
            )
        smallest = errors.min()
        if errors.max() > _WIDEST * smallest:
            raise UserError(
                f"sigma spans from {smallest:g} to {errors.max():g}: the widest rows say nothing, leave them out"
            )
        return np.square(smallest / errors), errors
    if sample_weight is None:
        return None, None
    weights = _checked(sample_weight, "sample_weight", n_rows)
    if (weights < 0).any():
        place = int(np.argmin(weights))
        raise UserError(f"sample_weight must not be negative, and is {weights[place]:g} in row {place + 1}")
    if not (weights > 0).any():
        raise UserError("sample_weight is zero in all rows: give some of them a weight")
    return weights / weights.max(), None


def misfit_of(loss: str, weights: np.ndarray | None, sigma: np.ndarray | None) -> Misfit:
    """How residuals count.

    Args:
        loss: one of `options.LOSSES`.
        weights: of the rows, positive, of shape (p,); None: all alike.
        sigma: standard deviations of shape (p,) that the weights are of, if they are known.
    """
    if weights is None:
        return Misfit(loss)
    mean = float(weights.mean())
    of_weight_one = None if sigma is None else float(sigma[0] * np.sqrt(weights[0] / mean))
    alike = bool((weights == weights[0]).all())
    return Misfit(loss, None if alike else torch.from_numpy(weights / mean), of_weight_one)


def _checked(values: Any, name: str, n_rows: int) -> np.ndarray:
    try:
        numbers = np.asarray(values)
        if numbers.dtype.kind not in "iuf":
            raise ValueError
        numbers = np.broadcast_to(numbers.astype(np.float64), (n_rows,)).copy() if numbers.ndim < 2 else numbers
    except (TypeError, ValueError):
        raise UserError(f"{name} must be one number, or {n_rows}, one a row: got {in_one_line(values)}") from None
    if numbers.shape != (n_rows,):
        raise UserError(f"{name} must be one number, or {n_rows}, one a row: got the shape {numbers.shape}")
    if not np.isfinite(numbers).all():
        raise UserError(f"{name} holds NaN or an infinite number in row {int(np.argmin(np.isfinite(numbers))) + 1}")
    return numbers
