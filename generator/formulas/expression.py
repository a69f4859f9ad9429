"""Sympy expressions as numbers: evaluation by walking the tree (no code is generated), and the size of a formula."""

from collections.abc import Callable, Sequence

import numpy as np
import sympy

from emlinit.generator.formulas.numpy_functions import NUMPY_FUNCTIONS, NumpyFunction


def _of_complex(function: NumpyFunction) -> Callable[..., np.ndarray]:
    """A function of complex arrays with complex results."""
    run = function.function
    if function.of_reals:
        return lambda *z: run(*(argument.real for argument in z)) + 0j
    return (lambda *z: run(*z) + 0j) if function.real_result else run


_FUNCTIONS = {getattr(sympy, name): _of_complex(function) for name, function in NUMPY_FUNCTIONS.items()}


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
            return np.full(len(x), number_value(node))
        if node.is_Add:
            return np.asarray(np.sum([value(arg) for arg in node.args], axis=0))
        if node.is_Mul:
            return np.asarray(np.prod([value(arg) for arg in node.args], axis=0))
        if node.is_Pow:
            return _power(value(node.base), node.exp, value)
        return _FUNCTIONS[type(node)](*(value(arg) for arg in node.args))

    with np.errstate(all="ignore"):
        return value(expr)


def double_of(number: sympy.Expr) -> complex:
    """A number's value in double precision; not finite as soon as anything on the way is beyond it.

    `evalf` is right to the last digit and may take for ever, as for exp(exp(4930210)); this says whether it may be asked.
    """
    if number.is_Number or number in (sympy.pi, sympy.E):
        try:
            return complex(float(number))
        except (OverflowError, TypeError):
            return complex(np.inf)
    if number is sympy.I:
        return 1j
    values = [np.complex128(double_of(arg)) for arg in number.args]
    if not values or not np.isfinite(values).all():
        return complex(np.inf)
    with np.errstate(all="ignore"):
        if number.is_Add:
            return complex(np.sum(values))
        if number.is_Mul:
            return complex(np.prod(values))
        if number.is_Pow:
            return complex(values[0] ** values[1])
        function = _FUNCTIONS.get(type(number))
        return complex(np.inf) if function is None else complex(function(*values))


def number_value(number: sympy.Expr) -> complex:
    """A number's value to the last digit; not finite where it is beyond double precision."""
    value = double_of(number)
    return complex(number.evalf(17)) if np.isfinite(value) else value


def _power(base: np.ndarray, exponent: sympy.Expr, value: Callable[[sympy.Basic], np.ndarray]) -> np.ndarray:
    if exponent.is_Integer and abs(int(exponent)) < 64:  # exact signs, unlike exp(k ln z)
        power: np.ndarray = np.prod([base] * abs(int(exponent)), axis=0)
        return power if exponent > 0 else np.asarray(1 / power)
    return np.asarray(base ** value(exponent))


def size_at_most(expr: sympy.Expr) -> int:
    """Nodes of the expression tree, where a number is one however it is written, such as 2*0.5**2; `complexity` or less."""
    if not expr.free_symbols:
        return 1
    varying = [arg for arg in expr.args if arg.free_symbols]
    is_sum = expr.is_Add or expr.is_Mul
    n_numbers = len(expr.args) - len(varying)
    return 1 + sum(size_at_most(arg) for arg in varying) + (min(n_numbers, 1) if is_sum else n_numbers)


def complexity(expr: sympy.Expr) -> int:
    """Number of nodes of the expression tree: operators, functions, variables and constants, as SRBench counts."""
    return sum(1 for _ in sympy.preorder_traversal(expr))
