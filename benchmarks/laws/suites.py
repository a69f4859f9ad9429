"""Benchmark laws with constants and noise, for the weighted grammar.

A suite is an entry of `LAW_SUITES`: what it is, and a function that makes its problems. Published laws are facts in
`data/NAME.json`: formulas, ranges, and the nodes of the shortest form (see `shortest_form`).

Points are drawn uniformly in the ranges given there; those at which the law is undefined in real arithmetic are drawn
again. The points depend on the problem's name and the seed only, and levels of noise scale one and the same noise, so that
results at different levels are comparable problem by problem. Measurements and the training points of frozen formulas are
what they are; there the seed decides the other points only.

Legend: p point, v input variable.
"""

import json
import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import sympy

from emlinit.benchmarks.laws.field import FieldCase, draw_case
from emlinit.benchmarks.laws.small import draw_small_case
from emlinit.benchmarks.ranges import extended_ranges
from emlinit.generator.corpus.frozen import (
    FORMULAS_FILE,
    HARD_ASIDE_FILE,
    HARD_FILE,
    FrozenFormula,
    load_formula_problems,
    real_values,
)
from emlinit.generator.errors import UserError
from emlinit.generator.formulas.decompile import complexity
from emlinit.generator.formulas.parse import parse_formula
from emlinit.generator.formulas.simplify import shorter_forms

LAW_DATA_DIR = Path(__file__).resolve().parent / "data"
_N_TRAIN, _N_TEST = 200, 1000
_N_FIELD, _N_SMALL = 200, 20  # cases of the field and small tables that are drawn unless told otherwise
_MOST_TRIES = 1000  # rounds of redrawing points at which a law is undefined
Ranges = Sequence[Sequence[float]] | np.ndarray
_TRAIN, _NOISE, _FRESH, _EXTENDED = range(4)  # streams of random numbers of a problem


@dataclass(frozen=True, eq=False)
class LawProblem:
    """Data with a law that is known, in the weighted grammar."""

    name: str
    """Such as "nguyen-1", "I.6.2a" or "kepler"."""
    suite: str
    """One of `LAW_SUITES`."""
    formula: sympy.Expr
    """The true law in the real symbols x1, x2, ..."""
    names: tuple[str, ...]
    """Names of these symbols, one a column of x."""
    x: np.ndarray
    """Training points, float64 of shape (p, v)."""
    y: np.ndarray
    """Training targets of shape (p,), noise included; the measurements."""
    clean: np.ndarray
    """The law's own values at x, of shape (p,)."""
    noise: float
    """Standard deviation of the noise over that of `clean`; nan for measurements."""
    fresh: np.ndarray
    """1000 points of the training ranges that were not trained on, of shape (1000, v)."""
    fresh_y: np.ndarray
    """The law's values at `fresh`, of shape (1000,)."""
    extended: np.ndarray
    """1000 points of the extended ranges at which the law is defined."""
    extended_y: np.ndarray
    """The law's values at `extended`, of shape (1000,)."""
    complexity: int
    """Nodes of the shortest form of the law that is known (see `shortest_form`)."""


def load_law_suite(name: str, *, noise: float | int = 0.0, seed: int = 0, limit: int | None = None) -> list[LawProblem]:
    """The problems of a suite.

    Args:
        name: one of `LAW_SUITES`.
        noise: standard deviation of the Gaussian noise on the training targets, over that of the noiseless ones; >= 0.
            Measurements have noise of their own and take 0 only.
        seed: of the points and of the noise, >= 0.
        limit: the first so many problems only.

    Raises:
        UserError: no such suite, or the noise, the seed or the limit is out of range.
    """
    if name not in LAW_SUITES:
        raise UserError(f"unknown suite '{name}': use one of {', '.join(LAW_SUITES)}")
    if not 0 <= noise < math.inf:
        raise UserError(f"the noise is {noise}: it must be 0 or a positive number such as 0.01")
    if seed < 0:
        raise UserError(f"the seed is {seed}: it must be 0 or larger")
    if limit is not None and limit < 1:
        raise UserError(f"the limit is {limit}: it must be 1 or larger")
    suite = LAW_SUITES[name]
    if suite.own_noise and noise:
        raise UserError(f"the suite '{name}' has noise of its own: leave the noise at 0")
    return suite.load(name, float(noise), seed, limit)


