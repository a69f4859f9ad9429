"""From an ordinary formula to a weighted program: one walk over the sympy expression, written down with `builder`.

Equal nodes are shared. Every number of the program but the exact factors 1 is marked as free, so that a compiled
formula can be fitted to data as it stands.
"""

import functools
from collections.abc import Callable, Sequence

import sympy
import torch

from emlinit.generator.builder import Builder
from emlinit.generator.errors import UserError
from emlinit.generator.formulas.printing import shortened
from emlinit.generator.grammar import X1
from emlinit.generator.program import Programs
from emlinit.generator.slots import Slot, distinct_nodes

_FUNCTIONS: dict[type[sympy.Basic], Callable[[Builder, Slot], Slot]] = {
    sympy.exp: Builder.exp,
    sympy.log: Builder.ln,
    sympy.sin: Builder.sin,
    sympy.cos: Builder.cos,
    sympy.tan: Builder.tan,
    sympy.asin: Builder.asin,
    sympy.acos: Builder.acos,
    sympy.atan: Builder.atan,
    sympy.sinh: Builder.sinh,
    sympy.cosh: Builder.cosh,
    sympy.tanh: Builder.tanh,
    sympy.asinh: Builder.asinh,
    sympy.acosh: Builder.acosh,
    sympy.atanh: Builder.atanh,
    sympy.Abs: Builder.absolute,
}


def compile_weighted(expr: sympy.Expr, variables: Sequence[sympy.Symbol]) -> Programs:
    """Write a formula as a weighted program.

    Args:
        expr: a real formula in + - * / powers, exp, log, trigonometric and hyperbolic functions and their inverses.
        variables: the symbols, in the order of the columns of x. One that is declared positive lets logarithms be
            simplified further.

    Returns:
        A batch of one program over `len(variables)` variables.

    Raises:
        UserError: an unknown symbol or function, or a number that is not real and finite.
    """
    unknown = sorted(str(symbol) for symbol in expr.free_symbols - set(variables))
    if unknown:
        raise UserError(f"unknown symbol '{unknown[0]}': expected {', '.join(map(str, variables))}")
    positive = [number for number, symbol in enumerate(variables, 1) if symbol.is_positive]
    builder = Builder(len(variables), positive)
    numbers = {symbol: number for number, symbol in enumerate(variables, 1)}
    try:
        slot = builder.readout(_compile(expr, builder, numbers))
    except ArithmeticError as error:
        raise UserError(f"'{shortened(expr)}' has no program of real finite values: {error}") from error
    return program_from_slot(slot, len(variables))


def _compile(expr: sympy.Expr, builder: Builder, numbers: dict[sympy.Symbol, int]) -> Slot:
    if expr.is_Symbol:
        return builder.variable(numbers[expr])
    if not expr.free_symbols:
        value = complex(expr.evalf())
        if value.imag != 0 or not abs(value) < float("inf"):
            raise UserError(f"'{shortened(expr)}' is not a real finite number")
        return builder.constant(value.real)
    if expr.is_Add:
        return builder.add(*(_compile(arg, builder, numbers) for arg in expr.args))
    if expr.is_Mul:  # single terms first: they join to one exponential before a sum comes in
        factors = [_compile(arg, builder, numbers) for arg in expr.args]
        factors.sort(key=lambda factor: (factor.monomial is None and not factor.is_constant, factor.pending))
        return functools.reduce(builder.mul, factors)
    if expr.is_Pow:
        if expr.base == sympy.E:
            return builder.exp(_compile(expr.exp, builder, numbers))
        base, exponent = (_compile(arg, builder, numbers) for arg in expr.args)
        return builder.general_power(base, exponent)
    function = _FUNCTIONS.get(type(expr))
    if function is None:
        raise UserError(
            f"'{type(expr).__name__}' in '{shortened(expr)}' is not supported: use + - * / ** exp log sqrt sin cos ..."
        )
    return function(builder, _compile(expr.args[0], builder, numbers))


def program_from_slot(slot: Slot, n_variables: int) -> Programs:
    """The program, of shared nodes, whose readout is a builder's slot."""
    nodes = distinct_nodes(slot)
    number = {node: n_variables + 1 + place for place, node in enumerate(nodes)}
    slots = [inner for node in nodes for inner in (node.left, node.right) if inner is not None] + [slot]
    n_terms = max(1, *(len(inner.terms) for inner in slots))
    source = torch.zeros(1, len(slots), n_terms, dtype=torch.int64)
    weight = torch.zeros(1, len(slots), n_terms, 2, dtype=torch.float64)
    bias = torch.zeros(1, len(slots), 2, dtype=torch.float64)
    for place, inner in enumerate(slots):
        if inner.is_one:  # the exact 1 of the grammar, not a constant
            weight[0, place, 0, 0] = 1
            continue
        bias[0, place] = torch.tensor([inner.bias.real, inner.bias.imag], dtype=torch.float64)
        for term, (read, factor) in enumerate(inner.terms):
            source[0, place, term] = number[read] if read in number else read.tokens[0] - X1 + 1
            weight[0, place, term] = torch.tensor([factor.real, factor.imag], dtype=torch.float64)
    is_unit = (weight[..., 0] == 1) & (weight[..., 1] == 0)
    free_weight = (weight != 0) & ~is_unit[..., None]
    n_nodes = torch.tensor([len(nodes)])
    return Programs(source, weight, bias, n_nodes, n_variables, free_weight, bias != 0)
