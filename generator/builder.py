"""Algebra on slots: every elementary operation written with weighted eml nodes, in one canonical form.

A slot is `bias + sum_k weight_k * source_k`; a source is a variable or a node eml(l, r) = exp(l) - ln(r).

    ln u  = e - eml(1, u)                  exp u = eml(u, 1)
    u * v = exp(ln u + ln v)               u**p  = exp(p ln u)
    cos u = Re exp(j u)                    sin u = Re(-j exp(j u))          atan u = Re(-j ln(1 + j u))

The same function should come out as the same tokens, whichever way it was put together, because a network learns from
them and must not be asked to guess between synonyms. Hence these rules:

- a real constant in an exponent leaves it, `exp(u + b) = e^b exp(u)`, so a multiplier is one weight outside;
- a phase stays in the exponent, in (-pi/2, pi/2), so a node never appears twice only to carry a complex factor; quarter
  turns leave it, as factors -1, j and -j;
- a positive factor leaves a logarithm: the first term of the sum inside has a weight of modulus 1;
- terms of a slot are ordered: the shorter first, then by token.

A value may be *pending*: it stands for the real part of its slot. The readout takes the real part anyway, so a
sinusoid, also times anything real, costs one exponential there; inside another function it is resolved,
`Re z = (z + conj z) / 2`.
"""

import cmath
import math
from collections.abc import Iterable, Sequence

from emlinit.generator.grammar import EML, X1
from emlinit.generator.slots import ONE_SLOT, ZERO_SLOT, Slot, Source

_CANCELLED = 1e-14  # two weights whose sum is this much smaller than either have cancelled up to rounding
_LARGEST_SHIFT = 40.0  # an exponent's constant beyond this stays inside: e**40 as a factor would swamp double precision
_QUARTER_TURN = math.pi / 2


