"""From a table of numbers to a law: prepare, search in each grammar, read the best candidates as formulas, choose.

Legend: p point, v input variable.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from emlinit.finetune.fitting.levenberg_marquardt import FitConfig, fit_constants
from emlinit.finetune.fitting.snapping import likely_savings, snap
from emlinit.finetune.law.choice import FrontEntry, choose, is_exact, metrics
from emlinit.finetune.law.law import Law
from emlinit.finetune.options import MIN_ROWS
from emlinit.finetune.preparation import Problem, in_known_units, prepare, restore_units
from emlinit.finetune.search.candidates import CandidatePool, Sampler, description_nats
from emlinit.finetune.search.exact import search_exact
from emlinit.finetune.search.weighted import WeightedSearchConfig, search_weighted, simple_laws
from emlinit.generator.errors import UserError
from emlinit.generator.functions.cache import load_search_table
from emlinit.generator.grammar import MAX_VARIABLES, from_text
from emlinit.generator.program import Programs, programs_from_tokens
from emlinit.model.initialiser import EMLInitialiser

EXACT_SHARE = 0.3
"""Share of the time left after the search without a network that `auto` gives to the exact grammar."""
EXACT_LOSS = 1e-15
"""Loss up to which `auto` takes a tree without constants for a candidate."""
_FINISH_SHARE, _FINISH_LEAST = 0.25, 1.0  # of the time, and in seconds: for reading candidates as formulas
_SECONDS_PER_ROUND = 5.0  # more than a round takes: on a free machine few rounds, not the clock, should end the search
# Candidates that are read as formulas: the shortest descriptions of the data, and from either end of the front.
_SHORTEST, _CHEAPEST, _MOST_ACCURATE = 7, 3, 1
_SHORTEST_SNAPPED, _SHORT = 7, 48  # and those that are likely to be the shortest once snapped, among so many
_EXACT_READ = 3  # exact laws after which no more are read: the shortest come first
_LEAST_READ = 10  # laws that are read however long it takes
_EQUAL_ERRORS = 1e-9  # relative difference
_SIMPLEST = 3  # best of the simplest laws, read in any case
_MOST_CONSTANTS = 24  # of a law that is read: what has more says nothing, and simplifying it takes seconds
_SNAP_CONSTANTS = 12  # most constants of a law that is snapped
_SNAP_ROWS = 1000  # rows that decide which constants are simple


@runtime_checkable
class NamedSampler(Sampler, Protocol):
    """A sampler that says where it is from, as an `EMLInitialiser` does."""

    source: tuple[str, str]
    """Its name and a checksum."""
    revision: str | None
    """Commit hash of what comes from the Hub."""


@dataclass(frozen=True, eq=False)
class Solution:
    """What `solve` found."""

    law: Law
    """The chosen law, in the data's own units; its `names` are the columns that it may read."""
    front: list[FrontEntry]
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
    """Source and sha256 of the initialiser that took part in the search for the law; None if none was asked."""
    notes: tuple[str, ...] = field(default=())
    """Remarks for the user, one line each."""
    revision: str | None = None
    """Commit hash of the initialiser, if it comes from the Hub."""


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
    initialisers: Mapping[str, EMLInitialiser | NamedSampler],
    seed: int = 0,
    names: Sequence[str] | None = None,
    progress: Callable[[float, str], None] | None = None,
    weighted: WeightedSearchConfig | None = None,
) -> Solution:
    """Search for the law behind data.

    Args:
        x: points, float64 of shape (p, v), finite.
        y: targets, float64 of shape (p,), finite.
        grammar: "exact" (no free constants), "weighted", or "auto" (both; what needs no network first).
        seconds: time for the search; it ends earlier when a law is exact or nothing new is found.
        initialisers: the learned start of each grammar that is searched.
        seed: source of all randomness.
        names: column names, one a column of `x`; x1, x2, ... by default.
        progress: takes the share of the time used (0..1) and a remark.
        weighted: how the weighted grammar is searched.

    Raises:
        UserError: fewer than 3 rows, shapes that do not belong together, values that are not finite, or no initialiser
            for the grammar.
    """
    began, seconds = time.monotonic(), float(seconds)
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    names = tuple(names) if names is not None else tuple(f"x{i + 1}" for i in range(x.shape[-1]))
    _check(x, y, names)
    if np.ptp(y) == 0:
        return _constant(float(y[0]), x, y, names, time.monotonic() - began)

    wanted = {"auto": ("exact", "weighted")}.get(grammar, (grammar,))
    missing = [name for name in wanted if name not in initialisers]
    if missing:
        raise UserError(f"no initialiser for the {missing[0]} grammar was given; there are: {', '.join(initialisers)}")
    of_exact = initialisers.get("exact")
    if "exact" in wanted and not isinstance(of_exact, EMLInitialiser):
        raise UserError(f"the exact grammar needs an EMLInitialiser, got {type(of_exact).__name__}")
    deadline = began + seconds - max(_FINISH_LEAST, _FINISH_SHARE * seconds)
    report = _reporter(progress, began, seconds)
    problem = prepare(x, y, np.random.default_rng(seed))
    own_x, own_names = x[:, problem.columns], [names[i] for i in problem.columns]
    report("reading the table of small functions (built the first time)")
    table = load_search_table(own_x.shape[1])
    laws: list[Law] = []
    found_by: list[tuple[str, bool]] = []  # grammar, and whether its initialiser was asked
    # Each its own: how far the clock lets one search go must not change what the next one draws.
    generators = {name: torch.Generator().manual_seed(seed) for name in wanted}
    pools = {name: CandidatePool(len(problem.train)) for name in wanted}
    prepared = {"exact": problem, "weighted": in_known_units(problem)}

    def read(name: str, *, learned: bool = True) -> bool:
        """Candidates as formulas; whether one of them is exact."""
        report("reading the candidates as formulas")
        programs = _finalists(pools[name], prepared[name], own_x, y, weighted=name == "weighted")
        new = _read(programs, own_names, own_x, y, began + seconds)
        laws.extend(new)
        found_by.extend([(name, learned)] * len(new))
        return any(is_exact(law, own_x, y) for law in new)

    options = weighted or WeightedSearchConfig()

    def search_laws(max_rounds: int, until: float, config: WeightedSearchConfig = options) -> bool:
        """Whether the initialiser was asked."""
        rescaled = prepared["weighted"]
        rounds = search_weighted(
            initialisers["weighted"],
            rescaled.x[rescaled.search],
            rescaled.y[rescaled.search],
            pools["weighted"],
            deadline=until,
            max_rounds=max_rounds,
            generator=generators["weighted"],
            progress=report,
            table=table,
            config=config,
        )
        return rounds > 0

    def search_identities(until: float) -> None:
        assert isinstance(of_exact, EMLInitialiser)  # seen to above
        search_exact(
            of_exact,
            problem.x[problem.search],
            problem.y[problem.search],
            pools["exact"],
            deadline=until,
            generator=generators["exact"],
            progress=report,
            table=table,
        )

    max_rounds = math.ceil(seconds / _SECONDS_PER_ROUND)
    if grammar == "exact":
        search_identities(deadline)
        read("exact")
    elif grammar == "weighted":
        read("weighted", learned=search_laws(max_rounds, deadline))
    else:
        # What needs no network first: it takes a second or two, and is often all there is to find.
        search_laws(0, deadline)
        if pools["weighted"].best_loss > options.surely_exact_loss or not read("weighted", learned=False):
            search_identities(time.monotonic() + EXACT_SHARE * (deadline - time.monotonic()))
            # An identity fits to rounding or is none: there is nothing to choose among the others.
            if pools["exact"].best_loss > EXACT_LOSS or not read("exact"):
                learned = search_laws(max_rounds, deadline, replace(options, lookup=False, sparse=False))
                read("weighted", learned=learned)
    train, validation = problem.train.numpy(), problem.validation.numpy()
    front, chosen = choose(laws, own_x, y, train, validation)
    law = chosen.law
    grammar_found, learned = found_by[next(i for i, candidate in enumerate(laws) if candidate is law)]
    figures = [metrics(law, own_x[rows], y[rows]) for rows in (train, validation)]
    exact = is_exact(law, own_x, y)
    if not exact and len(train) < len(y):
        law = _refit(law, own_x, y)
        entry = FrontEntry(law.complexity, metrics(law, own_x, y)["rmse"], law)
        front = [entry if old is chosen else old for old in front]
    return Solution(
        law=law,
        front=front,
        exact=exact,
        grammar=grammar_found,
        train={key: figures[0][key] for key in ("r2", "rmse")},
        validation={key: figures[1][key] for key in ("r2", "rmse")},
        seconds=time.monotonic() - began,
        checkpoint=initialisers[grammar_found].source if learned else None,
        notes=_notes(problem, names, len(y)),
        revision=initialisers[grammar_found].revision if learned else None,
    )


