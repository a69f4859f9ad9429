"""The fit as text: what stands where, in which alphabet, and how wide."""

import numpy as np
import pytest

from emlinit.finetune.files.terminal_plot import terminal_plot
from emlinit.finetune.law.law import Law
from emlinit.generator.grammar import from_text
from emlinit.generator.program import programs_from_tokens

X = np.linspace(0.0, 10.0, 21)[:, None]


def _law(text: str, *names: str) -> Law:
    tokens, constants = from_text(text, len(names))
    program = programs_from_tokens(tokens[None], constants[None], len(names))
    return Law.from_program(program, names, simplify_seconds=0.0)


def test_data_and_law_lie_on_one_another_from_corner_to_corner() -> None:
    law = _law("+ c:1.0 w:2.0 x1", "time")
    lines = terminal_plot(law, X, law.predict(X), "height", width=60, height=10).splitlines()
    assert lines[0] == "height   (o data, ⠤ law)"
    canvas = lines[1:11]
    assert canvas[0].startswith("        21 │")
    assert canvas[-1].startswith("         1 │o")
    assert canvas[0].endswith("o")
    assert sum(line.count("o") for line in canvas) == 21
    assert any("\u2801" <= char <= "\u28ff" for line in canvas for char in line)
    assert (lines[-2].split(), lines[-1].split()) == (["0", "10"], ["time"])
    assert max(map(len, lines)) <= 60


def test_plain_plots_are_ascii() -> None:
    law = _law("w:2.0 x1", "time")
    text = terminal_plot(law, X, law.predict(X) + 1, "height", plain=True)
    assert text.isascii()
    assert "." in text


def test_of_several_variables_the_measured_is_drawn_over_what_the_law_says() -> None:
    x = np.random.default_rng(0).uniform(1, 2, (30, 2))
    law = _law("+ x1 w:2.0 x2", "a", "b")
    lines = terminal_plot(law, x, law.predict(x), "y", width=70).splitlines()
    assert lines[-1].strip() == "y by the law"
    assert lines[1].endswith("o")
    assert lines[-4].split("│")[1].startswith("o")


@pytest.mark.parametrize("width", [1, 30, 500])
def test_the_width_is_kept_within_bounds(width: int) -> None:
    doses = np.repeat([0.0, 0.1, 0.3, 1, 3, 10, 30, 100, 300], 3)[:, None]
    law = _law("+ c:0.5 w:2.0 eml w:-0.01 x1 1", "dose")
    lines = terminal_plot(law, doses, law.predict(doses), "response " * 20, width=width).splitlines()
    assert max(map(len, lines)) <= min(max(width, 30), 100)
    wide = terminal_plot(law, doses, law.predict(doses), "response", width=90)
    assert "dose (logarithmic, linear below 0.1)" in wide


def test_where_the_law_is_undefined_nothing_is_drawn() -> None:
    law = _law("eml 1 x1", "x")  # e - ln x
    x = np.linspace(-1.0, 2.0, 13)[:, None]
    y = np.where(x[:, 0] > 0, law.predict(np.abs(x) + 1e-9), 1.0)
    assert terminal_plot(law, x, y, "y").count("o data") == 1
    constant = _law("c:2.5", "x")
    assert "o" in terminal_plot(constant, x, np.full(13, 2.5), "y")


def test_what_a_logarithmic_axis_has_no_place_for_is_not_drawn() -> None:
    rng = np.random.default_rng(0)
    x = 10 ** rng.uniform(-4, 4, (40, 2))
    text = terminal_plot(_law("+ c:-1.0 + x1 x2", "a", "b"), x, x.sum(1), "y")
    assert "y (logarithmic)" in text
    assert text.count("o") > 10
