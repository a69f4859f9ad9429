"""What the suites' laws are as weighted programs, and how often the random corpus draws the like of them by itself.

A law counts as drawn when a random formula has its skeleton (see `generator.corpus.skeletons`), in any of the forms that the
simplifier knows for the law. Variables are taken to be positive, as in the corpus.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import sympy

from emlinit.benchmarks.laws.suites import LawProblem
from emlinit.generator.corpus.formulas import FormulaConfig, sample_formula_programs
from emlinit.generator.corpus.skeletons import Skeleton, skeleton
from emlinit.generator.formulas.compile_weighted import compile_weighted
from emlinit.generator.formulas.simplify import shorter_forms
from emlinit.generator.grammar import MAX_VARIABLES, PAD, X1, W, n_kinds
from emlinit.generator.program import tokens_from_program

_DRAW = 2048  # formulas at a time


@dataclass(frozen=True)
class Coverage:
    """One law beside the corpus."""

    problem: LawProblem
    """The problem whose `formula` is counted; its points are not used."""
    nodes: int
    """Different eml nodes of its program."""
    constants: int
    """Free constants of its program: factors other than 1 and constant terms."""
    tokens: int
    """Length of its token sequence, in which a node that is read twice is written twice."""
    drawn: int
    """Random formulas with its skeleton."""
    drawn_freely: int
    """Random formulas with its skeleton when a factor 1 counts as any other factor: the law with other factors and
    exponents."""


def coverage(
    problems: Sequence[LawProblem],
    n_draws: int,
    rng: np.random.Generator,
    config: FormulaConfig | None = None,
    progress: Callable[[int], object] | None = None,
) -> list[Coverage]:
    """Compile laws and count them among random formulas.

    Args:
        problems: the laws.
        n_draws: number of random formulas.
        rng: source of their randomness.
        config: what they look like; the corpus' by default.
        progress: is told after each batch how many formulas it had.
    """
    sequences = [_sequences(problem) for problem in problems]
    wanted = [{skeleton(tokens) for tokens in forms} for forms in sequences]
    wanted_freely = [{skeleton(tokens, free_factors=True) for tokens in forms} for forms in sequences]
    counts = {shape: 0 for shapes in (*wanted, *wanted_freely) for shape in shapes}
    freely = set().union(*wanted_freely)
    contents = {row.tobytes() for forms in sequences for tokens in forms for row in _contents(np.array([tokens]))}
    left = n_draws
    while left > 0:
        drawn = sample_formula_programs(min(_DRAW, left), rng, config)[0]
        left -= len(drawn)
        for row, content in zip(drawn, _contents(drawn), strict=True):
            if content.tobytes() not in contents:  # a skeleton costs more than its content
                continue
            free = skeleton(row.tolist(), free_factors=True)
            if free in freely:
                exact = skeleton(row.tolist())
                for shape in {free, exact}:
                    counts[shape] = counts.get(shape, 0) + 1
        if progress is not None:
            progress(len(drawn))
    return [
        _coverage(problem, _total(counts, shapes), _total(counts, free))
        for problem, shapes, free in zip(problems, wanted, wanted_freely, strict=True)
    ]


def _total(counts: dict[Skeleton, int], shapes: set[Skeleton]) -> int:
    return sum(counts[shape] for shape in shapes)


def _positive(expr: sympy.Expr, names: Sequence[str]) -> tuple[sympy.Expr, list[sympy.Symbol]]:
    symbols = [sympy.Symbol(name, positive=True) for name in names]
    return expr.xreplace({sympy.Symbol(symbol.name, real=True): symbol for symbol in symbols}), symbols


def _sequences(problem: LawProblem) -> list[tuple[int, ...]]:
    """Token sequences of the law as it stands and of its other forms."""
    formula, symbols = _positive(problem.formula, problem.names)
    forms = dict.fromkeys([formula, *shorter_forms(formula, 10.0)])
    programs = (compile_weighted(form, symbols) for form in forms)
    return list(dict.fromkeys(tuple(tokens_from_program(program)[0].tolist()) for program in programs))


def _contents(tokens: np.ndarray) -> np.ndarray:
    """How often each token occurs but factors and padding, names of variables left out; int64 of shape (b, kinds)."""
    counts = np.stack([(tokens == kind).sum(1) for kind in range(n_kinds(MAX_VARIABLES))], 1)
    counts[:, [PAD, W]] = 0
    counts[:, X1:] = np.sort(counts[:, X1:], 1)
    return counts


def _coverage(problem: LawProblem, drawn: int, drawn_freely: int) -> Coverage:
    formula, symbols = _positive(problem.formula, problem.names)
    program = compile_weighted(formula, symbols)
    assert program.free_weight is not None
    assert program.free_bias is not None
    return Coverage(
        problem=problem,
        nodes=int(program.n_nodes[0]),
        constants=int(program.free_weight.sum() + program.free_bias.sum()),
        tokens=len(tokens_from_program(program)[0]),
        drawn=drawn,
        drawn_freely=drawn_freely,
    )
