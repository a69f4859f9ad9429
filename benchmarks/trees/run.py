"""How often the law is found, by which method, under the same budget (see `methods`).

Legend: p point, v input variable.
"""

import json
import math
import multiprocessing
import platform
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import torch

from emlinit.benchmarks.trees.methods import METHODS
from emlinit.benchmarks.trees.suites import SuiteProblem, is_recovered
from emlinit.finetune.search.candidates import CandidatePool
from emlinit.finetune.search.stages import Task
from emlinit.generator.functions.cache import load_search_table
from emlinit.model.initialiser import EMLInitialiser


@dataclass(frozen=True)
class Outcome:
    """One problem, one method, one seed."""

    problem: str
    group: str
    method: str
    seed: int
    recovered: bool
    """Whether the best tree is the identical function."""
    seconds: float
    """Wall-clock time until the search ended."""
    loss: float | None
    """Mean squared error of the best tree over the variance of y; None if there was no tree."""


@dataclass(frozen=True, eq=False)
class Run:
    """One problem to be solved by one method with one seed."""

    problem: SuiteProblem
    method: str
    seed: int
    seconds: float


def run_one(run: Run, initialiser: EMLInitialiser | None) -> Outcome:
    """Solve and score; `initialiser` is needed by the methods that say so."""
    problem, pool = run.problem, CandidatePool(len(run.problem.y))
    x, y = torch.from_numpy(problem.x), torch.from_numpy(problem.y)
    generator = torch.Generator().manual_seed(run.seed)
    began = time.monotonic()
    METHODS[run.method].search(Task(x, y, pool, began + run.seconds, generator, initialiser))
    used = time.monotonic() - began
    recovered = pool.programs is not None and is_recovered(problem, pool.programs[pool.best(1)])
    loss = pool.best_loss if math.isfinite(pool.best_loss) else None
    return Outcome(problem.name, problem.group, run.method, run.seed, recovered, used, loss)


def run_suite(
    problems: Iterable[SuiteProblem],
    methods: Iterable[str],
    seeds: Iterable[int],
    seconds: float,
    checkpoint: str,
    *,
    jobs: int = 1,
    progress: Callable[[], object] = lambda: None,
) -> list[Outcome]:
    """Solve every problem with every method and seed.

    Args:
        problems: of a suite.
        methods: names in `METHODS`.
        seeds: of the searches.
        seconds: time of each search, on one core.
        checkpoint: source of the initialiser, loaded if a method needs one.
        jobs: processes, each with one thread; 1 works in this one.
        progress: called after each search.
    """
    seeds, methods = list(seeds), list(methods)
    runs = [Run(p, method, seed, seconds) for p in problems for seed in seeds for method in methods]
    source = checkpoint if any(METHODS[method].learned for method in methods) else None
    # Tables are made before the clock starts, as a user has them from the second search on.
    widths = sorted({run.problem.x.shape[1] for run in runs})
    outcomes = []
    if jobs == 1:
        _prepare(source, widths)
        for run in runs:
            outcomes.append(_run(run))
            progress()
        return outcomes
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_prepare, initargs=(source, widths)) as pool:
        for outcome in pool.map(_run, runs):
            outcomes.append(outcome)
            progress()
    return outcomes


_initialiser: EMLInitialiser | None = None  # of a worker process


def _prepare(source: str | None, widths: list[int]) -> None:
    global _initialiser
    torch.set_num_threads(1)
    _initialiser = EMLInitialiser.load(source) if source else None
    for n_variables in widths:
        load_search_table(n_variables)


def _run(run: Run) -> Outcome:
    return run_one(run, _initialiser)


def table(outcomes: list[Outcome], *, each: bool) -> str:
    """Recovered runs and median seconds (of all runs): by problem with `each`, one line a problem and two columns a method;
    else one line a method and two columns a group."""
    methods = list(dict.fromkeys(outcome.method for outcome in outcomes))

    def cell(runs: list[Outcome]) -> str:
        return f"{sum(o.recovered for o in runs)}/{len(runs)} | {median(o.seconds for o in runs):.1f}"

    def lines(first: str, columns: list[str], rows: dict[str, list[list[Outcome]]]) -> str:
        head = [f"| {first} | " + " | ".join(f"{column} | median s" for column in columns) + " |"]
        head.append("| --- |" + " ---: | ---: |" * len(columns))
        return "\n".join(head + [f"| {name} | {' | '.join(map(cell, runs))} |" for name, runs in rows.items()])

    if each:
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
        METHODS[m].description: [[o for o in outcomes if (o.group, o.method) == (group, m)] for group in groups]
        for m in methods
    }
    return lines("method", groups, by_method)


def write_results(folder: Path, suite: str, outcomes: Sequence[Any], settings: dict[str, Any]) -> Path:
    """Write a dated JSON file with the settings, the machine and every outcome, a dataclass; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC)
    path = folder / f"{suite}-{now:%Y%m%d-%H%M%S}.json"
    record = {
        "suite": suite,
        "date": now.isoformat(timespec="seconds"),
        "settings": settings,
        "machine": {"processor": platform.machine(), "threads": torch.get_num_threads(), "torch": torch.__version__},
        "outcomes": [asdict(outcome) for outcome in outcomes],
    }
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(record, indent=1) + "\n")
    temporary.replace(path)
    return path
