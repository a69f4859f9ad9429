"""The documented smoke test of pretraining runs as it is written, and what cannot be trained on is one line."""

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from emlinit.generator.errors import UserError
from emlinit.model.sizes import MODEL_SIZES
from emlinit.scripts import pretrain

ROOT = Path(__file__).resolve().parents[2]


def _smoke_test() -> list[str]:
    """The command under "A smoke test" in the docstring."""
    text = str(pretrain.__doc__).partition("A smoke test")[2]
    found = re.search(r"python scripts/pretrain\.py ((?:.*\\\n)*.*)", text)
    assert found is not None
    return shlex.split(found[1].replace("\\\n", " "))


@pytest.mark.parametrize("grammar", ["exact", "weighted"])
def test_the_documented_smoke_test_runs(grammar: str, tmp_path: Path) -> None:
    arguments = [*_smoke_test(), "--stream.grammar", grammar, "--device", "cpu"]
    assert "--steps" in arguments
    command = [sys.executable, str(ROOT / "scripts" / "pretrain.py"), *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["held_out_loss"] > 0
    lines = (tmp_path / "runs" / "smoke" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["step"] == 20
    assert (tmp_path / "runs" / "smoke" / "export" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("batch-size", "0", "--stream.batch-size should be from 1 to 1048576, not 0"),
        ("max-tokens", "2", "--stream.max-tokens should be from 3 to 4096, not 2"),
        ("min-points", "97", "--stream.min-points should be from 2 to 96, not 97"),
        ("one-share", "1", "--stream.one-share should be from 0 to 0.99, not 1.0"),
        ("depth-growth", "0", "--stream.depth-growth should be from 0.01 to 100, not 0.0"),
        ("largest-y", "nan", "--stream.largest-y should be at least 1, not nan"),
        ("most-noise", "inf", "--stream.most-noise should be from 0 to 1000000.0, not inf"),
    ],
)
def test_a_corpus_without_examples_is_refused_before_any_work(
    option: str, value: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert pretrain.main(["--out", str(out), "--steps", "1", f"--stream.{option}", value]) == 2
    assert capsys.readouterr().err == f"error: {message}\n"
    assert not out.exists()


def test_a_size_is_where_the_options_of_the_architecture_begin() -> None:
    assert pretrain.parse(["--steps", "1"]).model == MODEL_SIZES["small"]
    given = pretrain.parse(["--steps", "1", "--model-size", "base", "--model.n-latents", "16"])
    assert given.model == replace(MODEL_SIZES["base"], n_latents=16)
    assert given.stream.max_points == 256
    fewer = pretrain.parse(["--steps", "1", "--model_size=large", "--stream.max-points", "100"])
    assert (fewer.model, fewer.stream.max_points) == (MODEL_SIZES["large"], 100)
    with pytest.raises(UserError, match=r"invalid choice 'huge' for argument '--model-size'"):
        pretrain.parse(["--steps", "1", "--model-size", "huge"])


def _started(workers: int, folder: Path) -> subprocess.Popen[str]:
    """A run of some minutes in a process group of its own."""
    arguments = [*_smoke_test(), "--minutes", "3", "--steps", "1000000", "--log-seconds", "0.1", "--device", "cpu"]
    arguments += ["--stream.workers", str(workers), "--stream.max-points", "16"]
    return subprocess.Popen(
        [sys.executable, str(ROOT / "scripts" / "pretrain.py"), *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _end(run: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(run.pid, signal.SIGKILL)  # workers that are left hold the pipes open, and reading would never end
    run.communicate(timeout=60)


@pytest.fixture
def run_with_workers(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A run with two workers that has made its first steps."""
    run = _started(2, tmp_path)
    metrics = tmp_path / "runs" / "smoke" / "metrics.jsonl"
    deadline = time.monotonic() + 100
    while not (metrics.exists() and metrics.stat().st_size) and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    yield run
    _end(run)


def _workers(parent: int) -> list[int]:
    """Processes that a process has spawned to draw programs."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def _group_is_gone(group: int) -> bool:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


needs_proc = pytest.mark.skipif(
    not Path(f"/proc/self/task/{os.getpid()}/children").exists(), reason="no /proc to find the workers in"
)


@needs_proc
@pytest.mark.parametrize("how", ["a worker is killed", "Ctrl-C", "the run is killed"])
def test_how_workers_end(how: str, run_with_workers: subprocess.Popen[str]) -> None:
    run = run_with_workers
    workers = _workers(run.pid)
    assert len(workers) == 2
    if how == "a worker is killed":
        os.kill(workers[0], signal.SIGKILL)
        said = run.communicate(timeout=60)[1]
        assert run.returncode == 2
        assert re.fullmatch(r"error: a process that draws programs \(--stream\.workers\) was killed, .*\n", said), said
    elif how == "Ctrl-C":
        os.killpg(run.pid, signal.SIGINT)  # as a terminal does: all processes of the group get it
        printed, said = run.communicate(timeout=60)
        assert (run.returncode, said) == (0, "")
        assert json.loads(printed)["held_out_loss"] > 0
    else:
        os.kill(run.pid, signal.SIGKILL)
        run.communicate(timeout=60)
    assert _group_is_gone(run.pid)


@needs_proc
@pytest.mark.parametrize("delay", [0.0, 0.5, 2.0])
def test_workers_that_are_being_started_end_with_a_run_that_is_killed(delay: float, tmp_path: Path) -> None:
    run = _started(2, tmp_path)
    try:
        deadline = time.monotonic() + 100
        while run.poll() is None and not _workers(run.pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(delay)  # the first loads torch meanwhile, the second is begun
        assert run.poll() is None
        run.kill()
        run.wait(timeout=60)
        assert _group_is_gone(run.pid)
    finally:
        _end(run)
