"""Constant fitting: known laws come back to rounding, and batches, chunks and bad candidates change nothing."""

import math
import time
from collections.abc import Callable

import pytest
import torch

from emlinit.finetune.fitting.levenberg_marquardt import FitConfig, fit_constants
from emlinit.generator.errors import UserError
from emlinit.generator.evaluate import evaluate
from emlinit.generator.grammar import from_text
from emlinit.generator.program import Programs, programs_from_tokens

EXACT = 1e-10  # relative residual of a fit to noiseless data: far below any wrong local minimum, far above rounding

LAWS = {
    "decay": ("+ c:0.3 w:2.5 eml w:-0.7 x1 1", lambda x: 2.5 * torch.exp(-0.7 * x) + 0.3),
    "power": ("w:3.1 eml + w:1.5 eml 1 1 w:-1.5 eml 1 x1 1", lambda x: 3.1 * x**1.5),
    "sine": ("j:-1.2 eml j:1.5 x1 1", lambda x: 1.2 * torch.sin(1.5 * x)),
    "logarithm": ("+ c:5.0 w:-1.7 eml 1 x1", lambda x: 1.7 * torch.log(x) + 5.0 - 1.7 * math.e),
}


def program(text: str, n_variables: int = 1) -> Programs:
    tokens, constants = from_text(text, n_variables)
    return programs_from_tokens(tokens[None], constants[None], n_variables)


def perturbed(one: Programs, n: int, spread: float, generator: torch.Generator) -> Programs:
    """n copies with every free constant within `spread` of itself."""
    copies = one[torch.zeros(n, dtype=torch.int64)]
    weight = 1 + spread * (2 * torch.rand(copies.weight.shape, generator=generator, dtype=torch.float64) - 1)
    bias = 1 + spread * (2 * torch.rand(copies.bias.shape, generator=generator, dtype=torch.float64) - 1)
    return copies.with_constants(
        torch.where(copies.free_weight, copies.weight * weight, copies.weight),
        torch.where(copies.free_bias, copies.bias * bias, copies.bias),
    )


@pytest.fixture
def x() -> torch.Tensor:
    return torch.linspace(0.5, 5.0, 60, dtype=torch.float64)[:, None]


@pytest.mark.parametrize("name", LAWS)
def test_law_comes_back_to_rounding_from_starts_within_30_percent(
    name: str, x: torch.Tensor, device: torch.device
) -> None:
    text, law = LAWS[name]
    x = x.to(device)
    y = law(x[:, 0])
    fit = fit_constants(perturbed(program(text), 32, 0.3, torch.Generator().manual_seed(0)).to(device), x, y)
    assert (fit.mse.sqrt() / y.std()).max() < EXACT
    assert fit.steps.max() <= 30
    assert torch.equal(fit.valid_share, torch.ones_like(fit.valid_share))
    far = torch.linspace(5.0, 8.0, 20, dtype=torch.float64, device=device)[:, None]
    # Constants are right, not only the residual.
    error = evaluate(fit.programs, far).value - law(far[:, 0])
    assert error.abs().max() / y.std() < 1e-8


@pytest.mark.parametrize(
    ("text", "start", "truth"),
    [
        ("w:1.0 eml w:1.0 eml w:{} x1 1 1", -4.0, -0.4),
        ("j:-1.2 eml j:{} x1 1", 1.0, 1.5),
    ],
)
def test_a_step_that_fails_is_tried_again_with_more_damping(
    text: str, start: float, truth: float, x: torch.Tensor
) -> None:
    """From these starts the first step is too long, and would be again and again with the damping it had."""
    y = evaluate(program(text.format(truth)), x).value[0]
    first = fit_constants(program(text.format(start)), x, y, config=FitConfig(steps=1))
    start_only = fit_constants(program(text.format(start)), x, y, config=FitConfig(steps=0))
    assert first.mse == start_only.mse
    fit = fit_constants(program(text.format(start)), x, y)
    assert fit.mse.sqrt() / y.std() < EXACT


