"""How well laws with constants are found, by which method, at which level of noise, under the same budget.

Every outcome is written as soon as it is there; a run that is killed keeps what it has.
"""

import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from io import TextIOBase
from pathlib import Path
from statistics import median
from typing import Any

from emlinit.benchmarks.laws.methods import LAW_METHODS, Initialisers, load_for_methods
from emlinit.benchmarks.laws.scoring import score_law
from emlinit.benchmarks.laws.suites import LAW_SUITES, LawProblem, load_law_suite
from emlinit.benchmarks.runner import run_all
from emlinit.generator.errors import UserError


@dataclass(frozen=True)
class LawOutcome:
    """One problem at one level of noise, one method, one seed; the scores are those of `LawScore`."""

    suite: str
    """One of `LAW_SUITES`."""
    noise: float
    """Level of the noise that was added, over the standard deviation of the law's values."""
    problem: str
    """Name of the problem in its suite."""
    method: str
    """One of `LAW_METHODS`."""
    seed: int
    """Of the points, the noise and the search."""
    exact: bool
    """Whether the formula is the law as printed."""
    refitted: bool
    """Whether it is the law, as printed or once its constants are fitted to noiseless values."""
    right_form: bool
    """Whether it is the law but for the values of its constants."""
    accurate: bool
    """Whether it meets at least 95 % of the fresh points to 5 % or 0.001."""
    r2: float | None
    """Coefficient of determination at the fresh points; None if the formula is undefined at one, or there is none."""
    complexity: int
    """Nodes of its shortest form that is known; 0 if there is no formula."""
    complexity_ratio: float | None
    """`complexity` over that of the true law; None if there is no formula."""
    seconds: float
    """Wall-clock time of the search."""
    cpu_seconds: float
    """Time of the processor that it used: much less than `seconds` says that the machine was busy with other work."""
    formula: str
    """As it was found; empty if there is none."""
    failure: str = ""
    """What the method said when it found none; empty if there is a formula."""


@dataclass(frozen=True)
class LawSettings:
    """A comparison: each suite at each level of noise, with each method and seed."""

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
    """One problem to be solved by one method."""

    problem: LawProblem
    """With its noise, drawn from `seed`."""
    level: float
    """The noise that was asked for: `problem.noise`, but 0 for measurements."""
    method: str
    """One of `LAW_METHODS`."""
    seed: int
    """Of whatever is random in the search."""
    seconds: float
    """Most wall-clock time of the search, on one core."""


def run_law_suites(
    settings: LawSettings,
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
        progress: called with each outcome, as it comes, and the number of all.

    Raises:
        UserError: unknown suite or method, or a rival that is not installed.
    """
    runs = [
        _Run(problem, level, method, seed, settings.seconds)
        for suite in settings.suites
        for level in ((0.0,) if _has_own_noise(suite) else settings.noise)
        for seed in range(settings.seeds)
        for problem in load_law_suite(suite, noise=level, seed=seed, limit=settings.limit)
        for method in settings.methods
    ]

    def keep(outcome: LawOutcome) -> None:
        lines.write(json.dumps(asdict(outcome), allow_nan=False) + "\n")
        lines.flush()
        progress(outcome, len(runs))

    load_for_methods(settings.methods, ())  # what is missing is said before anything is started
    load = partial(load_for_methods, settings.methods, sorted({run.problem.x.shape[1] for run in runs}))
    return run_all(runs, _solve, load, jobs=jobs, progress=keep)


def _has_own_noise(suite: str) -> bool:
    return suite in LAW_SUITES and LAW_SUITES[suite].own_noise


def _solve(run: _Run, initialisers: Initialisers) -> LawOutcome:
    began, cpu_began, failure, formula = time.monotonic(), time.process_time(), "", None
    try:
        formula = LAW_METHODS[run.method].find(run.problem, run.seconds, run.seed, initialisers)
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


def score_tables(outcomes: Sequence[LawOutcome]) -> str:
    """One table for each suite and level of noise, one line a method."""
    parts = []
    for suite, noise in dict.fromkeys((o.suite, o.noise) for o in outcomes):
        here = [o for o in outcomes if (o.suite, o.noise) == (suite, noise)]
        noisy = noise > 0 or _has_own_noise(suite)
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
        title = suite if _has_own_noise(suite) else f"{suite}, noise {noise:g}"
        parts.append("\n".join([f"{title}:", "", *rows]))
    return "\n\n".join(parts)


def _short(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "-"


def formula_lines(outcomes: Sequence[LawOutcome]) -> str:
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
