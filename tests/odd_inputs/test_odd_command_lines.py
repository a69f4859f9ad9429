"""Odd command lines of every subcommand, each run as a process: one line on standard error, the documented exit code,
no traceback, nothing written.

All of them are refused before torch is loaded, or they would take minutes; those of `pretrain`, whose options are made
from its configuration, are few.
"""

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GOOD = "a,b,c\n1,2,3\n2,3,5\n3,5,8\n4,1,5\n"
LONG = "n" * 300  # longer than a name may be


@dataclass(frozen=True)
class Case:
    """A command line for the shell, where `emlinit` is a function, and what comes of it."""

    line: str
    message: str
    """In the one line, after `error: `."""
    code: int = 2
    silent: bool = False
    """Whether nobody can be told."""


CASES = [
    # No command, or none that is known.
    Case("emlinit", "a command is missing"),
    Case("emlinit ''", "'' is no command"),
    Case("emlinit $'so\\e[31mlve'", r"'so\x1b[31mlve' is no command: did you mean 'solve'?"),
    Case(f"emlinit {'x' * 10_000}", " ... "),
    Case("emlinit solve", "the following arguments are required: DATA.csv"),
    Case("emlinit compile", "the following arguments are required: FORMULA"),
    Case("emlinit evaluate", "a command is missing"),
    # The table.
    Case("emlinit solve ''", "'' is no path"),
    Case("emlinit solve gone.csv", "'gone.csv' does not exist"),
    Case("emlinit solve folder", "'folder' is a folder"),
    Case("emlinit solve data.csv/data.csv", "Not a directory"),
    Case(f"emlinit solve {LONG}", "File name too long"),
    Case("emlinit solve loop", "loop"),
    Case("emlinit solve $'\\xff.csv'", r"'\udcff.csv' does not exist"),
    # Values of options.
    *(
        Case(f"emlinit solve data.csv --seconds={value}", f"'{value}' is no positive number of seconds")
        for value in ("nan", "inf", "-1", "1e400", "0", "")
    ),
    *(
        Case(f"emlinit solve data.csv --seed={value}", f"'{value}' is no whole number")
        for value in ("-1", "1e3", "9" * 20, "")
    ),
    Case(f"emlinit solve data.csv --seed {'9' * 5_000}", "is no whole number"),
    Case("emlinit solve data.csv --seed", "expected one argument"),
    Case("emlinit solve data.csv --features ''", "no column is left"),
    Case("emlinit solve data.csv --features ,", "--features names ''"),
    Case("emlinit solve data.csv --target ''", "--target names ''"),
    Case(f"emlinit solve data.csv --target {'t' * 10_000}", "which is no column: the columns are a, b, c"),
    Case("emlinit solve data.csv --grammar ''", "--grammar"),
    Case("emlinit solve data.csv --device tpu", "--device"),
    Case("emlinit solve data.csv --taget c", "unknown argument '--taget': did you mean --target?"),
    Case("emlinit solve data.csv data.csv", "unknown argument 'data.csv'"),
    Case("emlinit solve data.csv ''", "unknown argument ''"),
    Case("emlinit make-corpus --programs 1e3", "--programs"),
    Case("emlinit make-corpus --grammar both", "--grammar"),
    Case("emlinit publish --push owner", "'owner' is not of the form OWNER/NAME"),
    Case("emlinit publish --endpoint ''", "'' is no address"),
    # Checkpoints.
    Case("emlinit solve data.csv --checkpoint local-dir:gone", "checkpoint folder 'gone' does not exist"),
    Case("emlinit solve data.csv --checkpoint local-dir:data.csv", "checkpoint folder 'data.csv' does not exist"),
    Case("emlinit solve data.csv --checkpoint local-dir:~nobody-here/x", "'~nobody-here/x' does not exist"),
    Case(f"emlinit publish --checkpoint local-dir:{LONG}", "does not exist"),
    # Places to write to.
    Case("emlinit solve data.csv --out ''", "'' is no path"),
    Case("emlinit solve data.csv --out data.csv", "is a file"),
    Case("emlinit solve data.csv --out data.csv/out", "lies below the file"),
    Case("emlinit solve data.csv --out /proc/out", "cannot be written"),
    Case(f"emlinit solve data.csv --out {LONG}", "File name too long"),
    Case(f"emlinit solve data.csv --out new/{LONG}", "File name too long"),
    Case("emlinit solve data.csv --out taken", "'law.py' in --out 'taken' is a folder"),
    Case("emlinit solve data.csv --out loop", "is a link"),
    Case("emlinit make-corpus --out data.csv", "'data.csv' is there already"),
    Case(f"emlinit make-corpus --out {LONG}", "File name too long"),
    Case("emlinit publish --out ''", "'' is no path"),
    # Streams.
    Case("emlinit solve data.csv >&-", "standard output is closed"),
    Case("emlinit solve gone.csv <&-", "'gone.csv' does not exist"),
    Case("emlinit solve gone.csv 2>&-", "", silent=True),
    Case("emlinit solve gone.csv >&- 2>&- <&-", "", silent=True),
    Case("emlinit solve gone.csv 2>/dev/full", "", silent=True),
    Case("emlinit solve --help >/dev/full", "No space left on device"),
    Case("emlinit make-corpus --help | true", "", code=141, silent=True),
    Case("emlinit publish --help | true", "", code=141, silent=True),
    Case("emlinit --help | true", "", code=141, silent=True),
]
SLOW_CASES = [
    Case(f"emlinit pretrain --out run --steps {'x' * 3_000}", "Error parsing --steps"),
    Case("emlinit pretrain --out run --stream.grammar $'\\e[2J'", r"invalid choice '\x1b[2J'"),
    Case("emlinit evaluate trees --seconds nan --out out", "'nan' is no positive number of seconds"),
    Case("emlinit evaluate laws --seeds 0 --out out", "'0' is no whole number from 1 on"),
    Case("emlinit evaluate laws --out data.csv", "is a file"),
    Case("emlinit compile x*y >/dev/full", "No space left on device"),
]


