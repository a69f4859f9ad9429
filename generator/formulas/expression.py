"""Sympy expressions as numbers: evaluation by walking the tree (no code is generated), and the size of a formula."""

from collections.abc import Callable, Sequence

import numpy as np
import sympy

_FUNCTIONS: dict[type[sympy.Basic], Callable[..., np.ndarray]] = {
    sympy.exp: np.exp,
    sympy.log: np.log,
    sympy.sin: np.sin,
    sympy.cos: np.cos,
    sympy.tan: np.tan,
    sympy.cot: lambda z: 1 / np.tan(z),
    sympy.sec: lambda z: 1 / np.cos(z),
    sympy.csc: lambda z: 1 / np.sin(z),
    sympy.asin: np.arcsin,
    sympy.acos: np.arccos,
    sympy.atan: np.arctan,
    sympy.acot: lambda z: np.arctan(1 / z),
    sympy.sinh: np.sinh,
    sympy.cosh: np.cosh,
    sympy.tanh: np.tanh,
    sympy.coth: lambda z: 1 / np.tanh(z),
    sympy.sech: lambda z: 1 / np.cosh(z),
    sympy.csch: lambda z: 1 / np.sinh(z),
    sympy.asinh: np.arcsinh,
    sympy.acosh: np.arccosh,
    sympy.atanh: np.arctanh,
    sympy.Abs: lambda z: np.abs(z) + 0j,
    sympy.sign: lambda z: np.sign(z.real) + 0j,
    sympy.re: lambda z: z.real + 0j,
    sympy.im: lambda z: z.imag + 0j,
    sympy.arg: lambda z: np.angle(z) + 0j,
    sympy.conjugate: np.conj,
    sympy.atan2: lambda b, a: np.arctan2(b.real, a.real) + 0j,
}


def evaluate_expression(expr: sympy.Expr, symbols: Sequence[sympy.Symbol], x: np.ndarray) -> np.ndarray:
    """Principal value of a formula at points.

    Args:
        expr: the formula.
        symbols: the symbol of each column.
        x: float64 of shape (p, v).

    Returns:
        complex128 of shape (p,), not finite where undefined.

    Raises:
        KeyError: a symbol or a function that is not known.
    """
    columns = {symbol: x[:, column].astype(np.complex128) for column, symbol in enumerate(symbols)}
    cache: dict[sympy.Basic, np.ndarray] = {}

    def value(node: sympy.Basic) -> np.ndarray:
        known = cache.get(node)
        if known is None:
            known = cache[node] = compute(node)
        return known

    def compute(node: sympy.Basic) -> np.ndarray:
        if node.is_Symbol:
            return columns[node]
        if not node.free_symbols:
            return np.full(len(x), complex(node.evalf(17)))
        if node.is_Add:
            return np.asarray(np.sum([value(arg) for arg in node.args], axis=0))
        if node.is_Mul:
            return np.asarray(np.prod([value(arg) for arg in node.args], axis=0))
        if node.is_Pow:
            return _power(value(node.base), node.exp, value)
        return _FUNCTIONS[type(node)](*(value(arg) for arg in node.args))

    with np.errstate(all="ignore"):
        return value(expr)


def _power(base: np.ndarray, exponent: sympy.Expr, value: Callable[[sympy.Basic], np.ndarray]) -> np.ndarray:
    if exponent.is_Integer and abs(int(exponent)) < 64:  # exact signs, unlike exp(k ln z)
        power: np.ndarray = np.prod([base] * abs(int(exponent)), axis=0)
        return power if exponent > 0 else np.asarray(1 / power)
    return np.asarray(base ** value(exponent))


def complexity(expr: sympy.Expr) -> int:
    """Number of nodes of the expression tree: operators, functions, variables and constants, as SRBench counts."""
    return sum(1 for _ in sympy.preorder_traversal(expr))
