"""Extensions: what an atom or a pair would gain is what a least-squares fit with it gains."""

import torch
from torch import Tensor

from emlinit.finetune.sparse.dictionary import Dictionary, Grids, make_dictionary
from emlinit.finetune.sparse.extensions import Extensions
from emlinit.finetune.sparse.goals import IDENTITY, Goal
from emlinit.finetune.sparse.sums import SparseSums, SumSolver

GRIDS = Grids(frequencies=4, frequencies_of_two=2)


def _made(*, rational: bool = False) -> tuple[Dictionary, SumSolver, SparseSums, Tensor, Tensor]:
    """A dictionary, the solver of one goal, the states of nothing and a constant; t and the weights."""
    generator = torch.Generator().manual_seed(0)
    x = 0.5 + 2.0 * torch.rand(60, 1, generator=generator, dtype=torch.float64)
    t = (1.3 * x[:, 0]).sin() + 0.2 * x[:, 0] ** 2 + 1.0
    weight = 0.5 + x[:, 0]
    dictionary = make_dictionary(x, GRIDS)
    solver = SumSolver(dictionary.basis, [Goal(IDENTITY, t, weight, rational=rational)])
    return dictionary, solver, solver.start(), t, weight


def _squares(columns: list[Tensor], wanted: Tensor) -> float:
    """The squared error of the best combination of some columns."""
    matrix = torch.stack(columns, 1)
    matrix = matrix / torch.linalg.vector_norm(matrix, dim=0)
    return float((wanted - matrix @ torch.linalg.lstsq(matrix, wanted[:, None]).solution[:, 0]).square().sum())


def test_gains_are_those_of_a_fit() -> None:
    dictionary, solver, states, t, w = _made()
    singles, pairs, squares = Extensions(dictionary, solver)._gains(0, states)
    wanted, constant = w * t, w
    torch.testing.assert_close(
        squares, torch.tensor([float(wanted.square().sum()), _squares([constant], wanted)]).double()
    )
    before = float(squares[1])
    for atom in range(0, len(dictionary.value), 7):
        gain = before - _squares([constant, w * dictionary.value[atom]], wanted)
        assert abs(float(singles[atom, 1]) - gain) < 1e-6 * before
    assert len(pairs) == dictionary.n_paired // 2
    compared = 0
    for pair in range(0, len(pairs), 3):
        columns = [constant, *(w * dictionary.value[2 * pair + k] for k in (0, 1))]
        if float(pairs[pair, 1]):
            assert abs(float(pairs[pair, 1]) - (before - _squares(columns, wanted))) < 1e-6 * before
            compared += 1
    assert compared > 3


def test_a_denominator_explains_nothing_below_nothing() -> None:
    dictionary, solver, states, _, _ = _made(rational=True)
    assert states.atoms.length.tolist() == [[0.0], [0.0]]  # nothing, and a constant
    singles, _, _ = Extensions(dictionary, solver)._gains(0, states)
    n = len(dictionary.value)
    assert len(singles) == n + len(dictionary.for_denominator)
    assert bool((singles[n:] == 0).all())
    x1 = dictionary.atoms[(dictionary.is_monomial & (dictionary.atoms.power == 1.0).all(1)).nonzero()[0]]
    above = solver.solve(torch.tensor([0]), x1[None])
    singles, _, _ = Extensions(dictionary, solver)._gains(0, above)
    assert bool((singles[n:] > 0).any())
