"""What is left out of a search for laws without some ingredients, and what is not."""

import torch

from emlinit.finetune.search.ingredients import holds
from emlinit.finetune.sparse.atoms import COS, EXP, INVERSE, LN, POWER, SIN
from emlinit.finetune.sparse.dictionary import make_dictionary
from emlinit.finetune.sparse.goals import goals_for
from emlinit.finetune.sparse.laws import SparseConfig, propose_sparse
from emlinit.finetune.sparse.restrictions import atoms_without, goals_without

X = 0.4 + 3.0 * torch.rand(80, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = 2.0 * X[:, 0] / (1.3 + X[:, 1])


def test_atoms_with_an_ingredient_are_left_out_and_pairs_stay_pairs() -> None:
    dictionary = make_dictionary(X)
    atoms = dictionary.atoms
    assert atoms_without(atoms, frozenset()).all()
    for without, kinds in {"wave": {SIN, COS}, "exp": {EXP}, "inverse": {INVERSE}}.items():
        rows = atoms_without(atoms, {without})
        left = set(atoms.kind[rows].unique().tolist())
        assert not left & kinds
        assert {SIN, COS, EXP, LN, POWER, INVERSE} - kinds <= left
    part = dictionary.part(atoms_without(atoms, {"wave"}))
    assert part.n_paired == 0
    assert dictionary.n_paired > 0


def test_roots_go_with_their_exponents_and_logarithms_with_powers() -> None:
    atoms = make_dictionary(X).atoms
    whole = atoms[atoms_without(atoms, {"root"})]
    assert (whole.power.remainder(1.0) == 0).all()
    powers = whole.theta[whole.kind == POWER]
    assert len(powers)
    assert (powers.remainder(1.0) == 0).all()
    assert bool((atoms[atoms_without(atoms, {"ln"})].kind == LN).any())  # ln y = a ln x is a power law
    assert not bool((atoms[atoms_without(atoms, {"ln", "root"})].kind == LN).any())
    assert (atoms[atoms_without(atoms, {"inverse"})].power >= 0).all()


def test_goals_whose_laws_have_an_ingredient_are_left_out() -> None:
    def names(*without: str) -> set[str]:
        return {goal.transform.name for goal in goals_without(goals_for(Y), set(without))}

    everything = names()
    assert {"y", "inverse", "ln", "square", "exp"} <= everything
    assert names("exp") == everything
    assert everything - names("exp", "root") == {"ln", "square", "inverse square"}
    assert everything - names("ln") <= {"exp", "sine"}
    assert everything - names("inverse") == {"inverse", "inverse square"}
    assert not any(goal.rational for goal in goals_without(goals_for(Y), {"inverse"}))


def test_proposals_have_nothing_that_is_not_asked_for() -> None:
    config = SparseConfig(without=frozenset({"wave", "exp", "root"}))
    proposed = list(propose_sparse(X, Y, config))
    assert proposed
    for programs in proposed:
        found = holds(programs)
        assert not any(bool(found[name].any()) for name in ("wave", "exp", "root"))