def run(case: Case, folder: Path, **extra: str) -> list[str]:
    """What is wrong with the answer to a command line."""
    script = f'emlinit() {{ "{sys.executable}" -m emlinit.scripts.cli "$@"; }}\n{case.line}\nexit ${{PIPESTATUS[0]}}'
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "LC_ALL": "C.UTF-8", **extra}
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, env=environment, capture_output=True, timeout=120, check=False
    )
    said = done.stderr.decode("utf-8", "backslashreplace")
    wrong = []
    if done.returncode != case.code:
        wrong.append(f"exit code {done.returncode}")
    if done.stdout:
        wrong.append(f"on standard output: {done.stdout[:200]!r}")
    if case.silent:
        if said:
            wrong.append("says something")
    elif not (said.startswith("error: ") and said.count("\n") == 1 and said.endswith("\n") and len(said) < 420):
        wrong.append("is not one short line")
    elif case.message not in said:
        wrong.append(f"does not say {case.message!r}")
    return [f"{case.line[:100]}: {problem}; it says {said[-600:]!r}" for problem in wrong]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data.csv").write_text(GOOD)
    (tmp_path / "folder").mkdir()
    (tmp_path / "taken" / "law.py").mkdir(parents=True)
    (tmp_path / "loop").symlink_to("loop")
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")
    }


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_odd_command_lines_are_answered_by_one_line(unbuffered: str, folder: Path) -> None:
    """Where output is not buffered, it is printing that fails, and not the end: cases of streams are run both ways."""
    before, cases = contents(folder), [case for case in CASES if not unbuffered or re.search("[<>|]", case.line)]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda case: run(case, folder, PYTHONUNBUFFERED=unbuffered), cases))
    assert [problem for problems in found for problem in problems] == []
    assert contents(folder) == before


def test_odd_command_lines_of_what_loads_torch_first(folder: Path) -> None:
    before = contents(folder)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda case: run(case, folder), SLOW_CASES))
    assert [problem for problems in found for problem in problems] == []
    assert contents(folder) == before


def test_a_parent_without_permission_is_one_line(folder: Path) -> None:
    (folder / "locked").mkdir()
    (folder / "locked").chmod(0)
    if os.access(folder / "locked", os.R_OK):
        pytest.skip("root may read and write everywhere")
    cases = [
        Case("emlinit solve locked/data.csv", "Permission denied"),
        Case("emlinit solve data.csv --out locked", "Permission denied"),
        Case("emlinit solve data.csv --out locked/out", "Permission denied"),
        Case("emlinit solve data.csv --checkpoint local-dir:locked/x", "does not exist"),
        Case("emlinit make-corpus --out locked/corpus", "Permission denied"),
    ]
    try:
        assert [problem for case in cases for problem in run(case, folder)] == []
    finally:
        (folder / "locked").chmod(0o700)
