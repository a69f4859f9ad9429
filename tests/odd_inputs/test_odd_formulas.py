"""`emlinit compile` ends soon on any text, with programs or with one line, and evaluates nothing as code."""

import time
from pathlib import Path

import pytest
from odd_inputs.odd_formulas import ODD_FORMULAS, ODD_VARIABLES, random_formulas

from emlinit.scripts import compile as compile_script

PATIENCE = 10.0
"""Seconds for one formula; nearly all take less than a tenth of one."""
LONGEST_LINE = 500


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _check(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> int:
    begin = time.monotonic()
    code = compile_script.main(arguments)
    said = capsys.readouterr()
    shown = [argument[:80] for argument in arguments]
    assert time.monotonic() - begin < PATIENCE, shown
    if code == 0:
        keys = [line.partition(":")[0] for line in said.out.splitlines()]
        assert keys == ["variables", "exact", "weighted"], shown
        assert said.err == "", shown
    else:
        (line,) = said.err.splitlines()
        assert (code, said.out) == (2, ""), shown
        assert line.startswith("error: "), shown
        assert len(line) < LONGEST_LINE, shown
    assert list(Path().iterdir()) == [], shown
    return code


def test_odd_formulas_end_with_programs_or_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    codes = [_check(["--", text], capsys) for text in ODD_FORMULAS]
    assert len(codes) > 150
    assert codes.count(0) > 40
    assert codes.count(2) > 100


@pytest.mark.parametrize("seed", range(4))
def test_random_formulas_end_with_programs_or_one_line(seed: int, capsys: pytest.CaptureFixture[str]) -> None:
    codes = [_check(["--", text], capsys) for text in random_formulas(seed, 150)]
    assert 0 < codes.count(0) < len(codes)


def test_odd_variables_end_with_programs_or_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    codes = [_check([f"--variables={names}", "--", "x + 1"], capsys) for names in ODD_VARIABLES]
    assert 0 < codes.count(0) < len(codes)
