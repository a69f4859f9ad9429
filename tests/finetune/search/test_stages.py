"""What a search is about: its rows in an order of their own, its time, and what it has for stages."""

import time

import torch

from emlinit.finetune.search.candidates import CandidatePool
from emlinit.finetune.search.stages import Task


def _task(deadline: float = 60.0) -> Task:
    x = torch.linspace(0.5, 2.0, 20, dtype=torch.float64)[:, None]
    generator = torch.Generator().manual_seed(3)
    return Task(x, x[:, 0].sin(), CandidatePool(20), time.monotonic() + deadline, generator)


def test_the_shuffled_rows_are_one_draw_of_the_generator() -> None:
    task = _task()
    first = task.shuffled
    assert torch.equal(first, torch.randperm(20, generator=torch.Generator().manual_seed(3)))
    assert torch.equal(task.shuffled, first)


def test_time_runs_out() -> None:
    assert 59.0 < _task().seconds_left <= 60.0
    assert not _task().time_is_up
    assert _task(-1.0).time_is_up
    assert _task(-1.0).seconds_left == 0.0
    assert _task().has == frozenset()
