"""The operator on numbers: both forms of a complex number agree, the derivative is the derivative, the inverse inverts."""

import cmath
import math

import pytest
import torch
from torch import Tensor

from emlinit.generator.evaluate import evaluate
from emlinit.generator.grammar import from_text
from emlinit.generator.jacobian import value_and_jacobian
from emlinit.generator.node import (
    eml,
    exp_parts,
    forward,
    log_branch_cut,
    log_parts,
    reciprocal,
    reverse,
    solve_left,
    solve_right,
    within,
)
from emlinit.generator.program import programs_from_tokens


def _numbers(n: int, seed: int) -> Tensor:
    return torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.complex128)


def _parts(z: Tensor) -> tuple[Tensor, Tensor]:
    return z.real.clone(), z.imag.clone()


def test_both_forms_agree_with_python() -> None:
    left, right = _numbers(200, 0), _numbers(200, 1)
    re, im = torch.empty(200, dtype=torch.float64), torch.empty(200, dtype=torch.float64)
    (e_re, e_im), log_re, squared = forward(_parts(left), _parts(right), out=(re, im))
    pairs = zip(left.tolist(), right.tolist(), strict=True)
    expected = torch.tensor([cmath.exp(a) - cmath.log(b) for a, b in pairs], dtype=torch.complex128)
    torch.testing.assert_close(torch.complex(re, im), expected, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(eml(left, right), expected, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(torch.complex(e_re, e_im), left.exp())
    torch.testing.assert_close(log_re, right.log().real, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(squared, right.abs().square())


@pytest.mark.parametrize(("im", "argument"), [(0.0, math.pi), (-0.0, math.pi), (1e-300, math.pi), (-1e-300, -math.pi)])
def test_the_cut_belongs_to_plus_pi(im: float, argument: float) -> None:
    z = torch.complex(torch.tensor([-2.0], dtype=torch.float64), torch.tensor([im], dtype=torch.float64))
    (log_re, log_im), _ = log_parts(*_parts(z))
    assert log_im.tolist() == [argument]
    assert log_branch_cut(z).imag.tolist() == [argument]
    torch.testing.assert_close(log_re, log_branch_cut(z).real)


def test_a_negative_zero_on_the_way_does_not_turn_a_value() -> None:
    # exp(-800 - i) is 0 to a double and its imaginary part -0, so the outer node takes ln(-ln 3 - 0i)
    tokens, constants = from_text("w:0.5 j:1.0 eml 1 eml + c:-800.0 j:-1.0 1 c:3.0", 1)
    programs = programs_from_tokens(tokens[None], constants[None], 1)
    x = torch.ones(1, 1, dtype=torch.float64)
    for value in (evaluate(programs, x, rtol=None).value, value_and_jacobian(programs, x).value):
        torch.testing.assert_close(value, torch.full((1, 1), math.pi / 2, dtype=torch.float64))


def test_a_real_argument_stays_real_where_the_exponential_overflows() -> None:
    magnitude = torch.tensor([torch.inf, torch.inf, 2.0], dtype=torch.float64)
    re, im = exp_parts(magnitude, torch.tensor([0.0, -0.0, 0.0], dtype=torch.float64))
    assert re.tolist() == [torch.inf, torch.inf, 2.0]
    assert im.tolist() == [0.0, 0.0, 0.0]


def test_within_counts_no_nan() -> None:
    re = torch.tensor([1.0, 11.0, 1.0, torch.nan, 1.0, torch.inf], dtype=torch.float64)
    im = torch.tensor([-10.0, 1.0, -11.0, 1.0, torch.nan, 0.0], dtype=torch.float64)
    assert within(re, im, 10.0).tolist() == [True, False, False, False, False, False]


def test_reverse_is_the_derivative() -> None:
    left, right, adjoint = _numbers(100, 2), _numbers(100, 3), _numbers(100, 4)
    leaves = [part.requires_grad_() for z in (left, right) for part in _parts(z)]
    value = eml(torch.complex(leaves[0], leaves[1]), torch.complex(leaves[2], leaves[3]))
    gradients = torch.autograd.grad((adjoint * value).real.sum(), leaves)
    exponential = exp_parts(left.real.exp(), left.imag)
    inverse = reciprocal(*_parts(right), right.abs().square())
    for (re, im), by_re, by_im in zip(
        reverse(_parts(adjoint), exponential, inverse), gradients[::2], gradients[1::2], strict=True
    ):
        torch.testing.assert_close(re, by_re)  # y = Re(a z): dy/d Re(z) = Re(a), dy/d Im(z) = -Im(a)
        torch.testing.assert_close(im, -by_im)


def test_solving_a_node_gives_its_arguments_back() -> None:
    left, right = _numbers(100, 5), _numbers(100, 6)
    value = eml(left, right)
    torch.testing.assert_close(solve_left(value, log_branch_cut(right)), left.exp())
    torch.testing.assert_close(solve_right(value, left.exp()).exp(), right)
    nowhere = solve_right(value - 7j, left.exp())  # no logarithm has an imaginary part above pi
    assert bool(nowhere.isnan().all())
