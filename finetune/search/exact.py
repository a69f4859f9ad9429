"""The stage of the exact grammar: sampling from the initialiser, peeling, and Gumbel-hard training from its routing logits.

Sampling asks whether the network knows the tree; peeling asks it again, one level deeper each time; training starts where
both fail, from the logits of the best guesses. What any of them has right in part is completed exactly by a `Matcher`.
With a table of all small functions the search begins by looking up, and meets in the middle whatever it opens.

Legend: b candidate, p point, v input variable, r restart, s slot, c choice.
"""

import time
from collections.abc import Generator
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from emlinit.finetune.fitting.misfit import PLAIN, Misfit
from emlinit.finetune.routing.gumbel import GumbelConfig, train_gumbel_hard
from emlinit.finetune.routing.start_logits import start_logits
from emlinit.finetune.routing.topology import full_tree
from emlinit.finetune.search.stages import Candidates, Need, Sampler, SearchConfig, Task
from emlinit.finetune.subtrees.contexts import ContextMeeting
from emlinit.finetune.subtrees.matching import Matcher
from emlinit.finetune.subtrees.meeting import MeetingSearch
from emlinit.finetune.subtrees.peeling import PeelConfig, Peeling, Proposer
from emlinit.generator.evaluate import evaluate
from emlinit.generator.functions.inversion import EPS
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
    context_lookups: int = 1 << 20
    """With a table: lookups of a round at the open slots of its guesses, 0.4 s (see `contexts`)."""
    gumbel: bool = True
    """Whether routing logits are trained."""
    restarts: int = 64
    """Gumbel-hard restarts of a round, each from the logits of one proposal."""
    restarts_on_accelerator: int = 4096
    """The same where they are trained all at once."""
    gumbel_steps: int = 60
    """Steps of a round's Gumbel-hard training; steps and not seconds, so that the same seed gives the same law."""
    gumbel_rate: float = GumbelConfig.learning_rate
    """Its learning rate."""
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


def relative_loss(programs: Programs, x: Tensor, y: Tensor, misfit: Misfit = PLAIN) -> Tensor:
    """Mean squared error over the variance of y, of shape (b,); infinite unless the tree is defined at every point."""
    result = evaluate(programs, x, rtol=None)
    residual = torch.where(result.valid, result.value - y, 0.0)
    return torch.where(result.valid.all(-1), misfit.mse(residual) / misfit.variance(y), torch.inf)


class Judge:
    """Scores trees on the data, holds what is worth passing on, and says when the search is over."""

    def __init__(self, task: Task, config: ExactSearchConfig) -> None:
        """Begin with what the task's pool holds."""
        self.device, self.deadline, self.config = task.device, task.deadline, config
        self.x, self.y, self.misfit = task.x.to(self.device), task.y.to(self.device), task.misfit.to(self.device)
        self.screen = task.shuffled[: config.screen_points].to(self.device)
        self.best_loss = task.pool.best_loss
        self.leaves = torch.tensor([ONE, *range(X1, X1 + task.x.shape[1])])[:, None]
        """The smallest trees, tokens of shape (v + 1, 1)."""
        self.network = False
        """Whether the network has been asked by now: what is found from then on may come from it."""
        self.part = ""
        """Which part of the search is at work."""
        self._found: list[Candidates] = []

    def trees(self, tokens: Tensor) -> bool:
        """Score whole trees given as tokens of shape (b, l); whether the search is over."""
        if len(tokens):
            zeros = torch.zeros(tokens.shape, dtype=torch.float64)
            return self.programs(programs_from_tokens(tokens, zeros, self.x.shape[1]))
        return self.over()

    def programs(self, programs: Programs) -> bool:
        """Score programs on the screening rows, those that look exact on all; whether the search is over."""
        programs = programs.to(self.device)
        screen = self.screen
        loss = relative_loss(programs, self.x[screen], self.y[screen], self.misfit.rows(screen))
        promising = torch.nonzero(loss <= self.config.exact_loss)[:, 0]
        if len(promising):
            loss[promising] = relative_loss(programs[promising], self.x, self.y, self.misfit)
        loss = loss.cpu()
        self._found.append(Candidates(programs.to("cpu"), loss, self.network, self.part))
        self.best_loss = min([self.best_loss, *loss[loss.isfinite()].tolist()])
        return self.over()

    def over(self) -> bool:
        """Whether a tree is exact beyond doubt, or the time is up."""
        if self.best_loss <= self.config.exact_loss:
            self.deadline = min(self.deadline, time.monotonic() + self.config.doubt_seconds)
        return self.best_loss <= self.config.certain_loss or time.monotonic() >= self.deadline

    def take(self) -> list[Candidates]:
        """What was scored since this was last called."""
        found, self._found = self._found, []
        return found