@pytest.mark.parametrize(
    ("text", "law", "steps"),
    [
        ("+ c:5.0 w:-1.7 eml 1 + c:30.0 x1", lambda x: 1.7 * torch.log(x + 1.0), 20),
        ("w:1.0 eml w:10.0 eml w:-1.0 x1 1 1", lambda x: torch.exp(-2.0 * torch.exp(-0.5 * x)), 17),
        ("j:-1.0 eml j:1.0 x1 1", LAWS["sine"][1], 10),
    ],
    ids=["logarithm", "growth", "sine"],
)
def test_the_damping_grows_faster_with_every_step_that_fails(
    text: str, law: Callable[[torch.Tensor], torch.Tensor], steps: int, x: torch.Tensor
) -> None:
    """If it only doubled each time, these numbers of steps would be too few."""
    y = law(x[:, 0])
    fit = fit_constants(program(text), x, y, config=FitConfig(steps=steps))
    assert fit.mse[0].sqrt() / y.std() < EXACT


def test_batch_of_different_programs_equals_loop(x: torch.Tensor) -> None:
    generator = torch.Generator().manual_seed(1)
    batch = Programs.cat([perturbed(program(text), 2, 0.3, generator) for text, _ in LAWS.values()])
    y = torch.stack([law(x[:, 0]) for _, law in LAWS.values()]).repeat_interleave(2, 0)
    together = fit_constants(batch, x, y)
    for i in range(len(batch)):
        alone = fit_constants(batch[i], x, y[i])
        torch.testing.assert_close(together.mse[i], alone.mse[0], rtol=1e-6, atol=1e-24)
        torch.testing.assert_close(together.programs[i].weight, alone.programs.weight, rtol=1e-7, atol=1e-9)


def test_chunks_of_points_and_candidates_change_nothing(x: torch.Tensor) -> None:
    text, law = LAWS["decay"]
    y = law(x[:, 0]) + 0.01 * torch.sin(40 * x[:, 0])
    starts = perturbed(program(text), 5, 0.3, torch.Generator().manual_seed(2))
    whole = fit_constants(starts, x, y)
    pieces = fit_constants(starts, x, y, config=FitConfig(chunk_numbers=300))
    torch.testing.assert_close(pieces.mse, whole.mse, rtol=1e-9, atol=0.0)
    torch.testing.assert_close(pieces.programs.weight, whole.programs.weight, rtol=1e-6, atol=0.0)


def test_fit_is_the_least_squares_optimum_on_noisy_data(x: torch.Tensor) -> None:
    text, law = LAWS["decay"]
    generator = torch.Generator().manual_seed(3)
    y = law(x[:, 0]) + 0.05 * torch.randn(60, generator=generator, dtype=torch.float64)
    fit = fit_constants(program(text), x, y)
    near = perturbed(fit.programs, 200, 1e-3, generator)
    others = (evaluate(near, x).value - y).square().mean(1)
    assert others.min() >= fit.mse[0]
    assert others.max() > fit.mse[0] * (1 + 1e-8)  # the neighbours do differ


def test_weights_of_zero_remove_points(x: torch.Tensor) -> None:
    text, law = LAWS["decay"]
    y = law(x[:, 0])
    spoiled, weights = y.clone(), torch.ones_like(y)
    spoiled[::7], weights[::7] = 50.0, 0.0
    start = perturbed(program(text), 1, 0.3, torch.Generator().manual_seed(4))
    assert fit_constants(start, x, spoiled, weights=weights).mse[0].sqrt() < EXACT
    assert fit_constants(start, x, spoiled).mse[0] > 1.0


def test_dependent_constants_do_no_harm(x: torch.Tensor) -> None:
    # two equal terms and two constants at the readout, and a bias that only scales the exponential
    text = "+ c:1.0 + w:1.0 1 + w:1.0 eml + c:0.2 w:-0.5 x1 1 w:0.5 eml + c:0.2 w:-0.5 x1 1"
    y = LAWS["decay"][1](x[:, 0])
    fit = fit_constants(program(text), x, y)
    assert fit.mse[0].sqrt() / y.std() < EXACT


