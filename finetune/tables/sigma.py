"""The errors of the target as a user says them: a column, one number for all rows, or a share of the value such as 5%."""

import math
import re

import numpy as np

from emlinit.generator.errors import UserError

_SHARE = re.compile(r"(.*?)\s*%")


def is_sigma_column(text: str, names: tuple[str, ...]) -> bool:
    """Whether a text names a column; if not, it is a number or a share.

    Raises:
        UserError: it is neither a column nor a positive number.
    """
    if text in names:
        return True
    number = _number(text)
    if number is None:
        raise UserError(
            f"--sigma '{text}' is no column and no positive number: give a column of errors, the error of all rows "
            "(0.02), or a share of the value (5%)"
        )
    return False


def sigma_of(text: str, y: np.ndarray, lines: np.ndarray) -> np.ndarray:
    """The same error for all targets of shape (p,), or a share of each.

    Raises:
        UserError: a share of 0, at the line of the file that is named.
    """
    number = _number(text)
    assert number is not None
    if not text.endswith("%"):
        return np.full(len(y), number)
    if not y.all():
        line = int(lines[int(np.argmin(np.abs(y)))])
        raise UserError(
            f"--sigma {text} of the target in line {line}, which is 0, is no error: give a column of errors, or one number"
        )
    return np.asarray(number / 100 * np.abs(y))


def checked_sigma(name: str, sigma: np.ndarray, lines: np.ndarray) -> np.ndarray:
    """A column of errors, all positive.

    Raises:
        UserError: names the first line in which one is not.
    """
    if not (sigma > 0).all():
        place = int(np.argmax(~(sigma > 0)))
        raise UserError(
            f"column '{name}' holds the error {sigma[place]:g} in line {lines[place]}: a value without error would outweigh "
            "all others; give the error that it has, or leave the row out"
        )
    return sigma


def _number(text: str) -> float | None:
    share = _SHARE.fullmatch(text)
    try:
        number = float(share[1] if share else text)
    except ValueError:
        return None
    return number if 0 < number < math.inf else None
