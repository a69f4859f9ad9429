"""The endless stream of training examples: points and labels made on the fly, and programs as well unless a stored corpus
is given.

Notable:
- Examples are made in pools. Pool number k of a rank depends on (seed, rank, k) and, if there is a stored corpus, on how
  much of it was read before. So the state of the stream is three integers, and a resumed run sees exactly what an
  uninterrupted one would have seen.
- Within a pool examples are sorted by length and cut into minibatches, which are then shuffled: little padding, and all
  examples of a minibatch have the same number of points.
- Labels are canonical, and functions of a frozen evaluation set are kept out by value (see `drawing`).
- What cannot be computed reliably never becomes an example (see `examples`).
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from emlinit.generator.corpus.config import StreamConfig
from emlinit.generator.corpus.drawing import Admission, FreshPrograms
from emlinit.generator.corpus.examples import Batch, check_yield, make_examples
from emlinit.generator.corpus.stored import StoredPrograms
from emlinit.generator.errors import UserError
from emlinit.generator.grammar import PAD

PATIENCE = 1000
"""Programs of a stored corpus that are tried in a row, beyond two epochs, before it is held to be useless."""
FEWEST_DRAWN = 64
"""Fresh programs beside a stored corpus are drawn at least this many at a time: a sampler of shares needs some rows. So are
those of a pool that is smaller, once as many were drawn in vain."""


class ExampleStream:
    """Iterate for ever over minibatches; `state_dict` is enough to go on where it stopped."""

    def __init__(
        self,
        config: StreamConfig,
        *,
        seed: int,
        rank: int = 0,
        n_ranks: int = 1,
        excluded_keys: Int64[Tensor, " k"] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        """Args:
        config: the corpus.
        seed: with `rank`, decides every example.
        rank: number of the process in a distributed run; each has its own stream.
        n_ranks: number of processes; each reads its own part of a stored corpus.
        excluded_keys: value keys of frozen functions that must not appear (see `Admission`).
        device: where the minibatches are put.

        Raises:
            UserError: the stored corpus is missing, damaged, empty or of the other grammar.
        """
        self.config = config
        self.device = torch.device(device)
        self.stored: StoredPrograms | None = None
        """The corpus that is read from, if there is one."""
        self._seed = (seed, rank)
        admission = Admission(config, excluded_keys)
        # No law with real constants is drawn twice: only what comes from a file has to be compared.
        self._fresh = FreshPrograms(config, admission if config.grammar == "exact" else Admission(config))
        if config.corpus:
            self.stored = StoredPrograms(config, admission, seed=seed, rank=rank, n_ranks=n_ranks)
        self._pool_number, self._position, self._read_before = 0, 0, 0
        self._pool: list[Batch] = []

    def state_dict(self) -> dict[str, Any]:
        """Where the stream stands: the pool, the next minibatch of it, and how much of a stored corpus was read before."""
        state: dict[str, Any] = {"pool": self._pool_number, "position": self._position}
        if self.stored is not None:
            state |= {"read_before": self._read_before, "corpus": self.stored.sha256}
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict` of a stream with the same configuration, seed, rank and number of ranks.

        Raises:
            UserError: the stored corpus is another one.
        """
        sha256 = None if self.stored is None else self.stored.sha256
        if state.get("corpus") != sha256:
            raise UserError(
                f"the run read its programs from {_what(state.get('corpus'))}, not from {_what(sha256)}: give "
                "--stream.corpus the same programs"
            )
        self._pool_number, self._position = state["pool"], state["position"]
        self._pool = []
        if self.stored is not None:
            self._read_before = self.stored.n_read = state["read_before"]

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        if not self._pool:
            self._pool = self.make_pool(self._pool_number)
        batch = self._pool[self._position].to(self.device)
        self._position += 1
        if self._position == len(self._pool):
            self._pool, self._position, self._pool_number = [], 0, self._pool_number + 1
            if self.stored is not None:
                self._read_before = self.stored.n_read
        return batch

    def make_pool(self, number: int) -> list[Batch]:
        """All minibatches of pool `number`; with a stored corpus, of the programs that are next in it.

        Raises:
            UserError: no program can be trained on, be it of the stored corpus or drawn afresh.
        """
        seeds = np.random.SeedSequence([*self._seed, number]).generate_state(2, np.uint64)
        generator = torch.Generator().manual_seed(int(seeds[0] >> np.uint64(1)))
        rng = np.random.default_rng(int(seeds[1]))
        config = self.config
        wanted = config.batch_size * config.pool_batches
        n_stored = 0 if self.stored is None else round(wanted * config.corpus_share)
        parts = []
        if n_stored < wanted:
            parts.append(self._fresh_examples(wanted - n_stored, generator, rng))
        if self.stored is not None and n_stored:
            parts.append(self._stored_examples(self.stored, n_stored, generator))
        pool = Batch.cat(parts)
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

    def _fresh_examples(self, n: int, generator: torch.Generator, rng: np.random.Generator) -> Batch:
        parts: list[Batch] = []
        n_fewest = 1 if self.stored is None else FEWEST_DRAWN
        n_in_vain = 0
        while (missing := n - sum(map(len, parts))) > 0:
            # A few rows are all of the same kind, say of the largest depth: where those are no good, more are drawn at once.
            n_tried = max(n, n_fewest, n_in_vain if n_in_vain >= FEWEST_DRAWN else 0)
            part = make_examples(self._fresh.draw(n_tried, generator, rng), self.config, generator)
            if len(part):
                some = n_in_vain >= FEWEST_DRAWN and len(part) > missing
                parts.append(part.rows(torch.arange(missing) * len(part) // missing) if some else part)
            n_in_vain = 0 if len(part) else n_in_vain + n_tried
            check_yield(n_in_vain)
        return Batch.cat(parts).rows(slice(0, n))

    def _stored_examples(self, stored: StoredPrograms, n: int, generator: torch.Generator) -> Batch:
        """No more programs are read than examples are missing, so that each has its turn once an epoch."""
        parts: list[Batch] = []
        n_fruitless = 0
        while missing := n - sum(map(len, parts)):
            drawn = stored.draw(missing, generator)
            part = make_examples(drawn, self.config, generator) if len(drawn) else None
            if part is not None and len(part):
                parts.append(part)
                n_fruitless = 0
                continue
            n_fruitless += missing
            if n_fruitless > PATIENCE + 2 * len(stored):
                raise UserError(
                    f"no program of the corpus in '{self.config.corpus}' can be trained on: each is beyond the limits of "
                    "--stream.*, has no finite values, or is kept for evaluation"
                )
        return Batch.cat(parts)


def _what(sha256: str | None) -> str:
    return "the endless stream" if sha256 is None else f"the stored corpus {sha256[:12]}"
