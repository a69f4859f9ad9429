"""Atoms: simple functions whose sums are laws, each a monomial times up to two functions of a phase,

    x1^p1 x2^p2 ... · φ(θ, u) · φ'(θ', u'),     φ(θ, u) one of 1, sin θu, cos θu, e^θu, u^θ, ln(u + θ), 1/(u + θ),

where a phase u is a monomial or a sum of two. A dictionary holds thousands of them on a grid of θ; those whose θ was not
chosen for being simple are *tunable*. With free weights each factor costs one or two eml nodes.

Legend: n atom, v input variable, p point.
"""

import itertools
import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from emlinit.generator.builder import Builder
from emlinit.generator.slots import Slot

NOTHING, ONE, SIN, COS, EXP, POWER, LN, INVERSE = range(8)
"""Kinds of φ; `NOTHING` makes the whole atom 0, a place that is not taken."""

_LOG_ZERO = -800.0  # stands for ln 0: its powers are 0 or overflow
_FREQUENCIES, _FREQUENCIES_2D = 28, 16  # of a grid
_FREQUENCY_STEP = 0.6 * math.pi  # of the angle, over the range of the phase
_RATES = (0.3, 1.0, 2.5, 6.0, 15.0)  # of exponentials, over the range of the phase
_EXPONENTS = (-2.5, -1.75, -1.25, -0.75, -0.25, 0.25, 0.75, 1.25, 1.75, 2.5, 3.5)
_SUM_POWERS = (-2.0, -1.0, -0.5, 0.5, 1.0, 2.0)  # of phases that are sums
_SHIFTS = (0.03, 0.2, 1.0)  # of u + θ from 0, in ranges of the phase

Phase = tuple[tuple[float, tuple[float, ...]], ...]
"""A sum of factor times monomial, a monomial being the exponents of the variables."""


@dataclass(frozen=True, eq=False)
class Atoms:
    """Atoms of any batch shape, written `n` here."""

    power: Float64[Tensor, "*n v"]
    """Exponents of the monomial; halves at most."""
    kind: Int64[Tensor, "*n 2"]
    """Of the two factors φ."""
    phase: Int64[Tensor, "*n 2"]
    """Which phase of the basis each factor reads."""
    theta: Float64[Tensor, "*n 2"]
    """θ of each factor."""
    tunable: Bool[Tensor, "*n 2"]
    """Whether a fit may move θ."""
    on_target: Bool[Tensor, "*n"]
    """Whether the atom is multiplied by the target: what stands in a denominator."""
    length: Float64[Tensor, "*n"]
    """How long the atom is to write, in powers and functions."""

    def __getitem__(self, index: Tensor | slice | tuple[Tensor | slice | int, ...]) -> "Atoms":
        return Atoms(**{name: value[index] for name, value in vars(self).items()})

    @staticmethod
    def cat(parts: "list[Atoms]", dim: int = 0) -> "Atoms":
        """Join along a batch dimension, counted from the front."""
        return Atoms(**{name: torch.cat([vars(part)[name] for part in parts], dim) for name in vars(parts[0])})


