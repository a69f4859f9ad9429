"""How much work a formula is, read off its tree before sympy is asked for anything that may explode.

Sympy multiplies out, factors and evaluates without asking how large the result will be: exp(-12500000 t) is for it a
polynomial of degree 12500000 in exp(-t), and (2 x)**12500000 begins with 2**12500000. So whole numbers stand as exponents
up to `LARGEST_EXPONENT` only, and two counts, both cheap, say when to leave a formula alone.
"""

import math

import sympy

LARGEST_EXPONENT = 64
"""An exponent beyond this is a double, which sympy leaves alone; up to it, it may be a whole number."""
_MOST_TERMS, _MOST_DEGREE = 120, 40
_ENDLESS = 10**6  # terms: no more are counted


def is_manageable(expr: sympy.Expr) -> bool:
    """Whether sympy may multiply a formula out and factor it: few terms would come of it, of a low degree."""
    return expanded_terms(expr) <= _MOST_TERMS and degree(expr) <= _MOST_DEGREE


def expanded_terms(expr: sympy.Expr) -> int:
    """At least the number of terms of the longest sum of `expr` once multiplied out, up to a million."""
    longest = 1

    def terms(node: sympy.Basic) -> int:
        nonlocal longest
        counts = [terms(arg) for arg in node.args]
        if node.is_Add:
            count = sum(counts)
        elif node.is_Mul:
            count = math.prod(counts)
        elif node.is_Pow and node.exp.is_Rational and counts[0] > 1:
            power = math.ceil(abs(node.exp))
            count = math.comb(counts[0] + power - 1, power) if power < _ENDLESS else _ENDLESS
        elif isinstance(node, sympy.exp):
            count = 1
        else:
            count = 1 if not counts else max(1, *counts) if node.is_Pow else 1
        count = min(count, _ENDLESS)
        longest = max(longest, count)
        return count

    terms(expr)
    return longest


def degree(expr: sympy.Expr) -> int:
    """At least the degree of the polynomials that sympy reads `expr` as, in roots and exponentials too.

    exp(7 x/3) x**(1/2) is one of degree 7 · 2 + 3 or so in exp(x/6) and x**(1/6).
    """
    denominators: set[int] = {1}

    def of_exponent(exponent: sympy.Expr) -> int:
        largest = 1
        for term in sympy.Add.make_args(exponent):
            number = term.as_coeff_Mul()[0]
            if number.is_Rational:
                largest = max(largest, abs(int(number.p)))
                denominators.add(int(number.q))
        return largest

    def of(node: sympy.Basic) -> int:
        below = [of(arg) for arg in node.args]
        if node.is_Mul:
            return sum(below)
        if isinstance(node, sympy.exp):
            return max(of_exponent(node.args[0]), *below)
        if node.is_Pow:
            return max(below[0], 1) * of_exponent(node.exp) if node.free_symbols else 0
        return max(below, default=int(node.is_Symbol))

    found = of(expr)
    return found * math.lcm(*denominators)
