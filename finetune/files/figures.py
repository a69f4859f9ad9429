"""Pictures of a solution: the data against the law with residuals, also by groups, and the Pareto front."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from emlinit.finetune.files.scales import DECADES_BELOW, Scale
from emlinit.finetune.groups.grouped_law import GroupedLaw
from emlinit.finetune.law.law import Law
from emlinit.finetune.law.standard_errors import LawErrors

_DATA, _LAW, _MUTED = "#4c566a", "#c8553d", "#9aa3b2"
_POINTS: dict[str, Any] = {"color": _DATA, "alpha": 0.8, "elinewidth": 0.8}
_CURVE_POINTS = 400
_BANDS = {"value": 0.35, "measurement": 0.13}
"""How dark the bands are."""
_LEAST_DRAWN = 0.3
"""Of the smallest value of a law on a logarithmic axis: where a band goes below, it has no place."""
_MOST_ROOM = 0.25
"""Of the height of data and law, that bands may add on either side."""
_MOST_POINTS = 5000
"""Rows that are drawn, taken at random: more only cover one another."""
_MOST_IN_LEGEND, _LABEL_CHARACTERS = 16, 24
"""Groups that the legend names, and of each name."""
_SMALLEST_RMSE = 1e-17
"""Where an rmse of 0 is drawn on the logarithmic axis."""
_TITLE_CHARACTERS = 58
"""In one line of the title, for each panel."""
_TITLE_LINES = 4
"""Most lines of a title."""
_FORMULA_CHARACTERS = 40
"""Of a formula beside a point of the front."""
_LINE_POINTS = 11.0
"""From one formula on the front to the next, in points (1/72 inch)."""


def save_fit(
    path: Path,
    law: Law,
    x: np.ndarray,
    y: np.ndarray,
    target: str,
    units: Mapping[str, str] | None = None,
    *,
    sigma: np.ndarray | None = None,
    errors: LawErrors | None = None,
    inside: Sequence[tuple[float, float]] | None = None,
) -> None:
    """Data and law over each variable, with the residuals below; of many rows a random sample.

    Over one variable the law has a band of two standard errors of its value, a lighter one of two standard deviations of
    a new measurement, and what lies beyond the inner rows is shaded.

    Args:
        path: PNG file to write.
        law: the law.
        x: points of shape (p, v), the columns of the law.
        y: measured values of shape (p,).
        target: column name of `y`.
        units: of the columns that have one, for the axes.
        sigma: standard deviations of `y`, of shape (p,), drawn as error bars.
        errors: of the law, for the bands.
        inside: of each variable, from where to where the inner rows are (see `extrapolation`).
    """
    units = units or {}
    n_rows, data = len(y), "data"
    if n_rows > _MOST_POINTS:
        rows = np.sort(np.random.default_rng(0).choice(n_rows, _MOST_POINTS, replace=False))
        x, y, sigma = x[rows], y[rows], None if sigma is None else sigma[rows]
        data = f"{_MOST_POINTS} of {n_rows} rows"
    predicted = law.predict(x)
    n_panels = max(x.shape[1], 1)
    title = _wrapped(f"{target} = {law.short_formula}", _TITLE_CHARACTERS * n_panels)
    height = 5.2 + 0.2 * (title.count("\n") + 1)
    figure = Figure(figsize=(4.2 * n_panels + 0.6, height), layout="constrained")
    axes = figure.subplots(2, n_panels, squeeze=False, sharex="col", height_ratios=(2.6, 1))
    vertical = Scale.of_target(y)
    for panel, name in enumerate(law.names):
        above, below = axes[0][panel], axes[1][panel]
        column = x[:, panel]
        horizontal = Scale.of(column)
        above.errorbar(column, y, sigma, fmt="o", markersize=4, label=data, **_POINTS)
        if x.shape[1] == 1:
            curve = horizontal.spread(column.min(), column.max(), _CURVE_POINTS)
            along = law.predict(curve[:, None])
            above.plot(curve, along, "-", color=_LAW, linewidth=1.5, label="law")
            if errors is not None and not errors.is_exact:
                _bands(above, below, curve, along, errors, vertical)
            if inside is not None:
                _outside(above, below, inside[0], column)
        else:
            above.plot(column, predicted, "x", color=_LAW, markersize=4, label="law")
        below.axhline(0.0, color=_MUTED, linewidth=0.8)
        below.errorbar(column, y - predicted, sigma, fmt="o", markersize=3, **_POINTS)
        _label(below, _said(name, units.get(name), horizontal), "residual" if panel == 0 else "")
        _label(above, "", _said(target, units.get(target), vertical) if panel == 0 else "")
        _scale(below, "x", horizontal, column)
        _scale(above, "y", vertical, y)
    handles, labels = axes[0][0].get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda place: (labels[place] != data, place))
    axes[0][0].legend([handles[i] for i in order], [labels[i] for i in order], frameon=False, fontsize=8)
    figure.suptitle(title, fontsize=9, parse_math=False)
    figure.savefig(path, dpi=130)


def save_front(
    path: Path, complexity: Sequence[int], rmse: Sequence[float], chosen: int, formulas: Sequence[str]
) -> None:
    """Root mean square error against complexity, each law's formula beside its point, the chosen law marked; an rmse of 0 is
    drawn at 1e-17."""
    shown = np.maximum(np.asarray(rmse, dtype=np.float64), _SMALLEST_RMSE)
    height = max(4.2, 1.6 + len(formulas) * 1.4 * _LINE_POINTS / 72)
    figure = Figure(figsize=(8.0, height), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.step(complexity, shown, where="post", color=_MUTED, linewidth=1.0)
    axes.plot(complexity, shown, "o", color=_DATA, markersize=5)
    if 0 <= chosen < len(complexity):
        axes.plot(complexity[chosen], shown[chosen], "o", color=_LAW, markersize=9, label="chosen")
        axes.legend(frameon=False, loc="lower left")
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    least, most = min(complexity), max(complexity)
    room = max(most - least, 1)
    axes.set_xlim(least - 0.05 * room - 0.5, most + 0.75 * room + 0.5)  # the last formula has to fit in
    axes.margins(y=0.12)
    _label(axes, "complexity (nodes of the formula)", "rmse")
    canvas.draw()  # only now is it known where the points are
    _beside_points(axes, complexity, shown, formulas, chosen)
    figure.savefig(path, dpi=130)


def _bands(above: Axes, below: Axes, curve: np.ndarray, along: np.ndarray, errors: LawErrors, vertical: Scale) -> None:
    """Two standard errors to either side, around the law and around zero."""
    low, high = above.get_ylim()
    least = _LEAST_DRAWN * along[along > 0].min(initial=np.inf) if vertical.logarithmic else -np.inf
    for kind, spread, label in (
        ("measurement", errors.of_measurement(curve[:, None]), "± 2 deviations of a new measurement"),
        ("value", errors.of_value(curve[:, None]), "± 2 standard errors of the law"),
    ):
        if not np.isfinite(spread).any():
            continue
        style: dict[str, Any] = {"color": _LAW, "alpha": _BANDS[kind], "linewidth": 0, "zorder": 1}
        bottom, top = along - 2 * spread, along + 2 * spread
        drawn = bottom > least  # not NaN
        if drawn.any():
            above.fill_between(curve, bottom, top, where=drawn, label=label, **style)
        below.fill_between(curve, -2 * spread, 2 * spread, **style)
    if not vertical.logarithmic:  # a law that is hardly known somewhere must not make the data a line
        room = _MOST_ROOM * (high - low)
        bottom, top = above.get_ylim()
        above.set_ylim(max(bottom, low - room), min(top, high + room))


def _outside(above: Axes, below: Axes, inside: tuple[float, float], column: np.ndarray) -> None:
    """Shade what lies beyond the inner rows, up to the outermost ones."""
    label: str | None = "outer rows, once held out"
    for axes in (above, below):
        for start, end in ((column.min(), inside[0]), (inside[1], column.max())):
            if start < end:
                axes.axvspan(start, end, color=_MUTED, alpha=0.12, linewidth=0, zorder=0, label=label)
                label = None


def _beside_points(
    axes: Axes, complexity: Sequence[int], rmse: np.ndarray, formulas: Sequence[str], chosen: int
) -> None:
    """Formulas to the upper right of their points, where the front leaves room; one that would lie on the next is lifted."""
    points = axes.transData.transform(np.column_stack([complexity, rmse])) * 72 / axes.figure.dpi
    lowest = -np.inf
    for place in reversed(range(len(formulas))):  # from below: the most accurate law stands lowest
        up = points[place, 1]
        own = max(up + 4.0, lowest)
        lowest = own + _LINE_POINTS
        moved = own - up - 4.0
        axes.annotate(
            _cut(formulas[place], _FORMULA_CHARACTERS),
            (complexity[place], rmse[place]),
            xytext=(7.0, own - up),
            textcoords="offset points",
            fontsize=7.5,
            color=_LAW if place == chosen else _DATA,
            parse_math=False,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": _MUTED, "linewidth": 0.5, "relpos": (0, 0.4)}
            if moved > 6
            else None,
        )


def _scale(axes: Axes, name: str, scale: Scale, numbers: np.ndarray) -> None:
    """Give one axis the scale of its numbers."""
    if not scale.logarithmic:
        return
    set_scale, set_limits = (axes.set_xscale, axes.set_xlim) if name == "x" else (axes.set_yscale, axes.set_ylim)
    if not scale.linear_below:
        set_scale("log")
        return
    set_scale("symlog", linthresh=scale.linear_below, linscale=DECADES_BELOW)
    set_limits(-0.15 * scale.linear_below, float(numbers.max()) * 1.4)


def _said(name: str, unit: str | None, scale: Scale) -> str:
    """The name of an axis, its unit, and whether it is linear in part."""
    named = name if unit is None else f"{name} in {unit}"
    return f"{named} (linear below {scale.linear_below:g})" if scale.linear_below else named


def _wrapped(text: str, width: int) -> str:
    lines = textwrap.wrap(text, width, break_on_hyphens=False, max_lines=_TITLE_LINES, placeholder=" ...")
    return "\n".join(lines)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 3]}..."


def _label(axes: Axes, horizontal: str, vertical: str) -> None:
    """Label the axes with text as it stands: a dollar sign in a column name starts no formula."""
    for label, text in ((axes.xaxis.label, horizontal), (axes.yaxis.label, vertical)):
        label.set_parse_math(False)
        label.set_text(text)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def save_group_fit(
    path: Path,
    law: GroupedLaw,
    x: np.ndarray,
    y: np.ndarray,
    labels: Sequence[str],
    target: str,
    units: Mapping[str, str] | None = None,
) -> None:
    """Data and law over each variable, one colour a group, with the residuals below; of many rows a random sample.

    Args:
        path: PNG file to write.
        law: the law.
        x: points of shape (p, v), the columns of the law.
        y: measured values of shape (p,).
        labels: the group of each point.
        target: column name of `y`.
        units: of the columns that have one, for the axes.
    """
    units = units or {}
    names = np.asarray(labels)
    if len(y) > _MOST_POINTS:
        rows = np.sort(np.random.default_rng(0).choice(len(y), _MOST_POINTS, replace=False))
        x, y, names = x[rows], y[rows], names[rows]
    residual = y - law.predict(x, names)
    n_panels = x.shape[1]
    title = _wrapped(f"{target} = {law.short_formula}", _TITLE_CHARACTERS * n_panels)
    figure = Figure(figsize=(4.2 * n_panels + 2.0, 5.2 + 0.2 * (title.count("\n") + 1)), layout="constrained")
    axes = figure.subplots(2, n_panels, squeeze=False, sharex="col", height_ratios=(2.6, 1))
    vertical = Scale.of_target(y)
    colours = colormaps["tab10" if len(law.groups) <= 10 else "turbo"]
    for panel, name in enumerate(law.names):
        above, below = axes[0][panel], axes[1][panel]
        horizontal = Scale.of(x[:, panel])
        below.axhline(0.0, color=_MUTED, linewidth=0.8)
        for number, group in enumerate(law.groups):
            of_group = names == group
            if not of_group.any():
                continue
            colour = colours(number if len(law.groups) <= 10 else number / (len(law.groups) - 1))
            column = x[of_group, panel]
            # A label that begins with an underscore would be left out of the legend.
            label = None if number >= _MOST_IN_LEGEND else _cut(group, _LABEL_CHARACTERS).lstrip("_") or "group"
            above.plot(column, y[of_group], "o", color=colour, markersize=4, alpha=0.8, label=label)
            if n_panels == 1:
                curve = horizontal.spread(column.min(), column.max(), _CURVE_POINTS)
                above.plot(
                    curve,
                    law.predict(curve[:, None], [group] * len(curve)),
                    "-",
                    color=colour if law.own else _LAW,
                    linewidth=1.3,
                )
            else:
                above.plot(column, law.predict(x[of_group], names[of_group]), "x", color=colour, markersize=4)
            below.plot(column, residual[of_group], "o", color=colour, markersize=3, alpha=0.8)
        _label(below, _said(name, units.get(name), horizontal), "residual" if panel == 0 else "")
        _label(above, "", _said(target, units.get(target), vertical) if panel == 0 else "")
        _scale(below, "x", horizontal, x[:, panel])
        _scale(above, "y", vertical, y)
    hidden = len(law.groups) - _MOST_IN_LEGEND
    heading = law.column if hidden <= 0 else f"{law.column} ({hidden} more)"
    legend = figure.legend(
        *axes[0][0].get_legend_handles_labels(), title=heading, frameon=False, loc="outside right upper"
    )
    for text in (legend.get_title(), *legend.get_texts()):
        text.set_parse_math(False)
    figure.suptitle(title, fontsize=9, parse_math=False)
    figure.savefig(path, dpi=130)
