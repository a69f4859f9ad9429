"""Formulas as people write them: the same function, its constants being what has a name.

    logistic     a/(b + c exp(-k t))           A/(1 + exp(-k (t - t0)))          height, rate, middle
    Gaussian     exp(a x**2 + b x + c), a < 0  A exp(-(x - m)**2/(2 s**2))       height, mean, width
    Hill         a x**n/(b + c x**n)           A x**n/(K**n + x**n)              most, half of it, steepness
                 a/(b + c x**n)                A/(1 + (x/K)**n)
    saturation   a x/(b + c x)                 A x/(K + x)                       Michaelis and Menten's
    wave         a cos(w t) + b sin(w t)       A cos(w t + f), A > 0, f in (-pi, pi]
    decay        c**(p x), 0 < c               exp(k x)

Each rule looks at one node and changes numbers only, so that the work is linear in the formula. Whether a form is kept
is decided by who asks: it says the same up to rounding, which may matter.

sympy would multiply out k (t - t0) and work out K**n; so those nodes are not evaluated, and `replaced` keeps them so.
"""

import cmath
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import sympy

from emlinit.generator.formulas.bounds import is_manageable
from emlinit.generator.formulas.decompile import tidy_numbers
from emlinit.generator.formulas.expression import complexity, double_of
from emlinit.generator.formulas.printing import float_text

_SHORTER = 4  # digits that a phase must save as a sine's
_STEEP = 5.0  # of whole numbers: exp(x*(24 - 2*x)) is a bell of height e**72, exp(2*x - x**2) is well as it is
_LONGEST_EXPONENT = 20  # nodes of an exponent that is multiplied out
_TINY, _HUGE = 1e-300, 1e300  # amplitudes beyond are left in the exponent
_Rule = Callable[[sympy.Expr], sympy.Expr | None]


def known_forms(expr: sympy.Expr) -> list[sympy.Expr]:
    """The formula with all rules applied, and with each alone; those that change nothing are left out."""
    forms = [_spelled(expr, _RULES), *(_spelled(expr, (rule,)) for rule in _RULES)]
    return [form for form in dict.fromkeys(forms) if form != expr]


def replaced(expr: sympy.Expr, there: dict[sympy.Basic, sympy.Expr]) -> sympy.Expr:
    """`xreplace` that keeps what is not evaluated so."""
    if expr in there:
        return there[expr]
    if not expr.args:
        return expr
    args = [replaced(arg, there) for arg in expr.args]
    if all(new is old for new, old in zip(args, expr.args, strict=True)):
        return expr
    is_left_alone = isinstance(expr, (sympy.Mul, sympy.Add, sympy.Pow)) and expr.func(*expr.args) != expr
    return expr.func(*args, evaluate=False) if is_left_alone else expr.func(*args)


def _spelled(expr: sympy.Expr, rules: Sequence[_Rule], *, is_factor: bool = False) -> sympy.Expr:
    if not expr.args or not expr.free_symbols:
        return expr
    args = [_spelled(arg, rules, is_factor=expr.is_Mul) for arg in expr.args]
    changed = any(new is not old for new, old in zip(args, expr.args, strict=True))
    node = expr if not changed else _times(*args) if expr.is_Mul else _unevaluated(expr.func, *args)
    if is_factor and node.is_Pow and node.exp == -1:  # what it divides decides with it
        return node
    for rule in rules:
        found = rule(node)
        if found is None and node.is_Mul:
            parts = [(factor, rule(factor)) for factor in node.args if factor.is_Pow]
            if any(new is not None for _, new in parts):
                there = {old: new for old, new in parts if new is not None}
                found = _times(*(there.get(factor, factor) for factor in node.args))
        node = node if found is None else found
    return node


def _unevaluated(func: type[sympy.Expr], *args: sympy.Expr) -> sympy.Expr:
    return func(*args, evaluate=False)


# ---- numbers


def _number(value: float) -> sympy.Expr:
    return tidy_numbers(sympy.Float(value))


def _is_fitted(*numbers: sympy.Expr) -> bool:
    return any(number.has(sympy.Float) for number in numbers)


def _real(number: sympy.Expr) -> float:
    value = double_of(number)
    return value.real if value.imag == 0 else math.nan


def number_and_factors(term: sympy.Expr) -> tuple[sympy.Expr, list[sympy.Expr]]:
    """The number before a term, and its other factors."""
    numbers = [factor for factor in sympy.Mul.make_args(term) if not factor.free_symbols]
    return sympy.Mul(*numbers), [factor for factor in sympy.Mul.make_args(term) if factor.free_symbols]


