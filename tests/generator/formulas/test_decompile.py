"""Programs read back as formulas: the same values always, the ordinary form where there is one, and in time."""

import time

import numpy as np
import pytest
import sympy
import torch

from emlinit.generator.corpus.formulas import sample_formula_programs
from emlinit.generator.evaluate import evaluate
from emlinit.generator.formulas import simplify
from emlinit.generator.formulas.compile_weighted import compile_weighted
from emlinit.generator.formulas.decompile import complexity, tidy_numbers, to_sympy
from emlinit.generator.formulas.expression import evaluate_expression
from emlinit.generator.formulas.parse import parse_formula
from emlinit.generator.grammar import from_text
from emlinit.generator.program import Programs, programs_from_tokens

SYMBOLS = sympy.symbols("x y", real=True)
AGREEMENT = 1e-11  # of the largest |y|

READS_BACK = [
    "2.5*exp(-0.7*x) + 0.3",
    "1.7*log(x) + 0.4",
    "3.1*x**1.5",
    "0.8*x*y + 0.5",
    "1.2*sin(1.5*x)",
    "x*sin(3*x + 0.4)",
    "exp(-0.3*x)*cos(2*x)",
    "sqrt(x**2 + y**2)",
    "365.25*x**1.5",
    "x**y",
    "tanh(1.3*x)",
    "tan(x*y)",
    "sinh(x) + 1",
    "asin(x/4)",
    "sin(x)**2",
    "sin(x)*cos(y)",
    "(x + y)/(x - y)",
    "1/(x**2 - 2*x + 3)",
    "x**3 - 3*x**2 + 2*x + 1",
    "log(1 + exp(x))",
]


def _program(text: str) -> Programs:
    tokens, constants = from_text(text, 2)
    return programs_from_tokens(tokens[None], constants[None], 2)


@pytest.mark.parametrize("text", READS_BACK)
def test_compiled_formula_reads_back_no_longer_than_it_was(text: str) -> None:
    expr = parse_formula(text, SYMBOLS)
    points = np.random.default_rng(0).uniform(0.1, 2.5, (60, 2))
    again = to_sympy(compile_weighted(expr, SYMBOLS), 0, SYMBOLS, points=points, simplify_seconds=20)
    assert complexity(again) <= complexity(expr)
    wanted = evaluate_expression(expr, SYMBOLS, points).real
    found = evaluate_expression(again, SYMBOLS, points).real
    np.testing.assert_allclose(found, wanted, atol=AGREEMENT * np.abs(wanted).max())


def test_random_formulas_keep_their_values() -> None:
    tokens, constants = sample_formula_programs(100, np.random.default_rng(0))
    programs = programs_from_tokens(torch.from_numpy(tokens), torch.from_numpy(constants), 5)
    symbols = sympy.symbols("x1:6", real=True)
    points = np.random.default_rng(1).uniform(0.3, 2.5, (50, 5))
    result = evaluate(programs, torch.from_numpy(points), rtol=None)
    compared = 0
    for row in range(len(programs)):
        valid = result.valid[row].numpy()
        wanted = result.value[row].numpy()[valid]
        found = evaluate_expression(
            to_sympy(programs, row, symbols, points=points, simplify_seconds=0), symbols, points[valid]
        )
        np.testing.assert_allclose(found.real, wanted, atol=AGREEMENT * np.abs(wanted).max(initial=0.0))
        compared += len(wanted)
    assert compared > 0.8 * len(programs) * len(points)


def test_oscillation_reads_as_a_sine_or_cosine() -> None:
    expr = to_sympy(_program("w:2.0 eml + j:0.5 1 j:3.0 x1 1"), 0, SYMBOLS)
    assert expr == 2 * sympy.cos(3 * SYMBOLS[0] + 0.5)
    assert to_sympy(_program("j:-2.0 eml j:3.0 x1 1"), 0, SYMBOLS) == 2 * sympy.sin(3 * SYMBOLS[0])


