"""A sympy expression as NumPy: one lowering and one table, so that prediction and exported source are the same.

`lower` turns the expression into nodes, each one NumPy operation of the table `OPERATIONS`; `evaluate_real` runs them,
`python_module` writes them down.

Arithmetic is complex where it has to be, on the principal branch with Im ln in (-pi, pi]: `np.emath` leaves the real
line only when a logarithm, a root or a power meets a negative number. Where an argument may already be complex, `+ 0`
turns an imaginary part of -0.0 into 0.0, which would otherwise select the other side of the cut. The law is the real
part of the result.
"""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import sympy

from emlinit.generator.formulas.numpy_functions import NUMPY_FUNCTIONS, NumpyFunction
from emlinit.generator.formulas.printing import float_text, shortened

Array = Any  # a float64 or complex128 array, or a number: NumPy's types do not say which

TIGHTEST = 5
"""How tightly a number, a name or a call binds; sums 1, products 2, a sign 3, powers 4, as in Python."""


@dataclass(frozen=True)
class Operation:
    """What a node does, as a function of arrays and as Python source."""

    function: Callable[..., Array]
    """The operation on arrays or numbers."""
    source: str
    """The operation in Python, with {} for each operand."""
    binds: int = TIGHTEST
    """How tightly the source binds."""
    operands_bind: tuple[int, ...] = ()
    """How tightly each operand has to bind, or else it is put into brackets; 0 if none of them needs any."""


_ARITHMETIC = {
    "add": Operation(operator.add, "{} + {}", 1, (1, 2)),  # left to right: the right operand has to bind more tightly
    "sub": Operation(operator.sub, "{} - {}", 1, (1, 2)),
    "mul": Operation(operator.mul, "{}*{}", 2, (2, 3)),
    "div": Operation(operator.truediv, "{}/{}", 2, (2, 3)),
    "neg": Operation(operator.neg, "-{}", 3, (3,)),
    "pow": Operation(operator.pow, "{}**{}", 4, (5, 4)),  # right to left
}


def _call_of(function: NumpyFunction) -> Operation:
    return Operation(function.function, function.source, 2 if function.reciprocal_result else TIGHTEST)


def _for_reals(function: NumpyFunction) -> NumpyFunction:
    """The function as NumPy has it for real arguments from which it leaves the real line."""
    has_one = function.leaves_reals and function.name != "arccosh"
    return replace(function, name=f"emath.{function.name}") if has_one else function


_FUNCTIONS = {name: _for_reals(function) for name, function in NUMPY_FUNCTIONS.items()} | {
    "log of positive": replace(NUMPY_FUNCTIONS["log"], leaves_reals=False),
    "sqrt": NumpyFunction("emath.sqrt", leaves_reals=True),
    "power": NumpyFunction("emath.power", n_arguments=2, leaves_reals=True),
}
"""What `_call` knows: sympy's functions, and some more."""

OPERATIONS = _ARITHMETIC | {name: _call_of(function) for name, function in _FUNCTIONS.items()}
"""By the head of the node: the one table that `evaluate_real` and the printed source read."""
_CONSTANTS = {sympy.pi: ("np.pi", np.pi), sympy.E: ("np.e", np.e), sympy.I: ("1j", 1j)}


@dataclass(frozen=True, eq=False)
class Node:
    """One NumPy operation; nodes that are the same object are computed once."""

    head: str
    """"number", "variable", or a key of `OPERATIONS`."""
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
            return _call("log of positive", argument) if argument.is_positive else _call("log", _plus_zero(argument))
        name = type(e).__name__
        if name in NUMPY_FUNCTIONS and e.args:
            return _function(name, *(self.node(argument) for argument in e.args))
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
            return _call("sqrt", _plus_zero(below))
        # A number to a power stays with NumPy: Python's own power of numbers raises where it overflows.
        if below.head != "number" and (exponent.is_Integer or (below.is_positive and not power.is_complex)):
            return _binary("pow", below, power)
        return _call("power", _plus_zero(below), power)


def _split_sign(e: sympy.Expr) -> tuple[bool, sympy.Expr]:
    """Whether a term carries a minus sign, and the term without it."""
    coefficient = e.as_coeff_Mul()[0]
    negative = bool(coefficient.is_real and coefficient.is_negative)
    return (True, -e) if negative else (False, e)


def _number(e: sympy.Expr) -> Node:
    value = int(e) if e.is_Integer and abs(int(e)) < 2**53 else float(e)
    if not np.isfinite(value):
        raise ValueError(f"the number {shortened(e)} is beyond double precision")
    return Node(
        "number", value=value, text=repr(value) if isinstance(value, int) else float_text(value), is_positive=value > 0
    )


def _negated(node: Node) -> Node:
    return Node("neg", (node,), is_complex=node.is_complex)


def _plus_zero(node: Node) -> Node:
    """The node, on the upper side of a cut."""
    return _binary("add", node, _number(sympy.Integer(0))) if node.is_complex else node


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
    is_power_of_positive = head in ("sqrt", "power") and args[0].is_positive and not any_complex
    function = _FUNCTIONS[head]
    leaves_reals = function.leaves_reals and not is_power_of_positive
    is_complex = not function.real_result and (any_complex or leaves_reals)
    return Node(
        head, args, is_complex=is_complex, is_positive=not is_complex and (head == "exp" or is_power_of_positive)
    )


def _function(name: str, *args: Node) -> Node:
    """A call of one of sympy's functions."""
    if name == "acosh":  # of which NumPy has none for real arguments below 1
        args = (_binary("add", args[0], Node("number", value=0j, text="0j", is_complex=True)),)
    if NUMPY_FUNCTIONS[name].of_reals:
        args = tuple(_call("re", arg) if arg.is_complex else arg for arg in args)
    return _call(name, *args)


def evaluate_real(node: Node, x: np.ndarray) -> np.ndarray:
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
        return OPERATIONS[at.head].function(*(run(arg) for arg in at.args))

    with np.errstate(all="ignore"):
        return np.asarray(run(node) + np.zeros(len(x)))
