"""Column names as symbols: any list of different names gives different, safe identifiers."""

import keyword
import re

import pytest
import sympy
from hypothesis import example, given
from hypothesis import strategies as st

from emlinit.finetune.law.symbol_names import latex_escape, latex_name, symbols_for


@example(["__dict__", "__class__", "____", "dict"])
@given(
    st.lists(
        st.one_of(st.text(), st.sampled_from(["x", "E", "E_", "a b", "a_b", "a-b", "1", "lambda", ""])), unique=True
    )
)
def test_symbols_are_different_safe_identifiers(names: list[str]) -> None:
    symbols = [symbol.name for symbol in symbols_for(names)]
    assert len(set(symbols)) == len(names)
    for symbol in symbols:
        assert symbol.isidentifier()
        assert not keyword.iskeyword(symbol)
        assert not hasattr(sympy, symbol)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a", "x_1", "größe"], ["a", "x_1", "größe"]),
        (["semi-major axis (AU)", "2nd", "%"], ["semi_major_axis_AU", "x_2nd", "x3"]),
        (["E", "E_", "lambda", "np", "sum"], ["E_2", "E_", "lambda_", "np_", "sum_"]),
        (["a b", "a_b", "a-b"], ["a_b_", "a_b", "a_b_2"]),
    ],
)
def test_names_stay_as_near_as_they_can(names: list[str], expected: list[str]) -> None:
    assert [symbol.name for symbol in symbols_for(names)] == expected


@pytest.mark.parametrize(
    ("name", "latex"),
    [
        ("T", "T"),
        ("x12", "x_{12}"),
        ("beta", r"\beta"),
        ("Omega", r"\Omega"),
        ("pi", r"\mathrm{pi}"),
        ("e", r"\mathrm{e}"),
        ("i", r"\mathrm{i}"),
        ("Pi", r"\mathrm{Pi}"),
        ("Sigma", r"\mathrm{Sigma}"),
        ("E", "E"),
        ("e1", "e_{1}"),
        ("π", r"\text{column π}"),
        ("𝜋", r"\text{column 𝜋}"),
        ("x²", r"\text{x²}"),
        ("", r"\text{}"),
        ("period_days", r"\mathrm{period\_days}"),
        ("a (AU)", r"\text{a (AU)}"),
        ("größe", r"\text{größe}"),
        ("100% {x}", r"\text{100\% \{x\}}"),
        (r"\input{x}", r"\text{\textbackslash{}input\{x\}}"),
        ("a^2_b", r"\text{a\textasciicircum{}2\_b}"),
        ("a\nb", r"\text{a b}"),
        ("n" * 1000, r"\mathrm{" + "n" * 1000 + "}"),
    ],
)
def test_latex_names(name: str, latex: str) -> None:
    assert latex_name(name) == latex


_OF_LATEX = r"""\\(?:text(?:backslash|asciitilde|asciicircum)\{\}|[{}$&#%_])"""
"""What a special character is replaced by."""


@example("\\input{x}")
@example("^^5cinput")
@example("}\\end{equation}%")
@given(st.one_of(st.text(), st.text(alphabet="\\{}^_%$&#~ xe\n\u202e", max_size=12)))
def test_names_are_never_active_in_latex(name: str) -> None:
    shown = latex_name(name)
    plain = re.fullmatch(r"\\[A-Za-z]+|[A-Za-z]|[A-Za-z]_\{[0-9]+\}", shown)
    if plain is None:
        framed = re.fullmatch(r"\\(?:mathrm|text)\{(.*)\}", shown)
        assert framed is not None  # one line, or the dot would not match
        assert not set(re.sub(_OF_LATEX, "", framed[1])) & set("\\{}$&#%_^~")
        assert framed[1].isprintable()
    else:
        assert re.fullmatch(r"[A-Za-z]+[0-9]*", name)


def test_latex_text_never_ends_the_line_or_the_group() -> None:
    assert latex_escape("a\nb\\end{x}") == r"a b\textbackslash{}end\{x\}"
