"""Which numbers no law can be fitted to, too large, too small, or all the same, for the table reader and for `solve` alike.

Squares, products and inverses of the data must be doubles. In any unit in use, a number beyond is a mark for a missing one.
"""

from collections.abc import Sequence

import numpy as np

from emlinit.generator.errors import UserError

LARGEST_SIZE, SMALLEST_SIZE = 1e100, 1e-100
"""Largest |number| of a column, and least size that the largest of a column may have."""
_MOST_NAMES = 20  # columns that are listed


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


def said_of_constants(constant: Sequence[tuple[str, float]]) -> list[str]:
    """What a user is told of the constant columns, by name and value; nothing if there are none."""
    shown = ", ".join(f"{name} is {value:.6g}" for name, value in constant[:_MOST_NAMES])
    more = ", ..." if len(constant) > _MOST_NAMES else ""
    return [f"the same in every row, and so no variables: {shown}{more}"] if constant else []


def constant_columns(x: np.ndarray, names: Sequence[str]) -> list[int]:
    """The columns of x, of shape (p, v), that are the same in every row; they can explain nothing.

    Raises:
        UserError: all of them are.
    """
    constant = np.flatnonzero(x.max(axis=0) == x.min(axis=0)).tolist() if len(x) else []
    if len(constant) == x.shape[1]:
        shown = ", ".join(f"'{names[place]}' is {float(x[0, place])!r}" for place in constant[:3])
        more = ", ..." if len(constant) > 3 else ""
        raise UserError(
            f"no feature varies ({shown}{more} in every row): give a column that does, to explain the target by"
        )
    return constant