def _check(x: np.ndarray, y: np.ndarray, names: Sequence[str]) -> None:
    if x.ndim != 2 or y.shape != x.shape[:1] or len(names) != x.shape[1] or not x.shape[1]:
        raise UserError(
            f"x must be (points, variables) and y (points,): got {x.shape} and {y.shape}, {len(names)} names"
        )
    if len(y) < MIN_ROWS:
        raise UserError(f"a search needs at least {MIN_ROWS} rows, got {len(y)}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise UserError("the data hold NaN or infinite values: drop those rows first")


def _constant(value: float, x: np.ndarray, y: np.ndarray, names: tuple[str, ...], seconds: float) -> Solution:
    """The solution for a target that does not vary."""
    used = names[:MAX_VARIABLES]
    tokens, constants = from_text(f"c:{value!r}")
    law = Law.from_program(programs_from_tokens(tokens[None], constants[None], len(used)), used)
    figures = {"r2": 1.0, "rmse": 0.0}
    entry = FrontEntry(law.complexity, 0.0, law)
    return Solution(law, [entry], True, "weighted", figures, figures, seconds, None, ("the target is constant",))


def _finalists(
    pool: CandidatePool, problem: Problem, x: np.ndarray, y: np.ndarray, *, weighted: bool
) -> Programs | None:
    """The candidates worth reading, in the data's units, the best first; weighted ones are fitted to all training rows, as
    they are and with their constants snapped."""
    if pool.programs is None:
        return None
    front = pool.front()
    chosen = [pool.shortest(_SHORTEST), front[:_CHEAPEST], front[-_MOST_ACCURATE:]]
    n_free = pool.programs.n_free()
    if weighted:
        short = pool.shortest(_SHORT)
        short = short[n_free[short] <= _SNAP_CONSTANTS]
        if len(short):
            sample = problem.search[:: max(1, math.ceil(len(problem.search) / _SNAP_ROWS))]
            savings = likely_savings(pool.programs[short], problem.x[sample], problem.y[sample])
            chosen.append(short[(pool.nats[short] - savings).argsort(stable=True)[:_SHORTEST_SNAPPED]])
    rows = torch.unique(torch.cat(chosen))  # cheapest first
    rows = rows[n_free[rows] <= _MOST_CONSTANTS]
    found = pool.programs[rows[_first_few_of_each(pool.loss[rows], 1)]]
    if weighted:
        # The simplest laws stand for comparison, whatever the front says: it counts nodes, not what is printed.
        simple = simple_laws(found.n_variables)
        train = problem.x[problem.search], problem.y[problem.search]
        fit = fit_constants(simple, *train, config=FitConfig(steps=40))
        found = Programs.cat([fit.programs[fit.mse.argsort(stable=True)[:_SIMPLEST]], found])
    programs = restore_units(found, problem.x_unit, problem.y_unit)
    if not weighted:
        return programs
    points, targets = torch.from_numpy(x)[problem.train], torch.from_numpy(y)[problem.train]
    some = slice(0, None, max(1, math.ceil(len(targets) / _SNAP_ROWS)))
    # Snapping tries every constant many times, and with very many of them a law is not one that has simple numbers.
    few = (programs.n_free() <= _SNAP_CONSTANTS).nonzero()[:, 0]
    snapped = snap(programs[few], points[some], targets[some]).programs
    programs = Programs.cat([programs, snapped])
    fitted = fit_constants(programs, points, targets, config=FitConfig(steps=20))
    nats = description_nats(fitted.programs, fitted.mse / targets.var(correction=0), len(targets))
    for first in (0, len(found)):  # the simplest, as fitted and snapped, are read in any case: it takes no time
        nats[first : first + _SIMPLEST] = -torch.inf
    order = nats.argsort(stable=True)
    # Written in another way a law may be shorter to print.
    return fitted.programs[order[_first_few_of_each(fitted.mse[order], 2)]]


def _first_few_of_each(mse: torch.Tensor, n: int) -> torch.Tensor:
    """The first `n` rows of each error: equal errors are nearly always one law that was found, or snapped, several times."""
    equal = (mse[:, None] - mse).abs() <= _EQUAL_ERRORS * mse
    return (equal.tril(-1).sum(1) < n).nonzero()[:, 0]


def _read(programs: Programs | None, names: Sequence[str], x: np.ndarray, y: np.ndarray, until: float) -> list[Law]:
    """Programs as laws, one after the other until some are exact or the time is up; how long simplifying takes depends on
    what is left of it."""
    laws: list[Law] = []
    n_exact = 0
    if programs is None:
        return laws
    for number in range(len(programs)):
        left = until - time.monotonic()
        if (left < 0 and len(laws) >= _LEAST_READ) or n_exact >= _EXACT_READ:
            break
        patience = min(1.0, max(0.2, left / (len(programs) - number)))
        try:
            laws.append(Law.from_program(programs[number], names, x, simplify_seconds=patience))
        except ValueError:  # a constant of this candidate overflows in the data's units
            continue
        n_exact += is_exact(laws[-1], x, y)
    return laws


def _refit(law: Law, x: np.ndarray, y: np.ndarray) -> Law:
    """The law with its constants fitted to all rows, the held-out ones too: what is reported uses all that is known.

    The validation figures stay those of the law that had not seen these rows.
    """
    fit = fit_constants(law.program, torch.from_numpy(x), torch.from_numpy(y), config=FitConfig(steps=10))
    again = Law.from_program(fit.programs, law.names, x, simplify_seconds=1.0)
    better = metrics(again, x, y)["rmse"] < metrics(law, x, y)["rmse"]
    return again if better and again.complexity == law.complexity else law


def _notes(problem: Problem, names: Sequence[str], n_rows: int) -> tuple[str, ...]:
    notes = []
    if len(problem.columns) < len(names):
        notes.append("variables read: " + ", ".join(names[i] for i in problem.columns))
    if len(problem.train) == n_rows:
        notes.append(f"only {n_rows} rows: none were held out, the validation figures are those of the training rows")
    return tuple(notes)


def _reporter(progress: Callable[[float, str], None] | None, began: float, seconds: float) -> Callable[[str], None]:
    def report(remark: str) -> None:
        if progress is not None:
            progress(min(1.0, (time.monotonic() - began) / seconds), remark)

    return report
