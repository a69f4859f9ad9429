"""Which atoms a sparse sum is extended by: those that would lower its squared error most.

With Q an orthonormal basis of the columns of a state and r its residual, an atom f lowers the squared error by

    (r·f)² / (|f|² - |Qᵀf|²)                        (Chen, Cowan & Grant 1991; Pati et al. 1993)

and a pair of atoms by the same for the plane that they span. `wanted` is t times the weights.

Legend: p point, s state, k atom of a state, f atom of the dictionary.
"""

import torch
from torch import Tensor

from emlinit.finetune.sparse.atoms import NOTHING, UNITY, Atoms
from emlinit.finetune.sparse.dictionary import Dictionary
from emlinit.finetune.sparse.sums import SparseSums, SumSolver, orthonormal

_COLLINEAR = 1e-9  # of |f|²: what is nearer than this to the span of a state's atoms adds nothing
_FLAT_PAIR = 1e-6  # squared sine of the angle between what is new of a sine and of its cosine: below it they are as one
_FLAT_ATOMS = 1e-7  # the same of any two atoms, of which the second then adds nothing
_PAIRS_RANKED = 50_000  # of all pairs, those from which the best of any two families are taken
_FAVOUR = 1e9  # by which the simplest atoms come before all others


class Extensions:
    """The atoms of a dictionary, and what each would add to a sparse sum."""

    def __init__(self, dictionary: Dictionary, solver: SumSolver) -> None:
        self.atoms, self.value, self.n_paired = dictionary.atoms, dictionary.value, dictionary.n_paired
        self.square = self.value.square()
        self.denominator = dictionary.for_denominator
        self.denominator_value, self.denominator_square = self.value[self.denominator], self.square[self.denominator]
        self.cross = self.value[0 : self.n_paired : 2] * self.value[1 : self.n_paired : 2]
        self.tunable = self.atoms.tunable.any(1)
        atoms = self.atoms
        function = torch.cat([atoms.power, atoms.kind.double(), atoms.phase.double()], 1)
        self.family = torch.unique(function, dim=0, return_inverse=True)[1]  # all but θ
        self.solver, self.goals = solver, solver.goals
        self.t, self.weights = solver.t, solver.weights

    def by_one(self, goal_number: int, states: SparseSums, n_tried: int) -> Atoms:
        """The most promising extensions of one goal's states by an atom or a pair, not yet solved.

        Fixed atoms (`n_tried` of them, of all states together), tunable ones and pairs (half as many each) have places of
        their own, and of one function only the best θ counts: neighbouring ones would take all places. Half of the fixed
        atoms are those that are best for their length: under noise dozens of long ones do as well as a line.
        """
        n, n_paired = len(self.value), self.n_paired
        singles, pairs, squares = self._gains(goal_number, states)
        n_single, s = len(singles), len(states.goal_number)
        left_over = (squares - torch.cat([singles, pairs])).clamp_min(0.0)  # (f, s)
        left_over[:n_paired] = torch.inf  # those of a pair are not taken alone
        left_over[:n] = _best_of_each(left_over[:n], self.family, self.tunable)
        left_over[n_single:] = _best_of_each(
            left_over[n_single:], self.family[0:n_paired:2], self.tunable[0:n_paired:2]
        )
        number = torch.arange(len(left_over))
        is_tunable = torch.nn.functional.pad(self.tunable, (0, len(left_over) - n))
        chosen: list[Tensor] = []
        sorts = (
            (~is_tunable & (number < n_single), n_tried),
            (is_tunable, n_tried // 2),
            (number >= n_single, n_tried // 2),
        )
        for sort, places in sorts:
            rows = sort.nonzero()[:, 0]
            own = left_over[rows].flatten()
            order = own.argsort(stable=True)
            if not chosen:
                length = torch.cat([self.atoms.length, self.atoms.length[self.denominator]])[rows].repeat_interleave(s)
                by_price = (own * torch.exp(2 * length / self.value.shape[1])).argsort(stable=True)
                first = torch.full_like(order, len(order))
                first[by_price] = torch.arange(len(order))
                first[order[: (places + 1) // 2]] = -1
                order = first.argsort(stable=True)
            best = order[:places]
            best = best[own[best].isfinite()]
            chosen.append(rows[best // s] * s + best % s)
        which, parent = torch.cat(chosen) // s, torch.cat(chosen) % s
        is_pair, below = which >= n_single, (which >= n) & (which < n_single)
        first = torch.where(is_pair, 2 * (which - n_single), which)
        first[below] = self.denominator[which[below] - n]
        added = self.atoms[first[:, None]]
        added.in_denominator[:] = below[:, None]
        second = self.atoms[torch.where(is_pair, first + 1, first)[:, None]]
        second.kind[~is_pair] = NOTHING
        second.tunable[~is_pair] = False
        return Atoms.side_by_side([states.atoms[parent], added, second])

    def by_two(self, goal_number: int, states: SparseSums, n_atoms: int, n_tried: int) -> Atoms:
        """The most promising extensions of one goal's states by two atoms at once: of two that only together explain
        anything, neither would be chosen alone.

        Args:
            goal_number: which goal.
            states: each is extended.
            n_atoms: so many of the simplest monomials and of the simplest others (half as many of those in a denominator),
                and of the best alone: all pairs of them are compared.
            n_tried: pairs of each state that are returned.
        """
        w = self.weights[goal_number]
        wanted = w * self.t[goal_number]
        single = torch.arange(self.n_paired, len(self.value))
        value = self.value[single] * w
        atoms = self.atoms[single]
        if self.goals[goal_number].rational:
            below = self.atoms[self.denominator]
            below.in_denominator[:] = True
            value = torch.cat([value, self.denominator_value * wanted])
            atoms = Atoms.cat([atoms, below])
        is_below, is_monomial = atoms.in_denominator, (atoms.kind == UNITY).all(1)
        simplest = torch.zeros_like(is_below)  # of every sort; they are always among those tried
        for sort in (
            is_monomial & ~is_below,
            is_monomial & is_below,
            ~is_monomial & ~is_below,
            ~is_monomial & is_below,
        ):
            simplest[sort.nonzero()[: n_atoms // (1 + int(bool(is_below[sort].any()))), 0]] = True
        n_alone = n_atoms + int(simplest.sum())
        parts = []
        for row in range(len(states.goal_number)):
            state = states.rows(slice(row, row + 1))
            unit, along = self._beside(state, wanted, value)
            best = torch.where(simplest, _FAVOUR, 1.0).mul(along.abs()).topk(min(n_alone, len(along))).indices
            best = best[along[best] != 0]
            gain = _gain_of_pairs(unit[best], along[best])
            # y·f + y·g = y for many f and g, which says nothing about y.
            gain[is_below[best][:, None] & is_below[best]] = 0.0
            pairs = gain.flatten().topk(min(n_tried, gain.numel())).indices
            first, second = best[pairs // len(best)], best[pairs % len(best)]
            parent = state.atoms[torch.zeros_like(first)]
            parts.append(Atoms.side_by_side([parent, atoms[first[:, None]], atoms[second[:, None]]]))
        return Atoms.cat(parts)

    def by_two_functions(self, goal_number: int, states: SparseSums, n_atoms: int, n_tried: int) -> Atoms:
        """The most promising extensions of one goal's states by two functions, of every two families those θ on the
        grid that explain most together: alone, the sum of two decays looks like one of another rate.

        Args:
            goal_number: which goal.
            states: each is extended.
            n_atoms: so many of the simplest tunable atoms, and a quarter as many of the simplest fixed ones, are paired.
            n_tried: pairs of each state that are returned.
        """
        n_paired = self.n_paired
        single = torch.arange(n_paired, len(self.value))
        tunable, fixed = single[self.tunable[single]], single[~self.tunable[single]]
        chosen = torch.cat([tunable[:n_atoms], fixed[: n_atoms // 4]])
        fixed_pair = ~(self.tunable[chosen][:, None] | self.tunable[chosen])
        family = self.family[chosen]
        first_family, second_family = torch.minimum(family[:, None], family), torch.maximum(family[:, None], family)
        family_of_pair = (first_family * len(self.value) + second_family).flatten()
        w = self.weights[goal_number]
        wanted, value = w * self.t[goal_number], self.value[chosen] * w
        parts = []
        for row in range(len(states.goal_number)):
            state = states.rows(slice(row, row + 1))
            gain = _gain_of_pairs(*self._beside(state, wanted, value))
            gain[fixed_pair] = 0.0
            best = gain.flatten().topk(min(_PAIRS_RANKED, gain.numel())).indices
            best = best[gain.flatten()[best] > 0]
            families, place = torch.unique(family_of_pair[best], return_inverse=True)
            first_place = torch.full_like(families, len(best)).scatter_reduce_(
                0, place, torch.arange(len(best)), "amin"
            )
            best = best[first_place.sort().values[:n_tried]]
            first, second = chosen[best // len(chosen)], chosen[best % len(chosen)]
            parent = state.atoms[torch.zeros_like(first)]
            parts.append(Atoms.side_by_side([parent, self.atoms[first[:, None]], self.atoms[second[:, None]]]))
        return Atoms.cat(parts)

    def _gains(self, goal_number: int, states: SparseSums) -> tuple[Tensor, Tensor, Tensor]:
        """How much each atom, and after them each atom times t, would lower the squared error of each state; the
        same of the pairs; and the squared errors."""
        n_paired = self.n_paired
        q, _, _ = orthonormal(self.solver.columns(states.goal_number, states.atoms))
        w = self.weights[goal_number]
        wanted = w * self.t[goal_number]
        residual = wanted - (q * (q @ wanted)[..., None]).sum(1)
        residual = residual - (q * (q @ residual[:, :, None])).sum(1)
        s, k, _ = q.shape
        gains, pairs = [], self.value.new_zeros(0, s)
        for in_denominator in (False, True) if self.goals[goal_number].rational else (False,):
            row_weight = wanted if in_denominator else w
            value = self.denominator_value if in_denominator else self.value
            square = self.denominator_square if in_denominator else self.square
            right = (row_weight * torch.cat([residual[:, None], q], 1)).flatten(0, 1)
            product = (value @ right.T).view(-1, s, k + 1)
            along, inside = product[..., 0], product[..., 1:]
            norm = square @ row_weight.square()
            left = norm[:, None] - inside.square().sum(-1)
            free = left > _COLLINEAR * norm[:, None]
            gains.append(torch.where(free, along.square() / left, 0.0))
            if not in_denominator and n_paired:
                # both of a pair: a 2 x 2 system
                a, b = along[0:n_paired:2], along[1:n_paired:2]
                aa, bb = left[0:n_paired:2], left[1:n_paired:2]
                ab = (self.cross @ row_weight.square())[:, None] - (inside[0:n_paired:2] * inside[1:n_paired:2]).sum(-1)
                determinant = aa * bb - ab.square()
                gain = (a.square() * bb - 2 * a * b * ab + b.square() * aa) / determinant
                pairs = torch.where(determinant > _FLAT_PAIR * aa * bb, gain, 0.0)
        if len(gains) == 2:
            # y·f = y for f near 1: as long as nothing stands above the line, a denominator explains nothing.
            above = (states.atoms.kind[..., 0] != NOTHING) & ~states.atoms.in_denominator & (states.atoms.length > 0)
            gains[1] = torch.where(above.any(1), gains[1], 0.0)
        return torch.cat(gains), pairs, residual.square().sum(1)

    def _beside(self, state: SparseSums, wanted: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """The parts of (weighted) atoms that a state's own do not span, as unit vectors, and how much of its residual lies
        along each; both 0 where nothing is left."""
        q = orthonormal(self.solver.columns(state.goal_number, state.atoms))[0][0]
        residual = wanted - q.T @ (q @ wanted)
        rest = value - (value @ q.T) @ q
        size = torch.linalg.vector_norm(rest, dim=1)
        free = size > _COLLINEAR**0.5 * torch.linalg.vector_norm(value, dim=1)
        unit = torch.where(free[:, None], rest / torch.where(free, size, 1.0)[:, None], 0.0)
        return unit, unit @ residual


def _gain_of_pairs(unit: Tensor, along: Tensor) -> Tensor:
    """By how much two unit vectors together lower the squared error, (n, n), above the diagonal."""
    gram = unit @ unit.T
    gain = along.square()[:, None] + along.square() - 2 * along[:, None] * along * gram
    return torch.where(1 - gram.square() > _FLAT_ATOMS, gain / (1 - gram.square()), 0.0).triu(1)


def _best_of_each(left_over: Tensor, family: Tensor, tunable: Tensor) -> Tensor:
    """The same, but infinite for tunable atoms beside which there is a better one of their family."""
    if not len(family):
        return left_over
    least = left_over.new_full((int(family.max()) + 1, left_over.shape[1]), torch.inf)
    least.scatter_reduce_(0, family[:, None].expand_as(left_over), left_over, "amin")
    return torch.where(tunable[:, None] & (left_over > least[family]), torch.inf, left_over)