def _times(*factors: sympy.Expr) -> sympy.Expr:
    """The product with one number in front, and nothing else worked out."""
    numbers: list[sympy.Expr] = []
    rest: list[sympy.Expr] = []
    for factor in factors:
        parts = sympy.Mul.make_args(factor)
        numbers += [part for part in parts if not part.free_symbols]
        rest += [part for part in parts if part.free_symbols]
    number = sympy.Mul(*numbers)
    if number.has(sympy.Float):
        number = _number(_real(number))
    if number == 1 and len(rest) == 1:
        return rest[0]
    return _unevaluated(sympy.Mul, *([] if number == 1 else [number]), *rest)


def _plus(*terms: sympy.Expr) -> sympy.Expr:
    terms = tuple(part for term in terms for part in sympy.Add.make_args(term) if part != 0)
    return _unevaluated(sympy.Add, *terms) if len(terms) > 1 else sympy.Add(*terms)


def constant_and_terms(total: sympy.Expr) -> tuple[sympy.Expr, list[sympy.Expr]]:
    """The number in a sum, 0 if there is none, and its other terms."""
    terms = sympy.Add.make_args(total)
    return sympy.Add(*(t for t in terms if not t.free_symbols)), [t for t in terms if t.free_symbols]


# ---- logistic


def _logistic(node: sympy.Expr) -> sympy.Expr | None:
    """1/(b + c exp(k s + d)) = 1/b/(1 + exp(k (s - s0)))."""
    if node.is_Mul:
        return _turned_logistic(node)
    if not (node.is_Pow and node.exp.is_number and node.exp.is_negative and node.base.is_Add):
        return None
    read = _exponential_and_constant(node.base)
    if read is None:
        return None
    b, c, rate, symbol, shift = read
    if not _is_fitted(b, c, shift) or not _real(c) * _real(b) > 0:
        return None
    k = _real(rate)
    middle = _number(-(_real(shift) + math.log(_real(c) / _real(b))) / k)
    base = _plus(sympy.S.One, sympy.exp(_times(rate, _plus(symbol, -middle)), evaluate=False))
    height = _real(b) ** _real(node.exp) if _real(b) > 0 or node.exp.is_Integer else math.nan
    return _times(_number(height), _unevaluated(sympy.Pow, base, node.exp)) if _usable(height) else None


def _turned_logistic(node: sympy.Expr) -> sympy.Expr | None:
    """exp(k s)/(b + c exp(k s)) = 1/(c + b exp(-k s))."""
    for power in node.args:
        if not (power.is_Pow and power.exp == -1 and power.base.is_Add):
            continue
        read = _exponential_and_constant(power.base)
        if read is None:
            continue
        b, c, rate, symbol, shift = read
        for factor in node.args:
            if not isinstance(factor, sympy.exp):
                continue
            if sympy.expand_mul(factor.args[0] - rate * symbol) != 0:
                continue
            c = _number(_real(c) * math.exp(_real(shift))) if shift != 0 else c
            turned = 1 / (c + b * sympy.exp(-rate * symbol))
            rest = [other for other in node.args if other not in (power, factor)]
            return _times(*rest, _logistic(turned) or turned)
    return None


def _exponential_and_constant(
    total: sympy.Expr,
) -> tuple[sympy.Expr, sympy.Expr, sympy.Expr, sympy.Expr, sympy.Expr] | None:
    """b, c, k, s, d of b + c exp(k s + d), s a symbol."""
    b, terms = constant_and_terms(total)
    if b == 0 or len(terms) != 1:
        return None
    c, factors = number_and_factors(terms[0])
    if len(factors) != 1 or not isinstance(factors[0], sympy.exp):
        return None
    shift, varying = constant_and_terms(factors[0].args[0])
    if len(varying) != 1:
        return None
    rate, symbols = number_and_factors(varying[0])
    if len(symbols) != 1 or not symbols[0].is_Symbol or not math.isfinite(_real(rate) + _real(shift) + _real(c)):
        return None
    return b, c, rate, symbols[0], shift


# ---- Gaussian


def _gaussian(node: sympy.Expr) -> sympy.Expr | None:
    """exp(-a s**2 + b s + d) = A exp(-(s - m)**2/(2 w**2))."""
    if not isinstance(node, sympy.exp):
        return None
    read = _quadratic(node.args[0])
    if read is None:
        return None
    s, (quadratic, linear, constant), fitted = read
    if not quadratic < 0 or (linear == 0 and constant == 0):
        return None
    middle, width = -linear / (2 * quadratic), 1 / math.sqrt(-2 * quadratic)
    exponent = constant - linear**2 / (4 * quadratic)
    if not abs(exponent) < math.log(_HUGE) or not (fitted or (linear and abs(exponent) > _STEEP)):
        return None
    variance = _unevaluated(sympy.Pow, _number(width), sympy.Integer(2))
    square = _unevaluated(sympy.Pow, _plus(s, -_number(middle)), sympy.Integer(2))
    half = _unevaluated(sympy.Pow, _unevaluated(sympy.Mul, sympy.Integer(2), variance), sympy.S.NegativeOne)
    parts = (-sympy.S.Half, square) if _number(width) == 1 else (sympy.S.NegativeOne, square, half)
    bell = sympy.exp(_unevaluated(sympy.Mul, *parts), evaluate=False)
    return _times(_number(math.exp(exponent)), bell) if exponent else bell


