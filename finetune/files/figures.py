"""Two pictures of a solution: the data against the law with residuals, and the Pareto front."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from emlinit.finetune.law.law import Law

_DATA, _LAW, _MUTED = "#4c566a", "#c8553d", "#9aa3b2"
_CURVE_POINTS = 400
_MOST_POINTS = 5000
"""Rows that are drawn, taken at random: more only cover one another."""
_LOG_RANGE = 1e4
"""Ratio of largest to smallest from which positive numbers are drawn on a logarithmic axis."""
_SMALLEST_RMSE = 1e-17
"""Where an rmse of 0 is drawn on the logarithmic axis."""


def save_fit(path: Path, law: Law, x: np.ndarray, y: np.ndarray, target: str) -> None:
    """Data and law over each variable, with the residuals below; of many rows a random sample.

    Args:
        path: PNG file to write.
        law: the law.
        x: points of shape (p, v), the columns of the law.
        y: measured values of shape (p,).
        target: column name of `y`.
    """
    n_rows, data = len(y), "data"
    if n_rows > _MOST_POINTS:
        rows = np.sort(np.random.default_rng(0).choice(n_rows, _MOST_POINTS, replace=False))
        x, y = x[rows], y[rows]
        data = f"{_MOST_POINTS} of {n_rows} rows"
    predicted = law.predict(x)
    n_panels = max(x.shape[1], 1)
    figure = Figure(figsize=(4.2 * n_panels + 0.6, 5.4), layout="constrained")
    axes = figure.subplots(2, n_panels, squeeze=False, sharex="col", height_ratios=(2.6, 1))
    for panel, name in enumerate(law.names):
        above, below = axes[0][panel], axes[1][panel]
        column = x[:, panel]
        above.plot(column, y, "o", color=_DATA, markersize=4, alpha=0.8, label=data)
        if x.shape[1] == 1:
            space = np.geomspace if _is_wide(column) else np.linspace
            curve = space(column.min(), column.max(), _CURVE_POINTS)
            above.plot(curve, law.predict(curve[:, None]), "-", color=_LAW, linewidth=1.5, label="law")
        else:
            above.plot(column, predicted, "x", color=_LAW, markersize=4, label="law")
        if _is_wide(column):
            below.set_xscale("log")
        if _is_wide(y):
            above.set_yscale("log")
        below.axhline(0.0, color=_MUTED, linewidth=0.8)
        below.plot(column, y - predicted, "o", color=_DATA, markersize=3, alpha=0.8)
        _label(below, name, "residual" if panel == 0 else "")
        _label(above, "", target if panel == 0 else "")
    axes[0][0].legend(frameon=False)
    figure.savefig(path, dpi=130)


def save_front(path: Path, complexity: Sequence[int], rmse: Sequence[float], chosen: int) -> None:
    """Root mean square error against complexity, the chosen law marked; an rmse of 0 is drawn at 1e-17."""
    shown = np.maximum(np.asarray(rmse, dtype=np.float64), _SMALLEST_RMSE)
    figure = Figure(figsize=(5.6, 3.8), layout="constrained")
    axes = figure.subplots()
    axes.step(complexity, shown, where="post", color=_MUTED, linewidth=1.0)
    axes.plot(complexity, shown, "o", color=_DATA, markersize=5)
    if 0 <= chosen < len(complexity):
        axes.plot(complexity[chosen], shown[chosen], "o", color=_LAW, markersize=9, label="chosen")
        axes.legend(frameon=False)
    axes.set_yscale("log")
    _label(axes, "complexity (nodes of the formula)", "rmse")
    figure.savefig(path, dpi=130)


def _is_wide(numbers: np.ndarray) -> bool:
    return bool(numbers.min() > 0 and numbers.max() >= _LOG_RANGE * numbers.min())


def _label(axes: Axes, horizontal: str, vertical: str) -> None:
    """Label the axes with text as it stands: a dollar sign in a column name starts no formula."""
    for label, text in ((axes.xaxis.label, horizontal), (axes.yaxis.label, vertical)):
        label.set_parse_math(False)
        label.set_text(text)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
