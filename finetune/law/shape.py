"""Whether a formula is one of the shapes that have a name, and how many numbers it then takes to say it.

"A logistic curve of height 5, rate 1.25 and middle 4" says a formula of fourteen nodes: the name tells the form, and the
three numbers the rest. Who writes laws down by their shortest description has to count it so, or an exponential that
happens to need fewer symbols is taken for the sigmoid that the points lie on.

A shape is (constant) + (number) · core in one variable, and its core one of

    exp, ln, cos, |·|, arctan, a power      of a line          decays, growth, waves, kinks, power laws
    exp(-exp(line)), exp(c x**p)            and of c/(x + d)   Gompertz, stretched exponential, Arrhenius, Vogel
    exp(a quadratic), in x or ln x                             Gaussian, lognormal
    1/(b + c exp(line)), to a power                            logistic, Richards
    1/(b + c x**n), x**n/(b + c x**n), 1/(b + c line**2)       Hill, Michaelis and Menten, Lorentzian
    x**n exp(line), x**n/(exp(line) - 1), exp(line) cos(line)  gamma curve, Planck, damped oscillation
"""

from collections.abc import Sequence

import sympy

from emlinit.generator.formulas.expression import complexity
from emlinit.generator.formulas.known_forms import constant_and_terms, number_and_factors

_NODES_OF_A_NAME = 2  # one of some twenty, at 1.5 nats a node
_OF_A_LINE = (sympy.exp, sympy.log, sympy.cos, sympy.sin, sympy.Abs, sympy.atan)


def shape_parameters(expression: sympy.Expr) -> int | None:
    """Numbers other than ±1 in a formula that is a shape with a name, among them every exponent; None if it is none."""
    if len(expression.free_symbols) != 1:
        return None
    constant, terms = constant_and_terms(expression)
    if len(terms) != 1:
        return None
    number, factors = number_and_factors(terms[0])
    is_sum = len(factors) == 1 and factors[0].is_Add  # A (1 - exp(-k x))
    inner = shape_parameters(factors[0]) if is_sum else _core(factors)
    if inner is None:
        return None
    return inner + _told(number) + (_told(constant) if abs(constant) != abs(number) else 0)


def told_nodes(expression: sympy.Expr) -> int:
    """Nodes that it takes to say a formula: those of its expression tree, but of each term that is a shape with a name those
    of the name, of its variable and of its numbers, if they are fewer."""
    constant, terms = constant_and_terms(expression)
    alone = shape_parameters(expression)
    told = [_NODES_OF_A_NAME + 1 + alone] if alone is not None else []
    each = [(complexity(term), shape_parameters(term)) for term in terms]
    apart = [min(nodes, nodes if numbers is None else _NODES_OF_A_NAME + 1 + numbers) for nodes, numbers in each]
    n_terms = len(terms) + (constant != 0)
    together = sum(apart) + (complexity(constant) if constant != 0 else 0) + (n_terms > 1)
    return int(min([complexity(expression), together, *told])) if terms else complexity(expression)


def _core(factors: Sequence[sympy.Expr]) -> int | None:
    if len(factors) == 1:
        return _single(factors[0])
    return _pair(*factors) if len(factors) == 2 else None


def _single(factor: sympy.Expr) -> int | None:
    if isinstance(factor, _OF_A_LINE):
        line = _line(factor.args[0])
        return _exponent(factor.args[0]) if line is None and isinstance(factor, sympy.exp) else line
    if not factor.is_Pow or factor.exp.free_symbols:
        return None
    line = _line(factor.base)
    if line is not None:
        return line + _told(factor.exp)
    below = _bracket(factor.base)
    return None if below is None else below[0] + _told(factor.exp)


