"""Peeling: decide the slot that the network is surest of, invert the node exactly, and look again.

A whole tree is hard to guess, one of its root's two subtrees is not. With one of them known, y = exp(L) - ln(R) gives the
values that the other one must have,

    R = exp(exp(L) - y)        L = ln(y + ln R),

a problem of the same kind, one level shallower. States (what is decided, what values are still wanted) are searched best
first by the probability of their decisions. Every guess of the open subtree is put into the tree and scored on the data
themselves, so that no error of an inversion is ever taken for a fit.

Legend: p point, v input variable, l token position.
"""

import heapq
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from emlinit.generator.evaluate import evaluate
from emlinit.generator.grammar import EML, PAD, subtree_lengths
from emlinit.generator.program import programs_from_tokens
from emlinit.model.initialiser import EMLInitialiser
from emlinit.model.propose import Proposals


@dataclass(frozen=True)
class PeelConfig:
    """How peeling spends its time."""

    proposals: int = 64
    """Most probable guesses (beam search) that are made of each state's open subtree."""
    points: int = 64
    """Points that a state is read from."""
    max_known: int = 3
    """Largest subtree, in eml nodes, that is taken as decided at once."""
    min_share: float = 0.02
    """Least probability of a decision."""
    max_peels: int = 8
    """Most decisions on a path."""
    max_tokens: int = 25
    """Longest guess of an open subtree."""


@dataclass(frozen=True)
class _State:
    """A tree with one open subtree: the tokens before and after it, and the values that it must have."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    target: Tensor
    peels: int


def peel(
    initialiser: EMLInitialiser,
    x: Tensor,
    y: Tensor,
    first: Proposals,
    try_trees: Callable[[Tensor], bool],
    *,
    deadline: float,
    max_states: int,
    generator: torch.Generator,
    config: PeelConfig | None = None,
) -> None:
    """Search best first over peels until a tree is exact.

    Args:
        initialiser: of the exact grammar.
        x: points, float64 of shape (p, v).
        y: targets, float64 of shape (p,).
        first: proposals for the data themselves, which have been tried already.
        try_trees: takes whole trees, tokens of shape (b, l), scores them, and says whether one is exact.
        deadline: on the clock of `time.monotonic`.
        max_states: most states that are looked at.
        generator: draws the bags of points.
        config: options.
    """
    config = config or PeelConfig()
    queue: list[tuple[float, int, _State]] = []
    seen: set[tuple[tuple[int, ...], tuple[int, ...]]] = set()
    counter = 0

    def push(state: _State, log_prob: float, proposals: Proposals) -> None:
        nonlocal counter
        if state.peels >= config.max_peels:
            return
        for child, share in _children(state, proposals, x, config):
            if (child.before, child.after) not in seen:
                seen.add((child.before, child.after))
                counter += 1
                heapq.heappush(queue, (-(log_prob + share), counter, child))

    push(_State((), (), y, 0), 0.0, first)
    for _ in range(max_states):
        if not queue or time.monotonic() > deadline:
            return
        cost, _, state = heapq.heappop(queue)
        proposals = initialiser.propose(
            x,
            state.target,
            config.proposals,
            generator=generator,
            method="beam",
            n_bags=1,
            points_per_bag=config.points,
            max_tokens=config.max_tokens,
        )
        if try_trees(_embed(state, proposals.tokens)):
            return
        push(state, -cost, proposals)


def _children(state: _State, proposals: Proposals, x: Tensor, config: PeelConfig) -> list[tuple[_State, float]]:
    """States with one more of the root's subtrees decided, and the log-probability of that decision: the share of the
    proposals, by their probabilities, that agree on the subtree."""
    share = (proposals.log_prob - proposals.log_prob.max()).exp()
    share = share / share.sum()
    spans = subtree_lengths(proposals.tokens)
    shares: dict[tuple[str, tuple[int, ...]], float] = {}
    for row in torch.nonzero(proposals.tokens[:, 0] == EML)[:, 0].tolist():
        tokens = proposals.tokens[row].tolist()
        middle, end = 1 + int(spans[row, 1]), int(spans[row, 0])
        for side, known in (("left", tuple(tokens[1:middle])), ("right", tuple(tokens[middle:end]))):
            if known.count(EML) <= config.max_known:
                shares[side, known] = shares.get((side, known), 0.0) + float(share[row])
    children = []
    for (side, known), total in shares.items():
        if total < config.min_share:
            continue
        target = _invert(side, known, state.target, x)
        if target is None:
            continue
        if side == "left":
            child = _State((*state.before, EML, *known), state.after, target, state.peels + 1)
        else:
            child = _State((*state.before, EML), (*known, *state.after), target, state.peels + 1)
        children.append((child, math.log(total)))
    return children


def _invert(side: str, known: tuple[int, ...], target: Tensor, x: Tensor) -> Tensor | None:
    """Values that the other subtree of the root must have; None where they are not real, finite and varying."""
    tokens = torch.tensor(known)[None]
    result = evaluate(
        programs_from_tokens(tokens, torch.zeros(tokens.shape, dtype=torch.float64), x.shape[1]), x, rtol=None
    )
    value = result.value[0]
    # NaN where R or exp(L) would not be positive
    wanted = (value.exp() - target).exp() if side == "left" else (target + value.log()).log()
    usable = bool(result.valid.all()) and bool(torch.isfinite(wanted).all()) and bool((wanted.abs() < 1e30).all())
    return wanted if usable and float(wanted.std()) > 1e-9 * float(wanted.abs().max()) else None


def _embed(state: _State, guesses: Tensor) -> Tensor:
    """Whole trees: each guess in the place of the open subtree."""
    lengths = (guesses != PAD).sum(-1)
    b, n_before, n_after = len(guesses), len(state.before), len(state.after)
    trees = torch.full((b, n_before + guesses.shape[1] + n_after), PAD)
    trees[:, :n_before] = torch.tensor(state.before, dtype=torch.int64)
    trees[:, n_before : n_before + guesses.shape[1]] = guesses
    after = torch.tensor(state.after, dtype=torch.int64).expand(b, -1)
    trees.scatter_(1, n_before + lengths[:, None] + torch.arange(n_after), after)
    return trees