class Builder:
    """Builds the values of one formula and shares its equal nodes.

    Every method takes and returns values of real functions; complex numbers are inside only. Constants that
    overflow, a division by the constant 0 and the logarithm of a constant that is not positive raise ArithmeticError.
    """

    def __init__(self, n_variables: int, positive: Iterable[int] = ()):
        """Begin without nodes.

        Args:
            n_variables: how many variables there are.
            positive: numbers (from 1) of variables known to be positive; this allows ln(x**2) = 2 ln(x) and the like.
        """
        self._nodes: dict[tuple[tuple[int, ...], tuple[float, ...]], Source] = {}
        self._variables = [Source((X1 + i,), (0.0,), None, None) for i in range(n_variables)]
        for number in positive:
            self._variables[number - 1].is_positive = True

    # ---- leaves and nodes

    def variable(self, number: int) -> Slot:
        """Variable x1 is number 1."""
        return Slot(0j, ((self._variables[number - 1], 1 + 0j),))

    def constant(self, value: float) -> Slot:
        """A number."""
        return Slot(complex(value), ())

    def eml(self, left: Slot, right: Slot) -> Slot:
        """The node exp(left) - ln(right) itself, without any rewriting."""
        left_tokens, left_constants = self.resolve(left).spelling()
        right_tokens, right_constants = self.resolve(right).spelling()
        tokens = (EML, *left_tokens, *right_tokens)
        constants = (0.0, *left_constants, *right_constants)
        node = self._nodes.get((tokens, constants))
        if node is None:
            node = self._nodes[tokens, constants] = Source(tokens, constants, left, right)
        return Slot(0j, ((node, 1 + 0j),))

    # ---- linear operations

    def add(self, *values: Slot) -> Slot:
        """Sum of any number of values."""
        bias, largest = 0j, 0.0
        weights: dict[Source, complex] = {}
        for value in values:
            bias += value.bias
            largest = max(largest, abs(value.bias))
            for source, weight in value.terms:
                old = weights.get(source)
                if old is None:
                    weights[source] = weight
                    continue
                total = old + weight
                if abs(total) <= _CANCELLED * abs(old):
                    del weights[source]
                else:
                    weights[source] = total
        if abs(bias) <= _CANCELLED * largest:
            bias = 0j
        terms = sorted(weights.items(), key=lambda term: term[0].order)
        slot = Slot(bias, tuple(terms), any(value.pending for value in values))
        for source, weight in terms:
            if weight.real != 0 and weight.imag != 0 and source.exponent is not None:
                rest = Slot(bias, tuple(term for term in terms if term[0] is not source), slot.pending)
                return self.add(rest, self._exp(self.add(source.exponent, Slot(cmath.log(weight), ()))))
        return slot

    def scale(self, value: Slot, factor: float | complex) -> Slot:
        """`factor * value`; a complex factor is for inner use."""
        if factor == 1:
            return value
        if factor == 0:
            return ZERO_SLOT
        terms = tuple((source, _snap_to_unit(weight * factor)) for source, weight in value.terms)
        return Slot(value.bias * factor, terms, value.pending)

    def negative(self, value: Slot) -> Slot:
        """-value."""
        return self.scale(value, -1.0)

    # ---- exponential, logarithm, powers and products

    def exp(self, value: Slot) -> Slot:
        """e to the value."""
        return self._exp(self.resolve(value))

    def _exp(self, exponent: Slot) -> Slot:
        """exp of a slot that may be complex: a monomial, or the argument itself for exp(ln u)."""
        if exponent.is_constant:
            return Slot(_exp_constant(exponent.bias), ())
        factor, shift = _split_shift(exponent.bias)
        if len(exponent.terms) == 1 and shift == 0:
            source, weight = exponent.terms[0]
            argument = source.log_argument
            if argument is not None and weight == -1:  # exp(b - (e - ln u)) = exp(b - e) u
                return self.scale(argument, factor * math.exp(-math.e))
        return self.scale(self.eml(Slot(shift, exponent.terms), ONE_SLOT), factor)

    def ln(self, value: Slot) -> Slot:
        """Principal logarithm."""
        value = self.resolve(value)
        if value.is_constant and value.bias.real <= 0:
            raise ArithmeticError(f"logarithm of the constant {value.bias.real!r}")
        return self._ln(value)

    def _ln(self, value: Slot) -> Slot:
        """ln of a slot that may be complex."""
        if value.is_constant:
            return Slot(cmath.log(value.bias), ())
        modulus = abs(value.terms[0][1])
        value = self.scale(value, 1 / modulus)
        source, weight = value.terms[0]
        log_modulus = Slot(complex(math.log(modulus)), ())
        if value.monomial is not None and weight.real > 0 and weight.imag == 0:
            exponent = source.exponent
            if exponent is not None and exponent.is_real:
                return self.add(exponent, log_modulus)
        return self.add(self._ln_node(value), log_modulus)

    def _ln_node(self, argument: Slot) -> Slot:
        return self.add(Slot(complex(math.e), ()), self.scale(self.eml(ONE_SLOT, argument), -1.0))

    def power(self, base: Slot, exponent: float) -> Slot:
        """`base ** exponent` for a constant exponent; principal value where the exponent is no integer."""
        if exponent == 1:
            return base
        if exponent == 0:
            return ONE_SLOT
        whole = float(exponent).is_integer()
        if base.pending and exponent in (2, 3):  # cos(u)**2 = (1 + cos(2 u)) / 2: cheaper than a power of a sum
            return self.mul(base, self.power(base, exponent - 1))
        base = self.resolve(base)
        if base.is_constant:
            if base.bias.imag == 0 and base.bias.real < 0 and not whole:
                raise ArithmeticError(f"the constant {base.bias.real!r} to the power {exponent!r} is not real")
            return Slot(complex(base.bias.real**exponent if base.bias.imag == 0 else base.bias**exponent), ())
        modulus = abs(base.terms[0][1])
        leading = base.terms[0][1] / modulus
        if whole and leading.real < 0 and leading.imag == 0:  # (-u)**k = (-1)**k u**k
            return self.scale(self.power(self.negative(base), exponent), 1.0 if exponent % 2 == 0 else -1.0)
        if base.monomial is not None and whole and leading == 1:
            source = base.terms[0][0]
            return self.scale(self._exp(self.scale(self._log_of(source), exponent)), modulus**exponent)
        return self._exp(self.scale(self._ln(base), exponent))

    def sqrt(self, value: Slot) -> Slot:
        """The square root."""
        return self.power(value, 0.5)

    def reciprocal(self, value: Slot) -> Slot:
        """1 / value."""
        return self.power(value, -1.0)

    def general_power(self, base: Slot, exponent: Slot) -> Slot:
        """`base ** exponent` for any exponent."""
        if exponent.is_constant and exponent.bias.imag == 0:
            return self.power(base, exponent.bias.real)
        return self.exp(self.mul(exponent, self.ln(base)))

    def mul(self, a: Slot, b: Slot) -> Slot:
        """Product of two values."""
        if a.is_constant or b.is_constant:
            number, other = (a, b) if a.is_constant else (b, a)
            return self.scale(other, number.bias.real if number.pending else number.bias)
        if a.pending and b.pending:  # Re(a) Re(b) = Re(a b + a conj(b)) / 2
            a, b, conj_b = Slot(a.bias, a.terms), Slot(b.bias, b.terms), self._conj(Slot(b.bias, b.terms))
            total = self.add(self._product(a, b), self._product(a, conj_b))
            return self.scale(self.readout(Slot(total.bias, total.terms, True)), 0.5)
        product = self._product(Slot(a.bias, a.terms), Slot(b.bias, b.terms))
        return Slot(product.bias, product.terms, a.pending or b.pending)

    def _product(self, a: Slot, b: Slot) -> Slot:
        """Product of complex slots; `exp(ln a + ln b)` is right on every branch."""
        if a.is_constant or b.is_constant:
            return self.scale(b, a.bias) if a.is_constant else self.scale(a, b.bias)
        if a.monomial is not None and b.monomial is not None:
            (source_a, weight_a), (source_b, weight_b) = a.terms[0], b.terms[0]
            return self.scale(self._exp(self.add(self._log_of(source_a), self._log_of(source_b))), weight_a * weight_b)
        by_logarithms = self._exp(self.add(self._log_of_slot(a), self._log_of_slot(b)))
        if a.monomial is None and b.monomial is None:
            return by_logarithms
        single, several = (a, b) if a.monomial is not None else (b, a)
        parts = [self.scale(single, several.bias)] if several.bias != 0 else []
        parts += [self._product(single, Slot(0j, (term,))) for term in several.terms]
        distributed = self.add(*parts)
        return distributed if distributed.n_tokens() <= by_logarithms.n_tokens() else by_logarithms

    def _log_of(self, source: Source) -> Slot:
        """Some logarithm of a source: the result may be a multiple of 2 pi j off, which no later exp can see."""
        return source.exponent or self._ln_node(Slot(0j, ((source, 1 + 0j),)))

    def _log_of_slot(self, slot: Slot) -> Slot:
        if slot.monomial is not None:
            source, weight = slot.monomial
            return self.add(self._log_of(source), Slot(cmath.log(weight), ()))
        return self._ln(slot)

    def divide(self, a: Slot, b: Slot) -> Slot:
        """a / b."""
        return self.mul(a, self.reciprocal(b))

    # ---- real parts

    def resolve(self, value: Slot) -> Slot:
        """The same value, not pending: `(z + conj z) / 2`."""
        if not value.pending:
            return value
        if value.is_constant:
            return Slot(complex(value.bias.real), ())
        plain = Slot(value.bias, value.terms)
        if plain.is_real:
            return plain
        return self.scale(self.add(plain, self._conj(plain)), 0.5)

    def _conj(self, slot: Slot) -> Slot:
        terms = [Slot(slot.bias.conjugate(), ())]
        for source, weight in slot.terms:
            conjugate: Slot | None = None
            if not source.is_real and source.left is not None and source.right is not None:
                conjugate = self.eml(self._conj(source.left), self._conj(source.right))
            terms.append(self.scale(conjugate or Slot(0j, ((source, 1 + 0j),)), weight.conjugate()))
        return self.add(*terms)

    def readout(self, value: Slot) -> Slot:
        """The value as it stands at the readout, which takes the real part of everything.

        Imaginary parts that cannot be seen are dropped, and an oscillation's first frequency is made positive.
        """
        if not value.pending and value.is_real:
            return value
        parts = [Slot(complex(value.bias.real), ())]
        for source, weight in value.terms:
            term = Slot(0j, ((source, weight),))
            if source.is_real:
                term = Slot(0j, ((source, complex(weight.real)),)) if weight.real != 0 else ZERO_SLOT
            elif _first_frequency(source) < 0:
                term = self._conj(term)
            parts.append(term)
        total = self.add(*parts)
        return Slot(total.bias, total.terms, True)

    # ---- trigonometric and hyperbolic functions

    def cos(self, value: Slot) -> Slot:
        """Re exp(i value)."""
        return self._oscillation(value, 0.0)

    def sin(self, value: Slot) -> Slot:
        """Re exp(i (value - pi/2))."""
        return self._oscillation(value, -_QUARTER_TURN)

    def _oscillation(self, angle: Slot, phase: float) -> Slot:
        angle = self.resolve(angle)
        rotation = self._exp(self.add(self.scale(angle, 1j), Slot(complex(0, phase), ())))
        return Slot(rotation.bias, rotation.terms, True)

    def tan(self, value: Slot) -> Slot:
        """-j + 2j / (exp(2 j u) + 1)."""
        rotation = self._exp(self.scale(self.resolve(value), 2j))
        return self._affine(self.power(self._affine(rotation, 1.0, 1.0), -1.0), 2j, -1j)

    def tanh(self, value: Slot) -> Slot:
        """1 - 2 / (exp(2 u) + 1)."""
        return self._affine(self.power(self._affine(self.exp(self.scale(value, 2.0)), 1.0, 1.0), -1.0), -2.0, 1.0)

    def sinh(self, value: Slot) -> Slot:
        """(e^v - e^-v) / 2."""
        return self.scale(self.add(self.exp(value), self.negative(self.exp(self.negative(value)))), 0.5)

    def cosh(self, value: Slot) -> Slot:
        """(e^v + e^-v) / 2."""
        return self.scale(self.add(self.exp(value), self.exp(self.negative(value))), 0.5)

    def atan(self, value: Slot) -> Slot:
        """Im ln(1 + j u)."""
        return self._imaginary_ln(self._affine(self.resolve(value), 1j, 1.0))

    def asin(self, value: Slot) -> Slot:
        """Im ln(sqrt(1 - u**2) + j u)."""
        value = self.resolve(value)
        leg = self.sqrt(self._affine(self.power(value, 2.0), -1.0, 1.0))
        return self._imaginary_ln(self.add(leg, self.scale(value, 1j)))

    def acos(self, value: Slot) -> Slot:
        """pi/2 - asin(value)."""
        return self._affine(self.asin(value), -1.0, _QUARTER_TURN)

    def asinh(self, value: Slot) -> Slot:
        """ln(v + sqrt(v^2 + 1))."""
        value = self.resolve(value)
        return self.ln(self.add(value, self.sqrt(self._affine(self.power(value, 2.0), 1.0, 1.0))))

    def acosh(self, value: Slot) -> Slot:
        """ln(v + sqrt(v^2 - 1))."""
        value = self.resolve(value)
        return self.ln(self.add(value, self.sqrt(self._affine(self.power(value, 2.0), 1.0, -1.0))))

    def atanh(self, value: Slot) -> Slot:
        """(ln(1 + v) - ln(1 - v)) / 2."""
        value = self.resolve(value)
        up, down = self.ln(self._affine(value, 1.0, 1.0)), self.ln(self._affine(value, -1.0, 1.0))
        return self.scale(self.add(up, self.negative(down)), 0.5)

    def absolute(self, value: Slot) -> Slot:
        """sqrt(u**2)."""
        return self.power(self.power(value, 2.0), 0.5)

    def _imaginary_ln(self, value: Slot) -> Slot:
        logarithm = self.scale(self._ln(value), -1j)
        return Slot(logarithm.bias, logarithm.terms, True)

    def _affine(self, value: Slot, factor: float | complex, offset: float | complex) -> Slot:
        return self.add(self.scale(value, factor), Slot(complex(offset), ()))