class Basis:
    """Data and phases that atoms are evaluated on."""

    def __init__(self, x: Float64[Tensor, "p v"], phases: list[Phase]) -> None:
        self.log_x = torch.where(x == 0, _LOG_ZERO, x.abs().log()).T.contiguous()
        self.negative = (x < 0).T.double()
        self.phases = phases
        self.u = torch.stack([self._phase(phase) for phase in phases])

    def _phase(self, phase: Phase) -> Tensor:
        return torch.stack(
            [factor * self.monomial(torch.tensor(power, dtype=torch.float64)) for factor, power in phase]
        ).sum(0)

    def monomial(self, power: Float64[Tensor, "*n v"]) -> Float64[Tensor, "*n p"]:
        """Products of powers; the exponents of variables that may be negative must be whole."""
        odd = (power.remainder(2.0) == 1.0).double() @ self.negative
        return (power @ self.log_x).exp() * (1.0 - 2.0 * odd.remainder(2.0))

    def values(self, atoms: Atoms) -> Float64[Tensor, "*n p"]:
        """Value of each atom, but for the target in those `on_target`."""
        return self.monomial(atoms.power) * self._factor(atoms, 0)[0] * self._factor(atoms, 1)[0]

    def values_and_slopes(self, atoms: Atoms) -> tuple[Float64[Tensor, "*n p"], Float64[Tensor, "*n 2 p"]]:
        """Values, and their derivatives by both θ, 0 where not tunable."""
        monomial = self.monomial(atoms.power)
        (first, first_slope), (second, second_slope) = self._factor(atoms, 0), self._factor(atoms, 1)
        slopes = torch.stack([monomial * first_slope * second, monomial * first * second_slope], -2)
        return monomial * first * second, torch.where(atoms.tunable[..., None], slopes, 0.0)

    def _factor(self, atoms: Atoms, which: int) -> tuple[Tensor, Tensor]:
        """φ and its derivative by θ."""
        kind = atoms.kind[..., which].flatten()
        phase, theta = atoms.phase[..., which].flatten(), atoms.theta[..., which].flatten()
        value = self.u.new_zeros(len(kind), self.u.shape[1])
        value[kind == ONE] = 1.0
        slope = torch.zeros_like(value)
        for number, function in _FUNCTIONS.items():
            rows = (kind == number).nonzero()[:, 0]
            if len(rows):
                value[rows], slope[rows] = function(theta[rows, None], self.u[phase[rows]])
        shape = (*atoms.kind.shape[:-1], -1)
        return value.view(shape), slope.view(shape)

    def slot(self, atoms: Atoms, builder: Builder) -> Slot:
        """One atom (of batch shape ()) as a slot."""
        value = _monomial_slot(atoms.power.tolist(), builder)
        for kind, phase, theta in zip(atoms.kind.tolist(), atoms.phase.tolist(), atoms.theta.tolist(), strict=True):
            if kind == ONE:
                continue
            parts = [builder.scale(_monomial_slot(power, builder), factor) for factor, power in self.phases[phase]]
            u = builder.add(*parts)
            shifted = builder.add(u, builder.constant(theta)) if theta else u
            factor = {
                SIN: lambda u=u, theta=theta: builder.sin(builder.scale(u, theta)),
                COS: lambda u=u, theta=theta: builder.cos(builder.scale(u, theta)),
                EXP: lambda u=u, theta=theta: builder.exp(builder.scale(u, theta)),
                POWER: lambda u=u, theta=theta: builder.power(u, theta),
                LN: lambda shifted=shifted: builder.ln(shifted),
                INVERSE: lambda shifted=shifted: builder.reciprocal(shifted),
            }[kind]()
            value = builder.mul(value, factor)
        return value


