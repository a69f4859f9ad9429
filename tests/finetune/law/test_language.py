"""Which formulas are in a language, and in which other words they can be said."""

import pytest
import sympy

from emlinit.finetune.law.language import Language

X, Y = sympy.symbols("x y")


def language(operators: str | None = None, forbidden: str = "", **others: int | bool) -> Language:
    names = None if operators is None else frozenset(operators.split())
    return Language(names, frozenset(forbidden.split()), **others)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("formula", "spoken", "not_spoken"),
    [
        (2.5 * X, ["*"], ["+ /", "^"]),
        (X / 2, ["*", "/"], ["+"]),
        (-X, ["+"], []),
        (X - 2.5, ["+"], ["* /"]),
        (X**2, ["*", "^"], ["+ /"]),
        (3 / X, ["/", "^"], ["+ *"]),
        (X * Y, ["*"], ["+ / ^"]),
        (X / Y, ["/"], ["*"]),
        (X**-2, ["* /", "^"], ["*", "/"]),
        (sympy.sqrt(X), ["sqrt", "^"], ["*", "/"]),
        (X ** sympy.Rational(3, 2), ["sqrt *", "^"], ["sqrt", "*"]),
        (X**1.7, ["^"], ["* / sqrt"]),
        (X**Y, ["^"], ["exp ln *"]),
        (2**X, ["^", "exp"], ["*"]),
        (sympy.exp(X), ["exp"], ["^"]),
        (sympy.log(X), ["ln"], ["^ exp"]),
        (sympy.Abs(X), ["abs"], ["sqrt ^"]),
        (sympy.tanh(X), ["tanh"], ["exp / +"]),
        (X + sympy.sqrt(2) * sympy.exp(2), ["+"], []),  # constants are in every language
    ],
)
def test_a_formula_needs_the_operators_that_it_is_written_with(
    formula: sympy.Expr, spoken: list[str], not_spoken: list[str]
) -> None:
    assert [names for names in spoken if not language(names).admits(formula)] == []
    assert [names for names in not_spoken if language(names).admits(formula)] == []


@pytest.mark.parametrize(
    ("formula", "forbidden", "others"),
    [
        (X**2, "^", "* / +"),
        (1 / X, "/", "^ *"),
        (sympy.sqrt(X), "sqrt", "^ /"),
        (2**X, "exp", "ln"),
        (2 * sympy.sin(X) + 1, "sin", "tan exp"),
        (X * Y, "*", "/ ^"),
    ],
)
def test_what_is_printed_may_be_forbidden(formula: sympy.Expr, forbidden: str, others: str) -> None:
    assert not language(None, forbidden).admits(formula)
    assert language(None, others).admits(formula)


def test_exponents_may_have_to_be_whole() -> None:
    whole = language(integer_exponents=True)
    assert all(map(whole.admits, (X**2, X**2.0, 1 / X**3, sympy.exp(1.5 * X), 2**X, X + sympy.sqrt(2))))
    assert not any(map(whole.admits, (sympy.sqrt(X), X**1.5, X**Y, X ** sympy.Rational(1, 3), sympy.exp(X) * X**0.5)))


def test_length_counts_nodes_and_has_a_default() -> None:
    formula = 2.5 * X + 1  # a sum, a number, a product, a number and a variable
    assert language(max_complexity=5).admits(formula)
    assert not language(max_complexity=4).admits(formula)
    assert language(max_complexity=4).speaks(formula)
    long = sympy.Add(*(number * 1.5 * X**number for number in range(2, 12)))
    assert not Language().admits(long)
    assert Language().speaks(long)


def test_a_sine_is_said_as_a_cosine_where_only_that_is_there() -> None:
    formula = 2.5 * sympy.cos(3 * X + 1.5) + 1
    sine = language("+ * sin").form(formula)
    assert sine is not None
    assert not sine.has(sympy.cos)
    assert float(abs(sine - formula).subs(X, 0.7)) < 1e-14
    cosine = language(None, "sin").form(sympy.sin(X) * X)
    assert cosine is not None
    assert not cosine.has(sympy.sin)
    assert language(None, "sin cos").form(formula) is None
    assert Language().form(formula) is formula
    assert language("+ *").form(X**1.5) is None


def test_ingredients_that_no_law_has_are_known_before_the_search() -> None:
    assert Language().without == frozenset()
    assert language(None, "sin cos").without == {"wave"}
    assert language(None, "sin").without == frozenset()
    assert language(None, "exp").without == {"exp"}
    assert language("+ * / exp sin").without == {"ln", "root"}
    assert language("+ *").without == {"wave", "exp", "ln", "root", "inverse"}
    assert language("+ * tanh atan").without == {"wave", "root"}
    assert language("+ ^").without == {"wave", "ln"}
    assert language(integer_exponents=True).without == {"root"}


@pytest.mark.parametrize(
    ("formula", "is_said"),
    [
        (X * (1.8 + 2.6 * Y) + 3, True),
        (X * Y**2, True),
        (sympy.exp(-(0.3 + 0.2 * Y) * X), True),
        (X * sympy.cos(20.7 * Y - 1.24), False),
        (X + sympy.exp(Y), False),
        (X + sympy.sqrt(Y), False),
        (X / (1 + Y), False),
        (X**Y, True),
        (2.0**Y, False),
    ],
)
def test_of_a_factor_alone_no_function_is_taken(formula: sympy.Expr, is_said: bool) -> None:
    assert Language().speaks(formula)
    assert Language(factors=frozenset({"y"})).speaks(formula) == is_said
