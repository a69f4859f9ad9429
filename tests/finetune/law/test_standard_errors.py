"""Standard errors of printed constants and of a law's values: they are curve_fit's, they cover the truth, and are silent
where they must be."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sympy
from scipy.optimize import curve_fit

from emlinit.finetune.law.law import Law
from emlinit.finetune.law.standard_errors import LawConstant, LawErrors, constants_line, law_errors
from emlinit.finetune.law.symbol_names import symbols_for
from emlinit.generator.errors import UserError
from emlinit.generator.formulas.compile_weighted import compile_weighted

Formula = Callable[..., np.ndarray]
NAMES = ("x1", "x2")
X1, X2 = symbols_for(NAMES)
C = sympy.symbols("c0:3")
MEASURED = Path(__file__).resolve().parents[3] / "benchmarks" / "laws" / "data" / "measured"
PROGRAM = compile_weighted(X1 + X2, (X1, X2))
"""Stands in for the laws' own: errors are those of the formula."""

MODELS: dict[str, tuple[sympy.Expr, Formula, tuple[float, ...]]] = {
    "linear": (C[0] * X1 + C[1], lambda x, a, b: a * x[0] + b, (1.7, -0.4)),
    "power law": (C[0] * X1 ** C[1] * X2, lambda x, a, p: a * x[0] ** p * x[1], (3.1, 1.5)),
    "exponential": (C[0] * sympy.exp(C[1] * X1) + C[2], lambda x, a, b, c: a * np.exp(b * x[0]) + c, (2.5, -0.7, 0.3)),
    "sinusoid": (
        C[0] * sympy.sin(C[1] * X1 + C[2]),
        lambda x, a, w, f: a * np.sin(w * x[0] + f),
        (1.2, 1.5, 0.4),
    ),
    "rational": (C[0] / (C[1] + X1) - X2 / 3, lambda x, a, b: a / (b + x[0]) - x[1] / 3, (3.7, 1.9)),
}


def law_of(form: sympy.Expr, constants: np.ndarray | tuple[float, ...], names: tuple[str, ...] = NAMES) -> Law:
    expression = form.subs(dict(zip(C, map(sympy.Float, map(float, constants)), strict=False)))
    return Law(PROGRAM, names, expression)


def errors_by_value(law: Law, x: np.ndarray, y: np.ndarray) -> dict[float, float | None]:
    return {constant.value: constant.standard_error for constant in law_errors(law, x, y).constants}


@pytest.mark.parametrize("name", MODELS)
def test_errors_are_those_of_curve_fit(name: str) -> None:
    form, formula, truth = MODELS[name]
    rng = np.random.default_rng(0)
    x = rng.uniform(0.2, 4, (60, 2))
    y = formula(x.T, *truth) + 0.05 * rng.normal(size=60)
    best, covariance = curve_fit(formula, x.T, y, truth, ftol=1e-14, xtol=1e-14)
    found = errors_by_value(law_of(form, best), x, y)
    assert len(found) == len(best)
    for value, error in zip(best, np.sqrt(np.diag(covariance)), strict=True):
        assert found[value] == pytest.approx(error, rel=1e-5)


@pytest.mark.parametrize("scale", [1e-100, 1e-9, 1e9, 1e100])
def test_units_change_only_the_errors_that_carry_them(scale: float) -> None:
    form, formula, truth = MODELS["power law"]
    rng = np.random.default_rng(1)
    x = rng.uniform(0.2, 4, (40, 2))
    y = formula(x.T, *truth) + 0.05 * rng.normal(size=40)
    plain = errors_by_value(law_of(form, truth), x, y)
    scaled = errors_by_value(law_of(form, (scale * truth[0], truth[1])), x, scale * y)
    assert scaled[scale * truth[0]] == pytest.approx(scale * (plain[truth[0]] or 0.0))
    assert scaled[truth[1]] == pytest.approx(plain[truth[1]])


