"""Shapes with a name: how many numbers it takes to say them, and what is none."""

import pytest
import sympy

from emlinit.finetune.law.shape import shape_parameters, told_nodes
from emlinit.generator.formulas.expression import complexity
from emlinit.generator.formulas.known_forms import known_forms

X, Y = sympy.symbols("x y")

SHAPES = {
    "5.2*exp(-0.31*x) + 1.7": 3,
    "2.5 - 2.5*exp(-0.31*x)": 2,
    "2.5*(1 - exp(-0.31*x))": 2,
    "2.5*x**1.7": 2,
    "0.3*(x + 4.4)**-1.5 + 2": 4,
    "3.3*log(x) + 1.2": 2,
    "1.9*atan(0.9*x - 3.8) + 3.7": 4,
    "2.3*Abs(x - 4.03) + 7.52": 3,
    "5.4*cos(2.5*x - 0.98)": 3,
    "exp(-110.4*exp(-0.0048*x))": 2,
    "0.96*exp(-12.3*exp(-0.85*x)) + 0.1": 4,
    "65600.0*exp(-2790.0/x)": 2,
    "3.1*exp(740.0/(x - 140.5))": 3,
    "2.0*exp(-0.4*x**1.6)": 3,
    "2.0*exp(-0.4*x**2 + 1.3*x)": 3,
    "1.3*exp(-(log(x) - 1.25)**2/0.32)": 3,
    "85/(1 + exp(-0.31*(x - 1996)))": 3,
    "1.2 + 5/(1 + 148.4*exp(-1.25*x))": 4,
    "1.4*x/(x + 0.5)": 2,
    "1.4*x**2.4/(x**2.4 + 5.3)": 3,
    "2.0/(1 + 0.3*x**2.4)": 3,
    "2.0/(1 + 0.3*(x - 1.2)**2)": 3,
    "2.7*x**3/(exp(1.3*x) - 1)": 3,
    "3.1*x**2.3*exp(-1.1*x)": 3,
    "2.3*exp(-0.35*x)*sin(4.1*x)": 3,
}


@pytest.mark.parametrize("text", SHAPES)
def test_a_shape_is_its_numbers(text: str) -> None:
    formula = sympy.parse_expr(text, local_dict={"x": X})
    assert shape_parameters(formula) == SHAPES[text]


@pytest.mark.parametrize("text", [text for text in SHAPES if "/(" in text or "**2" in text])
def test_another_spelling_is_the_same_shape(text: str) -> None:
    formula = sympy.parse_expr(text, local_dict={"x": X})
    for form in known_forms(formula)[:1]:
        told = shape_parameters(form)
        assert told is not None
        assert abs(told - SHAPES[text]) <= 1


@pytest.mark.parametrize(
    "text",
    [
        "2.5",
        "2.5*x*y",
        "x**2 + 1.3*x + 0.2",
        "2.1*exp(-x) + 3.3*exp(-2*x)",
        "x*cos(x)",
        "sin(exp(x))",
        "1/(1 + exp(-x**2))",
        "2.1*exp(-x)*cos(3*x)*x",
        "log(log(x) + 77.9)",
        "-14803.6/(-3 + exp(-1.5577*x))",
        "2.0/(1 - 0.3*x**2.4)",
        "exp(-0.4*x**2 + 1.3*y)",
    ],
)
def test_what_is_no_shape(text: str) -> None:
    assert shape_parameters(sympy.parse_expr(text, local_dict={"x": X, "y": Y})) is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("2.5*exp(-0.31*x)", 5),  # the name, x and two numbers
        ("4.1*exp(-2.13*(x - 6.2)**2)", 6),
        ("4.1*exp(-2.13*(x - 6.2)**2) + 1.3", 7),
        ("4.1*exp(-2.13*(x - 6.2)**2) + 2.2*exp(-1.13*(x - 3.2)**2) + 1.3", 6 + 6 + 1 + 1),
        ("4.1*exp(-2.13*(x - 6.2)**2) + 0.2*x", 6 + 3 + 1),
        ("2.5*x*y", 4),
        ("3.1", 1),
        ("0", 1),
    ],
)
def test_terms_with_a_name_are_told_by_it(text: str, told: int) -> None:
    formula = sympy.parse_expr(text, local_dict={"x": X, "y": Y})
    assert told_nodes(formula) == told
    assert told_nodes(formula) <= complexity(formula)
