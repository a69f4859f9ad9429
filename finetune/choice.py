"""Choosing a law: the front of error against complexity, and the shortest description of the data on it.

    description length = complexity * bits per node + n_free / 2 * log2(n) + n / 2 * log2(mse / var)

(Rissanen 1978): a more complex formula must save more bits on the residuals than it costs. The error is that of the
held-out rows. Laws that fit to machine precision have no residuals to save on: of those the simplest wins.

Legend: p point.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import sympy

from emlinit.finetune.law import Law

EXACT_ERROR = 1e-9
"""Root mean squared error, relative to that of a constant, up to which a law counts as exact."""
BITS_PER_NODE = 3.0
"""Bits to name one operator or variable among about eight."""


@dataclass(frozen=True, eq=False)
class Entry:
    """A law on the front."""

    complexity: int
    rmse: float
    law: Law


def metrics(law: Law, x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """`rmse`, `r2` and `relative` (rmse over the rms deviation of y from its mean) of a law on points (p, v).

    Where the law is undefined at any point the error is infinite. For a constant y, r2 is 1 or -infinity.
    """
    residual = law.predict(x) - y
    mse = float(np.mean(residual**2)) if np.isfinite(residual).all() else math.inf
    variance = float(np.var(y))
    relative = math.sqrt(mse / variance) if variance > 0 else (0.0 if mse == 0 else math.inf)
    return {"rmse": math.sqrt(mse), "r2": 1.0 - relative**2, "relative": relative}


def description_bits(law: Law, relative: float, n_rows: int) -> float:
    """Bits that describe the law and the residuals that it leaves; `relative` as in `metrics`."""
    n_free = sum(1 for atom in law.expression.atoms(sympy.Float))
    residual = n_rows * math.log2(max(relative, EXACT_ERROR)) if relative < math.inf else math.inf
    return BITS_PER_NODE * law.complexity + 0.5 * n_free * math.log2(max(n_rows, 2)) + residual


def choose(
    laws: Sequence[Law],
    x: np.ndarray,
    y: np.ndarray,
    train: np.ndarray,
    validation: np.ndarray,
    names: Sequence[str],
) -> tuple[list[Entry], Entry]:
    """The Pareto front of (complexity, rmse over all rows), simplest first, and the entry of shortest description.

    Raises:
        ValueError: no law is defined on all rows.
    """
    entries: list[tuple[Entry, float, float]] = []
    for law in laws:
        columns = x[:, [list(names).index(name) for name in law.names]]
        overall = metrics(law, columns, y)
        if overall["rmse"] == math.inf:
            continue
        held_out = metrics(law, columns[validation], y[validation])["relative"]
        fitted = metrics(law, columns[train], y[train])["relative"]
        # Held-out rows are few: a lucky draw must not make a law look better than it was fitted.
        bits = description_bits(law, max(held_out, fitted), len(y))
        entries.append((Entry(law.complexity, overall["rmse"], law), overall["relative"], bits))
    if not entries:
        raise ValueError("no candidate law is defined on all rows")
    entries.sort(key=lambda item: (item[0].complexity, item[1]))
    front: list[tuple[Entry, float, float]] = []
    for item in entries:
        exact = bool(front) and front[-1][1] <= EXACT_ERROR
        if not front or (item[0].rmse < 0.999 * front[-1][0].rmse and not exact):
            front.append(item)
    exact_ones = [item for item in front if item[1] <= EXACT_ERROR]
    chosen = exact_ones[0] if exact_ones else min(front, key=lambda item: item[2])
    return [item[0] for item in front], chosen[0]