def test_two_standard_errors_cover_the_truth_in_19_of_20_draws() -> None:
    form, formula, truth = MODELS["power law"]
    x = np.random.default_rng(2).uniform(0.5, 4, (40, 2))
    clean = formula(x.T, *truth)
    covered = np.zeros(len(truth))
    for draw in range(200):
        y = clean + 0.3 * np.random.default_rng(draw).normal(size=40)
        best, _ = curve_fit(formula, x.T, y, truth)
        found = errors_by_value(law_of(form, best), x, y)
        covered += [abs(value - true) <= 2 * (found[value] or 0.0) for value, true in zip(best, truth, strict=True)]
    assert ((covered / 200 > 0.91) & (covered / 200 < 0.99)).all()  # 0.95 and two and a half times its own spread


# National Institute of Standards and Technology, Statistical Reference Datasets, nonlinear regression: certified values.
EXP_B = float(np.exp(2.6180768402))
CERTIFIED: dict[str, tuple[Callable[..., sympy.Expr], dict[float, float]]] = {
    "misra1a": (
        lambda a, b: a * (1 - sympy.exp(-b * X1)),
        {2.3894212918e02: 2.7070075241e00, 5.5015643181e-04: 7.2668688436e-06},
    ),
    "danwood": (lambda a, b: a * X1**b, {7.6886226176e-01: 1.8281973860e-02, 3.8604055871e00: 5.1726610913e-02}),
    "chwirut2": (
        lambda a, b, c: sympy.exp(-a * X1) / (b + c * X1),
        {1.6657666537e-01: 3.8303286810e-02, 5.1653291286e-03: 6.6621605126e-04, 1.2150007096e-02: 1.5304234767e-03},
    ),
    "rat42": (
        lambda a, b, c: (
            a / (1 + b * sympy.exp(-c * X1))
        ),  # certified with exp(b), which changes its error by that factor
        {7.2462237576e01: 1.7340283401e00, EXP_B: EXP_B * 8.8295217536e-02, 6.7359200066e-02: 3.4465663377e-03},
    ),
}


@pytest.mark.parametrize("name", CERTIFIED)
def test_errors_are_the_certified_ones(name: str) -> None:
    form, certified = CERTIFIED[name]
    x, y = np.loadtxt(MEASURED / f"{name}.csv", delimiter=",", skiprows=1).T
    expression = form(*map(sympy.Float, certified))
    found = law_errors(Law(compile_weighted(X1, (X1,)), ("x1",), expression), x[:, None], y).constants
    assert len(found) == len(certified)
    for value, error in certified.items():
        (constant,) = [constant for constant in found if abs(constant.value) == value]
        assert constant.standard_error == pytest.approx(error, rel=1e-6)


def test_rows_in_many_blocks_give_the_same_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    form, formula, truth = MODELS["exponential"]
    rng = np.random.default_rng(3)
    x = rng.uniform(0.2, 4, (500, 2))
    law, y = law_of(form, truth), formula(x.T, *truth) + 0.05 * rng.normal(size=500)
    whole = errors_by_value(law, x, y)
    monkeypatch.setattr("emlinit.finetune.law.standard_errors._CHUNK_NUMBERS", 40)
    assert errors_by_value(law, x, y) == pytest.approx(whole, rel=1e-9)


def test_constants_that_trade_off_have_no_error_and_the_others_do() -> None:
    rng = np.random.default_rng(4)
    x = rng.uniform(0.2, 4, (60, 2))
    expression = sympy.Float(2.5) / (sympy.Float(0.7) * X1 + sympy.Float(0.25)) + sympy.Float(1.5) * X2
    law = Law(PROGRAM, NAMES, expression)
    y = law.predict(x) + 0.05 * rng.normal(size=60)
    found = errors_by_value(law, x, y)
    assert found == {2.5: None, 0.7: None, 0.25: None, 1.5: found[1.5]}
    assert found[1.5] is not None
    line = constants_line(law_errors(law, x, y).constants)
    assert line.count("not determined by the data") == 3
    assert line.count("±") == 1


def test_a_law_that_is_undefined_everywhere_has_no_errors_whatever_the_weights() -> None:
    law = Law(PROGRAM, NAMES, sympy.Float(1.5) / X1)
    x, y = np.zeros((9, 2)), np.arange(9.0)
    for weights in (None, np.ones(9)):
        errors = law_errors(law, x, y, weights=weights)
        assert errors_of_values(errors) == {1.5: None}
        assert np.isnan(errors.of_value(np.ones((2, 2)))).all()


