"""The ways of searching for laws with constants that are compared: the solver, parts of it, controls, and rivals.

Each gets the same points, the same time and one thread, and gives one formula.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import sympy
import torch

from emlinit.benchmarks.laws.rivals import fit_gplearn, fit_operon, require
from emlinit.benchmarks.laws.suites import LawProblem
from emlinit.benchmarks.priors import FormulaPrior
from emlinit.finetune.initialisers import load_initialisers
from emlinit.finetune.search.weighted_stage import TrainingConfig, WeightedSearchConfig
from emlinit.finetune.solver import solve
from emlinit.generator.errors import UserError
from emlinit.generator.formulas.parse import parse_formula
from emlinit.generator.functions.cache import load_search_table
from emlinit.generator.grammar import MAX_VARIABLES
from emlinit.model.initialiser import EMLInitialiser

Initialisers = Mapping[str, EMLInitialiser]


def load_for_methods(methods: Iterable[str], widths: Iterable[int]) -> Initialisers:
    """Load what the methods need before the clock starts: rivals, tables for these numbers of variables, learned starts.

    Raises:
        UserError: unknown method, or a rival that is not installed.
    """
    chosen = [law_method(name) for name in methods]
    for module in filter(None, (one.module for one in chosen)):
        require(module)
    for width in sorted({min(width, MAX_VARIABLES) for width in widths}):
        if any(one.tables for one in chosen):
            load_search_table(width)
    cpu = torch.device("cpu")
    return {name: load_initialisers(None, name, cpu)[name] for one in chosen for name in one.grammars}


def law_method(name: str) -> "LawMethod":
    """The method of that name.

    Raises:
        UserError: there is none.
    """
    if name not in LAW_METHODS:
        raise UserError(f"unknown method '{name}': use some of {', '.join(LAW_METHODS)}")
    return LAW_METHODS[name]


@dataclass(frozen=True)
class LawMethod:
    """A way of searching for laws with constants, and what it needs."""

    description: str
    """What it does, in a few words."""
    find: Callable[[LawProblem, float, int, Initialisers], sympy.Expr | None]
    """Problem, seconds, seed, learned starts -> a formula in the real symbols of the problem's names, or None."""
    grammars: tuple[str, ...] = ()
    """Grammars whose learned starts it needs."""
    tables: bool = False
    """Whether it reads tables of small functions."""
    module: str = ""
    """Module of a rival that has to be installed."""


def _solver(
    grammar: str, config: WeightedSearchConfig | None, prior: bool = False
) -> Callable[[LawProblem, float, int, Initialisers], sympy.Expr | None]:
    def find(problem: LawProblem, seconds: float, seed: int, initialisers: Initialisers) -> sympy.Expr | None:
        solution = solve(
            problem.x,
            problem.y,
            grammar=grammar,
            seconds=seconds,
            initialisers={**initialisers, "weighted": FormulaPrior()} if prior else initialisers,
            seed=seed,
            names=problem.names,
            weighted=config,
        )
        law = solution.law
        own = [sympy.Symbol(name, real=True) for name in law.names]
        return law.expression.xreplace(dict(zip(law.symbols, own, strict=True)))

    return find


def _rival(
    fit: Callable[[np.ndarray, np.ndarray, float, int], str | None],
) -> Callable[[LawProblem, float, int, Initialisers], sympy.Expr | None]:
    def find(problem: LawProblem, seconds: float, seed: int, initialisers: Initialisers) -> sympy.Expr | None:
        del initialisers
        text = fit(problem.x, problem.y, seconds, seed)
        symbols = [sympy.Symbol(f"x{i + 1}", real=True) for i in range(problem.x.shape[1])]
        formula = parse_formula(text, symbols) if text else None
        own = [sympy.Symbol(name, real=True) for name in problem.names]
        return formula and formula.xreplace(dict(zip(symbols, own, strict=True)))

    return find


_ALONE = WeightedSearchConfig(lookup=False, sparse=False, shapes=False)
_NO_TRAINING = TrainingConfig(restarts=0)
_NO_LEARNING = TrainingConfig(gumbel=replace(TrainingConfig().gumbel, learning_rate=0.0))

LAW_METHODS: dict[str, LawMethod] = {
    "emlinit": LawMethod("the solver as it comes", _solver("auto", None), ("exact", "weighted"), True),
    "no-network": LawMethod(
        "its searches without the network",
        _solver("weighted", WeightedSearchConfig(patience=0, judge=False), prior=True),
        tables=True,
    ),
    "proposals": LawMethod(
        "the solver, whose laws with constants are neither grown nor trained",
        _solver("auto", WeightedSearchConfig(growths=0, training=_NO_TRAINING)),
        ("exact", "weighted"),
        tables=True,
    ),
    "growing": LawMethod(
        "the solver without Gumbel-hard training of laws with constants",
        _solver("auto", WeightedSearchConfig(training=_NO_TRAINING)),
        ("exact", "weighted"),
        tables=True,
    ),
    "no-learning": LawMethod(
        "the solver, whose training of laws with constants has learning rate 0",
        _solver("auto", WeightedSearchConfig(training=_NO_LEARNING)),
        ("exact", "weighted"),
        tables=True,
    ),
    "random": LawMethod(
        "the solver with random formulas in place of the network", _solver("auto", None, prior=True), ("exact",), True
    ),
    "network": LawMethod("the network alone", _solver("weighted", _ALONE), ("weighted",), True),
    "prior": LawMethod("random formulas alone", _solver("weighted", _ALONE, prior=True), tables=True),
    "operon": LawMethod("Operon (pyoperon)", _rival(fit_operon), module="pyoperon.sklearn"),
    "gplearn": LawMethod("gplearn", _rival(fit_gplearn), module="gplearn.genetic"),
}
"""By name, in the order of the printed table."""
