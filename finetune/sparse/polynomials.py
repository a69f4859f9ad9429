"""Polynomials and their quotients, found by linear algebra and not by search: p - t q = 0 is linear in both.

Legend: p point, k term.
"""

from dataclasses import replace

import torch

from emlinit.finetune.sparse.atoms import UNITY, Atoms, Basis
from emlinit.finetune.sparse.goals import Goal
from emlinit.finetune.sparse.sums import orthonormal

_POINTS_PER_TERM = 2  # at least so many for each term to begin with
_DEGREES = ((1, 1), (2, 1), (1, 2), (2, 2), (3, 1), (3, 2), (2, 3), (3, 3))  # of p and q
_NOISY_DEGREES, _PURE_DEGREE = (2, 3, 4, 5), 6
_VANISHES = 1e-11  # a singular value, relative to the largest
_LEAST_SHARE = 1e-6  # of a term in the combination that vanishes, relative to the largest: below it, it is rounding
_LEFT_OUT = 4  # of many terms a quarter are left out at once
_MANY_TERMS = 24  # up to so many, one is left out at a time


def polynomial_terms(atoms: Atoms) -> Atoms:
    """Those of some atoms, of batch shape (n,), that are monomials of whole exponents >= 0."""
    is_term = (atoms.kind == UNITY).all(1) & (atoms.power >= 0).all(1) & (atoms.power.remainder(1.0) == 0).all(1)
    return atoms[is_term]


def eliminate(polynomial: Atoms, basis: Basis, goal: Goal, terms: int) -> list[Atoms]:
    """Sums of monomials found from the other end: all terms at first, the least significant ones left out step by step. It
    finds sums in which no term stands out.

    Args:
        polynomial: monomials of whole exponents >= 0, shortest first; of batch shape (k,).
        basis: the data.
        goal: what the sums are to be.
        terms: most terms of a sum that is returned.

    Returns:
        One sum of each length, of batch shape (k,).
    """
    w, t = goal.weight, goal.value
    kept = polynomial[: len(t) // _POINTS_PER_TERM]
    found = []
    while len(kept.kind) > 1:
        columns = basis.values(kept) * w
        q, r, _ = orthonormal(columns[None])
        inverse = torch.linalg.solve_triangular(r[0], torch.eye(len(columns), dtype=torch.float64), upper=True)
        coefficient = torch.linalg.solve_triangular(r[0], (q[0] @ (w * t))[:, None], upper=True)[:, 0]
        significance = (coefficient / torch.linalg.vector_norm(inverse, dim=1)).abs()
        n_left = len(columns) - (len(columns) // _LEFT_OUT if len(columns) > _MANY_TERMS else 1)
        kept = kept[significance.topk(n_left).indices.sort().values]
        if n_left <= terms:
            found.append(kept)
    return found


def polynomials_of_few_terms(polynomial: Atoms, basis: Basis, goal: Goal, terms: int) -> list[Atoms]:
    """Sums of monomials that `eliminate` finds if it starts from polynomials of a low degree, and from those without mixed
    terms: of noisy data each further term makes it less sure which ones to leave out.

    Args and returns as for `eliminate`.
    """
    degree, is_pure = polynomial.power.sum(1), (polynomial.power != 0).sum(1) <= 1
    starts = [degree <= most for most in _NOISY_DEGREES] + [is_pure & (degree <= _PURE_DEGREE)]
    return [atoms for start in starts for atoms in eliminate(polynomial[start], basis, goal, terms)]


def quotients(polynomial: Atoms, basis: Basis, goal: Goal, terms: int) -> list[Atoms]:
    """The exact quotient of polynomials, if the goal is one: with the degrees that just suffice only one combination of the
    columns of p and t q vanishes.

    Args:
        polynomial: monomials of whole exponents >= 0; of batch shape (k,).
        basis: the data.
        goal: what the quotient is to be.
        terms: most terms, one of the denominator not counted.

    Returns:
        At most one sum, divided by the term of the denominator that leaves the shortest atoms; of batch shape (k,).
    """
    t, values = goal.value, basis.values(polynomial) * goal.weight
    degree = polynomial.power.sum(1)
    for above, below in _DEGREES:
        p, q = (degree <= above).nonzero()[:, 0], (degree <= below).nonzero()[:, 0]
        if _POINTS_PER_TERM * (len(p) + len(q)) > len(t):
            continue
        columns = torch.cat([values[p], values[q] * t])
        norms = torch.linalg.vector_norm(columns, dim=1)
        columns = columns / torch.where(norms > 0, norms, 1.0)[:, None]
        _, size, rows = torch.linalg.svd(columns.mT, full_matrices=False)
        if not bool(size[-1] < _VANISHES * size[0]):
            continue
        share = rows[-1].abs()
        taken = share > _LEAST_SHARE * share.max()
        p, q = p[taken[: len(p)]], q[taken[len(p) :]]
        if not len(p) or not len(q) or len(p) + len(q) > terms + 1:
            continue
        found = []
        for leading in range(len(q)):
            others = torch.cat([q[:leading], q[leading + 1 :]])
            atoms = polynomial[torch.cat([p, others])]
            power = atoms.power - polynomial.power[q[leading]]
            in_denominator = torch.arange(len(power)) >= len(p)
            length = power.abs().sum(1)
            found.append(replace(atoms, power=power, in_denominator=in_denominator, length=length))
        return [min(found, key=lambda atoms: float(atoms.length.sum()))]
    return []
