"""The law is one object: on random laws, every view of it gives the same numbers."""

import importlib.util
import math
import random
import re
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import mpmath
import numpy as np
import pytest
import sympy
import torch
from torch import Tensor

from emlinit.finetune.law.law import AGREEMENT, Law
from emlinit.finetune.law.text import formula_latex
from emlinit.generator.corpus.formulas import sample_formula_programs
from emlinit.generator.corpus.trees import add_constants, trees_by_size
from emlinit.generator.evaluate import evaluate
from emlinit.generator.formulas.compile_weighted import compile_weighted
from emlinit.generator.formulas.parse import parse_formula
from emlinit.generator.formulas.printing import formula_text
from emlinit.generator.grammar import MAX_VARIABLES, from_text
from emlinit.generator.program import Programs, programs_from_tokens

N_LAWS = 30
CONDITIONED = 1e-13  # points at which the program's own rounding errors are below this share of its value
NAMES = ("a", "T (K)", "E", "semi-major axis", "x_5")


def program(text: str, n_variables: int) -> Programs:
    tokens, constants = from_text(text, n_variables)
    return programs_from_tokens(tokens[None], constants[None], n_variables)


def random_formulas(seed: int) -> Programs:
    tokens, constants = sample_formula_programs(4 * N_LAWS, np.random.default_rng(seed))
    return programs_from_tokens(torch.from_numpy(tokens), torch.from_numpy(constants), MAX_VARIABLES)


