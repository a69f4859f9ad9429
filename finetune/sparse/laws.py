"""Laws that are a sparse sum of atoms, seen through an invertible g: g(y) = Σ a f(x), or a quotient of two such sums.

For several g the sums are pursued (`pursuit`) in dictionaries of growing freedom, monomials first, and the best of
every length become weighted programs, whose constants are then fitted to y itself. With weights |dy/dg| a sum that is good
for g(y) is good for y, so that the g compete fairly. Close to this: the fast function extraction of McConaghy (2011), the
sparse identification of Brunton, Proctor & Kutz (2016), and the inverted targets of Udrescu & Tegmark (2020).

Legend: p point, v input variable, b candidate.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from emlinit.finetune.sparse.atoms import NOTHING, SIN, Basis
from emlinit.finetune.sparse.dictionary import Dictionary, make_dictionary
from emlinit.finetune.sparse.goals import Goal, goals_for
from emlinit.finetune.sparse.periods import SIGNAL_POINTS
from emlinit.finetune.sparse.polynomials import polynomial_terms, polynomials_of_few_terms
from emlinit.finetune.sparse.pursuit import PursuitConfig, pursue
from emlinit.finetune.sparse.restrictions import atoms_without, goals_without
from emlinit.finetune.sparse.sums import SparseSums, SumSolver, joined, partners, priced_error
from emlinit.generator.builder import Builder
from emlinit.generator.formulas.compile_weighted import program_from_slot
from emlinit.generator.program import Programs
from emlinit.generator.slots import Slot
from emlinit.generator.tidy import fix_simple_exponents

_POINTS_PER_CONSTANT = 2  # at least so many, or else a sum interpolates
_QUOTIENT = 1.5  # what a term of a denominator adds to the length of a sum
_NEGLIGIBLE = 1e-9  # of g(y): terms that never reach this are left out of a sum that is as good as exact
_AS_GOOD_AS_EXACT = 1e-18  # relative squared error: the square of what is negligible
_SAME_ERROR = 1e-6  # relative difference up to which the worse of two sums of as many terms is not proposed

QUICK_SUMS, LONG_SUMS = ("monomials", "simple", "tuned"), ("tuned_pairs", "long")
"""Families of sums that take a second or two, and those that take the rest."""
ALL_SUMS = (*QUICK_SUMS, *LONG_SUMS)


@dataclass(frozen=True)
class SparseConfig:
    """How much is searched."""

    points: int = 160
    """Most rows at which sums are pursued."""
    candidates: int = 5
    """Candidates of each number of terms and stage."""
    without: frozenset[str] = frozenset()
    """Ingredients that no law may have (see `restrictions`)."""
    families: tuple[str, ...] = ALL_SUMS
    """Which of those below are searched, in this order."""
    pruned: int = 4
    """States of each goal and round from which one atom after the other is taken away."""
    monomials: PursuitConfig = field(default_factory=lambda: PursuitConfig(terms=3, beam=12, tried=32, algebra_terms=7))
    """Stage 1: monomials."""
    simple: PursuitConfig = field(default_factory=lambda: PursuitConfig(terms=4, beam=8, tried=24))
    """Stage 2: and functions of simple arguments."""
    tuned: PursuitConfig = field(default_factory=lambda: PursuitConfig(terms=4, beam=6, tried=24, paired_states=0))
    """Stage 3: and functions with rates, frequencies and shifts to be found, one after the other."""
    tuned_pairs: PursuitConfig = field(
        default_factory=lambda: PursuitConfig(terms=4, beam=10, tried=10, paired_states=2, function_pairs=60)
    )
    """Stage 4: the same, and two at once."""
    long: PursuitConfig = field(default_factory=lambda: PursuitConfig(terms=7, beam=12, tried=32))
    """Stage 5: monomials, for longer sums. They come last, as they approximate nearly everything."""


def propose_sparse(
    x: Float64[Tensor, "p v"],
    y: Float64[Tensor, " p"],
    config: SparseConfig | None = None,
    *,
    weights: Float64[Tensor, " p"] | None = None,
    deadline: float = math.inf,
) -> Iterator[Programs]:
    """Weighted programs that a sparse search suggests, stage by stage, each stage's best first.

    Args:
        x: points, finite. The first `config.points` are used, and the first `SIGNAL_POINTS` to see rapid oscillations.
        y: targets, finite, not constant.
        config: how much is searched.
        weights: of the points, positive; None: all alike.
        deadline: on the clock of `time.monotonic`; no round begins after it.
    """
    config = config or SparseConfig()
    signal = None if "wave" in config.without else (x[:SIGNAL_POINTS], y[:SIGNAL_POINTS])
    x, y = x[: config.points], y[: config.points]
    if bool((y == y[0]).all()):
        return  # of the rows drawn, none is one of the few at which the target differs
    goals = goals_without(goals_for(y), config.without)
    if weights is not None:
        goals = [replace(goal, weight=goal.weight * weights[: len(y)].sqrt()) for goal in goals]
    dictionary = make_dictionary(x, signal=signal)
    if config.without:
        dictionary = dictionary.part(atoms_without(dictionary.atoms, config.without))
    n_distinct = len(torch.unique(x, dim=0))  # repeated points tell nothing of the form
    # A table of repeated combinations of levels is a polynomial in them.
    factorial = bool(dictionary.few_levels.all()) and len(y) >= 2 * n_distinct
    fixed = ~dictionary.atoms.tunable.any(1)
    everything = torch.ones_like(fixed)
    few = [goal for goal in goals if goal.transform.tuned and not goal.rational]
    deep = [goal for goal in goals if goal.deep]
    stages = {
        "monomials": (dictionary.is_monomial, goals, config.monomials),
        "simple": (fixed, goals, config.simple),
        "tuned": (everything, few, config.tuned),
        "tuned_pairs": (everything, few, config.tuned_pairs),
        "long": (dictionary.is_monomial, deep, config.long),
    }
    for family in config.families:
        rows, pursued, pursuit = stages[family]
        if not pursued:
            continue
        found = pursue(dictionary.part(rows), pursued, _affordable(pursuit, n_distinct, factorial), deadline=deadline)
        if not found:
            return
        solver = SumSolver(dictionary.basis, pursued)
        found += [solver.pruned(states, config.pruned, pursuit.exact) for states in found]
        if pursuit.algebra_terms:
            found += _polynomials(
                dictionary, solver, min(pursuit.algebra_terms, _affordable(config.long, n_distinct, factorial).terms)
            )
        programs = _programs(found, pursued, dictionary.basis, config, x.shape[1], n_distinct, factorial)
        if programs is not None:
            yield programs


def _polynomials(dictionary: Dictionary, solver: SumSolver, terms: int) -> list[SparseSums]:
    """Polynomials of few terms for the deep goals."""
    polynomial, found = polynomial_terms(dictionary.atoms), []
    for goal_number, goal in enumerate(solver.goals):
        parts = polynomials_of_few_terms(polynomial, dictionary.basis, goal, terms) if goal.deep else []
        if parts:
            found.append(solver.solve(torch.full((len(parts),), goal_number), joined([atoms[None] for atoms in parts])))
    return found


def _affordable(config: PursuitConfig, n_points: int, factorial: bool) -> PursuitConfig:
    """Fewer terms for few points: a third of them at most may become coefficients, or all of those of a factorial design."""
    terms = max(1, min(config.terms, n_points if factorial else n_points // 6))
    return replace(config, terms=terms, shallow_terms=min(config.shallow_terms, terms))


def _programs(
    found: list[SparseSums],
    goals: list[Goal],
    basis: Basis,
    config: SparseConfig,
    n_variables: int,
    n_distinct: int,
    factorial: bool,
) -> Programs | None:
    """The best states as programs: the shortest exact ones, or the best of each length."""
    exact, most_constants = (
        config.monomials.exact**2,
        max(2, n_distinct if factorial else n_distinct // _POINTS_PER_CONSTANT),
    )
    by_terms: dict[int, list[tuple[float, float, SparseSums, int, Tensor]]] = {}
    exact_ones: list[tuple[float, float, SparseSums, int, Tensor]] = []
    for states in found:
        taken = taken_atoms(states, basis, goals)
        length = (
            torch.where(taken, states.atoms.length + 1 + _QUOTIENT * states.atoms.in_denominator, 0.0).sum(1).tolist()
        )
        price = priced_error(states, basis.u.shape[1]).tolist()
        for row, n_terms in enumerate(taken.sum(1).tolist()):
            if n_terms > most_constants:
                continue
            entry = (price[row], length[row], states, row, taken[row])
            by_terms.setdefault(n_terms, []).append(entry)
            if states.error[row] <= exact:
                exact_ones.append(entry)
    chosen = sorted(exact_ones, key=lambda entry: entry[1])[: config.candidates]
    if not chosen:
        for n_terms in sorted(by_terms):
            entries = sorted(by_terms[n_terms], key=lambda entry: float(entry[2].error[entry[3]]))
            errors = [float(states.error[row]) for _, _, states, row, _ in entries]
            new = [e for i, e in enumerate(entries) if not i or errors[i] > (1 + _SAME_ERROR) * errors[i - 1]]
            chosen += sorted(new, key=lambda entry: entry[0])[: config.candidates]
    programs = []
    for *_, states, row, own in chosen:
        program = sum_program(states, row, own, goals[int(states.goal_number[row])], basis, n_variables)
        if program is not None and int(program.n_free()) <= most_constants:
            programs.append(program)
    return Programs.cat(programs) if programs else None


def taken_atoms(states: SparseSums, basis: Basis, goals: list[Goal]) -> Bool[Tensor, "s k"]:
    """Atoms that are there and, in sums as good as exact, not negligible."""
    reach = states.coefficient.abs() * basis.values(states.atoms).abs().amax(-1)
    size = torch.stack([goal.value.abs().max() for goal in goals])[states.goal_number][:, None]
    reach = torch.where(states.atoms.in_denominator, reach, reach / size)
    return (states.atoms.kind[..., 0] != NOTHING) & (
        (reach > _NEGLIGIBLE) | (states.error > _AS_GOOD_AS_EXACT)[:, None]
    )


def sum_program(
    states: SparseSums, row: int, taken: Bool[Tensor, " k"], goal: Goal, basis: Basis, n_variables: int
) -> Programs | None:
    """The atoms of one state that are taken as a program for y; None where a constant overflows."""
    positive = [i + 1 for i in range(n_variables) if not bool(basis.negative[i].any())]
    builder = Builder(n_variables, positive)
    above: list[Slot] = []
    below: list[Slot] = []
    try:
        partner = partners(states.atoms[row : row + 1].only(taken[None]))[0].tolist()
        for k in taken.nonzero()[:, 0].tolist():
            atom, coefficient = states.atoms[row, k], float(states.coefficient[row, k])
            in_denominator = bool(atom.in_denominator)
            if partner[k] < k:  # is in the sum already
                continue
            if partner[k] > k:  # a cos θu + b sin θu = c cos(θu + φ), with one θ
                other = float(states.coefficient[row, partner[k]])
                a, b = (other, coefficient) if int(atom.kind[0]) == SIN else (coefficient, other)
                above.append(builder.scale(basis.wave_slot(atom, math.atan2(-b, a), builder), math.hypot(a, b)))
                continue
            part = builder.scale(basis.slot(atom, builder), -coefficient if in_denominator else coefficient)
            (below if in_denominator else above).append(part)
        value = builder.add(*above) if above else builder.constant(0.0)
        if below:
            value = builder.divide(value, builder.add(builder.constant(1.0), *below))
        program = program_from_slot(builder.readout(goal.inverted(value, builder)), n_variables)
    except (ArithmeticError, ValueError):
        return None
    return fix_simple_exponents(program)
