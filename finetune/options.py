"""What is chosen before any work: known to the command line and the table reader without loading torch.

The checks are for what a caller in Python hands over, of whatever type; the command line has argparse for that.
"""

import difflib
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from typing import Any

from emlinit.generator.errors import UserError

GRAMMAR_CHOICES = ("auto", "exact", "weighted")
"""What a user may ask for: one of the grammars, or `auto`, which tries both."""
DEVICES = ("auto", "cpu", "cuda")
"""Devices that the network may run on; `auto` is the first CUDA device if there is one, else the CPU."""
LOSSES = ("squares", "huber", "l1")
"""What residuals count as: their squares, or less where they are large (see `fitting.misfit`)."""
MIN_ROWS = 3
"""Fewest rows of finite numbers from which a law is fitted."""
HEADER_CHOICES = ("auto", "yes", "no")
"""Whether a table's first line holds the names; `auto` looks at it."""
MOST_SECONDS = 1e9
"""Longest search, some thirty years."""
MAX_COMPLEXITY = 30
"""Most nodes of the expression tree of a law that is offered, unless there is nothing else."""
LARGEST_SEED = 2**63 - 1
"""What fits all sources of randomness."""

OPERATORS = (
    *("+", "*", "/", "^", "sqrt", "abs", "exp", "ln", "sin", "cos", "tan", "cot", "sec", "csc"),
    *("asin", "acos", "atan", "acot", "sinh", "cosh", "tanh", "coth", "sech", "csch", "asinh", "acosh", "atanh"),
)
"""What a law may be asked to be written in."""
_SYNONYMS = {"-": "+", "**": "^", "pow": "^", "log": "ln"} | {
    f"arc{name[1:]}": name for name in OPERATORS if name.startswith("a") and name != "abs"
}


def checked_seconds(value: Any) -> float:
    """Time for a search as a number.

    Raises:
        UserError: it is no number, or none from 0 (not included) to `MOST_SECONDS`.
    """
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number:
        raise UserError(f"seconds must be a number, got {in_one_line(value)}")
    if not value > 0:
        raise UserError(f"seconds must be positive, got {in_one_line(value)}")
    if not value <= MOST_SECONDS:
        raise UserError(f"seconds must be at most {MOST_SECONDS:g}, got {in_one_line(value)}")
    return float(value)


def checked_seed(value: Any, name: str = "seed") -> int:
    """A seed as an int; `name` is what the caller knows it by.

    Raises:
        UserError: it is no whole number, or none from 0 to `LARGEST_SEED`.
    """
    is_whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not is_whole:
        raise UserError(f"{name} must be a whole number, got {in_one_line(value)}")
    if not 0 <= value <= LARGEST_SEED:
        raise UserError(f"{name} must be from 0 to 2^63 - 1, got {in_one_line(int(value))}")
    return int(value)


def checked_choice(value: Any, name: str, choices: Sequence[str]) -> str:
    """One of some words; `name` says what they are.

    Raises:
        UserError: it is none of them.
    """
    if not isinstance(value, str) or value not in choices:
        given = f"'{value}'" if isinstance(value, str) else in_one_line(value)
        raise UserError(f"unknown {name} {given}: use one of {', '.join(choices)}")
    return value


def checked_operators(value: Any, name: str) -> frozenset[str] | None:
    """Operators by the names of `OPERATORS`, given as a text with commas or as several texts; None stays None.

    `name` is what the caller knows them by.

    Raises:
        UserError: one is not known, or there are none.
    """
    if value is None:
        return None
    parts = value.split(",") if isinstance(value, str) else list(value) if isinstance(value, Iterable) else [value]
    wrong = next((part for part in parts if not isinstance(part, str)), None)
    if wrong is not None:
        raise UserError(f"{name} must be names such as +,*,exp: got {in_one_line(wrong)}")
    asked = [part.strip().lower() for part in parts if part.strip()]
    if not asked:
        raise UserError(f"{name} must name at least one of {' '.join(OPERATORS)}")
    for each in asked:
        if each not in OPERATORS and each not in _SYNONYMS:
            known = [*OPERATORS, *_SYNONYMS]
            begins = [name for name in sorted(known, key=len) if len(name) > 1 and each.startswith(name)][-1:]
            close = begins or difflib.get_close_matches(each, known, n=1)  # cosine is nearer to sin than to cos
            hint = f"did you mean '{close[0]}'?" if close else f"there are {' '.join(OPERATORS)}"
            raise UserError(f"unknown operator {in_one_line(each)}: {hint}")
    return frozenset(_SYNONYMS.get(each, each) for each in asked)


def checked_complexity(value: Any) -> int:
    """Most nodes of a law as an int.

    Raises:
        UserError: it is no whole number from 1 on.
    """
    is_whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not is_whole or value < 1:
        raise UserError(f"max_complexity must be a whole number from 1 on, got {in_one_line(value)}")
    return int(value)


def checked_flag(value: Any, name: str) -> bool:
    """Yes or no; `name` says to what.

    Raises:
        UserError: it is neither.
    """
    if isinstance(value, bool) or type(value).__name__ == "bool":  # NumPy's, too
        return bool(value)
    raise UserError(f"{name} must be True or False, got {in_one_line(value)}")


def checked_names(value: Any, n_columns: int) -> tuple[str, ...]:
    """Names of columns, x1, x2, ... if there are none.

    Raises:
        UserError: they are not text, not as many as columns, or not all different.
    """
    if value is None:
        return tuple(f"x{number + 1}" for number in range(n_columns))
    try:
        names = () if isinstance(value, str) else tuple(value)
    except TypeError:
        names = ()
    wrong = [value] if isinstance(value, str) else [name for name in names if not isinstance(name, str)]
    if wrong:
        raise UserError(f"names must be a list of texts, one a column: got {in_one_line(wrong[0])}")
    if len(names) != n_columns:
        raise UserError(f"names must be a list of {n_columns} texts, one a column: got {in_one_line(value)}")
    if len(set(names)) < n_columns:
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"names must be all different: {in_one_line(twice)} is there twice")
    return tuple(str(name) for name in names)


def in_one_line(value: Any) -> str:
    """A value in an error message: one line, and not a long one."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # whole numbers of more than some thousand digits are not printed
        text = f"an {type(value).__name__} that is too long to print"
    return text if len(text) <= 60 else f"{text[:57]}..."