@dataclass(frozen=True)
class ExactTrees:
    """Trees without free constants: looked up, met in the middle, proposed, peeled, trained, completed from one another."""

    config: ExactSearchConfig = field(default_factory=ExactSearchConfig)
    name = "exact trees"
    needs: ClassVar[frozenset[Need]] = frozenset({"network"})

    def done(self, task: Task) -> bool:
        """Whether a tree is exact beyond doubt."""
        return task.pool.best_loss <= self.config.certain_loss

    def run(self, task: Task) -> Generator[Candidates]:
        """Look up and meet in the middle first, then go through rounds until a tree is exact or the time is up."""
        judge = Judge(task, self.config)
        judge.trees(judge.leaves)  # so that there is an answer, however short the time
        yield from judge.take()
        matcher = Matcher(task.x, task.y, table=task.table, recombine=self.config.recombine)
        rows, table = matcher.rows, task.table
        with nullcontext() if table is None else closing(MeetingSearch(table, task.x[rows], task.y[rows])) as meeting:
            for _ in _ExactSearch(task, judge, matcher, meeting).steps():
                yield from judge.take()
            yield from judge.take()


@dataclass(frozen=True, eq=False)
class _ExactSearch:
    """The parts of one search, which learn from one another."""

    task: Task
    judge: Judge
    matcher: Matcher
    meeting: MeetingSearch | None

    def match(self, tokens: Tensor) -> bool:
        """Complete trees with parts of one another and of the table; whether the search is over."""
        y = self.task.y
        self.matcher.learn(tokens)
        found = self.matcher.candidates(y.to(torch.complex128), EPS * y.abs(), tokens)
        over = [self.judge.trees(trees) for trees in found]  # all of them: the simplest of the exact ones is wanted
        return any(over)

    def meet(self, seconds: float) -> bool:
        """Go on meeting in the middle for a while; whether the search is over."""
        self.judge.part = "meeting"
        until = min(self.judge.deadline, time.monotonic() + seconds)
        return self.meeting is not None and self.meeting.run(self.judge.trees, until)

    def steps(self) -> Generator[None]:
        """Go through the search; each step leaves what it found with the judge."""
        task, judge, config, sampler = self.task, self.judge, self.judge.config, self.task.sampler
        assert isinstance(sampler, PeelingSampler)
        judge.part = "exact lookup"
        if self.match(judge.leaves):
            return
        yield
        if self.meet(config.meeting_seconds):
            return
        yield
        peeling = Peeling(sampler, task.x, task.y, self.matcher, generator=task.generator, config=config.peeling)
        points, meeting = self.matcher.rows, self.meeting
        contexts = None if meeting is None else ContextMeeting(meeting, self.matcher.x, task.y[points])
        number = 0
        while not judge.over() and (task.max_rounds is None or number < task.max_rounds):
            began = time.monotonic()
            judge.network, judge.part = True, "proposals"
            proposals = sampler.propose(
                task.x,
                task.y,
                config.proposals,
                generator=task.generator,
                temperature=config.temperature(number),
                n_bags=config.bags,
            )
            if judge.programs(proposals.programs) or self.match(proposals.tokens):
                return
            yield
            if contexts is not None:
                judge.part = "open slots"
                contexts.add(proposals.tokens, proposals.log_prob)
                if contexts.run(judge.trees, config.context_lookups, judge.deadline):
                    return
                yield
            if config.peel:
                judge.part = "peeling"
                peeling.add(proposals)
                if peeling.run(judge.trees, max_states=config.states, deadline=judge.deadline):
                    return
                yield
            if config.gumbel:
                judge.part = "Gumbel-hard training"
                trained = train(proposals, judge, generator=task.generator)
                if judge.over() or self.match(trained):
                    return
                yield
            if self.meet(time.monotonic() - began):  # as long as the rest of the round
                return
            yield
            number += 1
            task.report(f"round {number}")


def train(proposals: Proposals, judge: Judge, *, generator: torch.Generator) -> Tensor:
    """Gumbel-hard training from the routing logits of the proposals that fit best and of the likeliest ones.

    Returns:
        the best trees that it visited, tokens of shape (b, l).
    """
    config, device = judge.config, judge.device
    x, y = judge.x[judge.screen], judge.y[judge.screen]
    seconds = judge.deadline - time.monotonic()
    depths = depth(proposals.tokens)
    fits = torch.nonzero((depths <= config.max_depth) & (depths > 0))[:, 0]
    if seconds <= 0 or not len(fits):
        return proposals.tokens[:0]
    # Proposals come likeliest first: half of the restarts take those, half the ones nearest to the data.
    loss = relative_loss(proposals.programs.to(device), x, y, judge.misfit.rows(judge.screen)).cpu()
    near = fits[loss[fits].argsort(stable=True)]
    starts = torch.stack([fits, near], dim=1).flatten()[: config.restarts]
    levels = int(depths[starts].max())
    topology = full_tree(levels, x.shape[1])
    logits = start_logits(proposals.tokens[starts], proposals.kind_log_probs[starts], levels, x.shape[1])
    n = len(starts) if device.type == "cpu" else config.restarts_on_accelerator
    logits = logits[torch.arange(n) % len(starts)].to(device)
    elite_share = GumbelConfig.elite_share if config.elites else 0.0
    gumbel = GumbelConfig(
        steps=config.gumbel_steps, seconds=seconds, learning_rate=config.gumbel_rate, elite_share=elite_share
    )
    found = train_gumbel_hard(topology.to(device), logits, x, y, gumbel, generator=generator).programs.to("cpu")
    judge.programs(found)
    best = [tokens_from_program(found, i)[0] for i in range(min(len(found), config.restarts))]
    return torch.nn.utils.rnn.pad_sequence(best, batch_first=True)
