"""Goals: each g is undone again, in numbers and in programs, and its weights are the slopes of its inverse."""

import pytest
import torch
from torch import Tensor

from emlinit.finetune.sparse.goals import TRANSFORMS, Transform, goals_for
from emlinit.generator.builder import Builder
from emlinit.generator.evaluate import evaluate
from emlinit.generator.formulas.compile_weighted import program_from_slot


def _points(n: int = 120, low: float = 0.4) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return low + 3.0 * torch.rand(n, 1, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_goals_are_inverted_again(sign: float) -> None:
    """Each g undoes what the law did, whatever the sign of y."""
    x = _points()[:, 0]
    for goal in goals_for(sign * (1.0 + x)):
        y = {"y": goal.value, "inverse": 1 / goal.value, "ln": goal.sign * goal.value.exp()}
        y |= {"square": goal.sign * goal.value.abs() ** 0.5, "root": goal.sign * goal.value**2}
        y |= {"inverse square": goal.sign * goal.value.abs() ** -0.5}
        y |= {"exp": goal.value.abs().log() + goal.shift, "sine": goal.value.clamp(-1, 1).asin()}
        assert torch.allclose(y[goal.transform.name], sign * (1.0 + x), rtol=1e-12), goal.transform.name


def test_weights_are_the_slopes_of_the_inverse() -> None:
    y = 0.3 + _points()[:, 0] / 3.0
    step = 1e-6
    up, down = goals_for(y + step), goals_for(y - step)
    goals = goals_for(y)
    assert {goal.transform.name for goal in goals} >= {
        "y",
        "inverse",
        "ln",
        "square",
        "inverse square",
        "root",
        "sine",
        "exp",
    }
    for goal, above, below in zip(goals, up, down, strict=True):
        if goal.transform.name != "exp":  # its shift moves with y
            assert torch.allclose(
                (above.value - below.value).abs() * goal.weight, torch.full_like(y, 2 * step), rtol=1e-5
            )


def test_goals_are_defined_on_all_targets() -> None:
    x = _points()[:, 0]
    mixed = x - 2.0
    assert {goal.transform.name for goal in goals_for(mixed)} == {"y", "inverse", "exp"}
    mixed[0] = 0.0
    assert {goal.transform.name for goal in goals_for(mixed)} == {"y", "exp"}
    for goal in goals_for(x * 1e200):
        assert bool(goal.value.isfinite().all())
    assert "exp" not in {goal.transform.name for goal in goals_for(100.0 * x)}


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("transform", TRANSFORMS, ids=lambda transform: transform.name)
def test_each_g_of_the_table_is_inverted_by_a_program(transform: Transform, sign: float) -> None:
    y = sign * (0.1 + _points()[:, 0] / 3.0)
    goals = [goal for goal in goals_for(y) if goal.transform is transform]
    assert [goal.rational for goal in goals] == ([False, True] if transform.quotients else [False])
    for goal in goals:
        # t is the only variable of a program that computes y from it.
        builder = Builder(1, [1] if bool((goal.value > 0).all()) else [])
        program = program_from_slot(builder.readout(goal.inverted(builder.variable(1), builder)), 1)
        value = evaluate(program, goal.value[:, None], rtol=None).value[0]
        torch.testing.assert_close(value, y, rtol=1e-9, atol=1e-12)
