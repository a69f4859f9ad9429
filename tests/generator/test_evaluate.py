"""The fast evaluator against a plain recursive one in 260-digit arithmetic, and its mask against what mpmath cannot do."""

import math

import mpmath
import pytest
import torch

from emlinit.generator.corpus.examples import random_supports
from emlinit.generator.corpus.trees import add_constants, trees_by_depth, trees_by_size
from emlinit.generator.evaluate import evaluate
from emlinit.generator.grammar import EML, ONE, PLUS, X1, C, J, W, from_text, pad_sequences
from emlinit.generator.node import CEILING
from emlinit.generator.program import Programs, programs_from_tokens

RTOL = 1e-10


class _Undefined(Exception):
    """mpmath meets ln 0 (or a number that is 0 but for the working precision), or an exponential of what is huge."""


class _Reference:
    """The value of an expression at a point, straight from the definition, in 260 digits: an exponential of 1e100 leaves
    enough of them."""

    def __init__(self, kinds: list[int], constants: list[float], point: list[float]) -> None:
        self._kinds, self._constants, self._point, self._cursor = kinds, constants, point, 0
        self.largest = 0.0
        """Largest real part of an argument of exp."""
        with mpmath.workdps(260):
            self._dust = mpmath.mpf(10) ** -100
            self.value: mpmath.mpc = self._next()

    def _next(self) -> mpmath.mpc:
        position = self._cursor
        self._cursor += 1
        kind = self._kinds[position]
        if kind == ONE:
            return mpmath.mpc(1)
        if kind == C:
            return mpmath.mpc(self._constants[position])
        if kind >= X1:
            return mpmath.mpc(self._point[kind - X1])
        first = self._next()
        if kind == W:
            return self._constants[position] * first
        if kind == J:
            return mpmath.mpc(0, self._constants[position]) * first
        second = self._next()
        if kind == PLUS:
            return self._difference(first, -second)
        assert kind == EML
        largest = mpmath.mpf(10) ** 100
        if second == 0 or first.real > largest or (first.real > -largest and abs(first.imag) > largest):
            raise _Undefined
        self.largest = max(self.largest, float(first.real))
        exponential = mpmath.exp(first) if first.real > -1e6 else mpmath.mpc(0)
        return self._difference(self._chop(exponential), mpmath.log(self._chop(second)))

    def _chop(self, z: mpmath.mpc) -> mpmath.mpc:
        """Drop an imaginary part that only the working precision's pi makes: its sign would choose the side of the cut."""
        return mpmath.mpc(z.real) if abs(z.imag) < abs(z.real) * self._dust else z

    def _difference(self, first: mpmath.mpc, second: mpmath.mpc) -> mpmath.mpc:
        return first - second if abs(first - second) > self._dust * max(abs(first), abs(second)) else mpmath.mpc(0)


