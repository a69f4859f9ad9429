"""Every bad input of `solve.py`, run as a process: code 2, one line `error: ...`, no traceback, nothing written."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "solve.py"
GOOD = "a,b,c\n1,2,3\n2,3,5\n3,5,8\n4,1,5\n"


def solve(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


def assert_refused(folder: Path, message: str, *arguments: str) -> None:
    """Run in `folder` with every output asked for; `message` must be in the one line."""
    before = files(folder)
    done = solve(folder, *arguments, "--out", "results")
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    assert message in lines[0]
    assert files(folder) == before


TABLES = {
    "empty": (b"", "is empty"),
    "header only": (b"a,b,c\n", "header and no rows"),
    "one row": (b"a,b\n1,2\n", "has 1 row of numbers, at least 3 are needed"),
    "two rows": (b"1,2\n2,3\n", "has 2 rows of numbers, at least 3 are needed"),
    "two usable rows": (b"a,b\n1,2\n2,\nnan,4\n5,6\n", "has 2 rows of numbers (2 dropped"),
    "all rows NaN or infinite": (b"a,b\n1,nan\ninf,2\n,\n", "no row in which every used column is a finite number"),
    "text in a numeric column": (b"a,b\n1,2\n2,two\n3,4\n", "column 'b' holds text where a number is needed ('two'"),
    "duplicate column names": (b"a,b,a\n1,2,3\n2,3,4\n3,4,5\n", "more than one column named 'a'"),
    "only constant features": (b"a,b\n5,1\n5,2\n5,3\n", "no feature varies ('a' is 5.0 in every row)"),
    "one column": (b"a\n1\n2\n3\n", "no comma, semicolon, tab or blank"),
    "ragged": (b"a,b\n1,2\n2,3,4\n3,4\n", "line 3"),
    "an image": (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "is not a text file"),
    "prose": (b"It was a dark\nand stormy night\n", "is not a CSV table"),
    "code in a cell": (b"a,b\n1,2\n2,__import__('os').mkdir('x')\n3,4\n", "column 'b' holds text"),
    "code in a column name": (b"__import__('os').mkdir('x');b\n1;q\n", "column 'b' holds text"),
}


@pytest.mark.parametrize("name", TABLES)
def test_bad_table(name: str, tmp_path: Path) -> None:
    content, message = TABLES[name]
    (tmp_path / "data.csv").write_bytes(content)
    assert_refused(tmp_path, message, "data.csv")


def test_missing_file(tmp_path: Path) -> None:
    assert_refused(tmp_path, "'nowhere.csv' does not exist", "nowhere.csv")


def test_folder_instead_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    assert_refused(tmp_path, "'folder' is a folder", "folder")


def test_file_that_the_system_refuses(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text(GOOD)
    assert_refused(tmp_path, "cannot be read (Not a directory)", "data.csv/inner.csv")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text(GOOD)
    (tmp_path / "data.csv").chmod(0)
    done = solve(tmp_path, "data.csv")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "cannot be read" in done.stderr


ARGUMENTS = {
    "unknown target": (["--target", "C"], "--target names 'C', which is no column: did you mean 'c'?"),
    "unknown feature": (["--features", "a,q"], "--features names 'q', which is no column"),
    "target as a feature": (["--features", "a,c"], "column 'c' is the target"),
    "marks with odd quotes": (["--missing", '"1'], "--missing cannot be read"),
    "a mark for a missing option": (["--missing", "--json"], "expected one argument"),
    "unknown grammar": (["--grammar", "both"], "--grammar"),
    "no time": (["--seconds", "0"], "'0' is no positive number of seconds"),
    "negative seed": (["--seed", "-1"], "--seed"),
    "unknown option": (["--target-column", "c"], "unknown argument '--target-column': did you mean --target?"),
    "missing checkpoint folder": (["--checkpoint", "local-dir:gone"], "'gone' does not exist"),
}


GROUPED = "m,x,y\ncu,1,2\ncu,2,3\nfe,1,5\nfe,2,9\nfe,3,11\n"
GROUP_ARGUMENTS: dict[str, tuple[str, list[str], str]] = {
    "no such column": (GROUPED, ["--group", "M"], "--group names 'M', which is no column: did you mean 'm'?"),
    "the target": (
        GROUPED,
        ["--group", "y", "--target", "y"],
        "column 'y' is the target and cannot name the groups too",
    ),
    "a feature": (
        GROUPED,
        ["--group", "m", "--features", "m,x"],
        "column 'm' names the groups and cannot be a feature",
    ),
    "one group": (GROUPED.replace("cu", "fe"), ["--group", "m"], "the groups of column 'm' must be two or more"),
    "one row": (GROUPED + "al,1,2\nfe,4,5\n", ["--group", "m"], "column 'm' have only one row of 'al'"),
    "too many": (GROUPED, ["--group", "x"], "column 'm' holds text where a number is needed"),
    "of one row each": ("g,x,y\n1,1,2\n2,2,3\n3,3,5\n1,4,5\n", ["--group", "g"], "are 3 in 4 rows, more than half"),
    "exact": (GROUPED, ["--group", "m", "--grammar", "exact"], "--grammar exact has no constants"),
    "plot": (GROUPED, ["--group", "m", "--plot"], "--plot draws no groups"),
}


@pytest.mark.parametrize("name", GROUP_ARGUMENTS)
def test_bad_groups(name: str, tmp_path: Path) -> None:
    content, arguments, message = GROUP_ARGUMENTS[name]
    (tmp_path / "data.csv").write_text(content)
    assert_refused(tmp_path, message, "data.csv", *arguments)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_bad_argument(name: str, tmp_path: Path) -> None:
    arguments, message = ARGUMENTS[name]
    (tmp_path / "data.csv").write_text(GOOD)
    assert_refused(tmp_path, message, "data.csv", *arguments)


def test_output_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text(GOOD)
    (tmp_path / "taken").write_text("mine")
    before = files(tmp_path)
    done = solve(tmp_path, "data.csv", "--out", "taken")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: --out 'taken' is a file")
    assert files(tmp_path) == before


def _truncate(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])


def _other_width(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["architecture"]["d_model"] *= 2
    (folder / "config.json").write_text(json.dumps(config))


def _foreign(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "hidden_size": 768}))


def _no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def _broken_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


CHECKPOINTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "truncated": (_truncate, "truncated"),
    "of another architecture": (_other_width, "architecture"),
    "foreign": (_foreign, "checkpoint"),
    "without weights": (_no_weights, "model.safetensors"),
    "with a broken configuration": (_broken_config, "config.json"),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_bad_checkpoint(name: str, tmp_path: Path) -> None:
    from emlinit.model.initialiser import EMLInitialiser, InitialiserConfig

    damage, message = CHECKPOINTS[name]
    (tmp_path / "data.csv").write_text(GOOD)
    checkpoint = tmp_path / "checkpoint"
    tiny = InitialiserConfig(d_model=16, n_heads=2, n_inducing=4, n_latents=4, n_decoder_layers=1, max_tokens=16)
    EMLInitialiser(tiny).save(checkpoint)
    damage(checkpoint)
    assert_refused(tmp_path, message, "data.csv", "--grammar", "exact", "--checkpoint", "local-dir:checkpoint")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("builtin:nonsense", "builtin:nonsense"),
        ("exact", "expected builtin:exact"),
        ("hf-hub:owner/name", "hf-hub"),
    ],
)
def test_unknown_checkpoint(source: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text(GOOD)
    assert_refused(tmp_path, message, "data.csv", "--checkpoint", source)
