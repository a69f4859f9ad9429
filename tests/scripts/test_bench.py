"""The bench prints one table or one JSON object, and says what it could not measure."""

import json

import pytest
import torch

from emlinit.benchmarks import speed
from emlinit.scripts import bench

TINY = ["--device", "cpu", "--programs", "20", "--points", "8", "--repeats", "1", "--batch-size", "4"]
TINY += ["--pool-batches", "2", "--d-model", "40"]


def test_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main([*TINY, "--only", "evaluator", "stream", "--workers", "4096"]) == 0
    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading.split() == ["a", "second", "CPU"]
    assert [line[:30].strip() for line in lines] == [
        m.name for m in speed.measurements() if m.name.startswith(("evaluator", "stream"))
    ]
    assert all("node-points" in line for line in lines[:3])
    assert [line.split("(")[-1][:29] for line in lines[-2:]] == ["skipped: 4096 workers and the"] * 2


def test_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main([*TINY, "--only", "gumbel-hard", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["torch"], said["devices"], said["programs"]) == (torch.__version__, ["CPU"], 20)
    (line,) = said["measurements"]
    assert (line["name"], line["unit"]) == ("gumbel-hard", "steps x restarts")
    assert line["cpu"] > 0


def test_what_fails_is_said_and_the_others_are_measured(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_self: speed.Speeds) -> float:
        raise RuntimeError("no kernel\nfor this")

    monkeypatch.setattr(speed.Speeds, "finite", broken)
    assert bench.main([*TINY, "--only", "evaluator"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].endswith("node-points (failed: no kernel for this)")
    assert lines[3].startswith("evaluator, plain gather loop")


def test_a_gpu_that_is_not_there(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert bench.main(["--device", "cuda"]) == 2
    assert capsys.readouterr().err == "error: no CUDA device is available here: use --device cpu or auto\n"
