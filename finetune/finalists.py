"""The finalists: which candidates of a search are worth reading as formulas, and what they become.

Reading costs a second or so a candidate, most of it simplifying, so few are read: the shortest descriptions of the data,
those that snapping is likely to make short, the ends of the front, and the simplest laws for comparison. They are fitted
to all training rows in the data's own units, as they are and with their constants snapped.

Legend: p point, v input variable.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from emlinit.finetune.fitting.dust import drop_dust
from emlinit.finetune.fitting.levenberg_marquardt import FitConfig, fit_constants
from emlinit.finetune.fitting.misfit import PLAIN, Misfit
from emlinit.finetune.fitting.prices import description_cost, description_nats
from emlinit.finetune.fitting.snapping import SnapConfig, likely_savings, snap
from emlinit.finetune.law.finding import Finding, count_distinct
from emlinit.finetune.law.language import Language
from emlinit.finetune.law.law import Law
from emlinit.finetune.preparation import Problem, restore_units
from emlinit.finetune.search.candidates import CandidatePool, Origin
from emlinit.finetune.search.weighted import SimplestLaws, simple_laws
from emlinit.generator.program import Programs

# Candidates that are read as formulas: the shortest descriptions of the data, and from either end of the front.
_SHORTEST, _CHEAPEST, _MOST_ACCURATE = 7, 3, 1
# Nats, as EML nodes tell them: what is so near may be the shortest; few rows leave many.
_NEAR, _MOST_SHORTEST = 5.0, 16
_MOST_ACCURATE_SHORT = 2  # of the part of the front that can be offered, and that is read in any case
_SHORT_ONES = 4  # and among those that are short in any case
_FEW_CONSTANTS = 4  # and the best that have 1, 2, ... constants: EML nodes say little of how a formula is called
_SURELY_SHORT, _SURELY_LONG = (
    0.8,
    1.5,
)  # of the most nodes of a formula: what costs less is shorter, what costs more longer
_SHORTEST_SNAPPED, _SHORT = 7, 48  # and those that are likely to be the shortest once snapped, among so many
_COST_OF_A_NODE = (2.2, 1.1)  # of a printed formula: at most, and mostly
_EXACT_READ = 3  # exact laws after which no more are read: the shortest come first
_LEAST_READ = 10  # laws that are read when the time is up already,
_GRACE, _LEAST_GRACE = 0.05, 0.3  # unless so much more of it, as a share and in seconds, has gone by
_LAST = 1e9  # nats added to what is read last
_BEST_FIRST = 2  # laws that are read before the simplest
_FIT_SHARE = 0.5  # of the time left goes into fitting the finalists, the rest into reading them
_EQUAL_ERRORS = 1e-9  # relative difference
_SIMPLEST = 3  # best of the simplest laws, read in any case
_MOST_CONSTANTS = 24  # of a law that is read: what has more says nothing, and simplifying it takes seconds
_SNAP_CONSTANTS = 12  # most constants of a law that is snapped
_SNAP_ROWS = 1000  # rows that decide which constants are simple
_LEAST_PATIENCE, _MOST_PATIENCE = 0.2, 1.0  # seconds for simplifying one law
_SIMPLE_FIT = FitConfig(steps=40)  # of the simplest laws, from no start at all
_LAST_FIT = FitConfig(steps=20)  # of all finalists, to `_FIT_ROWS` of the training rows
_FIT_ROWS = 4000
_ALL_ROWS_FIT = FitConfig(steps=3)  # to all of them, if there are more: from there the steps converge quadratically
_DUST_FIT = FitConfig(steps=3)  # of what is left without the terms that nobody could see
_READ_OF_MANY = 16  # first finalists for which that is done
_REFIT = FitConfig(steps=10)  # of the chosen law, to the held-out rows as well
_ANY_LANGUAGE = Language()


@dataclass(frozen=True, eq=False)
class Finalists:
    """Candidates that are worth reading as formulas."""

    programs: Programs
    """In the data's units, in the order in which they should be read."""
    origins: Sequence[Origin]
    """Where each comes from."""


