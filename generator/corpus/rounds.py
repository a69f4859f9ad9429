"""Fresh programs of the pools of a stream, drawn in rounds: in this process, or ahead of it by worker processes.

A round is so many programs of one pool, made up from a seed of its own: (seed, rank, pool, round). So it does not matter who
draws it, nor how many rounds are drawn ahead, and the same pool holds the same examples without workers and with any number.
Rounds are drawn with generators of the CPU, on whatever device the run is. Which of the programs may be trained on is found
by the worker where the run is on the CPU, else on the run's device, which is faster at it.

Workers are those of torch's `DataLoader`, with all rounds of a pool as one item. They end with the run, also when it is
killed, and leave Ctrl-C to it.
"""

import itertools
import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from emlinit.generator.corpus.config import StreamConfig
from emlinit.generator.corpus.drawing import Admission, Drawn, FreshPrograms
from emlinit.generator.corpus.examples import check_yield
from emlinit.generator.errors import UserError

ROUND_SHARE = {"exact": 1.05, "weighted": 0.25}
"""Programs of a round, in wanted ones. Of exact trees about a quarter becomes examples, so that four rounds do (few large
rounds are fewer operations); of weighted programs, which are dear, four in five: five rounds."""
SMALLEST_ROUND, LARGEST_ROUND = 64, 1 << 16
"""Programs of a round, whatever is wanted."""
ROUNDS_AHEAD = {"exact": 4, "weighted": 5}
"""Rounds that workers draw of their first pools; later on as many as the pool before needed."""


def seeds_of(*numbers: int) -> list[int]:
    """Four seeds of 63 bits that any of some numbers changes, for `torch.Generator` and `numpy.random`."""
    # Trailing zeros do not change a SeedSequence, so that the length goes in, too.
    state = np.random.SeedSequence([len(numbers), *numbers]).generate_state(4, np.uint64)
    return [int(word >> np.uint64(1)) for word in state]


class _Item(NamedTuple):
    """Rounds of one pool as small arrays, which cross from one process to another: tokens, constants, variables."""

    rounds: list[tuple[np.ndarray, np.ndarray | None, np.ndarray]]


class Rounds(Dataset[_Item]):
    """The rounds of all pools; an item is what a worker draws of one pool."""

    def __init__(self, config: StreamConfig, seed: tuple[int, int], n_wanted: int, admission: Admission | None) -> None:
        """Args:
        config: the law of the programs.
        seed: of the stream, and its rank.
        n_wanted: programs of a pool that are to become examples.
        admission: what may be trained on; None leaves all programs in.
        """
        share = ROUND_SHARE[config.grammar]
        self.n_rows = min(max(int(share * n_wanted), SMALLEST_ROUND), LARGEST_ROUND)
        """Programs of a round before any is left out."""
        self.ahead = torch.tensor(ROUNDS_AHEAD[config.grammar]).share_memory_()  # type: ignore[no-untyped-call]
        """Rounds of an item; the run sets it, and workers see it."""
        self._source, self._seed, self._admission = FreshPrograms(config), seed, admission

    def draw(self, pool: int, number: int) -> Drawn:
        """Round `number` of a pool."""
        first, second, *_ = seeds_of(*self._seed, pool, 1 + number)
        generator, rng = torch.Generator().manual_seed(first), np.random.default_rng(second)
        drawn = self._source.draw(self.n_rows, generator, rng)
        return drawn if self._admission is None else self._admission(drawn)

    def __getitem__(self, pool: int) -> _Item:
        return _Item([_packed(self.draw(pool, number)) for number in range(int(self.ahead))])


