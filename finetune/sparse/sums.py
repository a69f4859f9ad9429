"""Sparse sums of atoms for goals t = g(y): solving for the coefficients, and tuning θ.

What a sum is to be is a `Goal`; its place among the goals is a `goal_number`; `t` are the values g(y) of all goals at the
points, and `wanted` is t times the weights.

Legend: g goal, p point, s sparse sum (state of a pursuit), k atom of a sum.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from emlinit.finetune.sparse.atoms import COS, EXP, NOTHING, SIN, UNITY, Atoms, Basis
from emlinit.finetune.sparse.goals import Goal
from emlinit.generator.records import Records

_LEAST_REACH = 0.1  # of θu, over the range of u
_COLLINEAR = 1e-9  # of columns of unit length: their Gram matrix is taken for no better conditioned than this
_RIDGE = 1e-5  # of a Gauss-Newton step, on columns of unit length
_STEP_SIZES = (1.0, 0.3)  # parts of a Gauss-Newton step that are tried: a whole one may overshoot
_DEPENDENT = (
    1e-12  # of a column of unit length: with less than this beside the columns before it, it counts as one of them
)


@dataclass(frozen=True, eq=False)
class SparseSums(Records):
    """Sparse sums: the states of a pursuit."""

    goal_number: Int64[Tensor, " s"]
    """Which goal each is for, by its number."""
    atoms: Atoms
    """What is summed, of batch shape (s, k); places not taken are `NOTHING`."""
    coefficient: Float64[Tensor, "s k"]
    """Factor of each atom in the sum."""
    error: Float64[Tensor, " s"]
    """Weighted squared error, relative to that of the best constant."""


class SumSolver:
    """Solves sparse sums for their goals."""

    def __init__(self, basis: Basis, goals: Sequence[Goal]) -> None:
        self.basis, self.goals = basis, goals
        self.t: Float64[Tensor, "g p"] = torch.stack([goal.value for goal in goals])
        self.weights = torch.stack([goal.weight for goal in goals])
        squares = self.weights.square()
        mean = (squares * self.t).sum(1, keepdim=True) / squares.sum(1, keepdim=True)
        self.scale = (self.weights * (self.t - mean)).square().sum(1)
        self.spread = basis.u.amax(1) - basis.u.amin(1)

    def start(self) -> SparseSums:
        """For each goal nothing, and a constant."""
        n = len(self.t)
        goal_number = torch.arange(n).repeat_interleave(2)
        atoms = nothing(2 * n, 1, len(self.basis.log_x))
        atoms.kind[1::2] = UNITY
        return self.solve(goal_number, atoms)

    def columns(self, goal_number: Int64[Tensor, " s"], atoms: Atoms) -> Float64[Tensor, "s k p"]:
        """Weighted values (s, k, p)."""
        return self._weighted(self.basis.values(atoms), goal_number, atoms)

    def _weighted(self, value: Tensor, goal_number: Tensor, atoms: Atoms) -> Tensor:
        value = torch.where(atoms.in_denominator[..., None], value * self.t[goal_number][:, None], value)
        return value * self.weights[goal_number][:, None]

    def solve(self, goal_number: Int64[Tensor, " s"], atoms: Atoms) -> SparseSums:
        """The sums with the best coefficients."""
        value = self.basis.values(atoms)
        q, r, norms = orthonormal(self._weighted(value, goal_number, atoms))
        wanted = self.weights[goal_number] * self.t[goal_number]
        inner = (q @ wanted[:, :, None])[..., 0]
        residual = wanted - (q * inner[..., None]).sum(1)
        inner = inner + (q @ residual[:, :, None])[..., 0]
        residual = wanted - (q * inner[..., None]).sum(1)
        coefficient = torch.linalg.solve_triangular(r, inner[..., None], upper=True)[..., 0] / norms
        below = atoms.in_denominator
        if bool(below.any()):
            # t = n + d t was solved for n and d; its error is that of n / (1 - d), or else d = 1 would be a solution.
            terms = value * coefficient[..., None]
            d = torch.where(below[..., None], terms, 0.0).sum(1)
            n = torch.where(below[..., None], 0.0, terms).sum(1) * self.weights[goal_number]
            residual = torch.where(below.any(1)[:, None], wanted - n / (1.0 - d), residual)
        error = residual.square().sum(1) / self.scale[goal_number]
        error = torch.where(coefficient.isfinite().all(1) & error.isfinite(), error, torch.inf)
        return SparseSums(goal_number, atoms, coefficient, error)

    def pruned(self, states: SparseSums, n: int, exact: float) -> SparseSums:
        """The first `n` states of each goal without their least important atom, without the two least important ones, and so
        on. A sum that holds all atoms of a noisy law, and some more, leads back to the law (Zhang 2011)."""
        rows = torch.cat([(states.goal_number == number).nonzero()[:n, 0] for number in range(len(self.goals))])
        states = states.rows(rows[states.error[rows] > exact**2])
        columns = self.columns(states.goal_number, states.atoms)
        norm = torch.linalg.vector_norm(columns, dim=2, keepdim=True).clamp_min(1e-300)
        columns = (columns / norm).nan_to_num(0.0, 0.0, 0.0)
        eye = torch.eye(columns.shape[1], dtype=torch.float64)
        gram = columns @ columns.mT + _COLLINEAR * eye
        inner = columns @ (self.weights * self.t)[states.goal_number][..., None]
        kept = states.atoms.kind[..., 0] != NOTHING
        goal_numbers, parts = [states.goal_number[:0]], [states.atoms[:0]]
        while bool((kept.sum(1) > 1).any()):
            inverse = torch.linalg.inv(torch.where(kept[:, :, None] & kept[:, None], gram, eye))
            coefficient = (inverse @ (inner * kept[..., None]))[..., 0]
            growth = coefficient.square() / torch.diagonal(inverse, dim1=1, dim2=2)  # of the squared error without it
            least = torch.where(kept, growth, torch.inf).argmin(1, keepdim=True)
            kept = kept.scatter(1, least, value=False)
            left = kept.any(1)
            goal_numbers.append(states.goal_number[left])
            parts.append(states.atoms.only(kept)[left])
        if len(parts) == 1:
            return states.rows(slice(0, 0))
        solved = self.solve(torch.cat(goal_numbers), close_up(Atoms.cat(parts)))
        return solved.rows(solved.error.isfinite())

    def tune(self, states: SparseSums, steps: int, exact: float) -> SparseSums:
        """Gauss-Newton in θ from each state, never to a worse one; sine and cosine of one angle keep the same θ."""
        movable = states.atoms.tunable.flatten(1).any(1)
        rows = (movable & (states.error > exact**2) & states.error.isfinite()).nonzero()[:, 0]
        if not len(rows):
            return states
        tuned = states.rows(rows)
        for _ in range(steps):
            tuned = self._step(tuned)
        order = torch.arange(len(states.goal_number))
        order[rows] = len(order) + torch.arange(len(rows))
        return SparseSums.cat([states, tuned]).rows(order)

    def _step(self, states: SparseSums) -> SparseSums:
        """One damped step, or a part of it, if that is better than none."""
        weight = self.weights[states.goal_number]
        value, slope = self.basis.values_and_slopes(states.atoms)
        times = (
            torch.where(states.atoms.in_denominator[..., None], self.t[states.goal_number][:, None], 1.0)
            * weight[:, None]
        )
        columns = value * times
        slopes = slope * (states.coefficient[..., None] * times)[:, :, None]
        leader = torch.minimum(partners(states.atoms), torch.arange(states.atoms.kind.shape[1]))
        first = leader[..., None].expand_as(value)
        slopes = torch.stack([torch.zeros_like(value).scatter_add_(1, first, slopes[:, :, 0]), slopes[:, :, 1]], 2)
        slopes = slopes.flatten(1, 2)
        residual = weight * self.t[states.goal_number] - (columns * states.coefficient[..., None]).sum(1)
        matrix = torch.cat([columns, slopes], 1)
        norms = torch.linalg.vector_norm(matrix, dim=2)
        matrix = matrix / torch.where(norms > 0, norms, 1.0)[..., None]
        n = matrix.shape[1]
        ridge = (_RIDGE * torch.eye(n, dtype=torch.float64)).expand(len(matrix), n, n)
        augmented = torch.cat([matrix.mT, ridge], 1)
        right = torch.nn.functional.pad(residual, (0, n))
        q, r = torch.linalg.qr(augmented)
        step = torch.linalg.solve_triangular(r, q.mT @ right[..., None], upper=True)[..., 0]
        step = torch.where(norms > 0, step / torch.where(norms > 0, norms, 1.0), 0.0)
        k = columns.shape[1]
        move = step[:, k:].view(len(matrix), k, 2).nan_to_num(0.0)
        move = torch.stack([move[..., 0].gather(1, leader), move[..., 1]], 2)
        best = states
        for size in _STEP_SIZES:
            moved = replace(states.atoms, theta=states.atoms.theta + size * move)
            new = self.solve(states.goal_number, moved)
            better = (new.error < best.error) & self._sensible(moved)
            best = new.where(better, best)
        return best

    def _sensible(self, atoms: Atoms) -> Bool[Tensor, " s"]:
        """Whether no θ is so small that the atom is nearly a monomial or a constant: sums of those fit anything, badly
        conditioned."""
        reach = atoms.theta.abs() * self.spread[atoms.phase]
        rate = (atoms.kind >= SIN) & (atoms.kind <= EXP)
        return ~(atoms.tunable & rate & (reach < _LEAST_REACH)).flatten(1).any(1)


def partners(atoms: Atoms) -> Int64[Tensor, "s k"]:
    """For a sine the place of the cosine of the same angle, times the same monomial, and the other way round; for all other
    atoms their own place."""
    kind, phase, theta = atoms.kind[..., 0], atoms.phase[..., 0], atoms.theta[..., 0]
    single = atoms.tunable[..., 0] & (atoms.kind[..., 1] == UNITY) & ~atoms.in_denominator
    sine, cosine = single & (kind == SIN), single & (kind == COS)
    other = (sine[:, :, None] & cosine[:, None]) | (cosine[:, :, None] & sine[:, None])
    other &= (phase[:, :, None] == phase[:, None]) & (theta[:, :, None] == theta[:, None])
    other &= (atoms.power[:, :, None] == atoms.power[:, None]).all(3)
    return torch.where(other.any(2), other.long().argmax(2), torch.arange(kind.shape[1]))


def priced_error(states: SparseSums, n_points: int) -> Float64[Tensor, " s"]:
    """Errors of sums made comparable: e^(2 price / n) times larger, where a factor and a θ that was tuned cost ½ ln n nats
    each, as in the Bayesian information criterion (Schwarz 1978), and each unit of an atom's length one nat, as there are
    more long atoms to choose from. Under noise t + cos ωt has more error than θ' sin(t/θ') + cos ωt, which can bend."""
    kind = states.atoms.kind
    once = (kind[..., 0] != NOTHING) & (partners(states.atoms) >= torch.arange(kind.shape[1]))
    tuned = (states.atoms.tunable & (kind > UNITY)).sum(2)
    price = torch.where(once, 0.5 * math.log(n_points) * tuned + states.atoms.length, 0.0).sum(1)
    price += 0.5 * math.log(n_points) * (kind[..., 0] != NOTHING).sum(1)
    return states.error * torch.exp(2 * price / n_points)


def orthonormal(
    columns: Float64[Tensor, "s k p"],
) -> tuple[Float64[Tensor, "s k p"], Float64[Tensor, "s k k"], Float64[Tensor, "s k"]]:
    """Orthonormal rows (s, k, p) that span the columns (s, k, p), the triangular factor, and the norms: columns = norms ·
    rᵀ q. What is 0 or depends on the columns before it has a row of zeros and a diagonal of 1.

    Raises:
        ValueError: more columns than points.
    """
    norms = torch.linalg.vector_norm(columns, dim=2)
    norms = torch.where((norms > 0) & norms.isfinite(), norms, 1.0)
    unit = (columns / norms[..., None]).nan_to_num(0.0, 0.0, 0.0)
    q, r = torch.linalg.qr(unit.mT)
    if q.shape[2] < columns.shape[1]:
        raise ValueError("more atoms than points")
    dependent = torch.diagonal(r, dim1=1, dim2=2).abs() < _DEPENDENT
    q = torch.where(dependent[:, None], 0.0, q).mT
    r = torch.where(dependent[:, :, None], torch.eye(r.shape[1], dtype=r.dtype), r)
    return q, r, norms


def joined(parts: Sequence[Atoms]) -> Atoms:
    """SumSolver of different lengths one below the other."""
    width = max(part.kind.shape[1] for part in parts)
    empty = [nothing(len(part.kind), width - part.kind.shape[1], part.power.shape[2]) for part in parts]
    return Atoms.cat([Atoms.side_by_side(pair) for pair in zip(parts, empty, strict=True)])


def close_up(atoms: Atoms) -> Atoms:
    """Places that are not taken last: a column of zeros has an arbitrary direction, which must not come before others."""
    empty = atoms.kind[..., 0] == NOTHING
    order = empty.to(torch.uint8).argsort(dim=1, stable=True)[:, : int((~empty).sum(1).max())]
    return atoms[torch.arange(len(order))[:, None], order]


def nothing(s: int, k: int, v: int) -> Atoms:
    """SumSolver of k places that are not taken."""
    return Atoms(
        torch.zeros(s, k, v, dtype=torch.float64),
        torch.full((s, k, 2), NOTHING),
        torch.zeros(s, k, 2, dtype=torch.int64),
        torch.zeros(s, k, 2, dtype=torch.float64),
        torch.zeros(s, k, 2, dtype=torch.bool),
        torch.zeros(s, k, dtype=torch.bool),
        torch.zeros(s, k, dtype=torch.float64),
    )
