"""Atoms: the values that are searched are those of the program that is written down, and the slopes are derivatives."""

import itertools

import pytest
import torch
from torch import Tensor

from emlinit.finetune.sparse.atoms import COS, EXP, INVERSE, LN, NOTHING, POWER, SIN, UNITY, Atoms, Basis, Phases
from emlinit.finetune.sparse.dictionary import make_dictionary
from emlinit.generator.builder import Builder
from emlinit.generator.evaluate import evaluate
from emlinit.generator.formulas.compile_weighted import program_from_slot
from emlinit.generator.program import Programs

KINDS = [SIN, COS, EXP, POWER, LN, INVERSE]


def _points(low: list[float], high: float = 2.5, n: int = 40) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    lowest = torch.tensor(low, dtype=torch.float64)
    return lowest + (high - lowest) * torch.rand(n, len(low), generator=generator, dtype=torch.float64)


def _atoms(power: list[list[float]], kind: list[list[int]], phase: list[list[int]], theta: list[list[float]]) -> Atoms:
    kinds, n = torch.tensor(kind), len(kind)
    return Atoms(
        torch.tensor(power, dtype=torch.float64),
        kinds,
        torch.tensor(phase),
        torch.tensor(theta, dtype=torch.float64),
        kinds != UNITY,
        torch.zeros(n, dtype=torch.bool),
        torch.zeros(n, dtype=torch.float64),
    )


def _phases() -> Phases:
    """x1, x2, x1 x2, x1² - x2."""
    power = [[[1, 0], [0, 0]], [[0, 1], [0, 0]], [[1, 1], [0, 0]], [[2, 0], [0, 1]]]
    factor = [[1, 0], [1, 0], [1, 0], [1, -1]]
    return Phases(torch.tensor(power, dtype=torch.float64), torch.tensor(factor, dtype=torch.float64))


def _programs(atoms: Atoms, basis: Basis) -> Programs:
    n_variables = atoms.power.shape[1]
    positive = [i + 1 for i in range(n_variables) if not bool(basis.negative[i].any())]
    programs = []
    for number in range(len(atoms.kind)):
        builder = Builder(n_variables, positive)
        slot = builder.readout(basis.slot(atoms[torch.tensor(number)], builder))
        programs.append(program_from_slot(slot, n_variables))
    return Programs.cat(programs)


@pytest.mark.parametrize("low", [[0.3], [-2.0], [0.3, 0.5], [-2.0, 0.3], [-2.0, -1.5, 0.2]])
def test_the_value_of_an_atom_is_that_of_its_program(low: list[float]) -> None:
    x = _points(low)
    dictionary = make_dictionary(x)
    generator = torch.Generator().manual_seed(1)
    rows = []
    for kinds in torch.unique(dictionary.atoms.kind, dim=0):  # some of each family
        own = (dictionary.atoms.kind == kinds).all(1).nonzero()[:, 0]
        rows.append(own[torch.randperm(len(own), generator=generator)[:12]])
    some = torch.cat(rows)
    assert set(dictionary.atoms.kind[some].flatten().tolist()) == {UNITY, *KINDS}
    result = evaluate(_programs(dictionary.atoms[some], dictionary.basis), x, rtol=None)
    expected = dictionary.value[some]
    size = expected.abs().amax(1, keepdim=True)
    assert bool(result.valid.all())
    assert bool(((result.value - expected).abs() <= 1e-9 * size).all())


@pytest.mark.parametrize("kinds", [*itertools.product(KINDS, [UNITY]), (SIN, COS), (COS, EXP), (EXP, POWER), (LN, SIN)])
def test_slopes_are_derivatives(kinds: tuple[int, int]) -> None:
    x = _points([1.2, 0.4])
    x[:, 1] /= 2.0  # less than x1²: all phases are positive
    basis = Basis(x, _phases())
    theta = [0.7, 1.3]
    grid = list(itertools.product(range(4), range(4)))
    atoms = _atoms([[1, -0.5]] * 16, [list(kinds)] * 16, [list(pair) for pair in grid], [theta] * 16)
    value, slope = basis.values_and_slopes(atoms)
    assert torch.allclose(value, basis.values(atoms), rtol=1e-14, atol=0.0)
    for which in range(2):
        step = torch.zeros(2, dtype=torch.float64)
        step[which] = 1e-6
        up, down = (basis.values(Atoms(**{**vars(atoms), "theta": atoms.theta + s * step})) for s in (1, -1))
        assert torch.allclose(slope[:, which], (up - down) / 2e-6, rtol=1e-6, atol=1e-8)
    assert bool((slope[:, 1] == 0).all()) == (kinds[1] == UNITY)
    still = Atoms(**{**vars(atoms), "tunable": torch.zeros_like(atoms.tunable)})
    assert not basis.values_and_slopes(still)[1].any()


def test_monomials_have_the_sign_of_their_odd_powers() -> None:
    x = _points([-2.0, -2.5, 0.1])
    x[0] = torch.tensor([0.0, -1.0, 2.0])
    basis = Basis(x, Phases(torch.zeros(1, 2, 3, dtype=torch.float64), torch.ones(1, 2, dtype=torch.float64)))
    power = torch.tensor([[0, 0, 0], [1, 0, 0], [2, 1, 0], [3, -3, 0.5], [0, -2, -1.5], [8, 1, 0]], dtype=torch.float64)
    expected = (x[None] ** power[:, None]).prod(2)
    assert torch.allclose(basis.monomial(power), expected, rtol=1e-13, atol=0.0)
    assert torch.equal(basis.monomial(power[0]), torch.ones(len(x), dtype=torch.float64))


def test_a_place_not_taken_is_nothing_and_batches_keep_their_shape() -> None:
    basis = Basis(_points([0.3, 0.3]), _phases())
    atoms = _atoms([[1, 0], [0, 1]], [[SIN, UNITY], [NOTHING, NOTHING]], [[2, 0], [0, 0]], [[1.5, 0.0], [0.0, 0.0]])
    value = basis.values(atoms)
    assert not value[1].any()
    assert value[0].any()
    batch = Atoms.cat([atoms[None], atoms[None]])
    assert torch.equal(basis.values(batch), value.expand(2, -1, -1))
    assert torch.equal(Atoms.side_by_side([batch, batch]).kind[:, 2:], batch.kind)
    assert basis.values(atoms[:0]).shape == (0, 40)
