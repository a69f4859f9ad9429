"""From a table of numbers to a law: prepare, search in each grammar, read the best candidates as formulas, choose.

Legend: p point, v input variable.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from emlinit.finetune.diagnostics.extrapolation import Extrapolation
from emlinit.finetune.diagnostics.noise import NoiseBesideLaw, Outliers
from emlinit.finetune.diagnostics.trust import trust_in
from emlinit.finetune.finalists import refitted
from emlinit.finetune.fitting.misfit import PLAIN, Misfit
from emlinit.finetune.initialisers import load_initialisers, searched_grammars
from emlinit.finetune.inputs import checked_data, checked_language
from emlinit.finetune.judging import FormJudge, judged
from emlinit.finetune.law.choice import choose, rivals
from emlinit.finetune.law.finding import Finding, count_distinct, residuals
from emlinit.finetune.law.language import Language
from emlinit.finetune.law.law import Law
from emlinit.finetune.law.polish import polished
from emlinit.finetune.law.symbol_names import symbols_for
from emlinit.finetune.options import (
    GRAMMAR_CHOICES,
    LOSSES,
    MAX_COMPLEXITY,
    MIN_ROWS,
    checked_choice,
    checked_names,
    checked_seconds,
    checked_seed,
)
from emlinit.finetune.plan import Clock, Data, NamedSampler, Search
from emlinit.finetune.preparation import prepare, sample_of
from emlinit.finetune.search.exact import PeelingSampler
from emlinit.finetune.search.weighted_stage import WeightedSearchConfig
from emlinit.finetune.sizes import constant_columns, said_of_constants
from emlinit.finetune.sparse.dictionary import FEW_LEVELS
from emlinit.finetune.weights import misfit_of, row_weights
from emlinit.generator.errors import UserError
from emlinit.generator.functions.cache import load_search_table
from emlinit.generator.grammar import MAX_VARIABLES, from_text
from emlinit.generator.program import programs_from_tokens

_LEAST_EXPLAINED = 0.5  # of the variance of the rows held out: what explains less is no law
_MANY_DECADES = 4  # of a target, from which it is said that the smaller values hardly count
_PREPARATION_SHARE = 0.2  # of the time: after it, choosing among many variables ends


@dataclass(frozen=True, eq=False)
class Solution:
    """What `solve` found."""

    law: Law
    """The chosen law, in the data's own units; its `names` are the columns that it may read."""
    front: list[Finding]
    """Simplest first, each more accurate than the one before; holds the chosen law."""
    exact: bool
    """Whether the law fits all rows to machine precision."""
    grammar: str
    """Grammar that the law was found in: `exact` or `weighted`."""
    train: dict[str, float]
    """`r2` and `rmse` on the rows that were fitted."""
    validation: dict[str, float]
    """`r2` and `rmse` on the held-out rows (on the training rows if there were too few to hold some out)."""
    seconds: float
    """Wall-clock time used."""
    checkpoint: tuple[str, str] | None
    """Source and sha256 of the initialiser that the law comes from; None if the law has none of its proposals among its
    ancestors."""
    notes: tuple[str, ...] = field(default=())
    """Remarks for the user, one line each."""
    revision: str | None = None
    """Commit hash of the initialiser, if it comes from the Hub."""
    stage: str = ""
    """The stage of the search that found the law; empty where none was needed."""
    stages: tuple[dict[str, Any], ...] = field(default=())
    """What was searched: `grammar`, `stage`, its `seconds` and `steps`, by how many nats the shortest description of the
    data became shorter meanwhile (`gained_nats`), and the best `relative_error` that it came to (root mean squared, over
    the standard deviation of y; None if it found nothing)."""
    sigma: np.ndarray | None = None
    """Standard deviations of the targets, float64 of shape (p,), one a row given, in units of y; None if not known."""
    weights: np.ndarray | None = None
    """Weights of the rows, float64 of shape (p,), not negative, beside those that `sigma` gives: as given, and with a robust
    loss 0 for rows that are more than three robust standard deviations off the law. None: all alike."""
    noise: NoiseBesideLaw | None = None
    """The noise in the target, whatever the law, and what the law leaves; None for an exact law and where it cannot be
    told."""
    extrapolation: Extrapolation | None = None
    """How the law does on the outermost rows when its constants are fitted to the others."""
    no_extrapolation: str = ""
    """Why there is none, in a few words."""
    outliers: Outliers | None = None
    """Rows that carry most of the misfit, as they were given; None if there are none, or not all rows were looked at."""
    rivals: tuple[Finding, ...] = field(default=())
    """Laws of other forms that are nearly as likely as the chosen one, the likeliest first; none on the front."""


