"""Exponents of the monomials that a dictionary of atoms is made of, by the number of variables: small ones.

Legend: m monomial, v input variable, f phase.
"""

import torch
from jaxtyping import Float64
from torch import Tensor

from emlinit.finetune.sparse.atoms import Phases

Powers = Float64[Tensor, "m v"]
"""Exponents of monomials."""

_MOST_WHOLE = (8, 8, 6, 4, 3)  # by the number of variables
_LEAST_OF_ONE = -12  # of a single variable, as in the potential of Lennard-Jones
_MOST_HALVES = (3, 3, 2, 1, 1)


def monomials(n_variables: int) -> Powers:
    """Products of whole powers, and of half ones if they are small; 1 among them."""
    most = _MOST_WHOLE[n_variables - 1]
    whole = _within(n_variables, torch.arange(-most, most + 1), most)
    if n_variables == 1:
        whole = torch.cat([whole, torch.arange(-most - 1, _LEAST_OF_ONE - 1, -1, dtype=torch.float64)[:, None]])
    most = _MOST_HALVES[n_variables - 1]
    halves = _within(n_variables, torch.arange(-2 * most, 2 * most + 1) / 2, most)
    return torch.cat([whole, halves[(halves.remainder(1.0) != 0).any(1)]])


def arguments(n_variables: int) -> Powers:
    """What functions are taken of: a variable, its square, its reciprocal, products and quotients of two, and of three."""
    some = _within(n_variables, torch.arange(-1, 2), 3 if n_variables <= 3 else 2)
    some = some[(some > 0).any(1)]
    if n_variables > 1:
        some = some[(some.abs().sum(1) < 3) | (some.sum(1) >= 1)]
    return torch.cat([some, 2.0 * unit_powers(n_variables), -unit_powers(n_variables)])


def multipliers(n_variables: int) -> Powers:
    """What a function of a phase is multiplied by."""
    unit = unit_powers(n_variables)
    parts = [_within(n_variables, torch.arange(2), 2 if n_variables <= 3 else 1), -unit]
    if n_variables <= 2:
        parts.append(2.0 * unit)
    if n_variables <= 3:  # sqrt(x1 x2), as in an interference of two waves
        parts.append(_within(n_variables, torch.arange(2) / 2, 1)[1:])
    return torch.cat(parts)


def inverse_squares(n_variables: int) -> Powers:
    """x^-2 of each variable, if there are few."""
    return -2.0 * unit_powers(n_variables)[: n_variables if n_variables <= 3 else 0]


def unit_powers(n_variables: int) -> Powers:
    """The variables themselves."""
    return torch.eye(n_variables, dtype=torch.float64)


def phases_for(single: Powers) -> Phases:
    """Monomials, then sums: of two variables, their difference, and of a variable and its square."""
    n = single.shape[1]
    unit = unit_powers(n)
    first, second = torch.triu_indices(n, n, 1)
    of_two = torch.stack([unit[first], unit[second]], 1).repeat_interleave(2, 0)
    sums = torch.cat([of_two, torch.stack([unit, 2.0 * unit], 1)])
    power = torch.cat([torch.stack([single, torch.zeros_like(single)], 1), sums])
    factor = torch.ones(len(power), 2, dtype=torch.float64)
    factor[: len(single), 1] = 0.0
    factor[len(single) : len(single) + len(of_two)][1::2, 1] = -1.0
    return Phases(power, factor)


def _within(n_variables: int, values: Tensor, largest: int) -> Powers:
    """Exponents with a sum of moduli up to `largest`, small ones first."""
    powers = torch.cartesian_prod(*[values.double()] * n_variables).view(-1, n_variables)
    total = powers.abs().sum(1)
    return powers[total.argsort(stable=True)[: int((total <= largest).sum())]]
