"""The ranges beyond the training points, in which a found function has to hold as well."""

import numpy as np


def extended_ranges(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ranges half as wide again as those of the points x (p, v), positive where the points are.

    Returns:
        Lower and upper bounds, each of shape (v,).
    """
    low, high = x.min(0), x.max(0)
    margin = 0.25 * (high - low)
    return np.where(low > 0, np.maximum(low - margin, 0.5 * low), low - margin), high + margin
