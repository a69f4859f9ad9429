"""Benchmark laws with constants and noise, for the weighted grammar.

    nguyen      Nguyen-1..12 (Uy et al. 2011), ranges as in DSR
    gmeql       b1..b8 of GMEQL (arXiv 2012.06921, table 1)
    feynman     the 52 equations of the AI-Feynman database with at most 3 variables

The first three are facts in `data/*.json`: formula, ranges, extended ranges. Points are drawn uniformly; those at which
the law is undefined in real arithmetic are drawn again. The points depend on the problem's name and the seed only, and
levels of noise scale one and the same noise, so that results at different levels are comparable problem by problem.

Legend: p point, v input variable.
"""

import json
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sympy

from emlinit.generator.decompile import complexity
from emlinit.generator.errors import UserError
from emlinit.generator.parse_formula import parse_formula
from emlinit.generator.simplify import shorter_forms

LAW_SUITES = ("nguyen", "gmeql", "feynman")
DATA_DIR = Path(__file__).resolve().parent / "data"
N_TRAIN, N_TEST = 200, 1000
_MOST_TRIES = 1000  # rounds of redrawing points at which a law is undefined
_TRAIN, _NOISE, _FRESH, _EXTENDED = range(4)  # streams of random numbers of a problem


@dataclass(frozen=True, eq=False)
class LawProblem:
    """Data with a known law."""

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
    """Training targets of shape (p,), noise included."""
    clean: np.ndarray
    """The law's own values at x, of shape (p,)."""
    noise: float
    """Standard deviation of the noise over that of `clean`."""
    fresh: np.ndarray
    """1000 points of the training ranges that were not trained on, of shape (1000, v)."""
    fresh_y: np.ndarray
    """The law's values there."""
    extended: np.ndarray
    """1000 points of the extended ranges at which the law is defined."""
    extended_y: np.ndarray
    """The law's values there."""
    complexity: int
    """Nodes of the shortest form of the law that is known (see `shortest_form`)."""


def load_law_suite(name: str, *, noise: float | int = 0.0, seed: int = 0, limit: int | None = None) -> list[LawProblem]:
    """The problems of a suite.

    Args:
        name: one of `LAW_SUITES`.
        noise: standard deviation of the Gaussian noise on the training targets, over that of the noiseless ones; >= 0.
        seed: of the points and of the noise, >= 0.
        limit: the first so many problems only.

    Raises:
        UserError: no such suite, or the noise or the seed is out of range.
    """
    if name not in LAW_SUITES:
        raise UserError(f"unknown suite '{name}': use one of {', '.join(LAW_SUITES)}")
    if not 0 <= noise < math.inf:
        raise UserError(f"the noise is {noise}: it must be 0 or a positive number such as 0.01")
    if seed < 0:
        raise UserError(f"the seed is {seed}: it must be 0 or larger")
    facts = json.loads((DATA_DIR / f"{name}.json").read_text())["problems"][:limit]
    return [_from_facts(name, fact, float(noise), seed) for fact in facts]


def real_symbols(n_variables: int) -> list[sympy.Symbol]:
    """x1, x2, ..., real."""
    return [sympy.Symbol(f"x{number}", real=True) for number in range(1, n_variables + 1)]


def law_values(formula: sympy.Expr, symbols: Sequence[sympy.Symbol], x: np.ndarray) -> np.ndarray:
    """Values of a law at x of shape (p, v), in double precision and real arithmetic; not finite where undefined."""
    with np.errstate(all="ignore"):
        value = sympy.lambdify(list(symbols), formula, "numpy")(*x.T)
    return np.broadcast_to(np.asarray(value, dtype=np.float64), len(x)).copy()


def shortest_form(formula: sympy.Expr, seconds: float | int = 10.0) -> sympy.Expr:
    """The shortest form of a law that the simplifier of found laws knows, with its numbers worked out: 1/(4 pi) is five
    nodes on paper and one constant in a law found from data. Its nodes are the `complexity` of a problem."""
    forms = [formula, *shorter_forms(formula, seconds), *shorter_forms(formula.evalf(), seconds)]
    return min((shape for form in forms for shape in (form, form.evalf())), key=complexity)


def _from_facts(suite: str, fact: dict[str, Any], noise: float, seed: int) -> LawProblem:
    symbols = real_symbols(len(fact["ranges"]))
    formula = parse_formula(fact["formula"], symbols)
    rngs = [np.random.default_rng([seed, zlib.crc32(fact["name"].encode()), stream]) for stream in range(4)]
    x, clean = _defined_points(formula, symbols, fact["ranges"], N_TRAIN, rngs[_TRAIN])
    fresh, fresh_y = _defined_points(formula, symbols, fact["ranges"], N_TEST, rngs[_FRESH])
    extended, extended_y = _defined_points(formula, symbols, fact["extended"], N_TEST, rngs[_EXTENDED])
    return LawProblem(
        name=fact["name"],
        suite=suite,
        formula=formula,
        names=tuple(symbol.name for symbol in symbols),
        x=x,
        y=clean + noise * clean.std() * rngs[_NOISE].standard_normal(N_TRAIN),
        clean=clean,
        noise=noise,
        fresh=fresh,
        fresh_y=fresh_y,
        extended=extended,
        extended_y=extended_y,
        complexity=fact["complexity"],
    )


def _defined_points(
    formula: sympy.Expr,
    symbols: Sequence[sympy.Symbol],
    ranges: Sequence[Sequence[float]],
    n: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """n points uniform in the ranges at which the law is defined and finite, and its values."""
    low, high = np.array(ranges, dtype=np.float64).T
    x = rng.uniform(low, high, (n, len(low)))
    y = law_values(formula, symbols, x)
    for _ in range(_MOST_TRIES):
        bad = ~np.isfinite(y)
        if not bad.any():
            return x, y
        x[bad] = rng.uniform(low, high, (int(bad.sum()), len(low)))
        y[bad] = law_values(formula, symbols, x[bad])
    raise ValueError(f"'{formula}' is hardly defined anywhere in {ranges}")
