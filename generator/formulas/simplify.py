"""Shorter forms of a formula, within bounded work.

Sympy cannot be told to stop: signals reach the main thread only, and an exception raised from outside inside another
thread may land where Python swallows it. So the work is bounded instead: transformations whose cost explodes see small
formulas only, and the clock is read between them. A formula of the same size always gets the same treatment, unless the
time is up.
"""

import math
import time
from collections.abc import Callable, Iterator

import sympy
from sympy.functions.elementary.trigonometric import TrigonometricFunction
from sympy.polys.polyerrors import BasePolynomialError

from emlinit.generator.formulas.bounds import LARGEST_EXPONENT, is_manageable
from emlinit.generator.formulas.expression import complexity, number_value

_LARGEST_EXACT = 2**53
_SAME = 1e-14  # numbers that differ by less than this share are one number
_LARGEST_HELD_OUT, _LARGEST_IN_EXPONENT = 100, 12  # numbers that rules may read; larger ones are symbols meanwhile
_LARGEST_DENSE = 256  # coefficients of a polynomial to be factored, those that are 0 included
_LARGEST_FOR_CHEAP, _LARGEST_FOR_COSTLY = 80, 28  # nodes of the formulas that are transformed


def shorter_forms(expr: sympy.Expr, seconds: float | int) -> list[sympy.Expr]:
    """Equivalent forms of `expr`, cheap ones first; some may be longer than `expr`. After `seconds` no further
    transformation is begun.

    Constants that are no small integers or fractions are held as symbols meanwhile, because sympy would otherwise carry
    them about as rationals, or read exp(-12500000 t) as a power of that degree.
    """
    held, constants = _hold_floats(expr)
    return [form.xreplace(constants) for form in _forms(held, time.monotonic() + seconds)]


def _forms(expr: sympy.Expr, until: float) -> Iterator[sympy.Expr]:
    """Each transformation of the given form and of the shortest one so far."""
    shortest = expr
    seen: set[sympy.Expr] = {expr}
    tried: set[sympy.Expr] = set()
    for number, transform in enumerate(_TRANSFORMS):
        largest = _LARGEST_FOR_CHEAP if number < _N_CHEAP else _LARGEST_FOR_COSTLY
        for start in dict.fromkeys((expr, shortest)):
            if complexity(start) > largest or not is_manageable(start) or time.monotonic() > until:
                continue
            try:
                form = transform(start)
                candidates = [form, sympy.powsimp(form)] if form not in tried else []
                tried.add(form)
            except Exception:  # sympy fails in many ways on odd input; that costs only this form
                continue
            for candidate in candidates:
                if candidate not in seen and not candidate.has(sympy.Piecewise):
                    seen.add(candidate)
                    yield candidate
                    shortest = min(shortest, candidate, key=complexity)


def settle_signs(expr: sympy.Expr, sign: Callable[[sympy.Expr], int]) -> sympy.Expr:
    """The formula with |u| and with square roots and logarithms of a negative u written by -u, where the sign of u is
    known: I/sqrt(u - 1) is 1/sqrt(1 - u) for u < 1. Of a logarithm only the real part stands.

    Args:
        expr: the formula.
        sign: 1 or -1 for an expression that has that sign, 0 for one that has none.
    """

    def settled(node: sympy.Basic) -> sympy.Basic:
        if not node.args or not node.free_symbols:
            return node
        node = node.func(*(settled(arg) for arg in node.args))
        root = node.is_Pow and node.exp.is_Rational and node.exp.q == 2
        if not (root or isinstance(node, (sympy.Abs, sympy.log))) or node.args[0].is_positive:
            return node
        u, known = node.args[0], sign(node.args[0])
        if isinstance(node, sympy.Abs):
            return known * u if known else node
        if known >= 0:
            return node
        turned = sympy.expand_mul(-u) if u.is_Add else -u
        return sympy.Pow(-1, node.exp) * turned**node.exp if root else sympy.log(turned)

    return settled(expr)


