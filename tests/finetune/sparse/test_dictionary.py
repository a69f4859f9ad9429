"""The dictionary: what it holds for which data, in which order, and that parts of it are dictionaries."""

import pytest
import torch
from torch import Tensor

from emlinit.finetune.sparse.atoms import COS, LN, POWER, SIN
from emlinit.finetune.sparse.dictionary import Dictionary, Grids, make_dictionary


def _points(n_variables: int, low: float = 0.3, n: int = 30) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return low + 2.5 * torch.rand(n, n_variables, generator=generator, dtype=torch.float64)


def _odd_data() -> dict[str, Tensor]:
    """Data that some atoms are not defined for."""
    data = {f"{n} variables": _points(n) for n in range(1, 6)}
    data |= {"mixed signs": _points(3, -1.2), "negative": -_points(2), "one row": _points(2, n=1)}
    for name, value in (("a zero", torch.tensor([0.0] + [1.7] * 29)), ("a constant", torch.full((30,), 2.0))):
        data[name] = torch.stack([_points(1)[:, 0], value.double()], 1)
    data["all zero"] = torch.zeros(10, 1, dtype=torch.float64)
    data["large"], data["small"] = 1e9 * _points(2), 1e-9 * _points(2)
    data["whole"] = _points(2).mul(4.0).round()
    return data


def _check_pairs(dictionary: Dictionary) -> None:
    atoms, n = dictionary.atoms, dictionary.n_paired
    assert n % 2 == 0
    assert bool((atoms.kind[0:n:2, 0] == SIN).all() and (atoms.kind[1:n:2, 0] == COS).all())
    for name in ("power", "phase", "theta"):
        assert torch.equal(vars(atoms)[name][0:n:2], vars(atoms)[name][1:n:2])


@pytest.mark.parametrize("name", list(_odd_data()))
def test_all_atoms_are_finite_and_as_said(name: str) -> None:
    x = _odd_data()[name]
    dictionary = make_dictionary(x)
    value, atoms = dictionary.value, dictionary.atoms
    assert bool(value.isfinite().all())
    size = value.abs().amax(1)
    assert bool((size > 0).all() and (size < 1e15).all())
    error = (value - dictionary.basis.values(atoms)).abs().amax(1)
    assert bool((error <= 1e-13 * size).all())
    _check_pairs(dictionary)
    others = atoms.length[dictionary.n_paired :]
    assert bool((others.diff() >= 0).all())  # shortest first
    assert not atoms.in_denominator.any()
    below = dictionary.for_denominator
    assert not atoms.tunable[below].any()
    assert bool((value[below].amax(1) > value[below].amin(1)).all())
    assert bool(((atoms.power == 0).all(1) & dictionary.is_monomial).sum() == 1)  # the constant


@pytest.mark.parametrize("n_variables", [1, 2, 3])
def test_no_atom_is_there_twice(n_variables: int) -> None:
    atoms = make_dictionary(_points(n_variables)).atoms
    columns = torch.cat([atoms.power, atoms.kind, atoms.phase, atoms.theta, atoms.tunable], 1)
    assert len(torch.unique(columns, dim=0)) == len(columns)


def _holds(dictionary: Dictionary, value: Tensor) -> bool:
    return bool(((dictionary.value - value).abs() <= 1e-12 * value.abs().max()).all(1).any())


@pytest.mark.parametrize("n_variables", [1, 2, 3, 5])
def test_it_holds_the_functions_of_textbooks(n_variables: int) -> None:
    x = _points(n_variables)
    dictionary = make_dictionary(x)
    a = x[:, 0]
    wanted = [a**3, a.sqrt(), 1 / a, a.sin(), (2 * a).cos(), a.square().sin(), a * a.cos(), (-a).exp(), (1 / a).exp()]
    wanted += [a.log(), a * a.log(), 1 / (1 + a), 1 / (1 + a.square()), (a + a**2).sqrt(), a.sin() * (a**2).cos()]
    if n_variables > 1:
        b = x[:, 1]
        wanted += [a / b, (a * b).sqrt(), (a * b).sin(), (a + b).sqrt(), 1 / (a - b), (a / b).exp(), a.sin() * b.cos()]
        wanted += [(a - b).cos(), b / (a + b), (a - b).square()]
    for number, value in enumerate(wanted):
        assert _holds(dictionary, value), number


