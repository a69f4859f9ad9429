"""The pursuit: errors are what they say, planted sums are found, and θ is tuned."""

import itertools
import time

import pytest
import torch
from torch import Tensor

from emlinit.finetune.sparse.atoms import COS, EXP, NOTHING, SIN, UNITY, Basis
from emlinit.finetune.sparse.dictionary import Dictionary, Grids, make_dictionary
from emlinit.finetune.sparse.goals import IDENTITY, Goal
from emlinit.finetune.sparse.pursuit import PursuitConfig, pursue
from emlinit.finetune.sparse.sums import SparseSums, SumSolver

EXACT = PursuitConfig().exact ** 2


def _points(n_variables: int, n: int = 80, low: float = 0.5) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return low + 3.0 * torch.rand(n, n_variables, generator=generator, dtype=torch.float64)


def _goal(y: Tensor, *, rational: bool = False, weight: Tensor | None = None) -> Goal:
    return Goal(IDENTITY, y, torch.ones_like(y) if weight is None else weight, rational=rational, deep=True)


def _part(dictionary: Dictionary, *, longest: float) -> Dictionary:
    """The simple atoms that are short."""
    return dictionary.part((dictionary.atoms.length <= longest) & ~dictionary.atoms.tunable.any(1))


def _prediction(states: SparseSums, basis: Basis) -> Tensor:
    """t (s, p) as a sum or, with atoms in a denominator, a sum over a sum."""
    terms = states.coefficient[..., None] * basis.values(states.atoms)
    below = states.atoms.in_denominator[..., None]
    return torch.where(below, 0.0, terms).sum(1) / (1.0 - torch.where(below, terms, 0.0).sum(1))


def _best(found: list[SparseSums]) -> tuple[SparseSums, int]:
    states = min(found, key=lambda states: float(states.error.min()))
    return states, int(states.error.argmin())


def _taken(states: SparseSums, row: int, n_points_max: Tensor) -> Tensor:
    """Coefficients of one state that are there and not negligible."""
    coefficient = states.coefficient[row][states.atoms.kind[row, :, 0] != NOTHING]
    return coefficient[coefficient.abs() > 1e-9 * n_points_max]


def test_the_error_of_a_state_is_that_of_its_sum() -> None:
    x = _points(2)
    a, b = x.unbind(1)
    dictionary = make_dictionary(x, Grids(frequencies=6, frequencies_of_two=2))
    ripple = 0.01 * (9.0 * a * b).sin()  # so that nothing is exact
    values = [(a * 1.7).sin() / (1.3 + b**1.4) + ripple, 1.0 / (1.0 + 0.3 * a + 0.5 * b**2) + ripple]
    weights = [torch.ones_like(a), 0.5 + a]
    goals = [_goal(values[0], weight=weights[0]), _goal(values[1], weight=weights[1], rational=True)]
    found = pursue(dictionary, goals, PursuitConfig(terms=2))
    assert len(found) == 2
    for states in found:
        for goal_number, (goal, w) in enumerate(zip(values, weights, strict=True)):
            own = states.rows((states.goal_number == goal_number).nonzero()[:, 0])
            assert len(own.goal_number) > 1
            mean = (w**2 * goal).sum() / (w**2).sum()
            squares = (w * (goal - _prediction(own, dictionary.basis))).square().sum(1)
            expected = squares / (w * (goal - mean)).square().sum()
            assert torch.allclose(own.error, expected, rtol=1e-5, atol=1e-16)
            assert bool((own.error > EXACT).all())
            assert bool((own.error.diff() >= -1e-15).all())  # best first
            assert float(own.error.min()) < 0.5
    assert not any(states.atoms.in_denominator[states.goal_number == 0].any() for states in found)
    assert any(states.atoms.in_denominator[states.goal_number == 1].any() for states in found)