def random_trees(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    size = torch.randint(1, 6, (4 * N_LAWS,), generator=generator)
    return trees_by_size(size, torch.ones(4 * N_LAWS, 2, dtype=torch.bool), 0.4, generator)


def exact_trees(seed: int) -> Programs:
    tokens = random_trees(seed)
    return programs_from_tokens(tokens, torch.zeros(tokens.shape, dtype=torch.float64), 2)


def weighted_trees(seed: int) -> Programs:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.ones(4 * N_LAWS, 2, dtype=torch.bool)
    return programs_from_tokens(*add_constants(random_trees(seed), mask, generator), 2)


FAMILIES: dict[str, Callable[[int], Programs]] = {
    "formulas": random_formulas,
    "exact trees": exact_trees,
    "weighted trees": weighted_trees,
}


@lru_cache
def random_laws(family: str, seed: int = 0) -> list[tuple[Law, np.ndarray, np.ndarray]]:
    """Laws with points at which the program is well conditioned, and its values there."""
    programs = FAMILIES[family](seed)
    x = np.random.default_rng(seed).uniform(0.5, 3.0, (60, programs.n_variables))
    result = evaluate(programs, torch.from_numpy(x), rtol=CONDITIONED)
    usable = torch.nonzero(result.valid.sum(-1) >= 30)[:, 0].tolist()[:N_LAWS]
    assert len(usable) == N_LAWS, "too few random programs are well conditioned for this test to say anything"
    laws = []
    for row in usable:
        points = x[result.valid[row].numpy()]
        law = Law.from_program(programs[row], NAMES[: programs.n_variables], points, simplify_seconds=0.05)
        laws.append((law, points, result.value[row].numpy()[result.valid[row].numpy()]))
    return laws


def scale(y: np.ndarray) -> float:
    return float(np.abs(y).max()) or 1.0


def load_function(source: str, folder: Path) -> Callable[..., np.ndarray]:
    path = folder / "law.py"
    path.write_text(source, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("exported_law", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function: Callable[..., np.ndarray] = module.law
    return function


def at_high_precision(law: Law, point: np.ndarray) -> complex:
    """The printed formula, read back as text by sympy's parser and evaluated by mpmath with 40 digits."""
    symbols = {symbol.name: symbol for symbol in law.symbols}
    expression = sympy.parse_expr(law.formula, local_dict=symbols)
    values = [mpmath.mpf(float(value)) for value in point]
    with mpmath.workdps(40):
        return complex(sympy.lambdify(list(law.symbols), expression, "mpmath")(*values))


@pytest.mark.parametrize("text", ["log(-log(x1))", "sqrt(-log(x1))", "(-log(x1))**0.3"])
def test_a_negative_zero_is_on_the_upper_side_of_the_cut(text: str, tmp_path: Path) -> None:
    """Beside a negative x all logarithms are complex: -ln x is then -1.1 - 0i for the x that is 3, and -1.1 without it."""
    symbol = sympy.Symbol("x1")
    law = Law(program("x1", 1), ("x1",), sympy.I * sympy.sympify(text, locals={"x1": symbol}))
    exported = load_function(law.python_source(), tmp_path)
    alone, beside = np.array([[3.0]]), np.array([[3.0], [-2.0]])
    assert abs(law.predict(alone)[0]) > 0.5
    np.testing.assert_allclose(law.predict(beside)[0], law.predict(alone)[0], rtol=1e-12)
    np.testing.assert_allclose(exported(beside[:, 0])[0], law.predict(alone)[0], rtol=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_view_of_a_random_law_agrees(family: str, tmp_path: Path) -> None:
    for law, x, y in random_laws(family):
        tolerance = AGREEMENT * scale(y)
        predicted = law.predict(x)
        np.testing.assert_allclose(predicted, y, rtol=0, atol=tolerance, err_msg=law.formula)

        exported = load_function(law.python_source("y"), tmp_path)(*x.T)
        np.testing.assert_allclose(exported, predicted, rtol=0, atol=tolerance, err_msg=law.formula)

        tokens, constants = from_text(law.eml, len(law.names))
        again = evaluate(
            programs_from_tokens(tokens[None], constants[None], len(law.names)), torch.from_numpy(x), rtol=None
        )
        assert bool(again.valid.all())
        np.testing.assert_allclose(again.value[0].numpy(), predicted, rtol=0, atol=tolerance, err_msg=law.eml)

        for point, value in list(zip(x, predicted, strict=True))[:5]:
            printed = at_high_precision(law, point)
            assert abs(printed.real - value) <= tolerance, law.formula
            assert abs(printed.imag) <= tolerance, law.formula


@pytest.mark.parametrize("family", FAMILIES)
def test_text_and_latex_hold_every_constant_to_the_last_bit(family: str) -> None:
    n_numbers = 0
    for law, _, _ in random_laws(family):
        # Tables print a negative coefficient as a minus sign and a quotient for a negative power: compare magnitudes.
        floats = sorted({abs(float(number)) for number in law.expression.atoms(sympy.Float)})
        text = {float(word) for word in re.findall(r"(?<![\w.])\d+\.?\d*(?:e[+-]?\d+)?", law.formula)}
        latex = {
            float(f"{mantissa}e{exponent or 0}")
            for mantissa, exponent in re.findall(r"(\d+\.\d+)(?: \\cdot 10\^\{(-?\d+)\})?", law.latex())
        }
        assert set(floats) <= text, law.formula
        assert set(floats) <= latex, law.latex()
        n_numbers += len(floats)
    assert n_numbers > 15 or family == "exact trees"


def test_predict_takes_the_real_part_on_the_principal_branch() -> None:
    x = np.array([[-2.0], [-0.5], [0.5], [2.0]])
    law = Law.from_program(program("eml 1 x1", 1), ["x"], x)
    np.testing.assert_allclose(law.predict(x), math.e - np.log(np.abs(x[:, 0])), rtol=1e-15)
    cosine = Law.from_program(program("w:2.5 eml + c:-1.0 j:1.5 x1 1", 1), ["x"], x)
    np.testing.assert_allclose(cosine.predict(x), 2.5 * np.exp(-1) * np.cos(1.5 * x[:, 0]), rtol=1e-14)
    assert not cosine.expression.has(sympy.I)


def test_the_cut_belongs_to_plus_pi_whatever_the_sign_of_zero(tmp_path: Path) -> None:
    """ln of a negative number that comes out of complex arithmetic has imaginary part +pi, as the evaluator has it."""
    x = np.linspace(1.0, 3.0, 7)[:, None]
    # Re(-j ln(-exp(x))) = pi: the argument of the logarithm is real and negative, its imaginary zero of either sign.
    law = Law.from_program(program("+ j:-2.718281828459045 1 j:1.0 eml 1 w:-1.0 eml x1 1", 1), ["x"], x)
    np.testing.assert_allclose(law.predict(x), np.full(7, np.pi), rtol=1e-14)
    np.testing.assert_allclose(load_function(law.python_source(), tmp_path)(x[:, 0]), np.full(7, np.pi), rtol=1e-14)


def test_a_form_that_differs_on_the_data_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.linspace(1.0, 3.0, 20)[:, None]
    u = sympy.Symbol("x", real=True)

    def slightly_wrong(*args: object, simplify_seconds: float, **kwargs: object) -> sympy.Expr:
        return sympy.exp(u) if simplify_seconds == 0 else sympy.exp(u) * (1 + 1e-11)

    monkeypatch.setattr("emlinit.finetune.law.law.to_sympy", slightly_wrong)
    assert Law.from_program(program("eml x1 1", 1), ["x"], x).formula == "exp(x)"


def test_constant_law_predicts_one_value_a_point(tmp_path: Path) -> None:
    law = Law.from_program(program("c:4.25", 2), ["a", "b"], np.zeros((3, 2)))
    np.testing.assert_array_equal(law.predict(np.zeros((3, 2))), [4.25, 4.25, 4.25])
    function = load_function(law.python_source(), tmp_path)
    np.testing.assert_array_equal(function(np.zeros(3), 1.0), [4.25, 4.25, 4.25])
    assert law.latex() == "4.25"


def test_column_names_are_text_in_every_export(tmp_path: Path) -> None:
    names = ['"""\nimport os\nos.mkdir("x")#', "a b\\", "$x_1^2%&"]
    x = np.random.default_rng(0).uniform(1, 2, (10, 3))
    law = Law.from_program(program("+ x1 + w:2.0 x2 w:3.0 x3", 3), names, x)
    function = load_function(law.python_source("y\n) = evil("), tmp_path)
    np.testing.assert_allclose(function(*x.T), x @ [1.0, 2.0, 3.0], rtol=1e-15)
    assert list(law.renamed) == names
    assert r"\text{\$x\_1\textasciicircum{}2\%\&}" in law.latex()


def test_columns_called_like_constants_are_told_apart_from_them(tmp_path: Path) -> None:
    """A law that holds pi, e and a column of each name, in every view of it."""
    names = ("pi", "e", "i")
    columns = Law(program("x1", 3), names, sympy.Integer(0)).symbols
    assert not set(columns) & {sympy.Symbol("pi"), sympy.Symbol("E"), sympy.Symbol("I")}
    value = sympy.pi * columns[0] ** 2 + sympy.E * columns[1] ** columns[2]
    law = Law(program("x1", 3), names, value)
    assert law.formula == "E*e**i + pi*pi_**2"
    assert parse_formula(law.formula, columns) == sympy.parse_expr(law.formula) == law.sympy()
    assert law.latex() == r"e \mathrm{e}^{\mathrm{i}} + \pi \mathrm{pi}^{2}"
    x = np.random.default_rng(0).uniform(1, 2, (5, 3))
    expected = math.pi * x[:, 0] ** 2 + math.e * x[:, 1] ** x[:, 2]
    np.testing.assert_allclose(law.predict(x), expected, rtol=1e-14)
    np.testing.assert_allclose(load_function(law.python_source(), tmp_path)(*x.T), expected, rtol=1e-14)


def test_a_column_without_a_name_is_seen_in_latex() -> None:
    law = Law.from_program(program("+ x1 x2", 2), ["", "\n"], np.ones((3, 2)))
    assert law.latex() == "x_{1} + x_{2}"


def test_symbols_of_the_formula_are_the_users_symbols() -> None:
    x = np.linspace(1.0, 2.0, 5)[:, None]
    law = Law.from_program(program("eml x1 1", 1), ["x"], x)
    assert law.sympy().subs(sympy.Symbol("x"), 0) == 1
    assert law.renamed == {}


def test_numbers_stand_alone_in_latex() -> None:
    x = sympy.Symbol("x")
    assert formula_latex(sympy.Float(1.5e-10) * x, {}) == r"1.5 \cdot 10^{-10} x"
    assert formula_latex(sympy.Float(1.5e-10) ** x, {}) == r"{\left(1.5 \cdot 10^{-10}\right)}^{x}"
    assert formula_text(sympy.Float(0.1) + sympy.Float(0.2) * x) == "0.2*x + 0.1"


def test_shape_of_the_input_is_checked() -> None:
    law = Law.from_program(program("x1", 1), ["x"], np.ones((3, 1)))
    with pytest.raises(ValueError, match=r"x must have shape \(points, 1\), got \(3,\)"):
        law.predict(np.ones(3))
    with pytest.raises(ValueError, match="a law needs one program and a name for each"):
        Law.from_program(program("x1", 1), ["x", "y"])


def wild_constant(rng: random.Random) -> float:
    """Of either sign and over 20 decades; whole numbers up to 10**9 among them."""
    size = rng.choice(
        (
            lambda: 10.0 ** rng.uniform(-10, 10),
            lambda: float(rng.randrange(1, 10)),
            lambda: float(round(10 ** rng.uniform(0, 9))),
            lambda: rng.randrange(1, 400) / 4,
        )
    )()
    return size if rng.random() < 0.5 else -size


def wild_tree(rng: random.Random, depth: int) -> str:
    kind = rng.random()
    if depth == 0 or kind < 0.12:
        return rng.choice((f"c:{wild_constant(rng)!r}", "1", "x1", "x1", "x2", "x2"))
    if kind < 0.40:
        return f"{'w' if kind < 0.35 else 'j'}:{wild_constant(rng)!r} {wild_tree(rng, depth - 1)}"
    return f"{'+' if kind < 0.65 else 'eml'} {wild_tree(rng, depth - 1)} {wild_tree(rng, depth - 1)}"


def test_reading_ends_soon_whatever_the_constants_are() -> None:
    """Whole numbers of millions are no degrees, towers of exponentials are not worked out, and nothing else explodes."""
    n_read = n_valid = n_real = 0
    for seed in range(100):
        rng = random.Random(seed)
        wild = program(wild_tree(rng, rng.randrange(2, 8)), 2)
        x = np.random.default_rng(seed).uniform(-2, 3, (50, 2)) * 10.0 ** rng.choice([0, 0, 0, -7, 5])
        x = np.abs(x) + 1e-9 if rng.random() < 0.6 else x
        began = time.process_time()
        try:
            law = Law.from_program(wild, ("x", "y"), x, simplify_seconds=0.5)
        except ValueError:  # a number on the way overflows
            law = None
        assert time.process_time() - began < 3.0, seed
        if law is None:
            continue
        n_read += 1
        if evaluate(wild, torch.from_numpy(x), rtol=None).valid.double().mean() > 0.5:
            n_valid += 1
            n_real += law.is_real
    assert n_read > 60
    assert n_real > 0.9 * n_valid > 30


def test_a_rate_in_si_units_is_read_at_once() -> None:
    x = np.linspace(0, 5e-7, 150)[:, None]
    began = time.process_time()
    law = Law.from_program(program("+ c:5.0 w:-5.0 eml w:-12500000.0 x1 1", 1), ["t"], x)
    assert time.process_time() - began < 3.0
    assert law.formula == "5 - 5*exp(-12500000*t)"


def test_no_law_is_said_with_complex_numbers_where_real_ones_do() -> None:
    x = np.linspace(-2.0, 2.0, 40)[:, None]
    law = Law.from_program(program("w:2.0 eml w:2.0 eml 1 x1 1", 1), ["t_us"], x)  # of a negative x, too
    assert law.is_real
    assert "re(" not in law.formula
    negative = np.linspace(-9.0, -2.0, 40)[:, None]  # (x + 1.49)**0.04 of negative numbers, whose real part is meant
    text = "eml w:-0.04 eml 1 + c:1.49 x1 1"
    law = Law.from_program(program(text, 1), ["x"], negative)
    assert law.is_real
    assert law.disagreement(negative) <= AGREEMENT
    assert "re(" not in law.formula


def test_a_sign_that_few_rows_have_is_seen() -> None:
    """Forms are compared on some of the rows; the law must be real on all."""
    x = np.linspace(0.5, 3.0, 2001)[:, None]
    x[1777] = -0.7
    law = Law.from_program(program("eml 1 x1", 1), ["x"], x)
    assert law.is_real
    assert law.disagreement(x) <= AGREEMENT


@pytest.mark.parametrize(
    ("formula", "written"),
    [
        ("1.2 + 5/(1 + 148.4131591025766*exp(-1.25*x))", "1.2 + 5/(1 + exp(-1.25*(x - 4)))"),
        ("2.0*exp(-2*x**2 + 12.5*x - 19.53125)", "2*exp(-(x - 3.125)**2/(2*0.5**2))"),
        ("3.1*x**4/(133.6336 + x**4)", "3.1*x**4/(x**4 + 3.4**4)"),
        ("3.3*x/(1.2 + 2.4*x)", "1.375*x/(x + 0.5)"),
        ("2.5*cos(3*x - 19.72)", "2.5*cos(3*x - 0.870444)"),
        ("4.5*exp(-0.37*x) + 1.1", "1.1 + 4.5*exp(-0.37*x)"),
        ("3.1*exp(-5.2/x)", "3.1*exp(-5.2/x)"),
    ],
)
def test_laws_are_written_in_the_forms_that_people_know(formula: str, written: str, tmp_path: Path) -> None:
    symbols = (sympy.Symbol("x"),)
    x = np.linspace(0.4, 6.0, 80)[:, None]
    expr = sympy.parse_expr(formula, local_dict={"x": symbols[0]})
    law = Law.from_program(compile_weighted(expr, symbols), ["x"], x, simplify_seconds=5.0)
    assert law.short_formula == written
    assert law.disagreement(x) <= AGREEMENT
    exported = load_function(law.python_source(), tmp_path)(x[:, 0])
    np.testing.assert_allclose(exported, law.predict(x), rtol=1e-13)
    read_back = sympy.lambdify(symbols, sympy.parse_expr(law.formula, local_dict={"x": symbols[0]}))(x[:, 0])
    np.testing.assert_allclose(read_back, law.predict(x), rtol=1e-12)


def test_a_printed_formula_is_a_program_again() -> None:
    x = np.random.default_rng(0).uniform(0.5, 2.0, (40, 2))
    for text in ("+ c:0.5 w:2.0 eml w:-0.7 x1 1", "w:1.5 eml w:-1.5 eml 1 x2 1", "w:2.0 eml j:1.3 x1 1"):
        law = Law.from_program(program(text, 2), ["a", "b"], x)
        again = law.compiled([True, True])
        assert again is not None
        value = evaluate(again, torch.from_numpy(x)).value[0].numpy()
        np.testing.assert_allclose(value, law.predict(x), rtol=1e-12)
    symbol = sympy.Symbol("a", real=True)
    strange = Law(program("x1", 1), ("a",), sympy.floor(symbol))
    assert strange.compiled([True]) is None