def test_too_few_points_and_exact_laws_have_no_errors() -> None:
    form, formula, truth = MODELS["exponential"]
    rng = np.random.default_rng(5)
    x = rng.uniform(0.2, 4, (60, 2))
    law, clean = law_of(form, truth), formula(x.T, *truth)
    noisy = clean + 0.05 * rng.normal(size=60)
    assert set(errors_by_value(law, x[:3], noisy[:3]).values()) == {None}
    assert None not in errors_by_value(law, x[:4], noisy[:4]).values()
    assert errors_by_value(law, x, clean) == dict.fromkeys((2.5, -0.7, 0.3))
    assert constants_line(law_errors(law, x, clean).constants) == ""


def test_a_power_at_zero_and_undefined_rows_do_no_harm() -> None:
    form = C[0] * X1 ** C[1]
    rng = np.random.default_rng(6)
    x = rng.uniform(0.2, 4, (60, 2))
    law = law_of(form, (3.1, 1.5))
    y = law.predict(x) + 0.05 * rng.normal(size=60)
    with_zero = np.concatenate([x, [[0.0, 1.0]]]), np.append(y, 0.0)
    known, also = errors_by_value(law, x, y), errors_by_value(law, *with_zero)
    # One more residual of 0 and derivatives of 0: only the freedom grows, from 58 to 59.
    assert also == pytest.approx({value: (error or 0.0) * (58 / 59) ** 0.5 for value, error in known.items()})
    logarithm = law_of(C[0] / X1 + C[1], (3.1, 1.5))
    y = logarithm.predict(x) + 0.05 * rng.normal(size=60)
    assert errors_by_value(logarithm, np.concatenate([x, [[0.0, 1.0]]]), np.append(y, 0.0)) == pytest.approx(
        errors_by_value(logarithm, x, y)
    )


def test_constants_stand_in_the_order_of_the_formula_with_its_signs_and_no_simple_numbers() -> None:
    names = ("x_1.5", "v2")
    x1, x2 = symbols_for(names)
    expression = (
        sympy.Float(-2.5e-7) * sympy.exp(-sympy.Float(0.7) * x1) + x2**2 / 3 + sympy.pi - sympy.Float(0.125) * x2
    )
    law = Law(PROGRAM, names, expression)
    rng = np.random.default_rng(7)
    x = rng.uniform(0.2, 4, (30, 2))
    values = [constant.value for constant in law_errors(law, x, law.predict(x) + rng.normal(size=30)).constants]
    inverse = Law(PROGRAM, names, 4.5 / x1 ** sympy.Float(1.25))
    assert inverse.formula == "4.5/x_1_5**1.25"
    assert [constant.value for constant in law_errors(inverse, x, rng.normal(size=30)).constants] == [4.5, 1.25]
    places = [law.formula.index(repr(abs(value))) for value in values]
    assert sorted(values) == [-0.7, -0.125, -2.5e-7]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (365.18812, 0.02312, "365.188 ± 0.023"),
        (1.4998712, 0.0000412, "1.499871 ± 0.000041"),
        (-0.69997, 0.0996, "-0.70 ± 0.10"),
        (12345.6, 210.0, "12350 ± 210"),
        (0.3, 12.34, "0 ± 12"),
        (1.23456789e-9, 2.3e-13, "(1.23457 ± 0.00023)e-9"),
        (6.02214e23, 1.2e20, "(6.0221 ± 0.0012)e23"),
        (0.0, 1.0, "0.0 ± 1.0"),
        (2.5, None, "2.5 (not determined by the data)"),
    ],
)
def test_errors_are_written_to_two_digits(value: float, error: float | None, text: str) -> None:
    assert str(LawConstant(value, error)) == text


