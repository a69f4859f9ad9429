"""What the stages of the weighted grammar share: fits on some rows, and where a law must have values."""

import time
from collections.abc import Generator
from typing import ClassVar

import torch

from emlinit.finetune.fitting.levenberg_marquardt import FitConfig
from emlinit.finetune.search.candidates import CandidatePool
from emlinit.finetune.search.stages import Candidates, Need, Task
from emlinit.finetune.search.weighted_stage import WeightedSearchConfig, WeightedStage
from emlinit.generator.grammar import from_text
from emlinit.generator.program import Programs, programs_from_tokens


class _Idle(WeightedStage):
    name: ClassVar[str] = "idle"
    needs: ClassVar[frozenset[Need]] = frozenset()

    def run(self, task: Task) -> Generator[Candidates]:
        yield from ()


def _program(text: str) -> Programs:
    tokens, constants = from_text(text, 1)
    return programs_from_tokens(tokens[None], constants[None], 1)


def _task(x: torch.Tensor, y: torch.Tensor, **options: float) -> Task:
    deadline = time.monotonic() + options.get("seconds", 60.0)
    return Task(x[:, None], y, CandidatePool(len(y)), deadline, torch.Generator().manual_seed(0))


def test_losses_are_relative_to_the_variance_and_fits_see_some_rows_only() -> None:
    x = torch.linspace(1.0, 3.0, 50, dtype=torch.float64)
    y = torch.where(torch.arange(50) < 40, 5.0 * x, 7.0 * x)
    task = _task(x, y)
    whole = _Idle(WeightedSearchConfig()).fit(task, _program("w:1.0 x1"), 50, FitConfig())
    residual = y - float((x @ y) / (x @ x)) * x
    torch.testing.assert_close(whole.loss, (residual.square().mean() / y.var(correction=0))[None])
    rows = task.shuffled[:7]
    part = _Idle(WeightedSearchConfig()).fit(task, _program("w:1.0 x1"), 7, FitConfig())
    expected = (x[rows] @ y[rows]) / (x[rows] @ x[rows])
    torch.testing.assert_close(part.programs.weight[0, -1, 0, 0], expected)


def test_a_law_may_lack_a_value_at_one_row_of_many() -> None:
    x = torch.linspace(0.1, 3.0, 32, dtype=torch.float64)
    log = _program("+ c:1.0 w:-1.0 eml 1 x1")
    for n_missing, finite in ((1, True), (6, False)):
        points = x.clone()
        points[:n_missing] = 0.0  # ln 0
        task = _task(points, points.clamp_min(0.05).log())
        found = _Idle(WeightedSearchConfig()).fit(task, log, 32, FitConfig(steps=2))
        assert bool(found.loss.isfinite()) == finite


def test_it_is_done_when_a_law_is_there_or_a_sum_fits_beyond_doubt_or_time_is_up() -> None:
    x = torch.linspace(1.0, 3.0, 50, dtype=torch.float64)
    stage = _Idle(WeightedSearchConfig())
    assert not stage.done(_task(x, x))
    assert stage.done(_task(x, x, seconds=-1.0))
    task = _task(x, x)
    task.pool.add(_program("w:1.0 x1"), torch.tensor([1e-22], dtype=torch.float64))
    assert stage.done(task)  # so few constants, so many digits
    task = _task(x, x)
    long = _program(" ".join(f"+ w:0.{i} eml w:0.{i} x1 1" for i in range(1, 9)) + " c:1.0")
    task.pool.add(long, torch.tensor([1e-22], dtype=torch.float64))
    assert not stage.done(task)
    task.pool.add(long, torch.tensor([1e-28], dtype=torch.float64))
    assert stage.done(task)
