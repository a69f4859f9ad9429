"""A formula from text that is never evaluated: Python's `ast` reads it, and only what is listed here is accepted."""

import ast
import difflib
import math
from collections.abc import Callable, Sequence

import sympy

from emlinit.generator.errors import UserError
from emlinit.generator.formulas.printing import shortened

_LONGEST = 10_000  # characters
_DEEPEST = 200  # nesting of brackets and operators
_LARGEST_EXPONENT = 1000
_LARGEST_POWER_BASE = 1e30
_BEYOND = "a number in the formula is too large or too small"
_DOUBLE_BITS = 1024

_OPERATORS: dict[type[ast.operator], Callable[[sympy.Expr, sympy.Expr], sympy.Expr]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
}

_FUNCTIONS: dict[str, Callable[[sympy.Expr], sympy.Expr]] = {
    "exp": sympy.exp,
    "log": sympy.log,
    "ln": sympy.log,
    "sqrt": sympy.sqrt,
    "abs": sympy.Abs,
    "Abs": sympy.Abs,
    "square": lambda u: _power(u, sympy.Integer(2)),
    **{name: getattr(sympy, name) for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh")},
    **{name: getattr(sympy, name) for name in ("asin", "acos", "atan", "asinh", "acosh", "atanh")},
    "arcsin": sympy.asin,
    "arccos": sympy.acos,
    "arctan": sympy.atan,
}

_CONSTANTS = {"pi": sympy.pi, "e": sympy.E, "E": sympy.E}


def parse_formula(text: str, variables: Sequence[sympy.Symbol]) -> sympy.Expr:
    """Read a formula such as `2.5*exp(-0.7*x) + 0.3`.

    Args:
        text: + - * / and powers (`**` or `^`), brackets, numbers, pi, e, functions of one argument, variables.
        variables: the symbols that may occur; a variable called `e` or `pi` goes before the constant.

    Raises:
        UserError: anything else, with the place or the name at fault.
    """
    if len(text) > _LONGEST:
        raise UserError(f"the formula has {len(text)} characters, more than {_LONGEST}")
    try:
        tree = ast.parse(text.strip().replace("^", "**"), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UserError(f"'{shortened(text)}' is not a formula: {getattr(error, 'msg', error)}") from None
    try:
        expr = _read(tree.body, {symbol.name: symbol for symbol in variables}, 0)
    except (OverflowError, RecursionError) as error:
        raise UserError(f"'{shortened(text)}' cannot be worked out: {error}") from None
    if expr.has(sympy.zoo, sympy.nan, sympy.oo, -sympy.oo):
        raise UserError(f"'{shortened(text)}' is not finite: it divides by 0 or takes the logarithm of 0")
    return expr


def names_in(text: str) -> list[str]:
    """Names in a formula that are neither functions nor constants, in alphabetical order: its variables.

    A text that is no formula has none; `parse_formula` says what is wrong with it.
    """
    try:
        nodes = list(ast.walk(ast.parse(text.strip().replace("^", "**"), mode="eval")))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    called = {node.func for node in nodes if isinstance(node, ast.Call)}
    return sorted({node.id for node in nodes if isinstance(node, ast.Name) and node not in called} - set(_CONSTANTS))


def _read(node: ast.expr, variables: dict[str, sympy.Symbol], level: int) -> sympy.Expr:
    if level > _DEEPEST:
        raise UserError(f"the formula is nested deeper than {_DEEPEST} levels")
    if isinstance(node, ast.Constant):
        return _number(node.value)
    if isinstance(node, ast.Name):
        return _name(node.id, variables)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        operand = _read(node.operand, variables, level + 1)
        return -operand if isinstance(node.op, ast.USub) else operand
    if isinstance(node, ast.BinOp):
        left, right = _read(node.left, variables, level + 1), _read(node.right, variables, level + 1)
        if isinstance(node.op, ast.Pow):
            return _in_range(_power(left, right))
        if type(node.op) in _OPERATORS:
            return _in_range(_OPERATORS[type(node.op)](left, right))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        function = _FUNCTIONS.get(node.func.id)
        if function is None:
            raise UserError(f"unknown function '{shortened(node.func.id)}'{_nearest(node.func.id, _FUNCTIONS)}")
        if len(node.args) != 1 or node.keywords or isinstance(node.args[0], ast.Starred):
            raise UserError(f"'{node.func.id}' takes one argument")
        return _in_range(function(_read(node.args[0], variables, level + 1)))
    raise UserError(f"'{shortened(ast.unparse(node))}' cannot stand in a formula: use + - * / ** and functions")


def _number(value: object) -> sympy.Expr:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"{value!r} is not a real number")
    if isinstance(value, int):
        return _in_range(sympy.Integer(value))
    if value in (float("inf"), float("-inf")):
        raise UserError(_BEYOND)
    return sympy.Float(value)


def _name(name: str, variables: dict[str, sympy.Symbol]) -> sympy.Expr:
    if name in variables:
        return variables[name]
    if name in _CONSTANTS:
        return _CONSTANTS[name]
    raise UserError(f"unknown name '{shortened(name)}'{_nearest(name, [*variables, *_CONSTANTS])}")


def _power(base: sympy.Expr, exponent: sympy.Expr) -> sympy.Expr:
    """Powers of numbers are worked out at once, so 9**9**9 must not come this far."""
    if exponent.is_number and (not exponent.is_real or abs(float(exponent)) > _LARGEST_EXPONENT):
        raise UserError(f"the exponent {shortened(str(exponent))} is beyond {_LARGEST_EXPONENT}")
    if base.is_number and exponent.is_number and _size(base) > _LARGEST_POWER_BASE:
        raise UserError("a power of a number in the formula is too large")
    factor = base.as_coeff_Mul()[0]
    if exponent.is_number and abs(_bits(factor) * float(exponent)) > _DOUBLE_BITS:
        raise UserError(_BEYOND)
    return base**exponent


def _in_range(expr: sympy.Expr) -> sympy.Expr:
    """The same expression: sympy works out numbers as it goes, so that each is looked at before the next step."""
    terms = expr.args if expr.is_Add else (expr,)
    if not all(_is_double(term.as_coeff_Mul()[0]) for term in terms) or not _is_double(expr):
        raise UserError(_BEYOND)
    return expr


def _is_double(expr: sympy.Expr) -> bool:
    """Whether a number is within the range of doubles, numerator and denominator of a fraction, too; true of what is no
    number, and of what is not finite, which is another fault."""
    if expr.is_Rational:
        return bool(max(abs(expr.p), expr.q) < 2**_DOUBLE_BITS)
    return not expr.is_number or expr.has(sympy.zoo, sympy.nan, sympy.oo, -sympy.oo) or _size(expr) < math.inf


def _size(number: sympy.Expr) -> float:
    """Modulus in double precision, infinite beyond its range."""
    try:
        return abs(complex(number.evalf()))
    except (OverflowError, TypeError):  # too large to be worked out, or not finite
        return math.inf


def _bits(factor: sympy.Expr) -> float:
    """Bits of the larger one of numerator and denominator, up to a sign."""
    if factor.is_Rational:
        return float(max(abs(factor.p), factor.q).bit_length() - 1)
    size = _size(factor)
    return math.log2(size) if 0 < size < math.inf else 0.0


def _nearest(name: str, known: "Sequence[str] | dict[str, Callable[[sympy.Expr], sympy.Expr]]") -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f": did you mean '{close[0]}'?" if close else f": expected one of {shortened(', '.join(known), 200)}"
