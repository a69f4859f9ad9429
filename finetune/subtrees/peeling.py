"""Peeling: decide the slot that the network is surest of, invert the node exactly, and look again.

A whole tree is hard to guess, one of its root's two subtrees is not. With one of them known, y = exp(L) - ln(R) gives the
values that the other one must have,

    R = exp(exp(L) - y)        L = ln(y + ln R),

a problem of the same kind, one level shallower; the network reads it from the points at which it is real. States (what is
decided, what values are still wanted) are searched best first by the probability of their decisions, several at once: one
call of the network serves them all. Every guess of an open subtree, and everything that a `Matcher` closes it with, is put
into the tree and scored on the data themselves, so that no error of an inversion is ever taken for a fit.

Legend: p point, v input variable, l token position, g state of a batch.
"""

import heapq
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from emlinit.finetune.subtrees.matching import Matcher
from emlinit.generator.functions.inversion import (
    EPS,
    LARGEST,
    is_finite,
    left_wanted,
    lost_digits,
    right_wanted,
    subtree_values_and_logs,
)
from emlinit.generator.grammar import EML, LEFT, PAD, RIGHT, subtree_lengths
from emlinit.generator.node import exp_branch_cut
from emlinit.model.propose import Proposals

_NEARLY_REAL = 1e-9  # imaginary part, relative to 1 + |real part|, of a value that counts as real
_LEAST_VARIATION = 1e-9  # of wanted values, relative to their size: there is nothing to be read from a constant
_ON_THE_CUT = (
    1e-9  # of the imaginary part of a logarithm: so near to π or -π it is at the cut, where the sign is rounding
)

READABLE = 1e-6
"""Largest loss of digits (see `lost_digits`) of a value that the network reads."""


@dataclass(frozen=True)
class PeelConfig:
    """How peeling spends its time."""

    proposals: int = 16
    """Most probable guesses (beam search) that are made of each state's open subtree."""
    batch: int = 8
    """States that are looked at together."""
    points: int = 64
    """Most points that a state is read from."""
    min_points: int = 8
    """Fewest of them: states with fewer real and reliable values are not looked at."""
    max_known: int = 4
    """Largest subtree, in eml nodes, that is taken as decided at once."""
    min_share: float = 0.01
    """Least probability of a decision."""
    max_peels: int = 10
    """Most decisions on a path."""
    max_tokens: int = 25
    """Longest guess of an open subtree."""


@runtime_checkable
class Proposer(Protocol):
    """What peeling asks: the initialiser, or a prior that does not look at the data."""

    def propose_each(
        self, x: Tensor, y: Tensor, point_mask: Tensor, n: int, *, max_tokens: int | None = None
    ) -> list[Proposals]:
        """See `EMLInitialiser.propose_each`."""


