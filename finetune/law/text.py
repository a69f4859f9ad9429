"""A formula as LaTeX with every constant at full precision, and as text with a few digits of each."""

import math
from collections.abc import Mapping

import sympy
from sympy.printing.latex import LatexPrinter
from sympy.printing.precedence import PRECEDENCE

from emlinit.generator.formulas.known_forms import replaced
from emlinit.generator.formulas.printing import float_text, formula_text

_LEAST_DIGITS, _MOST_DIGITS = 6, 17


class _FullLatex(LatexPrinter):  # type: ignore[misc]
    def _print_Float(self, number: sympy.Float) -> str:
        mantissa, _, exponent = float_text(number).partition("e")
        return rf"{mantissa} \cdot 10^{{{int(exponent)}}}" if exponent else mantissa

    def parenthesize(self, item: sympy.Expr, level: int, *args: object, **kwargs: object) -> str:
        text = str(super().parenthesize(item, level, *args, **kwargs))
        # A number with a power of ten is a product: as the base of a power it needs brackets.
        is_product = isinstance(item, sympy.Float) and r"\cdot" in text
        return rf"\left({text}\right)" if is_product and level >= PRECEDENCE["Pow"] else text


def short_text(expression: sympy.Expr, digits: int = 6) -> str:
    """The formula with its constants cut to a few digits, for tables; not for computing."""
    rounded = {number: sympy.Float(float(f"{float(number):.{digits}g}")) for number in expression.atoms(sympy.Float)}
    return formula_text(replaced(expression, rounded))


def people_text(expression: sympy.Expr, errors: Mapping[float, float | None]) -> str:
    """The formula with its constants to the digits that the data fix, for people.

    Each constant whose standard error is known is cut at the second digit of that, and not before its sixth digit: constants
    that trade off against each other are known better together than alone. What has no error stays as it is.

    Args:
        expression: the formula.
        errors: standard error by the size of a constant; None where the data do not determine it.
    """
    rounded = {}
    for number in expression.atoms(sympy.Float):
        error = errors.get(abs(float(number)))
        if error:
            last = math.floor(math.log10(error)) - 1
            digits = max(_LEAST_DIGITS, math.floor(math.log10(abs(float(number)))) - last + 1)
            rounded[number] = sympy.Float(float(f"{float(number):.{min(digits, _MOST_DIGITS)}g}"))
    return formula_text(replaced(expression, rounded))


def formula_latex(expression: sympy.Expr, symbol_names: Mapping[sympy.Symbol, str]) -> str:
    """The formula in LaTeX; `symbol_names` gives the LaTeX of each symbol."""
    settings = {"symbol_names": dict(symbol_names), "ln_notation": True}
    return str(_FullLatex(settings).doprint(expression))
