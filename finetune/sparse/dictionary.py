"""The dictionary of atoms for data: which monomials, phases and θ are worth a try.

Every family of atoms is a product: some monomials times some factors φ, where for the factors a grid of θ is laid over the
range of their phase. So the values of each monomial and each factor are computed once.

Legend: n atom, m monomial, f factor (or, in `Phases`, phase), v input variable, p point.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from emlinit.finetune.sparse.atoms import COS, EXP, INVERSE, LN, POWER, SIN, UNITY, Atoms, Basis, Phases
from emlinit.finetune.sparse.exponents import (
    Powers,
    arguments,
    inverse_squares,
    monomials,
    multipliers,
    phases_for,
)
from emlinit.finetune.sparse.periods import plane_waves, rapid_frequencies
from emlinit.generator.grammar import MAX_VARIABLES
from emlinit.generator.records import Records

_LARGEST = 1e15  # modulus of a value of an atom; the smallest of its largest is the reciprocal
_LEAST_VARIATION = 1e-6  # of an atom, relative to its size: what varies less is a constant
_WIDEST = 1e12  # range of a phase
FEW_LEVELS = 3
"""Values of a variable up to which it is taken in polynomials alone."""


@dataclass(frozen=True)
class Grids:
    """θ of factors that are tunable, and of those whose θ is simple."""

    frequencies: int = 28
    """Angles grow by 1 to so many `frequency_step` over the range of the phase."""
    frequencies_of_two: int = 16
    """How many frequencies of each of the two in a product of oscillations."""
    frequency_step: float = 0.6 * torch.pi
    """Radians by which the angle of one frequency grows more, over the range of the phase, than that of the one before."""
    rates: tuple[float, ...] = (0.3, 0.5, 0.8, 1.3, 2.0, 3.3, 5.0, 8.0, 15.0)
    """Moduli of the rates of exponentials, over the range of the phase; either sign is offered."""
    shifts: tuple[float, ...] = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
    """Least values of u + θ, in ranges of the phase."""
    exponents: tuple[float, ...] = (-2.5, -1.75, -1.25, -0.75, -0.25, 0.25, 0.75, 1.25, 1.75, 2.5, 3.5)
    """Exponents of a single variable."""
    sum_powers: tuple[float, ...] = (-2.0, -1.0, -0.5, 0.5, 1.0, 2.0)
    """Simple exponents of a sum."""


@dataclass(frozen=True, eq=False)
class Dictionary:
    """The atoms to choose from, and their values."""

    basis: Basis
    """The data, and the phases that atoms read."""
    atoms: Atoms
    """What may be chosen, of batch shape (n,): the pairs first, then the others by length."""
    value: Float64[Tensor, "n p"]
    """Their values, but for t."""
    for_denominator: Int64[Tensor, " d"]
    """Atoms that may stand in a denominator, multiplied by t: not constant, and not tunable."""
    n_paired: int
    """The first atoms, so many, come in pairs that are taken together: sine and cosine of one angle."""
    few_levels: Bool[Tensor, " v"]
    """Variables of so few values that only polynomials in them say anything."""

    def part(self, rows: Bool[Tensor, " n"]) -> "Dictionary":
        """Some of the atoms; of a pair both or none."""
        place = rows.cumsum(0) - 1
        below = self.for_denominator[rows[self.for_denominator]]
        return Dictionary(
            self.basis,
            self.atoms[rows],
            self.value[rows],
            place[below],
            int(rows[: self.n_paired].sum()),
            self.few_levels,
        )

    @property
    def is_monomial(self) -> Bool[Tensor, " n"]:
        """Atoms without any φ."""
        return (self.atoms.kind == UNITY).all(1)


def make_dictionary(
    x: Float64[Tensor, "p v"],
    grids: Grids | None = None,
    *,
    signal: tuple[Float64[Tensor, "q v"], Float64[Tensor, " q"]] | None = None,
) -> Dictionary:
    """Atoms for data, the pairs first, then the others by length: all that are finite at the points and neither too large
    nor too small.

    Args:
        x: points, finite, of at most `MAX_VARIABLES` variables.
        grids: the θ that are offered.
        signal: points (`x` and perhaps more) and targets, off which waves are read that no grid holds (see `periods`).
    """
    makers = _Families(x, grids or Grids(), signal)
    paired = makers.waves()
    others = [
        makers.monomials(),
        makers.powers_of_sums(),
        makers.simple_functions(),
        makers.functions_of_positive(),
        makers.tunable_functions(),
        makers.tunable_powers(),
        makers.products_of_two_waves(),
        makers.products_of_two_functions(),
    ]
    n_paired = len(paired.value)
    atoms = Atoms.cat([family.atoms for family in others])
    order = atoms.length.argsort(stable=True)
    atoms = Atoms.cat([paired.atoms, atoms[order]])
    value = torch.empty(len(atoms.kind), len(x), dtype=torch.float64)
    value[:n_paired] = paired.value
    sizes = [len(family.value) for family in others]
    places = torch.empty_like(order)
    places[order] = torch.arange(n_paired, len(value))
    for family, place in zip(others, torch.split(places, sizes), strict=True):
        value[place] = family.value
    low, high = value.aminmax(dim=1)
    varies = high - low > _LEAST_VARIATION * torch.maximum(high, -low)
    free = ~((atoms.power != 0) & makers.highest.isfinite()).any(
        1
    )  # of few levels: a polynomial in them needs no quotient
    for_denominator = (varies & free & ~atoms.tunable.any(1)).nonzero()[:, 0]
    return Dictionary(makers.basis, atoms, value, for_denominator, n_paired, makers.highest.isfinite())


@dataclass(frozen=True, eq=False)
class _Factors(Records):
    """Products of two φ each."""

    kind: Int64[Tensor, "f 2"]
    """Kinds of both φ, as in `Atoms`."""
    phase: Int64[Tensor, "f 2"]
    """Number of the phase that each reads."""
    theta: Float64[Tensor, "f 2"]
    """θ of each."""
    tunable: bool
    """Whether a fit may move their θ: of all of them, or of none."""

    def length(self, phases: Phases) -> Float64[Tensor, " f"]:
        own = 1.0 + phases.length[self.phase] + 0.5 * ((self.theta != 0) & (self.theta != 1))
        return torch.where(self.kind == UNITY, 0.0, own).sum(1) + self.tunable


@dataclass(frozen=True, eq=False)
class _Family:
    """Products of the same sort."""

    atoms: Atoms
    """Of batch shape (n,)."""
    value: Float64[Tensor, "n p"]
    """Values at the points."""


class _Families:
    """The families of atoms, each made by a method."""

    def __init__(self, x: Float64[Tensor, "p v"], grids: Grids, signal: tuple[Tensor, Tensor] | None) -> None:
        n = self.n_variables = x.shape[1]
        if not 1 <= n <= MAX_VARIABLES:
            raise ValueError(f"a dictionary is for 1 to {MAX_VARIABLES} variables, not {n}")
        self.x, self.grids = x, grids
        self.may_be_negative, self.has_zero = (x < 0).any(0), (x == 0).any(0)
        # Of two levels every function is a line, of three a parabola: what is not written so says something about nothing.
        levels = torch.tensor([len(torch.unique(column)) for column in x.T])
        self.highest = torch.where(levels <= FEW_LEVELS, (levels - 1.0).clamp_min(1.0), torch.inf)
        simple = self._allowed(arguments(n))
        phases = phases_for(simple)
        self.basis = Basis(x, phases)
        self.low, high = self.basis.u.aminmax(dim=1)
        self.spread = high - self.low
        # Which phases, by number: monomials, those among them that are one variable, and also its square; sums.
        is_sum = phases.factor[:, 1] != 0
        few = (phases.power != 0) & self.highest.isfinite()
        usable = (self.spread > 0) & (self.spread < _WIDEST) & ~few.flatten(1).any(1)
        degree, is_one_variable = simple.sum(1), (simple != 0).sum(1) == 1
        self.usable, self.sums = usable.nonzero()[:, 0], (is_sum & ~few.flatten(1).any(1)).nonzero()[:, 0]
        self.of_monomials = (usable & ~is_sum).nonzero()[:, 0]
        usable = usable[: len(simple)]
        self.variables = (usable & is_one_variable & (degree == 1)).nonzero()[:, 0]
        self.near = (usable & is_one_variable & (degree >= 1)).nonzero()[:, 0]
        self.simple = simple
        self.multipliers = self._allowed(multipliers(n))
        self.whole_multipliers = self.multipliers[(self.multipliers.remainder(1.0) == 0).all(1)]
        self.nothing = torch.zeros(1, n, dtype=torch.float64)
        products = usable & ((simple == 1).sum(1) == 2) & (degree == 2)
        waving = self.variables if n > 2 else torch.cat([self.near, products.nonzero()[:, 0]])
        self.read_off = _factors([SIN, COS], self.near[:0], torch.zeros(0, 1), tunable=True)
        if signal is not None:
            self._read_off(*signal, waving)

    def _read_off(self, x: Float64[Tensor, "q v"], y: Float64[Tensor, " q"], waving: Int64[Tensor, " f"]) -> None:
        """Take waves that the grid has not from points and targets; plane ones read phases of their own."""
        phases, u = self.basis.phases, Basis(x, self.basis.phases).u
        at: list[int] = []
        theta: list[float] = []
        beyond = (self.grids.frequencies + 1) * self.grids.frequency_step
        for phase in self.near.tolist():
            rapid = rapid_frequencies(u[phase], y, beyond / float(self.spread[phase])).tolist()
            at, theta = at + len(rapid) * [phase], theta + rapid
        for pair in torch.combinations(waving):
            for wave in plane_waves(u[pair], y):
                size = wave.abs().max()
                power, factor = phases.power[pair][None, :, 0], (wave / size)[None]
                at, theta = [*at, len(phases)], [*theta, float(size)]
                phases = Phases(torch.cat([phases.power, power]), torch.cat([phases.factor, factor]))
        self.basis = Basis(self.x, phases)
        angular = torch.tensor(theta, dtype=torch.float64)[:, None]
        self.read_off = _factors([SIN, COS], torch.tensor(at, dtype=torch.int64), angular, tunable=True)

    def monomials(self) -> _Family:
        one = _factors([UNITY], torch.zeros(1, dtype=torch.int64), torch.zeros(1, 1), tunable=False)
        return self._times(self._allowed(monomials(self.n_variables)), one)

    def powers_of_sums(self) -> _Family:
        theta = torch.tensor(self.grids.sum_powers).expand(len(self.sums), -1)
        squares = self._allowed(inverse_squares(self.n_variables))
        return self._times(torch.cat([self.multipliers, squares]), _factors([POWER], self.sums, theta, tunable=False))

    def simple_functions(self) -> _Family:
        """Sines, cosines and exponentials of a phase, its double (or negative)."""
        ones = torch.ones(len(self.usable), 1)
        waves = _factors([SIN, COS], self.usable, torch.cat([ones, 2 * ones], 1), tunable=False)
        exponentials = _factors([EXP], self.usable, torch.cat([ones, -ones], 1), tunable=False)
        return self._times(self.multipliers, _Factors.cat([waves, exponentials]))

    def functions_of_positive(self) -> _Family:
        """Logarithms of a variable, reciprocals of a monomial more or less 1."""
        positive = self.of_monomials[self.low[self.of_monomials] > 0]
        variables = self.variables[self.low[self.variables] > 0]
        logarithms = _factors([LN], variables, torch.zeros(len(variables), 1), tunable=False)
        theta = torch.tensor([-1.0, 1.0]).expand(len(positive), -1)
        return self._times(
            self.multipliers, _Factors.cat([logarithms, _factors([INVERSE], positive, theta, tunable=False)])
        )

    def tunable_functions(self) -> _Family:
        """Exponentials, logarithms and reciprocals on grids of rates and shifts."""
        phases, grids = self.of_monomials, self.grids
        spread, low = self.spread[phases][:, None], self.low[phases][:, None]
        rates = torch.tensor(grids.rates, dtype=torch.float64) / spread
        shifts = torch.tensor(grids.shifts, dtype=torch.float64) * spread - low
        functions = [
            _factors([EXP], phases, torch.cat([rates, -rates], 1), tunable=True),
            _factors([LN, INVERSE], phases, shifts, tunable=True),
        ]
        return self._times(self.whole_multipliers, _Factors.cat(functions))

    def tunable_powers(self) -> _Family:
        """Powers of one variable, on the grid of exponents."""
        variables = self.variables[self.low[self.variables] > 0]
        exponents = torch.tensor(self.grids.exponents).expand(len(variables), -1)
        return self._times(self.multipliers, _factors([POWER], variables, exponents, tunable=True))

    def waves(self) -> _Family:
        """Sine and cosine of each angle in turn, on a grid of frequencies, and those that were read off."""
        theta = self._frequencies(self.of_monomials, self.grids.frequencies)
        waves = _Factors.cat([_factors([SIN, COS], self.of_monomials, theta, tunable=True), self.read_off])
        return self._times(self.whole_multipliers, waves, in_pairs=True)

    def products_of_two_waves(self) -> _Family:
        """Sines and cosines of two variables, each on a grid of frequencies."""
        theta = self._frequencies(self.variables, self.grids.frequencies_of_two)
        waves = _factors([SIN, COS], self.variables, theta, tunable=True)
        return self._times(self.nothing, _products(waves))

    def products_of_two_functions(self) -> _Family:
        """Sines, cosines and exponentials of two different variables or squares, with θ = 1."""
        functions = _factors([SIN, COS, EXP], self.near, torch.ones(len(self.near), 1), tunable=False)
        return self._times(torch.cat([self.nothing, self.simple[self.variables]]), _products(functions))

    def _frequencies(self, phases: Int64[Tensor, " f"], number: int) -> Float64[Tensor, "f k"]:
        steps = torch.arange(1, number + 1, dtype=torch.float64) * self.grids.frequency_step
        return steps / self.spread[phases][:, None]

    def _allowed(self, power: Powers) -> Float64[Tensor, "a v"]:
        """The monomials that are defined at all points."""
        whole = (power.remainder(1.0) == 0) | ~self.may_be_negative
        polynomial = self.highest.isinf() | ((power.remainder(1.0) == 0) & (power >= 0) & (power <= self.highest))
        return power[(whole & polynomial & ((power >= 0) | ~self.has_zero)).all(1)]

    def _times(self, power: Powers, factors: _Factors, *, in_pairs: bool = False) -> _Family:
        """All products of a monomial and a factor that are finite and of a moderate size; of a pair both or none."""
        m, f = len(power), len(factors.kind)
        basis = self.basis
        first, second = (basis.phi(factors.kind[:, k], factors.phase[:, k], factors.theta[:, k]) for k in (0, 1))
        value = (basis.monomial(power)[:, None] * (first * second)).flatten(0, 1)
        low, high = value.aminmax(dim=1)
        size = torch.maximum(high, -low)
        fine = (size > 1 / _LARGEST) & (size < _LARGEST)  # not NaN, which aminmax passes on
        if in_pairs:
            fine = (fine[0::2] & fine[1::2]).repeat_interleave(2)
        rows = fine.nonzero()[:, 0]
        monomial, factor = rows // max(f, 1), rows % max(f, 1)
        kind = factors.kind[factor]
        own_length = power.abs().sum(1) + 0.5 * (power.remainder(1.0) != 0).sum(1)
        atoms = Atoms(
            power[monomial],
            kind,
            factors.phase[factor],
            factors.theta[factor],
            (kind != UNITY) & factors.tunable,
            torch.zeros(len(rows), dtype=torch.bool),
            own_length[monomial] + factors.length(basis.phases)[factor],
        )
        return _Family(atoms, value if len(rows) == m * f else value[rows])


def _factors(kinds: list[int], phases: Int64[Tensor, " f"], theta: Tensor, *, tunable: bool) -> _Factors:
    """Single φ: of each phase, for each of its θ (f, k), all kinds in turn."""
    f, k = theta.shape
    shape = (f, k, len(kinds))
    kind = torch.tensor(kinds).expand(shape).flatten()
    phase = phases[:, None, None].expand(shape).flatten()
    value = theta.double()[:, :, None].expand(shape).flatten()
    return _Factors(
        torch.stack([kind, torch.full_like(kind, UNITY)], 1),
        torch.stack([phase, torch.zeros_like(phase)], 1),
        torch.stack([value, torch.zeros_like(value)], 1),
        tunable,
    )


def _products(single: _Factors) -> _Factors:
    """Products of any two single φ of different phases, the smaller number first."""
    phase = single.phase[:, 0]
    first, second = (phase[:, None] < phase).nonzero(as_tuple=True)
    both = torch.stack([first, second], 1)
    return _Factors(single.kind[both, 0], single.phase[both, 0], single.theta[both, 0], single.tunable)