def test_constants_of_a_known_form_are_those_that_people_report() -> None:
    """A noisy logistic: height, rate and middle with their errors, which are curve_fit's."""

    def logistic(x: np.ndarray, height: float, rate: float, middle: float) -> np.ndarray:
        return height / (1 + np.exp(-rate * (x - middle)))

    rng = np.random.default_rng(0)
    x = np.linspace(0.0, 10.0, 100)[:, None]
    y = logistic(x[:, 0], 5.0, 1.25, 4.0) + 0.05 * rng.normal(size=100)
    best, covariance = curve_fit(logistic, x[:, 0], y, (5, 1, 4), ftol=1e-14, xtol=1e-14)
    height, rate, middle = map(float, best)
    written = height / (1 + np.exp(rate * middle) * sympy.exp(-rate * X1))
    law = Law.from_program(compile_weighted(written, (X1,)), ("x1",), x)
    constants = law_errors(law, x, y).constants
    assert [constant.value for constant in constants] == pytest.approx([height, -rate, -middle], rel=1e-9)
    errors = [constant.standard_error for constant in constants]
    assert errors == pytest.approx(list(np.sqrt(np.diag(covariance))), rel=1e-4)


def fitted(
    name: str, seed: int, noise: np.ndarray | float = 0.05, **given: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray, LawErrors, np.ndarray]:
    """A model fitted to 60 noisy rows: its x, y, curve_fit's constants, the errors and curve_fit's covariance."""
    form, formula, truth = MODELS[name]
    rng = np.random.default_rng(seed)
    x = rng.uniform(0.2, 4, (60, 2))
    y = formula(x.T, *truth) + noise * rng.normal(size=60)
    best, covariance = curve_fit(formula, x.T, y, truth, ftol=1e-14, xtol=1e-14, **given)
    sigma, absolute = given.get("sigma"), given.get("absolute_sigma", False)
    kind = {} if sigma is None else {"sigma": sigma} if absolute else {"weights": 1 / sigma**2}
    errors = law_errors(law_of(form, best), x, y, **kind)
    order = [[constant.value for constant in errors.constants].index(value) for value in best]
    return x, y, best, errors, errors.covariance[np.ix_(order, order)] - covariance


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("given", ["nothing", "sigma", "weights"])
def test_the_covariance_is_that_of_curve_fit(name: str, given: str) -> None:
    sigma = np.random.default_rng(8).uniform(0.02, 0.2, 60)
    kind = {} if given == "nothing" else {"sigma": sigma, "absolute_sigma": given == "sigma"}
    _, _, _, errors, difference = fitted(name, 9, sigma, **kind)
    sizes = np.sqrt(np.diag(errors.covariance))
    assert np.abs(difference).max() < 1e-4 * sizes.max() ** 2
    assert [constant.standard_error for constant in errors.constants] == pytest.approx(sizes.tolist(), rel=1e-9)


def test_covariances_carry_the_signs_that_the_formula_shows() -> None:
    form, formula, truth = C[0] - C[1] * X1, lambda x, a, b: a - b * x[0], (2.5, 0.7)
    rng = np.random.default_rng(3)
    x = rng.uniform(1, 4, (60, 2))
    y = formula(x.T, *truth) + 0.05 * rng.normal(size=60)
    best, covariance = curve_fit(formula, x.T, y, truth)
    errors = law_errors(law_of(form, best), x, y)
    place = {constant.value: i for i, constant in enumerate(errors.constants)}
    shown = errors.covariance[place[best[0]], place[-best[1]]]
    assert covariance[0, 1] > 0
    assert shown == pytest.approx(-covariance[0, 1], rel=1e-5)


def test_rows_of_weight_zero_are_no_rows_and_the_size_of_weights_says_nothing() -> None:
    form, formula, truth = MODELS["power law"]
    rng = np.random.default_rng(10)
    x = rng.uniform(0.2, 4, (60, 2))
    law, y = law_of(form, truth), formula(x.T, *truth) + 0.05 * rng.normal(size=60)
    weights = rng.uniform(0.5, 2, 60) * (np.arange(60) % 3 > 0)
    kept = weights > 0
    all_rows, fewer = (
        law_errors(law, x, y, weights=weights),
        law_errors(law, x[kept], y[kept], weights=7 * weights[kept]),
    )
    np.testing.assert_allclose(all_rows.covariance, fewer.covariance, rtol=1e-9)
    assert all_rows.deviation == pytest.approx(fewer.deviation)
    assert all_rows.freedom == fewer.freedom == 38
    even = law_errors(law, x, y, weights=np.full(60, 3.0))
    np.testing.assert_allclose(even.covariance, law_errors(law, x, y).covariance, rtol=1e-9)