def exact_finalists(pool: CandidatePool, problem: Problem) -> Finalists | None:
    """The trees worth reading, the simplest first; None if there are none."""
    if pool.programs is None:
        return None
    rows = _worth_reading(pool, pool.shortest(_SHORTEST))
    return Finalists(restore_units(pool.programs[rows], problem), pool.origins(rows))


def weighted_finalists(
    pool: CandidatePool,
    problem: Problem,
    x: np.ndarray,
    y: np.ndarray,
    until: float,
    *,
    max_complexity: int = _ANY_LANGUAGE.max_complexity,
    margin: float = math.inf,
    most_loss: float = math.inf,
) -> Finalists | None:
    """The candidates worth reading, as they are and snapped, fitted to all training rows, the shortest descriptions first.

    Args:
        pool: what was found, in the units of `problem`.
        problem: the data as the search saw them.
        x: all points in the data's units, float64 of shape (p, v).
        y: all targets in the data's units, of shape (p,).
        until: when they should have been read, on the clock of `time.monotonic`.
        max_complexity: nodes of the laws that will be offered; of the front, the most accurate that cost no more are among
            the finalists.
        margin: nats by which the description with a finalist may be longer than the shortest, once it is fitted; before
            that, half as much again. The simplest are read in any case.
        most_loss: of a finalist, likewise.

    Returns:
        None if nothing was found.
    """
    if pool.programs is None:
        return None
    now = time.monotonic()
    fits_until = now + _FIT_SHARE * max(0.0, until - now)
    # What costs more than the first is longer than a law may be, what costs less than the second is not.
    likely, surely = (int(factor * max_complexity) for factor in _COST_OF_A_NODE)
    n_near = int((pool.nats <= pool.best_nats + _NEAR).sum())
    n_shortest = min(max(_SHORTEST, n_near), _MOST_SHORTEST)
    shortest = [pool.shortest(n_shortest, cost) for cost in (likely, surely)]
    shortest.append(pool.shortest(_SHORT_ONES, int(_SURELY_SHORT * max_complexity)))
    snappable, short_enough = _short_once_snapped(pool, problem, likely), _short_enough(pool, max_complexity)
    few_constants = pool.best_with_each_number_of_constants(_FEW_CONSTANTS, likely)
    rows = _worth_reading(pool, *shortest, snappable, short_enough, few_constants)
    rows = rows[(pool.nats[rows] <= pool.best_nats + 1.5 * margin) & (pool.loss[rows] <= most_loss)]
    found, origins = pool.programs[rows], pool.origins(rows)
    # The simplest laws stand for comparison, whatever the front says: it counts nodes, not what is printed.
    searched = problem.misfit.rows(problem.search)
    simple = fit_constants(
        simple_laws(found.n_variables),
        problem.x[problem.search],
        problem.y[problem.search],
        weights=searched.weights,
        loss=searched.loss,
        config=_SIMPLE_FIT,
    )
    order = pool.judged(simple.programs, simple.mse).argsort(stable=True)
    found = Programs.cat([simple.programs[order[:_SIMPLEST]], found])
    origins = [Origin(SimplestLaws.name, network=False)] * (len(found) - len(origins)) + origins
    programs = restore_units(found, problem)
    points, targets = torch.from_numpy(x)[problem.train], torch.from_numpy(y)[problem.train]
    weights = _weights(pool, problem, problem.train)
    if weights is None:
        weights = torch.ones_like(targets)
    some = slice(0, None, max(1, math.ceil(len(targets) / _SNAP_ROWS)))
    more = slice(0, None, max(1, math.ceil(len(targets) / _FIT_ROWS)))
    # Snapping tries every constant many times, and with very many of them a law is not one that has simple numbers.
    few = (programs.n_free() <= _SNAP_CONSTANTS).nonzero()[:, 0]
    snapped = snap(
        programs[few], points[some], targets[some], weights=weights[some], config=SnapConfig(until=fits_until)
    )
    programs = Programs.cat([programs, snapped.programs])
    origins = [*origins, *(origins[row] for row in few.tolist())]
    fitted = fit_constants(
        programs, points[more], targets[more], weights=weights[more], config=replace(_LAST_FIT, until=fits_until)
    )
    nats = description_nats(fitted.programs, fitted.mse / targets.var(correction=0), len(targets))
    order = nats.argsort(stable=True)
    hopeless = nats > nats[order[0]] + margin
    for start in (0, len(found)):  # the simplest, as fitted and snapped, are read in any case: it takes no time
        nats[start : start + _SIMPLEST] = -torch.inf
    cost = description_cost(fitted.programs)
    short = torch.where(cost <= _SURELY_SHORT * max_complexity, nats, torch.inf).argsort(stable=True)
    nats[short[: 2 * (_SIMPLEST + _SHORT_ONES)]] = -torch.inf
    nats[cost > _SURELY_LONG * max_complexity] = torch.inf  # these are mostly too long
    best = order[:_BEST_FIRST]
    nats[description_cost(fitted.programs) > surely] += _LAST  # if time is short, it goes to what is not too long
    others = nats.argsort(stable=True)
    order = torch.cat([best, others[~torch.isin(others, best) & ~(hopeless & (nats > -torch.inf))[others]]])
    # Written in another way a law may be shorter to print.
    order = order[_first_few_of_each(fitted.mse[order], 2)]
    programs = fitted.programs[order]
    if len(targets) > _FIT_ROWS:
        config = replace(_ALL_ROWS_FIT, until=fits_until)
        head = fit_constants(programs[:_READ_OF_MANY], points, targets, weights=weights, config=config).programs
        programs = Programs.cat([head, programs[_READ_OF_MANY:]]) if len(programs) > _READ_OF_MANY else head
    programs = drop_dust(
        programs, points[more], targets[more], weights=weights[more], config=replace(_DUST_FIT, until=fits_until)
    )
    return Finalists(programs, [origins[row] for row in order.tolist()])


