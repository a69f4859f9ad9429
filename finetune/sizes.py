"""Which numbers are too large or too small to compute with, for the table reader and for `solve` alike.

Squares, products and inverses of the data must be doubles. In any unit in use, a number beyond is a mark for a missing one.
"""

import numpy as np

LARGEST_SIZE, SMALLEST_SIZE = 1e100, 1e-100
"""Largest |number| of a column, and least size that the largest of a column may have."""


def odd_size(numbers: np.ndarray) -> tuple[int, str, str] | None:
    """The number that a finite column of shape (p,) cannot have: its place, itself as text, and what to do about it.

    None if there is none.
    """
    sizes = np.abs(numbers)
    place = int(sizes.argmax())
    shown = repr(float(numbers[place]))
    if sizes[place] > LARGEST_SIZE:
        advice = "leave the cell empty if it marks a missing value, or take another unit"
        return place, shown, f"numbers beyond {LARGEST_SIZE:g} cannot be fitted, {advice}"
    if 0 < sizes[place] < SMALLEST_SIZE:
        advice = "take another unit"
        return place, f"nothing larger than {shown}", f"numbers below {SMALLEST_SIZE:g} cannot be fitted, {advice}"
    return None