def join_numbers(expr: sympy.Expr) -> sympy.Expr:
    """Every part of a formula that is a number as one float: exp(-3 e) is 0.000287..., 3 e x is 8.15... x.

    Whole numbers, fractions and their multiples of pi or of one square root stay as they are.
    """
    if expr.is_Number or expr.is_Symbol:
        return expr
    if not expr.free_symbols:
        return expr if _is_simple_number(expr) else _as_float(expr)
    args = [join_numbers(arg) for arg in expr.args]
    if isinstance(expr, sympy.re):  # which sympy would multiply out
        return sympy.re(*args, evaluate=False)
    if expr.is_Mul or expr.is_Add:
        numbers = [arg for arg in args if not arg.free_symbols]
        if len(numbers) > 1 and not _is_simple_number(expr.func(*numbers)):
            args = [_as_float(expr.func(*numbers)), *(arg for arg in args if arg.free_symbols)]
    return expr.func(*args)


def _is_simple_number(number: sympy.Expr) -> bool:
    rest = number.as_coeff_Mul()[1]
    is_root = rest.is_Pow and rest.base.is_Integer and rest.exp == sympy.S.Half
    return number.is_Number or (not number.has(sympy.Float) and (rest in (sympy.pi, sympy.I) or is_root))


def _as_float(number: sympy.Expr) -> sympy.Expr:
    value = number_value(number)
    return sympy.Float(value.real) if value.imag == 0 and math.isfinite(value.real) else number


def join_roots(expr: sympy.Expr) -> sympy.Expr:
    """sqrt(u) sqrt(v)/sqrt(w) = sqrt(u v/w), in symbols that are not declared positive: sympy takes it apart for those."""

    def joined(*factors: sympy.Expr) -> sympy.Expr:
        groups: dict[sympy.Expr, list[sympy.Expr]] = {}
        others = []
        for factor in factors:
            if factor.is_Pow and factor.exp.is_Rational and not factor.exp.is_Integer and factor.free_symbols:
                groups.setdefault(abs(factor.exp), []).append(factor)
            else:
                others.append(factor)
        for power, roots in groups.items():
            if all(root.exp < 0 for root in roots):
                others.append(sympy.Mul(*(root.base for root in roots)) ** -power)
            else:
                others.append(sympy.Mul(*(root.base ** sympy.sign(root.exp) for root in roots)) ** power)
        return sympy.Mul(*others)

    return expr.replace(sympy.Mul, joined)


def _recognise_inverse(expr: sympy.Expr) -> sympy.Expr:
    """ln(u + sqrt(u**2 + 1)) is asinh u, ln(u + sqrt(u**2 - 1)) is acosh u."""

    def inverse(argument: sympy.Expr) -> sympy.Expr:
        for root in argument.args if argument.is_Add else ():
            if root.is_Pow and root.exp == sympy.Rational(1, 2):
                u = argument - root
                difference = sympy.expand(root.base - u**2)
                if difference in (1, -1):
                    return sympy.asinh(u) if difference == 1 else sympy.acosh(u)
        return sympy.log(argument)

    return expr.replace(sympy.log, inverse)


def _join_logarithms(expr: sympy.Expr) -> sympy.Expr:
    """ln a + ln b = ln(a b), but p ln a stays."""
    joined = sympy.logcombine(expr)
    return joined.replace(sympy.log, lambda u: u.exp * sympy.log(u.base) if u.is_Pow else sympy.log(u))


def _unit_coefficients(expr: sympy.Expr) -> sympy.Expr:
    """(a u + b)**p = a**p (u + b/a)**p, with `a` the number before the term that comes first."""

    def scaled(base: sympy.Expr, exponent: sympy.Expr) -> sympy.Expr:
        if not base.is_Add or not exponent.is_number:
            return sympy.Pow(base, exponent)
        terms = sorted((term for term in base.args if term.free_symbols), key=lambda t: (-complexity(t), str(t)))
        number = sympy.Mul(*(f for f in terms[0].args if not _varies(f))) if terms and terms[0].is_Mul else sympy.S.One
        if not exponent.is_Integer and number.is_negative:
            number = -number
        return number**exponent * sympy.Add(*(term / number for term in base.args)) ** exponent

    return expr.replace(sympy.Pow, scaled)


def _half_angles(expr: sympy.Expr) -> sympy.Expr:
    """a - a cos u = 2 a sin(u/2)**2, a + a cos u = 2 a cos(u/2)**2."""

    def halved(*terms: sympy.Expr) -> sympy.Expr:
        left = list(terms)
        for term in terms:
            for wave in sympy.Mul.make_args(term):
                if not isinstance(wave, sympy.cos):
                    continue
                factor = term / wave
                for whole, half in ((factor, sympy.cos), (-factor, sympy.sin)):
                    if term in left and whole in left:
                        left = [other for other in left if other not in (term, whole)]
                        left.append(2 * whole * half(wave.args[0] / 2) ** 2)
        return sympy.Add(*left)

    return expr.replace(sympy.Add, halved)


