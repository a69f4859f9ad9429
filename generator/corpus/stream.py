"""The endless stream of training examples: points and labels made on the fly, and programs as well unless a stored corpus
is given.

Notable:
- Examples are made in pools. Pool number k of a rank depends on (seed, rank, k) and, if there is a stored corpus, on how
  much of it was read before. So the state of the stream is three integers, and a resumed run sees exactly what an
  uninterrupted one would have seen. Programs do not depend on where the run is; points are drawn on its device, and those
  of a GPU are others than those of a CPU.
- Programs are drawn in rounds (see `rounds`), by worker processes if there are any, and become examples in a few large
  takes.
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
from emlinit.generator.corpus.drawing import Admission
from emlinit.generator.corpus.examples import Batch, check_yield, make_examples
from emlinit.generator.corpus.rounds import RoundSource, seeds_of
from emlinit.generator.corpus.stored import StoredPrograms
from emlinit.generator.errors import UserError
from emlinit.generator.grammar import PAD

PATIENCE = 1000
"""Programs of a stored corpus that are tried in a row, beyond two epochs, before it is held to be useless."""
LARGEST_TAKE = 1 << 15
"""Programs that get their points at once: a few GB in flight at 96 points."""
FIRST_TAKE = {"exact": 1.95, "weighted": 1.24}
"""Programs of the first take, in wanted ones: enough at the default limits. Elsewhere there is a second take, or some
are not needed."""
MARGIN = 1.05
"""A further take is this much larger than what should do, going by the ones before, so that another one is rarely needed."""


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
        device: where examples are made and minibatches are put.

        Raises:
            UserError: the stored corpus is missing, damaged, empty or of the other grammar.
        """
        self.config = config
        self.device = torch.device(device)
        self.stored: StoredPrograms | None = None
        """The corpus that is read from, if there is one."""
        self._seed = (seed, rank)
        wanted = config.batch_size * config.pool_batches
        self._n_stored = round(wanted * config.corpus_share) if config.corpus else 0
        self._n_fresh = wanted - self._n_stored
        self._fresh: RoundSource | None = None
        if self._n_fresh:
            # No law with real constants is drawn twice: only what comes from a file has to be compared.
            compared = excluded_keys if config.grammar == "exact" else None
            self._fresh = RoundSource(config, self._seed, self._n_fresh, compared, self.device)
        if config.corpus:
            admission = Admission(config, excluded_keys, self.device)
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
        batch = self._pool[self._position]
        self._position += 1
        if self._position == len(self._pool):
            self._pool, self._position, self._pool_number = [], 0, self._pool_number + 1
            if self.stored is not None:
                self._read_before = self.stored.n_read
        return batch

    def close(self) -> None:
        """End the worker processes, if any run; the stream goes on with new ones when it is read again."""
        if self._fresh is not None:
            self._fresh.close()

    def make_pool(self, number: int) -> list[Batch]:
        """All minibatches of pool `number`; with a stored corpus, of the programs that are next in it.

        Raises:
            UserError: no program can be trained on, be it of the stored corpus or drawn afresh.
        """
        first, second, third, _ = seeds_of(*self._seed, number, 0)
        generator = torch.Generator(self.device).manual_seed(first)
        parts = []
        if self._fresh is not None:
            parts.append(self._fresh_examples(self._fresh, number, generator))
        if self.stored is not None and self._n_stored:
            irrelevant = torch.Generator().manual_seed(second)
            parts.append(self._stored_examples(self.stored, generator, irrelevant))
        return self._minibatches(Batch.cat(parts), np.random.default_rng(third))

    def _minibatches(self, pool: Batch, rng: np.random.Generator) -> list[Batch]:
        config = self.config
        order = (pool.tokens != PAD).sum(-1).argsort(stable=True)
        minibatches = []
        for k in rng.permutation(config.pool_batches).tolist():
            batch = pool.rows(order[k * config.batch_size : (k + 1) * config.batch_size])
            low, high = np.log([config.min_points, config.max_points + 1])
            n_points = int(np.exp(rng.uniform(low, high)))
            minibatches.append(
                replace(
                    batch, x=batch.x[:, :n_points], y=batch.y[:, :n_points], point_mask=batch.point_mask[:, :n_points]
                )
            )
        return minibatches

    def _fresh_examples(self, source: RoundSource, number: int, generator: torch.Generator) -> Batch:
        programs = source.programs(number)
        parts: list[Batch] = []
        n_taken, n_drawn, n_take = 0, 0, int(FIRST_TAKE[self.config.grammar] * self._n_fresh)
        while (missing := self._n_fresh - sum(map(len, parts))) > 0:
            drawn = programs.take(min(n_take, LARGEST_TAKE))
            n_taken += len(drawn)
            part = make_examples(drawn, self.config, generator)
            if len(part):
                parts.append(part)
                n_drawn = programs.n_drawn
            check_yield(programs.n_drawn - n_drawn)
            n_found = sum(map(len, parts))
            missing = self._n_fresh - n_found
            n_take = int(MARGIN * missing * n_taken / n_found) + 8 if n_found else 2 * n_taken + 8
        source.finished(programs)
        return Batch.cat(parts).rows(slice(0, self._n_fresh))

    def _stored_examples(
        self, stored: StoredPrograms, generator: torch.Generator, irrelevant: torch.Generator
    ) -> Batch:
        """No more programs are read than examples are missing, so that each has its turn once an epoch."""
        parts: list[Batch] = []
        n_fruitless = 0
        while missing := self._n_stored - sum(map(len, parts)):
            drawn = stored.draw(missing, irrelevant)
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