@dataclass(frozen=True)
class _OpenTree:
    """A tree with one open subtree."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    """The tokens before and after the open subtree."""
    target: Tensor
    """The values that it must have, complex128 of shape (p,)."""
    error: Tensor
    """Their absolute errors, infinite where nothing is known, float64 of shape (p,)."""
    points: Tensor
    """The points that the network reads it from: those at which it is real and reliable."""
    peels: int
    """Decisions that led here."""


class Peeling:
    """A best-first search that can be given more time, and more guesses of the whole tree, again and again."""

    def __init__(
        self,
        proposer: Proposer,
        x: Tensor,
        y: Tensor,
        matcher: Matcher,
        *,
        generator: torch.Generator,
        config: PeelConfig | None = None,
    ) -> None:
        """Begin with the whole tree open.

        Args:
            proposer: guesses open subtrees.
            x: points, float64 of shape (p, v).
            y: targets, float64 of shape (p,).
            matcher: closes open subtrees with what is known.
            generator: chooses the points that states are read from.
            config: options.
        """
        self.config = config or PeelConfig()
        self._proposer, self._x, self._matcher = proposer, x, matcher
        self._order = torch.randperm(len(y), generator=generator)
        self._queue: list[tuple[float, int, _OpenTree]] = []
        self._seen: set[tuple[tuple[int, ...], tuple[int, ...]]] = set()
        self._root = _OpenTree((), (), y.to(torch.complex128), EPS * y.abs(), self._order[: self.config.points], 0)

    def add(self, proposals: Proposals) -> None:
        """Take decisions on the root from guesses of the whole tree."""
        self._push(self._root, 0.0, proposals)

    def run(self, try_trees: Callable[[Tensor], bool], *, max_states: int, deadline: float) -> bool:
        """Look at the most probable states.

        Args:
            try_trees: takes whole trees, tokens of shape (b, l), scores them, and says whether the search is over.
            max_states: most states that are looked at.
            deadline: on the clock of `time.monotonic`.

        Returns:
            What `try_trees` said last.
        """
        looked_at = 0
        while self._queue and looked_at < max_states and time.monotonic() < deadline:
            popped = [heapq.heappop(self._queue) for _ in range(min(self.config.batch, len(self._queue)))]
            looked_at += len(popped)
            guesses = self._guess([state for _, _, state in popped])
            self._matcher.learn(_stack([proposals.tokens for proposals in guesses]))
            trees = []
            for (cost, _, state), proposals in zip(popped, guesses, strict=True):
                closing = self._matcher.candidates(state.target, state.error, proposals.tokens)
                trees += [_embed(state, part) for part in (proposals.tokens, *closing)]
                self._push(state, -cost, proposals)
            if try_trees(_stack(trees)):
                return True
        return False

    def _guess(self, states: list[_OpenTree]) -> list[Proposals]:
        """Ask for the open subtrees of all states at once."""
        points = torch.nn.utils.rnn.pad_sequence([state.points for state in states], batch_first=True)
        n_points = torch.tensor([len(state.points) for state in states])
        mask = torch.arange(points.shape[1]) < n_points[:, None]
        y = torch.stack([state.target.real[rows] for state, rows in zip(states, points, strict=True)])
        return self._proposer.propose_each(
            self._x[points], torch.where(mask, y, 0.0), mask, self.config.proposals, max_tokens=self.config.max_tokens
        )

    def _push(self, state: _OpenTree, log_prob: float, proposals: Proposals) -> None:
        if state.peels >= self.config.max_peels:
            return
        for child, share in _children(state, proposals, self._x, self._order, self.config):
            if (child.before, child.after) not in self._seen:
                self._seen.add((child.before, child.after))
                heapq.heappush(self._queue, (-(log_prob + share), len(self._seen), child))


def _children(
    state: _OpenTree, proposals: Proposals, x: Tensor, order: Tensor, config: PeelConfig
) -> list[tuple[_OpenTree, float]]:
    """States with one more of the root's subtrees decided, and the log-probability of that decision: the share of the
    proposals, by their probabilities, that agree on the subtree."""
    share = (proposals.log_prob - proposals.log_prob.max()).exp()
    share = share / share.sum()
    spans = subtree_lengths(proposals.tokens)
    shares: dict[tuple[int, tuple[int, ...]], float] = {}
    for row in torch.nonzero(proposals.tokens[:, 0] == EML)[:, 0].tolist():
        tokens = proposals.tokens[row].tolist()
        middle, end = 1 + int(spans[row, 1]), int(spans[row, 0])
        for side, known in ((LEFT, tuple(tokens[1:middle])), (RIGHT, tuple(tokens[middle:end]))):
            if known.count(EML) <= config.max_known:
                shares[side, known] = shares.get((side, known), 0.0) + float(share[row])
    likely = [(side, known, total) for (side, known), total in shares.items() if total >= config.min_share]
    if not likely:
        return []
    wanted, error = _invert([(side, known) for side, known, _ in likely], state.target, state.error, x)
    lost = lost_digits(wanted, error)
    readable = (lost < READABLE)[:, order] & (wanted.imag.abs() <= _NEARLY_REAL * (1 + wanted.real.abs()))[:, order]
    children = []
    for i, (side, known, total) in enumerate(likely):
        points = order[readable[i]][: config.points]
        values = wanted[i, points].real
        if len(points) < min(config.min_points, len(x)) or float(values.std()) <= _LEAST_VARIATION * float(
            values.abs().max()
        ):
            continue
        before, after = state.before, state.after
        before, after = ((*before, EML, *known), after) if side == LEFT else ((*before, EML), (*known, *after))
        children.append((_OpenTree(before, after, wanted[i], error[i], points, state.peels + 1), math.log(total)))
    return children


def _invert(
    decisions: list[tuple[int, tuple[int, ...]]], target: Tensor, error: Tensor, x: Tensor
) -> tuple[Tensor, Tensor]:
    """Values that the other subtree of the root must have, for each decided one (its side and its tokens), and their
    errors, of shape (b, p)."""
    tokens = torch.nn.utils.rnn.pad_sequence([torch.tensor(known) for _, known in decisions], batch_first=True)
    value, log = (part[:, 0] for part in subtree_values_and_logs(tokens, x))
    left, left_error = left_wanted(target, error, log)
    left = torch.where(left.imag.abs() > math.pi - _ON_THE_CUT, left.real - 1j * math.pi, left)
    right, right_error = right_wanted(target, error, exp_branch_cut(value))
    is_left = torch.tensor([side == LEFT for side, _ in decisions])[:, None]
    wanted, lost = torch.where(is_left, right, left), torch.where(is_left, right_error, left_error)
    known = is_finite(wanted, LARGEST) & torch.isfinite(lost)
    return torch.where(known, wanted, 0.0), torch.where(known, lost, torch.inf)


def _embed(state: _OpenTree, guesses: Tensor) -> Tensor:
    """Whole trees: each guess in the place of the open subtree."""
    lengths = (guesses != PAD).sum(-1)
    b, n_before, n_after = len(guesses), len(state.before), len(state.after)
    trees = torch.full((b, n_before + guesses.shape[1] + n_after), PAD)
    trees[:, :n_before] = torch.tensor(state.before, dtype=torch.int64)
    trees[:, n_before : n_before + guesses.shape[1]] = guesses
    after = torch.tensor(state.after, dtype=torch.int64).expand(b, -1)
    trees.scatter_(1, n_before + lengths[:, None] + torch.arange(n_after), after)
    return trees


def _stack(parts: list[Tensor]) -> Tensor:
    """Batches of different lengths as one."""
    width = max(part.shape[1] for part in parts)
    return torch.cat([torch.nn.functional.pad(part, (0, width - part.shape[1]), value=PAD) for part in parts])