def test_fit_is_never_worse_than_its_start_and_survives_hopeless_candidates(x: torch.Tensor) -> None:
    overflow = program("w:1.0 eml w:1000.0 eml w:9.0 x1 1 1")  # exp(1000 exp(9x)): invalid everywhere
    no_logarithm = program("+ c:1.0 w:1.0 eml 1 + c:0.0 w:0.0 x1")  # ln 0
    text, law = LAWS["decay"]
    y = law(x[:, 0])
    starts = Programs.cat([overflow, no_logarithm, perturbed(program(text), 1, 0.3, torch.Generator().manual_seed(5))])
    before = evaluate(starts, x)
    fit = fit_constants(starts, x, y)
    assert not before.valid[0].any()
    assert fit.valid_share[0] == 0
    assert fit.mse[0] == torch.inf
    assert fit.mse[2].sqrt() < EXACT
    assert fit.programs.weight.isfinite().all()


def test_restarts_and_frequency_ladder_reach_what_the_start_does_not(x: torch.Tensor) -> None:
    y = 1.2 * torch.sin(6.0 * x[:, 0])
    start = program("j:-1.0 eml j:1.7 x1 1")
    alone = fit_constants(start, x, y)
    ladder = fit_constants(start, x, y, config=FitConfig(frequency_factors=(0.5, 2.0, 3.5)))
    restarts = fit_constants(
        start, x, y, config=FitConfig(restarts=60, spread=1.0), generator=torch.Generator().manual_seed(6)
    )
    assert alone.mse[0] > 0.1
    assert ladder.mse[0].sqrt() < EXACT
    assert restarts.mse[0].sqrt() < EXACT


def test_exact_programs_keep_their_form(x: torch.Tensor) -> None:
    one = program("eml x1 1")
    fit = fit_constants(one, x, torch.exp(x[:, 0]) + 1.0)
    assert torch.equal(fit.programs.weight, one.weight)
    torch.testing.assert_close(fit.mse, torch.ones(1, dtype=torch.float64))
    assert fit.steps[0] == 0


def test_bad_arguments_say_what_to_do(x: torch.Tensor) -> None:
    with pytest.raises(UserError, match="pass generator="):
        fit_constants(program("w:1.0 x1"), x, x[:, 0], config=FitConfig(restarts=2))
    with pytest.raises(UserError, match="non-negative"):
        fit_constants(program("w:1.0 x1"), x, x[:, 0], weights=-x[:, 0])


@pytest.mark.slow
def test_a_hundred_thousand_points_fit_in_bounded_memory() -> None:
    x = torch.linspace(0.5, 5.0, 100_000, dtype=torch.float64)[:, None]
    text, law = LAWS["power"]
    y = law(x[:, 0])
    fit = fit_constants(perturbed(program(text), 4, 0.2, torch.Generator().manual_seed(7)), x, y)
    assert (fit.mse.sqrt() / y.std()).max() < EXACT


def test_no_step_begins_after_the_time_is_up(x: torch.Tensor) -> None:
    text, law = LAWS["decay"]
    start = perturbed(program(text), 4, 0.3, torch.Generator().manual_seed(0))
    late = fit_constants(start, x, law(x[:, 0]), config=FitConfig(until=time.monotonic() - 1.0))
    assert late.steps.tolist() == [0] * 4
    assert late.mse.isfinite().all()  # the linear constants are the best ones all the same
    early = fit_constants(start, x, law(x[:, 0]), config=FitConfig(until=time.monotonic() + 60.0))
    assert (early.mse < late.mse).all()


def test_a_fit_that_cannot_get_better_ends_soon() -> None:
    """After each failed step the damping grows twice as fast, so that few steps reach the damping that gives up."""
    x = torch.linspace(0.5, 5.0, 40, dtype=torch.float64)[:, None]
    noise = torch.randn(40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = 2.5 * torch.exp(-0.7 * x[:, 0]) + 0.3 + 1e-3 * noise
    config = FitConfig(steps=60)
    tokens, constants = from_text("+ c:1.0 w:1.0 eml w:-0.5 x1 1", 1)
    fit = fit_constants(programs_from_tokens(tokens[None], constants[None], 1), x, y, config=config)
    assert int(fit_constants(fit.programs, x, y, config=config).steps) < 20
