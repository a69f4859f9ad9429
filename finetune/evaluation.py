"""How often the law is found: the learned start beside a random start, under the same budget.

Legend: p point, v input variable.
"""

import json
import math
import platform
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from emlinit.finetune.candidates import CandidatePool
from emlinit.finetune.exact_search import ExactSearchConfig, relative_loss, search_exact
from emlinit.finetune.gumbel import GumbelConfig, train_gumbel_hard
from emlinit.finetune.suites import SuiteProblem, is_recovered
from emlinit.finetune.topology import full_tree
from emlinit.model.initialiser import EMLInitialiser

METHODS = ("learned", "random")


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


def search_random(
    x: Tensor,
    y: Tensor,
    pool: CandidatePool,
    *,
    deadline: float,
    generator: torch.Generator,
    config: ExactSearchConfig,
) -> None:
    """The control: the same Gumbel-hard training from zero logits, on full trees of depth 2, 3, ... in turn.

    The depth is not known, as it is not to the learned start, so every depth gets the same number of steps a round.
    """
    screen = torch.randperm(len(y), generator=generator)[: config.screen_points]
    while time.monotonic() < deadline:
        for levels in range(2, config.max_depth + 1):
            seconds = deadline - time.monotonic()
            if seconds <= 0:
                return
            topology = full_tree(levels, x.shape[1])
            logits = torch.zeros(config.restarts, topology.n_slots, topology.n_choices, dtype=torch.float64)
            gumbel = GumbelConfig(steps=config.gumbel_steps, seconds=seconds)
            found = train_gumbel_hard(topology, logits, x[screen], y[screen], gumbel, generator=generator)
            pool.add(found.programs, relative_loss(found.programs, x, y))
            if pool.best_loss <= config.exact_loss:
                return


def run_suite(
    problems: Iterable[SuiteProblem],
    methods: Iterable[str],
    seeds: Iterable[int],
    seconds: float,
    initialiser: EMLInitialiser | None,
    progress: Callable[[], object] = lambda: None,
) -> list[Outcome]:
    """Solve every problem with every method and seed; `initialiser` is needed for the learned start."""
    config = ExactSearchConfig()
    outcomes = []
    seeds = list(seeds)
    methods = list(methods)
    for problem in problems:
        x, y = torch.from_numpy(problem.x), torch.from_numpy(problem.y)
        for seed in seeds:
            for method in methods:
                pool = CandidatePool()
                generator = torch.Generator().manual_seed(seed)
                began = time.monotonic()
                deadline = began + seconds
                if method == "learned":
                    assert initialiser is not None
                    search_exact(
                        initialiser, x, y, pool, deadline=deadline, generator=generator, progress=lambda _: None,
                        config=config,
                    )  # fmt: skip
                else:
                    search_random(x, y, pool, deadline=deadline, generator=generator, config=config)
                used = time.monotonic() - began
                recovered = False
                if pool.programs is not None:
                    recovered = is_recovered(problem, pool.programs[pool.best(1)])
                loss = pool.best_loss if math.isfinite(pool.best_loss) else None
                outcomes.append(Outcome(problem.name, problem.group, method, seed, recovered, used, loss))
                progress()
    return outcomes


def table(outcomes: list[Outcome], *, each: bool) -> str:
    """Recovered share and median seconds (of all runs) by group, or by problem with `each`, one column pair a method."""
    methods = list(dict.fromkeys(outcome.method for outcome in outcomes))
    lines = ["| problem | " + " | ".join(f"{m} start | median s" for m in methods) + " |"]
    lines.append("| --- |" + " ---: | ---: |" * len(methods))
    for row in dict.fromkeys((o.group, o.problem if each else "") for o in outcomes):
        cells = []
        for method in methods:
            runs = [o for o in outcomes if o.method == method and (o.group, o.problem if each else "") == row]
            cells.append(f"{sum(o.recovered for o in runs)}/{len(runs)} | {median(o.seconds for o in runs):.1f}")
        lines.append(f"| {' '.join(filter(None, (row[1], f'({row[0]})' if each else row[0])))} | {' | '.join(cells)} |")
    return "\n".join(lines)


def write_results(folder: Path, suite: str, outcomes: list[Outcome], settings: dict[str, Any]) -> Path:
    """Write a dated JSON file with the settings, the machine and every outcome; returns its path."""
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