def test_a_known_noise_speaks_for_an_exact_law_and_for_as_many_rows_as_constants() -> None:
    form, formula, truth = MODELS["linear"]
    x = np.random.default_rng(11).uniform(0.2, 4, (30, 2))
    law, y = law_of(form, truth), formula(x.T, *truth)
    known = law_errors(law, x, y, sigma=np.full(30, 0.1))
    slope = 0.1 / np.linalg.norm(x[:, 0] - x[:, 0].mean())
    assert errors_of_values(known)[1.7] == pytest.approx(slope)
    assert known.deviation == 0.1
    two = law_errors(law, x[:2], y[:2], sigma=np.array([0.1, 0.3]))
    assert None not in errors_of_values(two).values()
    assert np.isnan(two.deviation)  # of a measurement elsewhere
    np.testing.assert_allclose(two.of_value(x[:2]), [0.1, 0.3])  # the line goes through both
    one = law_errors(law, x[:1], y[:1], sigma=np.array([0.1]))
    np.testing.assert_allclose(one.of_value(x[:2]), [0.1, np.nan])


def errors_of_values(errors: LawErrors) -> dict[float, float | None]:
    return {constant.value: constant.standard_error for constant in errors.constants}


@pytest.mark.parametrize(("name", "size"), [("linear", 0.3), ("exponential", 0.05)])
def test_one_and_two_standard_errors_cover_values_and_measurements(name: str, size: float) -> None:
    form, formula, truth = MODELS[name]
    x = np.random.default_rng(2).uniform(0.5, 4, (40, 2))
    new = np.random.default_rng(12).uniform(0.3, 5, (25, 2))
    clean, there = formula(x.T, *truth), formula(new.T, *truth)
    inside = np.zeros((2, 2))
    for draw in range(80):
        rng = np.random.default_rng(draw)
        y = clean + size * rng.normal(size=40)
        best, _ = curve_fit(formula, x.T, y, truth)
        law = law_of(form, best)
        errors = law_errors(law, x, y)
        off, noise = law.predict(new) - there, size * rng.normal(size=25)
        for place, z in enumerate((off / errors.of_value(new), (off - noise) / errors.of_measurement(new))):
            inside[place] += np.mean(np.abs(z) < 1) / 80, np.mean(np.abs(z) < 2) / 80
    assert inside == pytest.approx(np.array([[0.68, 0.95], [0.68, 0.95]]), abs=0.05)


def test_a_value_is_known_where_constants_trade_off_but_not_where_only_one_of_them_counts() -> None:
    rng = np.random.default_rng(4)
    x = rng.uniform(0.2, 4, (60, 2))
    law = Law(PROGRAM, NAMES, sympy.Float(2.5) / (sympy.Float(0.7) * X1 + sympy.Float(0.25)) + sympy.Float(1.5) * X2)
    plain = Law(PROGRAM, NAMES, 1 / (sympy.Float(0.28) * X1 + sympy.Float(0.1)) + sympy.Float(1.5) * X2)
    y = law.predict(x) + 0.05 * rng.normal(size=60)
    deviation = np.sqrt(57 / 56)  # one constant more is counted
    np.testing.assert_allclose(
        law_errors(law, x, y).of_value(x), deviation * law_errors(plain, x, y).of_value(x), rtol=1e-6
    )
    apart = Law(PROGRAM, NAMES, sympy.Float(2.5) * X1 + sympy.Float(1.5) * X2)
    same = np.column_stack([x[:, 0], x[:, 0]])
    errors = law_errors(apart, same, 4 * x[:, 0] + 0.05 * rng.normal(size=60))
    assert np.isfinite(errors.of_value(same)).all()
    assert np.isnan(errors.of_value(x)).all()
    assert np.isposinf(np.diag(errors.covariance)).all()


