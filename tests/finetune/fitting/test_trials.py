"""Trials of moves: what saves nats is taken, and nothing that the data contradict."""

import math
from dataclasses import replace

import torch

from emlinit.finetune.fitting.levenberg_marquardt import Fit, FitConfig, fit_constants
from emlinit.finetune.fitting.offers import BELOW, UNDETERMINED, Move
from emlinit.finetune.fitting.trials import Trials
from emlinit.generator.evaluate import evaluate
from emlinit.generator.grammar import from_text
from emlinit.generator.program import Programs, programs_from_tokens


def _program(text: str) -> Programs:
    tokens, constants = from_text(text, 1)
    return programs_from_tokens(tokens[None], constants[None], 1)


def _line(noise: float) -> tuple[Fit, Trials, int]:
    """The fit of y = 0.3 + 2 x to a noisy line, trials without a limit, and the place of its constant."""
    generator = torch.Generator().manual_seed(0)
    x = torch.linspace(0.5, 5.0, 50, dtype=torch.float64)[:, None]
    y = 0.3 + 2.0 * x[:, 0] + noise * torch.randn(50, generator=generator, dtype=torch.float64)
    fit = fit_constants(_program("+ c:1.0 w:1.0 x1"), x, y)
    trials = Trials(x, y, torch.ones_like(y), FitConfig(steps=3), 1e-30, torch.full_like(fit.mse, torch.inf))
    return fit, trials, fit.programs.weight[0].numel()


def test_a_move_must_save_more_than_the_worse_fit_costs() -> None:
    fit, trials, place = _line(0.1)
    refitted = fit_constants(_program("w:1.0 x1"), trials.x, trials.y)
    price = 25 * float((refitted.mse / fit.mse).log())
    assert price > 1
    for share in (0.99, 1.01):
        found = trials.best(fit, [Move(0, place, 0.0, share * price, BELOW)])
        assert list(found) == ([0] if share > 1 else [])


def test_no_gain_pays_for_an_error_beyond_the_limit() -> None:
    fit, trials, place = _line(0.1)
    move = Move(0, place, 0.0, 1e6, BELOW)
    assert trials.best(fit, [move]) == {0: [move]}
    assert replace(trials, limit=1.01 * fit.mse).best(fit, [move]) == {}


def test_the_better_of_two_moves_of_one_constant_is_made_and_others_are_refitted() -> None:
    fit, trials, place = _line(0.01)
    good, bad = (Move(0, place, value, 20.0, BELOW) for value in (0.3, 0.33))
    found = trials.best(fit, [bad, good])
    assert found == {0: [good]}
    made = trials.made(fit, found)
    assert float(made.programs.bias[0, -1, 0]) == 0.3
    assert made.programs.n_free().tolist() == [1]
    assert float(fit.mse) <= float(made.mse) < 1.2 * float(fit.mse)


def test_readers_make_up_for_an_exponential_that_is_moved() -> None:
    program = _program("w:3.1 eml + c:4.0 w:-1.5 eml 1 x1 1")
    fixed = replace(
        program, free_weight=torch.zeros_like(program.free_weight), free_bias=torch.zeros_like(program.free_bias)
    )
    x = torch.linspace(0.5, 5.0, 30, dtype=torch.float64)[:, None]
    y = evaluate(fixed, x).value[0]
    fit = fit_constants(fixed, x, y)
    trials = Trials(x, y, torch.ones_like(y), FitConfig(steps=0), 1e-20, torch.ones_like(fit.mse))
    place = fixed.weight[0].numel() + 2 * 2  # the constant in the left slot of node 1
    assert fixed.bias[0, 2, 0] == 4.0
    moved = trials.made(fit, {0: [Move(0, place, 1.5 * math.e, 1.0, UNDETERMINED, node=1)]})
    assert float(moved.programs.bias[0, 2, 0]) == 1.5 * math.e
    torch.testing.assert_close(evaluate(moved.programs, x).value[0], y, rtol=1e-12, atol=0.0)
