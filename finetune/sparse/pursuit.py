"""Sparse sums of atoms for several targets at once: orthogonal matching pursuit with a beam, tuning θ on the way.

A state is a set of atoms with the best coefficients. In each round every state is tried with every atom (or pair of atoms)
of the dictionary: with Q an orthonormal basis of its columns and r its residual, an atom f lowers the squared error by

    (r·f)² / (|f|² - |Qᵀf|²)                        (Chen, Cowan & Grant 1991; Pati et al. 1993)

The best of all are tuned by Gauss-Newton steps in θ, with the coefficients following (variable projection), and the best of
these are the states of the next round. Rows are weighted by |dy/dt| for a target t = g(y), so that errors are errors of y.

Legend: t target, p point, s state, k atom of a state, f atom of the dictionary.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

from emlinit.finetune.sparse.atoms import NOTHING, ONE, Atoms
from emlinit.finetune.sparse.dictionary import Dictionary
from emlinit.finetune.sparse.goals import Goal
from emlinit.finetune.sparse.polynomials import eliminate, polynomial_terms, quotients
from emlinit.finetune.sparse.sums import States, Sums, close_up, joined, orthonormal

_COLLINEAR = 1e-9  # of |f|²: what is nearer than this to the span of a state's atoms adds nothing
_PAIRS_RANKED = 50_000  # of all pairs, those from which the best of any two families are taken
_FAVOUR = 1e9  # by which the simplest atoms come before all others


@dataclass(frozen=True)
class PursuitConfig:
    """How wide and how deep."""

    terms: int = 7
    """Most rounds; each adds an atom, a pair, or two atoms."""
    shallow_terms: int = 3
    """Most rounds for goals that are not `deep`."""
    beam: int = 12
    """States of each target that are kept in a round."""
    tried: int = 36
    """Extensions of each target's states by fixed atoms that are solved in a round; half as many by tunable ones, and by
    pairs, are tuned."""
    paired_states: int = 4
    """States of each target that are also extended by two atoms at once."""
    paired_atoms: int = 80
    """The simplest monomials and the simplest other atoms, so many each (half as many of those in a denominator), and as
    many of the best alone: all pairs of them are tried."""
    tried_pairs: int = 12
    """Of these extensions, those that are solved."""
    function_pairs: int = 0
    """If any, then instead of these pairs those in which at least one atom has a θ to be found: so many are tuned, one of
    any two families."""
    function_atoms: int = 800
    """The simplest tunable atoms, so many, that they are made of, and a quarter as many of the simplest fixed ones."""
    algebra_terms: int = 0
    """Most terms of polynomials and their quotients that are found by linear algebra (see `sparse_polynomials`)."""
    tuning_steps: int = 6
    """Gauss-Newton steps of a round."""
    exact: float = 1e-13
    """Root mean squared error, relative to the target's deviation from its mean, up to which a target is done."""


def pursue(
    dictionary: Dictionary, goals: Sequence[Goal], config: PursuitConfig | None = None, *, deadline: float = math.inf
) -> list[States]:
    """The best sparse sums of each round, those of a goal sorted by error; ends a round after the first exact one, which a
    shorter one may follow.

    Args:
        dictionary: the atoms, at the points of the goals.
        goals: one or more.
        config: options.
        deadline: on the clock of `time.monotonic`; no round begins after it.
    """
    config = config or PursuitConfig()
    sums = Sums(dictionary.basis, goals)
    pursuit = _Pursuit(dictionary, sums, config)
    rounds: list[States] = []
    states, was_exact = sums.start(), False
    for number in range(config.terms):
        if time.monotonic() >= deadline:
            break
        states = pursuit.round(states, number)
        if not len(states.target):
            break
        rounds.append(states)
        if was_exact:
            break
        was_exact = bool((states.error <= config.exact**2).any())
    return rounds


