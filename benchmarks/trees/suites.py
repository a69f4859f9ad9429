"""Benchmark problems with known answers, in the exact grammar: targets of a paper, the usual operations, frozen trees.

A suite is an entry of `TREE_SUITES`, at the end: what it is, and a function that makes its problems from trees and points.

Legend: p point, v input variable.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from emlinit.benchmarks.ranges import extended_ranges
from emlinit.generator.corpus.frozen import (
    GRAMMAR2_FILE,
    GRAMMAR_FILE,
    WIDE2_FILE,
    WIDE_FILE,
    WIDE_SIZES,
    FrozenProblem,
    load_grammar_problems,
    load_wide_problems,
)
from emlinit.generator.errors import UserError
from emlinit.generator.evaluate import evaluate
from emlinit.generator.formulas.exact_identities import EXACT_IDENTITIES
from emlinit.generator.grammar import depth, from_text
from emlinit.generator.program import Programs, programs_from_tokens

PAPER_TARGETS = {
    "e-ln(e^y-ln x)": "eml 1 eml x2 x1",
    "e^e/(e^y-ln x)": "eml eml 1 eml x2 x1 1",
    "ln(e^x-ln y)": "eml 1 eml eml 1 eml x1 x2 1",
    "ln(e-ln(e^x-ln y))": "eml 1 eml eml 1 eml 1 eml x1 x2 1",
    "e-y*e^(e-e^x)": "eml 1 eml eml eml 1 eml eml x1 x2 1 1 1",
    "x*y": EXACT_IDENTITIES["x1*x2"],
}
"""Target -> its tree; x is x1 and y is x2. In order of depth 2, 3, 4, 5, 6 and 8."""
_IDENTITIES = (
    "exp(x1)", "e - x1", "log(x1)", "x1 - log(x2)", "x1 - x2", "x1 - 1", "-x1", "1/x1", "x1**2", "sqrt(x1)",
    "x1 + x2", "x1*x2", "x1/x2", "x1**x2",
)  # fmt: skip
_N_TRAIN, _N_FRESH = 200, 200


@dataclass(frozen=True, eq=False)
class TreeProblem:
    """Data whose law is a known exact tree."""

    name: str
    """Such as "x*y" or "3-17"."""
    group: str
    """Rows of the printed table: problems of a group are counted together."""
    truth: Programs
    """The tree, as a batch of one program."""
    x: np.ndarray
    """Training points, float64 of shape (p, v)."""
    y: np.ndarray
    """Training targets, float64 of shape (p,)."""
    fresh: np.ndarray
    """Points inside the ranges that were not trained on."""
    extended: np.ndarray
    """Points of ranges half as wide again, positive where the training points are."""


def load_tree_suite(name: str, limit: int | None = None) -> list[TreeProblem]:
    """The problems of a suite; of the frozen trees at most `limit` a group.

    Raises:
        UserError: no such suite.
    """
    if name not in TREE_SUITES:
        raise UserError(f"unknown suite '{name}': use one of {', '.join(TREE_SUITES)}")
    return TREE_SUITES[name].load(limit)


@dataclass(frozen=True)
class TreeSuite:
    """Problems that are reported together, and how they are made."""

    description: str
    """What its trees are, in a line."""
    load: Callable[[int | None], list[TreeProblem]]
    """Most problems of a group, if they are many -> the problems, always the same ones."""
    by_problem: bool
    """Whether its table has a line for each problem; else one for each method."""


def _paper(limit: int | None) -> list[TreeProblem]:
    del limit
    grid = np.linspace(1, 3, 15)
    points = np.stack(np.meshgrid(grid, grid, indexing="ij"), -1).reshape(-1, 2)
    return [_problem(target, _depth_of(text), text, points) for target, text in PAPER_TARGETS.items()]


def _identities(limit: int | None) -> list[TreeProblem]:
    del limit
    problems = []
    for number, formula in enumerate(_IDENTITIES):
        rng = np.random.default_rng(number)
        points = rng.uniform(0.5, 3, (_N_TRAIN, 2 if "x2" in EXACT_IDENTITIES[formula] else 1))
        problems.append(_problem(formula, "identities", EXACT_IDENTITIES[formula], points))
    return problems


def _grammar(limit: int | None, path: Path = GRAMMAR_FILE) -> list[TreeProblem]:
    problems = load_grammar_problems(path)
    return _frozen([(problem, str(problem.depth), f"depth {problem.depth}") for problem in problems], limit)


def _wide(limit: int | None, path: Path = WIDE_FILE) -> list[TreeProblem]:
    grouped = []
    for problem in load_wide_problems(path):
        n_nodes = problem.text.split().count("eml")
        sizes = next(f"{low}-{high}" for low, high in WIDE_SIZES if low <= n_nodes <= high)
        grouped.append((problem, sizes, f"{sizes} nodes"))
    return _frozen(grouped, limit)


def _frozen(grouped: Iterable[tuple[FrozenProblem, str, str]], limit: int | None) -> list[TreeProblem]:
    """Problems of (frozen tree, short name of its group, group): the first of each group, numbered from 1."""
    counts: dict[str, int] = {}
    problems = []
    for frozen, prefix, group in grouped:
        number = counts[group] = counts.get(group, 0) + 1
        if limit is None or number <= limit:
            problems.append(_problem(f"{prefix}-{number}", group, frozen.text, frozen.x))
    return problems


TREE_SUITES: dict[str, TreeSuite] = {
    "paper": TreeSuite("the depth targets of arXiv 2603.21852 (depth 2..6) and x*y, on its grid 1..3", _paper, True),
    "identities": TreeSuite("exp, ln, -x, 1/x, x+y, x*y, x^y and other usual operations", _identities, True),
    "grammar": TreeSuite("frozen random trees of exact depth 2..6, 100 each", _grammar, False),
    "wide": TreeSuite("frozen random trees of 10 to 20 nodes in three variables", _wide, False),
    "grammar2": TreeSuite(
        "the same as grammar, drawn without its blind spot for large numbers",
        partial(_grammar, path=GRAMMAR2_FILE),
        False,
    ),
    "wide2": TreeSuite("the same as wide, drawn without its blind spot", partial(_wide, path=WIDE2_FILE), False),
}
"""By name; the command line, its help and its tables read this."""


def _depth_of(text: str) -> str:
    return f"depth {int(depth(from_text(text)[0][None])[0])}"


def _problem(name: str, group: str, text: str, x: np.ndarray) -> TreeProblem:
    tokens, constants = from_text(text, x.shape[1])
    truth = programs_from_tokens(tokens[None], constants[None], x.shape[1])
    y = evaluate(truth, torch.from_numpy(x), rtol=None).value[0].numpy()
    rng = np.random.default_rng(len(x))
    fresh = rng.uniform(x.min(0), x.max(0), (_N_FRESH, x.shape[1]))
    return TreeProblem(name, group, truth, x, y, fresh, rng.uniform(*extended_ranges(x), fresh.shape))


def is_recovered(problem: TreeProblem, candidate: Programs, rtol: float = 1e-6) -> bool:
    """Whether a program (a batch of one) is the problem's function: relative error below `rtol` on the fresh and the
    extended points, wherever the truth itself is certified, which must be at 20 of them at least."""
    points = torch.from_numpy(np.concatenate([problem.fresh, problem.extended]))
    truth, guess = evaluate(problem.truth, points), evaluate(candidate, points, rtol=None)
    known = truth.valid[0]
    close = (guess.value[0] - truth.value[0]).abs() <= rtol * truth.value[0].abs()
    return int(known.sum()) >= 20 and bool((close & guess.valid[0])[known].all())
