"""Search in the weighted grammar: structures from the initialiser, constants by batched Levenberg-Marquardt.

First come sparse sums of simple functions (`sparse_laws`) and what a table of small functions suggests (`affine_lookup`),
if there is one: neither needs the network. Then a round proposes
candidates from fresh bags of points, fits all their constants at once on a sample of the rows, and refits the most
promising on all of them. Rounds go on, warmer each time, until a law is exact, several rounds in a row bring nothing new,
or the time is up.

Legend: b candidate, p point, v input variable.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from emlinit.finetune.fitting.levenberg_marquardt import Fit, FitConfig, fit_constants
from emlinit.finetune.search.affine import AffineLookupConfig, propose_affine
from emlinit.finetune.search.candidates import CandidatePool, Sampler, SearchConfig
from emlinit.finetune.sparse.laws import SparseConfig, propose_sparse
from emlinit.generator.functions.table import FunctionTable
from emlinit.generator.grammar import from_text, pad_sequences
from emlinit.generator.program import Programs, programs_from_tokens

_NEARLY_EXACT = 1e-8  # loss of a sum that a few more steps may make exact


@dataclass(frozen=True)
class WeightedSearchConfig(SearchConfig):
    """How the search spends its time."""

    proposals: int = 192
    """Candidates of a round."""
    screen_points: int = 128
    """Rows of the first fit."""
    refit: int = 24
    """Candidates of a round that are fitted again, longer and on up to `fit_points` rows."""
    fit_points: int = 2000
    """Most rows of a fit; the final fit of the solver takes all."""
    patience: int = 6
    """Rounds without a better candidate after which the search ends; 0 for no round at all."""
    min_valid_share: float = 0.97
    """A candidate must be defined on this share of the rows."""
    lookup: bool = True
    """Whether a table of functions, if there is one, is searched for laws before the first round."""
    lookup_config: AffineLookupConfig = field(default_factory=AffineLookupConfig)
    """How much is looked up."""
    sparse: bool = True
    """Whether sparse sums of simple functions are searched before the first round."""
    sparse_config: SparseConfig = field(default_factory=SparseConfig)
    """How much of them is searched."""
    surely_exact_loss: float = 1e-27
    """Loss at which the sparse search stops; sums of many terms come near `exact_loss` without being the law."""
    lookup_refit: int = 16
    """Candidates of the lookup that are fitted again."""


def simple_laws(n_variables: int) -> Programs:
    """What is always tried: a constant, a line in all variables, and in each one proportionality, a line, a power law."""
    texts = ["c:1.0", "+ c:0.5 " + "".join(f"+ w:1.0 x{i} " for i in range(1, n_variables)) + f"w:1.0 x{n_variables}"]
    for i in range(1, n_variables + 1):
        texts += [f"w:1.0 x{i}", f"+ c:0.5 w:1.0 x{i}", *(f"w:1.0 eml w:{p} eml 1 x{i} 1" for p in (-1.0, 1.0))]
    tokens, constants = pad_sequences([from_text(text) for text in dict.fromkeys(texts)])
    return programs_from_tokens(tokens, constants, n_variables)


def search_weighted(
    sampler: Sampler,
    x: Tensor,
    y: Tensor,
    pool: CandidatePool,
    *,
    deadline: float,
    max_rounds: int,
    generator: torch.Generator,
    progress: Callable[[str], None],
    config: WeightedSearchConfig | None = None,
    table: FunctionTable | None = None,
) -> int:
    """Fill `pool` with fitted candidates; losses are mean squared errors relative to the variance of y. Returns
    the number of rounds, so whether the sampler was asked.

    Args:
        sampler: of the weighted grammar.
        x: training points, float64 of shape (p, v).
        y: targets, float64 of shape (p,), not constant.
        pool: is added to.
        deadline: on the clock of `time.monotonic`; a round that has begun is finished, and none begins that would end later
            than this if it took as long as the longest before.
        max_rounds: most rounds.
        generator: for everything random.
        progress: takes a remark after each round.
        config: options.
        table: functions to look up, in as many variables as `x` has columns or fewer; None for none.
    """
    config = config or WeightedSearchConfig()
    scale = float(y.var(correction=0))
    rows = torch.randperm(len(y), generator=generator)
    screen, many = rows[: config.screen_points], rows[: config.fit_points]
    _fit_and_add(pool, simple_laws(x.shape[1]), x[many], y[many], scale, config, FitConfig(steps=40))
    if config.sparse and time.monotonic() < deadline and pool.best_loss > config.surely_exact_loss:
        _pursue(x, y, rows, pool, scale, config, deadline, progress)
    if table is not None and config.lookup and time.monotonic() < deadline and pool.best_loss > config.exact_loss:
        _look_up(table, x[many], y[many], pool, scale, config, deadline)
        progress(f"lookup: best relative error {pool.best_loss**0.5:.2g}")
    stale = round_number = 0
    longest = 0.0
    while (
        round_number < max_rounds
        and time.monotonic() + longest < deadline
        and stale < config.patience
        and pool.best_loss > config.exact_loss
    ):
        began = time.monotonic()
        proposals = sampler.propose(
            x,
            y,
            config.proposals,
            generator=generator,
            temperature=config.temperature(round_number),
            n_bags=config.bags,
        )
        before = pool.best_loss
        quick = FitConfig(steps=12, restarts=2, survivors=1, screen_steps=5)
        fit = fit_constants(proposals.programs, x[screen], y[screen], config=quick, generator=generator)
        loss = _relative_loss(fit, scale, config)
        best = loss.argsort(stable=True)[: config.refit]
        best = best[torch.isfinite(loss[best])]
        if len(best):
            chosen = fit.programs[best]
            longer = FitConfig(steps=40, restarts=3, survivors=2)
            _fit_and_add(pool, chosen, x[many], y[many], scale, config, longer, generator)
        stale = 0 if pool.best_loss < 0.99 * before else stale + 1
        round_number += 1
        longest = max(longest, time.monotonic() - began)
        progress(f"round {round_number}: best relative error {pool.best_loss**0.5:.2g}")
    return round_number


def _look_up(
    table: FunctionTable,
    x: Tensor,
    y: Tensor,
    pool: CandidatePool,
    scale: float,
    config: WeightedSearchConfig,
    deadline: float,
) -> None:
    """Fit what the table suggests, and refit what is good for its cost, then what is good at all.

    Nothing here is random, so the rounds are the same with and without a table.
    """
    programs = propose_affine(table, x, y, config.lookup_config)
    if not len(programs) or time.monotonic() >= deadline:
        return
    few = slice(0, config.screen_points)
    fit = fit_constants(programs, x[few], y[few], config=FitConfig(steps=8))
    screened = CandidatePool(len(y))
    screened.add(fit.programs, _relative_loss(fit, scale, config))
    if screened.programs is None or time.monotonic() >= deadline:
        return
    order = torch.cat([screened.front(), screened.best(len(screened))]).tolist()
    chosen = torch.tensor(list(dict.fromkeys(order))[: config.lookup_refit])
    _fit_and_add(pool, screened.programs[chosen], x, y, scale, config, FitConfig(steps=40))


def _pursue(
    x: Tensor,
    y: Tensor,
    rows: Tensor,
    pool: CandidatePool,
    scale: float,
    config: WeightedSearchConfig,
    deadline: float,
    progress: Callable[[str], None],
) -> None:
    """Fit the sparse sums, stage by stage, until one is exact."""
    few = rows[: config.sparse_config.points]
    many = rows[: config.fit_points]
    for programs in propose_sparse(x[few], y[few], config.sparse_config, deadline=deadline):
        # Sums for y itself are fitted already; those for another g(y) are nearly so.
        fit = fit_constants(programs, x[many], y[many], config=FitConfig(steps=3))
        loss = _relative_loss(fit, scale, config)
        pool.add(fit.programs, loss)
        near = (loss < _NEARLY_EXACT).nonzero()[:, 0]
        if len(near):
            _fit_and_add(pool, fit.programs[near], x[many], y[many], scale, config, FitConfig(steps=10))
        progress(f"sparse sums: best relative error {pool.best_loss**0.5:.2g}")
        if pool.best_loss <= config.surely_exact_loss or time.monotonic() >= deadline:
            return


def _relative_loss(fit: Fit, scale: float, config: WeightedSearchConfig) -> Tensor:
    return torch.where(fit.valid_share >= config.min_valid_share, fit.mse / scale, torch.inf)


def _fit_and_add(
    pool: CandidatePool,
    programs: Programs,
    x: Tensor,
    y: Tensor,
    scale: float,
    config: WeightedSearchConfig,
    fit_config: FitConfig,
    generator: torch.Generator | None = None,
) -> None:
    fit = fit_constants(programs, x, y, config=fit_config, generator=generator)
    pool.add(fit.programs, _relative_loss(fit, scale, config))
