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
from jaxtyping import Float64, Int64
from torch import Tensor

from emlinit.finetune.sparse_atoms import EXP, NOTHING, ONE, SIN, Atoms, Basis, Dictionary

_COLLINEAR = 1e-9  # of |f|²: what is nearer than this to the span of a state's atoms adds nothing
_FAVOUR = 1e9
_POINTS_PER_TERM = 2  # at least so many for each term of a full polynomial
_TUNABLE_PENALTY = 2.0  # what a simple atom may leave over more than a tunable one
_DEGREES = ((1, 1), (2, 1), (1, 2), (2, 2), (3, 1), (3, 2), (2, 3), (3, 3))  # of p and q
_VANISHES = 1e-11  # a singular value, relative to the largest
_LEAST_REACH = 0.1  # of θu, over the range of u


@dataclass(frozen=True, eq=False)
class Goal:
    """What a sparse sum is to be: t = g(y)."""

    kind: str
    """Name of g."""
    value: Float64[Tensor, " p"]
    """t."""
    weight: Float64[Tensor, " p"]
    """|dy/dt| at the points, by which errors of t are counted."""
    rational: bool = False
    """Whether atoms times t may be taken, too: then t is a sum over a sum."""
    sign: float = 1.0
    """-1 if g is taken of -y."""
    shift: float = 0.0
    """What is subtracted from y first."""
    deep: bool = False
    """Whether it is pursued for `terms` rounds, or for `shallow_terms`."""


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
    """Extensions of each target's states that are tuned in a round."""
    paired_states: int = 4
    """States of each target that are also extended by two atoms at once."""
    paired_atoms: int = 120
    """The simplest atoms, so many, and as many of the best alone: all pairs of them are tried."""
    tried_pairs: int = 12
    """Of these extensions, those that are solved."""
    eliminate: bool = False
    """Whether sums are also found by leaving out terms of a full polynomial, one goal a time."""
    tuning_steps: int = 6
    """Gauss-Newton steps of a round."""
    exact: float = 1e-13
    """Root mean squared error, relative to the target's deviation from its mean, up to which a target is done."""


@dataclass(frozen=True, eq=False)
class States:
    """Sparse sums."""

    target: Int64[Tensor, " s"]
    """Which target each is for."""
    atoms: Atoms
    """Of batch shape (s, k); places not taken are `NOTHING`."""
    coefficient: Float64[Tensor, "s k"]
    """Of the atoms."""
    error: Float64[Tensor, " s"]
    """Weighted squared error, relative to that of the best constant."""

    def __getitem__(self, rows: Tensor) -> "States":
        return States(self.target[rows], self.atoms[rows], self.coefficient[rows], self.error[rows])


