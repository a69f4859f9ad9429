"""The suites of laws: the facts are the published ones, points and noise are what they claim to be."""

import json
import math
from collections.abc import Callable

import numpy as np
import pytest
import sympy
import torch

from emlinit.benchmarks.laws.suites import LAW_DATA_DIR, LawProblem, load_law_suite, real_symbols, shortest_form
from emlinit.generator.corpus.frozen import (
    FORMULA_SIZES,
    FORMULAS_FILE,
    load_formula_problems,
    real_values,
    write_formula_problems,
)
from emlinit.generator.corpus.skeletons import skeleton
from emlinit.generator.errors import UserError
from emlinit.generator.evaluate import evaluate
from emlinit.generator.formulas.compile_weighted import compile_weighted
from emlinit.generator.formulas.decompile import complexity, to_sympy
from emlinit.generator.formulas.expression import evaluate_expression
from emlinit.generator.formulas.parse import parse_formula
from emlinit.generator.grammar import from_text
from emlinit.generator.program import programs_from_tokens

_SIZES = {"nguyen": 12, "gmeql": 8, "feynman": 52}


def _arrays(problem: LawProblem) -> list[np.ndarray]:
    return [problem.x, problem.y, problem.clean, problem.fresh, problem.fresh_y, problem.extended, problem.extended_y]


@pytest.mark.parametrize("suite", _SIZES)
def test_points_and_values_are_the_laws_in_its_ranges(suite: str) -> None:
    problems = load_law_suite(suite)
    assert len(problems) == _SIZES[suite]
    assert len({p.name for p in problems}) == len(problems)
    for problem in problems:
        n_variables = len(problem.names)
        assert problem.x.shape == (200, n_variables)
        assert problem.fresh.shape == problem.extended.shape == (1000, n_variables)
        assert problem.formula.free_symbols == set(real_symbols(n_variables)), problem.name
        assert all(np.isfinite(array).all() for array in _arrays(problem)), problem.name
        np.testing.assert_array_equal(problem.y, problem.clean)
        assert problem.clean.std() > 1e-3
        assert not np.isin(problem.fresh, problem.x).any()
        # The ranges are filled, and the extended ones reach beyond on at least one side.
        width = np.ptp(problem.x, axis=0)
        assert (np.ptp(problem.fresh, axis=0) < 1.05 * width).all()
        assert (np.ptp(problem.extended, axis=0) > 1.2 * width).all(), problem.name


def test_values_agree_with_formulas_written_by_hand() -> None:
    problems = {p.name: p for suite in _SIZES for p in load_law_suite(suite)}
    by_hand: dict[str, Callable[..., float]] = {
        "nguyen-5": lambda a: math.sin(a * a) * math.cos(a) - 1,
        "nguyen-12": lambda a, b: a**4 - a**3 + b * b / 2 - b,
        "b2": lambda a, b, c: 0.8 * c**4 + 0.8 * a**3 + 1.2 * b * b + 1.4 * c,
        "b8": lambda a, b: math.sqrt(1.3 + 1.2 * b / a),
        "I.6.2a": lambda a: math.exp(-a * a / 2) / math.sqrt(2 * math.pi),
        "I.26.2": lambda a, b: math.asin(a * math.sin(b)),
        "II.24.17": lambda a, b, c: math.sqrt((a / b) ** 2 - (math.pi / c) ** 2),
    }
    for name, function in by_hand.items():
        problem = problems[name]
        for x, y in (
            (problem.x, problem.clean),
            (problem.fresh, problem.fresh_y),
            (problem.extended, problem.extended_y),
        ):
            np.testing.assert_allclose(y, [function(*map(float, row)) for row in x], rtol=1e-12, atol=1e-12)


def test_points_where_a_law_is_undefined_are_drawn_again() -> None:
    problem = next(p for p in load_law_suite("feynman") if p.name == "I.10.7")
    low, high = problem.extended.min(0), problem.extended.max(0)
    box = np.random.default_rng(0).uniform(low, high, (1000, 3))
    assert np.isnan(real_values(problem.formula, real_symbols(3), box)).sum() > 10
    assert (problem.extended[:, 1] < problem.extended[:, 2]).all()


