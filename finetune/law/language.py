"""The language of the user's field: which operators and functions a law may be written in, and how long it may be.

It is judged by the formula as it is printed. What is a constant, such as sqrt(2) or exp(1), is in every language. A sum
needs `+`, which stands for differences, too, as constants have either sign; x**2 is x*x, and 2**x an exponential.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import sympy

from emlinit.generator.formulas.expression import size_at_most

_OWN_NAMES = {"log": "ln", "Abs": "abs"}  # of sympy's classes; the others have the names that users write
_WAVES = frozenset({"sin", "cos", "tan", "cot", "sec", "csc"})
_EXPONENTIALS = frozenset({"exp", "sinh", "cosh", "tanh", "coth", "sech", "csch"})
_LOGARITHMS = frozenset({"ln", "asin", "acos", "atan", "acot", "asinh", "acosh", "atanh"})
_QUOTIENTS = frozenset({"/", "^"}) | _WAVES | _EXPONENTIALS
_ROOTS = frozenset({"^", "sqrt", "asin", "acos", "asinh", "acosh"})


@dataclass(frozen=True)
class Language:
    """What a law may be made of; the default but for the length is everything."""

    operators: frozenset[str] | None = None
    """Names that it may use, such as + * / ^ exp; None for all."""
    forbidden: frozenset[str] = frozenset()
    """Names that it may not use."""
    max_complexity: int = 30
    """Most nodes of the printed formula's expression tree (see `size_at_most`)."""
    integer_exponents: bool = False
    """Whether powers of what varies have whole exponents."""
    factors: frozenset[str] = frozenset()
    """Symbols of columns that have two or three levels: no function and no power is taken of these alone, since any of them
    would say no more than a line or a parabola through the levels."""

    def admits(self, expression: sympy.Expr) -> bool:
        """Whether the formula is in the language."""
        return size_at_most(expression) <= self.max_complexity and self.speaks(expression)

    def speaks(self, expression: sympy.Expr) -> bool:
        """Whether it is, but for its length."""
        if self.operators is None and not self.forbidden and not self.integer_exponents and not self.factors:
            return True
        return all(self._has(node) for node in _varying(expression))

    def form(self, expression: sympy.Expr) -> sympy.Expr | None:
        """The formula as it can be said, but for its length: as it stands, or with its sines as cosines or the other way
        round, since which of them is printed is a matter of the phase; None if it cannot."""
        if self.speaks(expression):
            return expression
        for old, new, turn in ((sympy.cos, sympy.sin, math.pi / 2), (sympy.sin, sympy.cos, -math.pi / 2)):
            if expression.has(old):
                turned = expression.replace(old, lambda angle, new=new, turn=turn: new(_turned(angle, turn)))
                if self.speaks(turned):
                    return turned
        return None

    @cached_property
    def without(self) -> frozenset[str]:
        """Ingredients of programs that no law of the language has (see `search.ingredients`)."""
        listed = self.operators is not None  # who forbids exp alone is not served with tanh
        ways = {
            "wave": _WAVES if listed else frozenset({"sin", "cos"}),
            "exp": _EXPONENTIALS | {"^"} if listed and "exp" not in self.forbidden else frozenset({"exp"}),
            "ln": _LOGARITHMS,
            "inverse": _QUOTIENTS if listed else frozenset({"/"}),
            "root": frozenset() if self.integer_exponents else _ROOTS,
        }
        return frozenset(part for part, names in ways.items() if not any(map(self._knows, names)))

    def _knows(self, name: str) -> bool:
        return (self.operators is None or name in self.operators) and name not in self.forbidden

    def _is_of_factors(self, node: sympy.Expr) -> bool:
        return bool(self.factors) and all(symbol.name in self.factors for symbol in node.free_symbols)

    def _has(self, node: sympy.Expr) -> bool:
        """Whether the operation at the top of a formula is there."""
        if self.integer_exponents and node.is_Pow and node.base.free_symbols and not _is_whole(node.exp):
            return False
        if self._is_of_factors(node) and not (node.is_Add or node.is_Mul or (node.is_Pow and node.exp == 2)):
            return False
        printed, ways = _names(node)
        known = self.operators is None or any(way <= self.operators for way in ways)
        return known and not printed & self.forbidden


def _varying(expression: sympy.Expr) -> Iterator[sympy.Expr]:
    """Parts of a formula that depend on a variable and are none themselves."""
    if expression.free_symbols and not expression.is_Symbol:
        yield expression
        for part in expression.args:
            yield from _varying(part)


def _names(node: sympy.Expr) -> tuple[frozenset[str], list[frozenset[str]]]:
    """What an operation is printed as, and the operators each of which can say it."""
    if node.is_Add:
        name = frozenset({"+"})
        return name, [name]
    if node.is_Mul:
        # What is divided by is a power; -x is no product, and x/2 may be a quotient.
        number, rest = node.as_coeff_Mul()
        above = [factor for factor in rest.as_ordered_factors() if not _is_negative(factor)]
        n_above = len(above) + (abs(number) != 1)
        if n_above < 2:
            return frozenset(), [frozenset()]
        halved = len(above) == 1 and number.is_Rational and abs(number.p) == 1
        return frozenset({"/" if halved else "*"}), [frozenset({"*"}), *([frozenset({"/"})] if halved else [])]
    if node.is_Pow:
        return _power_names(node)
    name = frozenset({_OWN_NAMES.get(type(node).__name__, type(node).__name__)})
    return name, [name]


def _power_names(node: sympy.Pow) -> tuple[frozenset[str], list[frozenset[str]]]:
    power = frozenset({"^"})
    if not node.base.free_symbols:
        return frozenset({"^", "exp"}), [power, frozenset({"exp"})]
    if node.exp.free_symbols:
        return power, [power]
    exponent = float(node.exp)
    size, below = abs(exponent), frozenset({"/"} if exponent < 0 else ())
    if size == 1:
        return below, [below, power]
    if size == 0.5:
        return below | {"sqrt"}, [below | {"sqrt"}, power]
    if not (2 * exponent).is_integer():
        return below | power, [power]
    repeated = below | {"*"} | (frozenset() if exponent.is_integer() else frozenset({"sqrt"}))
    return below | power, [repeated, power]


def _is_negative(factor: sympy.Expr) -> bool:
    """Whether a factor stands in the denominator."""
    return bool(factor.is_Pow and factor.exp.is_number and factor.exp.is_real and factor.exp < 0)


def _is_whole(exponent: sympy.Expr) -> bool:
    return not exponent.free_symbols and bool(exponent.is_real) and float(exponent).is_integer()


def _turned(angle: sympy.Expr, turn: float) -> sympy.Expr:
    """The angle and some more, its phase in (-pi, pi]."""
    phase, rest = angle.as_coeff_Add()
    return rest + sympy.Float(math.remainder(float(phase) + turn, 2 * math.pi))
