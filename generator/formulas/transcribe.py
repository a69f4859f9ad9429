"""A program written out as a formula, node by node, before any search for a shorter form.

Each slot and node is read as a pair (real part, imaginary part) of real sympy expressions:

    exp(u + j v)             -> e**u cos v, e**u sin v          so `Re exp(j (w x + f))` reads cos(w x + f)
    exp(p (e - eml(1, u)))   -> u**p                            the e cancels against the constant
    ln(a + j b)              -> kept as it is until it is known whether an exp takes it: exp(k ln z) = z**k

Numbers: a program of the exact grammar keeps e and pi as symbols. Otherwise every number is a double, so that constants
meet and cancel.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import sympy

from emlinit.generator.formulas.bounds import LARGEST_EXPONENT, is_manageable
from emlinit.generator.formulas.expression import complexity, double_of
from emlinit.generator.program import Programs

_LONGEST = 200  # nodes of an expression tree
_LONGEST_SQUARE = 60  # nodes of what is still multiplied out; trigonometry is simplified up to half of that
_LARGEST_INTEGER = 100  # what is larger is a double: sympy would take it for a degree
_LARGEST_FACTOR = 50.0  # exp of more stays in the exponent, where it does not overflow
_CANCELLED = 1e-14  # a sum of numbers below this share of the largest is 0
_ZERO, _ONE = sympy.S.Zero, sympy.S.One


@dataclass(frozen=True)
class _Value:
    """`re + j im + sum coefficient * ln(a + j b)`; where `polar` is known, that is exp(polar[0] + j polar[1])."""

    re: sympy.Expr
    im: sympy.Expr
    logs: tuple[tuple[complex, sympy.Expr, sympy.Expr], ...] = ()
    polar: tuple[sympy.Expr, sympy.Expr] | None = field(default=None)


class Transcriber:
    """Reads one program in given symbols, which should be declared real or positive."""

    def __init__(
        self, program: Programs, symbols: Sequence[sympy.Symbol], sign: Callable[[sympy.Expr], int] | None = None
    ):
        """Prepare to read a program.

        Args:
            program: a batch of one.
            symbols: one a variable.
            sign: 1 or -1 for an expression that has that sign wherever the formula must hold, 0 for one that has none;
                then no logarithm of a negative number is written. Without it all logarithms are taken to be of positive
                numbers.

        Raises:
            ValueError: the formula grows beyond all use, as it does where complex logarithms are nested.
            ArithmeticError, TypeError: a number on the way is not real.
        """
        self._exact = bool(program.is_exact()[0])
        self._sign = sign
        self._source = program.source[0].tolist()
        self._weight = program.weight[0].tolist()
        self._bias = program.bias[0].tolist()
        self._values = [_Value(_ONE, _ZERO), *(_Value(symbol, _ZERO) for symbol in symbols)]
        for node in range(int(program.n_nodes[0])):
            value = self._node(self._slot(2 * node), self._slot(2 * node + 1))
            if complexity(value.re) + complexity(value.im) > _LONGEST:
                raise ValueError(f"the formula has more than {_LONGEST} nodes")
            for part in (value.re, value.im):  # sympy would work out all its digits to know the sign
                if not part.free_symbols and not np.isfinite(double_of(part)):
                    raise OverflowError("a number is beyond double precision")
            self._values.append(value)

    def readout(self) -> sympy.Expr:
        """The formula: the real part of the last slot."""
        return self._plain(self._slot(len(self._source) - 1)).re

    # ---- numbers

    def _number(self, value: float) -> sympy.Expr:
        small = float(value).is_integer() and abs(value) <= _LARGEST_INTEGER
        return sympy.Integer(int(value)) if small else sympy.Float(value)

    def _evaluated(self, expr: sympy.Expr) -> sympy.Expr:
        """The expression, numbers turned into doubles unless the program is exact."""
        if self._exact or expr.is_Integer or expr.free_symbols:
            return expr
        if not np.isfinite(double_of(expr)):
            raise OverflowError("a number is beyond double precision")
        return sympy.Float(expr.evalf(17))

    def _sum(self, parts: Sequence[sympy.Expr]) -> sympy.Expr:
        """Sum in which numbers that cancel up to rounding do so."""
        if self._exact:
            return sympy.Add(*parts)
        numbers, rest = [], []
        for part in parts:
            number, others = part.as_coeff_Add()
            numbers.append(float(number))
            rest.append(others)
        total, largest = math.fsum(numbers), max(map(abs, numbers), default=0.0)
        if abs(total) <= _CANCELLED * largest:
            total = 0.0
        return sympy.Add(_without_dust(sympy.Add(*rest), rest), self._number(total))

    # ---- slots and nodes

    def _slot(self, slot: int) -> _Value:
        real, imaginary = [self._number(self._bias[slot][0])], [self._number(self._bias[slot][1])]
        logs: list[tuple[complex, sympy.Expr, sympy.Expr]] = []
        used: list[tuple[_Value, complex]] = []
        for read, (re, im) in zip(self._source[slot], self._weight[slot], strict=True):
            if re == 0 and im == 0:
                continue
            value = self._values[read]
            used.append((value, complex(re, im)))
            a, b = self._number(re), self._number(im)
            real += [a * value.re, -b * value.im]
            imaginary += [a * value.im, b * value.re]
            logs += [(complex(re, im) * coefficient, u, v) for coefficient, u, v in value.logs]
        polar = None
        if len(used) == 1 and not any(self._bias[slot]):
            polar = self._scaled_polar(*used[0])
        return _Value(self._sum(real), self._sum(imaginary), tuple(logs), polar)

    def _scaled_polar(self, value: _Value, weight: complex) -> tuple[sympy.Expr, sympy.Expr] | None:
        if value.polar is None:
            return None
        log_modulus = self._evaluated(sympy.log(self._number(abs(weight))))
        angle = sympy.pi * sympy.Rational({1: 0, 1j: 1, -1: 2, -1j: 3}.get(weight / abs(weight), -1), 2)
        if angle == -sympy.pi / 2:
            return None
        return self._sum([value.polar[0], log_modulus]), self._sum([value.polar[1], self._evaluated(angle)])

    def _node(self, left: _Value, right: _Value) -> _Value:
        modulus, angle, factors = self._exponent(left)
        re, im = self._cartesian(modulus, angle)
        for a, b, power in factors:
            re, im = self._times(re, im, *self._integer_power(a, b, power))
        polar = (self._log(modulus), angle) if not factors else None
        if right.im == 0 and not right.logs:
            if right.re == 1:
                return _Value(re, im, polar=polar)
            u, sign = right.re, self._sign_of(right.re)
            if sign < 0:
                return _Value(self._sum([re, -self._log(-u)]), self._sum([im, self._evaluated(-sympy.pi)]))
            if sign == 0:  # the angle is pi where u is negative
                half_turn = self._evaluated(sympy.pi / 2)
                angle = half_turn - half_turn * sympy.sign(u)
                return _Value(self._sum([re, -self._log(sympy.Abs(u))]), self._sum([im, -angle]))
            return _Value(self._sum([re, -self._log(u)]), im)
        if right.polar is not None:
            return _Value(self._sum([re, -right.polar[0]]), self._sum([im, -right.polar[1]]))
        plain = self._plain(right)
        return _Value(re, im, ((-1 + 0j, plain.re, plain.im),))

    def _plain(self, value: _Value) -> _Value:
        """The value with its complex logarithms written as modulus and angle."""
        re, im = [value.re], [value.im]
        for coefficient, a, b in value.logs:
            squared = _squared_modulus(a, b)
            known = self._sign is not None and a.free_symbols and self._sign(a) > 0
            log_modulus, angle = self._log(squared) / 2, sympy.atan(b / a) if known else _angle(a, b, squared)
            p, q = self._number(coefficient.real), self._number(coefficient.imag)
            re += [p * log_modulus, -q * angle]
            im += [p * angle, q * log_modulus]
        return _Value(self._sum(re), self._sum(im)) if value.logs else value

    # ---- exponentials

    def _exponent(self, value: _Value) -> tuple[sympy.Expr, sympy.Expr, list[tuple[sympy.Expr, sympy.Expr, int]]]:
        """exp of a slot as modulus, angle, and integer powers of complex numbers a + j b."""
        whole = [log for log in value.logs if log[0].imag == 0 and log[0].real.is_integer() and abs(log[0].real) <= 4]
        rest = self._plain(_Value(value.re, value.im, tuple(log for log in value.logs if log not in whole)))
        factors: list[sympy.Expr] = []
        exponents: list[sympy.Expr] = []
        for term in sympy.Add.make_args(rest.re):
            if isinstance(term, sympy.log) or any(isinstance(factor, sympy.log) for factor in term.args):
                factors.append(self._exp_term(term))
            elif term.is_number and not self._exact and abs(term) <= _LARGEST_FACTOR:
                factors.append(self._evaluated(sympy.exp(term)))
            else:
                exponents.append(term)
        modulus = sympy.Mul(*factors, sympy.exp(sympy.Add(*exponents)))
        return modulus, rest.im, [(a, b, int(coefficient.real)) for coefficient, a, b in whole]

    def _exp_term(self, term: sympy.Expr) -> sympy.Expr:
        """exp of one term: u**p where the term is p ln u."""
        logs = [factor for factor in sympy.Mul.make_args(term) if isinstance(factor, sympy.log)]
        if len(logs) == 1:
            exponent = term / logs[0]
            return sympy.Pow(logs[0].args[0], self._simple_exponent(exponent))
        return sympy.exp(term)

    def _simple_exponent(self, exponent: sympy.Expr) -> sympy.Expr:
        if exponent.is_Rational and abs(exponent) > LARGEST_EXPONENT:
            return sympy.Float(float(exponent))
        if not exponent.is_Float or abs(exponent) > LARGEST_EXPONENT:
            return exponent
        fraction = Fraction(float(exponent)).limit_denominator(12)
        if abs(float(fraction) - float(exponent)) <= 4e-16 * abs(float(exponent)):
            return sympy.Rational(fraction.numerator, fraction.denominator)
        return exponent

    def _cartesian(self, modulus: sympy.Expr, angle: sympy.Expr) -> tuple[sympy.Expr, sympy.Expr]:
        if angle == 0:
            return modulus, _ZERO
        constant, varying = angle.as_coeff_Add()
        turns = float(constant) / (math.pi / 2) if not self._exact and constant.is_number else 0.5
        if abs(turns - round(turns)) < 1e-14:  # quarter turns are exact
            cos, sin = sympy.cos(varying), sympy.sin(varying)
            for _ in range(round(turns) % 4):
                cos, sin = -sin, cos
        else:
            cos, sin = self._evaluated(sympy.cos(angle)), self._evaluated(sympy.sin(angle))
        return modulus * cos, modulus * sin

    def _times(self, a: sympy.Expr, b: sympy.Expr, c: sympy.Expr, d: sympy.Expr) -> tuple[sympy.Expr, sympy.Expr]:
        return self._sum([a * c, -b * d]), self._sum([a * d, b * c])

    def _integer_power(self, a: sympy.Expr, b: sympy.Expr, power: int) -> tuple[sympy.Expr, sympy.Expr]:
        if power < 0:
            squared = _squared_modulus(a, b)
            a, b = a / squared, -b / squared
        re, im = _ONE, _ZERO
        for _ in range(abs(power)):
            re, im = self._times(re, im, a, b)
        return re, im

    # ---- logarithms

    def _log(self, u: sympy.Expr) -> sympy.Expr:
        """ln u, exponentials and positive numbers taken out of it."""
        if not u.free_symbols:
            return sympy.expand_log(sympy.log(u), force=True) if self._exact else self._evaluated(sympy.log(u))
        outside: list[sympy.Expr] = []
        inside: list[sympy.Expr] = []
        factors = sympy.Mul.make_args(_sign_inside(u))
        if self._sign is not None:  # u is positive, its factors need not be
            factors = sympy.Mul.make_args(sympy.Mul(*map(self._modulus, factors)))
        for factor in factors:
            if factor.is_number and factor.is_positive:
                outside.append(self._log(factor))
            elif isinstance(factor, sympy.exp):
                outside.append(factor.args[0])
            elif factor.is_Pow and (factor.base.is_positive or factor.exp == -1):
                outside.append(factor.exp * self._log(factor.base))
            elif factor.is_Add and not self._exact:
                scale = _common_coefficient(factor)
                outside.append(self._log(sympy.Float(scale)))
                inside.append(_divided(factor, scale))
            elif factor.is_positive:
                outside.append(sympy.log(factor))
            else:
                inside.append(factor)
        if inside:
            outside.append(sympy.log(sympy.Mul(*inside)))
        return self._sum(outside)

    def _sign_of(self, u: sympy.Expr) -> int:
        if self._sign is None or not u.free_symbols:
            return -1 if u.is_negative else 1
        return 1 if u.is_positive else self._sign(u)

    def _modulus(self, factor: sympy.Expr) -> sympy.Expr:
        """The modulus of a real factor, as a formula."""
        if factor.is_Pow and factor.exp.is_Integer:
            return self._modulus(factor.base) ** factor.exp
        if factor.is_nonnegative or isinstance(factor, sympy.exp):
            return factor
        if not factor.free_symbols:
            return -factor if factor.is_negative else factor
        sign = self._sign_of(factor)
        if sign == 0:
            return sympy.Abs(factor)
        return factor if sign > 0 else sympy.Add(*(-term for term in sympy.Add.make_args(factor)))


def literal(program: Programs, symbols: Sequence[sympy.Symbol]) -> sympy.Expr:
    """The program word for word, Re of complex exponentials and logarithms: right on every branch, and long.

    Raises:
        OverflowError: a number in it is beyond double precision.
    """
    exact = bool(program.is_exact()[0])

    def number(pair: Sequence[float]) -> sympy.Expr:
        parts = (
            sympy.Integer(int(v)) if float(v).is_integer() and abs(v) <= _LARGEST_INTEGER else sympy.Float(v)
            for v in pair
        )
        return sympy.Add(*(part * unit for part, unit in zip(parts, (1, sympy.I), strict=True)))

    def settled(value: sympy.Expr) -> sympy.Expr:
        """A number is one number, and sympy is not asked for its digits when it has too many."""
        if value.free_symbols or (exact and np.isfinite(double_of(value))):
            return value
        double = double_of(value)
        if not np.isfinite(double):
            raise OverflowError("a number is beyond double precision")
        return value if value.is_Integer else number((double.real, double.imag))

    values: list[sympy.Expr] = [_ONE, *symbols]
    slots: list[sympy.Expr] = []
    for source, weight, bias in zip(program.source[0], program.weight[0], program.bias[0], strict=True):
        terms = zip(weight.tolist(), source.tolist(), strict=True)
        total = number(bias.tolist()) + sympy.Add(*(number(w) * values[read] for w, read in terms if any(w)))
        slots.append(settled(total))
        if len(slots) % 2 == 0 and len(values) < len(symbols) + 1 + int(program.n_nodes[0]):
            power = settled(sympy.exp(slots[-2], evaluate=not slots[-2].free_symbols.isdisjoint(symbols)))
            values.append(settled(power - sympy.log(slots[-1])))
    return sympy.re(slots[-1], evaluate=False)


def _angle(a: sympy.Expr, b: sympy.Expr, squared: sympy.Expr) -> sympy.Expr:
    """Argument of a + j b, in (-pi/2, pi/2) where `a` is not negative."""
    roots = (factor.is_Pow and factor.exp == sympy.Rational(1, 2) for factor in sympy.Mul.make_args(a))
    if not all(root or factor.is_nonnegative for root, factor in zip(roots, sympy.Mul.make_args(a), strict=True)):
        return sympy.atan2(b, a)
    return sympy.asin(b / sympy.sqrt(squared)) if squared.is_number else sympy.atan(b / a)


def _squared_modulus(a: sympy.Expr, b: sympy.Expr) -> sympy.Expr:
    """a**2 + b**2, with cos**2 + sin**2 and what else cancels taken together."""
    length = complexity(a) + complexity(b)
    if length > _LONGEST_SQUARE or not is_manageable(a**2) or not is_manageable(b**2):
        return a**2 + b**2
    parts = [sympy.expand(a**2), sympy.expand(b**2)]
    squared = _without_dust(sympy.Add(*parts), parts)
    return sympy.trigsimp(squared) if squared.has(sympy.sin) and length < _LONGEST_SQUARE // 2 else squared


def _common_coefficient(total: sympy.Add) -> float:
    """The modulus that most of the varying terms have as their coefficient, the first of them in a tie."""
    moduli = [abs(float(term.as_coeff_Mul()[0])) for term in total.args if term.free_symbols]
    counts = Counter(float(f"{modulus:.12g}") for modulus in moduli)
    common = max(counts, key=lambda modulus: counts[modulus])
    return next(modulus for modulus in moduli if float(f"{modulus:.12g}") == common)


def _sign_inside(product: sympy.Expr) -> sympy.Expr:
    """-1/(u - 1) as 1/(1 - u): of a product whose logarithm is taken, no factor should be negative."""
    number, _ = product.as_coeff_Mul()
    for factor in sympy.Mul.make_args(product) if number.is_negative else ():
        base, power = factor.as_base_exp()
        if base.is_Add and power.is_odd:
            turned = sympy.Add(*(-term for term in base.args))
            return sympy.Mul(-number, turned**power, *(f for f in product.args if f not in (factor, number)))
    return product


def _divided(total: sympy.Add, scale: float) -> sympy.Expr:
    terms = []
    for term in total.args:
        coefficient, rest = term.as_coeff_Mul()
        terms.append(_short_number(float(coefficient) / scale) * rest)
    return sympy.Add(*terms)


def _short_number(value: float) -> sympy.Expr:
    """An integer where only rounding separates the value from it."""
    nearest = round(value) if abs(value) < 1e9 else 0
    return sympy.Integer(nearest) if nearest and abs(value - nearest) <= 1e-14 * abs(value) else sympy.Float(value)


def _without_dust(expr: sympy.Expr, parts: Sequence[sympy.Expr]) -> sympy.Expr:
    """Drop terms whose coefficient is rounding error against the largest coefficient of the same sum's parts."""
    if not expr.is_Add and not expr.is_Mul:
        return expr
    largest: dict[sympy.Expr, float] = {}
    for part in parts:
        for term in sympy.Add.make_args(part):
            coefficient, rest = term.as_coeff_Mul()
            largest[rest] = max(largest.get(rest, 0.0), abs(float(coefficient)))
    kept = []
    for term in sympy.Add.make_args(expr):
        coefficient, rest = term.as_coeff_Mul()
        if abs(float(coefficient)) > _CANCELLED * largest.get(rest, 0.0):
            kept.append(term)
    return sympy.Add(*kept)
