"""Search in the exact grammar: sampling from the initialiser, peeling, and Gumbel-hard training from its routing logits.

Sampling asks whether the network knows the tree; peeling asks it again, one level deeper each time; training starts where
both fail, from the logits of the best guesses. What any of them has right in part is completed exactly by a `Matcher`.
With a table of all small functions the search begins by looking up, and meets in the middle whatever it opens.

Legend: b candidate, p point, v input variable, r restart, s slot, c choice.
"""

import time
from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from emlinit.finetune.routing.gumbel import GumbelConfig, train_gumbel_hard
from emlinit.finetune.routing.start_logits import start_logits
from emlinit.finetune.routing.topology import full_tree
from emlinit.finetune.search.candidates import CandidatePool, Sampler, SearchConfig
from emlinit.finetune.subtrees.matching import Matcher
from emlinit.finetune.subtrees.meeting import MeetingSearch
from emlinit.finetune.subtrees.peeling import PeelConfig, Peeling, Proposer
from emlinit.generator.evaluate import evaluate
from emlinit.generator.functions.inversion import EPS
from emlinit.generator.functions.table import FunctionTable
from emlinit.generator.grammar import ONE, X1, depth
from emlinit.generator.program import Programs, programs_from_tokens, tokens_from_program
from emlinit.model.propose import Proposals


@dataclass(frozen=True)
class ExactSearchConfig(SearchConfig):
    """How the search spends its time, and which of its parts are used at all."""

    proposals: int = 256
    """Candidates of a round."""
    screen_points: int = 64
    """Rows that candidates are scored on; those that fit exactly are checked on all."""
    recombine: bool = True
    """Whether parts of candidates complete other candidates."""
    peel: bool = True
    """Whether the search peels."""
    peeling: PeelConfig = field(default_factory=PeelConfig)
    """How it does."""
    states: int = 48
    """States that a round's peeling looks at (see `peeling`)."""
    gumbel: bool = True
    """Whether routing logits are trained."""
    restarts: int = 64
    """Gumbel-hard restarts of a round, each from the logits of one proposal."""
    gumbel_steps: int = 60
    """Steps of a round's Gumbel-hard training; steps and not seconds, so that the same seed gives the same law."""
    elites: bool = True
    """Whether restarts begin again from elites."""
    max_depth: int = 6
    """Deepest tree that is trained, in eml nodes."""
    meeting_seconds: float = 1.0
    """With a table: time for meeting in the middle before the first round; after each, it gets as long as the round took."""
    certain_loss: float = 1e-24
    """Loss at which the search ends at once. Above it, up to `exact_loss`, another tree might be the true one."""
    doubt_seconds: float = 2.0
    """How long it goes on in that case."""


@runtime_checkable
class PeelingSampler(Sampler, Proposer, Protocol):
    """A sampler that peeling can ask, too."""


def relative_loss(programs: Programs, x: Tensor, y: Tensor) -> Tensor:
    """Mean squared error over the variance of y, of shape (b,); infinite unless the tree is defined at every point."""
    result = evaluate(programs, x, rtol=None)
    loss = (result.value - y).square().mean(-1) / y.var(correction=0)
    return torch.where(result.valid.all(-1), loss, torch.inf)


class Judge:
    """Scores trees on the data, keeps the best, and says when the search is over."""

    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        pool: CandidatePool,
        *,
        deadline: float,
        generator: torch.Generator,
        config: ExactSearchConfig,
    ) -> None:
        """See `search_exact`."""
        self.x, self.y, self.pool, self.deadline, self.config = x, y, pool, deadline, config
        self.screen = torch.randperm(len(y), generator=generator)[: config.screen_points]
        self.leaves = torch.tensor([ONE, *range(X1, X1 + x.shape[1])])[:, None]
        """The smallest trees, tokens of shape (v + 1, 1)."""

    def trees(self, tokens: Tensor) -> bool:
        """Score whole trees given as tokens of shape (b, l); whether the search is over."""
        if len(tokens):
            zeros = torch.zeros(tokens.shape, dtype=torch.float64)
            return self.programs(programs_from_tokens(tokens, zeros, self.x.shape[1]))
        return self.over()

    def programs(self, programs: Programs) -> bool:
        """Score programs on the screening rows, those that look exact on all; whether the search is over."""
        loss = relative_loss(programs, self.x[self.screen], self.y[self.screen])
        promising = torch.nonzero(loss <= self.config.exact_loss)[:, 0]
        if len(promising):
            loss[promising] = relative_loss(programs[promising], self.x, self.y)
        self.pool.add(programs, loss)
        return self.over()

    def over(self) -> bool:
        """Whether a tree is exact beyond doubt, or the time is up."""
        if self.pool.best_loss <= self.config.exact_loss:
            self.deadline = min(self.deadline, time.monotonic() + self.config.doubt_seconds)
        return self.pool.best_loss <= self.config.certain_loss or time.monotonic() >= self.deadline