def test_a_formula_for_positive_data_only_is_not_used_on_negative_data() -> None:
    program = _program("eml w:-0.5 eml 1 eml w:-2.0 eml 1 x1 1 1")  # a multiple of sqrt(x**2)
    positive, negative = np.linspace(0.1, 2, 20)[:, None] * [[1, 1]], np.linspace(-2, -0.1, 20)[:, None] * [[1, 1]]
    x = SYMBOLS[0]
    assert not to_sympy(program, 0, SYMBOLS, points=positive).has(sympy.Abs)
    on_negative = to_sympy(program, 0, SYMBOLS, points=negative)
    value = evaluate_expression(on_negative, SYMBOLS, negative)
    wanted = evaluate(program, torch.from_numpy(negative), rtol=None).value[0].numpy()
    np.testing.assert_allclose(value.real, wanted, rtol=1e-12)
    assert on_negative.subs(x, -2.0).evalf() > 0


def test_branches_that_no_formula_follows_are_kept_word_for_word() -> None:
    program = _program("eml j:1.0 eml w:-0.5 eml 1 + c:-3.0 x1 1 1")  # exp(j sqrt(x - 3)), complex for x < 3
    points = np.random.default_rng(0).uniform(0.5, 2.5, (30, 2))
    expr = to_sympy(program, 0, SYMBOLS, points=points)
    wanted = evaluate(program, torch.from_numpy(points), rtol=None).value[0].numpy()
    np.testing.assert_allclose(evaluate_expression(expr, SYMBOLS, points).real, wanted, rtol=1e-11)


def test_work_is_bounded_by_size_and_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    x = SYMBOLS[0]
    begun: list[int] = []

    def slow(expr: sympy.Expr) -> sympy.Expr:
        begun.append(complexity(expr))
        time.sleep(0.1)
        return expr

    def failing(expr: sympy.Expr) -> sympy.Expr:
        raise RecursionError

    monkeypatch.setattr(simplify, "_TRANSFORMS", (failing, sympy.expand, *[slow] * 50))
    found = simplify.shorter_forms((x + 1) ** 2, 0.5)
    assert sympy.expand((x + 1) ** 2) in found
    assert 1 <= len(begun) <= 12
    begun.clear()
    simplify.shorter_forms(sum(sympy.sin(k * x) for k in range(1, 40)), 0.5)
    assert not [size for size in begun if size > 120]


def test_no_simplification_gives_the_plain_reading_at_once() -> None:
    program = compile_weighted(parse_formula("sin(x)*cos(y)", SYMBOLS), SYMBOLS)
    plain = to_sympy(program, 0, SYMBOLS, simplify_seconds=0)
    assert complexity(plain) > complexity(to_sympy(program, 0, SYMBOLS, simplify_seconds=20))


def test_a_formula_of_real_numbers_is_read_without_complex_ones() -> None:
    """1/sqrt(1 - y**2/x**2), written with a negative number under the root of a negative number."""
    z = "+ c:-1.0 eml + w:-2.0 eml 1 x2 w:2.0 eml 1 x1 1"  # y**2/x**2 - 1
    program = _program(f"eml w:-0.5 eml 1 w:-1.0 eml eml 1 {z} 1 1")
    points = np.random.default_rng(0).uniform([2.0, 0.5], [4.0, 1.5], (40, 2))
    expr = to_sympy(program, 0, SYMBOLS, points=points)
    assert not expr.has(sympy.I, sympy.Abs, sympy.re)
    wanted = evaluate(program, torch.from_numpy(points), rtol=None).value[0].numpy()
    value = evaluate_expression(expr, SYMBOLS, points)
    np.testing.assert_allclose(value.real, wanted, rtol=1e-12)
    assert not value.imag.any()
    for base in [power.base for power in expr.atoms(sympy.Pow) if power.exp.is_Rational and power.exp.q == 2]:
        assert (evaluate_expression(base, SYMBOLS, points).real > 0).all(), expr


