"""The front of error against complexity, and the law to report.

Legend: p point.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import sympy
import torch

from emlinit.finetune.fitting.prices import description_length
from emlinit.finetune.law.finding import Finding
from emlinit.finetune.law.front import pareto_front, shortest_description

_NEARLY, _RIVALS = 3.0, 3
"""Nats by which a law that is nearly as likely may be longer, odds of 1 to 20, and how many such are told of."""
_FURTHER, _FURTHER_NODES = 2, 4
"""Entries of the front beyond the chosen law, and how many nodes they may have more than twice those of the law."""


def choose(
    findings: Sequence[Finding],
    train: np.ndarray,
    validation: np.ndarray,
    *,
    max_complexity: float | int = math.inf,
    n_points: int | None = None,
    n_unseen: int | None = None,
) -> tuple[list[Finding], Finding]:
    """The front of (complexity, rmse over all rows), simplest first, and the finding to report.

    An exact law ends the front: the simplest one is reported. Otherwise it is the shortest description of the data among
    the laws that hold on the validation rows (see `front`), and at most two more entries follow it, of about
    twice its complexity at most: what lies further fits the noise. A shape with a name counts as the nodes that it takes
    to say it; so of laws that fit alike the one that is reported need not be that of the fewest symbols, and what is both
    shorter and more accurate than it is left out of the front.

    Args:
        findings: laws beside the same data.
        train: rows that were fitted.
        validation: rows that were not; the same rows again where none were held out.
        max_complexity: nodes of the laws that take part, unless there are no others.
        n_points: different rows, features and target together: copies of a row are no further evidence. All by default.
        n_unseen: different validation rows that are no copy of one that was fitted. All by default.

    Raises:
        ValueError: no law is defined on all rows.
    """
    readable = [finding for finding in findings if finding.is_readable(max_complexity)]
    candidates = readable or [finding for finding in findings if math.isfinite(finding.rmse)]
    if not candidates:
        raise ValueError("no candidate law is defined on all rows")
    candidates = sorted(candidates, key=lambda finding: (finding.complexity, finding.n_fitted, finding.rmse))
    exact = [finding for finding in candidates if finding.is_exact]
    chosen = exact[0] if exact else _shortest(candidates, train, validation, n_points, n_unseen)
    front = _front(candidates, n_points)
    simpler = [f for f in candidates if f.complexity < chosen.complexity and f.rmse > chosen.rmse]
    # However unlikely what is simpler may be as a law, it shows what the chosen one is worth.
    before = _shortest_of_each([float(f.complexity) for f in simpler], simpler, n_points)
    most = 0 if exact else 2 * chosen.complexity + _FURTHER_NODES
    after = [f for f in front if chosen.complexity < f.complexity <= most and f.rmse < chosen.rmse]
    return [*_pareto(before), chosen, *_pareto(after)[:_FURTHER]], chosen


def rivals(findings: Sequence[Finding], front: Sequence[Finding], chosen: Finding, **options: Any) -> list[Finding]:
    """Laws of another form than those of the front that are nearly as likely as the chosen one: by the data alone the choice
    might have been another. At most three, the likeliest first, none if the chosen one is exact.

    Args:
        findings: laws beside the same data, as they were chosen among.
        front: the laws that are shown in any case.
        chosen: the law that was chosen.
        options: `max_complexity` and `n_points` as for `choose`.
    """
    if chosen.is_exact:
        return []
    readable = [f for f in findings if f.is_readable(options.get("max_complexity", math.inf))]
    lengths = description_lengths([chosen, *readable], options.get("n_points"))
    near = sorted(zip(lengths[1:], readable, strict=True), key=lambda pair: pair[0])
    seen, found = {_form(finding) for finding in front}, list[Finding]()
    for length, finding in near:
        if not 0 <= length - lengths[0] <= _NEARLY or len(found) == _RIVALS:
            continue
        if _form(finding) not in seen:
            seen.add(_form(finding))
            found.append(finding)
    return found


def _form(finding: Finding) -> str:
    """The formula without its fitted numbers."""
    numbers = finding.law.expression.atoms(sympy.Float)
    return str(finding.law.expression.xreplace(dict.fromkeys(numbers, sympy.Symbol("_"))))


def _shortest(
    findings: Sequence[Finding],
    train: np.ndarray,
    validation: np.ndarray,
    n_points: int | None,
    n_unseen: int | None,
) -> Finding:
    """The shortest description of the data."""
    held_out = not np.array_equal(train, validation)

    def mean_squares(rows: np.ndarray) -> torch.Tensor:
        return torch.tensor([finding.described_mse(rows) for finding in findings], dtype=torch.float64)

    return findings[
        shortest_description(
            torch.tensor([finding.description_nodes for finding in findings], dtype=torch.float64),
            torch.tensor([finding.n_fitted for finding in findings]),
            mean_squares(train),
            mean_squares(validation),
            len(train),
            len(validation) if held_out else 0,
            _scale(findings[0].y),
            findings[0].n_distinct,
            float(findings[0].y.std()),
            n_points,
            n_unseen if held_out else 0,
        )
    ]


def description_lengths(findings: Sequence[Finding], n_points: int | None = None) -> list[float]:
    """Nats that it takes to say the data with each law: one that takes k more is e^k times less likely.

    Args:
        findings: laws beside the same data.
        n_points: different rows; all by default.
    """
    y = findings[0].y
    lengths: list[float] = description_length(
        torch.tensor([finding.described_mse() for finding in findings], dtype=torch.float64),
        torch.tensor([finding.description_nodes for finding in findings], dtype=torch.float64),
        torch.tensor([finding.n_fitted for finding in findings]),
        len(y) if n_points is None else n_points,
        _scale(y),
        findings[0].n_distinct,
        float(y.std()),
    ).tolist()
    return lengths


def _front(findings: Sequence[Finding], n_points: int | None) -> list[Finding]:
    """What takes more to be said than the one before is more accurate."""
    nodes = [finding.description_nodes for finding in findings]
    return _pareto(_shortest_of_each(nodes, findings, n_points), by_description=True)


def _shortest_of_each(nodes: Sequence[float], findings: Sequence[Finding], n_points: int | None) -> list[Finding]:
    """Of findings of as many nodes the one of the shortest description."""
    if not findings:
        return []
    errors, lengths = [finding.rmse for finding in findings], description_lengths(findings, n_points)
    # Of laws as complex as one another the shortest description stands: 1.5 is worth more than 1.49987 of equal fit.
    shortest: dict[float, int] = {}
    for i in sorted(range(len(findings)), key=lambda i: (lengths[i], errors[i])):
        shortest.setdefault(nodes[i], i)
    return [findings[i] for i in shortest.values()]


def _pareto(findings: Sequence[Finding], *, by_description: bool = False) -> list[Finding]:
    order = pareto_front(
        torch.tensor([f.description_nodes if by_description else f.complexity for f in findings], dtype=torch.float64),
        torch.tensor([finding.rmse for finding in findings], dtype=torch.float64),
    )
    return [findings[rank] for rank in order.tolist()]


def _scale(y: np.ndarray) -> float:
    """Root mean square of the targets."""
    return float(np.sqrt(np.mean(y**2)))
