"""Runs keep their order in one process and in several; what is written is dated, whole, and overwrites nothing."""

import json
import multiprocessing
import operator
import os
import signal
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from emlinit.benchmarks.runner import open_lines, run_all, write_results
from emlinit.benchmarks.trees.run import TreeOutcome
from emlinit.generator.errors import UserError


@pytest.mark.parametrize("jobs", [1, 2])
def test_outcomes_come_in_the_order_of_the_runs(jobs: int) -> None:
    seen: list[int] = []
    outcomes = run_all(range(5), operator.mul, partial(int, 7), jobs=jobs, progress=seen.append)
    assert outcomes == [0, 7, 14, 21, 28]
    assert sorted(seen) == outcomes


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_failure_is_not_swallowed(jobs: int) -> None:
    seen: list[float] = []
    with pytest.raises(ZeroDivisionError):
        run_all([3, 2, 1], operator.floordiv, int, jobs=jobs, progress=seen.append)
    assert not seen


def _sleep(_run: int, _needs: int) -> None:
    time.sleep(60)


def test_an_interruption_waits_for_no_search() -> None:
    begin, interrupt = time.monotonic(), threading.Timer(3.0, os.kill, (os.getpid(), signal.SIGINT))
    interrupt.start()
    with pytest.raises(KeyboardInterrupt):
        run_all(range(4), _sleep, int, jobs=2)
    assert time.monotonic() - begin < 30
    assert multiprocessing.active_children() == []


def test_results_are_written_whole(tmp_path: Path) -> None:
    folder = tmp_path / "results"
    outcome = TreeOutcome("p", "g", "random", 0, False, 1.5, None)
    path = write_results(folder, "paper", [outcome], {"seconds": "10"})
    assert path.name.startswith("paper-")
    assert '"loss": null' in path.read_text()
    record = json.loads(path.read_text())
    assert list(record) == ["suite", "date", "settings", "machine", "outcomes"]
    assert [p.name for p in folder.iterdir()] == [path.name]


def test_files_of_lines_do_not_overwrite_each_other(tmp_path: Path) -> None:
    names = set()
    for _ in range(3):
        with open_lines(tmp_path / "new", "laws") as lines:
            names.add(lines.name)
            lines.write("{}\n")
    assert len(names) == len(list((tmp_path / "new").iterdir())) == 3
    with pytest.raises(UserError), open_lines(tmp_path / "empty", "laws"):
        raise UserError("nothing was searched")
    assert not (tmp_path / "empty").exists()
