"""The endless stream of training examples: programs, points and labels made on the fly, never read from a file.

Notable:
- Examples are made in pools. Pool number k of a rank depends on (seed, rank, k) only, so the state of the stream is two
  integers and a resumed run sees exactly what an uninterrupted one would have seen.
- Within a pool examples are sorted by length and cut into minibatches, which are then shuffled: little padding, and all
  examples of a minibatch have the same number of points.
- Labels are canonical (see `canonical`), and functions of a frozen evaluation set of 5 nodes or more are kept out by value.
- What cannot be computed reliably never becomes an example: points come from the certified mask of `evaluate`.

Legend: b batch, p point, v input variable, l token position.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from emlinit.generator.corpus.canonical import Canonicaliser
from emlinit.generator.corpus.formulas import FormulaConfig, sample_formula_programs
from emlinit.generator.corpus.supports import random_supports
from emlinit.generator.corpus.trees import add_constants, trees_by_depth, trees_by_size
from emlinit.generator.evaluate import evaluate
from emlinit.generator.functions.table import INVALID_KEY
from emlinit.generator.grammar import MAX_VARIABLES, PAD, X1, depth, size
from emlinit.generator.program import programs_from_tokens

EXCLUDE_FROM_SIZE = 5
"""Frozen functions of this many nodes or more are kept out of training; smaller ones are too few to keep apart."""


@dataclass(frozen=True, kw_only=True)
class StreamConfig:
    """What the corpus is made of."""

    grammar: Literal["exact", "weighted"] = "exact"
    """Which grammar the labels are written in."""
    max_variables: int = 3
    """Most variables of a problem, 1..5."""
    max_nodes: int = 15
    """Most eml nodes of a label."""
    max_depth: int = 6
    """Deepest label, in eml nodes."""
    depth_growth: float = 1.7
    """Exact grammar: trees of each depth are drawn this many times as often as those one level shallower. Deep trees are
    rejected more often (their values overflow), and there is more to learn from them."""
    max_tokens: int = 64
    """Longest label, in tokens."""
    min_points: int = 8
    """Fewest points of a minibatch."""
    max_points: int = 96
    """Most points of a minibatch."""
    batch_size: int = 128
    """Examples of a minibatch."""
    pool_batches: int = 16
    """Minibatches that are made, sorted by length and shuffled together."""
    formula_share: float = 0.7
    """Weighted grammar: share of compiled random formulas; the rest are random weighted trees."""
    noise_share: float = 0.3
    """Weighted grammar: share of examples with noise on y."""
    largest_y: float = 1e8
    """Examples with a larger |y| are dropped."""


@dataclass(frozen=True, eq=False)
class Batch:
    """One minibatch."""

    tokens: Int64[Tensor, "b l"]
    """Label: prefix tokens, padded with `PAD`."""
    constants: Float64[Tensor, "b l"]
    """Label: values of `c`, `w`, `j`."""
    x: Float64[Tensor, "b p v"]
    """Points; absent variables are 0. v = MAX_VARIABLES."""
    variable_mask: Bool[Tensor, "b v"]
    """Which variables the problem has."""
    y: Float64[Tensor, "b p"]
    """Targets."""
    point_mask: Bool[Tensor, "b p"]
    """Which points count."""

    def to(self, device: torch.device | str) -> "Batch":
        """The same minibatch on another device."""
        return Batch(
            self.tokens.to(device),
            self.constants.to(device),
            self.x.to(device),
            self.variable_mask.to(device),
            self.y.to(device),
            self.point_mask.to(device),
        )

    def rows(self, index: Tensor | slice) -> "Batch":
        """Some examples, without the padding that they do not need."""
        tokens = self.tokens[index]
        length = max(int((tokens != PAD).sum(-1).max()), 1) if len(tokens) else 1
        return Batch(
            tokens[:, :length],
            self.constants[index, :length],
            self.x[index],
            self.variable_mask[index],
            self.y[index],
            self.point_mask[index],
        )

    def __len__(self) -> int:
        return len(self.tokens)

    @staticmethod
    def cat(parts: "list[Batch]") -> "Batch":
        """Join batches with the same number of points."""
        length = max(part.tokens.shape[1] for part in parts)

        def pad(t: Tensor) -> Tensor:
            return torch.nn.functional.pad(t, (0, length - t.shape[1]))

        return Batch(
            torch.cat([pad(part.tokens) for part in parts]),
            torch.cat([pad(part.constants) for part in parts]),
            torch.cat([part.x for part in parts]),
            torch.cat([part.variable_mask for part in parts]),
            torch.cat([part.y for part in parts]),
            torch.cat([part.point_mask for part in parts]),
        )


class ExampleStream:
    """Iterate for ever over minibatches; `state_dict` is enough to go on where it stopped."""

    def __init__(
        self,
        config: StreamConfig,
        *,
        seed: int,
        rank: int = 0,
        excluded_keys: Int64[Tensor, " k"] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        """Args:
        config: the corpus.
        seed: with `rank`, decides every example.
        rank: number of the process in a distributed run; each has its own stream.
        excluded_keys: value keys of frozen functions (exact grammar) that must not appear.
        device: where the minibatches are put.
        """
        self.config = config
        self.device = torch.device(device)
        self._seed = (seed, rank)
        self._excluded = torch.empty(0, dtype=torch.int64) if excluded_keys is None else excluded_keys
        self._canonicaliser = Canonicaliser(config.max_variables) if config.grammar == "exact" else None
        self._pool_number, self._position = 0, 0
        self._pool: list[Batch] = []

    def state_dict(self) -> dict[str, int]:
        """Where the stream stands."""
        return {"pool": self._pool_number, "position": self._position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from a `state_dict` of a stream with the same configuration, seed and rank."""
        self._pool_number, self._position = state["pool"], state["position"]
        self._pool = []

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        if not self._pool:
            self._pool = self.make_pool(self._pool_number)
        batch = self._pool[self._position].to(self.device)
        self._position += 1
        if self._position == len(self._pool):
            self._pool, self._position, self._pool_number = [], 0, self._pool_number + 1
        return batch

    def make_pool(self, number: int) -> list[Batch]:
        """All minibatches of pool `number`."""
        seeds = np.random.SeedSequence([*self._seed, number]).generate_state(2, np.uint64)
        generator = torch.Generator().manual_seed(int(seeds[0] >> np.uint64(1)))
        rng = np.random.default_rng(int(seeds[1]))
        config = self.config
        wanted = config.batch_size * config.pool_batches
        parts: list[Batch] = []
        while sum(map(len, parts)) < wanted:
            part = (
                self._exact(wanted, generator) if config.grammar == "exact" else self._weighted(wanted, generator, rng)
            )
            if len(part):
                parts.append(part)
        pool = Batch.cat(parts).rows(slice(0, wanted))
        order = (pool.tokens != PAD).sum(-1).argsort(stable=True)
        minibatches = []
        for k in torch.randperm(config.pool_batches, generator=generator).tolist():
            batch = pool.rows(order[k * config.batch_size : (k + 1) * config.batch_size])
            low, high = np.log([config.min_points, config.max_points + 1])
            n_points = int(np.exp(low + (high - low) * float(torch.rand((), generator=generator))))
            minibatches.append(
                replace(
                    batch, x=batch.x[:, :n_points], y=batch.y[:, :n_points], point_mask=batch.point_mask[:, :n_points]
                )
            )
        return minibatches

    def _variables(self, n_rows: int, generator: torch.Generator) -> Tensor:
        """Mask of the variables that each problem has: the first 1..max_variables, few more often than many."""
        share = 1.0 / torch.arange(1, self.config.max_variables + 1).double().sqrt()
        count = 1 + torch.multinomial(share, n_rows, replacement=True, generator=generator)
        return torch.arange(self.config.max_variables) < count[:, None]

    def _exact(self, n_rows: int, generator: torch.Generator) -> Batch:
        """Random exact trees, a sixth uniform by size and the rest by depth, in canonical form."""
        assert self._canonicaliser is not None
        config = self.config
        mask = self._variables(n_rows, generator)
        one_share = 0.3
        by_size = n_rows // 6
        sizes = torch.randint(1, config.max_nodes + 1, (by_size,), generator=generator)
        trees = [trees_by_size(sizes, mask[:by_size], one_share, generator)]
        share = config.depth_growth ** torch.arange(config.max_depth).double()
        ends = (share.cumsum(0) / share.sum() * (n_rows - by_size)).long()
        for level, rows in enumerate(mask[by_size:].tensor_split(ends[:-1]), start=1):
            trees.append(trees_by_depth(level, rows, one_share, generator))
        length = max(t.shape[1] for t in trees)
        tokens = torch.cat([torch.nn.functional.pad(t, (0, length - t.shape[1])) for t in trees])
        small = size(tokens) <= config.max_nodes + 3
        tokens, key = self._canonicaliser(tokens[small])
        new_size = size(tokens)
        keep = (key != INVALID_KEY) & (depth(tokens) <= config.max_depth) & (new_size <= config.max_nodes)
        keep &= (2 * new_size + 1 <= config.max_tokens) & (new_size > 0)
        keep &= ~(torch.isin(key, self._excluded) & (new_size >= EXCLUDE_FROM_SIZE))
        tokens = tokens[keep]
        constants = torch.zeros(tokens.shape, dtype=torch.float64)
        return self._evaluate(tokens, constants, mask[small][keep], generator)

    def _weighted(self, n_rows: int, generator: torch.Generator, rng: np.random.Generator) -> Batch:
        """Compiled random formulas and random weighted trees."""
        config = self.config
        n_formulas = round(n_rows * config.formula_share)
        formula = FormulaConfig(
            max_variables=config.max_variables, max_nodes=config.max_nodes, max_tokens=config.max_tokens
        )
        drawn_tokens, drawn_constants = sample_formula_programs(n_formulas, rng, formula)
        mask = self._variables(n_rows - n_formulas, generator)
        sizes = 1 + torch.multinomial(
            0.75 ** torch.arange(6).double(), len(mask), replacement=True, generator=generator
        )
        trees = trees_by_size(sizes, mask, 0.35, generator)
        tree_tokens, tree_constants = add_constants(trees, mask, generator)
        length = max(drawn_tokens.shape[1], tree_tokens.shape[1])

        def stack(first: Tensor, second: Tensor) -> Tensor:
            return torch.cat([torch.nn.functional.pad(t, (0, length - t.shape[1])) for t in (first, second)])

        tokens = stack(torch.as_tensor(drawn_tokens), tree_tokens)
        constants = stack(torch.as_tensor(drawn_constants), tree_constants)
        fits = ((tokens != PAD).sum(-1) <= config.max_tokens) & (size(tokens) <= config.max_nodes)
        tokens, constants = tokens[fits], constants[fits]
        used = (tokens[:, :, None] == X1 + torch.arange(config.max_variables)).any(1)
        # Problems have the variables that their formula reads, and at times irrelevant ones beside them.
        more = torch.rand(used.shape, generator=generator) < 0.08
        last_used = torch.where(used, torch.arange(1, config.max_variables + 1), 0).amax(-1, keepdim=True)
        mask = used | more | (torch.arange(config.max_variables) < last_used)
        return self._evaluate(tokens, constants, mask, generator)

    def _evaluate(self, tokens: Tensor, constants: Tensor, mask: Tensor, generator: torch.Generator) -> Batch:
        """Give each program points and targets; drop the programs for which that cannot be done honestly."""
        config = self.config
        n_rows, n_points = len(tokens), config.max_points
        x = random_supports(n_rows, 2 * n_points, config.max_variables, generator, tokens.device)
        x = x.masked_fill(~mask[:, None], 0.0)
        programs = programs_from_tokens(tokens, constants, config.max_variables)
        result = evaluate(programs, x, imag=config.grammar == "exact")
        usable = result.valid & (result.value.abs() <= config.largest_y)
        if result.imag is not None:
            usable &= result.imag.abs() <= 1e-9 * result.value.abs()
        # The first usable points of each row, in their random order.
        first = torch.sort(~usable, dim=1, stable=True).indices[:, :n_points]
        y = result.value.gather(1, first)
        x = x.gather(1, first[..., None].expand(-1, -1, config.max_variables))
        spread = y.std(-1)
        keep = (usable.sum(-1) >= n_points) & (spread > 1e-4 * y.abs().amax(-1)) & (spread > 1e-6)
        if config.grammar == "weighted":
            scale = y.square().mean(-1).sqrt()
            keep &= (scale > 1e-3) & (scale < 1e4)
            level = torch.exp(np.log(1e-3) + np.log(100.0) * torch.rand(n_rows, 1, generator=generator))
            level *= torch.rand(n_rows, 1, generator=generator) < config.noise_share
            noise = torch.randn(y.shape, generator=generator, dtype=torch.float64)
            y = y + level * spread[:, None] * noise
        pad = MAX_VARIABLES - config.max_variables
        return Batch(
            tokens[keep],
            constants[keep],
            torch.nn.functional.pad(x[keep], (0, pad)),
            torch.nn.functional.pad(mask[keep], (0, pad)),
            y[keep],
            torch.ones_like(y[keep], dtype=torch.bool),
        )
