"""How well laws with constants are found, by which method, at which level of noise, under the same budget.

Every outcome is written as soon as it is there; a run that is killed keeps what it has.
"""

import itertools
import json
import math
import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from io import TextIOBase, TextIOWrapper
from pathlib import Path
from statistics import median
from typing import Any

import torch

from emlinit.benchmarks.laws.methods import LAW_METHODS, Initialisers, prepare
from emlinit.benchmarks.laws.scoring import score_law
from emlinit.benchmarks.laws.suites import LawProblem, load_law_suite
from emlinit.generator.errors import UserError


@dataclass(frozen=True)
class LawOutcome:
    """One problem at one level of noise, one method, one seed; the scores are those of `LawScore`."""

    suite: str
    noise: float
    problem: str
    method: str
    seed: int
    exact: bool
    refitted: bool
    right_form: bool
    accurate: bool
    r2: float | None
    """None if the formula is undefined at a fresh point, or there is none."""
    complexity: int
    complexity_ratio: float | None
    """None if there is no formula."""
    seconds: float
    """Wall-clock time of the search."""
    cpu_seconds: float
    """Time of the processor that it used: much less than `seconds` says that the machine was busy with other work."""
    formula: str
    """As it was found; empty if there is none."""
    failure: str = ""
    """Why there is none."""


@dataclass(frozen=True)
class Settings:
    """What is compared."""

    suites: tuple[str, ...]
    """Names in `LAW_SUITES`."""
    methods: tuple[str, ...]
    """Names in `LAW_METHODS`."""
    noise: tuple[float, ...] = (0.0,)
    """Levels of noise; suites of measurements have their own and are run once."""
    seeds: int = 1
    """Seeds 0..n-1 of the points, the noise and the search."""
    seconds: float = 10.0
    """Time of each search, on one core."""
    limit: int | None = None
    """First problems of each suite only."""


@dataclass(frozen=True, eq=False)
class _Run:
    problem: LawProblem
    level: float
    method: str
    seed: int
    seconds: float


def run_law_suites(
    settings: Settings,
    lines: TextIOBase,
    *,
    jobs: int = 1,
    progress: Callable[[LawOutcome, int], object] = lambda o, n: 0,
) -> list[LawOutcome]:
    """Solve and score every problem at every level of noise with every method and seed.

    Args:
        settings: what is compared.
        lines: takes one line of JSON an outcome, at once.
        jobs: processes, each with one thread; 1 works in this one.
        progress: called with each outcome and the number of all.

    Raises:
        UserError: unknown suite or method, or a rival that is not installed.
    """
    runs = [
        _Run(problem, level, method, seed, settings.seconds)
        for suite in settings.suites
        for level in (settings.noise if suite != "measured" else (0.0,))
        for seed in range(settings.seeds)
        for problem in load_law_suite(suite, noise=level, seed=seed, limit=settings.limit)
        for method in settings.methods
    ]
    outcomes = []

    def keep(outcome: LawOutcome) -> None:
        outcomes.append(outcome)
        lines.write(json.dumps(asdict(outcome), allow_nan=False) + "\n")
        lines.flush()
        progress(outcome, len(runs))

    prepare(settings.methods, ())  # what is missing is said before anything is started
    start = (settings.methods, sorted({run.problem.x.shape[1] for run in runs}))
    if jobs == 1:
        _start(*start)
        for run in runs:
            keep(_solve(run))
        return outcomes
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_start, initargs=start) as pool:
        for future in as_completed([pool.submit(_solve, run) for run in runs]):
            keep(future.result())
    return outcomes


_initialisers: Initialisers = {}  # of a worker process


def _start(methods: Sequence[str], widths: Sequence[int]) -> None:
    global _initialisers
    torch.set_num_threads(1)
    _initialisers = prepare(methods, widths)


def _solve(run: _Run) -> LawOutcome:
    began, cpu_began, failure, formula = time.monotonic(), time.process_time(), "", None
    try:
        formula = LAW_METHODS[run.method].find(run.problem, run.seconds, run.seed, _initialisers)
    except UserError as error:
        failure = str(error)
    seconds, cpu_seconds = time.monotonic() - began, time.process_time() - cpu_began
    score = asdict(score_law(formula, run.problem))
    for name in ("r2", "complexity_ratio"):
        score[name] = score[name] if math.isfinite(score[name]) else None
    return LawOutcome(
        suite=run.problem.suite,
        noise=run.level,
        problem=run.problem.name,
        method=run.method,
        seed=run.seed,
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        formula="" if formula is None else str(formula),
        failure=failure,
        **score,
    )