def _random_programs(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Half exact, half weighted (with imaginary factors), each with points of its own."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.ones(n, 3, dtype=torch.bool)
    sizes = torch.randint(0, 9, (n,), generator=generator)
    trees = trees_by_size(sizes, mask, 0.3, generator)
    tokens, constants = add_constants(trees, mask, generator)
    turn = (tokens == W) & (torch.rand(tokens.shape, generator=generator) < 0.2)
    tokens = torch.where(turn, J, tokens)
    exact = torch.arange(n) % 2 == 0
    tokens[exact, : trees.shape[1]], tokens[exact, trees.shape[1] :] = trees[exact], 0
    constants[exact] = 0.0
    x = random_supports(n, 2, 3, generator, torch.device("cpu"))
    return tokens, constants, x


def test_agrees_with_mpmath_wherever_valid() -> None:
    tokens, constants, x = _random_programs(10_000, 0)
    result = evaluate(programs_from_tokens(tokens, constants, 3), x)
    n_valid, worst = 0, 0.0
    for row in range(len(tokens)):
        for point in range(x.shape[1]):
            if not result.valid[row, point]:
                continue
            n_valid += 1
            try:
                expected = _Reference(tokens[row].tolist(), constants[row].tolist(), x[row, point].tolist()).value
            except _Undefined:
                pytest.fail(f"program {row} is called valid where mpmath is undefined")
            error = abs(float(result.value[row, point]) - expected.real) / abs(expected.real)
            worst = max(worst, float(error))
    assert n_valid > 8_000
    assert worst < RTOL


@pytest.mark.parametrize("weighted", [False, True])
def test_agrees_with_mpmath_where_doubles_overflow(device: torch.device, weighted: bool) -> None:
    """Random trees of depth 4 to 8: at the points where an exponential on the way exceeds 1e100, and elsewhere."""
    n = 10_000 if device.type == "cpu" else 1_000
    generator = torch.Generator().manual_seed(5 + weighted)
    mask = torch.ones(n, 3, dtype=torch.bool)
    tokens = trees_by_depth(torch.randint(4, 9, (n,), generator=generator), mask, 0.3, generator)
    constants = torch.zeros(tokens.shape, dtype=torch.float64)
    if weighted:
        tokens, constants = add_constants(tokens, mask, generator)
    x = random_supports(n, 1, 3, generator, torch.device("cpu"))
    result = evaluate(programs_from_tokens(tokens, constants, 3).to(device), x.to(device))
    value, valid = result.value[:, 0].tolist(), result.valid[:, 0].tolist()
    n_huge = n_seen = 0
    worst = 0.0
    # Every valid point is checked; of the others, which say how much is rejected, every tenth.
    for row in [row for row in range(n) if valid[row] or row % 10 == 0]:
        try:
            reference = _Reference(tokens[row].tolist(), constants[row].tolist(), x[row, 0].tolist())
        except _Undefined:
            assert not valid[row]
            continue
        expected = reference.value.real
        if valid[row]:
            worst = max(worst, float(abs(value[row] - expected) / max(abs(expected), 1e-300)))
        if reference.largest > 231 and 1e-3 < abs(expected) < 1e90 and row % 10 == 0:
            n_huge, n_seen = n_huge + 1, n_seen + valid[row]
    assert worst < RTOL
    assert n_huge > 0.01 * n
    assert n_seen > 0.65 * n_huge


def test_the_mask_does_not_reject_what_is_well_defined() -> None:
    tokens, constants, x = _random_programs(1_000, 1)
    result = evaluate(programs_from_tokens(tokens, constants, 3), x)
    n_defined = n_kept = 0
    for row in range(len(tokens)):
        try:
            value = _Reference(tokens[row].tolist(), constants[row].tolist(), x[row, 0].tolist()).value
        except _Undefined:
            continue
        if 1e-3 < abs(value.real) < CEILING[torch.float64]:
            n_defined += 1
            n_kept += int(result.valid[row, 0])
    assert n_kept > 0.9 * n_defined > 0


def _evaluate_texts(texts: list[str], x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    tokens, constants = pad_sequences([from_text(text) for text in texts])
    result = evaluate(programs_from_tokens(tokens, constants, x.shape[1]), x)
    return result.value, result.valid


def test_undefined_and_overflowing_points_are_masked() -> None:
    texts = [
        "eml 1 + x1 w:-1.0 x1",  # ln 0
        "eml eml eml eml 1 1 1 1 1",  # exp(exp(exp(e)))
        "eml w:1000.0 x1 1",  # overflow
        "eml 1 eml 1 eml eml 1 1 1",  # ln of a zero that rounding makes 1e-16
        "w:1e200 x1",  # above the ceiling
    ]
    x = torch.tensor([[1.5], [2.5]], dtype=torch.float64)
    value, valid = _evaluate_texts(texts, x)
    assert not bool(valid.any())
    assert bool((value == 0).all())


def test_logarithm_of_a_negative_number_is_on_the_upper_side_of_the_cut() -> None:
    x = torch.tensor([[-2.0]], dtype=torch.float64)
    tokens, constants = from_text("eml 1 x1")
    result = evaluate(programs_from_tokens(tokens[None], constants[None], 1), x, imag=True)
    assert result.imag is not None
    assert bool(result.valid.all())
    torch.testing.assert_close(result.imag, torch.full((1, 1), -torch.pi, dtype=torch.float64))


def test_a_negative_zero_is_on_the_upper_side_of_the_cut() -> None:
    """ln(-2 - 0i), which is an infinitesimal below the cut, is that of -2 all the same."""
    x = torch.tensor([[math.log(7.0), -1.0, math.exp(2.0)]], dtype=torch.float64)
    conjugate = torch.tensor([1.0, -1.0], dtype=torch.float64)  # of real constants: imaginary parts of -0
    constant = programs_from_tokens(*(t[None] for t in from_text("eml 1 w:2.0 x2", 3)), 3)
    constant = constant.with_constants(constant.weight * conjugate, constant.bias * conjugate)
    # x2 < 0 makes 7 - iπ, its exponential is -1097 - 1e-13i, and the exponential of that underflows to 0 - 0i.
    underflow = programs_from_tokens(*(t[None] for t in from_text("eml 1 eml eml eml x1 x2 1 x3", 3)), 3)
    for programs in (constant, underflow):
        result = evaluate(programs, x, imag=True)
        assert result.imag is not None
        assert bool(result.valid.all())
        torch.testing.assert_close(result.value, torch.full((1, 1), math.e - math.log(2.0), dtype=torch.float64))
        torch.testing.assert_close(result.imag, torch.full((1, 1), -math.pi, dtype=torch.float64))


def test_a_factor_i_makes_a_cosine() -> None:
    x = torch.linspace(-3, 3, 40, dtype=torch.float64)[:, None]
    value, valid = _evaluate_texts(["eml + j:1.5 x1 j:0.3 1 1"], x)
    assert bool(valid.all())
    torch.testing.assert_close(value[0], torch.cos(1.5 * x[:, 0] + 0.3))


def test_batch_equals_loop_and_shared_points_equal_own_points() -> None:
    tokens, constants, x = _random_programs(200, 2)
    programs = programs_from_tokens(tokens, constants, 3)
    whole = evaluate(programs, x, imag=True)
    assert whole.imag is not None
    assert 0.2 < float(whole.valid.double().mean()) < 1
    for row in range(0, 200, 7):
        alone = evaluate(programs[row], x[row], imag=True)
        assert alone.imag is not None
        assert torch.equal(alone.value[0], whole.value[row])
        assert torch.equal(alone.valid[0], whole.valid[row])
        assert torch.equal(alone.imag[0], whole.imag[row])
    shared = evaluate(programs, x[0])
    own = evaluate(programs, x[:1].expand(200, -1, -1))
    assert torch.equal(shared.value, own.value)


def test_float32_follows_float64() -> None:
    tokens, constants, x = _random_programs(2_000, 3)
    programs = programs_from_tokens(tokens, constants, 3)
    single, double = evaluate(programs, x.float()), evaluate(programs, x.float().double())
    both = single.valid & double.valid
    assert float(both.double().mean()) > 0.3
    torch.testing.assert_close(single.value[both].double(), double.value[both], rtol=2e-3, atol=0)


def test_long_columns_are_cut_into_chunks_without_a_seam() -> None:
    x = 0.5 + torch.rand(5_000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    value, valid = _evaluate_texts(["eml x1 eml 1 x1", "x1"], x)
    expected = torch.exp(x[:, 0]) - torch.log(torch.e - torch.log(x[:, 0]))
    assert bool(valid.all())
    torch.testing.assert_close(value[0], expected)


def test_wrong_input_is_refused() -> None:
    programs: Programs = programs_from_tokens(*(t[None] for t in from_text("x2")), 2)
    with pytest.raises(ValueError, match="float32 or float64"):
        evaluate(programs, torch.ones(3, 2, dtype=torch.float16))
    with pytest.raises(ValueError, match="1 columns"):
        evaluate(programs, torch.ones(3, 1, dtype=torch.float64))


@pytest.mark.gpu
def test_cuda_agrees_with_the_cpu() -> None:
    tokens, constants, x = _random_programs(2_000, 4)
    programs = programs_from_tokens(tokens, constants, 3)
    here, there = evaluate(programs, x), evaluate(programs.to("cuda"), x.cuda())
    both = here.valid & there.valid.cpu()
    assert float(both.double().mean()) > 0.3
    torch.testing.assert_close(here.value[both], there.value.cpu()[both], rtol=1e-9, atol=0)