def read_laws(
    finalists: Finalists | None,
    names: Sequence[str],
    x: np.ndarray,
    y: np.ndarray,
    until: float,
    *,
    grammar: str,
    language: Language = _ANY_LANGUAGE,
    misfit: Misfit = PLAIN,
) -> list[Finding]:
    """Finalists as laws beside the data, one after the other until some are exact or the time is up; how long simplifying
    takes depends on what is left of it. Laws that the language has no words for, or that no formula of real numbers says,
    are left out; those that are only too long are among the others, so that they can be told of.

    Args:
        finalists: the best first.
        names: of the columns of x.
        x: points, float64 of shape (p, v).
        y: targets, float64 of shape (p,).
        until: on the clock of `time.monotonic`.
        grammar: where they were found.
        language: what a law may be written in.
        misfit: how residuals count, with the weights of all rows.
    """
    findings: list[Finding] = []
    if finalists is None:
        return findings
    programs = finalists.programs
    n_exact, n_distinct = 0, count_distinct(x)
    grace = max(_LEAST_GRACE, _GRACE * (until - time.monotonic()))  # a law takes 20 ms on a free machine
    for number in range(len(programs)):
        now = time.monotonic()
        is_late = now >= until  # also because the search was stopped
        left = min(0.0, until - now) if is_late else until - now
        enough = number >= _LEAST_READ or (left < -grace and any(math.isfinite(f.rmse) for f in findings))
        if (is_late and enough) or n_exact >= _EXACT_READ:
            break
        patience = min(_MOST_PATIENCE, max(_LEAST_PATIENCE, left / (len(programs) - number)))
        law = law_in(programs[number], names, x, patience, language)
        if law is None:
            continue
        origin = finalists.origins[number]
        findings.append(Finding.of(law, x, y, grammar=grammar, origin=origin, n_distinct=n_distinct, misfit=misfit))
        n_exact += findings[-1].is_exact and findings[-1].size <= language.max_complexity
    return findings


