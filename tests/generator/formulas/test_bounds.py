"""How much work a formula is: what sympy may be given, and what it may not."""

import pytest
import sympy

from emlinit.generator.formulas.bounds import degree, expanded_terms, is_manageable

X, Y, Z = sympy.symbols("x y z", real=True)


@pytest.mark.parametrize(
    "expr",
    [(X + 1) ** 5, (X + Y) ** 3 * (X - 2 * Y), (X + 1) ** -4 * (Y + 3), ((X + 1) ** 2 + Y) ** 2, X * (Y + Z) + 3],
)
def test_no_fewer_terms_are_counted_than_there_are(expr: sympy.Expr) -> None:
    n_terms = len(sympy.Add.make_args(sympy.expand(sympy.numer(expr))))
    assert n_terms <= expanded_terms(expr) <= 40


def test_the_degree_is_that_of_the_roots_and_exponentials() -> None:
    assert degree(X**3 + X * Y**4) == 5
    assert degree((X**2 + 1) ** 3) == 6
    assert degree(sympy.sqrt(X) * sympy.exp(7 * Y / 3)) >= 17  # of x**(1/6) and exp(y/6): 3 and 14
    assert degree(sympy.exp(-X)) == 1


@pytest.mark.parametrize(
    "expr",
    [
        5 - 5 * sympy.exp(-12500000 * X),
        (X + Y + Z + 1) ** 60,
        ((X + 1) ** 9 + 1) ** 9,
        sympy.Mul(*(X + k * Y + Z for k in range(1, 8))),
        X ** sympy.Rational(11, 12) + X ** sympy.Rational(3, 7),
    ],
)
def test_what_would_explode_is_left_alone(expr: sympy.Expr) -> None:
    assert not is_manageable(expr)


def test_ordinary_formulas_are_manageable() -> None:
    for expr in (X**5 + 3 * X**2, sympy.exp(-X) * sympy.cos(3 * X + Y), 1 / (1 + sympy.exp(-2 * X)), (X + Y) ** 4):
        assert is_manageable(expr)
