"""Snapping: simple laws come back as simple laws, with noise too, and what the data contradict is left alone."""

import math
import time

import pytest
import torch

from emlinit.finetune.fitting.levenberg_marquardt import fit_constants
from emlinit.finetune.fitting.prices import free_cost, integer_cost
from emlinit.finetune.fitting.simple_values import simple_values
from emlinit.finetune.fitting.snapping import SnapConfig, likely_savings, snap
from emlinit.generator.evaluate import evaluate
from emlinit.generator.grammar import from_text, to_text
from emlinit.generator.program import Programs, programs_from_tokens, tokens_from_program
from emlinit.generator.tidy import drop_dead_nodes, fold_constants

CASES = {
    "decay": (
        "+ c:1.0 w:1.0 eml + c:0.3 w:-0.5 x1 1",
        lambda x: 2.5 * torch.exp(-0.7 * x) + 0.3,
        "+ c:0.3 w:2.5 eml w:-0.7 x1 1",
    ),
    "decay with idle terms": (
        "+ c:1.0 + w:0.5 x1 + w:1.0 eml w:-0.5 x1 1 j:0.2 eml w:-0.5 x1 1",
        lambda x: 2.5 * torch.exp(-0.7 * x) + 0.3,
        "+ c:0.3 w:2.5 eml w:-0.7 x1 1",
    ),
    "power": (
        "w:90.0 eml w:-1.4 eml 1 x1 1",
        lambda x: 3.1 * x**1.5,
        f"w:3.1 eml + c:{1.5 * math.e!r} w:-1.5 eml 1 x1 1",
    ),
    "sine": ("j:-1.0 eml j:1.4 x1 1", lambda x: 1.2 * torch.sin(1.5 * x), "j:-1.2 eml j:1.5 x1 1"),
    "turns": (
        "w:3 eml + c:0.1 j:6 x1 1",
        lambda x: 2 * torch.cos(2 * torch.pi * x),
        f"w:2.0 eml j:{2 * math.pi!r} x1 1",
    ),
    "logarithm": (
        "+ c:5.0 w:-1.0 eml 1 x1",
        lambda x: 1.7 * torch.log(x) + 0.4,
        f"+ c:{0.4 + 1.7 * math.e!r} w:-1.7 eml 1 x1",
    ),
}


def program(text: str) -> Programs:
    tokens, constants = from_text(text, 1)
    return programs_from_tokens(tokens[None], constants[None], 1)


def points(n: int = 80) -> torch.Tensor:
    return torch.linspace(0.5, 5.0, n, dtype=torch.float64)[:, None]


def assert_same_law(programs: Programs, expected: str) -> None:
    """The same tokens and, to a few roundings, the same constants."""
    tokens, constants = tokens_from_program(programs, 0)
    want_tokens, want_constants = from_text(expected, 1)
    assert torch.equal(tokens, want_tokens), f"{to_text(tokens, constants)} is not {expected}"
    torch.testing.assert_close(constants, want_constants, rtol=1e-14, atol=0.0)


