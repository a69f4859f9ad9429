"""How often the law is found, by which method, under the same budget (see `methods`).

Legend: p point, v input variable.
"""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median

import torch

from emlinit.benchmarks.runner import run_all
from emlinit.benchmarks.trees.methods import TREE_METHODS
from emlinit.benchmarks.trees.suites import TreeProblem, is_recovered
from emlinit.finetune.search.candidates import CandidatePool
from emlinit.finetune.search.stages import Task
from emlinit.generator.functions.cache import load_search_table
from emlinit.model.initialiser import EMLInitialiser


@dataclass(frozen=True)
class TreeOutcome:
    """One problem, one method, one seed."""

    problem: str
    """Name of the problem in its suite."""
    group: str
    """Problems that the table counts together, such as "depth 3"."""
    method: str
    """One of `TREE_METHODS`."""
    seed: int
    """Of whatever is random in the search."""
    recovered: bool
    """Whether the best tree is the identical function."""
    seconds: float
    """Wall-clock time until the search ended."""
    loss: float | None
    """Mean squared error of the best tree over the variance of y; None if there was no tree."""


@dataclass(frozen=True, eq=False)
class TreeRun:
    """One problem to be solved by one method with one seed."""

    problem: TreeProblem
    """Its points and the law that is looked for."""
    method: str
    """One of `TREE_METHODS`."""
    seed: int
    """Of whatever is random in the search."""
    seconds: float
    """Most wall-clock time of the search, on one core."""


def solve_tree(run: TreeRun, initialiser: EMLInitialiser | None) -> TreeOutcome:
    """Solve and score; `initialiser` is needed by the methods that say so."""
    problem, pool = run.problem, CandidatePool(len(run.problem.y))
    x, y = torch.from_numpy(problem.x), torch.from_numpy(problem.y)
    generator = torch.Generator().manual_seed(run.seed)
    began = time.monotonic()
    TREE_METHODS[run.method].search(Task(x, y, pool, began + run.seconds, generator, initialiser))
    used = time.monotonic() - began
    recovered = pool.programs is not None and is_recovered(problem, pool.programs[pool.best(1)])
    loss = pool.best_loss if math.isfinite(pool.best_loss) else None
    return TreeOutcome(problem.name, problem.group, run.method, run.seed, recovered, used, loss)


def run_tree_suite(
    problems: Iterable[TreeProblem],
    methods: Iterable[str],
    seeds: Iterable[int],
    seconds: float,
    checkpoint: str,
    *,
    jobs: int = 1,
    progress: Callable[[], object] = lambda: None,
) -> list[TreeOutcome]:
    """Solve every problem with every method and seed.

    Args:
        problems: of a suite.
        methods: names in `TREE_METHODS`.
        seeds: of the searches.
        seconds: time of each search, on one core.
        checkpoint: source of the initialiser, loaded if a method needs one.
        jobs: processes, each with one thread; 1 works in this one.
        progress: called after each search.
    """
    seeds, methods = list(seeds), list(methods)
    runs = [TreeRun(p, method, seed, seconds) for p in problems for seed in seeds for method in methods]
    source = checkpoint if any(TREE_METHODS[method].learned for method in methods) else None
    load = partial(_load, source, sorted({run.problem.x.shape[1] for run in runs}))
    return run_all(runs, solve_tree, load, jobs=jobs, progress=lambda _: progress())


def _load(source: str | None, widths: Sequence[int]) -> EMLInitialiser | None:
    """The learned start, if one is needed; the tables for these numbers of variables stay in memory."""
    initialiser = EMLInitialiser.load(source) if source else None
    for n_variables in widths:
        load_search_table(n_variables)
    return initialiser


def recovery_table(outcomes: list[TreeOutcome], *, by_problem: bool) -> str:
    """Recovered runs and median seconds (of all runs): with `by_problem` one line a problem and two columns a method,
    else one line a method and two columns a group."""
    methods = list(dict.fromkeys(outcome.method for outcome in outcomes))

    def cell(runs: list[TreeOutcome]) -> str:
        return f"{sum(o.recovered for o in runs)}/{len(runs)} | {median(o.seconds for o in runs):.1f}"

    def lines(first: str, columns: list[str], rows: dict[str, list[list[TreeOutcome]]]) -> str:
        head = [f"| {first} | " + " | ".join(f"{column} | median s" for column in columns) + " |"]
        head.append("| --- |" + " ---: | ---: |" * len(columns))
        return "\n".join(head + [f"| {name} | {' | '.join(map(cell, runs))} |" for name, runs in rows.items()])

    if by_problem:
        problems = dict.fromkeys((o.problem, o.group) for o in outcomes)
        return lines(
            "problem",
            methods,
            {
                f"{problem} ({group})": [
                    [o for o in outcomes if (o.problem, o.group, o.method) == (problem, group, m)] for m in methods
                ]
                for problem, group in problems
            },
        )
    groups = list(dict.fromkeys(o.group for o in outcomes))
    by_method = {
        TREE_METHODS[m].description: [[o for o in outcomes if (o.group, o.method) == (group, m)] for group in groups]
        for m in methods
    }
    return lines("method", groups, by_method)
