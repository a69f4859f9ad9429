"""The network as judge: what the form of a law costs, given the data, whoever found it.

A form costs less the log-probability that the network gives it, its coarse constants included, in one teacher-forced pass
for all finalists. A law has several spellings as a program, and the network was shown one of them: its own program and its
printed formula, compiled, are asked about, and the likeliest one counts. What the network cannot write costs as much as the
most unlikely of the others, or its nodes if they are more.

Legend: p point, v input variable.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from emlinit.finetune.fitting.prices import NATS_PER_NODE
from emlinit.finetune.law.finding import Finding
from emlinit.finetune.law.law import Law
from emlinit.finetune.preparation import Problem, in_search_units
from emlinit.generator.grammar import pad_sequences
from emlinit.generator.program import tokens_from_program

_AT_ONCE = 16  # sequences between two looks at the clock
_BAGS = 2


@runtime_checkable
class FormJudge(Protocol):
    """What tells how likely programs are, as an `EMLInitialiser` does."""

    def log_prob(self, tokens: Tensor, constants: Tensor, x: Tensor, y: Tensor, *, n_bags: int) -> Tensor:
        """See `EMLInitialiser.log_prob`."""


def judged(
    findings: Sequence[Finding], x: np.ndarray, problem: Problem, judge: FormJudge, until: float
) -> list[Finding]:
    """The findings with what their forms cost in the eyes of the network (`told_nats`).

    Args:
        findings: laws beside the data.
        x: all points in the data's own units, float64 of shape (p, v).
        problem: the data in the units that the network reads.
        judge: of the weighted grammar.
        until: on the clock of `time.monotonic`; if it passes before all are judged, none is.
    """
    positive: list[bool] = np.all(x > 0, axis=0).tolist()
    spelled = [
        (number, *words)
        for number, finding in enumerate(findings)
        for words in _spellings(finding.law, problem, positive)
    ]
    nats = [math.inf] * len(findings)
    best = min(findings, key=lambda finding: finding.rmse)
    sound = problem.misfit.sound(torch.from_numpy(best.residual))
    rows = problem.search[sound[problem.search]]
    points, targets = problem.x[rows], problem.y[rows]
    spelled.sort(key=lambda one: len(one[1]))  # sequences of like lengths together: little padding
    for start in range(0, len(spelled), _AT_ONCE):
        if time.monotonic() >= until:
            return list(findings)
        numbers, tokens, constants = zip(*spelled[start : start + _AT_ONCE], strict=True)
        padded = pad_sequences(list(zip(tokens, constants, strict=True)))
        log_prob = judge.log_prob(*padded, points, targets, n_bags=_BAGS)
        for number, one in zip(numbers, log_prob.tolist(), strict=True):
            nats[number] = min(nats[number], -one)
    worst = max((one for one in nats if math.isfinite(one)), default=0.0)
    return [
        replace(finding, told_nats=one if math.isfinite(one) else max(worst, NATS_PER_NODE * finding.told_nodes))
        for finding, one in zip(findings, nats, strict=True)
    ]


def _spellings(law: Law, problem: Problem, positive: Sequence[bool]) -> list[tuple[Tensor, Tensor]]:
    """Its own program and its printed formula, as tokens and constants in the search's units: compiled before the change of
    units and after it, which folds factors of variables into others where it can."""
    programs = [law.program, law.compiled(positive)]
    programs = [in_search_units(one, problem) for one in programs if one is not None]
    if not bool(problem.x_shift.any()):
        programs.append(law.compiled(positive, problem.x_unit.tolist(), problem.y_unit))
    return [tokens_from_program(one) for one in programs if one is not None]
