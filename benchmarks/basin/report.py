"""What the basin study found: shares with their intervals, a table, a dated file, and the figure.

Wilson intervals of 95 % treat runs as independent draws. Runs of one tree share it, so the intervals speak about these
trees; how much trees differ is in the outcomes, which the file keeps tree by tree.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import binomtest

from emlinit.benchmarks.basin.study import LEARNED, LIKELIEST, RANDOM, BasinConfig, BasinOutcome
from emlinit.benchmarks.runner import write_results
from emlinit.generator.errors import UserError
from emlinit.generator.files import write_atomically

PAPER_RUNS = {2: (32, 32), 3: (17, 64), 4: (15, 64), 5: (2, 128), 6: (0, 128)}
"""Depth -> runs that recovered the target and runs made, of the trainer of arXiv 2603.21852 from random starts."""
_COLOURS = {RANDOM: "#4c566a", LEARNED: "#c8553d", LIKELIEST: "#e0a458"}
_TRUTH_COLOURS = ("#2e6f57", "#4f9d7f", "#86c2aa", "#b9ddcf")
_FLOOR = 5e-4
"""Where a share of 0 is drawn on the logarithmic axis."""


@dataclass(frozen=True)
class BasinRow:
    """All runs from one start at one depth."""

    depth: int
    """Depth of the trees."""
    start: str
    """Name of the start, such as "learned" or "truth ± 2"."""
    runs: int
    """Runs made, of all trees."""
    trees: int
    """Trees that were tried."""
    found: int
    """Trees that at least one run visited."""
    drawn: int
    """Runs whose proposal was the identical function before any training; see `BasinOutcome` for this and the rest."""
    started: int
    """Runs whose first logits had it as their mode."""
    ended: int
    """Runs whose last logits had it as their mode."""
    visited: int
    """Runs whose best program was it."""
    control_ended: int
    """`ended` at learning rate 0."""
    control_visited: int
    """`visited` at learning rate 0."""


def wilson(successes: int, runs: int) -> tuple[float, float]:
    """The Wilson score interval of 95 % of a probability; (0, 1) without runs."""
    if not runs:
        return 0.0, 1.0
    interval = binomtest(successes, runs).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def summarise(outcomes: Iterable[BasinOutcome]) -> list[BasinRow]:
    """Outcomes added up over the trees of a depth, in the order in which depths and starts first appear."""
    outcomes = list(outcomes)
    rows = []
    for level, start in dict.fromkeys((o.depth, o.start) for o in outcomes):
        mine = [o for o in outcomes if (o.depth, o.start) == (level, start)]
        counts = ("drawn", "started", "ended", "visited", "control_ended", "control_visited")
        sums = {name: sum(getattr(o, name) for o in mine) for name in ("runs", *counts)}
        rows.append(BasinRow(level, start, trees=len(mine), found=sum(o.visited > 0 for o in mine), **sums))
    return rows


def basin_table(rows: Iterable[BasinRow]) -> str:
    """A markdown table: shares of runs in percent, with Wilson intervals where they are the result."""
    head = ("depth", "start", "runs", "drawn", "at the start", "ends in it", "visits it", "without gradient", "trees")
    lines = ["| " + " | ".join(head) + " |", "| --- | --- |" + " ---: |" * (len(head) - 2)]
    for row in rows:
        drawn = _percent(row.drawn, row.runs) if row.start in (LEARNED, LIKELIEST) else "–"
        without = f"{_percent(row.control_ended, row.runs)} / {_percent(row.control_visited, row.runs)}"
        cells = (
            row.depth, row.start, row.runs, drawn, _percent(row.started, row.runs), _with_interval(row.ended, row.runs),
            _with_interval(row.visited, row.runs), without, f"{row.found}/{row.trees}",
        )  # fmt: skip
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def _percent(successes: int, runs: int) -> str:
    return f"{100 * successes / runs:.3g}" if runs else "–"


def _with_interval(successes: int, runs: int) -> str:
    low, high = wilson(successes, runs)
    return f"{_percent(successes, runs)} ({100 * low:.3g}–{100 * high:.3g})"


def write_basin_results(
    folder: Path, outcomes: Sequence[BasinOutcome], config: BasinConfig, checkpoint: tuple[str, str]
) -> Path:
    """Write a dated JSON file with the settings, the weights' source and sha256, and every outcome; returns its path."""
    return write_results(
        folder,
        "basin",
        outcomes,
        asdict(config),
        kind="study",
        checkpoint={"source": checkpoint[0], "sha256": checkpoint[1]},
        rows=[asdict(row) for row in summarise(outcomes)],
    )


