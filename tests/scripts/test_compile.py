"""The theorem on the command line: a formula becomes a tree that says the same."""

import pytest
import torch

from emlinit.generator.evaluate import evaluate
from emlinit.generator.grammar import from_text
from emlinit.generator.program import programs_from_tokens
from emlinit.scripts import compile as compile_script


def _printed(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    lines = capsys.readouterr().out.splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def test_both_grammars_say_the_formula(capsys: pytest.CaptureFixture[str]) -> None:
    assert compile_script.main(["u*t", "--variables", "u,t"]) == 0
    printed = _printed(capsys)
    assert printed["variables"] == "x1 = u, x2 = t"
    x = 0.5 + torch.rand(50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for grammar in ("exact", "weighted"):
        text, _, size = printed[grammar].partition("  (")
        tokens, constants = from_text(text, 2)
        value = evaluate(programs_from_tokens(tokens[None], constants[None], 2), x).value[0]
        torch.testing.assert_close(value, x[:, 0] * x[:, 1])
        assert size == f"{text.split().count('eml')} nodes, depth {8 if grammar == 'exact' else size.split()[-1][:-1]})"


def test_a_grammar_that_cannot_say_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert compile_script.main(["2.5*exp(-0.7*x)"]) == 0
    printed = _printed(capsys)
    assert printed["exact"].startswith("none (")
    assert printed["weighted"].endswith("node, depth 1)")


def test_variables_are_the_names_that_the_formula_is_read_with(capsys: pytest.CaptureFixture[str]) -> None:
    """Python reads an identifier in its NFKC form: the ligature below is the two letters fi."""
    assert compile_script.main(["\ufb01 + x", "--variables", "x,\ufb01"]) == 0
    assert _printed(capsys)["variables"] == "x1 = x, x2 = fi"


def test_a_tree_that_would_be_endless_is_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert compile_script.main(["sin(" * 40 + "x" + ")" * 40]) == 0
    assert _printed(capsys)["weighted"].endswith("it is longer than 20000 tokens)")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x +"], "is not a formula"),
        (["2 + 3"], "has no variable"),
        (["foo(x)"], "unknown function 'foo'"),
        (["x*y", "--variables", "x"], "unknown name 'y'"),
        (["x", "--variables", ""], "--variables should be names with commas between them, such as x,y: '' is no name"),
        (["x", "--variables", "x,"], "'' is no name"),
        (["x", "--variables", "x,1"], "'1' is no name"),
        (["x", "--variables", "x,lambda"], "'lambda' is no name"),
        (["x", "--variables", "x,y,x"], "--variables should be all different: 'x' is there twice"),
    ],
)
def test_what_is_no_formula_is_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert compile_script.main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert message in line


def test_a_name_does_not_reach_the_terminal_as_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert compile_script.main(["x", "--variables", "x,\x1b[2J"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: --variables should be names")
    assert "\x1b" not in said
