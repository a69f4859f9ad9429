"""The installed command: its help names every subcommand and a wrong one gets a suggestion."""

import pytest

from emlinit.scripts import cli, solve


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(command in shown for command in ("solve", "pretrain", "evaluate", "publish"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "error: a command is missing: use one of solve, pretrain, make-corpus, evaluate, compile, publish"),
        (["slove"], "error: 'slove' is no command: did you mean 'solve'?"),
    ],
)
def test_a_wrong_command_is_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == 2
    assert capsys.readouterr().err.splitlines() == [message]


def test_subcommands_get_their_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["solve", "missing.csv"]) == 2
    assert capsys.readouterr().err == "error: 'missing.csv' does not exist: give the path of a CSV file\n"


def test_solve_keeps_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    """An option is an interface: removing or renaming one breaks other people's scripts."""
    with pytest.raises(SystemExit, match="0"):
        solve.main(["--help"])
    shown = capsys.readouterr().out
    options = {"target", "features", "grammar", "seconds", "checkpoint", "device", "seed", "out", "json"}
    assert {word for word in options if f"--{word}" in shown} == options
    told = " ".join(shown.split())
    assert all(f"(default: {default})" in told for default in ("auto", "20.0", "0", "the last one"))
