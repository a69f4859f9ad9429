"""The front of error against complexity, and the law to report.

Legend: p point.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch

from emlinit.finetune.fitting.prices import description_length
from emlinit.finetune.law.finding import Finding
from emlinit.finetune.law.front import pareto_front, shortest_description

_FURTHER, _FURTHER_NODES = 2, 4
"""Entries of the front beyond the chosen law, and how many nodes they may have more than twice those of the law."""


def choose(
    findings: Sequence[Finding], train: np.ndarray, validation: np.ndarray, *, max_complexity: float | int = math.inf
) -> tuple[list[Finding], Finding]:
    """The Pareto front of (complexity, rmse over all rows), simplest first, and the finding to report.

    An exact law ends the front: the simplest one is reported. Otherwise it is the shortest description of the data among
    the laws that hold on the validation rows (see `front`), and at most two more entries follow it, of about
    twice its complexity at most: what lies further fits the noise.

    Args:
        findings: laws beside the same data.
        train: rows that were fitted.
        validation: rows that were not; the same rows again where none were held out.
        max_complexity: nodes of the laws that take part, unless there are no others.

    Raises:
        ValueError: no law is defined on all rows.
    """
    front = _front([finding for finding in findings if finding.is_readable(max_complexity)]) or _front(findings)
    if not front:
        raise ValueError("no candidate law is defined on all rows")
    exact = [rank for rank, finding in enumerate(front) if finding.is_exact]
    if exact:
        front = front[: exact[0] + 1]
        return front, front[-1]
    held_out = not np.array_equal(train, validation)

    def mean_squares(rows: np.ndarray) -> torch.Tensor:
        return torch.tensor([finding.errors(rows).rmse ** 2 for finding in front], dtype=torch.float64)

    chosen = shortest_description(
        torch.tensor([finding.description_nodes for finding in front]),
        torch.tensor([finding.n_fitted for finding in front]),
        mean_squares(train),
        mean_squares(validation),
        len(train),
        len(validation) if held_out else 0,
        _scale(front[0].y),
        front[0].n_distinct,
        float(front[0].y.std()),
    )
    most = 2 * front[chosen].complexity + _FURTHER_NODES
    further = [finding for finding in front[chosen + 1 : chosen + 1 + _FURTHER] if finding.complexity <= most]
    return [*front[: chosen + 1], *further], front[chosen]


def _front(findings: Sequence[Finding]) -> list[Finding]:
    """The simplest first, each more accurate than the one before."""
    if not findings:
        return []
    y, errors = findings[0].y, [finding.rmse for finding in findings]
    lengths = description_length(
        torch.tensor(errors, dtype=torch.float64).square(),
        torch.tensor([finding.description_nodes for finding in findings]),
        torch.tensor([finding.n_fitted for finding in findings]),
        len(y),
        _scale(y),
        findings[0].n_distinct,
        float(y.std()),
    ).tolist()
    # Of laws as complex as one another the shortest description stands: 1.5 is worth more than 1.49987 of equal fit.
    shortest: dict[int, int] = {}
    for i in sorted(range(len(findings)), key=lambda i: (lengths[i], errors[i])):
        shortest.setdefault(findings[i].complexity, i)
    kept = [findings[i] for i in shortest.values()]
    order = pareto_front(
        torch.tensor([finding.complexity for finding in kept]),
        torch.tensor([finding.rmse for finding in kept], dtype=torch.float64),
    )
    return [kept[rank] for rank in order.tolist()]


def _scale(y: np.ndarray) -> float:
    """Root mean square of the targets."""
    return float(np.sqrt(np.mean(y**2)))