def _pair(first: sympy.Expr, second: sympy.Expr) -> int | None:
    for one, other in ((first, second), (second, first)):
        power = _power(one)
        if power is not None:
            below = _bracket(other.base) if other.is_Pow and other.exp == -1 else None
            if below is not None and below[1] == one:  # the exponent stands twice, and is told once
                return below[0]
            if below is not None and isinstance(below[1], sympy.exp):
                return power + below[0]
            if isinstance(other, sympy.exp):
                line = _line(other.args[0])
                return None if line is None else power + line
        if isinstance(one, sympy.exp) and isinstance(other, (sympy.cos, sympy.sin)):
            lines = [_line(one.args[0]), _line(other.args[0])]
            return None if None in lines else sum(line for line in lines if line is not None)
    return None


def _exponent(exponent: sympy.Expr) -> int | None:
    """What stands in exp(...) and is no line."""
    constant, terms = constant_and_terms(exponent)
    if len(terms) == 2:  # a quadratic, multiplied out
        by_power = {2: 0, 1: 0}
        variables = set()
        for term in terms:
            number, factors = number_and_factors(term)
            base, power = factors[0].as_base_exp() if len(factors) == 1 else (None, None)
            if power not in by_power or not _is_variable(base):
                return None
            by_power[int(power)] += _told(number)
            variables.add(base)
        return _told(constant) + sum(by_power.values()) if len(variables) == 1 else None
    if len(terms) != 1:
        return None
    number, factors = number_and_factors(terms[0])
    if len(factors) != 1:
        return None
    inner = factors[0]
    if isinstance(inner, sympy.exp):  # Gompertz
        told = _line(inner.args[0])
    elif inner.is_Pow and not inner.exp.free_symbols:
        told = _line(inner.base, of_logarithms=inner.exp == 2)
        told = None if told is None else told + (inner.exp not in (2, -1))
    else:
        told = None
    return None if told is None else _told(constant) + _told(number) + told


def _bracket(total: sympy.Expr) -> tuple[int, sympy.Expr] | None:
    """b + c g without a zero, g an exponential, a power of the variable or the square of a line, or exp(line) - 1: what is
    told, and g."""
    read = _affine(total)
    if read is None:
        return None
    constant, number, inner = read
    if not (constant * number > 0 or (constant, number) == (-1, 1)):
        return None
    if isinstance(inner, sympy.exp):
        told = _line(inner.args[0])
    elif inner.is_Pow and not inner.exp.free_symbols:
        told = _line(inner.base)
        told = None if told is None else told + (inner.exp != 2)
    else:
        told = 0 if inner.is_Symbol else None
    return None if told is None else (_told(constant) + _told(number) + told, inner)


def _power(factor: sympy.Expr) -> int | None:
    """x**n."""
    base, exponent = factor.as_base_exp() if factor.is_Pow else (factor, sympy.S.One)
    return _told(exponent) if base.is_Symbol and not exponent.free_symbols else None


def _line(expression: sympy.Expr, *, of_logarithms: bool = False) -> int | None:
    """a x + b, a (x - b), x/a, or the same of ln x: what is told of it."""
    read = _affine(expression)
    if read is None:
        return None
    constant, number, inner = read
    is_variable = _is_variable(inner) if of_logarithms else inner.is_Symbol
    told = 0 if is_variable else _line(inner, of_logarithms=of_logarithms) if inner.is_Add else None
    return None if told is None else _told(constant) + _told(number) + told


def _affine(total: sympy.Expr) -> tuple[sympy.Expr, sympy.Expr, sympy.Expr] | None:
    """b, c and g of b + c g, g being no product."""
    constant, terms = constant_and_terms(total)
    if len(terms) != 1:
        return None
    number, factors = number_and_factors(terms[0])
    return (constant, number, factors[0]) if len(factors) == 1 else None


def _is_variable(expression: sympy.Expr) -> bool:
    return bool(expression.is_Symbol or (isinstance(expression, sympy.log) and expression.args[0].is_Symbol))


def _told(number: sympy.Expr) -> int:
    """1 for a number that has to be told, 0 for ±1 and what stands for no number (0 in a sum)."""
    return int(number not in (0, 1, -1))
