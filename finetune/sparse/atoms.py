"""Atoms: simple functions whose sums are laws, each a monomial times up to two functions of a phase.

    x1^p1 x2^p2 ... · φ(θ, u) · φ'(θ', u'),     φ(θ, u) one of 1, sin θu, cos θu, e^θu, u^θ, ln(u + θ), 1/(u + θ),

where a phase u is a monomial or a sum of two. `dictionary` offers thousands of them; those whose θ was not chosen for
being simple are *tunable*. With free weights each factor costs one or two eml nodes.

Legend: n atom, f phase, v input variable, p point.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from emlinit.generator.builder import Builder
from emlinit.generator.records import Records
from emlinit.generator.slots import Slot

NOTHING, UNITY, SIN, COS, EXP, POWER, LN, INVERSE = range(8)
"""Kinds of φ; `NOTHING` makes the whole atom 0, a place that is not taken."""

_LOG_ZERO = -800.0  # stands for ln 0: its powers are 0 or overflow


@dataclass(frozen=True, eq=False)
class Atoms(Records):
    """Atoms of any batch shape, written `n` here."""

    power: Float64[Tensor, "*n v"]
    """Exponents of the monomial; halves at most."""
    kind: Int64[Tensor, "*n 2"]
    """Kind of each of the two factors φ: `SIN`, `COS`, ...; `UNITY` where there is none."""
    phase: Int64[Tensor, "*n 2"]
    """Which phase of the basis each factor reads."""
    theta: Float64[Tensor, "*n 2"]
    """θ of each factor."""
    tunable: Bool[Tensor, "*n 2"]
    """Whether a fit may move θ."""
    in_denominator: Bool[Tensor, "*n"]
    """Whether the atom stands in a denominator: it is multiplied by t, as n/(1 - d) = t is n + d t = t."""
    length: Float64[Tensor, "*n"]
    """How long the atom is to write, in powers and functions."""

    def __getitem__(self, index: Tensor | slice | int | tuple[Tensor | slice | int, ...] | None) -> "Atoms":
        return self.mapped(lambda value: value[index])

    def only(self, mask: Bool[Tensor, "*n"]) -> "Atoms":
        """The same with `NOTHING` where the mask is false."""
        return self.where(mask, self.mapped(torch.zeros_like))

    @classmethod
    def side_by_side(cls, parts: "Sequence[Atoms]") -> "Atoms":
        """SumSolver, of batch shape (s, k), with the places of all parts."""
        return cls._joined(parts, 1)


@dataclass(frozen=True, eq=False)
class Phases:
    """What functions are taken of: monomials, and sums of two of them."""

    power: Float64[Tensor, "f 2 v"]
    """Exponents of the monomials."""
    factor: Float64[Tensor, "f 2"]
    """What each monomial is multiplied by: 1 or -1, or any number in the phase of a plane wave; the second 0 where the phase
    is one monomial."""

    def __len__(self) -> int:
        return len(self.factor)

    @property
    def length(self) -> Float64[Tensor, " f"]:
        """How long each is to write, in powers."""
        return (self.power.abs().sum(2) * (self.factor != 0)).sum(1)


class Basis:
    """Data and phases that atoms are evaluated on."""

    def __init__(self, x: Float64[Tensor, "p v"], phases: Phases) -> None:
        """Work out the phases at the points.

        Args:
            x: points, finite.
            phases: those that atoms read.
        """
        self.log_x = torch.where(x == 0, _LOG_ZERO, x.abs().log()).T.contiguous()
        self.negative = (x < 0).T.double()
        self.phases = phases
        self.u: Float64[Tensor, "f p"] = (phases.factor[..., None] * self.monomial(phases.power)).sum(1)

    def monomial(self, power: Float64[Tensor, "*n v"]) -> Float64[Tensor, "*n p"]:
        """Products of powers; the exponents of variables that may be negative must be whole."""
        odd = (power.remainder(2.0) == 1.0).double() @ self.negative
        return (power @ self.log_x).exp() * (1.0 - 2.0 * odd.remainder(2.0))

    def values(self, atoms: Atoms) -> Float64[Tensor, "*n p"]:
        """Value of each atom, but for the t of those `in_denominator`."""
        first, second = self._factors(atoms).unbind(-2)
        return self.monomial(atoms.power) * first * second

    def values_and_slopes(self, atoms: Atoms) -> tuple[Float64[Tensor, "*n p"], Float64[Tensor, "*n 2 p"]]:
        """Values, and their derivatives by both θ, 0 where not tunable."""
        monomial, factors = self.monomial(atoms.power)[..., None, :], self._factors(atoms)
        u = self.u[atoms.phase]
        slopes = torch.zeros_like(factors)
        for kind in _SLOPES:
            here = (atoms.kind == kind) & atoms.tunable
            slopes[here] = _SLOPES[kind](atoms.theta[here][:, None], u[here], factors[here])
        return (monomial * factors.prod(-2, keepdim=True)).squeeze(-2), monomial * slopes * factors.flip(-2)

    def phi(
        self, kind: Int64[Tensor, " n"], phase: Int64[Tensor, " n"], theta: Float64[Tensor, " n"]
    ) -> Float64[Tensor, "n p"]:
        """Values of single factors φ(θ, u)."""
        value = (kind == UNITY).double()[:, None].repeat(1, self.u.shape[1])
        for number, function in _VALUES.items():
            rows = (kind == number).nonzero()[:, 0]
            if len(rows):
                value[rows] = function(theta[rows, None], self.u[phase[rows]])
        return value

    def _factors(self, atoms: Atoms) -> Float64[Tensor, "*n 2 p"]:
        value = self.phi(atoms.kind.flatten(), atoms.phase.flatten(), atoms.theta.flatten())
        return value.view(*atoms.kind.shape, value.shape[1])

    def slot(self, atom: Atoms, builder: Builder) -> Slot:
        """One atom (of batch shape ()) as a slot, but for t."""
        value = _monomial_slot(atom.power, builder)
        for kind, phase, theta in zip(atom.kind.tolist(), atom.phase.tolist(), atom.theta.tolist(), strict=True):
            if kind != UNITY:
                value = builder.mul(value, _phi_slot(kind, self._phase_slot(phase, builder), theta, builder))
        return value

    def wave_slot(self, atom: Atoms, shift: float, builder: Builder) -> Slot:
        """The monomial of a sine or cosine, times the cosine of its angle plus `shift`."""
        u = self._phase_slot(int(atom.phase[0]), builder)
        angle = builder.add(builder.scale(u, float(atom.theta[0])), builder.constant(shift))
        return builder.mul(_monomial_slot(atom.power, builder), builder.cos(angle))

    def _phase_slot(self, phase: int, builder: Builder) -> Slot:
        terms = zip(self.phases.factor[phase].tolist(), self.phases.power[phase], strict=True)
        return builder.add(*(builder.scale(_monomial_slot(power, builder), factor) for factor, power in terms))


def _monomial_slot(power: Float64[Tensor, " v"], builder: Builder) -> Slot:
    value = builder.constant(1.0)
    for number, exponent in enumerate(power.tolist(), 1):
        if exponent:
            value = builder.mul(value, builder.power(builder.variable(number), exponent))
    return value


def _phi_slot(kind: int, u: Slot, theta: float, builder: Builder) -> Slot:
    if kind == POWER:
        return builder.power(u, theta)
    if kind in (LN, INVERSE):
        shifted = builder.add(u, builder.constant(theta))
        return builder.ln(shifted) if kind == LN else builder.reciprocal(shifted)
    scaled = builder.scale(u, theta)
    if kind == SIN:
        return builder.sin(scaled)
    return builder.cos(scaled) if kind == COS else builder.exp(scaled)


# φ(θ, u), and its derivative by θ from θ, u and φ; θ of shape (n, 1), the others (n, p)


def _sin(theta: Tensor, u: Tensor) -> Tensor:
    return (theta * u).sin()


def _sin_slope(theta: Tensor, u: Tensor, value: Tensor) -> Tensor:
    return u * (theta * u).cos()


def _cos(theta: Tensor, u: Tensor) -> Tensor:
    return (theta * u).cos()


def _cos_slope(theta: Tensor, u: Tensor, value: Tensor) -> Tensor:
    return -u * (theta * u).sin()


def _exp(theta: Tensor, u: Tensor) -> Tensor:
    return (theta * u).exp()


def _exp_slope(theta: Tensor, u: Tensor, value: Tensor) -> Tensor:
    return u * value


def _power(theta: Tensor, u: Tensor) -> Tensor:
    return u**theta


def _power_slope(theta: Tensor, u: Tensor, value: Tensor) -> Tensor:
    return torch.xlogy(value, u.abs())


def _ln(theta: Tensor, u: Tensor) -> Tensor:
    return (u + theta).log()


def _ln_slope(theta: Tensor, u: Tensor, value: Tensor) -> Tensor:
    return 1 / (u + theta)


def _inverse(theta: Tensor, u: Tensor) -> Tensor:
    return 1 / (u + theta)


def _inverse_slope(theta: Tensor, u: Tensor, value: Tensor) -> Tensor:
    return -value.square()


_VALUES = {SIN: _sin, COS: _cos, EXP: _exp, POWER: _power, LN: _ln, INVERSE: _inverse}
_SLOPES = {
    SIN: _sin_slope,
    COS: _cos_slope,
    EXP: _exp_slope,
    POWER: _power_slope,
    LN: _ln_slope,
    INVERSE: _inverse_slope,
}
