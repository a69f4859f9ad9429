"""What `evaluate` takes and refuses, and tables from several results."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from emlinit.benchmarks.laws.run import LawOutcome
from emlinit.scripts import cli
from emlinit.scripts.evaluate import main, parse

OUTCOME = LawOutcome("nguyen", 0.0, "nguyen-1", "operon", 0, True, True, True, True, 0.5, 9, 1.5, 2.0, 1.9, "x1**3")


def test_each_command_has_methods_of_its_own() -> None:
    trees, laws = parse(["trees"]), parse(["laws", "--suite", "nguyen,feynman", "--noise", "0,0.01"])
    assert (trees.command, laws.command) == ("trees", "laws")
    assert trees.suite == "paper"
    assert trees.methods == ("learned", "random")
    assert laws.suite == ("nguyen", "feynman")
    assert laws.methods == ("emlinit",)
    assert laws.noise == (0.0, 0.01)
    assert "operon" in parse(["laws", "--methods", "all"]).methods
    assert "meeting" in parse(["trees", "--methods", "all"]).methods


def test_options_are_those_of_the_command() -> None:
    """An option is an interface: removing or renaming one breaks other people's scripts."""
    shared = {"command", "suite", "limit", "methods", "seconds", "seeds", "jobs", "out"}
    assert set(vars(parse(["trees"]))) == shared | {"checkpoint"}
    assert set(vars(parse(["laws"]))) == shared | {"noise", "each", "merge"}
    assert set(vars(parse(["choice"]))) == {"command", "tables", "seed", "out"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["trees", "--suite", "nope"], "'nope' (choose from"),
        (["trees", "--suite", "paper,wide"], "'paper,wide' (choose from"),
        (["trees", "--noise", "0.1"], "unknown argument '--noise'"),
        (["laws", "--suite", "paper,nguyen"], "unknown suite 'paper': use all or some of nguyen"),
        (["laws", "--methods", "learned"], "unknown method 'learned': use all or some of emlinit"),
        (["laws", "--checkpoint", "builtin:exact"], "unknown argument '--checkpoint'"),
        (["trees", "--methods", "emlinit"], "unknown method 'emlinit': use all or some of random"),
        (["laws", "--suite", "nguyen", "--noise", "much"], "'much' is no list of numbers such as 0,0.01,0.1"),
        (["choice", "--tables", "0"], "--tables"),
        ([], "a command is missing: use 'trees' (which find"),
        (["tree"], "'tree' is no command: did you mean 'trees'?"),
        (["everything"], "'everything' is no command: use 'trees' (which find"),
    ],
)
def test_what_makes_no_sense_is_one_line(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert message in _refusal(options, capsys)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (["--suite", "paper", "--seeds", "5"], "evaluate.py trees --suite paper --seeds 5"),
        (["--suite=nguyen,gmeql"], "evaluate.py laws --suite=nguyen,gmeql"),
        (["--methods", "all"], "evaluate.py trees --methods all"),
        (["--merge", "results/a b.json"], "evaluate.py laws --merge 'results/a b.json'"),
    ],
)
def test_the_old_spelling_is_answered_with_the_new_one(
    old: list[str], new: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["scripts/evaluate.py"])
    assert _refusal(old, capsys) == f"error: trees and laws are two commands now: {new}\n"


def _refusal(options: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line with which a command line is refused."""
    with pytest.raises(SystemExit) as stop:
        parse(options)
    assert stop.value.code == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert shown.err.count("\n") == 1
    return shown.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--help"], ["evaluate COMMAND", "trees", "laws"]),
        (["trees", "--help"], ["evaluate trees", "wide ", "completion ", "--checkpoint"]),
        (["laws", "--help"], ["evaluate laws", "gmeql ", "no-network ", "--noise", "--merge"]),
    ],
)
def test_help_is_that_of_the_command(options: list[str], words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main(["evaluate", *options])
    shown = capsys.readouterr().out
    assert all(word in shown for word in words)


def test_trees_are_searched_for_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--suite", "identities", "--methods", "exhaustive", "--seconds", "20", "--out", str(tmp_path)]
    assert main(["trees", *arguments]) == 0
    assert "| exp(x1) (identities) | 1/1 |" in capsys.readouterr().out
    (path,) = tmp_path.iterdir()
    record = json.loads(path.read_text())
    assert (record["suite"], len(record["outcomes"])) == ("identities", 14)
    assert record["settings"]["methods"] == "('exhaustive',)"


def test_results_are_merged_into_one_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"outcomes": [asdict(OUTCOME)]}))
    (tmp_path / "b.jsonl").write_text(json.dumps(asdict(replace(OUTCOME, method="gplearn", exact=False))) + "\n")
    assert main(["laws", "--merge", f"{tmp_path / 'a.json'},{tmp_path / 'b.jsonl'}", "--each"]) == 0
    out = capsys.readouterr().out
    assert "| Operon (pyoperon) | 1/1 | 1/1 | 1/1 | 0.500000 | 1.50 | 2.0 | 1.9 |" in out
    assert "| gplearn | 0/1 | 1/1 |" in out
    assert "x1**3" in out
    assert main(["laws", "--merge", str(tmp_path / "none.json")]) == 2
    assert "error: " in capsys.readouterr().err


def test_nothing_is_left_where_nothing_was_searched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["laws", "--suite", "nguyen", "--noise", "-1", "--out", str(tmp_path / "out")]) == 2
    assert "the noise is -1.0" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
