"""Benchmark problems with known answers, in the exact grammar.

    paper       the five depth targets of arXiv 2603.21852 and x*y, on its grid 1..3 in two variables
    identities  the usual operations, on 200 points between 0.5 and 3
    grammar     frozen random trees of exact depth 2..6 (see `generator.corpora`)
    wide        frozen random trees of 10 to 20 nodes in three variables

Legend: p point, v input variable.
"""

from dataclasses import dataclass

import numpy as np
import torch

from emlinit.generator.corpus.frozen import WIDE_SIZES, load_grammar_problems, load_wide_problems
from emlinit.generator.errors import UserError
from emlinit.generator.evaluate import evaluate
from emlinit.generator.formulas.exact_identities import EXACT_IDENTITIES
from emlinit.generator.grammar import depth, from_text
from emlinit.generator.program import Programs, programs_from_tokens

PAPER_TARGETS = {
    "e-ln(e^y-ln x)": "eml 1 eml x2 x1",
    "e^e/(e^y-ln x)": "eml eml 1 eml x2 x1 1",
    "ln(e^x-ln y)": "eml 1 eml eml 1 eml x1 x2 1",
    "ln(e-ln(e^x-ln y))": "eml 1 eml eml 1 eml 1 eml x1 x2 1",
    "e-y*e^(e-e^x)": "eml 1 eml eml eml 1 eml eml x1 x2 1 1 1",
    "x*y": EXACT_IDENTITIES["x1*x2"],
}
"""Target -> its tree; x is x1 and y is x2. In order of depth 2, 3, 4, 5, 6 and 8."""
_IDENTITIES = (
    "exp(x1)", "e - x1", "log(x1)", "x1 - log(x2)", "x1 - x2", "x1 - 1", "-x1", "1/x1", "x1**2", "sqrt(x1)",
    "x1 + x2", "x1*x2", "x1/x2", "x1**x2",
)  # fmt: skip
SUITES = ("paper", "identities", "grammar", "wide")
N_TRAIN, N_FRESH = 200, 200


@dataclass(frozen=True, eq=False)
class SuiteProblem:
    """Data with a known law."""

    name: str
    group: str
    """Rows of the printed table: problems of a group are counted together."""
    truth: Programs
    """The law, a batch of one."""
    x: np.ndarray
    """Training points, float64 of shape (p, v)."""
    y: np.ndarray
    """Training targets, float64 of shape (p,)."""
    fresh: np.ndarray
    """Points inside the ranges that were not trained on."""
    extended: np.ndarray
    """Points of ranges half as wide again, positive where the training points are."""


def load_suite(name: str, limit: int | None = None) -> list[SuiteProblem]:
    """The problems of a suite; of the frozen trees at most `limit` a group.

    Raises:
        UserError: no such suite.
    """
    if name == "paper":
        grid = np.linspace(1, 3, 15)
        points = np.stack(np.meshgrid(grid, grid, indexing="ij"), -1).reshape(-1, 2)
        return [_problem(target, _depth_of(text), text, points) for target, text in PAPER_TARGETS.items()]
    if name == "identities":
        problems = []
        for number, formula in enumerate(_IDENTITIES):
            rng = np.random.default_rng(number)
            points = rng.uniform(0.5, 3, (N_TRAIN, 2 if "x2" in EXACT_IDENTITIES[formula] else 1))
            text = EXACT_IDENTITIES[formula]
            problems.append(_problem(formula, "identities", text, points))
        return problems
    if name in ("grammar", "wide"):
        counts: dict[str, int] = {}
        problems = []
        for problem in load_grammar_problems() if name == "grammar" else load_wide_problems():
            if name == "grammar":
                group = f"depth {problem.depth}"
            else:
                n_nodes = problem.text.split().count("eml")
                group = next(f"{low}-{high} nodes" for low, high in WIDE_SIZES if low <= n_nodes <= high)
            number = counts[group] = counts.get(group, 0) + 1
            if limit is None or number <= limit:
                problems.append(
                    _problem(
                        f"{group.split()[-1 if name == 'grammar' else 0]}-{number}", group, problem.text, problem.x
                    )
                )
        return problems
    raise UserError(f"unknown suite '{name}': use one of {', '.join(SUITES)}")


def _depth_of(text: str) -> str:
    return f"depth {int(depth(from_text(text)[0][None])[0])}"


def _problem(name: str, group: str, text: str, x: np.ndarray) -> SuiteProblem:
    tokens, constants = from_text(text, x.shape[1])
    truth = programs_from_tokens(tokens[None], constants[None], x.shape[1])
    y = evaluate(truth, torch.from_numpy(x), rtol=None).value[0].numpy()
    rng = np.random.default_rng(len(x))
    low, high = x.min(0), x.max(0)
    margin = 0.25 * (high - low)
    outer_low = np.where(low > 0, np.maximum(low - margin, 0.5 * low), low - margin)
    fresh = rng.uniform(low, high, (N_FRESH, x.shape[1]))
    return SuiteProblem(name, group, truth, x, y, fresh, rng.uniform(outer_low, high + margin, fresh.shape))


def is_recovered(problem: SuiteProblem, candidate: Programs, rtol: float = 1e-6) -> bool:
    """Whether a program (a batch of one) is the problem's function: relative error below `rtol` on the fresh and the
    extended points, wherever the truth itself is certified, which must be at 20 of them at least."""
    points = torch.from_numpy(np.concatenate([problem.fresh, problem.extended]))
    truth, guess = evaluate(problem.truth, points), evaluate(candidate, points, rtol=None)
    known = truth.valid[0]
    close = (guess.value[0] - truth.value[0]).abs() <= rtol * truth.value[0].abs()
    return int(known.sum()) >= 20 and bool((close & guess.valid[0])[known].all())