def test_signs_known_from_the_data_settle_roots_and_moduli() -> None:
    x, y = SYMBOLS

    def sign(part: sympy.Expr) -> int:
        return {x - 1: -1, x: 1, y: -1}.get(part, 0)

    assert simplify.settle_signs(sympy.I * sympy.Abs(x) / sympy.sqrt(x - 1), sign) == x / sympy.sqrt(1 - x)
    assert simplify.settle_signs(sympy.Abs(y) + sympy.log(x - 1), sign) == sympy.log(1 - x) - y
    unknown = sympy.Abs(x + y) + sympy.sqrt(x - y) + (x - 1) ** sympy.Rational(1, 3)
    assert simplify.settle_signs(unknown, sign) == unknown


def test_roots_are_written_as_one() -> None:
    program = _program("eml + w:-0.5 eml 1 x1 w:-0.5 eml 1 x2 1")
    points = np.random.default_rng(0).uniform(0.5, 2.0, (40, 2))
    expr = to_sympy(program, 0, SYMBOLS, points=points)
    roots = [power for power in expr.atoms(sympy.Pow) if power.exp == sympy.Rational(1, 2)]
    assert [root.base for root in roots] == [SYMBOLS[0] * SYMBOLS[1]]
    u, v = SYMBOLS
    assert simplify.join_roots(sympy.sqrt(u) * v / sympy.sqrt(u + v)) == v * sympy.sqrt(u / (u + v))
    assert simplify.join_roots(2 / (sympy.sqrt(u) * sympy.sqrt(v))) == 2 / sympy.sqrt(u * v)


def test_half_angles() -> None:
    x, y = SYMBOLS
    c = sympy.Dummy("c", positive=True)
    assert simplify._half_angles(y * c - c * y * sympy.cos(4 * x) + y) == 2 * c * y * sympy.sin(2 * x) ** 2 + y
    assert simplify._half_angles(c + c * sympy.cos(x)) == 2 * c * sympy.cos(x / 2) ** 2
    assert simplify._half_angles(1 + c * sympy.cos(x)) == 1 + c * sympy.cos(x)


def test_unrelated_waves_are_left_alone() -> None:
    """Identities between waves of different fitted frequencies cost most of the time and there are none."""
    x, y = SYMBOLS
    begun: list[sympy.Expr] = []

    def costly(expr: sympy.Expr) -> sympy.Expr:
        begun.append(expr)
        return expr

    transform = simplify._where_related(costly)
    slow, fast = (sympy.Dummy(name, positive=True) for name in ("slow", "fast"))
    transform(sympy.sin(slow * x) + sympy.cos(fast * y))
    assert not begun
    for related in (sympy.sin(slow * x) ** 2 + sympy.cos(slow * x) ** 2, sympy.cos(x) * sympy.sin(y), slow * x / y):
        assert transform(related) == related
    assert len(begun) == 3


def test_numbers_of_a_weighted_law_are_one_float() -> None:
    x = SYMBOLS[0]
    joined = simplify.join_numbers(-3.5e9 * x * sympy.exp(-2 * sympy.E) + sympy.E + 1.5 + sympy.exp(-3 * sympy.E))
    assert not joined.has(sympy.E, sympy.exp)
    assert len(joined.atoms(sympy.Float)) == 2
    assert abs(joined.coeff(x) + 3.5e9 * np.exp(-2 * np.e)) < 1e-5
    for kept in (sympy.pi * x / 2 + 1, sympy.sqrt(2) * x, sympy.exp(x) + 3, x ** sympy.Rational(3, 2)):
        assert simplify.join_numbers(kept) == kept
    x = np.linspace(0.1, 2.0, 30)[:, None] * [[1, 1]]
    unreal = sympy.re(sympy.exp(sympy.I * sympy.E * SYMBOLS[0]) ** 3, evaluate=False)
    assert isinstance(simplify.join_numbers(unreal), sympy.re)  # as it is, not as the sum that it is multiplied out
    assert to_sympy(_program("eml 1 x1"), 0, SYMBOLS, points=x) == sympy.E - sympy.log(SYMBOLS[0])


