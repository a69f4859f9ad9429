"""Judging laws on the data: their errors, the front of error against complexity, and the one to report.

Legend: p point.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import sympy
import torch

from emlinit.finetune.law.description_length import choose as shortest_description
from emlinit.finetune.law.description_length import description_length, pareto_front
from emlinit.finetune.law.law import Law

EXACT_ERROR = 1e-9
"""Root mean squared error, relative to that of a constant, up to which a law counts as exact."""
_DIGITS_PER_CONSTANT = 1.5
"""Digits of the error that each constant must account for in an exact law: a series fitted to a smooth function gains
about one digit with every term."""
_LEAST_ERROR = 1e-13  # relative: less is asked of no law
_FURTHER, _FURTHER_NODES = 2, 4
"""Entries of the front beyond the chosen law, and how many nodes they may have more than twice those of the law."""


@dataclass(frozen=True, eq=False)
class FrontEntry:
    """One law of the Pareto front."""

    complexity: int
    """Nodes of the printed formula's expression tree."""
    rmse: float
    """Root mean squared error over all rows, in units of y."""
    law: Law
    """The law."""


def metrics(law: Law, x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """`rmse`, `r2` and `relative` (rmse over the rms deviation of y from its mean) of a law on points (p, v).

    Where the law is undefined at any point the error is infinite. For a constant y, r2 is 1 or -infinity.
    """
    with np.errstate(all="ignore"):
        residual = law.predict(x) - y
        mse = float(np.mean(residual**2)) if np.isfinite(residual).all() else math.inf
    variance = float(np.var(y))
    relative = math.sqrt(mse / variance) if variance > 0 else (0.0 if mse == 0 else math.inf)
    return {"rmse": math.sqrt(mse), "r2": 1.0 - relative**2, "relative": relative}


def n_fitted(law: Law) -> int:
    """Constants of the printed formula that are no integers, fractions or multiples of pi; a and -a are one."""
    return len({abs(float(number)) for number in law.expression.atoms(sympy.Float)})


def is_exact(law: Law, x: np.ndarray, y: np.ndarray) -> bool:
    """Whether a law fits all rows to machine precision, and not for its many constants: there are more rows than those, and
    more digits than a series of as many terms would get right."""
    constants = n_fitted(law)
    error = min(EXACT_ERROR, max(_LEAST_ERROR, 10.0 ** (-_DIGITS_PER_CONSTANT * constants)))
    return len(y) > constants + 1 and metrics(law, x, y)["relative"] <= error


def choose(
    laws: Sequence[Law],
    x: np.ndarray,
    y: np.ndarray,
    train: np.ndarray,
    validation: np.ndarray,
) -> tuple[list[FrontEntry], FrontEntry]:
    """The Pareto front of (complexity, rmse over all rows), simplest first, and the entry to report.

    An exact law ends the front: the simplest one is reported. Otherwise it is the shortest description of the data among
    the laws that hold on the validation rows (see `pareto`), and at most two more entries follow it, of about twice its
    complexity at most: what lies further fits the noise.

    Args:
        laws: candidates that read the same columns.
        x: those columns, float64 of shape (p, v).
        y: targets.
        train: rows that were fitted.
        validation: rows that were not; the same rows again where none were held out.

    Raises:
        ValueError: no law is defined on all rows.
    """
    errors = [metrics(law, x, y)["rmse"] for law in laws]
    scale = float(np.sqrt(np.mean(y**2)))
    lengths = description_length(
        torch.tensor(errors, dtype=torch.float64).square(),
        torch.tensor([law.complexity for law in laws]),
        torch.tensor([n_fitted(law) for law in laws]),
        len(y),
        scale,
    ).tolist()
    # Of laws as complex as one another the shortest description stands: 1.5 is worth more than 1.49987 of equal fit.
    shortest: dict[int, int] = {}
    for i in sorted(range(len(laws)), key=lambda i: (lengths[i], errors[i])):
        shortest.setdefault(laws[i].complexity, i)
    kept = list(shortest.values())
    order = pareto_front(
        torch.tensor([laws[i].complexity for i in kept]), torch.tensor([errors[i] for i in kept], dtype=torch.float64)
    )
    front = [FrontEntry(laws[i].complexity, errors[i], laws[i]) for i in (kept[rank] for rank in order.tolist())]
    if not front:
        raise ValueError("no candidate law is defined on all rows")
    exact = [rank for rank, entry in enumerate(front) if is_exact(entry.law, x, y)]
    if exact:
        front = front[: exact[0] + 1]
        return front, front[-1]
    held_out = not np.array_equal(train, validation)

    def mean_squares(rows: np.ndarray) -> torch.Tensor:
        return torch.tensor([metrics(entry.law, x[rows], y[rows])["rmse"] ** 2 for entry in front], dtype=torch.float64)

    chosen = shortest_description(
        torch.tensor([entry.complexity for entry in front]),
        torch.tensor([n_fitted(entry.law) for entry in front]),
        mean_squares(train),
        mean_squares(validation),
        len(train),
        len(validation) if held_out else 0,
        scale,
    )
    most = 2 * front[chosen].complexity + _FURTHER_NODES
    further = [entry for entry in front[chosen + 1 : chosen + 1 + _FURTHER] if entry.complexity <= most]
    return [*front[: chosen + 1], *further], front[chosen]