def refitted(finding: Finding, x: np.ndarray, y: np.ndarray, language: Language = _ANY_LANGUAGE) -> Finding:
    """The law with its constants fitted to all rows, the held-out ones too: what is reported uses all that is known.

    The validation figures stay those of the law that had not seen these rows.
    """
    program, names = finding.law.program, finding.law.names
    misfit = finding.misfit
    fit = fit_constants(
        program, torch.from_numpy(x), torch.from_numpy(y), weights=misfit.weights, loss=misfit.loss, config=_REFIT
    )
    law = law_in(fit.programs, names, x, 1.0, language)
    if law is None:
        return finding
    again = Finding.of(
        law,
        x,
        y,
        grammar=finding.grammar,
        origin=finding.origin,
        n_distinct=finding.n_distinct,
        misfit=misfit,
    )
    return again if again.rmse < finding.rmse and again.complexity == finding.complexity else finding


def law_in(program: Programs, names: Sequence[str], x: np.ndarray, patience: float, language: Language) -> Law | None:
    """A program as a law in the words of a language, whatever its length; None if there are no such words, no formula of
    real numbers says it, or a constant overflows in the data's units.

    Args:
        program: a batch of one, in the data's units.
        names: of the columns of x.
        x: points, float64 of shape (p, v).
        patience: seconds for simplifying.
        language: what a law may be written in.
    """
    try:
        law = Law.from_program(program, names, x, simplify_seconds=patience)
    except (ValueError, RecursionError):  # one that is nested too deeply for sympy says nothing to anybody
        return None
    if not law.is_real:
        return None
    form = language.form(law.expression)
    return None if form is None else law if form is law.expression else replace(law, expression=form)


def _worth_reading(pool: CandidatePool, *chosen: torch.Tensor) -> torch.Tensor:
    """Rows of the pool, cheapest first: those chosen and the ends of the front, without those of too many constants and with
    one of each error."""
    assert pool.programs is not None
    front = pool.front()
    rows: torch.Tensor = torch.unique(torch.cat([*chosen, front[:_CHEAPEST], front[-_MOST_ACCURATE:]]))
    rows = rows[pool.programs.n_free()[rows] <= _MOST_CONSTANTS]
    return rows[_first_few_of_each(pool.loss[rows], 1)]


def _short_once_snapped(pool: CandidatePool, problem: Problem, most_cost: int) -> torch.Tensor:
    """Rows of the pool that are likely to be the shortest descriptions once their constants are snapped."""
    assert pool.programs is not None
    short = pool.shortest(_SHORT, most_cost)
    short = short[pool.programs.n_free()[short] <= _SNAP_CONSTANTS]
    if not len(short):
        return short
    sample = problem.search[:: max(1, math.ceil(len(problem.search) / _SNAP_ROWS))]
    weights = _weights(pool, problem, sample)
    savings = likely_savings(pool.programs[short], problem.x[sample], problem.y[sample], weights)
    return short[(pool.nats[short] - savings).argsort(stable=True)[:_SHORTEST_SNAPPED]]


def _weights(pool: CandidatePool, problem: Problem, rows: torch.Tensor) -> torch.Tensor | None:
    """Weights of some rows for least squares; rows that are far off the shortest description count little if the loss is a
    robust one. So all finalists are fitted to the same."""
    misfit = problem.misfit.rows(rows)
    return misfit.fixed_weights(pool.residual(problem.x[rows], problem.y[rows])) if misfit.is_robust else misfit.weights


def _short_enough(pool: CandidatePool, max_cost: int) -> torch.Tensor:
    """The most accurate rows of the front among those that cost so much at most, or clearly less."""
    front = pool.front()
    surely, perhaps = (front[pool.cost[front] <= share * max_cost] for share in (_SURELY_SHORT, 1.0))
    return torch.cat([surely[-_MOST_ACCURATE_SHORT:], perhaps[-1:]])


def _first_few_of_each(mse: torch.Tensor, n: int) -> torch.Tensor:
    """The first `n` rows of each error: equal errors are nearly always one law that was found, or snapped, several times."""
    equal = (mse[:, None] - mse).abs() <= _EQUAL_ERRORS * mse
    return (equal.tril(-1).sum(1) < n).nonzero()[:, 0]
