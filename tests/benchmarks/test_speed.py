"""Rates are of what was done, after a repetition that does not count, and what a machine lacks is said."""

import os

import pytest
import torch

from emlinit.benchmarks.speed import Missing, SpeedConfig, Speeds, measurements, plain_values, real_programs
from emlinit.generator.evaluate import evaluate

TINY = SpeedConfig(programs=20, points=8, repeats=1, batch_size=4, pool_batches=2, d_model=40)


def test_the_rate_is_of_the_fastest_repetition() -> None:
    amounts = iter([1e12, 1.0, 3.0, 2.0])  # the first one is to warm up
    clock = Speeds(SpeedConfig(repeats=3), torch.device("cpu"))
    assert 3.0 < clock.fastest(lambda: next(amounts)) < 1e12


def test_the_plain_loop_computes_the_same() -> None:
    programs, x = real_programs(50, 16)
    assert len(programs) == 50
    result = evaluate(programs, x)
    assert bool(result.valid.all())
    torch.testing.assert_close(plain_values(programs, x), result.value, rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", [m.name for m in measurements() if "workers" not in m.name])
def test_every_part_can_be_measured(name: str) -> None:
    (measurement,) = (m for m in measurements() if m.name == name)
    assert measurement.rate(Speeds(TINY, torch.device("cpu"))) > 0


def test_workers_without_cores_are_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: {0})
    with pytest.raises(Missing, match="1 workers and the run want 2 cores, here are 1"):
        Speeds(TINY, torch.device("cpu")).stream_with_workers("exact")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", [m.name for m in measurements() if "workers" not in m.name])
def test_every_part_can_be_measured_on_a_gpu(name: str) -> None:
    (measurement,) = (m for m in measurements() if m.name == name)
    assert measurement.rate(Speeds(TINY, torch.device("cuda"))) > 0