@contextmanager
def _one_thread() -> Iterator[None]:
    """The work is in many small tensors: a second thread gains little on a free machine and costs much on a busy one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@_one_thread()
def solve(
    x: np.ndarray,
    y: np.ndarray,
    *,
    grammar: str = "auto",
    seconds: int | float = 20,
    initialisers: Mapping[str, NamedSampler] | None = None,
    seed: int = 0,
    names: Sequence[str] | None = None,
    progress: Callable[[float, str], None] | None = None,
    weighted: WeightedSearchConfig | None = None,
    operators: str | Iterable[str] | None = None,
    forbid: str | Iterable[str] | None = None,
    max_complexity: int = MAX_COMPLEXITY,
    integer_exponents: bool = False,
    stop: Callable[[], bool] | None = None,
    on_better: Callable[[Law, float], object] | None = None,
    sigma: Any = None,
    sample_weight: Any = None,
    loss: str = LOSSES[0],
) -> Solution:
    """Search for the law behind data.

    Args:
        x: points, float64 of shape (p, v), finite.
        y: targets, float64 of shape (p,), finite.
        grammar: "exact" (no free constants), "weighted", or "auto" (both; what needs no network first).
        seconds: time for the search; it ends earlier when a law is exact or nothing new is found.
        initialisers: the learned start of each grammar that is searched; None loads the shipped ones.
        seed: source of all randomness.
        names: column names, one a column of `x`; x1, x2, ... by default.
        progress: takes the share of the time used (0..1) and a remark.
        weighted: how the weighted grammar is searched.
        operators: what a law may be written in, such as "+,*,/,exp" or a list of these names; None for everything.
        forbid: what it may not be written in, given likewise.
        max_complexity: most nodes of its formula's expression tree; a number counts as one, however it is written.
        integer_exponents: whether powers of what varies must have whole exponents.
        stop: asked again and again; once it says True the search ends with the best law so far.
        on_better: takes each law that is better than those before while the search goes on, unsnapped, and its error
            relative to the standard deviation of y.
        sigma: standard deviation of the error of y, positive, one number or one a row, in units of y. Rows weigh as
            1/sigma², standard errors follow from it, and a law that fits better than it is not taken to be better.
        sample_weight: weights of the rows, non-negative, in place of `sigma`: only their ratios count. Rows of weight 0 are
            left out.
        loss: "squares", or, so that rows that are far off count little, "huber" or "l1" (see `fitting.misfit`).

    Raises:
        UserError: fewer than 3 rows, shapes that do not belong together, values that are not finite numbers, an option out
            of its range, no column of x that varies where y does, or no initialiser for the grammar.
    """
    clock = Clock(time.monotonic(), checked_seconds(seconds), progress, stop)
    language = checked_language(operators, forbid, max_complexity, integer_exponents)
    seed, grammar = checked_seed(seed), checked_choice(grammar, "grammar", GRAMMAR_CHOICES)
    x, y = checked_data(x, y)
    loss = checked_choice(loss, "loss", LOSSES)
    weights, errors = row_weights(len(y), sigma, sample_weight)
    given = x, y, weights
    if weights is not None and errors is None and not (weights > 0).all():
        counted = weights > 0
        x, y, weights = x[counted], y[counted], weights[counted]
        if len(y) < MIN_ROWS:
            raise UserError(f"a search needs at least {MIN_ROWS} rows, got {len(y)} of a weight above 0")
    names = checked_names(names, x.shape[1])
    if np.ptp(y) == 0:
        return _constant(x, y, names, clock)
    constant = [(names[place], float(x[0, place])) for place in constant_columns(x, names)]
    samplers = _samplers(initialisers, grammar)

    n_rows, rng = len(y), np.random.default_rng(seed)
    rows = sample_of(y, rng)
    x, y = x[rows], np.require(y[rows], requirements="W")
    misfit = misfit_of(loss, None if weights is None else weights[rows], None if errors is None else errors[rows])
    problem = prepare(x, y, rng, clock.at(clock.began + _PREPARATION_SHARE * clock.seconds), misfit)
    data = Data(x[:, problem.columns], y, [names[i] for i in problem.columns], problem)
    language = replace(language, factors=_factors(data))
    clock.report("reading the table of small functions (built the first time)")
    search = Search(data, samplers, load_search_table(data.x.shape[1]), seed, clock, language, on_better)

    weighted = weighted or WeightedSearchConfig()
    weighted = replace(weighted, sparse_config=replace(weighted.sparse_config, without=language.without))
    findings = search.run(grammar, weighted)
    judge = samplers.get("weighted") if weighted.judge else None
    asked = judge if isinstance(judge, FormJudge) else None
    solution = _solution(findings, search, names, (len(given[1]), n_rows), constant, asked)
    if given[2] is None and not misfit.is_robust:
        return solution
    return replace(solution, sigma=errors, weights=_final_weights(solution.law, names, given, errors, misfit.loss))


def _solution(
    findings: Sequence[Finding],
    search: Search,
    names: tuple[str, ...],
    n_rows: tuple[int, int],
    constant: Sequence[tuple[str, float]],
    judge: FormJudge | None,
) -> Solution:
    """Choose one of the laws found, and fit it to all rows if it is not exact; `n_rows` were given, and have a weight."""
    data = search.data
    if not any(math.isfinite(finding.rmse) for finding in findings):  # each is undefined somewhere, or not admitted
        findings = [_mean(data.x, data.y, tuple(data.names), data.problem.misfit)]
    train, validation = data.problem.train.numpy(), data.problem.validation.numpy()
    rows = np.column_stack([data.x, data.y])
    different = count_distinct(rows)
    if judge is not None and not any(finding.is_exact for finding in findings):
        findings = judged(findings, data.x, search.problems["weighted"], judge, search.clock.latest)
    front, chosen = choose(
        findings,
        train,
        validation,
        max_complexity=search.language.max_complexity,
        n_points=different,
        n_unseen=different - count_distinct(rows[train]),
    )
    near = rivals(findings, front, chosen, max_complexity=search.language.max_complexity, n_points=different)
    figures = [chosen.errors(rows) for rows in (train, validation)]
    best = chosen
    if not chosen.is_exact and len(train) < len(data.y):
        best = refitted(chosen, data.x, data.y, search.language)
    weights = best.misfit.fixed_weights(torch.from_numpy(-best.residual))
    best = polished(best, data.x, data.y, search.language, None if weights is None else weights.numpy())
    if best.misfit.is_robust:  # the weights were those of the law before
        best = refitted(best, data.x, data.y, search.language)
    place = front.index(chosen)
    better = [entry for entry in front[place + 1 :] if entry.complexity > best.complexity and entry.rmse < best.rmse]
    front = [*(entry for entry in front[:place] if entry.complexity < best.complexity), best, *better]
    stage, from_network = best.origin
    asked = search.samplers[best.grammar] if from_network else None
    trust = trust_in(best, data.x)
    if len(data.y) < n_rows[0]:  # of others nothing is known, and these are not as they were counted
        trust = replace(trust, outliers=None)
    return Solution(
        law=best.law,
        front=front,
        exact=chosen.is_exact,
        grammar=best.grammar,
        train={"r2": figures[0].r2, "rmse": figures[0].rmse},
        validation={"r2": figures[1].r2, "rmse": figures[1].rmse},
        seconds=search.clock.used(),
        checkpoint=asked.source if asked else None,
        notes=(
            *_notes(data, names, n_rows[1], constant),
            *_how_good(chosen, validation, search.language.max_complexity),
            *_limits(search, chosen),
            *_decades(chosen),
            *trust.remarks(),
        ),
        revision=asked.revision if asked else None,
        stage=stage,
        stages=tuple(_stage_records(search)),
        rivals=tuple(near),
        **vars(trust),
    )


def _final_weights(
    law: Law,
    names: Sequence[str],
    given: tuple[np.ndarray, np.ndarray, np.ndarray | None],
    sigma: np.ndarray | None,
    loss: str,
) -> np.ndarray | None:
    """The weights of all rows that were given, beside those that `sigma` gives; 0 for those that are far off."""
    x, y, weights = given
    if loss == LOSSES[0]:
        return None if sigma is not None else weights
    counted = np.ones(len(y), dtype=bool) if weights is None else weights > 0
    residual = residuals(law, x[counted][:, [names.index(name) for name in law.names]], y[counted])
    misfit = misfit_of(loss, None if weights is None else weights[counted], None)
    result = np.zeros(len(y))
    result[counted] = 1.0 if sigma is not None or weights is None else weights[counted]
    result[counted] *= misfit.sound(torch.from_numpy(residual)).numpy()
    return result


def _stage_records(search: Search) -> Iterator[dict[str, Any]]:
    for grammar, run in search.runs:
        yield {
            "grammar": grammar,
            "stage": run.name,
            "seconds": round(run.seconds, 3),
            "steps": run.steps,
            "gained_nats": round(run.gain, 1),
            "relative_error": math.sqrt(run.best_loss) if math.isfinite(run.best_loss) else None,
        }


def _factors(data: Data) -> frozenset[str]:
    """Symbols of the columns of two or three levels, each of them in several rows."""
    few = [1 < len(np.unique(column)) <= FEW_LEVELS and len(column) > 2 * FEW_LEVELS for column in data.x.T]
    return frozenset(symbol.name for symbol, is_few in zip(symbols_for(data.names), few, strict=True) if is_few)


def _samplers(given: Mapping[str, NamedSampler] | None, grammar: str) -> Mapping[str, NamedSampler]:
    """The learned starts, the shipped ones if none are given."""
    samplers = load_initialisers(None, grammar, torch.device("cpu")) if given is None else given
    wanted = searched_grammars(grammar)
    missing = [name for name in wanted if name not in samplers]
    if missing:
        raise UserError(f"no initialiser for the {missing[0]} grammar was given; there are: {', '.join(samplers)}")
    if "exact" in wanted and not isinstance(samplers["exact"], PeelingSampler):
        raise UserError(
            f"the exact grammar needs a sampler that proposes subtrees, too, as an EMLInitialiser does: "
            f"{type(samplers['exact']).__name__} has no propose_each"
        )
    return samplers


def _constant(x: np.ndarray, y: np.ndarray, names: tuple[str, ...], clock: Clock) -> Solution:
    """The solution for a target that does not vary."""
    finding = _mean(x[:, :MAX_VARIABLES], y, names[:MAX_VARIABLES])
    figures = {"r2": 1.0, "rmse": 0.0}
    notes = ("the target is constant",)
    return Solution(finding.law, [finding], True, "weighted", figures, figures, clock.used(), None, notes)


def _mean(x: np.ndarray, y: np.ndarray, names: tuple[str, ...], misfit: Misfit = PLAIN) -> Finding:
    """The law that y is its mean, weighted as its rows are, or its median if the loss is robust."""
    weights = None if misfit.weights is None else misfit.weights.numpy()
    middle = np.median(y) if misfit.is_robust else np.average(y, weights=weights)
    mean = float(y[0]) if np.ptp(y) == 0 else float(middle)
    tokens, constants = from_text(f"c:{mean!r}")
    law = Law.from_program(programs_from_tokens(tokens[None], constants[None], len(names)), names)
    return Finding.of(law, x, y, grammar="weighted", misfit=misfit)


def _how_good(chosen: Finding, rows: np.ndarray, max_complexity: int) -> Iterator[str]:
    """What is said of a law that is not exact: its error on some rows, and whether it is a law at all."""
    if chosen.is_exact:
        return
    errors = chosen.errors(rows)
    found = "no exact law was found" if errors.r2 >= _LEAST_EXPLAINED else "no law was found"
    size = "" if chosen.size > max_complexity else f" of up to {max_complexity} nodes"
    error = f"{100 * errors.relative:.2g} %" if errors.relative < 10 else f"{errors.relative:.2g} times"
    yield f"{found}: the best{size} has an error of {error} of y's spread"


def _limits(search: Search, chosen: Finding) -> Iterator[str]:
    """What may have kept the search from the best law."""
    if replace(search.language, factors=frozenset()) != Language() and not chosen.law.expression.free_symbols:
        yield "of the laws that may be written none is better than a constant"
    if search.clock.is_stopped:
        yield "stopped early: the best law so far"
    exact = [finding.size for finding in search.too_long if finding.is_exact]
    if exact and not chosen.is_exact:
        yield (
            f"an exact law of {min(exact)} nodes was found and left out: it is longer than the "
            f"{search.language.max_complexity} that a law may have"
        )


def _decades(chosen: Finding) -> Iterator[str]:
    """What least squares makes of a target that is positive throughout and of all sizes."""
    low, high = float(chosen.y.min()), float(chosen.y.max())
    if low > 0 and high > 10**_MANY_DECADES * low and not chosen.is_exact:
        yield (
            f"the target spans {math.log10(high / low):.0f} decades, and its smaller values hardly count: to weigh all "
            "alike, give its logarithm as the target"
        )


def _notes(data: Data, names: Sequence[str], n_rows: int, constant: Sequence[tuple[str, float]]) -> tuple[str, ...]:
    notes = []
    problem, n_used = data.problem, len(data.y)
    if n_used < n_rows:
        notes.append(f"{n_used:,} of {n_rows:,} rows, drawn at random, were fitted")
    notes += said_of_constants(constant)
    if len(problem.columns) < len(names) - len(constant):
        notes.append("variables read: " + ", ".join(names[i] for i in problem.columns))
    if len(problem.train) == n_used:
        notes.append(f"only {n_used} rows: none were held out, the validation figures are those of the training rows")
    return tuple(notes)