def test_noise_is_gaussian_of_the_asked_size_on_the_same_points() -> None:
    clean = load_law_suite("gmeql")
    little, much = load_law_suite("gmeql", noise=0.01), load_law_suite("gmeql", noise=0.1)
    shares = []
    for none, low, high in zip(clean, little, much, strict=True):
        np.testing.assert_array_equal(none.x, high.x)
        np.testing.assert_array_equal(none.extended_y, high.extended_y)
        np.testing.assert_array_equal(none.clean, high.clean)
        assert high.noise == 0.1
        np.testing.assert_allclose(10 * (low.y - low.clean), high.y - high.clean, atol=1e-12 * high.clean.std() * 1e3)
        shares.append((high.y - high.clean) / high.clean.std())
    pooled = np.concatenate(shares)
    assert abs(pooled.std() / 0.1 - 1) < 0.06  # 1600 draws: four standard errors are 0.07
    assert abs(pooled.mean()) < 0.01


def test_the_seed_decides_the_points_and_problems_do_not_share_them() -> None:
    first, again, other = (load_law_suite("nguyen", seed=seed, noise=0.1, limit=2) for seed in (0, 0, 1))
    assert len(first) == 2
    for a, b in zip(_arrays(first[0]), _arrays(again[0]), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.isin(first[0].x, other[0].x).any()
    assert not np.isin(first[0].x, first[1].x).any()


@pytest.mark.parametrize("suite", _SIZES)
def test_complexity_is_that_of_the_shortest_form_and_this_is_the_law(suite: str) -> None:
    for problem in load_law_suite(suite)[:: 5 if suite == "feynman" else 1]:
        form = shortest_form(problem.formula)
        assert complexity(form) == problem.complexity <= complexity(problem.formula), problem.name
        values = real_values(form, real_symbols(len(problem.names)), problem.x)
        np.testing.assert_allclose(values, problem.clean, rtol=1e-11, atol=1e-11, err_msg=problem.name)


def test_wrong_requests_are_refused() -> None:
    with pytest.raises(UserError, match="unknown suite 'nope': use one of nguyen"):
        load_law_suite("nope")
    for noise in (-0.1, math.nan, math.inf):
        with pytest.raises(UserError, match="the noise is"):
            load_law_suite("nguyen", noise=noise)
    with pytest.raises(UserError, match="the seed is -1"):
        load_law_suite("nguyen", seed=-1)
    with pytest.raises(UserError, match="the limit is 0"):
        load_law_suite("nguyen", limit=0)
    with pytest.raises(UserError, match="'measured' has noise of its own"):
        load_law_suite("measured", noise=0.1)


def test_nists_measurements_have_the_certified_residuals() -> None:
    """The sum of squares of the residuals is certified to 11 digits: a single wrong digit of the data would show."""
    facts = {fact["name"]: fact for fact in json.loads((LAW_DATA_DIR / "measured.json").read_text())["problems"]}
    problems = {p.name: p for p in load_law_suite("measured")}
    certified = [name for name, fact in facts.items() if "certified_rss" in fact]
    assert len(certified) == 7
    for name in certified:
        rss = float(((problems[name].y - problems[name].clean) ** 2).sum())
        assert rss == pytest.approx(facts[name]["certified_rss"], rel=1e-9), name
    nelson = problems["nelson"]
    rss = float((np.log(nelson.y / nelson.clean) ** 2).sum())
    assert rss == pytest.approx(facts["nelson"]["certified_log_rss"], rel=1e-9)


def test_the_nist_archive_is_complete_and_has_the_certified_residuals() -> None:
    facts = {fact["name"]: fact for fact in json.loads((LAW_DATA_DIR / "nist.json").read_text())["problems"]}
    problems = load_law_suite("nist")
    assert [p.name for p in problems] == [*facts]
    assert len(facts) == 27
    for problem in problems:
        fact = facts[problem.name]
        symbols = real_symbols(len(problem.names))
        constants = {name: sympy.Symbol(name, real=True) for name in fact["certified"]}
        assert fact["start1"].keys() == fact["start2"].keys() == fact["standard_errors"].keys() == constants.keys()
        form = parse_formula(fact["form"], [*symbols, *constants.values()])
        filled = form.xreplace({constants[name]: sympy.Float(value) for name, value in fact["certified"].items()})
        np.testing.assert_allclose(real_values(filled, symbols, problem.x), problem.clean, rtol=1e-12, atol=1e-12)
        rss = float(((problem.y - problem.clean) ** 2).sum())
        if problem.name == "lanczos1":  # its residuals of 1e-13 are below the digits of the certified constants
            assert rss < 1e-19
        else:
            assert rss == pytest.approx(fact["certified_rss"], rel=1e-9), problem.name
        freedom = len(problem.y) - len(constants)
        deviation = math.sqrt(fact["certified_rss"] / freedom)
        assert deviation == pytest.approx(fact["residual_deviation"], rel=1e-9), "a row is missing"
        assert all(np.isfinite(array).all() for array in _arrays(problem)), problem.name
        assert (problem.extended.max(0) > problem.x.max(0)).all()
        assert complexity(shortest_form(problem.formula)) == problem.complexity <= complexity(problem.formula)


def test_other_measurements_follow_their_laws() -> None:
    problems = {p.name: p for p in load_law_suite("measured")}
    for name, n_points, rtol in (("kepler", 8, 1e-3), ("boyle", 25, 1e-2), ("balmer", 12, 1e-5)):
        problem = problems[name]
        assert len(problem.y) == n_points
        np.testing.assert_allclose(problem.y, problem.clean, rtol=rtol)
    hubble = problems["hubble"]
    assert np.corrcoef(hubble.y, hubble.clean)[0, 1] > 0.75
    assert (hubble.y != hubble.clean).all()
    for problem in problems.values():
        assert math.isnan(problem.noise)
        assert len(problem.extended) == len(problem.fresh_y) == 1000
        assert all(np.isfinite(array).all() for array in _arrays(problem)), problem.name
        assert (problem.extended.min(0) < problem.x.min(0) + 0.02 * np.ptp(problem.x, axis=0)).all()
        assert (problem.extended.max(0) > problem.x.max(0)).all()


def test_frozen_formulas_are_the_programs_that_they_were_made_from() -> None:
    problems, frozen = load_law_suite("formulas"), load_formula_problems()
    assert len(problems) == len(frozen) == 60
    shapes = set()
    for problem, stored in zip(problems, frozen, strict=True):
        n_variables = len(problem.names)
        tokens, constants = from_text(stored.text, n_variables)
        nodes = stored.text.split().count("eml")
        assert problem.name.startswith(f"{nodes}-")
        program = programs_from_tokens(tokens[None], constants[None], n_variables)
        result = evaluate(program, torch.from_numpy(problem.x))
        assert result.valid.all(), problem.name
        scale = np.abs(problem.clean).max()
        np.testing.assert_allclose(
            result.value[0].numpy(), problem.clean, rtol=0, atol=1e-9 * scale, err_msg=problem.name
        )
        np.testing.assert_allclose(stored.y, problem.clean, rtol=0, atol=1e-9 * scale, err_msg=problem.name)
        assert all(np.isfinite(array).all() for array in _arrays(problem)), problem.name
        shapes.add(skeleton(tokens.tolist()))
    assert len(shapes) == 60
    groups = [sum(low <= int(p.name.split("-")[0]) <= high for p in problems) for low, high in FORMULA_SIZES]
    assert groups == [20, 20, 20]
    assert {len(p.names) for p in problems} == {1, 2, 3}


def test_a_frozen_set_is_not_made_again() -> None:
    with pytest.raises(FileExistsError, match="is frozen"):
        write_formula_problems(FORMULAS_FILE, [])


@pytest.mark.parametrize("suite", _SIZES)
def test_every_formula_is_a_program_and_comes_back(suite: str) -> None:
    for problem in load_law_suite(suite):
        symbols = real_symbols(len(problem.names))
        program = compile_weighted(problem.formula, symbols)
        scale = np.abs(problem.clean).max()
        for x, y in ((problem.x, problem.clean), (problem.extended, problem.extended_y)):
            result = evaluate(program, torch.from_numpy(x), rtol=None)
            assert result.valid.all(), problem.name
            np.testing.assert_allclose(result.value[0].numpy(), y, rtol=1e-9, atol=1e-9 * scale, err_msg=problem.name)
        back = to_sympy(program, 0, symbols, points=problem.x, simplify_seconds=0)
        assert back.free_symbols == problem.formula.free_symbols, problem.name
        values = evaluate_expression(back, symbols, problem.x)
        np.testing.assert_allclose(values.real, problem.clean, rtol=1e-9, atol=1e-9 * scale, err_msg=problem.name)
