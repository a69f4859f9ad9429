"""How fast the parts are that a run or a search waits for, on one device: a name, a unit and a rate each.

Fair timing: what is timed runs once before, the device has finished when a clock is read, and of some repetitions the
fastest counts (others were disturbed). Worker processes draw ahead, so that only a long stretch tells what they give: the
stream with workers is timed over several pools once their head start is used up.

    evaluator    2,000 different programs of 1 to 15 nodes, real and moderate at all points (16 times that on a GPU)
    stream       pools of the default corpus; minibatches of 128, on a GPU of 2,048
    training     steps of the default network on minibatches that are there already
    proposals    256 candidates for 64 points by the default network with random weights
    gumbel       Gumbel-hard steps of 64 restarts (on a GPU 1,024) in the full tree of depth 5 over two variables

Legend: b batch, p point, v input variable.
"""

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from operator import methodcaller
from pathlib import Path

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from emlinit.finetune.routing.gumbel import GumbelConfig, train_gumbel_hard
from emlinit.finetune.routing.topology import full_tree
from emlinit.generator.corpus.config import StreamConfig
from emlinit.generator.corpus.stream import ExampleStream
from emlinit.generator.corpus.trees import trees_by_size
from emlinit.generator.evaluate import evaluate
from emlinit.generator.grammar import GRAMMARS
from emlinit.generator.program import Programs, programs_from_tokens
from emlinit.model.initialiser import EMLInitialiser, InitialiserConfig
from emlinit.model.pretraining.config import PretrainConfig
from emlinit.model.pretraining.distributed import World
from emlinit.model.pretraining.run import PretrainingRun

_MODERATE = 1e8
ON_A_GPU = 16
"""How much more is given at once to an accelerator."""


@dataclass(frozen=True, kw_only=True)
class SpeedConfig:
    """How much is timed."""

    programs: int = 2000
    """Programs of the evaluator's batch."""
    points: int = 256
    """Points of each of them."""
    repeats: int = 5
    """Timed repetitions, of which the fastest counts."""
    batch_size: int = 128
    """Examples of a minibatch."""
    pool_batches: int = 16
    """Minibatches of a pool."""
    d_model: int = InitialiserConfig.d_model
    """Width of the network."""
    workers: int = 1
    """Processes of the stream with workers."""


class Missing(Exception):
    """What a machine lacks for a measurement, in a few words."""


class Speeds:
    """The measurements on one device; each method returns a rate a second."""

    def __init__(self, config: SpeedConfig, device: torch.device) -> None:
        """Args:
        config: sizes.
        device: where.
        """
        self.config, self.device = config, device
        self._more = 1 if device.type == "cpu" else ON_A_GPU

    def fastest(self, work: Callable[[], float]) -> float:
        """Rate of the fastest of some repetitions of `work`, which says how much it has done."""
        work()
        rates = []
        for _ in range(self.config.repeats):
            self._wait()
            began = time.perf_counter()
            amount = work()
            self._wait()
            rates.append(amount / (time.perf_counter() - began))
        return max(rates)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    # ---- evaluator ----

    def certified(self) -> float:
        """Node-points of `evaluate` with its default mask."""
        return self._evaluated(lambda programs, x: evaluate(programs, x))

    def finite(self) -> float:
        """Node-points of `evaluate` with the mask of finite values only."""
        return self._evaluated(lambda programs, x: evaluate(programs, x, rtol=None))

    def plain(self) -> float:
        """Node-points of the simple way: a gather for each operand, and no mask."""
        return self._evaluated(plain_values)

    def _evaluated(self, evaluated: Callable[[Programs, Tensor], object]) -> float:
        programs, x = real_programs(self.config.programs, self.config.points)
        programs = programs[torch.arange(len(programs)).repeat(self._more)].to(self.device)
        x = x.to(self.device)
        node_points = float(programs.n_nodes.sum()) * len(x)

        def work() -> float:
            evaluated(programs, x)
            return node_points

        return self.fastest(work)

    # ---- stream and training ----

    def _stream_config(self, grammar: str, workers: int = 0) -> StreamConfig:
        return StreamConfig(
            grammar="exact" if grammar == "exact" else "weighted",
            max_variables=3 if grammar == "exact" else 5,
            batch_size=self.config.batch_size * self._more,
            pool_batches=self.config.pool_batches,
            workers=workers,
        )

    def stream(self, grammar: str) -> float:
        """Examples of the stream, made by this process."""
        stream = ExampleStream(self._stream_config(grammar), seed=0, device=self.device)
        return self.fastest(lambda: float(sum(map(len, stream.make_pool(0)))))

    def stream_with_workers(self, grammar: str) -> float:
        """Examples of the stream whose programs are drawn by worker processes.

        Raises:
            Missing: there are not enough cores.
        """
        workers, cores = self.config.workers, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        if workers + 1 > cores:
            raise Missing(f"{workers} workers and the run want {workers + 1} cores, here are {cores}")
        stream = ExampleStream(self._stream_config(grammar, workers), seed=0, device=self.device)
        ahead, pools = 2 * workers + 1, max(workers + 1, self.config.repeats)
        try:
            for number in range(ahead):
                stream.make_pool(number)
            self._wait()
            began = time.perf_counter()
            n = sum(len(batch) for number in range(ahead, ahead + pools) for batch in stream.make_pool(number))
            self._wait()
            return n / (time.perf_counter() - began)
        finally:
            stream.close()

    def training(self, grammar: str) -> float:
        """Examples that training steps take, the stream aside."""
        with tempfile.TemporaryDirectory() as folder:
            config = PretrainConfig(
                out=Path(folder) / "run",
                steps=1000,
                stream=self._stream_config(grammar),
                model=InitialiserConfig(d_model=self.config.d_model),
            )
            run = PretrainingRun(config, World(rank=0, size=1, device=self.device))
            batches = run.stream.make_pool(0)

            def work() -> float:
                for batch in batches:
                    run.train_step(batch, 0.5)
                return float(sum(map(len, batches)))

            return self.fastest(work)

    # ---- searching ----

    def proposals(self, grammar: str) -> float:
        """Candidates for one problem."""
        config = InitialiserConfig(
            grammar="exact" if grammar == "exact" else "weighted", d_model=self.config.d_model, max_tokens=64
        )
        network = EMLInitialiser(config, torch.Generator().manual_seed(0)).to(self.device).eval()
        generator = torch.Generator().manual_seed(0)
        x = torch.rand(64, 2, generator=generator, dtype=torch.float64)
        y = torch.randn(64, generator=generator, dtype=torch.float64)

        def work() -> float:
            return float(len(network.propose(x, y, 256, generator=torch.Generator().manual_seed(1))))

        return self.fastest(work)

    def gumbel(self) -> float:
        """Steps times restarts of Gumbel-hard training on a target that no program fits."""
        generator = torch.Generator().manual_seed(0)
        topology, restarts, steps = full_tree(5, 2).to(self.device), 64 * self._more, 20
        x = 0.5 + torch.rand(64, 2, generator=generator, dtype=torch.float64)
        y = torch.randn(64, generator=generator, dtype=torch.float64)
        logits = torch.zeros(restarts, topology.n_slots, topology.n_choices, dtype=torch.float64)
        logits, x, y = (tensor.to(self.device) for tensor in (logits, x, y))

        def work() -> float:
            same = torch.Generator().manual_seed(1)
            result = train_gumbel_hard(topology, logits, x, y, GumbelConfig(steps=steps), generator=same)
            return float(result.steps * restarts)

        return self.fastest(work)