def test_errors_do_not_depend_on_the_order_of_the_points() -> None:
    x = _points(2)
    y = (x[:, 0] * 1.7).sin() / (1.3 + x[:, 1] ** 1.4)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))
    config = PursuitConfig(terms=2, paired_states=1)
    errors = [
        pursue(make_dictionary(points, Grids(frequencies=6)), [_goal(values)], config)[-1].error[:3]
        for points, values in ((x, y), (x[order], y[order]))
    ]
    assert torch.allclose(errors[0], errors[1], rtol=1e-4)


def test_a_factor_of_the_goal_leaves_the_errors() -> None:
    x = _points(2)
    y = (x[:, 0] * 1.7).sin() / (1.3 + x[:, 1] ** 1.4)
    dictionary = _part(make_dictionary(x), longest=4.0)
    reference = pursue(dictionary, [_goal(y, rational=True)], PursuitConfig(terms=2))[-1].error
    for factor, of_weight in ((1e-9, 1.0), (1e9, 1.0), (1.0, 1e-6), (-3.0, 1e6)):
        goal = _goal(factor * y, rational=True, weight=torch.full_like(y, of_weight))
        error = pursue(dictionary, [goal], PursuitConfig(terms=2))[-1].error
        assert torch.allclose(error[:3], reference[:3], rtol=1e-4)


@pytest.mark.parametrize(
    ("n_terms", "seed"),
    [*itertools.product([1, 2, 3], range(3)), (4, 2), (4, 6)],  # of seven sums of four these two
)
def test_a_planted_sum_is_found(n_terms: int, seed: int) -> None:
    x = _points(2, 120, low=-1.0 if seed == 2 else 0.5)
    dictionary = _part(make_dictionary(x), longest=4.0)
    generator = torch.Generator().manual_seed(10 * seed + n_terms)
    varies = (dictionary.value.amax(1) > dictionary.value.amin(1)).nonzero()[:, 0]
    atoms = varies[torch.randperm(len(varies), generator=generator)[:n_terms]]
    value = dictionary.value[atoms]
    factor = 1.0 + torch.rand(n_terms, generator=generator, dtype=torch.float64)
    y = 0.7 + ((factor / value.std(1))[:, None] * value).sum(0)
    found = pursue(dictionary, [_goal(y)], PursuitConfig(terms=5))
    # All exact ones are handed on, and the shortest of them is the law: their errors differ by rounding, which is not the
    # same on every machine.
    lengths = [
        len(_taken(states, row, y.abs().max()))
        for states in found
        for row in (states.error <= EXACT).nonzero()[:, 0].tolist()
    ]
    assert lengths
    assert min(lengths) <= n_terms + 1


