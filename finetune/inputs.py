"""What a caller in Python hands to a search, checked before any work: the data, and the language of the law.

Legend: p point, v input variable.
"""

from typing import Any

import numpy as np

from emlinit.finetune.law.language import Language
from emlinit.finetune.options import (
    MIN_ROWS,
    checked_complexity,
    checked_flag,
    checked_operators,
    in_one_line,
)
from emlinit.finetune.sizes import odd_size
from emlinit.generator.errors import UserError


def checked_data(x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    """Points as float64 of shape (p, v), and targets of shape (p,).

    Raises:
        UserError: what `solve` refuses of them.
    """
    x, y = _numbers(x, "x"), _numbers(y, "y")
    _check(x, y)
    return x, y


def checked_language(operators: Any, forbid: Any, max_complexity: Any, integer_exponents: Any) -> Language:
    """What a law may be written in; parameters as those of `solve`.

    Raises:
        UserError: an operator that is not known, or an option out of its range.
    """
    return Language(
        checked_operators(operators, "operators"),
        checked_operators(forbid, "forbid") or frozenset(),
        checked_complexity(max_complexity),
        checked_flag(integer_exponents, "integer_exponents"),
    )


def _numbers(values: Any, name: str) -> np.ndarray:
    """Real numbers as float64."""
    try:
        given = np.asarray(values)
        if given.dtype.kind not in "cmM":  # numpy would drop imaginary parts, and count nanoseconds
            return given.astype(np.float64, copy=False)
    except (ValueError, TypeError, OverflowError, RuntimeError):
        pass
    raise UserError(f"{name} must hold real numbers in rows of one length: got {in_one_line(values)}")


def _check(x: np.ndarray, y: np.ndarray) -> None:
    if x.ndim != 2 or y.shape != x.shape[:1] or not x.shape[1]:
        raise UserError(f"x must be (points, variables) and y (points,): got {x.shape} and {y.shape}")
    if len(y) < MIN_ROWS:
        raise UserError(f"a search needs at least {MIN_ROWS} rows, got {len(y)}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise UserError("the data hold NaN or infinite values: drop those rows first")
    for name, column in (("y", y), *((f"column {i} of x", x[:, i]) for i in range(x.shape[1]))):
        odd = odd_size(column)
        if odd is not None:
            place, shown, advice = odd
            raise UserError(f"{name} holds {shown} in row {place}: {advice}")
