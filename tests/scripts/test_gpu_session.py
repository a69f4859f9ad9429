"""A session of minutes on a GPU, in seconds on the CPU: all of its parts, small files, and a second one that goes on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from emlinit.model import EMLInitialiser
from emlinit.model.pretraining.metrics import read_lines

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "gpu_session.sh"
GRAMMARS = ("exact", "weighted")
LARGEST_FILE = 15_000_000
TINY = (
    "--model.d-model 32 --model.n-heads 2 --stream.batch-size 16 --stream.pool-batches 2 --stream.max-points 16 "
    "--held-out-batches 1 --device cpu"
)


def _session(*arguments: object, steps: int = 10, parts: str = "tests bench train") -> subprocess.CompletedProcess[str]:
    settings = {
        "PYTHON": sys.executable,
        "OMP_NUM_THREADS": "1",
        "SESSION_PARTS": parts,
        "SESSION_TESTS": "-n0 -p no:cacheprovider tests/model/test_attention.py",
        "SESSION_BENCH": "--only evaluator --programs 20 --points 8 --repeats 1",
        "SESSION_TRAIN": f"--steps {steps} {TINY}",
        "SESSION_MARGIN": "20",
    }
    return subprocess.run(
        ["bash", str(SCRIPT), *map(str, arguments)],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )


@pytest.mark.slow
def test_a_session_leaves_all_in_small_files_and_another_goes_on(tmp_path: Path) -> None:
    done = _session(240, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    out = tmp_path / "out"
    assert "node-points" in (out / "bench.txt").read_text()
    assert "deselected" in (out / "tests.txt").read_text()
    for grammar in GRAMMARS:
        assert [line["step"] for line in read_lines(out / grammar)][-1] == 10
        assert EMLInitialiser.load(f"local-dir:{out / grammar / 'export'}").config.grammar == grammar
        assert (out / grammar / "export" / "model.safetensors.index.json").is_file()
    files = {path: path.stat().st_size for path in out.rglob("*") if path.is_file()}
    assert max(files.values()) <= LARGEST_FILE
    assert not list(out.glob("*/state*.safetensors"))

    done = _session(120, out, steps=15, parts="train")
    assert done.returncode == 0, done.stderr
    for grammar in GRAMMARS:
        steps = [line["step"] for line in read_lines(out / grammar)]
        assert steps == [15, 15]  # what was cooled down, from step 9 on, is done over
        assert json.loads((out / grammar / "last.json").read_text())["held_out_loss"] > 0
    (out / "exact" / "state.part-000").unlink()
    (out / "exact" / "state.part-001").write_bytes(b"half")
    done = _session(120, out, parts="train")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: the pieces ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["600"], ["ten", "out"], ["0", "out"], ["600", ""], ["600", "out", "more"]])
def test_wrong_arguments_are_one_line(arguments: list[str], tmp_path: Path) -> None:
    done = _session(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: usage: scripts/gpu_session.sh SECONDS OUT")
    assert done.stderr.count("\n") == 1


def test_a_session_without_time_to_train_says_so(tmp_path: Path) -> None:
    done = _session(19, tmp_path / "out", parts="train")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "failed: training (no time was left)\n"