def test_a_grid_covers_the_frequencies_up_to_its_last() -> None:
    x = _points(2)
    grids = Grids(frequencies=10, frequencies_of_two=2, rates=(1.0,))
    dictionary = make_dictionary(x, grids)
    paired = dictionary.atoms[: dictionary.n_paired]
    spread = (dictionary.basis.u.amax(1) - dictionary.basis.u.amin(1))[paired.phase[:, 0]]
    angles = paired.theta[:, 0] * spread
    for step in range(1, 11):
        assert bool(((angles - step * grids.frequency_step).abs() < 1e-9).any())
    assert float(angles.max()) < 10.5 * grids.frequency_step
    assert len(dictionary.value) < len(make_dictionary(x).value)


def test_rapid_oscillations_of_the_signal_are_offered() -> None:
    x = _points(2, n=400)
    y = 3.0 * (70.0 * x[:, 1]).cos() + x[:, 0]  # 28 periods
    plain, dictionary = make_dictionary(x[:60]), make_dictionary(x[:60], signal=(x, y))
    _check_pairs(dictionary)
    atoms = dictionary.atoms[: dictionary.n_paired]
    new = (atoms.theta[:, 0] * 2.5 > 30 * Grids.frequency_step) & (atoms.power == 0).all(1)
    assert new.any()
    assert bool((atoms.theta[new, 0] - 70.0).abs().amin() < 0.5)
    assert len(plain.value) < len(dictionary.value) < 1.1 * len(plain.value)
    assert len(make_dictionary(x[:60], signal=(x, x[:, 0] ** 2)).value) < 1.01 * len(plain.value)


def test_plane_waves_of_the_signal_have_phases_of_their_own() -> None:
    x = _points(2, n=400)
    y = (5.0 * x[:, 0] - 8.0 * x[:, 1]).cos()
    plain, dictionary = make_dictionary(x[:60]), make_dictionary(x[:60], signal=(x, y))
    _check_pairs(dictionary)
    phases, atoms = dictionary.basis.phases, dictionary.atoms[: dictionary.n_paired]
    assert len(phases) > len(plain.basis.phases)
    new = (atoms.phase[:, 0] >= len(plain.basis.phases)).nonzero()[:, 0]
    angular = (
        atoms.theta[new, 0, None, None]
        * phases.factor[atoms.phase[new, 0], :, None]
        * phases.power[atoms.phase[new, 0]]
    ).sum(1)
    single = (phases.power[atoms.phase[new, 0]].sum(2) == 1).all(1)
    angular = angular[single] * angular[single, :1].sign()
    assert bool(((angular - torch.tensor([5.0, -8.0])).abs() < 0.3).all(1).any())
    others = dictionary.atoms[dictionary.n_paired :]
    assert bool((others.phase < len(plain.basis.phases)).all())  # no other function reads them
    error = (dictionary.value - dictionary.basis.values(dictionary.atoms)).abs().amax(1)
    assert bool((error <= 1e-13 * dictionary.value.abs().amax(1)).all())


def test_pairs_stay_pairs_in_parts_of_a_dictionary() -> None:
    dictionary = make_dictionary(_points(2))
    for rows in (
        dictionary.is_monomial,
        ~dictionary.atoms.tunable.any(1),
        (dictionary.atoms.power == 0).all(1),
        torch.ones(len(dictionary.value), dtype=torch.bool),
    ):
        part = dictionary.part(rows)
        _check_pairs(part)
        assert len(part.value) == int(rows.sum())
        assert torch.allclose(part.value, part.basis.values(part.atoms), rtol=1e-13, atol=1e-13)
        kept = dictionary.for_denominator[rows[dictionary.for_denominator]]
        assert torch.equal(part.value[part.for_denominator], dictionary.value[kept])


def test_powers_of_what_may_be_negative_are_whole() -> None:
    dictionary = make_dictionary(_points(2, -1.2))
    assert not dictionary.atoms.power.remainder(1.0).any()
    phases = dictionary.atoms.phase[(dictionary.atoms.kind == LN) | (dictionary.atoms.kind == POWER)]
    assert len(phases)
    both = make_dictionary(torch.cat([_points(1), _points(1, -1.2)], 1)).atoms
    assert bool(both.power[:, 0].remainder(1.0).any())
    assert not both.power[:, 1].remainder(1.0).any()


@pytest.mark.parametrize("n_variables", [0, 6])
def test_too_many_variables_are_refused(n_variables: int) -> None:
    with pytest.raises(ValueError, match=f"1 to 5 variables, not {n_variables}"):
        make_dictionary(torch.ones(4, n_variables, dtype=torch.float64))