@pytest.mark.parametrize("noise", [0.0, 0.0005])
@pytest.mark.parametrize("name", CASES)
def test_simple_laws_come_back(name: str, noise: float) -> None:
    text, law, expected = CASES[name]
    x = points()
    y = law(x[:, 0])
    y = y + noise * y.std() * torch.randn(80, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    fit = fit_constants(program(text), x, y)
    snapped = snap(fit.programs, x, y)
    assert_same_law(snapped.programs, expected)
    assert snapped.programs.n_free()[0] == 0
    assert snapped.mse[0] <= 1.5 * fit.mse[0] + (1e-10 * y.std()) ** 2


def test_no_round_begins_after_the_time_is_up() -> None:
    text, law, _ = CASES["decay"]
    tokens, constants = from_text(text)
    start = programs_from_tokens(tokens[None], constants[None], 1)
    x = torch.linspace(0.5, 4, 50, dtype=torch.float64)[:, None]
    y = law(x[:, 0])
    fitted = fit_constants(start, x, y).programs
    late = snap(fitted, x, y, config=SnapConfig(until=time.monotonic() - 1.0))
    assert int(late.programs.n_free()) > int(snap(fitted, x, y).programs.n_free()) == 0


def test_awkward_constants_stay_free() -> None:
    x = points()
    y = 2.4718293 * torch.exp(-0.7133781 * x[:, 0]) + 0.3
    fit = fit_constants(program("+ c:1.0 w:1.0 eml w:-0.5 x1 1"), x, y)
    snapped = snap(fit.programs, x, y)
    assert snapped.programs.n_free()[0] == 2
    assert snapped.programs.bias[0, -1, 0] == 0.3
    assert snapped.mse[0].sqrt() < 1e-10


@pytest.mark.parametrize(("constant", "noise"), [(1404.7, 2e-3), (57.03, 1e-2), (1404.7, 2e-4), (0.0794, 5e-3)])
def test_a_number_is_not_round_because_one_lies_within_the_error(constant: float, noise: float) -> None:
    x = points(25)
    generator = torch.Generator().manual_seed(0)
    y = constant / x[:, 0]
    y = y + noise * y.std() * torch.randn(25, generator=generator, dtype=torch.float64)
    fit = fit_constants(program(f"w:{0.9 * constant / math.exp(math.e)!r} eml w:1.0 eml 1 x1 1"), x, y)
    law = snap(fit.programs, x, y).programs
    assert law.n_free()[0] == 1
    torch.testing.assert_close(evaluate(law, x).value[0], y, rtol=0.0, atol=4 * noise * float(y.std()))
    slope = (evaluate(law, x).value[0][0] / evaluate(law, x).value[0][-1]).log() / (x[-1, 0] / x[0, 0]).log()
    torch.testing.assert_close(slope, torch.tensor(1.0, dtype=torch.float64), rtol=1e-12, atol=0.0)  # this one is


@pytest.mark.parametrize("constant", [0.8, 1.3, 12.0, 57.0, 365.25, 1405.0])
def test_what_noiseless_data_fix_is_a_round_number(constant: float) -> None:
    x = points(40)
    y = constant * torch.exp(-0.7 * x[:, 0])
    fit = fit_constants(program(f"w:{0.9 * constant!r} eml w:-0.6 x1 1"), x, y)
    assert_same_law(snap(fit.programs, x, y).programs, f"w:{constant!r} eml w:-0.7 x1 1")


def test_a_batch_snaps_like_its_programs() -> None:
    x = points()
    y = CASES["decay"][1](x[:, 0])
    starts = Programs.cat([program(CASES[name][0]) for name in ("decay", "sine", "decay with idle terms")])
    fit = fit_constants(starts, x, y)
    together = snap(fit.programs, x, y)
    for i in (0, 2):
        assert_same_law(together.programs[i], CASES["decay"][2])
    alone = snap(fit.programs[1], x, y)
    torch.testing.assert_close(together.mse[1], alone.mse[0], rtol=1e-6, atol=0.0)


def test_exact_programs_pass_through() -> None:
    x = points()
    one = program("eml eml 1 x1 1")
    snapped = snap(one, x, evaluate(one, x).value[0])
    assert to_text(*tokens_from_program(snapped.programs, 0)) == "eml eml 1 x1 1"


def test_folding_and_dropping_change_no_value() -> None:
    texts = [
        "+ w:2.0 eml 1 1 w:1.5 eml + w:0.5 eml 1 1 x1 eml 1 1",
        "eml eml 1 1 eml 1 x1",
        "+ c:0.5 w:0.0 eml x1 1",
    ]
    programs = Programs.cat([program(text) for text in texts])
    folded = fold_constants(programs)
    x = points(9)
    torch.testing.assert_close(evaluate(folded, x).value, evaluate(programs, x).value, rtol=1e-13, atol=1e-13)
    assert folded.n_nodes.tolist() == [1, 2, 1]
    assert folded.free_bias[0, -1, 0]  # the free factor of e is a free constant now
    silent = program("+ c:0.5 w:0.0 eml eml x1 1 1")
    unread = Programs(**{**vars(silent), "free_weight": torch.zeros_like(silent.free_weight)})
    assert drop_dead_nodes(unread).n_nodes.tolist() == [0]
    assert drop_dead_nodes(programs).n_nodes.tolist() == programs.n_nodes.tolist()


def test_simple_values_are_near_cheap_and_sorted() -> None:
    found = dict(simple_values(1.5001, 0.001))
    assert 1.5 in found
    assert math.pi / 2 in dict(simple_values(1.5708, 1e-4))
    assert list(dict(simple_values(3.0, 10.0)).values()) == sorted(dict(simple_values(3.0, 10.0)).values())
    assert set(dict(simple_values(7.3, math.inf))) == {0.0}
    assert dict(simple_values(2.0, 0.1))[2.0] < dict(simple_values(2.37, 0.001))[2.37]
    assert free_cost(2.0, 1e-12) > free_cost(2.0, 0.1) > free_cost(2.0, math.inf)


def test_integers_cost_what_the_universal_code_says() -> None:
    costs = [integer_cost(n) for n in range(1, 2000)]
    assert costs == sorted(costs)
    assert 0.6 < sum(math.exp(-cost) for cost in costs) < 1.0  # a code: no more than 1 in all, slowly reached
    assert all(cost > math.log(n) + 1.0 for n, cost in enumerate(costs, 1))


def test_what_will_snap_is_known_before_it_is_snapped() -> None:
    x = points()
    noise = 0.002 * torch.randn(len(x), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    savings = []
    for a, b in ((2.0, 3.0), (2.0, 2.7651), (2.0443, 2.7651)):
        y = a + b * x[:, 0] + noise
        fit = fit_constants(program("+ c:1.0 w:1.0 x1"), x, y)
        savings.append(float(likely_savings(fit.programs, x, y)))
        assert int(snap(fit.programs, x, y).programs.n_free()) == len(savings) - 1
    assert savings[0] > savings[1] > savings[2]
