"""Write a formula as an EML program: the theorem, for one formula.

    python scripts/compile.py "x*y"
    python scripts/compile.py "2.5*exp(-0.7*t) + 0.3"

Prints the program in each grammar as prefix text, with its number of `eml` nodes and its depth.
"""

import argparse
import keyword
import sys
import unicodedata
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from emlinit.generator.errors import UserError
from emlinit.scripts.arguments import Parser
from emlinit.scripts.running import printable, run

if TYPE_CHECKING:
    import sympy

    from emlinit.generator.program import Programs

_EPILOG = """\
The exact grammar knows 1, the variables and eml(l, r) = exp(l) - ln(r) alone, so a formula in it has no constants but
those that can be built, such as whole numbers and e. The weighted grammar has free constants (c:), factors (w:),
imaginary factors (j:) and sums (+).

In the printed text x1, x2, ... are the variables in the order of --variables, in prefix form: `eml x1 1` is exp(x1).
Functions: exp, ln, sqrt, abs, sin, cos, tan, sinh, cosh, tanh and their inverses; pi and e; powers as ** or ^."""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line of `compile`."""
    parser = Parser("Write a formula as a tree of eml(l, r) = exp(l) - ln(r).", _EPILOG)
    parser.add_argument("formula", metavar="FORMULA", help='such as "x*y" (in quotes)')
    parser.add_argument(
        "--variables", metavar="A,B,...", help="their order (default: the names in the formula, in alphabetical order)"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    return run(lambda: _compile(parse(argv)))


def _compile(arguments: argparse.Namespace) -> int:
    import sympy

    from emlinit.generator.formulas.compile_exact import compile_exact
    from emlinit.generator.formulas.compile_weighted import compile_weighted
    from emlinit.generator.formulas.parse import names_in, parse_formula
    from emlinit.generator.formulas.printing import shortened

    text, variables = arguments.formula, arguments.variables
    names = names_in(text) if variables is None else _names(variables)
    symbols = [sympy.Symbol(name, real=True) for name in names]
    formula = parse_formula(text, symbols)
    if not symbols:
        raise UserError(f"'{shortened(text)}' has no variable: give a formula such as x*y")
    print(printable("variables: " + ", ".join(f"x{number} = {name}" for number, name in enumerate(names, 1))))
    print(f"exact:    {_line(compile_exact, formula, symbols)}")
    print(f"weighted: {_line(compile_weighted, formula, symbols)}")
    return 0


def _names(text: str) -> list[str]:
    """Names between commas, as Python reads them in a formula."""
    from emlinit.generator.formulas.printing import shortened

    names = [unicodedata.normalize("NFKC", name.strip()) for name in text.split(",")]
    for number, name in enumerate(names):
        if not name.isidentifier() or keyword.iskeyword(name):
            raise UserError(
                f"--variables should be names with commas between them, such as x,y: '{shortened(name)}' is no name"
            )
        if name in names[:number]:
            raise UserError(f"--variables should be all different: '{shortened(name)}' is there twice")
    return names


def _line(
    compiler: "Callable[[sympy.Expr, Sequence[sympy.Symbol]], Programs]",
    formula: "sympy.Expr",
    symbols: "Sequence[sympy.Symbol]",
) -> str:
    """The program and its size, or why there is none in this grammar."""
    from emlinit.generator.grammar import depth, size, to_text
    from emlinit.generator.program import tokens_from_program

    try:
        tokens, constants = tokens_from_program(compiler(formula, symbols))
    except UserError as problem:
        return f"none ({problem})"
    except RecursionError:
        return "none (the formula is nested too deeply)"
    n_nodes, levels = int(size(tokens[None])), int(depth(tokens[None]))
    return f"{to_text(tokens, constants)}  ({n_nodes} node{'s' * (n_nodes != 1)}, depth {levels})"


if __name__ == "__main__":
    sys.exit(main())
