"""The command that makes the suites of hard formulas, with searches that take no time."""

from pathlib import Path

import pytest

from emlinit.benchmarks.laws import hard
from emlinit.benchmarks.laws.hard import Tried
from emlinit.generator.corpus.frozen import load_formula_problems
from emlinit.scripts.make_hard import main


@pytest.fixture(autouse=True)
def _no_search(monkeypatch: pytest.MonkeyPatch) -> None:
    def tried(one: hard._Try, needs: object) -> Tried:
        return Tried(one.number, one.number == 1, one.seconds)

    monkeypatch.setattr(hard, "_load", dict)
    monkeypatch.setattr(hard, "_tried", tried)
    monkeypatch.setattr(hard, "N_HARD", 3)
    monkeypatch.setattr(hard, "N_ASIDE", 1)


def test_it_writes_both_sets_and_never_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "hard"
    assert main(["--out", str(out), "--draws", "6"]) == 0
    assert "5 of 6 were not found" in capsys.readouterr().err
    sets = [load_formula_problems(out / name) for name in ("formulas_hard.parquet", "formulas_hard_aside.parquet")]
    assert [len(problems) for problems in sets] == [3, 1]
    before = (out / "formulas_hard.parquet").read_bytes()
    assert main(["--out", str(out), "--draws", "6"]) == 2
    assert "is frozen" in capsys.readouterr().err
    assert (out / "formulas_hard.parquet").read_bytes() == before


def test_too_few_misses_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--out", str(tmp_path), "--draws", "3"]) == 2
    assert "2 of 3 were missed, 4 are needed: try more" in capsys.readouterr().err