def test_a_rate_of_millions_is_a_number_and_no_degree() -> None:
    began = time.monotonic()
    t = np.linspace(0, 5e-7, 60)[:, None] * [[1, 1]]
    expr = to_sympy(_program("+ c:5.0 w:-5.0 eml w:-12500000.0 x1 1"), 0, SYMBOLS, points=t)
    assert expr == 5 - 5 * sympy.exp(-12500000 * SYMBOLS[0])
    steep = _program("eml w:12500000.0 eml 1 + c:0.99 w:0.01 eml 1 eml w:2.0 x1 1 1")
    to_sympy(steep, 0, SYMBOLS, points=np.linspace(0.9, 1.1, 30)[:, None] * [[1, 1]])
    assert time.monotonic() - began < 5


def test_large_whole_numbers_are_symbols_while_forms_are_looked_for() -> None:
    x, y = SYMBOLS
    held, back = simplify._hold_floats(sympy.exp(-12500000 * x) + 16 * x**16 + 2500 * y + 3.25 * x**2)
    assert sorted(map(float, back.values())) == [16, 2500, 12500000]
    assert (
        tidy_numbers(held.xreplace(back))
        == sympy.exp(-12500000 * x) + 16 * x**16 + 2500 * y + sympy.Rational(13, 4) * x**2
    )


def test_factors_of_powers_far_apart_are_not_looked_for() -> None:
    """Those of the first would take minutes."""
    v, half = sympy.Symbol("v", positive=True), sympy.Rational(1, 2)
    began = time.monotonic()
    for power in (5 * half, 7 * half):
        simplify.shorter_forms(1.37 * (v**power - 0.29 / v**2) / (2.71 + v**power), 1.0)
    assert time.monotonic() - began < 5.0
    assert (v + 1) * (v**2 + 3) in simplify.shorter_forms(sympy.expand((v + 1) * (v**2 + 3)), 1.0)


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("eml 1 x1", -2.0, 2.0),  # e - ln|x|
        ("eml w:-1.3 eml 1 + c:-3.0 x1 1", 0.5, 2.5),  # a power of a number that is negative throughout
        ("eml w:-1.3 eml 1 + c:-1.0 x1 1", 0.5, 2.5),  # and of one of either sign
        ("w:2.0 eml j:1.0 eml 1 + c:-3.0 x1 1", 0.5, 2.5),
        ("+ eml j:1.0 eml w:-0.5 eml 1 + c:-3.0 x1 1 1 x2", 0.5, 2.5),
    ],
)
def test_real_parts_are_written_with_real_numbers(text: str, low: float, high: float) -> None:
    points = np.random.default_rng(0).uniform(low, high, (60, 2))
    expr = to_sympy(_program(text), 0, SYMBOLS, points=points)
    assert not expr.has(sympy.I, sympy.re, sympy.im, sympy.arg)
    value = evaluate_expression(expr, SYMBOLS, points)
    wanted = evaluate(_program(text), torch.from_numpy(points), rtol=None)
    valid = wanted.valid[0].numpy()
    assert valid.mean() > 0.9
    scale = np.abs(wanted.value[0].numpy()[valid]).max()
    np.testing.assert_allclose(value[valid], wanted.value[0].numpy()[valid], rtol=0, atol=1e-12 * scale)


def test_a_form_with_a_value_at_all_points_is_preferred() -> None:
    """A saturation found among points without 0 has 1/x in it; x/(x + 2) has a value at 0 as well."""
    program = _program("eml + w:-1.0 eml 1 + c:0.4 eml w:-1.0 eml 1 x1 1 eml 1 + c:0.5 eml w:-1.0 eml 1 x1 1 1")
    points = np.linspace(0, 5, 11)[:, None] * np.ones(2)
    assert not evaluate(program, torch.from_numpy(points), rtol=None).valid[0, 0]
    value = evaluate_expression(to_sympy(program, 0, SYMBOLS, points=points), SYMBOLS, points)
    assert np.isfinite(value).all()