def read_outcomes(paths: Iterable[Path]) -> list[LawOutcome]:
    """The outcomes of result files, finished (.json) or not (.jsonl); of the same run the later one stays.

    Raises:
        UserError: a file that cannot be read, or of another kind.
    """
    outcomes: dict[tuple[Any, ...], LawOutcome] = {}
    names = {field.name for field in fields(LawOutcome)}
    for path in paths:
        try:
            text = path.read_text()
            if path.suffix == ".jsonl":
                lines = text.splitlines(keepends=True)
                records = [json.loads(line) for line in lines if line.endswith("\n")]  # the last may be cut off
            else:
                records = json.loads(text)["outcomes"]
            found = [LawOutcome(**{key: record[key] for key in names}) for record in records]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} holds no outcomes of laws: {error}") from None
        outcomes |= {(o.suite, o.noise, o.problem, o.method, o.seed): o for o in found}
    return list(outcomes.values())


def tables(outcomes: Sequence[LawOutcome]) -> str:
    """One table for each suite and level of noise, one line a method."""
    parts = []
    for suite, noise in dict.fromkeys((o.suite, o.noise) for o in outcomes):
        here = [o for o in outcomes if (o.suite, o.noise) == (suite, noise)]
        noisy = noise > 0 or suite == "measured"
        recovery = ("right form",) if noisy else ("exact", "exact after refit")
        columns = (*recovery, "accurate", "median R2", "median size ratio", "median s", "median CPU s")
        rows = [f"| {' | '.join(('method', *columns))} |", "| --- |" + " ---: |" * len(columns)]
        for name in sorted({o.method for o in here}, key=[*LAW_METHODS].index):
            of = [o for o in here if o.method == name]
            counted = [o.right_form for o in of], [o.exact for o in of], [o.refitted for o in of]
            cells = [f"{sum(which)}/{len(of)}" for which in (counted[:1] if noisy else counted[1:])]
            cells.append(f"{sum(o.accurate for o in of)}/{len(of)}")
            cells.append(_short(median(-math.inf if o.r2 is None else o.r2 for o in of), 6))
            ratios = [o.complexity_ratio for o in of if o.complexity_ratio is not None]
            cells.append(_short(median(ratios), 2) if ratios else "-")
            cells += [f"{median(o.seconds for o in of):.1f}", f"{median(o.cpu_seconds for o in of):.1f}"]
            rows.append(f"| {LAW_METHODS[name].description} | {' | '.join(cells)} |")
        title = "measured" if suite == "measured" else f"{suite}, noise {noise:g}"
        parts.append("\n".join([f"{title}:", "", *rows]))
    return "\n\n".join(parts)


def _short(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "-"


def each(outcomes: Sequence[LawOutcome]) -> str:
    """One line an outcome, with the formula."""
    lines = []
    for o in outcomes:
        scores = [name for name in ("exact", "refitted", "right_form", "accurate") if getattr(o, name)]
        what = o.formula or o.failure or "no formula"
        lines.append(
            f"{o.suite} {o.problem} noise {o.noise:g} seed {o.seed} {o.method} ({o.seconds:.1f} s): "
            f"{' '.join(scores) or 'none'}: {what if len(what) <= 300 else what[:297] + '...'}"
        )
    return "\n".join(lines)


@contextmanager
def open_lines(folder: Path) -> Iterator[TextIOWrapper]:
    """A new dated file in `folder` for `run_law_suites` to write its lines to; removed if it stays empty."""
    folder.mkdir(parents=True, exist_ok=True)
    now = f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
    for number in itertools.count():
        path = folder / (f"laws-{now}.jsonl" if not number else f"laws-{now}-{number}.jsonl")
        with suppress(FileExistsError), path.open("x") as lines:
            try:
                yield lines
            finally:
                if not lines.tell():
                    path.unlink()
            return