def test_a_quotient_is_found_and_not_the_target_itself() -> None:
    """y = y·1 fits any y, if not its error is that of the quotient."""
    x = _points(2)
    dictionary = make_dictionary(x)
    monomials = dictionary.part(dictionary.is_monomial)
    a, b = x.unbind(1)
    quotient = (2.0 + a * b) / (1.0 + 0.3 * a + 0.5 * b**2)
    found = pursue(monomials, [_goal(quotient, rational=True)], PursuitConfig(terms=4, algebra_terms=7))
    states, row = _best(found)
    assert float(states.error[row]) <= EXACT
    assert bool(states.atoms.in_denominator[row].any())
    noise = torch.rand(len(x), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    for states in pursue(monomials, [_goal(noise, rational=True)], PursuitConfig(terms=2)):
        residual = noise - _prediction(states, monomials.basis)
        assert torch.allclose(states.error, residual.square().sum(1) / (noise - noise.mean()).square().sum(), rtol=1e-5)
        assert float(states.error.min()) > 0.1  # nothing is found in noise


def test_a_frequency_is_tuned() -> None:
    x = _points(2)
    a, b = x.unbind(1)
    y = (2.37 * a).cos() + 0.4 * (2.37 * a).sin() + 0.5 * b
    dictionary = make_dictionary(x, Grids(frequencies_of_two=1))
    states, row = _best(pursue(dictionary, [_goal(y)], PursuitConfig(terms=3, paired_states=0)))
    assert float(states.error[row]) <= 1e-20
    atoms = states.atoms[row]
    waves = ((atoms.kind[:, 0] == SIN) | (atoms.kind[:, 0] == COS)) & atoms.tunable[:, 0]
    assert int(waves.sum()) == 2
    assert len(set(atoms.theta[waves][:, 0].tolist())) == 1  # one angle, one θ
    assert torch.allclose(atoms.theta[waves][:, 0], torch.tensor(2.37, dtype=torch.float64), rtol=1e-8)


def test_sums_lead_back_to_the_noisy_law_that_they_hold() -> None:
    found = 0
    wanted = {(0.0, 0.0), (1.0, 0.0), (0.0, 2.0), (1.0, 1.0), (3.0, 0.0)}
    for seed in range(6):
        generator = torch.Generator().manual_seed(seed)
        x = torch.rand(160, 2, generator=generator, dtype=torch.float64)
        a, b = x.unbind(1)
        law = 1 + a - b**2 + 3 * a * b + a**3
        y = law + 0.003 * law.std() * torch.randn(160, generator=generator, dtype=torch.float64)
        dictionary = make_dictionary(x)
        monomials = dictionary.part(dictionary.is_monomial)
        sums = SumSolver(monomials.basis, [_goal(y)])
        rounds = pursue(monomials, [_goal(y)], PursuitConfig(terms=3))
        pruned = [sums.pruned(states, 4, EXACT**0.5) for states in rounds]
        sets = []
        for states in pruned:
            assert torch.allclose(states.error, sums.solve(states.goal_number, states.atoms).error)
            for row in range(len(states.goal_number)):
                kept = states.atoms.kind[row, :, 0] != NOTHING
                sets.append({tuple(power) for power in states.atoms.power[row][kept].tolist()})
        found += wanted in sets
        assert len(sums.pruned(rounds[0].rows(slice(0, 0)), 4, 0.0).goal_number) == 0
    assert found >= 3


def test_a_rate_is_tuned() -> None:
    x = _points(1)
    y = 3.0 * (-1.234 * x[:, 0]).exp() + 0.2
    states, row = _best(pursue(make_dictionary(x), [_goal(y)], PursuitConfig(terms=2, paired_states=0)))
    assert float(states.error[row]) <= 1e-20
    atoms = states.atoms[row]
    place = ((atoms.kind[:, 0] == EXP) & atoms.tunable[:, 0]).nonzero()[0, 0]
    assert float(atoms.theta[place, 0]) == pytest.approx(-1.234, rel=1e-7)
    assert float(states.coefficient[row, place]) == pytest.approx(3.0, rel=1e-7)


def test_terms_are_added_one_round_after_another() -> None:
    x = _points(2)
    y = (x[:, 0] * 1.7).sin() / (1.3 + x[:, 1] ** 1.4)
    dictionary = _part(make_dictionary(x), longest=4.0)
    config = PursuitConfig(terms=3, shallow_terms=1, beam=5, tried=10)
    shallow = Goal(IDENTITY, y, torch.ones_like(y))
    found = pursue(dictionary, [_goal(y), shallow], config)
    assert len(found) == 3
    best = [float(states.error[states.goal_number == 0].min()) for states in found]
    assert best == sorted(best, reverse=True)
    assert [bool((states.goal_number == 1).any()) for states in found] == [True, False, False]
    for states in found:
        assert int((states.goal_number == 0).sum()) <= config.beam


def test_an_exact_sum_ends_the_rounds_and_the_deadline_is_kept() -> None:
    x = _points(2)
    dictionary = _part(make_dictionary(x), longest=3.0)
    y = 2.0 * x[:, 0] * x[:, 1]
    found = pursue(dictionary, [_goal(y)], PursuitConfig(terms=6))
    assert len(found) <= 2
    states = found[0]
    exact = (states.error <= EXACT).nonzero()[:, 0]
    taken = states.atoms.kind[exact, :, 0] != NOTHING
    shortest = int(torch.where(taken, states.atoms.length[exact], 0.0).sum(1).argmin())
    assert bool((states.atoms.kind[exact[shortest]][taken[shortest]] == UNITY).all())
    assert pursue(dictionary, [_goal(y)], deadline=time.monotonic() - 1.0) == []
