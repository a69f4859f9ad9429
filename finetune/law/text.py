"""A formula as LaTeX with every constant at full precision, and as text with a few digits of each."""

from collections.abc import Mapping

import sympy
from sympy.printing.latex import LatexPrinter
from sympy.printing.precedence import PRECEDENCE

from emlinit.generator.formulas.known_forms import replaced
from emlinit.generator.formulas.printing import float_text, formula_text


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


def formula_latex(expression: sympy.Expr, symbol_names: Mapping[sympy.Symbol, str]) -> str:
    """The formula in LaTeX; `symbol_names` gives the LaTeX of each symbol."""
    settings = {"symbol_names": dict(symbol_names), "ln_notation": True}
    return str(_FullLatex(settings).doprint(expression))