@dataclass(frozen=True)
class LawSuite:
    """Problems that are reported together, and how they are made."""

    description: str
    """What its laws are, in a line."""
    load: Callable[[str, float, int, int | None], list[LawProblem]]
    """Name, noise, seed, most problems -> the problems; see `load_law_suite`."""
    own_noise: bool = False
    """Whether its targets are measurements: no noise is added to them."""
    published: bool = True
    """Whether its laws stand in papers or data sets; if not, the corpus' own generator drew them."""


def _published(name: str, noise: float, seed: int, limit: int | None) -> list[LawProblem]:
    return [_from_facts(name, fact, noise, seed) for fact in _facts(name)[:limit]]


def _measured(name: str, noise: float, seed: int, limit: int | None) -> list[LawProblem]:
    del noise
    return [_from_measurements(name, fact, seed) for fact in _facts(name)[:limit]]


def _frozen(path: Path, name: str, noise: float, seed: int, limit: int | None) -> list[LawProblem]:
    return [law_of_frozen(name, frozen, noise, seed) for frozen in load_formula_problems(path)[:limit]]


def _field(
    draw: Callable[[int, int, int], FieldCase], most: int, name: str, noise: float, seed: int, limit: int | None
) -> list[LawProblem]:
    cases = (draw(number, seed, _N_TEST) for number in range(most if limit is None else limit))
    return [_from_field(name, case, noise, seed) for case in cases]


def _facts(name: str) -> list[dict[str, Any]]:
    """The laws of `data/NAME.json`."""
    facts: list[dict[str, Any]] = json.loads((LAW_DATA_DIR / f"{name}.json").read_text())["problems"]
    return facts


LAW_SUITES: dict[str, LawSuite] = {
    "nguyen": LawSuite("Nguyen-1..12 (Uy et al. 2011), ranges as in DSR", _published),
    "gmeql": LawSuite("b1..b8 of GMEQL (arXiv 2012.06921, table 1)", _published),
    "feynman": LawSuite("the 52 equations of the AI-Feynman database with at most 3 variables", _published),
    "measured": LawSuite(
        "measurements with an accepted law, many of them certified by NIST", _measured, own_noise=True
    ),
    "field": LawSuite(
        "the curves of the textbooks with drawn constants, units and rows: see benchmarks/laws/field.py",
        partial(_field, draw_case, _N_FIELD),
        published=False,
    ),
    "hard": LawSuite(
        "frozen random formulas that a search without a network does not find: see benchmarks/laws/hard.py",
        partial(_frozen, HARD_FILE),
        published=False,
    ),
    "hard-aside": LawSuite("more of them, to check with", partial(_frozen, HARD_ASIDE_FILE), published=False),
    "formulas": LawSuite(
        "frozen random formulas that are on no published list", partial(_frozen, FORMULAS_FILE), published=False
    ),
    "nist": LawSuite("the 27 sets of NIST's archive of nonlinear regression (StRD)", _measured, own_noise=True),
    "small": LawSuite(
        "laws of two constants in 5 to 20 rows: see benchmarks/laws/small.py",
        partial(_field, draw_small_case, _N_SMALL),
        published=False,
    ),
}
"""By name; the command line, its help and its tables read this."""


def real_symbols(n_variables: int) -> list[sympy.Symbol]:
    """x1, x2, ..., real."""
    return [sympy.Symbol(f"x{number}", real=True) for number in range(1, n_variables + 1)]


def shortest_form(formula: sympy.Expr, seconds: float | int = 10.0) -> sympy.Expr:
    """The shortest form of a law that the simplifier of found laws knows, with its numbers worked out: 1/(4 pi) is five
    nodes on paper and one constant in a law found from data. Its nodes are the `complexity` of a problem."""
    forms = [formula, *shorter_forms(formula, seconds), *shorter_forms(formula.evalf(), seconds)]
    return min((shape for form in forms for shape in (form, form.evalf())), key=complexity)


