"""Atoms and goals that are left out of a search for laws without some ingredients, such as waves or roots.

Only what could not be in an admitted law is left out: logarithms stay where powers are allowed, since ln y = a ln x is
one. The names of the ingredients are those of `search.ingredients`.
"""

from collections.abc import Sequence, Set

from jaxtyping import Bool
from torch import Tensor

from emlinit.finetune.sparse.atoms import COS, EXP, INVERSE, LN, POWER, SIN, Atoms
from emlinit.finetune.sparse.goals import Goal

_KINDS = {"wave": (SIN, COS), "exp": (EXP,), "inverse": (INVERSE,)}
_GOALS = {
    "exp": {"ln"},
    "ln": {"exp", "sine"},
    "inverse": {"inverse", "inverse square"},
    "root": {"square", "inverse square"},
}
"""Transforms whose inverse has an ingredient."""


def atoms_without(atoms: Atoms, without: Set[str]) -> Bool[Tensor, " n"]:
    """Which atoms, of batch shape (n,), have none of some ingredients."""
    kept = (atoms.kind == atoms.kind).all(1)
    for name in without & _KINDS.keys():
        for kind in _KINDS[name]:
            kept &= (atoms.kind != kind).all(1)
    if {"ln", "root"} <= without:
        kept &= (atoms.kind != LN).all(1)
    is_power = atoms.kind == POWER
    if "root" in without:
        broken = is_power & (atoms.tunable | (atoms.theta.remainder(1.0) != 0))
        kept &= ~broken.any(1) & (atoms.power.remainder(1.0) == 0).all(1)
    if "inverse" in without:
        kept &= ~(is_power & (atoms.theta < 0)).any(1) & (atoms.power >= 0).all(1)
    return kept


def goals_without(goals: Sequence[Goal], without: Set[str]) -> list[Goal]:
    """The goals whose laws may have none of some ingredients."""
    shut = set().union(*(_GOALS[name] for name in without & _GOALS.keys()))
    if "root" not in without:  # of powers, ln y is a sum of logarithms
        shut -= {"ln"}
    return [goal for goal in goals if goal.transform.name not in shut and not (goal.rational and "inverse" in without)]
