"""The forms that a law suggests."""

import numpy as np
import sympy

from emlinit.finetune.groups.group_form import GroupForm
from emlinit.finetune.groups.variants import plain_forms, variants
from emlinit.finetune.law.language import Language

X, R = sympy.Symbol("x"), sympy.Symbol("x", real=True)


def said(expression: sympy.Expr, language: Language | None = None) -> list[str]:
    return [form.said for form in variants(expression, [X], [R], language or Language())]


def test_numbers_become_constants_and_an_offset_joins() -> None:
    assert said(2.5 * sympy.exp(-0.4 * X)) == ["_0*exp(_1*x)", "_0*exp(_1*x) _2"]
    assert said(1.5 + 0.5 * X) == ["_0*x _1"]


def test_a_law_without_numbers_gets_a_factor_and_an_offset() -> None:
    assert said(sympy.sin(X)) == ["_0*sin(x)", "_0 + sin(x)", "_0*sin(x) _1"]


def test_exponents_become_constants_too() -> None:
    assert "_1*x**_0" in said(2.5 * X**2)
    assert said(2.5 * X**2)[0] == "_0*x**2"


def test_numbers_that_differ_in_sign_only_are_one_constant() -> None:
    assert said(238.9 - 238.9 * sympy.exp(-0.5 * X))[0].count("_0") == 2


def test_what_may_not_be_written_is_left_out() -> None:
    whole = Language(integer_exponents=True)
    assert all("**_" not in text for text in said(2.5 * X**2, whole))
    assert said(2.5 * sympy.exp(-0.4 * X), Language(operators=frozenset({"*", "exp"}))) == ["_0*exp(_1*x)"]
    assert said(2.5 * sympy.exp(-0.4 * X), Language(max_complexity=3)) == []


def test_plain_forms_can_be_computed_at_their_start() -> None:
    points = np.linspace(0.5, 3, 5)[:, None]
    forms: list[GroupForm] = list(plain_forms([X], [R], Language(), {0: (1.7, 0.8)}))
    assert len({form.said for form in forms}) == len(forms) > 10
    for form in forms:
        assert np.isfinite(form.values(np.tile(form.generic, (5, 1)), points)).all(), form.said
    fewer = list(plain_forms([X], [R], Language(forbidden=frozenset({"exp"})), {0: (1.7, 0.8)}))
    assert not any(form.expression.has(sympy.exp) for form in fewer)
    assert fewer
