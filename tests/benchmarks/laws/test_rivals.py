"""What other programs print is read as the formula that they mean."""

import importlib.util
from typing import NamedTuple

import numpy as np
import pytest
import sympy

from emlinit.benchmarks.laws import rivals
from emlinit.generator.errors import UserError
from emlinit.generator.formulas.parse import parse_formula

X = [sympy.Symbol(name, real=True) for name in ("x1", "x2")]


class Function(NamedTuple):
    """A function node, as gplearn has it."""

    name: str
    arity: int


def read(program: list[object]) -> sympy.Expr | None:
    text = rivals.infix(program)
    return parse_formula(text, X) if text else None


def test_prefix_programs_become_formulas() -> None:
    mul, sub, div, root = Function("mul", 2), Function("sub", 2), Function("div", 2), Function("sqrt", 1)
    assert read([mul, 0, root, 1]) == X[0] * sympy.sqrt(sympy.Abs(X[1]))
    assert read([sub, 0, div, 1, 2.0]) == X[0] - X[1] / 2.0
    assert read([div, sub, 0, 1, Function("exp", 1), 0]) == (X[0] - X[1]) * sympy.exp(-X[0])
    assert read([Function("square", 1), Function("log", 1), 1]) == sympy.log(sympy.Abs(X[1])) ** 2
    assert read([Function("square", 1), Function("sub", 2), -2.0, 0]) == (-2.0 - X[0]) ** 2
    assert read([1]) == X[1]
    assert read([np.int64(1)]) == X[1]
    assert read([-0.5]) == -0.5


def test_constant_parts_are_worked_out_in_floats() -> None:
    exp = Function("exp", 1)
    assert read([Function("mul", 2), exp, 1.0, 0]) == sympy.Float(float(np.exp(1.0))) * X[0]
    assert read([Function("mul", 2), exp, exp, exp, 9.0, 0]) is None
    assert read([Function("add", 2), 0, Function("div", 2), 1.0, Function("sub", 2), 1.5, 1.5]) is None


def test_an_intercept_is_dropped_only_where_it_earns_nothing() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(0.5, 3, (200, 2))
    noise = 0.01 * rng.standard_normal(200)
    dropped = rivals._without_intercept("(0.0001 + (0.99 * (x1 * x2)))", x, x[:, 0] * x[:, 1] + noise)
    assert parse_formula(dropped, X).as_coeff_Add()[0] == 0
    assert float(parse_formula(dropped, X).subs({X[0]: 1, X[1]: 1})) == pytest.approx(1.0, abs=1e-2)
    text = "(0.3 + (1.0 * (x1 * x2)))"
    assert rivals._without_intercept(text, x, x[:, 0] * x[:, 1] + 0.3 + noise) == text
    for other in ("(0.3 + 1.5)", "(x1 * x2)", "not a formula"):
        assert rivals._without_intercept(other, x, x[:, 0]) == other


def test_a_missing_rival_says_what_to_do() -> None:
    with pytest.raises(UserError, match=r'no_such_rival cannot be imported .*: pip install "emlinit\[bench\]"'):
        rivals.require("no_such_rival.sklearn")


@pytest.mark.parametrize(("fit", "package"), [(rivals.fit_operon, "pyoperon"), (rivals.fit_gplearn, "gplearn")])
def test_rivals_find_a_product(fit, package: str) -> None:  # type: ignore[no-untyped-def]
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed: it comes with the extra 'bench'")
    x = np.random.default_rng(0).uniform(0.5, 3, (60, 2))
    y = x[:, 0] * x[:, 1]
    text = fit(x, y, 3.0, 0)
    assert text is not None
    formula = parse_formula(text, X)
    values = sympy.lambdify(X, formula, "numpy")(*x.T)
    np.testing.assert_allclose(values, y, rtol=1e-4)
