"""Opening any subtree of a true tree gives that subtree back, and the errors said of inverted values are their errors."""

import cmath
import math

import mpmath
import pytest
import torch
from torch import Tensor

from emlinit.generator.corpus.trees import trees_by_size
from emlinit.generator.evaluate import evaluate
from emlinit.generator.formulas.exact_identities import EXACT_IDENTITIES
from emlinit.generator.functions.inversion import (
    EPS,
    OpenSlots,
    is_finite,
    left_wanted,
    lost_digits,
    nearest_branch,
    open_slots,
    right_wanted,
    subtree_values,
)
from emlinit.generator.grammar import EML, LEFT, ONE, PAD, RIGHT, ROOT, X1, from_text, pad_sequences, subtree_lengths
from emlinit.generator.node import exp_branch_cut, log_branch_cut, principal_only
from emlinit.generator.program import programs_from_tokens


def _points(low: float, n: int, seed: int = 0) -> Tensor:
    return low + 2.5 * torch.rand(n, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _trees(x: Tensor, n: int, seed: int = 0) -> Tensor:
    """Random trees of 1..8 nodes whose values at `x` are certified."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.randint(1, 9, (n,), generator=generator)
    tokens = trees_by_size(sizes, torch.ones(n, 2, dtype=torch.bool), 0.3, generator)
    zeros = torch.zeros(tokens.shape, dtype=torch.float64)
    return tokens[evaluate(programs_from_tokens(tokens, zeros, 2), x).valid.all(-1)]


def _identities() -> Tensor:
    return pad_sequences([from_text(text, 2) for text in EXACT_IDENTITIES.values()])[0]


def _own(slots: OpenSlots, values: Tensor) -> Tensor:
    """What the target of each slot is, if the slot holds these values."""
    side = slots.side[..., None]
    return torch.where(side == LEFT, exp_branch_cut(values), torch.where(side == RIGHT, log_branch_cut(values), values))


def _close(first: Tensor, second: Tensor, tolerance: float) -> Tensor:
    return (((first - second).abs() <= tolerance * (1 + second.abs())) & is_finite(second)).all(-1)


@pytest.mark.parametrize(
    ("kind", "low", "share", "n_complex"),
    [
        ("random", 0.5, 0.8, 40),
        ("random", -2.0, 0.85, 500),
        ("identities", 0.5, 1.0, 5),
        ("identities", -1.5, 0.85, 25),
    ],
)
def test_every_subtree_of_a_true_tree_is_given_back(kind: str, low: float, share: float, n_complex: int) -> None:
    x = _points(low, 6)
    tokens = _trees(x, 400) if kind == "random" else _identities()
    values = subtree_values(tokens, x)
    slots = open_slots(tokens, x, values[:, 0])
    # All but where digits are lost, as the error says: of -x1 and what is made of it, too, whose logarithms are on the cut.
    sound = slots.possible & (lost_digits(slots.wanted, slots.error).amax(-1) < 1e-7)
    assert int(sound.sum()) >= share * int((tokens != PAD).sum())
    right = _close(slots.target, _own(slots, values), 1e-5) & _close(slots.wanted, values, 1e-5)
    # Where a complex number lies on the cut but for rounding, everything below it may be of the other branch.
    assert int((sound & ~right).sum()) <= 0.002 * int(sound.sum())
    assert all(int((sound & (slots.side == side)).sum()) > 20 for side in (ROOT, LEFT, RIGHT))
    is_complex = (values.imag.abs() > 1).any(-1)
    assert int((sound & is_complex).sum()) > n_complex
    assert not bool(slots.possible[tokens == PAD].any())
    assert bool(torch.isnan(slots.target.real[tokens == PAD]).all())


def test_what_is_below_a_subtree_that_overflows_is_given_back() -> None:
    """y = e - ln(R) with R = exp(L) - ln(x2), which no double holds at some points: L is ln(R) there."""
    x = _points(0.5, 6)
    x[:3, 0] += 6.0  # exp(7) is beyond 709
    tokens = from_text("eml 1 eml eml x1 1 x2", 2)[0][None]
    values = subtree_values(tokens, x)
    assert torch.isinf(values[0, 2].real).tolist() == [True] * 3 + [False] * 3
    slots = open_slots(tokens, x, values[:, 0])
    place = 3  # of L
    torch.testing.assert_close(slots.wanted[0, place], values[0, place], rtol=1e-12, atol=1e-12)
    assert float(lost_digits(slots.wanted, slots.error)[0, place].max()) < 1e-12
    assert not bool(
        torch.isfinite(lost_digits(slots.wanted, slots.error)[0, 6, :3]).any()
    )  # of x2 those points say nothing


def test_errors_of_slots_are_those_of_one_inversion_after_the_other() -> None:
    x = _points(0.5, 5)
    tokens = from_text("eml eml x1 x2 eml eml x2 x1 x1", 2)[0][None]
    values = subtree_values(tokens, x)[0]
    y = values[0]
    slots = open_slots(tokens, x, y)
    known = EPS * y.abs()
    assert torch.equal(slots.error[0, 0], known)
    left, left_error = left_wanted(y, known, log_branch_cut(values[4]))
    right, right_error = right_wanted(y, known, torch.exp(values[1]))
    assert torch.equal(slots.error[0, 1], left_error)
    assert torch.equal(slots.error[0, 4], right_error)
    assert torch.equal(slots.error[0, 5], left_wanted(right, right_error, log_branch_cut(values[8]))[1])
    assert torch.equal(slots.error[0, 3], right_wanted(slots.wanted[0, 1], left_error, torch.exp(values[2]))[1])
    assert bool((left - slots.wanted[0, 1]).abs().max() < 1e-12)
    padded = open_slots(torch.nn.functional.pad(tokens, (0, 2)), x, y)
    assert bool(padded.error[0, -2:].isinf().all())


def test_sides_are_those_of_the_children() -> None:
    tokens = from_text("eml eml x1 1 eml x2 x1", 2)[0][None]
    x = _points(0.5, 3)
    slots = open_slots(tokens, x, subtree_values(tokens, x)[:, 0])
    assert slots.side[0].tolist() == [ROOT, LEFT, LEFT, RIGHT, RIGHT, LEFT, RIGHT]


def test_one_target_a_tree_is_each_target_for_its_tree() -> None:
    x = _points(-2.0, 4)
    tokens = _trees(x, 30)
    y = subtree_values(tokens, x)[:, 0].flip(0)
    together = open_slots(tokens, x, y)
    assert int(together.possible.sum()) > 50
    for i in range(len(tokens)):
        alone = open_slots(tokens[i : i + 1], x, y[i])
        assert torch.equal(alone.possible[0], together.possible[i])
        assert torch.equal(alone.wanted[0][alone.possible[0]], together.wanted[i][together.possible[i]])


def test_no_right_child_where_its_logarithm_is_none() -> None:
    tokens = from_text("eml x1 x2", 2)[0][None]
    x = _points(0.5, 4)
    y = subtree_values(tokens, x)[0, 0].clone()
    assert open_slots(tokens, x, y).possible.tolist() == [[True, True, True]]
    y[2] -= 4j  # at one point the logarithm of the right child would have an imaginary part of 4
    slots = open_slots(tokens, x, y)
    assert slots.possible.tolist() == [[True, True, False]]
    assert torch.isnan(slots.target[0, 2].real).tolist() == [False, False, True, False]
    y[1] = complex("nan")
    assert open_slots(tokens, x, y).possible.tolist() == [[False, False, False]]


def test_values_are_those_of_the_evaluator() -> None:
    x = _points(-2.0, 5)
    tokens = _trees(x, 200)
    result = evaluate(
        programs_from_tokens(tokens, torch.zeros(tokens.shape, dtype=torch.float64), 2), x, rtol=None, imag=True
    )
    assert result.imag is not None
    assert float(result.imag.abs().max()) > 3
    expected = torch.complex(result.value, result.imag)
    torch.testing.assert_close(subtree_values(tokens, x)[:, 0], expected, rtol=1e-9, atol=1e-9)


def test_only_principal_logarithms_pass() -> None:
    given = {0.0: True, 3.0: True, math.pi: True, math.pi * (1 + 1e-12): True, -math.pi + 1e-6: True}
    given |= {-math.pi: False, math.pi + 1e-6: False, -math.pi * (1 - 1e-12): False, 4.0: False, -7.0: False}
    z = torch.tensor([complex(-1.5, imag) for imag in given], dtype=torch.complex128)
    passed = principal_only(z)
    assert (~torch.isnan(passed.real)).tolist() == list(given.values())
    kept = torch.tensor(list(given.values()))
    assert torch.equal(passed[kept], z[kept])
    random = torch.complex(*(20 * torch.rand(2, 500, generator=torch.Generator().manual_seed(0)).double() - 10))
    principal = log_branch_cut(random)
    assert torch.equal(principal_only(principal), principal)


def test_the_nearest_branch_undoes_an_exponential() -> None:
    generator = torch.Generator().manual_seed(0)
    z = torch.complex(*(40 * torch.rand(2, 500, generator=generator, dtype=torch.float64) - 20))
    shift = torch.complex(*(2 * torch.rand(2, 500, generator=generator, dtype=torch.float64) - 1)) * 3
    torch.testing.assert_close(nearest_branch(log_branch_cut(z.exp()), z + shift), z, rtol=1e-12, atol=1e-12)
    negative = torch.tensor([-2.0 + 0j, 2.0 + 0j], dtype=torch.complex128)
    near = nearest_branch(log_branch_cut(negative), torch.ones(2, dtype=torch.complex128))
    torch.testing.assert_close(near.imag, torch.tensor([-math.pi, 0.0], dtype=torch.float64))
    unknown = torch.full((2,), complex("nan+nanj"), dtype=torch.complex128)
    assert torch.equal(nearest_branch(log_branch_cut(negative), unknown), log_branch_cut(negative))


def _exact_values(tokens: list[int], x: list[float]) -> list[mpmath.mpc]:
    """Values of all subtrees by the definition, at 50 digits."""
    values: list[mpmath.mpc] = [None] * len(tokens)

    def walk(at: int) -> int:
        if tokens[at] != EML:
            values[at] = mpmath.mpc(1 if tokens[at] == ONE else x[tokens[at] - X1])
            return at + 1
        middle = walk(at + 1)
        end = walk(middle)
        right = values[middle]
        if abs(right.imag) < abs(right.real) * mpmath.mpf(10) ** -40:  # which only the working precision's pi makes
            right = mpmath.mpc(right.real)
        values[at] = mpmath.exp(values[at + 1]) - mpmath.log(right)
        return end

    with mpmath.workdps(50):
        walk(0)
    return values


@pytest.mark.parametrize("low", [0.5, -1.5])
def test_errors_are_those_of_the_inverted_values(low: float) -> None:
    """Down every path of random trees, against 50 digits, until more than six of the digits are lost."""
    x = _points(low, 4, seed=1)
    tokens = _trees(x, 150, seed=1)
    values, spans = subtree_values(tokens, x), subtree_lengths(tokens)
    ratios: list[float] = []
    for row, every, span in zip(tokens, values, spans, strict=True):
        exact = [_exact_values(row[: int(span[0])].tolist(), point) for point in x.tolist()]
        rounded = torch.tensor([[complex(v) for v in at_point] for at_point in exact], dtype=torch.complex128).T
        inverted: dict[int, tuple[Tensor, Tensor]] = {0: (rounded[0], EPS * rounded[0].abs())}
        for at in torch.nonzero(row == EML)[:, 0].tolist():
            wanted, error = inverted[at]
            left, right = at + 1, at + 1 + int(span[at + 1])
            left_values, left_error = left_wanted(wanted, error, log_branch_cut(every[right]))
            inverted[left] = nearest_branch(left_values, rounded[left]), left_error
            inverted[right] = right_wanted(wanted, error, exp_branch_cut(every[left]))
        for at, (wanted, error) in inverted.items():
            for j in torch.nonzero(lost_digits(wanted, error) < 1e-6)[:, 0].tolist() if at else ():
                with mpmath.workdps(50):
                    ratios.append(float(abs(mpmath.mpc(complex(wanted[j])) - exact[j][at])) / float(error[j]))
    ratio = torch.tensor(ratios, dtype=torch.float64)
    assert len(ratio) > 2000
    assert float(ratio.quantile(0.5)) > 0.01  # an error is no bound from far above,
    assert float(ratio.quantile(0.98)) < 10  # nor from below,
    assert float(ratio.max()) < 1e4  # except by the digits that the known subtrees have lost themselves


def test_what_underflows_is_not_known() -> None:
    wanted, exp_left = torch.tensor([1e6 + 0j, 1.0 + 0j]), torch.tensor([1.0 + 0j, 2.0 + 0j])
    wanted, exp_left = wanted.to(torch.complex128), exp_left.to(torch.complex128)
    right, error = right_wanted(wanted, torch.tensor([1.0, 1e-16], dtype=torch.float64), exp_left)
    assert right[0] == 0  # exp(-1e6), and its logarithm is not known to 1
    lost = lost_digits(right, error)
    assert lost[0] == torch.inf
    assert lost[1] < 1e-14


def test_lost_digits_are_relative_above_one_and_absolute_below() -> None:
    wanted = torch.tensor([1e6, 1e-6, 1e-6j, 1e13, complex("nan"), 1.0], dtype=torch.complex128)
    error = torch.tensor([1e-3, 1e-9, 1e-9, 1e-9, 1e-9, torch.nan], dtype=torch.float64)
    lost = lost_digits(wanted, error)
    torch.testing.assert_close(lost[:3], torch.full((3,), 1e-9, dtype=torch.float64), rtol=1e-6, atol=0)
    assert torch.isposinf(lost[3:]).all()


def test_the_branch_cut_belongs_to_plus_pi() -> None:
    z = torch.tensor([complex(-2.0, -0.0), complex(-2.0, 0.0), complex(-2.0, -1e-9)], dtype=torch.complex128)
    assert [cmath.log(w).imag > 0 for w in z.tolist()] == [False, True, False]
    assert (log_branch_cut(z).imag > 0).tolist() == [True, True, False]