class _Pursuit:
    def __init__(self, dictionary: Dictionary, sums: Sums, config: PursuitConfig) -> None:
        self.basis, self.atoms, self.config = dictionary.basis, dictionary.atoms, config
        self.value, self.n_paired = dictionary.value, dictionary.n_paired
        self.square = self.value.square()
        self.denominator = dictionary.in_denominator
        self.denominator_value, self.denominator_square = self.value[self.denominator], self.square[self.denominator]
        self.cross = self.value[0 : self.n_paired : 2] * self.value[1 : self.n_paired : 2]
        self.tunable = self.atoms.tunable.any(1)
        atoms = self.atoms
        function = torch.cat([atoms.power, atoms.kind.double(), atoms.phase.double()], 1)
        self.family = torch.unique(function, dim=0, return_inverse=True)[1]  # all but θ
        self.sums, self.goals = sums, sums.goals
        self.targets, self.weights = sums.targets, sums.weights

    def round(self, states: States, number: int) -> States:
        """The best extensions of all states by one term."""
        exact = self.config.exact
        parts: list[Atoms] = []
        targets: list[int] = []
        for target, goal in enumerate(self.goals):
            own = (states.target == target).nonzero()[:, 0]
            own = own[states.error[own] > exact**2]
            if len(own) and (number < self.config.shallow_terms or goal.deep):
                parts.append(joined(self._extensions(target, states.rows(own), number)))
                targets += [target] * len(parts[-1].kind)
        if not parts:
            return states.rows(slice(0, 0))
        solved = self.sums.solve(torch.tensor(targets), close_up(joined(parts)))
        extended = self.sums.tune(solved, self.config.tuning_steps, exact)
        return extended.rows(torch.cat([self._best(extended, target) for target in range(len(self.goals))]))

    def _extensions(self, target: int, states: States, number: int) -> list[Atoms]:
        """What one goal's states become in round `number`."""
        config = self.config
        extensions = [self._extend(target, states)]
        if number < config.shallow_terms and config.paired_states:
            by_two = self._extend_by_two_functions if config.function_pairs else self._extend_by_two
            extensions.append(by_two(target, states))
        if number == 0 and config.algebra_terms:
            find = quotients if self.goals[target].rational else eliminate
            found = find(polynomial_terms(self.atoms), self.basis, self.goals[target], config.algebra_terms)
            extensions += [atoms[None] for atoms in found]
        return extensions

    def _best(self, states: States, target: int) -> Int64[Tensor, " s"]:
        """The states of one goal that go on: the best ones, of equal error the shortest, no error twice."""
        own = (states.target == target).nonzero()[:, 0]
        length = torch.where(states.atoms.kind[own, :, 0] != NOTHING, states.atoms.length[own], 0.0).sum(1)
        own = own[length.argsort(stable=True)]
        own = own[states.error[own].clamp_min(self.config.exact**2).argsort(stable=True)]
        error = states.error[own]
        new = torch.ones(len(own), dtype=torch.bool)
        new[1:] = (error[1:] - error[:-1]).abs() > 1e-9 * error[:-1]
        return own[new & error.isfinite()][: self.config.beam]

    def _extend_by_two(self, target: int, states: States) -> Atoms:
        """The most promising extensions of one target's best states by two atoms at once: of two that only together explain
        anything, neither would be chosen alone."""
        config = self.config
        w, t = self.weights[target], self.targets[target]
        goal = w * t
        single = torch.arange(self.n_paired, len(self.value))
        value = self.value[single] * w
        atoms = self.atoms[single]
        if self.goals[target].rational:
            below = self.atoms[self.denominator]
            below.on_target[:] = True
            value = torch.cat([value, self.denominator_value * goal])
            atoms = Atoms.cat([atoms, below])
        is_below, is_monomial = atoms.on_target, (atoms.kind == ONE).all(1)
        simplest = torch.zeros_like(is_below)  # of every sort; they are always among those tried
        for sort in (
            is_monomial & ~is_below,
            is_monomial & is_below,
            ~is_monomial & ~is_below,
            ~is_monomial & is_below,
        ):
            simplest[sort.nonzero()[: config.paired_atoms // (1 + int(bool(is_below[sort].any()))), 0]] = True
        n_tried = config.paired_atoms + int(simplest.sum())
        parts = []
        for row in range(min(config.paired_states, len(states.target))):
            state = states.rows(slice(row, row + 1))
            unit, along = self._beside(state, goal, value)
            best = torch.where(simplest, _FAVOUR, 1.0).mul(along.abs()).topk(min(n_tried, len(along))).indices
            best = best[along[best] != 0]
            gain = _gain_of_pairs(unit[best], along[best])
            # y·f + y·g = y for many f and g, which says nothing about y.
            gain[is_below[best][:, None] & is_below[best]] = 0.0
            pairs = gain.flatten().topk(min(config.tried_pairs, gain.numel())).indices
            first, second = best[pairs // len(best)], best[pairs % len(best)]
            parent = state.atoms[torch.zeros_like(first)]
            parts.append(Atoms.side_by_side([parent, atoms[first[:, None]], atoms[second[:, None]]]))
        return Atoms.cat(parts)

    def _extend_by_two_functions(self, target: int, states: States) -> Atoms:
        """The most promising extensions of one target's best states by two functions, of every two families those θ on the
        grid that explain most together: alone, the sum of two decays looks like one of another rate."""
        config, n_paired = self.config, self.n_paired
        single = torch.arange(n_paired, len(self.value))
        tunable, fixed = single[self.tunable[single]], single[~self.tunable[single]]
        chosen = torch.cat([tunable[: config.function_atoms], fixed[: config.function_atoms // 4]])
        fixed_pair = ~(self.tunable[chosen][:, None] | self.tunable[chosen])
        family = self.family[chosen]
        first_family, second_family = torch.minimum(family[:, None], family), torch.maximum(family[:, None], family)
        family_of_pair = (first_family * len(self.value) + second_family).flatten()
        w = self.weights[target]
        goal, value = w * self.targets[target], self.value[chosen] * w
        parts = []
        for row in range(min(config.paired_states, len(states.target))):
            state = states.rows(slice(row, row + 1))
            gain = _gain_of_pairs(*self._beside(state, goal, value))
            gain[fixed_pair] = 0.0
            best = gain.flatten().topk(min(_PAIRS_RANKED, gain.numel())).indices
            best = best[gain.flatten()[best] > 0]
            families, place = torch.unique(family_of_pair[best], return_inverse=True)
            first_place = torch.full_like(families, len(best)).scatter_reduce_(
                0, place, torch.arange(len(best)), "amin"
            )
            best = best[first_place.sort().values[: config.function_pairs]]
            first, second = chosen[best // len(chosen)], chosen[best % len(chosen)]
            parent = state.atoms[torch.zeros_like(first)]
            parts.append(Atoms.side_by_side([parent, self.atoms[first[:, None]], self.atoms[second[:, None]]]))
        return Atoms.cat(parts)

    def _beside(self, state: States, goal: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """The parts of (weighted) atoms that a state's own do not span, as unit vectors, and how much of its residual lies
        along each; both 0 where nothing is left."""
        q = orthonormal(self.sums.columns(state.target, state.atoms))[0][0]
        residual = goal - q.T @ (q @ goal)
        rest = value - (value @ q.T) @ q
        size = torch.linalg.vector_norm(rest, dim=1)
        free = size > _COLLINEAR**0.5 * torch.linalg.vector_norm(value, dim=1)
        unit = torch.where(free[:, None], rest / torch.where(free, size, 1.0)[:, None], 0.0)
        return unit, unit @ residual

    def _extend(self, target: int, states: States) -> Atoms:
        """The most promising extensions of one target's states by an atom or a pair, not yet solved.

        Fixed atoms, tunable ones and pairs have places of their own, and of one function only the best θ counts:
        neighbouring ones would take all places.
        """
        n, n_paired = len(self.value), self.n_paired
        singles, pairs, squares = self._gains(target, states)
        n_single, s = len(singles), len(states.target)
        left_over = (squares - torch.cat([singles, pairs])).clamp_min(0.0)  # (f, s)
        left_over[:n_paired] = torch.inf  # those of a pair are not taken alone
        left_over[:n] = _best_of_each(left_over[:n], self.family, self.tunable)
        left_over[n_single:] = _best_of_each(
            left_over[n_single:], self.family[0:n_paired:2], self.tunable[0:n_paired:2]
        )
        number = torch.arange(len(left_over))
        is_tunable = torch.nn.functional.pad(self.tunable, (0, len(left_over) - n))
        chosen = []
        tried = self.config.tried
        sorts = ((~is_tunable & (number < n_single), tried), (is_tunable, tried // 2), (number >= n_single, tried // 2))
        for sort, places in sorts:
            rows = sort.nonzero()[:, 0]
            own = left_over[rows].flatten()
            least = own.topk(min(places, len(own)), largest=False)
            best = least.indices[least.values.isfinite()]
            chosen.append(rows[best // s] * s + best % s)
        which, parent = torch.cat(chosen) // s, torch.cat(chosen) % s
        is_pair, below = which >= n_single, (which >= n) & (which < n_single)
        first = torch.where(is_pair, 2 * (which - n_single), which)
        first[below] = self.denominator[which[below] - n]
        added = self.atoms[first[:, None]]
        added.on_target[:] = below[:, None]
        second = self.atoms[torch.where(is_pair, first + 1, first)[:, None]]
        second.kind[~is_pair] = NOTHING
        second.tunable[~is_pair] = False
        return Atoms.side_by_side([states.atoms[parent], added, second])

    def _gains(self, target: int, states: States) -> tuple[Tensor, Tensor, Tensor]:
        """How much each atom, and after them each atom times the target, would lower the squared error of each state; the
        same of the pairs; and the squared errors."""
        n_paired = self.n_paired
        q, _, _ = orthonormal(self.sums.columns(states.target, states.atoms))
        w = self.weights[target]
        goal = w * self.targets[target]
        residual = goal - (q * (q @ goal)[..., None]).sum(1)
        residual = residual - (q * (q @ residual[:, :, None])).sum(1)
        s, k, _ = q.shape
        gains, pairs = [], self.value.new_zeros(0, s)
        for on_target in (False, True) if self.goals[target].rational else (False,):
            row_weight = goal if on_target else w
            value = self.denominator_value if on_target else self.value
            square = self.denominator_square if on_target else self.square
            right = (row_weight * torch.cat([residual[:, None], q], 1)).flatten(0, 1)
            product = (value @ right.T).view(-1, s, k + 1)
            along, inside = product[..., 0], product[..., 1:]
            norm = square @ row_weight.square()
            left = norm[:, None] - inside.square().sum(-1)
            free = left > _COLLINEAR * norm[:, None]
            gains.append(torch.where(free, along.square() / left, 0.0))
            if not on_target and n_paired:
                # both of a pair: a 2 x 2 system
                a, b = along[0:n_paired:2], along[1:n_paired:2]
                aa, bb = left[0:n_paired:2], left[1:n_paired:2]
                ab = (self.cross @ row_weight.square())[:, None] - (inside[0:n_paired:2] * inside[1:n_paired:2]).sum(-1)
                determinant = aa * bb - ab.square()
                gain = (a.square() * bb - 2 * a * b * ab + b.square() * aa) / determinant
                pairs = torch.where(determinant > 1e-6 * aa * bb, gain, 0.0)
        if len(gains) == 2:
            # y·f = y for f near 1: as long as nothing stands above the line, a denominator explains nothing.
            above = (states.atoms.kind[..., 0] != NOTHING) & ~states.atoms.on_target & (states.atoms.length > 0)
            gains[1] = torch.where(above.any(1), gains[1], 0.0)
        return torch.cat(gains), pairs, residual.square().sum(1)


def _gain_of_pairs(unit: Tensor, along: Tensor) -> Tensor:
    """By how much two unit vectors together lower the squared error, (n, n), above the diagonal."""
    gram = unit @ unit.T
    gain = along.square()[:, None] + along.square() - 2 * along[:, None] * along * gram
    return torch.where(1 - gram.square() > 1e-7, gain / (1 - gram.square()), 0.0).triu(1)


def _best_of_each(left_over: Tensor, family: Tensor, tunable: Tensor) -> Tensor:
    """The same, but infinite for tunable atoms beside which there is a better one of their family."""
    if not len(family):
        return left_over
    least = left_over.new_full((int(family.max()) + 1, left_over.shape[1]), torch.inf)
    least.scatter_reduce_(0, family[:, None].expand_as(left_over), left_over, "amin")
    return torch.where(tunable[:, None] & (left_over > least[family]), torch.inf, left_over)
