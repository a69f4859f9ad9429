"""The documented smoke test of pretraining runs as it is written, and what cannot be trained on is one line."""

import json
import re
import shlex
import subprocess
import sys
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
