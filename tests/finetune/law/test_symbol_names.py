"""Column names as symbols: any list of different names gives different, safe identifiers."""

import keyword

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
        ("period_days", r"\mathrm{period\_days}"),
        ("a (AU)", r"\text{a (AU)}"),
        ("größe", r"\text{größe}"),
        ("100% {x}", r"\text{100\% \{x\}}"),
    ],
)
def test_latex_names(name: str, latex: str) -> None:
    assert latex_name(name) == latex


def test_latex_text_never_ends_the_line_or_the_group() -> None:
    assert latex_escape("a\nb\\end{x}") == r"a b\textbackslash{}end\{x\}"