def search_exact(
    sampler: PeelingSampler,
    x: Tensor,
    y: Tensor,
    pool: CandidatePool,
    *,
    deadline: float,
    generator: torch.Generator,
    progress: Callable[[str], None],
    table: FunctionTable | None = None,
    config: ExactSearchConfig | None = None,
) -> None:
    """Fill `pool` with exact trees; losses are mean squared errors relative to the variance of y.

    Args:
        sampler: the initialiser of the exact grammar.
        x: training points, float64 of shape (p, v).
        y: targets, float64 of shape (p,), not constant.
        pool: is added to.
        deadline: on the clock of `time.monotonic`; the search ends earlier when a tree is exact.
        generator: for everything random.
        progress: takes a remark after each round.
        table: all small functions, to look up; None searches without.
        config: options.
    """
    config = config or ExactSearchConfig()
    judge = Judge(x, y, pool, deadline=deadline, generator=generator, config=config)
    judge.trees(judge.leaves)  # so that there is an answer, however short the time
    matcher = Matcher(x, y, table=table, recombine=config.recombine)
    with nullcontext() if table is None else closing(MeetingSearch(table, x[matcher.rows], y[matcher.rows])) as meeting:
        _search(sampler, judge, matcher, meeting, generator=generator, progress=progress)


def _search(
    sampler: PeelingSampler,
    judge: Judge,
    matcher: Matcher,
    meeting: MeetingSearch | None,
    *,
    generator: torch.Generator,
    progress: Callable[[str], None],
) -> None:
    """The rounds of `search_exact`."""
    x, y, config = judge.x, judge.y, judge.config

    def match(tokens: Tensor) -> bool:
        matcher.learn(tokens)
        found = matcher.candidates(y.to(torch.complex128), EPS * y.abs(), tokens)
        over = [judge.trees(trees) for trees in found]  # all of them: the simplest of the exact ones is wanted
        return any(over)

    def meet(seconds: float) -> bool:
        return meeting is not None and meeting.run(judge.trees, min(judge.deadline, time.monotonic() + seconds))

    if match(judge.leaves) or meet(config.meeting_seconds):
        return
    peeling = Peeling(sampler, x, y, matcher, generator=generator, config=config.peeling)
    round_number = 0
    while not judge.over():
        began = time.monotonic()
        proposals = sampler.propose(
            x,
            y,
            config.proposals,
            generator=generator,
            temperature=config.temperature(round_number),
            n_bags=config.bags,
        )
        if judge.programs(proposals.programs) or match(proposals.tokens):
            return
        if config.peel:
            peeling.add(proposals)
            if peeling.run(judge.trees, max_states=config.states, deadline=judge.deadline):
                return
        if config.gumbel:
            trained = train(proposals, judge, generator=generator)
            if judge.over() or match(trained):
                return
        if meet(time.monotonic() - began):  # as long as the rest of the round
            return
        round_number += 1
        progress(f"round {round_number}: best relative error {judge.pool.best_loss**0.5:.2g}")


def train(proposals: Proposals, judge: Judge, *, generator: torch.Generator) -> Tensor:
    """Gumbel-hard training from the routing logits of the proposals that fit best and of the likeliest ones.

    Returns:
        the best trees that it visited, tokens of shape (b, l).
    """
    config, x, y = judge.config, judge.x[judge.screen], judge.y[judge.screen]
    seconds = judge.deadline - time.monotonic()
    depths = depth(proposals.tokens)
    fits = torch.nonzero((depths <= config.max_depth) & (depths > 0))[:, 0]
    if seconds <= 0 or not len(fits):
        return proposals.tokens[:0]
    # Proposals come likeliest first: half of the restarts take those, half the ones nearest to the data.
    loss = relative_loss(proposals.programs, x, y)
    near = fits[loss[fits].argsort(stable=True)]
    starts = torch.stack([fits, near], dim=1).flatten()[: config.restarts]
    levels = int(depths[starts].max())
    topology = full_tree(levels, x.shape[1])
    logits = start_logits(proposals.tokens[starts], proposals.kind_log_probs[starts], levels, x.shape[1])
    elite_share = GumbelConfig.elite_share if config.elites else 0.0
    gumbel = GumbelConfig(steps=config.gumbel_steps, seconds=seconds, elite_share=elite_share)
    found = train_gumbel_hard(topology, logits, x, y, gumbel, generator=generator).programs
    judge.programs(found)
    best = [tokens_from_program(found, i)[0] for i in range(min(len(found), config.restarts))]
    return torch.nn.utils.rnn.pad_sequence(best, batch_first=True)