def _exp_constant(exponent: complex) -> complex:
    if exponent.imag == 0:
        return complex(math.exp(exponent.real))
    return cmath.exp(exponent)


def _split_shift(bias: complex) -> tuple[complex, complex]:
    """Split an exponent's constant into a factor outside (real or imaginary) and what stays in the exponent."""
    factor, inside = 1.0 + 0j, bias.real
    if abs(bias.real) <= _LARGEST_SHIFT:
        factor, inside = complex(math.exp(bias.real)), 0.0
    if bias.imag == 0:
        return factor, complex(inside, 0.0)
    phase = math.remainder(bias.imag, 2 * math.pi)
    turns = round(phase / _QUARTER_TURN)
    if abs(phase - turns * _QUARTER_TURN) < 1e-13:
        return factor * (1, 1j, -1, -1j)[turns % 4], complex(inside, 0.0)
    half_turns = round(phase / math.pi)
    return factor * (-1) ** (half_turns % 2), complex(inside, phase - half_turns * math.pi)


def _snap_to_unit(weight: complex) -> complex:
    """The weight itself, but exactly 1, -1, j or -j where only rounding separates it: 1 is written without a factor."""
    if not 1 - _CANCELLED < abs(weight) < 1 + _CANCELLED:
        return weight
    if abs(weight.imag) < _CANCELLED:
        return complex(math.copysign(1.0, weight.real), 0.0)
    if abs(weight.real) < _CANCELLED:
        return complex(0.0, math.copysign(1.0, weight.imag))
    return weight


def _first_frequency(source: Source) -> float:
    """Imaginary part of the first weight in the node that has one, 0 if there is none."""
    slots: Sequence[Slot | None] = (source.left, source.right)
    for slot in slots:
        for inner, weight in slot.terms if slot is not None else ():
            if weight.imag != 0:
                return weight.imag
            deeper = _first_frequency(inner) if not inner.is_real else 0.0
            if deeper != 0:
                return deeper
    return 0.0
