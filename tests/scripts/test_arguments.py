"""Arguments of several scripts: each kind is refused in one line that says what it should be."""

import argparse
from collections.abc import Callable
from pathlib import Path

import pytest

from emlinit.scripts.arguments import (
    Parser,
    checkpoint_argument,
    count_argument,
    operators_argument,
    path_argument,
    seconds_argument,
    seed_argument,
)


@pytest.mark.parametrize(
    ("kind", "texts"),
    [
        (seconds_argument, ["nan", "inf", "-1", "1e400", "0", "", "1s", "1_0e999"]),
        (seed_argument, ["-1", "1e3", "9" * 20, "9" * 5_000, "", "1.0", "٣", str(2**63)]),
        (count_argument, ["0", "-1", "1e3", "9" * 5_000, "", "٣"]),
        (path_argument, ["", "a\0b"]),
        (operators_argument, ["", ",", "sine", "+;*", "\0"]),
        (
            checkpoint_argument,
            ["local-dir:gone", "local-dir:~nobody-here/x", f"local-dir:{'n' * 300}", "local-dir:a\0b"],
        ),
    ],
)
def test_what_is_none_is_refused(kind: Callable[[str], object], texts: list[str]) -> None:
    for text in texts:
        with pytest.raises(argparse.ArgumentTypeError):
            kind(text)


def test_what_is_one_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (seconds_argument("0.5"), seed_argument("007"), seed_argument(str(2**63 - 1))) == (0.5, 7, 2**63 - 1)
    assert operators_argument("exp, +,-,log") == ("+", "exp", "ln")
    assert (count_argument("12"), path_argument("a b")) == (12, Path("a b"))
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "weights").mkdir()
    for source in ("local-dir:~/weights", f"local-dir:{tmp_path}", "builtin:exact", "hf-hub:owner/name@1", "other"):
        assert checkpoint_argument(source) == source


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("--taget", "unknown argument '--taget': did you mean --target?"),
        ("--taget=3", "unknown argument '--taget=3': did you mean --target?"),
        ("--quite", "unknown argument '--quite': the options are --help, --target"),
        ("", "unknown argument '': the options are"),
        ("\x1b[2J", r"unknown argument '\x1b[2J'"),
    ],
)
def test_an_unknown_argument_is_answered_with_the_known_ones(
    word: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = Parser("A command.")
    parser.add_argument("--target")
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args([word])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {message}")
