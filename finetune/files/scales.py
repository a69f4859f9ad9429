"""Which axis numbers are drawn on, in pictures and in the terminal: linear, or logarithmic where they span decades.

Numbers span decades if most of them would crowd at one end of a linear axis. A logarithmic axis has no place for zeros,
and a few very small numbers would take most of it: then it is linear up to the smallest of the others, as in a
dose curve 0, 0.1, 0.3, 1, 3, 10.
"""

from dataclasses import dataclass

import numpy as np

_CROWDED = 0.1  # of the largest: half of the different numbers lie below
_SURE_RATIO, _SURELY_CROWDED = 1e4, 0.3  # the same for a ratio that leaves no doubt
_FAR_BELOW = 1e-3  # of the next larger number: so much smaller ones, if they are few, are not drawn to scale
_FEW = 0.1  # of the different numbers
DECADES_BELOW = 0.5
"""How long the linear part of an axis is."""


@dataclass(frozen=True)
class Scale:
    """An axis from one number on: linear, logarithmic, or logarithmic but for numbers next to zero."""

    logarithmic: bool = False
    """Whether decades are equally long."""
    linear_below: float = 0.0
    """Where a logarithmic axis begins; below it, down to 0, it is linear. 0 if there is nothing below."""

    @classmethod
    def of_target(cls, numbers: np.ndarray) -> "Scale":
        """The same for a target, whose curve is looked at for its shape: only what cannot be seen otherwise is stretched."""
        return cls.of(numbers, least_ratio=_SURE_RATIO)

    @classmethod
    def of(cls, numbers: np.ndarray, *, least_ratio: float = 100.0) -> "Scale":
        """The scale on which finite numbers can be told apart.

        Args:
            numbers: those to draw.
            least_ratio: of largest to smallest positive number, from which they may span decades.
        """
        different = np.unique(numbers)
        positive = different[different > 0]
        if len(positive) < 3 or different[0] < 0:
            return cls()
        steps = positive[:-1] < _FAR_BELOW * positive[1:]
        n_small = min(len(positive) - 3, int(_FEW * len(positive)))
        below = np.flatnonzero(steps[:n_small])
        bulk = positive[below[-1] + 1 :] if len(below) else positive
        ratio, middle = bulk[-1] / bulk[0], np.median(bulk) / bulk[-1]
        crowded = _SURELY_CROWDED if ratio >= _SURE_RATIO else _CROWDED
        if ratio < least_ratio or middle > crowded:
            return cls()
        return cls(True, 0.0 if len(bulk) == len(different) else float(bulk[0]))

    def spread(self, low: float, high: float, n: int) -> np.ndarray:
        """Numbers from one to another, as they stand equally far apart on the axis."""
        if not self.logarithmic:
            return np.linspace(low, high, n)
        if low >= self.linear_below > 0 or not self.linear_below:
            return np.geomspace(low, high, n)
        n_below = n // 8
        return np.concatenate(
            [
                np.linspace(low, self.linear_below, n_below, endpoint=False),
                np.geomspace(self.linear_below, high, n - n_below),
            ]
        )

    def place(self, numbers: np.ndarray) -> np.ndarray:
        """Where numbers stand, in decades on a logarithmic axis; what is below zero there is not finite."""
        if not self.logarithmic:
            return np.asarray(numbers, dtype=np.float64)
        with np.errstate(all="ignore"):
            if not self.linear_below:
                return np.asarray(np.log10(numbers))
            part = numbers / self.linear_below
            return np.where(numbers < 0, np.nan, np.where(part < 1, DECADES_BELOW * (part - 1), np.log10(part)))