def _packed(drawn: Drawn) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Copies without a tensor behind them: a thread that sends tensors while the interpreter is taken down aborts it."""
    drawn = drawn.trimmed()
    constants = drawn.constants.numpy().copy() if bool(drawn.constants.any()) else None
    return drawn.tokens.numpy().astype(np.int8), constants, drawn.variable_mask.numpy().copy()


def _unpacked(tokens: np.ndarray, constants: np.ndarray | None, mask: np.ndarray) -> Drawn:
    kinds = torch.from_numpy(tokens).long()
    values = torch.zeros(kinds.shape, dtype=torch.float64) if constants is None else torch.from_numpy(constants)
    return Drawn(kinds, values, torch.from_numpy(mask))


class PoolPrograms:
    """The fresh programs of one pool, in order."""

    def __init__(self, rounds: Rounds, pool: int, ahead: _Item | None, admission: Admission | None) -> None:
        """Args:
        rounds: where they come from.
        pool: its number.
        ahead: its first rounds, if they were drawn by a worker.
        admission: what may be trained on, unless that was looked at where the rounds were drawn.
        """
        self._rounds, self._pool, self._admission = rounds, pool, admission
        self._ahead = [] if ahead is None else ahead.rounds
        self._waiting: list[Drawn] = []
        self.n_rounds = 0
        """Rounds that were needed so far."""
        self._n_fruitless = 0

    @property
    def n_drawn(self) -> int:
        """Programs that were made up so far, be they admitted or not."""
        return self.n_rounds * self._rounds.n_rows

    def take(self, n: int) -> Drawn:
        """The next `n` programs that may be trained on.

        Raises:
            UserError: there are none, as far as can be seen.
        """
        while sum(map(len, self._waiting)) < n:
            drawn = self._next_round()
            self._n_fruitless = 0 if len(drawn) else self._n_fruitless + self._rounds.n_rows
            check_yield(self._n_fruitless)
            self._waiting.append(drawn)
        waiting = Drawn.cat(self._waiting)
        self._waiting = [waiting.rows(slice(n, None))]
        return waiting.rows(slice(0, n)).trimmed()

    def _next_round(self) -> Drawn:
        number, self.n_rounds = self.n_rounds, self.n_rounds + 1
        drawn = _unpacked(*self._ahead[number]) if number < len(self._ahead) else self._rounds.draw(self._pool, number)
        return drawn if self._admission is None else self._admission(drawn)


class RoundSource:
    """Gives the fresh programs of one pool after the other, drawn ahead by worker processes if there are any."""

    def __init__(
        self,
        config: StreamConfig,
        seed: tuple[int, int],
        n_wanted: int,
        excluded_keys: Int64[Tensor, " k"] | None,
        device: torch.device,
    ) -> None:
        """Args:
        config: the law of the programs, and the number of workers.
        seed: of the stream, and its rank.
        n_wanted: programs of a pool that are to become examples.
        excluded_keys: functions that must not appear (see `Admission`).
        device: where the programs are wanted.
        """
        admission = Admission(config, excluded_keys, device)
        on_cpu = device.type == "cpu"
        self._rounds = Rounds(config, seed, n_wanted, admission if on_cpu else None)
        self._admission = None if on_cpu else admission
        self._n_workers = config.workers
        self._items: Iterator[_Item] | None = None
        self._next_pool = -1

    def programs(self, pool: int) -> PoolPrograms:
        """The programs of a pool; in order of their numbers no work of the workers is lost."""
        return PoolPrograms(self._rounds, pool, self._item(pool) if self._n_workers else None, self._admission)

    def finished(self, programs: PoolPrograms) -> None:
        """Tell the workers how many rounds a pool has needed."""
        self._rounds.ahead.fill_(programs.n_rounds)

    def close(self) -> None:
        """End the worker processes, if any run."""
        self._items = None  # which a DataLoader's iterator takes as the sign

    def _item(self, pool: int) -> _Item:
        if self._items is None or self._next_pool != pool:
            self.close()
            self._items = self._started(pool)
        self._next_pool = pool + 1
        return next(self._items)

    def _started(self, pool: int) -> Iterator[_Item]:
        with warnings.catch_warnings(), _interrupts_later():
            warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)  # more than there are cores
            loader: DataLoader[_Item] = DataLoader(
                self._rounds,
                batch_size=None,
                sampler=itertools.count(pool),
                num_workers=self._n_workers,
                collate_fn=_as_it_is,
                worker_init_fn=_begin,
                multiprocessing_context="spawn",
                generator=torch.Generator(),  # or it would draw from the global one
            )
            return iter(loader)


def _as_it_is(item: Any) -> Any:
    return item


def _begin(_number: int) -> None:
    """What a worker does first. Ctrl-C goes to all processes of a terminal, and the run decides what becomes of it. And a
    worker ends with the run, however that ends: torch's own watch does not see a run that was killed while the worker was
    being started."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_run, daemon=True).start()


def _end_with_the_run() -> None:
    run = multiprocessing.parent_process()
    if run is not None:
        run.join()
        os._exit(1)


@contextmanager
def _interrupts_later() -> Iterator[None]:
    """Processes that are started here are deaf to Ctrl-C from their first moment; this one hears it afterwards."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def worker_deaths_told() -> Iterator[None]:
    """Around all work with a stream: the death of a worker process, which torch reports at any moment, in one line.

    Raises:
        UserError: a worker was killed.
    """
    try:
        yield
    except Exception as problem:
        if not _is_a_workers_death(problem):
            raise
        raise UserError(
            "a process that draws programs (--stream.workers) was killed, perhaps since memory ran out: what was saved "
            "stays, go on with --resume and fewer workers"
        ) from problem


def _is_a_workers_death(problem: BaseException | None) -> bool:
    """Torch raises in whatever code the run is just then, which may wrap what passes through it in an error of its own."""
    while problem is not None:
        if isinstance(problem, RuntimeError) and str(problem).startswith("DataLoader worker"):
            return True
        problem = problem.__cause__ or problem.__context__
    return False