def _from_facts(suite: str, fact: dict[str, Any], noise: float, seed: int) -> LawProblem:
    symbols = real_symbols(len(fact["ranges"]))
    formula = parse_formula(fact["formula"], symbols)
    x, clean = _defined_points(formula, symbols, fact["ranges"], _N_TRAIN, _rng(fact["name"], seed, _TRAIN))
    return _problem(
        fact["name"], suite, formula, x, clean, noise, fact["ranges"], fact["extended"], fact["complexity"], seed
    )


def _from_measurements(suite: str, fact: dict[str, Any], seed: int) -> LawProblem:
    table = np.loadtxt(LAW_DATA_DIR / suite / f"{fact['name']}.csv", delimiter=",", skiprows=1)
    x, y = table[:, :-1], table[:, -1]
    symbols = real_symbols(x.shape[1])
    formula = parse_formula(fact["formula"], symbols)
    problem = _problem(
        fact["name"],
        suite,
        formula,
        x,
        real_values(formula, symbols, x),
        0.0,
        np.stack([x.min(0), x.max(0)], 1),
        fact["extended"],
        fact["complexity"],
        seed,
    )
    return replace(problem, y=y, noise=math.nan)


def law_of_frozen(suite: str, frozen: FrozenFormula, noise: float = 0.0, seed: int = 0) -> LawProblem:
    """A frozen formula as a problem of a suite."""
    symbols = real_symbols(frozen.x.shape[1])
    formula = parse_formula(frozen.formula, symbols)
    return _problem(
        frozen.name,
        suite,
        formula,
        frozen.x,
        real_values(formula, symbols, frozen.x),
        noise,
        np.stack([frozen.x.min(0), frozen.x.max(0)], 1),
        np.stack(extended_ranges(frozen.x), 1),
        min(complexity(formula), complexity(formula.evalf())),
        seed,
    )


def _from_field(suite: str, case: FieldCase, noise: float, seed: int) -> LawProblem:
    symbols = real_symbols(case.x.shape[1])
    clean, fresh, extended = (real_values(case.formula, symbols, x) for x in (case.x, case.fresh, case.extended))
    return LawProblem(
        name=case.name,
        suite=suite,
        formula=case.formula,
        names=tuple(symbol.name for symbol in symbols),
        x=case.x,
        y=clean + noise * clean.std() * _rng(case.name, seed, _NOISE).standard_normal(len(clean)),
        clean=clean,
        noise=noise,
        fresh=case.fresh,
        fresh_y=fresh,
        extended=case.extended,
        extended_y=extended,
        complexity=min(complexity(case.formula), complexity(case.formula.evalf())),
    )


def _problem(
    name: str,
    suite: str,
    formula: sympy.Expr,
    x: np.ndarray,
    clean: np.ndarray,
    noise: float,
    ranges: Ranges,
    outer: Ranges,
    n_nodes: int,
    seed: int,
) -> LawProblem:
    symbols = real_symbols(x.shape[1])
    fresh, fresh_y = _defined_points(formula, symbols, ranges, _N_TEST, _rng(name, seed, _FRESH))
    extended, extended_y = _defined_points(formula, symbols, outer, _N_TEST, _rng(name, seed, _EXTENDED))
    return LawProblem(
        name=name,
        suite=suite,
        formula=formula,
        names=tuple(symbol.name for symbol in symbols),
        x=x,
        y=clean + noise * clean.std() * _rng(name, seed, _NOISE).standard_normal(len(x)),
        clean=clean,
        noise=noise,
        fresh=fresh,
        fresh_y=fresh_y,
        extended=extended,
        extended_y=extended_y,
        complexity=n_nodes,
    )


def _rng(name: str, seed: int, stream: int) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(name.encode()), stream])


def _defined_points(
    formula: sympy.Expr,
    symbols: Sequence[sympy.Symbol],
    ranges: Ranges,
    n: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """n points uniform in the ranges at which the law is defined and finite, and its values."""
    low, high = np.array(ranges, dtype=np.float64).T
    x = rng.uniform(low, high, (n, len(low)))
    y = real_values(formula, symbols, x)
    for _ in range(_MOST_TRIES):
        bad = ~np.isfinite(y)
        if not bad.any():
            return x, y
        x[bad] = rng.uniform(low, high, (int(bad.sum()), len(low)))
        y[bad] = real_values(formula, symbols, x[bad])
    raise ValueError(f"'{formula}' is hardly defined anywhere in {ranges}")