def _quadratic(exponent: sympy.Expr) -> tuple[sympy.Expr, tuple[float, float, float], bool] | None:
    """The variable s of a quadratic, its coefficients from the square down, and whether one is fitted."""
    total = np.zeros(3)
    variable: sympy.Expr | None = None
    fitted = False
    small = complexity(exponent) <= _LONGEST_EXPONENT and is_manageable(exponent)
    for term in sympy.Add.make_args(sympy.expand_mul(exponent) if small else exponent):
        number, factors = number_and_factors(term)
        fitted = fitted or number.has(sympy.Float)
        if not factors:
            total[2] += _real(number)
            continue
        if len(factors) != 1:
            return None
        base, power = factors[0].as_base_exp() if factors[0].is_Pow else (factors[0], sympy.S.One)
        if power not in (1, 2):
            return None
        inner_constant, inner = constant_and_terms(base)
        if len(inner) != 1 or (base.is_Add and power == 1):
            return None
        slope, s = number_and_factors(inner[0])
        if len(s) != 1 or not (s[0].is_Symbol or (isinstance(s[0], sympy.log) and s[0].args[0].is_Symbol)):
            return None
        if variable not in (None, s[0]):
            return None
        variable, fitted = s[0], fitted or _is_fitted(slope, inner_constant)
        a, b = _real(slope), _real(inner_constant)
        total += _real(number) * np.array([a**2, 2 * a * b, b**2] if power == 2 else [0.0, a, 0.0])
    if variable is None or total[0] == 0 or not np.isfinite(total).all():
        return None
    return variable, (float(total[0]), float(total[1]), float(total[2])), fitted


# ---- Hill, Michaelis and Menten


def _saturation(node: sympy.Expr) -> sympy.Expr | None:
    """a x**n/(b + c x**n) = a/c x**n/(K**n + x**n), and a/(b + c x**n) = a/b/(1 + (x/K)**n)."""
    factors = sympy.Mul.make_args(node)
    for power in factors:
        if not (power.is_Pow and power.exp == -1 and power.base.is_Add):
            continue
        b, terms = constant_and_terms(power.base)
        c, inner = number_and_factors(terms[0])
        if b == 0 or len(terms) != 1 or len(inner) != 1:
            continue
        x, n = inner[0].as_base_exp() if inner[0].is_Pow else (inner[0], sympy.S.One)
        if not x.is_Symbol or n.free_symbols or not math.isfinite(_real(b) + _real(c)) or not _real(n):
            continue
        rest = [factor for factor in factors if factor is not power]
        if inner[0] in rest:
            others = [factor for factor in rest if factor != inner[0]]
            return _hill(others, x, n, b, c) if n.is_positive else None
        if n.is_negative:  # 1/(b + c/x**n) = x**n/(c + b x**n)
            return _hill(rest, x, -n, c, b)
        if n != 1 and _is_fitted(b, c) and _real(b) / _real(c) > 0 and len(sympy.Mul.make_args(node)) <= 2:
            half = _number((_real(b) / _real(c)) ** (1 / _real(n)))
            ratio = _unevaluated(sympy.Mul, x, _unevaluated(sympy.Pow, half, sympy.S.NegativeOne)) if half != 1 else x
            share = _plus(sympy.S.One, _unevaluated(sympy.Pow, ratio, n))
            return _times(*rest, _number(1 / _real(b)), _unevaluated(sympy.Pow, share, sympy.S.NegativeOne))
    return None


def _hill(rest: Sequence[sympy.Expr], x: sympy.Expr, n: sympy.Expr, b: sympy.Expr, c: sympy.Expr) -> sympy.Expr | None:
    """rest x**n/(b + c x**n)."""
    if not _is_fitted(b, c):
        return None
    offset = _real(b) / _real(c)
    powered = x if n == 1 else _unevaluated(sympy.Pow, x, n)
    half = _number(offset)
    if n != 1 and offset > 0:
        root = _number(offset ** (1 / _real(n)))
        half = sympy.S.One if root == 1 else _unevaluated(sympy.Pow, root, n)
    below = _unevaluated(sympy.Pow, _plus(half, powered), sympy.S.NegativeOne)
    return _times(*rest, _number(1 / _real(c)), powered, below)


