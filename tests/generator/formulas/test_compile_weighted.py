"""Formulas become programs of the same value, with shared nodes and free constants."""

import numpy as np
import pytest
import sympy
import torch

from emlinit.generator.errors import UserError
from emlinit.generator.evaluate import evaluate
from emlinit.generator.formulas.compile_weighted import compile_weighted
from emlinit.generator.formulas.expression import complexity, evaluate_expression
from emlinit.generator.formulas.parse import parse_formula

SYMBOLS = sympy.symbols("x y z", positive=True)
TOLERANCE = 1e-12

FORMULAS = {  # formula: most nodes
    "2.5*exp(-0.7*x) + 0.3": 1,
    "1.7*log(x) + 0.4": 1,
    "3.1*x**1.5": 2,
    "0.8*x*y + 0.5": 3,
    "1.2*sin(1.5*x)": 1,
    "x**2*y/z**0.5": 4,
    "exp(-0.3*x)*cos(2*x + 0.4)": 1,
    "sqrt(1 + x**2/y)": 5,
    "atan(x/y)*sin(x*y)/(1 + y)": 12,
    "x**y": 5,
    "tanh(x) - abs(y - 1)": 8,
    "1/(1 + 2.5*exp(-x))": 3,
    "3.5": 0,
    "x - y": 0,
    "sinh(x)/cosh(y) + acos(x/4)": 12,
}


@pytest.mark.parametrize("text", FORMULAS)
def test_program_equals_the_formula(text: str) -> None:
    expr = parse_formula(text, SYMBOLS)
    programs = compile_weighted(expr, SYMBOLS)
    x = np.random.default_rng(0).uniform(0.2, 2.5, (100, 3))
    result = evaluate(programs, torch.from_numpy(x), rtol=None)
    assert bool(result.valid.all())
    wanted = evaluate_expression(expr, SYMBOLS, x).real
    np.testing.assert_allclose(result.value[0].numpy(), wanted, rtol=TOLERANCE, atol=TOLERANCE)
    assert int(programs.n_nodes) <= FORMULAS[text]


def test_numbers_are_free_and_the_exact_one_is_not() -> None:
    programs = compile_weighted(parse_formula("2.5*exp(-0.7*x) + 0.3", SYMBOLS), SYMBOLS)
    assert int(programs.n_free()) == 3
    assert not bool(programs.free_weight[programs.weight == 1].any())


def test_a_repeated_part_is_one_node() -> None:
    expr = parse_formula("exp(x) + sin(exp(x)) + exp(2*y)*exp(x)", SYMBOLS)
    assert int(compile_weighted(expr, SYMBOLS).n_nodes) == 3


def test_negative_arguments_keep_their_sign() -> None:
    x = sympy.Symbol("x", real=True)
    points = np.linspace(-3.05, 2.95, 50)[:, None]
    for expr in (x**2, x**3, sympy.sqrt(x**2), x * sympy.sin(x), sympy.log(x**2), 1 / x):
        value = evaluate(compile_weighted(expr, [x]), torch.from_numpy(points), rtol=None).value[0].numpy()
        np.testing.assert_allclose(value, evaluate_expression(expr, [x], points).real, rtol=1e-11)


@pytest.mark.parametrize(
    ("expr", "message"),
    [
        (sympy.Symbol("q") + 1, "unknown symbol 'q'"),
        (sympy.gamma(SYMBOLS[0]), "'gamma'"),
        (sympy.I * SYMBOLS[0], "not a real finite number"),
        (sympy.log(-sympy.Integer(2)) * SYMBOLS[0], "not a real finite number"),
    ],
)
def test_what_cannot_be_compiled_is_named(expr: sympy.Expr, message: str) -> None:
    with pytest.raises(UserError, match=message):
        compile_weighted(expr, SYMBOLS)


def test_complexity_counts_the_nodes_of_the_tree() -> None:
    x = SYMBOLS[0]
    assert complexity(x) == 1
    assert complexity(2.5 * sympy.exp(-0.7 * x) + 0.3) == 8
