"""A sympy expression as NumPy: one lowering, read by two walkers, so that prediction and exported source are the same.

`lower` turns the expression into nodes, each one NumPy operation; `evaluate` runs them, `source` writes them down.

Arithmetic is complex where it has to be, on the principal branch with Im ln in (-pi, pi]: `np.emath` leaves the real
line only when a logarithm, a root or a power meets a negative number. Where an argument may already be complex, `+ 0`
turns an imaginary part of -0.0 into 0.0, which would otherwise select the other side of the cut. The law is the real
part of the result.
"""

import operator
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy

Array = Any  # a float64 or complex128 array, or a number: NumPy's types do not say which

_BINARY: dict[str, tuple[str, int, Callable[[Array, Array], Array]]] = {
    "add": ("+", 1, operator.add),
    "sub": ("-", 1, operator.sub),
    "mul": ("*", 2, operator.mul),
    "div": ("/", 2, operator.truediv),
    "pow": ("**", 4, operator.pow),
}
_UNARY_MINUS = 3
_ATOM = 5

_CALLS: dict[str, tuple[str, Callable[..., Array]]] = {
    "exp": ("np.exp({})", np.exp),
    "log": ("np.log({})", np.log),
    "emath.log": ("np.emath.log({})", np.emath.log),
    "emath.sqrt": ("np.emath.sqrt({})", np.emath.sqrt),
    "emath.power": ("np.emath.power({}, {})", np.emath.power),
    "asin": ("np.emath.arcsin({})", np.emath.arcsin),
    "acos": ("np.emath.arccos({})", np.emath.arccos),
    "atanh": ("np.emath.arctanh({})", np.emath.arctanh),
    "acosh": ("np.arccosh({} + 0j)", lambda z: np.arccosh(z + 0j)),
    "re": ("np.real({})", np.real),
    "im": ("np.imag({})", np.imag),
    "Abs": ("np.abs({})", np.abs),
    "arg": ("np.angle({})", np.angle),
    "conjugate": ("np.conjugate({})", np.conjugate),
    "sign": ("np.sign({})", np.sign),
    "atan2": ("np.arctan2({}, {})", np.arctan2),
    "cot": ("1/np.tan({})", lambda z: 1 / np.tan(z)),
    "sec": ("1/np.cos({})", lambda z: 1 / np.cos(z)),
    "csc": ("1/np.sin({})", lambda z: 1 / np.sin(z)),
    "acot": ("np.arctan(1/({}))", lambda z: np.arctan(1 / z)),
    "coth": ("1/np.tanh({})", lambda z: 1 / np.tanh(z)),
    "sech": ("1/np.cosh({})", lambda z: 1 / np.cosh(z)),
    "csch": ("1/np.sinh({})", lambda z: 1 / np.sinh(z)),
    **{name: (f"np.{name}({{}})", getattr(np, name)) for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh")},
    **{name: (f"np.arc{name[1:]}({{}})", getattr(np, f"arc{name[1:]}")) for name in ("atan", "asinh")},
}
_REAL_RESULT = {"re", "im", "Abs", "arg", "atan2"}
_MAY_LEAVE_REAL = {"emath.log", "emath.sqrt", "emath.power", "asin", "acos", "atanh", "acosh"}
_CONSTANTS = {sympy.pi: ("np.pi", np.pi), sympy.E: ("np.e", np.e), sympy.I: ("1j", 1j)}


@dataclass(frozen=True, eq=False)
class Node:
    """One NumPy operation; nodes that are the same object are computed once."""

    head: str
    """"number", "variable", "neg", a key of the tables of operations, or "plus_zero"."""
    args: tuple["Node", ...] = ()
    """What the operation reads."""
    value: Array = None
    """The number, or the column of the variable."""
    text: str = ""
    """The number as source."""
    is_complex: bool = False
    """Whether the result may have an imaginary part."""
    is_positive: bool = False
    """Whether the result is real and surely positive (or overflows)."""


def lower(expression: sympy.Expr, symbols: Sequence[sympy.Symbol]) -> Node:
    """The operations that compute an expression whose free symbols are among `symbols` (column i is `symbols[i]`).

    Raises:
        ValueError: the expression holds something without a NumPy counterpart, or a number beyond double precision.
    """
    columns = {symbol: Node("variable", value=column) for column, symbol in enumerate(symbols)}
    return _Lowering(columns).node(expression)


class _Lowering:
    def __init__(self, done: dict[sympy.Expr, Node]) -> None:
        self.done = done

    def node(self, expression: sympy.Expr) -> Node:
        if expression not in self.done:
            self.done[expression] = self._new(expression)
        return self.done[expression]

    def _new(self, e: sympy.Expr) -> Node:
        if e in _CONSTANTS:
            text, value = _CONSTANTS[e]
            return Node("number", value=value, text=text, is_complex=e is sympy.I, is_positive=e is not sympy.I)
        if e.is_Float or e.is_Integer:
            return _number(e)
        if e.is_Rational:
            return _binary("div", _number(sympy.Integer(e.p)), _number(sympy.Integer(e.q)))
        if e.is_Add:
            return self._add(e)
        if e.is_Mul:
            return self._mul(e)
        if e.is_Pow:
            return self._pow(e.base, e.exp)
        if isinstance(e, sympy.log) and len(e.args) == 1:
            argument = self.node(e.args[0])
            return _call("log", argument) if argument.is_positive else _call("emath.log", _plus_zero(argument))
        name = type(e).__name__
        if name in _CALLS and e.args:
            return _call(name, *(self.node(argument) for argument in e.args))
        raise ValueError(f"'{e}' has no NumPy counterpart")

    def _add(self, e: sympy.Expr) -> Node:
        total: Node | None = None
        for term in e.as_ordered_terms():
            negative, positive_term = _split_sign(term)
            if total is None:
                total = self.node(term)
            else:
                total = _binary("sub" if negative else "add", total, self.node(positive_term))
        assert total is not None
        return total

    def _mul(self, e: sympy.Expr) -> Node:
        negative, e = _split_sign(e)
        if negative:
            return _negated(self.node(e))
        above: list[Node] = []
        below: list[Node] = []
        for factor in e.as_ordered_factors():
            if factor.is_Rational and not factor.is_Integer:
                above += [] if factor.p == 1 else [_number(sympy.Integer(factor.p))]
                below.append(_number(sympy.Integer(factor.q)))
            elif factor.is_Pow and factor.exp.is_number and factor.exp.is_negative:
                below.append(self._pow(factor.base, -factor.exp))
            else:
                above.append(self.node(factor))
        top = _product(above) if above else _number(sympy.Integer(1))
        return _binary("div", top, _product(below)) if below else top

    def _pow(self, base: sympy.Expr, exponent: sympy.Expr) -> Node:
        if exponent == 1:
            return self.node(base)
        if exponent.is_number and exponent.is_negative:
            return _binary("div", _number(sympy.Integer(1)), self._pow(base, -exponent))
        if base == sympy.E:
            return _call("exp", self.node(exponent))
        below, power = self.node(base), self.node(exponent)
        if exponent == sympy.Rational(1, 2):
            return _call("emath.sqrt", _plus_zero(below))
        # A number to a power stays with NumPy: Python's own power of numbers raises where it overflows.
        if below.head != "number" and (exponent.is_Integer or (below.is_positive and not power.is_complex)):
            return _binary("pow", below, power)
        return _call("emath.power", _plus_zero(below), power)


def _split_sign(e: sympy.Expr) -> tuple[bool, sympy.Expr]:
    """Whether a term carries a minus sign, and the term without it."""
    coefficient = e.as_coeff_Mul()[0]
    negative = bool(coefficient.is_real and coefficient.is_negative)
    return (True, -e) if negative else (False, e)


def _number(e: sympy.Expr) -> Node:
    value = int(e) if e.is_Integer and abs(int(e)) < 2**53 else float(e)
    if not np.isfinite(value):
        raise ValueError(f"the number {e} is beyond double precision")
    return Node("number", value=value, text=repr(value), is_positive=value > 0)


def _negated(node: Node) -> Node:
    return Node("neg", (node,), is_complex=node.is_complex)


def _plus_zero(node: Node) -> Node:
    return Node("plus_zero", (node,), is_complex=True) if node.is_complex else node


def _binary(head: str, left: Node, right: Node) -> Node:
    both = left.is_positive and right.is_positive
    return Node(head, (left, right), is_complex=left.is_complex or right.is_complex, is_positive=both and head != "sub")


def _product(nodes: Sequence[Node]) -> Node:
    total = nodes[0]
    for node in nodes[1:]:
        total = _binary("mul", total, node)
    return total


def _call(head: str, *args: Node) -> Node:
    any_complex = any(arg.is_complex for arg in args)
    is_complex = head not in _REAL_RESULT and (any_complex or head in _MAY_LEAVE_REAL)
    if head in ("emath.sqrt", "emath.power") and args[0].is_positive and not any_complex:
        is_complex = False
    positive = not is_complex and (head == "exp" or (head.startswith("emath") and args[0].is_positive))
    return Node(head, args, is_complex=is_complex, is_positive=positive and head != "emath.log")


def evaluate(node: Node, x: np.ndarray) -> np.ndarray:
    """Real part of the result on points `x`, float64 of shape (points, columns); not finite where undefined."""
    return np.asarray(np.real(evaluate_complex(node, x)), dtype=np.float64)


def evaluate_complex(node: Node, x: np.ndarray) -> np.ndarray:
    """The result on points `x`, float64 of shape (points, columns); complex128 only if it leaves the real line."""
    results: dict[int, Array] = {}

    def run(at: Node) -> Array:
        if id(at) not in results:
            results[id(at)] = compute(at)
        return results[id(at)]

    def compute(at: Node) -> Array:
        if at.head == "number":
            return at.value
        if at.head == "variable":
            return np.ascontiguousarray(x[:, at.value])  # strided input may take another SIMD path
        args = [run(arg) for arg in at.args]
        if at.head == "neg":
            return -args[0]
        if at.head == "plus_zero":
            return args[0] + 0
        return (_BINARY[at.head][2] if at.head in _BINARY else _CALLS[at.head][1])(*args)

    with np.errstate(all="ignore"):
        return np.asarray(run(node) + np.zeros(len(x)))


def source(node: Node, names: Sequence[str]) -> list[str]:
    """Assignments of Python source that end in `value = ...`; the variables are called `names`."""
    uses: Counter[int] = Counter()

    def count(at: Node) -> None:
        uses[id(at)] += 1
        if uses[id(at)] == 1:
            for arg in at.args:
                count(arg)

    count(node)
    lines: list[str] = []
    known: dict[int, str] = {}
    prefix = "t"
    while any(name.startswith(prefix) and name[len(prefix) :].isdecimal() for name in names):
        prefix += "_"

    def write(at: Node, outer: int = 0) -> str:
        if id(at) in known:
            return known[id(at)]
        text, precedence = _written(at, names, write)
        if uses[id(at)] > 1 and at.args and len(text) > 12:
            known[id(at)] = f"{prefix}{len(known) + 1}"
            lines.append(f"{known[id(at)]} = {text}")
            return known[id(at)]
        return text if precedence >= outer else f"({text})"

    last = write(node)
    return [*lines, f"value = {last}"]


def _written(at: Node, names: Sequence[str], write: Callable[..., str]) -> tuple[str, int]:
    """Source of one node and how tightly it binds."""
    if at.head == "number":
        return at.text, _ATOM if not at.text.startswith("-") else _UNARY_MINUS
    if at.head == "variable":
        return names[at.value], _ATOM
    if at.head == "neg":
        return "-" + write(at.args[0], _UNARY_MINUS), _UNARY_MINUS
    if at.head == "plus_zero":
        return f"{write(at.args[0], 1)} + 0", 1
    if at.head in _BINARY:
        sign, binds, _ = _BINARY[at.head]
        # Left to right: the right operand needs brackets where it binds no tighter; a power is the other way round.
        left, right = (binds + 1, binds) if at.head == "pow" else (binds, binds + 1)
        blank = " " if binds == 1 else ""
        return f"{write(at.args[0], left)}{blank}{sign}{blank}{write(at.args[1], right)}", binds
    text = _CALLS[at.head][0].format(*(write(arg) for arg in at.args))
    return text, 2 if text.startswith("1/") else _ATOM
