"""Rounds of fresh programs: the same whoever draws them, and workers that neither outlive their run nor die unnoticed."""

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing import active_children
from pathlib import Path

import pytest
import torch

from emlinit.generator.corpus.config import StreamConfig
from emlinit.generator.corpus.drawing import Admission, Drawn
from emlinit.generator.corpus.examples import Batch
from emlinit.generator.corpus.rounds import PoolPrograms, Rounds, seeds_of, worker_deaths_told
from emlinit.generator.corpus.stream import ExampleStream
from emlinit.generator.errors import UserError

Law = Callable[..., StreamConfig]


def _equal(first: Batch, second: Batch) -> bool:
    return all(torch.equal(getattr(first, name), getattr(second, name)) for name in vars(first))


def _read(stream: ExampleStream, n: int) -> None:
    for _ in range(n):
        next(stream)


@pytest.fixture
def working(law: Law) -> Iterator[Callable[..., ExampleStream]]:
    """Streams with workers, which are closed in the end."""
    streams: list[ExampleStream] = []

    def make(grammar: str, workers: int = 1, **more: object) -> ExampleStream:
        streams.append(ExampleStream(law(grammar, workers=workers, **more), seed=3))
        return streams[-1]

    yield make
    for stream in streams:
        stream.close()


@pytest.mark.parametrize("grammar", ["exact", "weighted"])
def test_workers_change_nothing_and_are_left_out_of_what_is_resumed(
    grammar: str, working: Callable[..., ExampleStream], law: Law
) -> None:
    alone, helped = ExampleStream(law(grammar), seed=3), working(grammar, workers=2)
    state = torch.get_rng_state()
    expected = [next(alone) for _ in range(11)]  # pools of 4 minibatches
    assert all(_equal(next(helped), batch) for batch in expected[:6])
    assert len(active_children()) == 2
    resumed = ExampleStream(law(grammar), seed=3)
    resumed.load_state_dict(helped.state_dict())
    assert all(_equal(next(resumed), batch) for batch in expected[6:])
    helped.load_state_dict(resumed.state_dict())  # and the other way round, at another pool
    assert _equal(next(helped), next(alone))
    helped.close()
    assert active_children() == []
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_workers_beside_a_stored_corpus(
    share: float, working: Callable[..., ExampleStream], stored: Callable[[str], Path], law: Law
) -> None:
    mixed = {"corpus": str(stored("exact")), "corpus_share": share}
    alone, helped = ExampleStream(law("exact", **mixed), seed=3), working("exact", **mixed)
    assert all(_equal(next(helped), next(alone)) for _ in range(5))
    assert len(active_children()) == (share < 1)  # nothing is drawn where all is read


def test_a_killed_worker_is_one_line(working: Callable[..., ExampleStream]) -> None:
    stream = working("exact", batch_size=64)
    _read(stream, 1)
    (worker,) = active_children()
    assert worker.pid is not None

    @worker_deaths_told()  # torch may tell of it as soon as it has happened
    def kill(pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        _read(stream, 1000)

    with pytest.raises(UserError, match=r"a process that draws .* was killed, .* --resume") as told:
        kill(worker.pid)
    assert "\n" not in str(told.value)
    stream.close()
    assert active_children() == []


def test_a_death_is_told_through_other_errors_and_nothing_else_is() -> None:
    @worker_deaths_told()
    def wrapped() -> None:
        try:
            raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")
        except RuntimeError as death:
            raise ValueError("no value here") from death

    with pytest.raises(UserError, match="was killed"):
        wrapped()
    for other in (RuntimeError("something else"), ValueError("DataLoader worker")):
        with pytest.raises(type(other), match=str(other)), worker_deaths_told():
            raise other


@pytest.mark.parametrize("grammar", ["exact", "weighted"])
def test_how_many_rounds_were_drawn_ahead_does_not_matter(grammar: str, law: Law) -> None:
    rounds = Rounds(law(grammar), (5, 0), 200, Admission(law(grammar)))

    def programs(n_ahead: int, takes: list[int]) -> Drawn:
        rounds.ahead.fill_(n_ahead)
        source = PoolPrograms(rounds, 7, rounds[7] if n_ahead else None, None)
        return Drawn.cat([source.take(n) for n in takes])

    expected = programs(0, [150, 31, 1])
    for n_ahead, takes in ((1, [182]), (3, [1, 180, 1]), (9, [150, 32])):
        found = programs(n_ahead, takes)
        assert all(torch.equal(getattr(found, name), getattr(expected, name)) for name in vars(found))
    assert not torch.equal(expected.tokens[:50, :3], PoolPrograms(rounds, 8, None, None).take(50).tokens[:, :3])


def test_programs_are_admitted_after_they_crossed_as_before(law: Law) -> None:
    """On a GPU the run looks at what workers have drawn, on the CPU they do it themselves."""
    config, admission = law("exact"), Admission(law("exact"))
    there, here = Rounds(config, (5, 0), 200, admission), Rounds(config, (5, 0), 200, None)
    before = PoolPrograms(there, 2, there[2], None).take(120)
    after = PoolPrograms(here, 2, here[2], admission).take(120)
    assert torch.equal(before.tokens, after.tokens)
    assert torch.equal(before.variable_mask, after.variable_mask)


def test_seeds_differ() -> None:
    """Also where a number is 0, which numpy's SeedSequence does not tell from none at the end."""
    numbers = [(1, 0), (1, 0, 0), (1,), (0, 1), (1, 0, 1), (1, 1)]
    seeds = [seed for number in numbers for seed in seeds_of(*number)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_fair_sample_however_small_the_pool(law: Law) -> None:
    """No kind of program comes first: the first half of a round is like the second."""
    config = replace(law("exact"), max_depth=6, max_nodes=15)
    drawn = Rounds(config, (5, 0), 6000, Admission(config)).draw(0, 0)
    sizes = (drawn.tokens == 1).sum(-1).double()
    half = len(sizes) // 2
    error = float((sizes.var() * 2 / half).sqrt())
    assert abs(float(sizes[:half].mean() - sizes[half:].mean())) < 4 * error
