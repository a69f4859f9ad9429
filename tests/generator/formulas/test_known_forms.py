"""Formulas as people write them: the same values, the named constants, and nothing else changed."""

import numpy as np
import pytest
import sympy

from emlinit.generator.formulas.expression import evaluate_expression
from emlinit.generator.formulas.known_forms import known_forms, replaced
from emlinit.generator.formulas.printing import formula_text

X, Y = sympy.symbols("x y")
POINTS = np.random.default_rng(0).uniform(0.3, 3, (60, 2))

WRITTEN = [
    ("5.0/(1 + 148.4131591025766*exp(-1.25*x)) + 1.2", "1.2 + 5/(1 + exp(-1.25*(x - 4)))"),
    ("6.0/(1.2 + 2.4*exp(-0.5*x))", "5/(1 + exp(-0.5*(x - 1.3862943611198906)))"),
    ("1.5/(3.0 + 0.5*exp(1.5*x))", "0.5/(exp(1.5*(x - 1.1945063128187032)) + 1)"),
    ("3.5*exp(0.5*x)/(2.0 + 0.7*exp(0.5*x))", "5/(1 + exp(-0.5*(x - 2.0996442489973552)))"),
    ("cos(3*x - 19.72)", "cos(3*x - 0.8704440784612394)"),
    ("-2.1*cos(3*x + 0.4)", "2.1*cos(3*x - 2.741592653589793)"),
    ("2.3*sin(1.7 - 4.1*x)", "2.3*cos(4.1*x - 0.1292036732051035)"),
    ("2.1*sin(3*x - 5*y + 0.4)", "2.1*sin(3*x - 5*y + 0.4)"),
    ("3.0*cos(2.5*x) + 4.5*sin(2.5*x)", "5.408326913195984*cos(2.5*x - 0.982793723247329)"),
    ("3.0*y*cos(x) + 4.5*y*sin(x) + 1", "5.408326913195984*y*cos(x - 0.982793723247329) + 1"),
    ("2.0*exp(-2*x**2 + 12.5*x - 19.53125)", "2*exp(-(x - 3.125)**2/(2*0.5**2))"),
    ("2.5*exp(-0.5*x**2 + 1.5*x - 1.125)", "2.5*exp(-(x - 1.5)**2/2)"),
    ("2.5*exp(x*(3.2 - 1.28*x))", "18.472640*"),
    ("2.152074464008456e-31*exp(x*(24 - 2*x)) + 1", "1 + 4*exp(-(x - 6)**2/(2*0.5**2))"),
    ("2.5*exp(-(log(x) - 1.25)**2/0.32)/x", "2.5*exp(-(log(x) - 1.25)**2/(2*0.4**2))/x"),
    ("3.3*x/(1.2 + 2.4*x)", "1.375*x/(x + 0.5)"),
    ("3.3/(2.4 + 1.2/x)", "1.375*x/(x + 0.5)"),
    ("3.1*x**4/(133.6336 + x**4)", "3.1*x**4/(x**4 + 3.4**4)"),
    ("7.5*x**1.7/(2.5 + 3*x**1.7)", "2.5*x**1.7/(x**1.7 + 0.8983028890*"),
    ("4.4/(2.2 + 0.25*x**3)", "2/((x/2.06456*"),
    ("3.1*0.7**(2*x)", "3.1*exp(-0.7133498878774649*x)"),
]


@pytest.mark.parametrize(("text", "written"), WRITTEN)
def test_forms_that_people_know(text: str, written: str) -> None:
    expr = sympy.parse_expr(text, local_dict={"x": X, "y": Y})
    form = known_forms(expr)[0]
    start = written.removesuffix("*") if written.endswith("*") else None
    assert formula_text(form).startswith(start) if start else formula_text(form) == written
    wanted = evaluate_expression(expr, (X, Y), POINTS)
    found = evaluate_expression(form, (X, Y), POINTS)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-13 * np.abs(wanted).max())
    assert len(form.atoms(sympy.Float)) <= len(expr.atoms(sympy.Float))


@pytest.mark.parametrize(
    "text",
    [
        "sin(x) + cos(x)",
        "1/(1 + exp(-x))",
        "exp(-2*x**2 + x)",
        "2**x",
        "3.1*exp(-5200.5/x)",
        "0.3*exp(-1.7*x) + 1.1",
        "3.5*x**1.5 + 120",
        "1/(1 + x**2)",
        "x/(x + 2)",
        "sin(x)*cos(y)",
        "2.5*exp(0.3*x**2 + 1.1*x)",
        "1.0/(1 + exp(-1.25*(x - y)))",
    ],
)
def test_other_formulas_stay(text: str) -> None:
    assert known_forms(sympy.parse_expr(text, local_dict={"x": X, "y": Y})) == []


def test_putting_other_numbers_in_keeps_the_form() -> None:
    [form, *_] = known_forms(sympy.parse_expr("5.0/(1 + 148.4131591025766*exp(-1.25*x))", local_dict={"x": X}))
    there = {sympy.Float(-1.25): sympy.Float(-1.5)}
    assert formula_text(replaced(form, there)) == "5/(1 + exp(-1.5*(x - 4)))"
    assert replaced(form, {X: Y}) != form
    hill = known_forms(sympy.parse_expr("x**4/(133.6336 + x**4)", local_dict={"x": X}))[0]
    assert formula_text(replaced(hill, {sympy.Float(3.4): sympy.Float(2.2)})) == "x**4/(x**4 + 2.2**4)"
