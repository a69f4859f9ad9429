"""Analytic derivatives against central differences, on programs with complex factors and shared nodes."""

import torch

from emlinit.generator.corpus.examples import random_supports
from emlinit.generator.corpus.trees import add_constants, trees_by_depth
from emlinit.generator.evaluate import evaluate, evaluate_nodes
from emlinit.generator.grammar import from_text, pad_sequences
from emlinit.generator.jacobian import value_and_jacobian
from emlinit.generator.program import Programs, programs_from_tokens

_STEP = 1e-6
_TEXTS = [
    "+ c:0.3 w:2.5 eml w:-0.7 x1 1",
    "+ c:0.5 w:-2.0 eml w:0.3 x2 + c:1.0 w:0.7 eml x1 x2",
    "eml 1 eml eml 1 eml x1 x2 1",
    "+ w:1.2 eml + c:0.2 + j:1.5 x1 j:0.4 1 1 j:0.5 eml j:0.3 x2 w:2.0 x1",
]


def _points(n: int = 7) -> torch.Tensor:
    return 1 + 2 * torch.rand(n, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def _values(programs: Programs, x: torch.Tensor) -> torch.Tensor:
    result = evaluate(programs, x, rtol=None)
    assert bool(result.valid.all())
    return result.value


def test_derivatives_match_central_differences() -> None:
    programs = programs_from_tokens(*pad_sequences([from_text(text) for text in _TEXTS]), 2)
    x = _points()
    jacobian = value_and_jacobian(programs, x)
    assert bool(jacobian.valid.all())
    torch.testing.assert_close(jacobian.value, _values(programs, x))
    n_nonzero = 0
    for name, derivative in (("weight", jacobian.d_weight), ("bias", jacobian.d_bias)):
        constants = getattr(programs, name)
        for index in torch.cartesian_prod(*(torch.arange(n) for n in constants.shape[1:])).tolist():
            place = (slice(None), *index)
            sides = []
            for sign in (1, -1):
                moved = constants.clone()
                moved[place] += sign * _STEP
                arguments = (moved, programs.bias) if name == "weight" else (programs.weight, moved)
                sides.append(_values(programs.with_constants(*arguments), x))
            used = programs.used_terms()[place[:3]] if name == "weight" else torch.ones(len(programs), dtype=torch.bool)
            numeric = (sides[0] - sides[1]) / (2 * _STEP)
            analytic = derivative[(slice(None), slice(None), *index)]
            n_nonzero += int((analytic != 0).any())
            torch.testing.assert_close(analytic[used], numeric[used], rtol=1e-6, atol=1e-6)
    assert n_nonzero > 20


def test_derivatives_where_nodes_overflow(device: torch.device) -> None:
    """Of random weighted trees, by the real part of each constant; jumps at a branch cut have no derivative."""
    generator = torch.Generator().manual_seed(3)
    mask = torch.ones(400, 3, dtype=torch.bool)
    tokens = trees_by_depth(torch.randint(3, 7, (400,), generator=generator), mask, 0.3, generator)
    tokens, constants = add_constants(tokens, mask, generator)
    x = random_supports(400, 4, 3, generator, torch.device("cpu")).to(device)
    programs = programs_from_tokens(tokens, constants, 3).to(device)
    jacobian, result = value_and_jacobian(programs, x), evaluate(programs, x)
    missing = torch.arange(programs.max_nodes, device=device) >= programs.n_nodes[:, None]
    huge = (evaluate_nodes(programs, x)[0].isnan() & ~missing[..., None]).any(1)
    n_compared = n_wrong = 0
    for slot in range(programs.weight.shape[1]):
        for term in range(programs.weight.shape[2]):
            sides = []
            for step in (_STEP, -_STEP, _STEP / 4, -_STEP / 4):
                moved = programs.weight.clone()
                moved[:, slot, term, 0] += step
                sides.append(evaluate(programs.with_constants(moved, programs.bias), x, imag=True))
            numeric = (sides[0].value - sides[1].value) / (2 * _STEP)
            nearer = (sides[2].value - sides[3].value) / (_STEP / 2)
            assert sides[0].imag is not None
            assert sides[1].imag is not None
            smooth = (numeric - nearer).abs() <= 1e-4 * (1 + nearer.abs())
            smooth &= (sides[0].imag - sides[1].imag).abs() <= 1e-3 * (1 + result.value.abs())
            compared = huge & jacobian.valid & result.valid & programs.used_terms()[:, slot, term, None] & smooth
            for side in sides:
                compared &= side.valid
            off = (nearer - jacobian.d_weight[:, :, slot, term, 0]).abs()
            wrong = off > 1e-3 * (1 + nearer.abs()) + 1e-8 * result.value.abs()  # the rounding of a difference
            n_compared, n_wrong = n_compared + int(compared.sum()), n_wrong + int((compared & wrong).sum())
    assert n_compared > 1000
    assert bool(jacobian.valid[huge & result.valid].all())
    assert n_wrong == 0


def test_batch_equals_loop() -> None:
    programs = programs_from_tokens(*pad_sequences([from_text(text) for text in _TEXTS]), 2)
    x = _points()
    whole = value_and_jacobian(programs, x)
    for row in range(len(programs)):
        alone = value_and_jacobian(programs[row], x)
        n_slots, n_terms = alone.d_weight.shape[2], alone.d_weight.shape[3]
        slots = [*range(n_slots - 1), whole.d_weight.shape[2] - 1]
        torch.testing.assert_close(whole.d_weight[row][:, slots, :n_terms], alone.d_weight[0])
        torch.testing.assert_close(whole.value[row], alone.value[0])


def test_invalid_points_have_no_derivatives() -> None:
    programs = programs_from_tokens(*(t[None] for t in from_text("eml w:900.0 x1 x2")), 2)
    x = torch.tensor([[0.1, 1.0], [1.0, 1.0], [0.1, 0.0]], dtype=torch.float64)
    jacobian = value_and_jacobian(programs, x)
    assert jacobian.valid.tolist() == [[True, False, False]]
    assert bool((jacobian.d_weight[0, 1:] == 0).all())
    assert bool((jacobian.d_bias[0, 1:] == 0).all())
    assert bool((jacobian.d_weight[0, 0] != 0).any())


def test_a_negative_zero_is_on_the_upper_side_of_the_cut() -> None:
    """The logarithm of -2 - 0i is that of -2: i ln(-2) has the real part -π."""
    programs = programs_from_tokens(*(t[None] for t in from_text("j:1.0 eml 1 w:-2.0 x1")), 2)
    conjugate = torch.tensor([1.0, -1.0], dtype=torch.float64)
    conjugated = programs.with_constants(programs.weight * conjugate, programs.bias * conjugate)
    x = torch.ones(1, 2, dtype=torch.float64)
    pi = torch.full((1, 1), torch.pi, dtype=torch.float64)
    torch.testing.assert_close(value_and_jacobian(programs, x).value, pi)
    torch.testing.assert_close(value_and_jacobian(conjugated, x).value, -pi)  # -i for i, but not +π for -π
