"""The pursuit with one state and no tuning against scikit-learn's orthogonal matching pursuit: the same atoms in the same
order, and the same coefficients.

Both take the atom that explains most of the residual, but the pursuit counts only the part of an atom that the atoms taken
before do not span (which lowers the error most), and scikit-learn the whole atom. On atoms that are orthogonal these are
one rule. On others scikit-learn is asked for one atom at a time, on what the atoms taken before leave of the dictionary.
"""

import numpy as np
import pytest
import torch
from sklearn.linear_model import orthogonal_mp
from torch import Tensor

from emlinit.finetune.sparse.atoms import COS, UNITY, Atoms, Basis, Phases
from emlinit.finetune.sparse.dictionary import Dictionary, make_dictionary
from emlinit.finetune.sparse.goals import IDENTITY, Goal
from emlinit.finetune.sparse.pursuit import PursuitConfig, pursue

GREEDY = PursuitConfig(terms=5, beam=1, paired_states=0, tuning_steps=0)


def rounds(dictionary: Dictionary, y: Tensor, weight: Tensor) -> list[tuple[list[int], np.ndarray]]:
    """Of each round the rows of the atoms taken, in order, and the coefficients, those of the constant first."""
    found = []
    for states in pursue(dictionary, [Goal(IDENTITY, y, weight, deep=True)], GREEDY):
        (atoms,), (coefficient,) = states.atoms, states.coefficient.numpy()
        assert bool((atoms.kind[0] == UNITY).all() & (atoms.power[0] == 0).all())  # the constant
        same = torch.ones(len(atoms.kind), len(dictionary.value), dtype=torch.bool)
        for name in ("power", "kind", "phase", "theta"):
            same &= (getattr(atoms, name)[:, None] == getattr(dictionary.atoms, name)).all(2)
        assert bool((same[1:].sum(1) == 1).all())
        found.append((same[1:].long().argmax(1).tolist(), coefficient))
    return found


def cosines(n_points: int, n_atoms: int) -> Dictionary:
    """cos kx at points where these, and a constant, are orthogonal."""
    x = torch.pi * (torch.arange(n_points, dtype=torch.float64) + 0.5) / n_points
    factor = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    basis = Basis(x[:, None], Phases(torch.tensor([[[1.0], [0.0]]], dtype=torch.float64), factor))
    number = torch.arange(1, n_atoms + 1, dtype=torch.float64)
    none = torch.zeros(n_atoms, 2, dtype=torch.int64)
    atoms = Atoms(
        torch.zeros(n_atoms, 1, dtype=torch.float64),
        torch.tensor([COS, UNITY]).expand(n_atoms, 2).clone(),
        none,
        torch.stack([number, torch.zeros_like(number)], 1),
        none.bool(),
        none[:, 0].bool(),
        number,
    )
    no_few = torch.zeros(basis.log_x.shape[0], dtype=torch.bool)
    return Dictionary(basis, atoms, basis.values(atoms), none[:0, 0], 0, no_few)


@pytest.mark.parametrize("seed", range(5))
def test_on_orthogonal_atoms_it_is_orthogonal_matching_pursuit(seed: int) -> None:
    rng = np.random.default_rng(seed)
    dictionary = cosines(60, 40)
    value = dictionary.value.numpy().T  # (p, n)
    y = value @ rng.standard_normal(40) + 0.7 + 0.1 * rng.standard_normal(60)
    found = rounds(dictionary, torch.from_numpy(y), torch.ones(60, dtype=torch.float64))
    assert len(found) == GREEDY.terms
    norms = np.linalg.norm(value, axis=0)
    for k, (rows, coefficient) in enumerate(found, 1):
        expected = orthogonal_mp(value / norms, y - y.mean(), n_nonzero_coefs=k) / norms
        assert set(rows) == set(np.flatnonzero(expected))
        np.testing.assert_allclose(coefficient, [y.mean(), *expected[rows]], rtol=1e-9, atol=1e-12)
        assert rows[:-1] == (found[k - 2][0] if k > 1 else [])


@pytest.mark.parametrize("seed", range(8))
def test_every_atom_taken_is_the_one_that_matches_best_beside_those_before(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(rng.uniform(0.5, 3.5, (90, 2)))
    whole = make_dictionary(x)
    atoms = whole.atoms
    dictionary = whole.part((atoms.length <= 4.0) & (atoms.length > 0) & ~atoms.tunable.any(1))
    assert 100 < len(dictionary.value) < 3000
    value = dictionary.value.numpy().T
    weight = rng.uniform(0.5, 1.5, 90)
    some = rng.choice(value.shape[1], 4, replace=False)
    y = (value[:, some] / value[:, some].std(0)) @ rng.uniform(1.0, 2.0, 4) + 0.05 * rng.standard_normal(90)
    columns, goal = value * weight[:, None], y * weight
    found = rounds(dictionary, torch.from_numpy(y), torch.from_numpy(weight))
    assert len(found) == GREEDY.terms
    for k, (rows, coefficient) in enumerate(found):
        assert rows[:-1] == (found[k - 1][0] if k else [])
        taken = np.column_stack([weight, columns[:, rows[:-1]]])
        q = np.linalg.qr(taken)[0]
        rest = columns - q @ (q.T @ columns)
        free = np.flatnonzero(np.linalg.norm(rest, axis=0) > 1e-4 * np.linalg.norm(columns, axis=0))
        unit = rest[:, free] / np.linalg.norm(rest[:, free], axis=0)
        best = orthogonal_mp(unit, goal - q @ (q.T @ goal), n_nonzero_coefs=1)
        assert rows[-1] == free[np.flatnonzero(best)[0]]
        final = np.column_stack([weight, columns[:, rows]])
        norms = np.linalg.norm(final, axis=0)
        expected = orthogonal_mp(final / norms, goal, n_nonzero_coefs=len(norms)) / norms
        np.testing.assert_allclose(coefficient, expected, rtol=1e-6)
