"""Sparse sums of atoms for several goals at once: orthogonal matching pursuit with a beam, tuning θ on the way.

A state is a set of atoms with the best coefficients. In each round every state is extended by those atoms and pairs of atoms
that promise most (`extensions`). The extensions are tuned by Gauss-Newton steps in θ, with the coefficients following
(variable projection), and the best of them are the states of the next round. Rows are weighted by |dy/dt| for a goal
t = g(y), so that errors are errors of y.

Legend: p point, s state, k atom of a state.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

from emlinit.finetune.sparse.atoms import NOTHING, Atoms
from emlinit.finetune.sparse.dictionary import Dictionary
from emlinit.finetune.sparse.extensions import Extensions
from emlinit.finetune.sparse.goals import Goal
from emlinit.finetune.sparse.polynomials import eliminate, polynomial_terms, quotients
from emlinit.finetune.sparse.sums import SparseSums, SumSolver, close_up, joined, priced_error

_SAME_ERROR = 1e-9  # relative difference up to which two states count as one


@dataclass(frozen=True)
class PursuitConfig:
    """How wide and how deep."""

    terms: int = 7
    """Most rounds; each adds an atom, a pair, or two atoms."""
    shallow_terms: int = 3
    """Most rounds for goals that are not `deep`."""
    beam: int = 12
    """States of each goal that are kept in a round."""
    tried: int = 36
    """Extensions of each goal's states by fixed atoms that are solved in a round; half as many by tunable ones, and by
    pairs, are tuned."""
    paired_states: int = 4
    """States of each goal that are also extended by two atoms at once."""
    paired_atoms: int = 80
    """The simplest monomials and the simplest other atoms, so many each (half as many of those in a denominator), and as
    many of the best alone: all pairs of them are tried."""
    tried_pairs: int = 12
    """Extensions of one state by two atoms that are solved."""
    function_pairs: int = 0
    """If any, then instead of these pairs those in which at least one atom has a θ to be found: so many are tuned, one of
    any two families."""
    function_atoms: int = 800
    """The simplest tunable atoms, so many, that they are made of, and a quarter as many of the simplest fixed ones."""
    algebra_terms: int = 0
    """Most terms of polynomials and their quotients that are found by linear algebra (see `polynomials`)."""
    tuning_steps: int = 6
    """Gauss-Newton steps of a round."""
    exact: float = 1e-13
    """Root mean squared error, relative to the deviation of t from its mean, up to which a goal is done."""


def pursue(
    dictionary: Dictionary, goals: Sequence[Goal], config: PursuitConfig | None = None, *, deadline: float = math.inf
) -> list[SparseSums]:
    """The best sparse sums of each round, those of a goal sorted by error; ends a round after the first exact one, which a
    shorter one may follow.

    Args:
        dictionary: the atoms, at the points of the goals.
        goals: one or more.
        config: options.
        deadline: on the clock of `time.monotonic`; no round begins after it.
    """
    config = config or PursuitConfig()
    solver = SumSolver(dictionary.basis, goals)
    pursuit = _Pursuit(dictionary, solver, config)
    rounds: list[SparseSums] = []
    states, was_exact = solver.start(), False
    for round_number in range(config.terms):
        if time.monotonic() >= deadline:
            break
        states = pursuit.round(states, round_number)
        if not len(states.goal_number):
            break
        rounds.append(states)
        if was_exact:
            break
        was_exact = bool((states.error <= config.exact**2).any())
    return rounds


class _Pursuit:
    def __init__(self, dictionary: Dictionary, solver: SumSolver, config: PursuitConfig) -> None:
        self.dictionary, self.solver, self.config = dictionary, solver, config
        self.extensions = Extensions(dictionary, solver)

    def round(self, states: SparseSums, round_number: int) -> SparseSums:
        """The best extensions of all states by one term."""
        exact = self.config.exact
        parts: list[Atoms] = []
        goal_numbers: list[int] = []
        for goal_number, goal in enumerate(self.solver.goals):
            own = (states.goal_number == goal_number).nonzero()[:, 0]
            own = own[states.error[own] > exact**2]
            if len(own) and (round_number < self.config.shallow_terms or goal.deep):
                parts.append(joined(self._extended(goal_number, states.rows(own), round_number)))
                goal_numbers += [goal_number] * len(parts[-1].kind)
        if not parts:
            return states.rows(slice(0, 0))
        solved = self.solver.solve(torch.tensor(goal_numbers), close_up(joined(parts)))
        extended = self.solver.tune(solved, self.config.tuning_steps, exact)
        return extended.rows(
            torch.cat([self._best(extended, goal_number) for goal_number in range(len(self.solver.goals))])
        )

    def _extended(self, goal_number: int, states: SparseSums, round_number: int) -> list[Atoms]:
        """What one goal's states become in a round."""
        config, goal = self.config, self.solver.goals[goal_number]
        extended = [self.extensions.by_one(goal_number, states, config.tried)]
        if round_number < config.shallow_terms and config.paired_states:
            best = states.rows(slice(config.paired_states))
            extended.append(
                self.extensions.by_two_functions(goal_number, best, config.function_atoms, config.function_pairs)
                if config.function_pairs
                else self.extensions.by_two(goal_number, best, config.paired_atoms, config.tried_pairs)
            )
        if round_number == 0 and config.algebra_terms:
            find = quotients if goal.rational else eliminate
            polynomial = polynomial_terms(self.dictionary.atoms)
            extended += [atoms[None] for atoms in find(polynomial, self.dictionary.basis, goal, config.algebra_terms)]
        return extended

    def _best(self, states: SparseSums, goal_number: int) -> Int64[Tensor, " s"]:
        """The states of one goal that go on, by error: the best ones, of equal error the shortest, and as many of those that
        are best for their price; no error twice."""
        own = (states.goal_number == goal_number).nonzero()[:, 0]
        length = torch.where(states.atoms.kind[own, :, 0] != NOTHING, states.atoms.length[own], 0.0).sum(1)
        own = own[length.argsort(stable=True)]
        own = own[states.error[own].clamp_min(self.config.exact**2).argsort(stable=True)]
        error = states.error[own]
        new = torch.ones(len(own), dtype=torch.bool)
        new[1:] = (error[1:] - error[:-1]).abs() > _SAME_ERROR * error[:-1]
        own = own[new & error.isfinite()]
        price = priced_error(states.rows(own), self.solver.t.shape[1])
        rank = torch.full((len(own),), len(own))
        rank[price.argsort(stable=True)] = torch.arange(len(own))
        n_best = (self.config.beam + 1) // 2
        rank[:n_best] = -1
        kept = rank.argsort(stable=True)[: self.config.beam]
        return own[kept.sort().values]