def read_basin_results(path: Path) -> list[BasinOutcome]:
    """The outcomes in a file that `write_basin_results` wrote.

    Raises:
        UserError: no such file, or one that holds something else.
    """
    try:
        record: Any = json.loads(path.read_text())
        return [BasinOutcome(**outcome) for outcome in record["outcomes"]]
    except OSError as problem:
        raise UserError(f"'{path}' cannot be read ({problem.strerror}): give the results of a basin study") from problem
    except (ValueError, KeyError, TypeError) as problem:
        raise UserError(f"'{path}' holds no results of a basin study: give a file that this script wrote") from problem


def save_basin_figure(path: Path, rows: Sequence[BasinRow]) -> None:
    """Probability of one run against depth, for runs that end in the identical function and runs that visit it.

    Args:
        path: PNG file to write.
        rows: what to draw; a share of 0 is an open marker at the bottom with its upper bound.
    """
    figure = Figure(figsize=(10.2, 4.6), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    names = list(dict.fromkeys(row.start for row in rows))
    truths = [name for name in names if name not in _COLOURS]
    colours = _COLOURS | {name: _TRUTH_COLOURS[i % len(_TRUTH_COLOURS)] for i, name in enumerate(truths)}
    for axis, count, control, title in (
        (axes[0], "ended", "control_ended", "ends in the identical function"),
        (axes[1], "visited", "control_visited", "visits it"),
    ):
        for place, name in enumerate(names):
            mine = [row for row in rows if row.start == name and row.runs]
            shift = 0.05 * (place - (len(names) - 1) / 2)
            points = [(row.depth + shift, getattr(row, count), row.runs) for row in mine]
            _draw(axis, points, colours[name], "o-", name)
            if name == LEARNED:
                without = [(row.depth + shift, getattr(row, control), row.runs) for row in mine]
                _draw(axis, without, colours[name], ":", "learned, learning rate 0", intervals=False)
        if count == "ended":  # what the paper counts
            paper = [(float(level), *counts) for level, counts in PAPER_RUNS.items()]
            _draw(axis, paper, "black", "D", "arXiv 2603.21852, its five targets", intervals=False)
        axis.set_yscale("log")
        axis.set_ylim(0.7 * _FLOOR, 1.4)
        axis.set_xlabel("depth of the tree")
        axis.set_title(title, fontsize=10)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    axes[0].set_ylabel("probability of one run")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=8)
    write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=130, format="png"))


def _draw(
    axis: Axes,
    points: Sequence[tuple[float, int, int]],
    colour: str,
    style: str,
    label: str,
    *,
    intervals: bool = True,
) -> None:
    """One start: (depth, successes, runs) a point."""
    where = [point[0] for point in points]
    shown = [max(successes / runs, _FLOOR) for _, successes, runs in points]
    axis.plot(where, shown, style, color=colour, label=label, markersize=4, linewidth=1.3)
    zero = [depth for depth, successes, _ in points if not successes]
    if "o" in style or "D" in style:  # a share of 0 lies below the axis: an open marker says so
        axis.plot(zero, [_FLOOR] * len(zero), style[0], color=colour, markerfacecolor="white", markersize=5)
    for depth, successes, runs in points if intervals else ():
        low, high = wilson(successes, runs)
        axis.plot([depth, depth], [max(low, _FLOOR), max(high, _FLOOR)], "-", color=colour, linewidth=0.8, alpha=0.7)
