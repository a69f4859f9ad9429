"""Search in the exact grammar: sampling from the initialiser, peeling, and Gumbel-hard training from its routing logits.

Sampling asks whether the network knows the tree; training starts where it does not, from the logits of its best guesses.

Legend: b candidate, p point, v input variable, r restart, s slot, c choice.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from emlinit.finetune.candidates import CandidatePool, SearchConfig
from emlinit.finetune.gumbel import GumbelConfig, train_gumbel_hard
from emlinit.finetune.peeling import peel
from emlinit.finetune.start_logits import start_logits
from emlinit.finetune.topology import full_tree
from emlinit.generator.evaluate import evaluate
from emlinit.generator.grammar import ONE, X1, depth
from emlinit.generator.program import Programs, programs_from_tokens
from emlinit.model.initialiser import EMLInitialiser
from emlinit.model.propose import Proposals


@dataclass(frozen=True)
class ExactSearchConfig(SearchConfig):
    """How the search spends its time."""

    proposals: int = 512
    """Candidates of a round."""
    screen_points: int = 64
    """Rows that candidates are scored on; those that fit exactly are checked on all."""
    states: int = 48
    """States that a round's peeling looks at (see `peeling`)."""
    restarts: int = 64
    """Gumbel-hard restarts of a round, each from the logits of one proposal."""
    gumbel_steps: int = 60
    """Steps of a round's Gumbel-hard training; steps and not seconds, so that the same seed gives the same law."""
    max_depth: int = 6
    """Deepest tree that is trained, in eml nodes."""


def relative_loss(programs: Programs, x: Tensor, y: Tensor) -> Tensor:
    """Mean squared error over the variance of y, of shape (b,); infinite unless the tree is defined at every point."""
    result = evaluate(programs, x, rtol=None)
    loss = (result.value - y).square().mean(-1) / y.var(correction=0)
    return torch.where(result.valid.all(-1), loss, torch.inf)


def search_exact(
    initialiser: EMLInitialiser,
    x: Tensor,
    y: Tensor,
    pool: CandidatePool,
    *,
    deadline: float,
    generator: torch.Generator,
    progress: Callable[[str], None],
    config: ExactSearchConfig | None = None,
) -> None:
    """Fill `pool` with exact trees; losses are mean squared errors relative to the variance of y.

    Args:
        initialiser: of the exact grammar.
        x: training points, float64 of shape (p, v).
        y: targets, float64 of shape (p,), not constant.
        pool: is added to.
        deadline: on the clock of `time.monotonic`; the search ends earlier when a tree is exact.
        generator: for everything random.
        progress: takes a remark after each round.
        config: options.
    """
    config = config or ExactSearchConfig()
    screen = torch.randperm(len(y), generator=generator)[: config.screen_points]
    leaves = torch.arange(ONE, X1 + x.shape[1])
    leaves = leaves[(leaves == ONE) | (leaves >= X1)][:, None]
    bare = programs_from_tokens(leaves, torch.zeros(leaves.shape, dtype=torch.float64), x.shape[1])
    pool.add(bare, relative_loss(bare, x, y))  # so that there is an answer, however short the time
    round_number = 0
    while time.monotonic() < deadline:
        proposals = initialiser.propose(
            x,
            y,
            config.proposals,
            generator=generator,
            temperature=config.temperature(round_number),
            n_bags=config.bags,
        )
        score(pool, proposals.programs, x, y, screen, config)
        if pool.best_loss <= config.exact_loss:
            return
        peel(
            initialiser,
            x,
            y,
            proposals,
            lambda trees: _try(trees, x, y, pool, screen, config),
            deadline=deadline,
            max_states=config.states,
            generator=generator,
        )
        if pool.best_loss <= config.exact_loss:
            return
        train(proposals, x[screen], y[screen], pool, deadline=deadline, generator=generator, config=config)
        if pool.best_loss <= config.exact_loss:
            return
        round_number += 1
        progress(f"round {round_number}: best relative error {pool.best_loss**0.5:.2g}")


def train(
    proposals: Proposals,
    x: Tensor,
    y: Tensor,
    pool: CandidatePool,
    *,
    deadline: float,
    generator: torch.Generator,
    config: ExactSearchConfig,
) -> None:
    """Gumbel-hard training from the routing logits of the proposals that fit best and of the likeliest ones."""
    seconds = deadline - time.monotonic()
    depths = depth(proposals.tokens)
    loss = relative_loss(proposals.programs, x, y)
    fits = torch.nonzero((depths <= config.max_depth) & (depths > 0))[:, 0]
    if seconds <= 0 or not len(fits):
        return
    # Proposals come likeliest first: half of the restarts take those, half the ones nearest to the data.
    near = fits[loss[fits].argsort(stable=True)]
    starts = torch.stack([fits, near], dim=1).flatten()[: config.restarts]
    levels = int(depths[starts].max())
    topology = full_tree(levels, x.shape[1])
    logits = start_logits(proposals.tokens[starts], proposals.kind_log_probs[starts], levels, x.shape[1])
    gumbel = GumbelConfig(steps=config.gumbel_steps, seconds=seconds)
    found = train_gumbel_hard(topology, logits, x, y, gumbel, generator=generator)
    pool.add(found.programs, relative_loss(found.programs, x, y))


def _try(trees: Tensor, x: Tensor, y: Tensor, pool: CandidatePool, screen: Tensor, config: ExactSearchConfig) -> bool:
    """Score whole trees given as tokens; whether one is exact."""
    zeros = torch.zeros(trees.shape, dtype=torch.float64)
    score(pool, programs_from_tokens(trees, zeros, x.shape[1]), x, y, screen, config)
    return pool.best_loss <= config.exact_loss


def score(
    pool: CandidatePool, programs: Programs, x: Tensor, y: Tensor, screen: Tensor, config: ExactSearchConfig
) -> None:
    """Add candidates with their losses on the screening rows; those that look exact are judged on all rows."""
    loss = relative_loss(programs, x[screen], y[screen])
    promising = torch.nonzero(loss <= config.exact_loss)[:, 0]
    if len(promising):
        loss[promising] = relative_loss(programs[promising], x, y)
    pool.add(programs, loss)