def _where_related(transform: Callable[[sympy.Expr], sympy.Expr]) -> Callable[[sympy.Expr], sympy.Expr]:
    """The transformation of formulas without waves, or with two of which one may follow from the other.

    Nearly all time goes into identities between waves, which waves of unrelated fitted frequencies do not have.
    """

    def only_there(expr: sympy.Expr) -> sympy.Expr:
        seen: set[frozenset[sympy.Basic]] = set()
        related = not expr.has(TrigonometricFunction)
        for node in sympy.preorder_traversal(expr):
            if isinstance(node, TrigonometricFunction):
                held = frozenset(node.atoms(sympy.Dummy))
                related = related or held in seen
                seen.add(held)
        return transform(expr) if related else expr

    return only_there


def _varies(expr: sympy.Expr) -> bool:
    return any(not isinstance(symbol, sympy.Dummy) for symbol in expr.free_symbols)


def _factored(expr: sympy.Expr) -> sympy.Expr:
    """Factors of the numerator and the denominator; the formula itself if they are too large as polynomials.

    Factors in several variables are lifted from those in one (Wang 1978), by products of dense polynomials that may take
    minutes, such as for c (1/x² + x^(5/2)) / (d + x^(5/2)).
    """
    expanded = sympy.expand(expr)
    if any(_places(part) > _LARGEST_DENSE for part in sympy.fraction(sympy.together(expanded))):
        return expr
    return sympy.factor(expanded)


def _places(expr: sympy.Expr) -> int:
    """Coefficients that a polynomial of its degrees may have."""
    try:
        return math.prod(degree + 1 for degree in sympy.Poly(expr).degree_list())
    except BasePolynomialError:  # such as a number
        return 1


_TRANSFORMS: tuple[Callable[[sympy.Expr], sympy.Expr], ...] = (
    sympy.expand,
    sympy.factor_terms,
    _join_logarithms,
    _recognise_inverse,
    lambda expr: expr.replace(sympy.asin, lambda u: sympy.Rational(1, 2) * sympy.pi - sympy.acos(u)),
    _unit_coefficients,
    _half_angles,
    # From here on costly ones.
    _where_related(sympy.exptrigsimp),
    sympy.together,
    _where_related(sympy.trigsimp),
    _where_related(sympy.simplify),
    _factored,
)
_N_CHEAP = 7


def _hold_floats(expr: sympy.Expr) -> tuple[sympy.Expr, dict[sympy.Basic, sympy.Expr]]:
    """Replace each float and each large number by a positive symbol, with its sign outside; numbers equal up to rounding by
    the same one.

    Quarters become fractions and quarter turns fractions of pi, which rules of sympy can read; in an exponent only small
    ones, because there they are degrees.
    """
    there: dict[sympy.Basic, sympy.Expr] = {}
    back: dict[sympy.Basic, sympy.Expr] = {}
    exponents = {n for power in expr.atoms(sympy.Pow, sympy.exp) for n in _exponent(power).atoms(sympy.Number)}
    numbers = [number for number in expr.atoms(sympy.Number) if number.is_Float or number.is_Rational]
    for number in sorted(numbers, key=float):
        modulus = abs(float(number))
        largest = _LARGEST_IN_EXPONENT if number in exponents else _LARGEST_HELD_OUT
        if number.is_Rational and max(abs(int(number.p)), int(number.q)) <= largest:
            continue
        if (4 * modulus).is_integer() and modulus < largest:
            held = sympy.Rational(int(4 * modulus), 4)
        elif abs(modulus - math.pi / 2) < _SAME * modulus:
            held = sympy.pi / 2
        else:
            close = (symbol for symbol, value in back.items() if abs(float(value) - modulus) < _SAME * modulus)
            held = next(close, None) or sympy.Dummy(f"c{len(back)}", positive=True)
            exact = number.is_Rational and modulus <= (LARGEST_EXPONENT if number in exponents else _LARGEST_EXACT)
            back.setdefault(held, abs(number) if exact else sympy.Float(modulus))
        there[number] = held if number > 0 else -held
    return expr.xreplace(there), back


def _exponent(power: sympy.Expr) -> sympy.Expr:
    return power.args[0] if isinstance(power, sympy.exp) else power.exp
