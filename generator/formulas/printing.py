"""Numbers and formulas as text at full precision.

sympy prints 15 digits of a float; a double needs up to 17. `repr` gives the shortest text that reads back as the same
number, so that what is printed is what predicts.
"""

from typing import SupportsFloat

import sympy
from sympy.printing.str import StrPrinter


def float_text(number: SupportsFloat) -> str:
    """The shortest text that reads back as the same double."""
    return repr(float(number))


def formula_text(expression: sympy.Expr) -> str:
    """The formula in Python's and sympy's notation; `float` of each number printed is the number of the expression."""
    return str(_FullPrecision().doprint(expression))


def shortened(what: object, longest: int = 60) -> str:
    """The beginning of a formula's or number's text, for a message; what cannot be printed at all is named."""
    try:
        text = str(what)
    except (ValueError, RecursionError):  # a whole number of thousands of digits, or very deep brackets
        return "..."
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


class _FullPrecision(StrPrinter):  # type: ignore[misc]
    def _print_Float(self, number: sympy.Float) -> str:
        return float_text(number)