# ---- waves


@dataclass(frozen=True)
class _Wave:
    """amplitude · others · cos(angle + phase)."""

    amplitude: float
    angle: sympy.Expr
    phase: float
    others: tuple[sympy.Expr, ...]
    fitted: bool

    @property
    def phasor(self) -> complex:
        return cmath.rect(self.amplitude, self.phase)

    @staticmethod
    def of(term: sympy.Expr) -> "_Wave | None":
        number, factors = number_and_factors(term)
        waves = [factor for factor in factors if isinstance(factor, (sympy.cos, sympy.sin))]
        if len(waves) != 1:
            return None
        phase, varying = constant_and_terms(waves[0].args[0])
        amplitude, shift = _real(number), _real(phase)
        if not varying or not math.isfinite(amplitude) or not abs(shift) < 1e6:
            return None
        shift -= math.pi / 2 if isinstance(waves[0], sympy.sin) else 0.0
        angle = _plus(*varying)
        if all(_real(number_and_factors(part)[0]) < 0 for part in varying):  # cos(-u + f) = cos(u - f)
            angle, shift = _plus(*(-part for part in varying)), -shift
        others = tuple(factor for factor in factors if factor is not waves[0])
        return _Wave(amplitude, angle, shift, others, _is_fitted(number, phase))

    @staticmethod
    def written(phasor: complex, angle: sympy.Expr, others: Sequence[sympy.Expr]) -> sympy.Expr:
        size, phase = abs(phasor), cmath.phase(phasor)
        phase = math.pi if phase <= -math.pi else phase
        as_sine = phase + math.pi / 2 if phase <= math.pi / 2 else phase - 1.5 * math.pi
        for turned, sign, wave in (
            (phase, 1, sympy.cos),
            (as_sine, 1, sympy.sin),
            (phase - math.copysign(math.pi, phase), -1, sympy.cos),
            (as_sine - math.copysign(math.pi, as_sine), -1, sympy.sin),
        ):
            if abs(turned) <= 1e-14:
                return _times(_number(sign * size), *others, wave(angle))
        digits = [len(float_text(_real(_number(value)))) for value in (phase, as_sine)]
        wave, phase = (sympy.sin, as_sine) if digits[1] + _SHORTER < digits[0] else (sympy.cos, phase)
        return _times(_number(size), *others, wave(_plus(angle, _number(phase)), evaluate=False))


def _wave(node: sympy.Expr) -> sympy.Expr | None:
    """Waves of one angle joined, each with a positive amplitude and a phase in (-pi, pi]."""
    if node.is_Add:
        return _joined_waves(node)
    if not node.is_Mul and not isinstance(node, (sympy.cos, sympy.sin)):
        return None
    wave = _Wave.of(node)
    if wave is None or not wave.phase or not _has_fitted_phase(node):
        return None
    written = _Wave.written(wave.phasor, wave.angle, wave.others)
    return None if written == node else written


def _has_fitted_phase(term: sympy.Expr) -> bool:
    waves = [factor for factor in sympy.Mul.make_args(term) if isinstance(factor, (sympy.cos, sympy.sin))]
    return any(constant_and_terms(wave.args[0])[0].has(sympy.Float) for wave in waves)


def _joined_waves(node: sympy.Add) -> sympy.Expr | None:
    groups: dict[tuple[sympy.Expr, frozenset[sympy.Expr]], list[tuple[sympy.Expr, _Wave]]] = {}
    for term in node.args:
        wave = _Wave.of(term)
        if wave is not None:
            groups.setdefault((wave.angle, frozenset(wave.others)), []).append((term, wave))
    joined, gone = [], set()
    for members in groups.values():
        if len(members) < 2 or not any(wave.fitted for _, wave in members):
            continue
        phasor = sum(wave.phasor for _, wave in members)
        joined.append(_Wave.written(phasor, members[0][1].angle, members[0][1].others))
        gone |= {term for term, _ in members}
    return _plus(*(term for term in node.args if term not in gone), *joined) if joined else None


# ---- powers of numbers


def _decay(node: sympy.Expr) -> sympy.Expr | None:
    """c**(p x) = exp(k x)."""
    if not (node.is_Pow and node.base.is_Float and node.base > 0 and node.exp.free_symbols) or node.exp.is_Add:
        return None
    number, factors = number_and_factors(node.exp)
    rate = math.log(float(node.base)) * _real(number)
    return sympy.exp(_times(_number(rate), *factors), evaluate=False) if rate else None


def _usable(amplitude: float) -> bool:
    return _TINY < abs(amplitude) < _HUGE


_RULES: tuple[_Rule, ...] = (_decay, _wave, _gaussian, _saturation, _logistic)
