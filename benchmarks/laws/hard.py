"""How the suites `hard` and `hard-aside` are made: random formulas that the searches without a network do not find.

Formulas are drawn as those of the suite `formulas` are, in 1 to 5 variables, from a stream of random numbers of their own.
Each whose constants noiseless data determine is searched for without a network; what is not found is kept, the first
`N_HARD` for the one suite and the next `N_ASIDE` for the other. What a search misses depends on the machine and on the
search: the sets are made once, and are what they are.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from emlinit.benchmarks.laws.methods import LAW_METHODS, Initialisers, load_for_methods
from emlinit.benchmarks.laws.refit import parametrise, values_or_nan
from emlinit.benchmarks.laws.scoring import score_law
from emlinit.benchmarks.laws.suites import law_of_frozen, real_symbols
from emlinit.benchmarks.runner import run_all
from emlinit.generator.corpus.frozen import DrawnFormula, draw_formulas, write_formula_problems
from emlinit.generator.errors import UserError
from emlinit.generator.formulas.parse import parse_formula
from emlinit.generator.grammar import MAX_VARIABLES

N_HARD, N_ASIDE = 120, 60
SEARCH = "no-network"
"""The method that must not find them."""
_RANK = 2  # stream of random numbers that the formulas come from; the suite `formulas` has 1
_STEP = 1e-5  # of a constant, relative: for derivatives
_LEAST_EFFECT = 1e-4  # on y, over its spread, of a relative change of the constants in the direction that shows least


@dataclass(frozen=True)
class Tried:
    """One formula that was searched for."""

    number: int
    """Of those that data determine, from 0."""
    found: bool
    """Whether the search found it, as printed or once its constants are fitted."""
    seconds: float
    """Time that the search was given."""


@dataclass(frozen=True, eq=False)
class _Try:
    """One formula to search for."""

    number: int
    drawn: DrawnFormula
    seconds: float


def hard_candidates() -> Iterator[DrawnFormula]:
    """The formulas in turn that noiseless data determine."""
    return (drawn for drawn in draw_formulas(_RANK, MAX_VARIABLES) if is_determined(drawn))


def is_determined(drawn: DrawnFormula) -> bool:
    """Whether the data tell the constants of the printed formula: no change of all of them together by a share, large or
    small, changes the targets by less than a ten-thousandth of that share of their spread."""
    symbols = real_symbols(drawn.x.shape[1])
    formula = parametrise(parse_formula(drawn.formula, symbols))
    found = np.array(formula.found)
    if not len(found):
        return False
    shifted = found + np.concatenate([np.diag(_STEP * found), -np.diag(_STEP * found)])
    table = np.concatenate([np.tile(drawn.x, (len(shifted), 1)), np.repeat(shifted, len(drawn.x), axis=0)], axis=1)
    values = values_or_nan(formula.expression, [*symbols, *formula.constants], table).reshape(len(shifted), -1)
    slope = (values[: len(found)] - values[len(found) :]) / (2 * _STEP * drawn.y.std() * len(drawn.y) ** 0.5)
    if not np.isfinite(slope).all():
        return False
    return bool(np.linalg.svd(slope, compute_uv=False)[-1] > _LEAST_EFFECT)


def try_formulas(
    n: int, seconds: float, lines: Path, *, jobs: int = 1, progress: Callable[[Tried], object] = lambda _: None
) -> list[Tried]:
    """Search for the first `n` candidates without a network.

    Args:
        n: how many.
        seconds: time of each search, on one core.
        lines: gets a line of JSON for each as soon as it is known; what is in it is not searched for again.
        jobs: processes.
        progress: called with each, as it comes.

    Returns:
        All of them, in order.
    """
    done = [Tried(**json.loads(line)) for line in lines.read_text().splitlines()] if lines.exists() else []
    numbers = {tried.number for tried in done}
    tries = [
        _Try(number, drawn, seconds)
        for number, drawn in enumerate(islice(hard_candidates(), n))
        if number not in numbers
    ]
    with lines.open("a") as file:

        def keep(tried: Tried) -> None:
            file.write(json.dumps(asdict(tried)) + "\n")
            file.flush()
            progress(tried)

        return sorted([*done, *run_all(tries, _tried, _load, jobs=jobs, progress=keep)], key=lambda one: one.number)


def freeze(tried: list[Tried], hard: Path, aside: Path) -> None:
    """Write the two suites.

    Args:
        tried: the first candidates, as `try_formulas` returns them.
        hard: file of the one.
        aside: file of the other.

    Raises:
        UserError: too few were missed.
        FileExistsError: they are frozen already.
    """
    missed = {one.number for one in tried if not one.found}
    if len(missed) < N_HARD + N_ASIDE:
        raise UserError(f"{len(missed)} of {len(tried)} were missed, {N_HARD + N_ASIDE} are needed: try more")
    formulas = [
        drawn.named(f"{drawn.n_nodes}-{number}")
        for number, drawn in enumerate(islice(hard_candidates(), len(tried)))
        if number in missed
    ]
    write_formula_problems(hard, formulas[:N_HARD])
    write_formula_problems(aside, formulas[N_HARD : N_HARD + N_ASIDE])


def _load() -> Initialisers:
    return load_for_methods([SEARCH], range(1, MAX_VARIABLES + 1))


def _tried(one: _Try, initialisers: Initialisers) -> Tried:
    problem = law_of_frozen("hard", one.drawn.named(str(one.number)))
    formula = LAW_METHODS[SEARCH].find(problem, one.seconds, 0, initialisers)
    return Tried(one.number, score_law(formula, problem).refitted, one.seconds)
