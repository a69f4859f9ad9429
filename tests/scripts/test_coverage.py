"""The coverage report as a command."""

import pytest

from emlinit.scripts.coverage import main


def test_it_prints_a_line_for_every_law(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--suites", "measured", "--draws", "20"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("20 random formulas, seed 1")
    assert "| measured | 12 |" in out
    assert "| hubble | 500 x1 | 0 | 1 | 2 |" in out


def test_it_prints_a_line_for_every_depth_of_trees(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--trees", "20"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("20 random trees of each depth, seed 1")
    assert "| 2 | 100.0 | 0.0 | 0.0 | 100.0 | 0.0 |" in out
    assert "| 8 | " in out


def test_wrong_arguments_are_one_line_and_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--draws", "0"])
    assert capsys.readouterr().err == "error: argument --draws: '0' is no whole number from 1 on\n"
