"""Laws are counted among random formulas by their skeletons."""

import numpy as np
import sympy

from emlinit.benchmarks.laws.coverage import coverage
from emlinit.benchmarks.laws.suites import load_law_suite
from emlinit.generator.corpus.formulas import FormulaConfig, sample_formula_programs
from emlinit.generator.corpus.skeletons import skeleton
from emlinit.generator.formulas.compile_weighted import compile_weighted
from emlinit.generator.program import tokens_from_program


def test_counts_are_those_of_a_plain_loop_over_the_same_formulas() -> None:
    by_name = {p.name: p for p in load_law_suite("feynman")}
    problems = [by_name[name] for name in ("I.12.1", "I.25.13", "I.26.2")]
    told: list[int] = []
    config = FormulaConfig(max_variables=2)
    rows = coverage(problems, 600, np.random.default_rng(3), config, progress=told.append)
    assert sum(told) == 600

    rng = np.random.default_rng(3)
    drawn = [row for n in told for row in sample_formula_programs(n, rng, config)[0].tolist()]
    shapes = {free: [skeleton(row, free_factors=free) for row in drawn] for free in (False, True)}
    x1, x2 = sympy.symbols("x1 x2", positive=True)
    for row, formula in zip(rows, (x1 * x2, x1 / x2, sympy.asin(x1 * sympy.sin(x2))), strict=True):
        tokens = tokens_from_program(compile_weighted(formula, [x1, x2]))[0].tolist()
        for count, free in ((row.drawn, False), (row.drawn_freely, True)):
            wanted = skeleton(tokens, free_factors=free)
            assert count == shapes[free].count(wanted)
    product, quotient, arcsine = rows
    assert 0 <= quotient.drawn < product.drawn < product.drawn_freely == quotient.drawn_freely
    assert arcsine.drawn_freely == 0


def test_the_size_of_a_law_is_that_of_its_program() -> None:
    rows = {row.problem.name: row for row in coverage(load_law_suite("measured"), 1, np.random.default_rng(0))}
    hubble, kepler, misra = rows["hubble"], rows["kepler"], rows["misra1a"]
    assert (hubble.nodes, hubble.constants, hubble.tokens) == (0, 1, 2)  # w x1
    assert kepler.nodes == 2  # exp(ln c + 1.5 ln x)
    assert (misra.nodes, misra.constants) == (1, 3)  # c + w exp(w x1)