def pursue(
    dictionary: Dictionary, goals: Sequence[Goal], config: PursuitConfig | None = None, *, deadline: float = math.inf
) -> list[States]:
    """The best sparse sums of each round, those of a goal sorted by error; ends a round after the first exact one, which a
    shorter one may follow."""
    config = config or PursuitConfig()
    pursuit = _Pursuit(dictionary, goals, config)
    rounds: list[States] = []
    states, was_exact = pursuit.start(), False
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
    def __init__(self, dictionary: Dictionary, goals: Sequence[Goal], config: PursuitConfig) -> None:
        self.basis, self.atoms, self.config = dictionary.basis, dictionary.atoms, config
        self.value, self.n_paired = dictionary.value, dictionary.n_paired
        self.square = self.value.square()
        self.denominator = dictionary.in_denominator
        self.denominator_value, self.denominator_square = self.value[self.denominator], self.square[self.denominator]
        self.cross = self.value[0 : self.n_paired : 2] * self.value[1 : self.n_paired : 2]
        self.tunable = self.atoms.tunable.any(1)
        self.goals = goals
        self.targets = torch.stack([goal.value for goal in goals])
        weights = self.weights = torch.stack([goal.weight for goal in goals])
        mean = (weights.square() * self.targets).sum(1, keepdim=True) / weights.square().sum(1, keepdim=True)
        self.spread = dictionary.basis.u.amax(1) - dictionary.basis.u.amin(1)
        self.scale = (weights * (self.targets - mean)).square().sum(1)

    def start(self) -> States:
        """For each target nothing, and a constant."""
        n = len(self.targets)
        target = torch.arange(n).repeat_interleave(2)
        atoms = _nothing(2 * n, 1, self.atoms.power.shape[1])
        atoms.kind[1::2] = ONE
        return self._solve(target, atoms)

    def columns(self, target: Tensor, atoms: Atoms) -> Tensor:
        """Weighted values (s, k, p)."""
        value = self.basis.values(atoms)
        value = torch.where(atoms.on_target[..., None], value * self.targets[target][:, None], value)
        return value * self.weights[target][:, None]

    def _solve(self, target: Tensor, atoms: Atoms) -> States:
        """States with the best coefficients."""
        columns = self.columns(target, atoms)
        q, r, norms = _orthonormal(columns)
        goal = self.weights[target] * self.targets[target]
        inner = (q @ goal[:, :, None])[..., 0]
        residual = goal - (q * inner[..., None]).sum(1)
        inner = inner + (q @ residual[:, :, None])[..., 0]
        residual = goal - (q * inner[..., None]).sum(1)
        coefficient = torch.linalg.solve_triangular(r, inner[..., None], upper=True)[..., 0] / norms
        below = atoms.on_target
        if bool(below.any()):
            # t = n + d t was solved for n and d; its error is that of n / (1 - d), or else d = 1 would be a solution.
            terms = columns * coefficient[..., None]
            d = torch.where(below[..., None], terms, 0.0).sum(1) / goal
            n = torch.where(below[..., None], 0.0, terms).sum(1)
            residual = torch.where(below.any(1)[:, None], goal - n / (1.0 - d), residual)
        error = residual.square().sum(1) / self.scale[target]
        error = torch.where(coefficient.isfinite().all(1) & error.isfinite(), error, torch.inf)
        return States(target, atoms, coefficient, error)

    def round(self, states: States, number: int) -> States:
        """The best extensions of all states by one term."""
        config = self.config
        parts: list[Atoms] = []
        targets: list[int] = []
        for target in range(len(self.targets)):
            own = (states.target == target).nonzero()[:, 0]
            own = own[states.error[own] > config.exact**2]
            if len(own) and (number < config.shallow_terms or self.goals[target].deep):
                extensions = [self._extend(target, states[own]).atoms]
                if number < config.shallow_terms and config.paired_states:
                    extensions.append(self._extend_by_two(target, states[own]).atoms)
                if number == 0 and config.eliminate:
                    found = self._quotients(target) if self.goals[target].rational else self._eliminate(target)
                    extensions += [atoms[None] for atoms in found]
                parts.append(_joined(extensions))
                targets += [target] * len(parts[-1].kind)
        if not parts:
            return states[torch.zeros(0, dtype=torch.int64)]
        extended = self._tune(self._solve(torch.tensor(targets), _close_up(_joined(parts))))
        kept = []
        for target in range(len(self.targets)):
            own = (extended.target == target).nonzero()[:, 0]
            length = torch.where(extended.atoms.kind[own, :, 0] != NOTHING, extended.atoms.length[own], 0.0).sum(1)
            own = own[length.argsort(stable=True)]
            own = own[extended.error[own].clamp_min(config.exact**2).argsort(stable=True)]
            error = extended.error[own]
            new = torch.ones(len(own), dtype=torch.bool)
            new[1:] = (error[1:] - error[:-1]).abs() > 1e-9 * error[:-1]
            kept.append(own[new & error.isfinite()][: config.beam])
        return extended[torch.cat(kept)]

    def _eliminate(self, target: int) -> list[Atoms]:
        """Sums of monomials found from the other end: all polynomial terms at first, the least significant ones left out
        step by step. It finds sums in which no term stands out."""
        is_power = (self.atoms.kind == ONE).all(1) & (self.atoms.power >= 0).all(1)
        is_power &= (self.atoms.power.remainder(1.0) == 0).all(1)
        w, t = self.weights[target], self.targets[target]
        kept = self.atoms[is_power.nonzero()[: len(t) // _POINTS_PER_TERM, 0]]
        found = []
        while len(kept.kind) > 1:
            columns = self.basis.values(kept) * w
            q, r, norms = _orthonormal(columns[None])
            size = torch.linalg.solve_triangular(r[0], torch.eye(len(columns), dtype=torch.float64), upper=True).norm(dim=1)
            coefficient = torch.linalg.solve_triangular(r[0], (q[0] @ (w * t))[:, None], upper=True)[:, 0]
            significance = (coefficient / size).abs()
            n_left = len(columns) - max(1, len(columns) // 4) if len(columns) > 24 else len(columns) - 1
            kept = kept[significance.topk(n_left).indices.sort().values]
            if n_left <= self.config.terms:
                found.append(kept)
        return found

    def _quotients(self, target: int) -> list[Atoms]:
        """Exact quotients of polynomials p/q in lowest terms: p - t q = 0 is linear in the coefficients of both, and with
        the degrees that suffice only one combination of the columns vanishes."""
        w, t = self.weights[target], self.targets[target]
        is_power = (self.atoms.kind == ONE).all(1) & (self.atoms.power >= 0).all(1)
        is_power &= (self.atoms.power.remainder(1.0) == 0).all(1)
        powers = self.atoms[is_power.nonzero()[:, 0]]
        values = self.basis.values(powers) * w
        degree = powers.power.sum(1)
        for above, below in _DEGREES:
            p, q = (degree <= above).nonzero()[:, 0], (degree <= below).nonzero()[:, 0]
            if _POINTS_PER_TERM * (len(p) + len(q)) > len(t):
                continue
            columns = torch.cat([values[p], values[q] * t])
            norms = torch.linalg.vector_norm(columns, dim=1)
            _, size, rows = torch.linalg.svd((columns / norms[:, None]).mT, full_matrices=False)
            if not bool(size[-1] < _VANISHES * size[0]):
                continue
            share = rows[-1].abs()
            taken = share > 1e-6 * share.max()
            p, q = p[taken[: len(p)]], q[taken[len(p) :]]
            if not len(p) or not len(q) or len(p) + len(q) > self.config.terms + 1:
                continue
            # Divided by one term of the denominator, whichever leaves the shortest atoms.
            found = []
            for leading in range(len(q)):
                others = torch.cat([q[:leading], q[leading + 1 :]])
                atoms = powers[torch.cat([p, others])]
                power = atoms.power - powers.power[q[leading]]
                on_target = torch.arange(len(power)) >= len(p)
                length = power.abs().sum(1)
                found.append(Atoms(**{**vars(atoms), "power": power, "on_target": on_target, "length": length}))
            return [min(found, key=lambda atoms: float(atoms.length.sum()))]
        return []

    def _extend_by_two(self, target: int, states: States) -> States:
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
        is_below = atoms.on_target
        place = torch.where(is_below, torch.arange(len(atoms.kind)) - len(single), torch.arange(len(atoms.kind)))
        simplest = place < config.paired_atoms  # of either kind; they are always among those tried
        n_tried = config.paired_atoms + int(simplest.sum())
        norm = torch.linalg.vector_norm(value, dim=1)
        parts = []
        for row in range(min(config.paired_states, len(states.target))):
            state = states[torch.tensor([row])]
            q = _orthonormal(self.columns(state.target, state.atoms))[0][0]
            residual = goal - q.T @ (q @ goal)
            rest = value - (value @ q.T) @ q
            size = torch.linalg.vector_norm(rest, dim=1)
            along = torch.where(size > _COLLINEAR**0.5 * norm, (rest @ residual) / size, 0.0)
            best = torch.where(simplest, _FAVOUR, 1.0).mul(along.abs()).topk(min(n_tried, len(along))).indices
            best = best[along[best] != 0]
            unit, a = rest[best] / size[best, None], along[best]
            gram = unit @ unit.T
            gain = a.square()[:, None] + a.square() - 2 * a[:, None] * a * gram
            gain = torch.where(1 - gram.square() > 1e-7, gain / (1 - gram.square()), 0.0).triu(1)
            # y·f + y·g = y for many f and g, which says nothing about y.
            gain[is_below[best][:, None] & is_below[best]] = 0.0
            pairs = gain.flatten().topk(min(config.tried_pairs, gain.numel())).indices
            first, second = best[pairs // len(best)], best[pairs % len(best)]
            parent = state.atoms[torch.zeros_like(first)]
            parts.append(Atoms.cat([parent, atoms[first[:, None]], atoms[second[:, None]]], 1))
        joined = Atoms.cat(parts)
        return _unsolved(torch.full((len(joined.kind),), target), joined)

    def _extend(self, target: int, states: States) -> States:
        """The most promising extensions of one target's states, not yet solved."""
        config, n_paired = self.config, self.n_paired
        q, _, _ = _orthonormal(self.columns(states.target, states.atoms))
        w = self.weights[target]
        goal = w * self.targets[target]
        residual = goal - (q * (q @ goal)[..., None]).sum(1)
        residual = residual - (q * (q @ residual[:, :, None])).sum(1)
        s, k, _ = q.shape
        gains, pair_gains = [], None
        for on_target in (False, True) if self.goals[target].rational else (False,):
            row_weight = w * self.targets[target] if on_target else w
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
                pair_gains = torch.where(determinant > 1e-6 * aa * bb, gain, 0.0)
        if len(gains) == 2:
            # y·f = y for f near 1: as long as nothing stands above the line, a denominator explains nothing.
            above = (states.atoms.kind[..., 0] != NOTHING) & ~states.atoms.on_target & (states.atoms.length > 0)
            gains[1] = torch.where(above.any(1), gains[1], 0.0)
        # the single atoms, those times the target, the pairs
        n = len(self.value)
        gain = torch.cat(gains + ([pair_gains] if pair_gains is not None else []))
        gain[:n_paired] = 0.0
        n_single = sum(map(len, gains))
        left_over = (residual.square().sum(1) - gain).clamp_min(0.0)  # (f, s)
        left_over[:n][self.tunable] *= _TUNABLE_PENALTY
        left_over[n_single:] *= _TUNABLE_PENALTY
        best = left_over.flatten().topk(min(config.tried, left_over.numel()), largest=False).indices
        which, parent = best // s, best % s
        is_pair, below = which >= n_single, (which >= n) & (which < n_single)
        first = torch.where(is_pair, 2 * (which - n_single), which)
        first[below] = self.denominator[which[below] - n]
        added = self.atoms[first[:, None]]
        added.on_target[:] = below[:, None]
        second = self.atoms[torch.where(is_pair, first + 1, first)[:, None]]
        second.kind[~is_pair] = NOTHING
        second.tunable[~is_pair] = False
        atoms = Atoms.cat([states.atoms[parent], added, second], 1)
        return _unsolved(states.target[parent], atoms)

    def _tune(self, states: States) -> States:
        """Gauss-Newton in θ from each state, never to a worse one; the two of a pair keep one θ each."""
        movable = states.atoms.tunable.flatten(1).any(1)
        rows = (movable & (states.error > self.config.exact**2) & states.error.isfinite()).nonzero()[:, 0]
        if not len(rows):
            return states
        tuned = states[rows]
        for _ in range(self.config.tuning_steps):
            tuned = self._step(tuned)
        order = torch.arange(len(states.target))
        order[rows] = len(order) + torch.arange(len(rows))
        both = States(
            torch.cat([states.target, tuned.target]),
            Atoms.cat([states.atoms, tuned.atoms]),
            torch.cat([states.coefficient, tuned.coefficient]),
            torch.cat([states.error, tuned.error]),
        )
        return both[order]

    def _step(self, states: States) -> States:
        """One damped step; the best of it and its half and tenth, if that is better than none."""
        weight = self.weights[states.target]
        value, slope = self.basis.values_and_slopes(states.atoms)
        times = (
            torch.where(states.atoms.on_target[..., None], self.targets[states.target][:, None], 1.0) * weight[:, None]
        )
        columns = value * times
        slopes = (slope * (states.coefficient[..., None] * times)[:, :, None]).flatten(1, 2)
        residual = weight * self.targets[states.target] - (columns * states.coefficient[..., None]).sum(1)
        matrix = torch.cat([columns, slopes], 1)
        norms = torch.linalg.vector_norm(matrix, dim=2)
        matrix = matrix / torch.where(norms > 0, norms, 1.0)[..., None]
        n = matrix.shape[1]
        ridge = (1e-5 * torch.eye(n, dtype=torch.float64)).expand(len(matrix), n, n)
        augmented = torch.cat([matrix.mT, ridge], 1)
        right = torch.nn.functional.pad(residual, (0, n))
        q, r = torch.linalg.qr(augmented)
        step = torch.linalg.solve_triangular(r, q.mT @ right[..., None], upper=True)[..., 0]
        step = torch.where(norms > 0, step / torch.where(norms > 0, norms, 1.0), 0.0)
        k = columns.shape[1]
        move = step[:, k:].view(len(matrix), k, 2).nan_to_num(0.0)
        best = states
        for size in (1.0, 0.3):
            moved = Atoms(**{**vars(states.atoms), "theta": states.atoms.theta + size * move})
            new = self._solve(states.target, moved)
            better = (new.error < best.error) & self._sensible(moved)
            best = _choose(better, new, best)
        return best

    def _sensible(self, atoms: Atoms) -> Tensor:
        """Whether no θ is so small that the atom is nearly a monomial or a constant: sums of those fit anything, badly
        conditioned."""
        reach = atoms.theta.abs() * self.spread[atoms.phase]
        rate = (atoms.kind >= SIN) & (atoms.kind <= EXP)
        return ~(atoms.tunable & rate & (reach < _LEAST_REACH)).flatten(1).any(1)


def _choose(mask: Tensor, first: States, second: States) -> States:
    theta = torch.where(mask[:, None, None], first.atoms.theta, second.atoms.theta)
    return States(
        first.target,
        Atoms(**{**vars(first.atoms), "theta": theta}),
        torch.where(mask[:, None], first.coefficient, second.coefficient),
        torch.where(mask, first.error, second.error),
    )


def _orthonormal(columns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Orthonormal rows (s, k, p) that span the columns (s, k, p), the triangular factor, and the norms: columns = norms ·
    rᵀ q. What is 0 or depends on the columns before it has a row of zeros and a diagonal of 1."""
    norms = torch.linalg.vector_norm(columns, dim=2)
    norms = torch.where((norms > 0) & norms.isfinite(), norms, 1.0)
    unit = (columns / norms[..., None]).nan_to_num(0.0, 0.0, 0.0)
    q, r = torch.linalg.qr(unit.mT)
    if q.shape[2] < columns.shape[1]:
        raise ValueError("more atoms than points")
    dependent = torch.diagonal(r, dim1=1, dim2=2).abs() < 1e-12
    q = torch.where(dependent[:, None], 0.0, q).mT
    r = torch.where(dependent[:, :, None], torch.eye(r.shape[1], dtype=r.dtype), r)
    return q, r, norms


def _joined(parts: Sequence[Atoms]) -> Atoms:
    """Sums of different lengths one below the other."""
    width = max(part.kind.shape[1] for part in parts)
    wide = [Atoms.cat([part, _nothing(len(part.kind), width - part.kind.shape[1], part.power.shape[2])], 1) for part in parts]
    return Atoms.cat(wide)


def _unsolved(target: Tensor, atoms: Atoms) -> States:
    nothing = torch.zeros(atoms.kind.shape[:2], dtype=torch.float64)
    return States(target, atoms, nothing, nothing[:, 0])


def _close_up(atoms: Atoms) -> Atoms:
    """Places that are not taken last: a column of zeros has an arbitrary direction, which must not come before others."""
    empty = atoms.kind[..., 0] == NOTHING
    order = empty.to(torch.uint8).argsort(dim=1, stable=True)[:, : int((~empty).sum(1).max())]
    return atoms[torch.arange(len(order))[:, None], order]


def _nothing(s: int, k: int, v: int) -> Atoms:
    return Atoms(
        torch.zeros(s, k, v, dtype=torch.float64),
        torch.full((s, k, 2), NOTHING),
        torch.zeros(s, k, 2, dtype=torch.int64),
        torch.zeros(s, k, 2, dtype=torch.float64),
        torch.zeros(s, k, 2, dtype=torch.bool),
        torch.zeros(s, k, dtype=torch.bool),
        torch.zeros(s, k, dtype=torch.float64),
    )