@dataclass(frozen=True)
class Measurement:
    """One line of the table."""

    name: str
    """What is measured."""
    unit: str
    """Of what there are so many a second."""
    rate: Callable[[Speeds], float]
    """Measures it."""


def measurements() -> tuple[Measurement, ...]:
    """All of them, in the order of the table; the first word of a name says which part it is of."""

    def both(name: str, unit: str, rate: Callable[[Speeds, str], float]) -> list[Measurement]:
        return [Measurement(name.format(grammar), unit, methodcaller(rate.__name__, grammar)) for grammar in GRAMMARS]

    return (
        Measurement("evaluator, certified mask", "node-points", Speeds.certified),
        Measurement("evaluator, finite mask", "node-points", Speeds.finite),
        Measurement("evaluator, plain gather loop", "node-points", Speeds.plain),
        *both("stream {}", "examples", Speeds.stream),
        *both("stream {}, workers", "examples", Speeds.stream_with_workers),
        *both("training {}", "examples", Speeds.training),
        *both("proposals {}", "candidates", Speeds.proposals),
        Measurement("gumbel-hard", "steps x restarts", Speeds.gumbel),
    )


def real_programs(n_programs: int, n_points: int) -> tuple[Programs, Float64[Tensor, "p v"]]:
    """Different random programs that are real, valid and moderate at every node and point, and the points."""
    generator = torch.Generator().manual_seed(0)
    x = 0.8 + torch.rand(n_points, 3, generator=generator, dtype=torch.float64)
    kept: list[Programs] = []
    while sum(map(len, kept)) < n_programs:
        sizes = torch.randint(1, 16, (8 * n_programs,), generator=generator)
        tokens = trees_by_size(sizes, torch.ones(len(sizes), 3, dtype=torch.bool), 0.3, generator)
        tokens = torch.unique(torch.nn.functional.pad(tokens, (0, 31 - tokens.shape[1])), dim=0)
        programs = programs_from_tokens(tokens, torch.zeros(tokens.shape, dtype=torch.float64), 3)
        kept.append(programs[_really_real(programs, x)])
    everything = Programs.cat(kept)
    return everything[torch.randperm(len(everything), generator=generator)[:n_programs]], x


def _really_real(programs: Programs, x: Tensor) -> Bool[Tensor, " b"]:
    """A logarithm of a negative number makes NaN here; what is larger may need scaled numbers."""
    valid = evaluate(programs, x).valid.all(-1)
    nodes = _plain_nodes(programs, x)[1 + programs.n_variables :].abs()
    missing = torch.arange(len(nodes), device=x.device)[:, None] >= programs.n_nodes
    return valid & ((nodes.amax(-1) < _MODERATE) | missing).all(0)


def plain_values(programs: Programs, x: Float64[Tensor, "p v"]) -> Float64[Tensor, "b p"]:
    """Exact trees the simple way: all programs run through all node places, one gather for each operand."""
    rows = torch.arange(len(programs), device=x.device)
    return _plain_nodes(programs, x)[programs.source[:, -1, 0], rows]


def _plain_nodes(programs: Programs, x: Float64[Tensor, "p v"]) -> Float64[Tensor, "s b p"]:
    n, v = len(programs), programs.n_variables
    buffer = x.new_ones(1 + v + programs.max_nodes, n, len(x))
    buffer[1 : 1 + v] = x.T[:, None]
    rows = torch.arange(n, device=x.device)
    for node in range(programs.max_nodes):
        left, right = (buffer[programs.source[:, 2 * node + side, 0], rows] for side in (0, 1))
        buffer[1 + v + node] = torch.exp(left) - torch.log(right)
    return buffer
