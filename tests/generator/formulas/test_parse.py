"""Formulas from text: what is allowed is read, all else is refused with a message, and nothing is ever executed."""

import pytest
import sympy

from emlinit.generator.errors import UserError
from emlinit.generator.formulas.parse import names_in, parse_formula

X, Y = SYMBOLS = sympy.symbols("x y", real=True)


@pytest.mark.parametrize(
    ("text", "expr"),
    [
        ("2*x + y/3", 2 * X + Y / 3),
        ("x^2 - y**-1", X**2 - 1 / Y),
        ("-sqrt(x)*pi", -sympy.pi * sympy.sqrt(X)),
        ("ln(x) + log(y) + e", sympy.log(X) + sympy.log(Y) + sympy.E),
        (" arctan(abs(x)) ", sympy.atan(sympy.Abs(X))),
        ("1.5e-3*x", sympy.Float(1.5e-3) * X),
    ],
)
def test_reads_ordinary_formulas(text: str, expr: sympy.Expr) -> None:
    assert parse_formula(text, SYMBOLS) == expr


@pytest.mark.parametrize(
    ("text", "names"),
    [("y*exp(-x^2) + pi", ["x", "y"]), ("sin(sin)", ["sin"]), ("e", []), ("x +", []), ("(" * 5000, [])],
)
def test_the_variables_of_a_formula(text: str, names: list[str]) -> None:
    assert names_in(text) == names


def test_a_variable_goes_before_the_constant_of_its_name() -> None:
    e = sympy.Symbol("e", real=True)
    assert parse_formula("e**2", [e]) == e**2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a formula"),
        ("x +", "not a formula"),
        ("x.real", "cannot stand in a formula"),
        ("__import__('os').system('true')", "cannot stand in a formula"),
        ("open('f')", "unknown function 'open'"),
        ("().__class__", "cannot stand in a formula"),
        ("[x for x in y]", "cannot stand in a formula"),
        ("lambda: x", "cannot stand in a formula"),
        ("x if y else 1", "cannot stand in a formula"),
        ("x < y", "cannot stand in a formula"),
        ("x % y", "cannot stand in a formula"),
        ("'x'", "not a real number"),
        ("True", "not a real number"),
        ("2j*x", "not a real number"),
        ("sni(x)", "did you mean 'sin'"),
        ("exp(x, y)", "takes one argument"),
        ("exp(*x)", "takes one argument"),
        ("z + 1", "unknown name 'z': expected one of x, y"),
        ("1/0", "not finite"),
        ("log(0)*x", "not finite"),
        ("1e999", "too large"),
        ("9**9**9", "exponent"),
        ("(9**500)**500", "too large"),
        ("exp(exp(exp(exp(9))))*x", "too large"),
        ("(1 + sqrt(2))**1000*x", "too large"),
        ("123456789**500*x", "too large"),
        ("(123456789/987654321)**500*x", "too small"),
        ("((2**900*x)**900)**900", "too large"),
        ("2**900*" * 20 + "x", "too large"),
        ("square(" * 150 + "1.5" + ")" * 150, "too large"),
        ("n" * 300, "unknown name 'n{57}\\.\\.\\.'"),
        ("(" * 500 + "x" + ")" * 500, "not a formula"),
        ("-" * 500 + "x", "nested deeper"),
        ("x+" * 6000 + "x", "more than 10000"),
    ],
)
def test_refuses_the_rest_and_says_why(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_formula(text, SYMBOLS)
