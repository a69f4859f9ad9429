"""The identities of the exact grammar hold, in the sizes claimed, and formulas compiled with them keep their values."""

import mpmath
import numpy as np
import pytest
import sympy
import torch

from emlinit.generator.errors import UserError
from emlinit.generator.evaluate import evaluate
from emlinit.generator.formulas.compile_exact import compile_exact
from emlinit.generator.formulas.decompile import to_sympy
from emlinit.generator.formulas.exact_identities import EXACT_IDENTITIES
from emlinit.generator.formulas.expression import evaluate_expression
from emlinit.generator.formulas.parse import parse_formula

X, Y = SYMBOLS = sympy.symbols("x y", real=True)
SIZES = {  # eml nodes
    "exp(x)": 1, "e": 1, "log(x)": 3, "0*x": 3, "-x": 8, "1/x": 8, "x - 1": 5, "x + 1": 9, "x + y": 9, "x - y": 5,
    "x*y": 8, "x/y": 8, "x**2": 8, "x**3": 12, "2": 9, "3": 14, "2*x": 9, "sqrt(x)": 21, "x**y": 12,
}  # fmt: skip
PAPER = {
    "e - log(exp(y) - log(x))": 2,
    "exp(e)/(exp(y) - log(x))": 3,
    "log(exp(x) - log(y))": 4,
    "log(e - log(exp(x) - log(y)))": 5,
    "e - y*exp(e - exp(x))": 14,
}


def _by_mpmath(text: str, x1: float, x2: float) -> mpmath.mpc:
    """The value of a prefix tree, with 40 digits."""
    words = iter(text.split())

    def read() -> mpmath.mpc:
        word = next(words)
        if word == "eml":
            return mpmath.exp(read()) - mpmath.log(read())
        return mpmath.mpc({"1": 1, "x1": x1, "x2": x2}[word])

    return read()


@pytest.mark.parametrize("name", EXACT_IDENTITIES)
def test_identity_holds(name: str) -> None:
    symbols = sympy.symbols("x1 x2")
    formula = sympy.lambdify(symbols, parse_formula(name, symbols), "mpmath")
    rng = np.random.default_rng(0)
    with mpmath.workdps(40):
        for x1, x2 in rng.uniform(0.1, 3.0, (20, 2)):
            wanted = formula(mpmath.mpf(x1), mpmath.mpf(x2))
            assert abs(_by_mpmath(EXACT_IDENTITIES[name], x1, x2) - wanted) < mpmath.mpf(10) ** -30 * (1 + abs(wanted))


@pytest.mark.parametrize("text", [*SIZES, *PAPER])
def test_compiled_tree_equals_the_formula_and_reads_back(text: str) -> None:
    expr = parse_formula(text, SYMBOLS)
    programs = compile_exact(expr, SYMBOLS)
    assert bool(programs.is_exact())
    assert int(programs.n_nodes) <= {**SIZES, **PAPER}[text]
    points = np.random.default_rng(0).uniform(0.2, 2.8, (100, 2))
    result = evaluate(programs, torch.from_numpy(points), rtol=None)
    assert result.valid.double().mean() > 0.9
    valid = result.valid[0].numpy()
    wanted = evaluate_expression(expr, SYMBOLS, points)[valid]
    np.testing.assert_allclose(result.value[0].numpy()[valid], wanted.real, rtol=1e-9, atol=1e-9)
    again = evaluate_expression(to_sympy(programs, 0, SYMBOLS, simplify_seconds=0), SYMBOLS, points)[valid]
    np.testing.assert_allclose(again.real, wanted.real, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "text", ["-x", "x*y", "x + y", "x/y", "x**2", "1/x", "x - y", "x**3", "2*x", "(x + y)/(x - y)"]
)
def test_tree_holds_for_negative_variables_too(text: str) -> None:
    expr = parse_formula(text, SYMBOLS)
    points = np.random.default_rng(1).uniform(-2.5, 2.5, (100, 2))
    result = evaluate(compile_exact(expr, SYMBOLS), torch.from_numpy(points), rtol=None)
    valid = result.valid[0].numpy()
    assert valid.mean() > 0.9
    wanted = evaluate_expression(expr, SYMBOLS, points).real[valid]
    np.testing.assert_allclose(result.value[0].numpy()[valid], wanted, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("text", ["0.3*x", "sin(x)", "pi*x", "x + 1001"])
def test_what_has_no_exact_tree_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"exact"):
        compile_exact(parse_formula(text, SYMBOLS), SYMBOLS)
