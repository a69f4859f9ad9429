"""What `evaluate` takes and refuses, and tables from several results."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from emlinit.benchmarks.laws.run import LawOutcome
from emlinit.scripts.evaluate import main, parse

OUTCOME = LawOutcome("nguyen", 0.0, "nguyen-1", "operon", 0, True, True, True, True, 0.5, 9, 1.5, 2.0, 1.9, "x1**3")


def test_suites_bring_their_methods() -> None:
    assert parse([]).methods == ("learned", "random")
    laws = parse(["--suite", "nguyen,feynman", "--noise", "0,0.01"])
    assert laws.methods == ("emlinit",)
    assert laws.noise == (0.0, 0.01)
    assert "operon" in parse(["--suite", "nguyen", "--methods", "all"]).methods


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--suite", "nope"], "'nope' is neither one of paper"),
        (["--suite", "paper,nguyen"], "'paper,nguyen' is neither one of"),
        (["--suite", "nguyen", "--methods", "learned"], "unknown method 'learned': use all or some of emlinit"),
        (["--methods", "emlinit"], "unknown method 'emlinit': use all or some of random"),
        (["--suite", "nguyen", "--noise", "much"], "'much' is no list of numbers such as 0,0.01,0.1"),
    ],
)
def test_what_makes_no_sense_is_one_line(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parse(options)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error


def test_results_are_merged_into_one_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"outcomes": [asdict(OUTCOME)]}))
    (tmp_path / "b.jsonl").write_text(json.dumps(asdict(replace(OUTCOME, method="gplearn", exact=False))) + "\n")
    assert main(["--merge", f"{tmp_path / 'a.json'},{tmp_path / 'b.jsonl'}", "--each"]) == 0
    out = capsys.readouterr().out
    assert "| Operon (pyoperon) | 1/1 | 1/1 | 1/1 | 0.500000 | 1.50 | 2.0 | 1.9 |" in out
    assert "| gplearn | 0/1 | 1/1 |" in out
    assert "x1**3" in out
    assert main(["--merge", str(tmp_path / "none.json")]) == 2
    assert "error: " in capsys.readouterr().err


def test_nothing_is_left_where_nothing_was_searched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--suite", "nguyen", "--noise", "-1", "--out", str(tmp_path / "out")]) == 2
    assert "the noise is -1.0" in capsys.readouterr().err
    assert not list((tmp_path / "out").iterdir())