def test_exact_laws_and_those_without_constants_have_no_error_and_too_few_rows_none_that_is_known() -> None:
    form, formula, truth = MODELS["exponential"]
    rng = np.random.default_rng(5)
    x = rng.uniform(0.2, 4, (60, 2))
    law, clean = law_of(form, truth), formula(x.T, *truth)
    exact = law_errors(law, x, clean)
    assert (exact.is_exact, exact.of_value(x).tolist()) == (True, [0.0] * 60)
    assert exact.python_source() == law.python_source()
    noisy = clean + 0.05 * rng.normal(size=60)
    assert np.isnan(law_errors(law, x[:3], noisy[:3]).of_value(x)).all()
    bare = law_errors(Law(PROGRAM, NAMES, X1 + X2), x, x.sum(1) + 0.1 * rng.normal(size=60))
    assert bare.of_value(x).tolist() == [0.0] * 60
    assert bare.of_measurement(x) == pytest.approx(np.full(60, 0.1), rel=0.3)


def test_errors_are_pickled_whole() -> None:
    x, _, _, errors, _ = fitted("exponential", 0)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(errors)).of_value(x), errors.of_value(x))


@pytest.mark.parametrize("name", MODELS)
def test_the_written_module_has_the_same_errors(name: str) -> None:
    x, _, _, errors, _ = fitted(name, 1)
    module: dict[str, Any] = {}
    exec(errors.python_source("y", "a remark"), module)
    np.testing.assert_allclose(module["law"](*x.T), errors.law.predict(x), rtol=1e-14)
    np.testing.assert_allclose(module["standard_error"](*x.T), errors.of_value(x), rtol=1e-12)
    assert np.shape(module["standard_error"](*x[0])) == ()
    np.testing.assert_array_equal(module["COVARIANCE"], errors.covariance)
    assert module["CONSTANTS"].tolist() == [constant.value for constant in errors.constants]
    assert module["STANDARD_ERRORS"] == pytest.approx(np.sqrt(np.diag(errors.covariance)), rel=1e-9)


def test_columns_may_be_called_like_the_parts_of_the_module() -> None:
    names = ("ROOT", "slopes")
    a, b = symbols_for(names)
    rng = np.random.default_rng(2)
    x = rng.uniform(1, 2, (30, 2))
    law = Law(PROGRAM, names, sympy.Float(1.5) * a ** sympy.Float(0.3) + sympy.Float(0.7) * b)
    errors = law_errors(law, x, law.predict(x) + 0.1 * rng.normal(size=30))
    module: dict[str, Any] = {}
    exec(errors.python_source(), module)
    np.testing.assert_allclose(module["standard_error"](*x.T), errors.of_value(x), rtol=1e-12)


def test_the_written_module_says_what_is_not_determined_and_has_no_function_then() -> None:
    x = np.random.default_rng(4).uniform(0.2, 4, (60, 2))
    law = Law(PROGRAM, NAMES, sympy.Float(2.5) / (sympy.Float(0.7) * X1 + sympy.Float(0.25)))
    module: dict[str, Any] = {}
    exec(law_errors(law, x, law.predict(x) + np.random.default_rng(0).normal(size=60)).python_source(), module)
    assert "standard_error" not in module
    assert np.isnan(module["STANDARD_ERRORS"]).all()
    assert np.isposinf(np.diag(module["COVARIANCE"])).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sigma": np.ones(5)}, r"sigma must have shape \(60,\), one a row, got \(5,\)"),
        ({"sigma": np.zeros(60)}, "sigma must be finite and positive: it is 0 in row 1"),
        ({"weights": -np.ones(60)}, "weights must be finite and not negative: it is -1 in row 1"),
        ({"weights": np.full(60, np.nan)}, "weights must be finite and not negative: it is nan in row 1"),
        ({"weights": np.zeros(60)}, "all weights are 0: give some rows a positive one"),
    ],
)
def test_weights_that_cannot_be_used_are_refused(given: dict[str, np.ndarray], message: str) -> None:
    x, y, _, errors, _ = fitted("linear", 0)
    with pytest.raises(UserError, match=f"^{message}$"):
        law_errors(errors.law, x, y, **given)