def _sin(theta: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    return (theta * u).sin(), u * (theta * u).cos()


def _cos(theta: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    return (theta * u).cos(), -u * (theta * u).sin()


def _exp(theta: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    value = (theta * u).exp()
    return value, u * value


def _power(theta: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    size = u.abs().clamp_min(1e-300)
    sign = torch.where(u < 0, torch.where(theta.remainder(1.0) == 0, 1.0 - 2.0 * theta.remainder(2.0), torch.nan), 1.0)
    value = sign * size**theta
    return value, value * size.log()


def _ln(theta: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    return (u + theta).log(), 1 / (u + theta)


def _inverse(theta: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    value = 1 / (u + theta)
    return value, -value.square()


_FUNCTIONS = {SIN: _sin, COS: _cos, EXP: _exp, POWER: _power, LN: _ln, INVERSE: _inverse}


def _monomial_slot(power: list[float] | tuple[float, ...], builder: Builder) -> Slot:
    value = builder.constant(1.0)
    for number, exponent in enumerate(power, 1):
        if exponent:
            value = builder.mul(value, builder.power(builder.variable(number), exponent))
    return value


@dataclass(frozen=True, eq=False)
class Dictionary:
    """The atoms to choose from, and their values."""

    basis: Basis
    atoms: Atoms
    value: Float64[Tensor, "n p"]
    in_denominator: Int64[Tensor, " d"]
    """Atoms that may be multiplied by the target: not constant, and not tunable."""
    n_paired: int
    """The first atoms, so many, come in pairs that are taken together: sine and cosine of one angle."""

    def part(self, rows: Bool[Tensor, " n"]) -> "Dictionary":
        """Some of the atoms; of a pair both or none."""
        place = rows.cumsum(0) - 1
        below = self.in_denominator[rows[self.in_denominator]]
        return Dictionary(
            self.basis, self.atoms[rows], self.value[rows], place[below], int(rows[: self.n_paired].sum())
        )

    @property
    def is_monomial(self) -> Bool[Tensor, " n"]:
        """Atoms without any φ."""
        return (self.atoms.kind == ONE).all(1)


def make_dictionary(x: Float64[Tensor, "p v"]) -> Dictionary:
    """Atoms for data: all that are finite at the points and neither constant nor too large.

    Args:
        x: points, finite.
    """
    n_variables = x.shape[1]
    may_be_negative, has_zero = (x < 0).any(0).tolist(), (x == 0).any(0).tolist()

    def allowed(power: tuple[float, ...]) -> bool:
        whole = all(float(p).is_integer() or not negative for p, negative in zip(power, may_be_negative, strict=True))
        return whole and all(p >= 0 or not zero for p, zero in zip(power, has_zero, strict=True))

    simple = [power for power in _simple_monomials(n_variables) if allowed(power)]
    sums = _sums(n_variables)
    basis = Basis(x, [((1.0, power),) for power in simple] + sums)
    n_monomials = len(simple)
    few = [power for power in _multipliers(n_variables) if allowed(power)]
    single = [i for i, power in enumerate(simple) if sum(map(abs, power)) == 1 and min(power) == 0]
    low, high = basis.u.amin(1), basis.u.amax(1)
    spread = (high - low).tolist()
    usable = [i for i in range(len(basis.phases)) if 0 < spread[i] < 1e12]
    phases = [i for i in usable if i < n_monomials]
    paired: list[tuple[tuple[float, ...], tuple[int, int], tuple[int, int], tuple[float, float], bool]] = []
    others = list(paired)

    def one(power: tuple[float, ...], kind: int, phase: int, theta: float, tunable: bool) -> None:
        others.append((power, (kind, ONE), (phase, 0), (theta, 0.0), tunable))

    others += [(power, (ONE, ONE), (0, 0), (0.0, 0.0), False) for power in _monomials(n_variables) if allowed(power)]
    squares = [power for power in _inverse_squares(n_variables) if allowed(power)]
    for power in few + squares:
        for i in range(n_monomials, len(basis.phases)):
            for theta in _SUM_POWERS:
                one(power, POWER, i, theta, False)
    for power in few:
        for i in usable:
            for theta in (1.0, 2.0):
                one(power, SIN, i, theta, False)
                one(power, COS, i, theta, False)
            one(power, EXP, i, 1.0, False)
            one(power, EXP, i, -1.0, False)
            if i < n_monomials and float(low[i]) > 0:
                if i in single:
                    one(power, LN, i, 0.0, False)
                    for theta in _EXPONENTS:
                        one(power, POWER, i, theta, True)
                for theta in (-1.0, 1.0):
                    one(power, INVERSE, i, theta, False)
        if any(not float(p).is_integer() for p in power):
            continue
        for i in phases:
            for rate in _RATES:
                one(power, EXP, i, rate / spread[i], True)
                one(power, EXP, i, -rate / spread[i], True)
            for shift in _SHIFTS:
                one(power, LN, i, shift * spread[i] - float(low[i]), True)
                one(power, INVERSE, i, shift * spread[i] - float(low[i]), True)
            for step in range(1, _FREQUENCIES + 1):
                theta = step * _FREQUENCY_STEP / spread[i]
                for kind in (SIN, COS):
                    paired.append((power, (kind, ONE), (i, 0), (theta, 0.0), True))
    none = (0.0,) * n_variables
    for i, j in itertools.combinations(single, 2):
        for step, other in itertools.product(range(1, _FREQUENCIES_2D + 1), repeat=2):
            thetas = (step * _FREQUENCY_STEP / spread[i], other * _FREQUENCY_STEP / spread[j])
            for kinds in itertools.product((SIN, COS), repeat=2):
                others.append((none, kinds, (i, j), thetas, True))
    near = [i for i in phases if simple[i] in _near(n_variables)]
    for power in [none, *(simple[i] for i in single)]:
        for i, j in itertools.combinations(near, 2):
            for kinds in itertools.product((SIN, COS, EXP), repeat=2):
                others.append((power, kinds, (i, j), (1.0, 1.0), False))
    others.sort(key=lambda row: _length(row, basis.phases))
    atoms = _atoms(paired + others, basis.phases)
    value = basis.values(atoms)
    fine = value.isfinite().all(1) & (value.abs().amax(1) < 1e15) & (value.abs().amax(1) > 1e-15)
    n_paired = len(paired)
    fine[:n_paired] = (fine[0:n_paired:2] & fine[1:n_paired:2]).repeat_interleave(2)
    atoms, value = atoms[fine], value[fine]
    varies = value.amax(1) - value.amin(1) > 1e-6 * value.abs().amax(1)
    fixed = (varies & ~atoms.tunable.any(1)).nonzero()[:, 0]
    return Dictionary(basis, atoms, value, fixed, int(fine[:n_paired].sum()))


def _length(
    row: tuple[tuple[float, ...], tuple[int, int], tuple[int, int], tuple[float, float], bool], phases: list[Phase]
) -> float:
    """How long an atom is to write: simple ones come first."""
    power, kinds, numbers, thetas, tunable = row
    length = sum(abs(p) + 0.5 * (not float(p).is_integer()) for p in power) + tunable
    for kind, number, theta in zip(kinds, numbers, thetas, strict=True):
        if kind != ONE:
            length += (
                1 + sum(sum(map(abs, monomial)) for _, monomial in phases[number]) + 0.5 * (theta not in (0.0, 1.0))
            )
    return length


def _atoms(
    rows: list[tuple[tuple[float, ...], tuple[int, int], tuple[int, int], tuple[float, float], bool]],
    phases: list[Phase],
) -> Atoms:
    power, kind, phase, theta, tunable = zip(*rows, strict=True)
    kinds = torch.tensor(kind)
    return Atoms(
        torch.tensor(power, dtype=torch.float64),
        kinds,
        torch.tensor(phase),
        torch.tensor(theta, dtype=torch.float64),
        torch.tensor(tunable)[:, None] & (kinds != ONE),
        torch.zeros(len(rows), dtype=torch.bool),
        torch.tensor([_length(row, phases) for row in rows], dtype=torch.float64),
    )


def _within(n_variables: int, values: tuple[float, ...], largest: float) -> list[tuple[float, ...]]:
    """Exponents with a sum of moduli up to `largest`, small ones first."""
    powers = (p for p in itertools.product(values, repeat=n_variables) if sum(map(abs, p)) <= largest)
    return sorted(powers, key=lambda p: (sum(map(abs, p)), p))


def _monomials(n_variables: int) -> list[tuple[float, ...]]:
    """Products of whole powers, and of half ones if they are small; 1 among them."""
    whole = (8, 8, 6, 4, 3)[n_variables - 1]
    half = (3, 3, 2, 1, 1)[n_variables - 1]
    powers = _within(n_variables, tuple(float(p) for p in range(-whole, whole + 1)), whole)
    powers += _within(n_variables, tuple(p / 2 for p in range(-2 * half, 2 * half + 1)), half)
    return list(dict.fromkeys(powers))


def _simple_monomials(n_variables: int) -> list[tuple[float, ...]]:
    """Phases: a variable, its square, its reciprocal, products and quotients of two, and of three."""
    powers = [p for p in _within(n_variables, (-1.0, 0.0, 1.0), 3.0 if n_variables <= 3 else 2.0) if max(p) > 0]
    if n_variables > 1:
        powers = [p for p in powers if sum(map(abs, p)) < 3 or sum(p) >= 1]
    for i in range(n_variables):
        for exponent in (2.0, -1.0):
            powers.append(tuple(exponent * (i == k) for k in range(n_variables)))
    return list(dict.fromkeys(powers))


def _near(n_variables: int) -> list[tuple[float, ...]]:
    return [
        tuple(exponent * (i == k) for k in range(n_variables)) for i in range(n_variables) for exponent in (1.0, 2.0)
    ]


def _multipliers(n_variables: int) -> list[tuple[float, ...]]:
    """What a function of a phase is multiplied by."""
    powers = [p for p in _within(n_variables, (0.0, 1.0), 2.0 if n_variables <= 3 else 1.0)]
    for i in range(n_variables):
        for exponent in (-1.0, 2.0) if n_variables <= 2 else (-1.0,):
            powers.append(tuple(exponent * (i == k) for k in range(n_variables)))
    if n_variables <= 3:  # sqrt(x1 x2), as in an interference of two waves
        powers += [p for p in _within(n_variables, (0.0, 0.5), 1.0) if sum(p) > 0]
    return list(dict.fromkeys(powers))


def _inverse_squares(n_variables: int) -> list[tuple[float, ...]]:
    return [tuple(-2.0 * (i == k) for k in range(n_variables)) for i in range(n_variables)] if n_variables <= 3 else []


def _sums(n_variables: int) -> list[Phase]:
    """Phases that are sums: of two variables, and of a variable and its square."""

    def unit(i: int, exponent: float = 1.0) -> tuple[float, ...]:
        return tuple(exponent * (i == k) for k in range(n_variables))

    phases: list[Phase] = []
    for i, j in itertools.combinations(range(n_variables), 2):
        phases += [((1.0, unit(i)), (1.0, unit(j))), ((1.0, unit(i)), (-1.0, unit(j)))]
    return phases + [((1.0, unit(i)), (1.0, unit(i, 2.0))) for i in range(n_variables)]
