"""The pretraining loop: an endless stream of fresh examples, resumable at any moment.

A run lives in one folder:

    state.safetensors    weights, average, optimiser and stream position; rewritten atomically every interval
    state-before-cooldown.safetensors    the same, when the learning rate began to fall
    metrics.jsonl        one line a log interval; held-out figures where they were taken
    export/              `model.safetensors` and `config.json` of the averaged weights, for `EMLInitialiser.load`

The stream's examples depend on seed, rank and position only, and on the stored corpus if there is one; nothing else
here draws random numbers. So a resumed run with a budget in steps equals an uninterrupted one bit for bit, and does so
with a larger budget as well: the learning rate falls at the end of the budget only, and a run whose fall turns out to
have come too early goes on from before it. Under torchrun each rank has its own stream.

Legend: b batch, l token position.
"""

import dataclasses
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from textwrap import shorten
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from emlinit.generator.corpus.config import CORPUS_VERSION, StreamConfig, programs_law
from emlinit.generator.corpus.examples import Batch
from emlinit.generator.corpus.frozen import training_exclusions
from emlinit.generator.corpus.rounds import worker_deaths_told
from emlinit.generator.corpus.stream import ExampleStream
from emlinit.generator.errors import UserError
from emlinit.generator.foreign import kind_of_path, reason, shown
from emlinit.generator.grammar import PAD
from emlinit.model.initialiser import Scores
from emlinit.model.pretraining.buckets import bucketed, parts_of
from emlinit.model.pretraining.compilation import compiled
from emlinit.model.pretraining.config import STATE_FILE, WARM_STATE_FILE, PretrainConfig, check
from emlinit.model.pretraining.distributed import World, joined_world
from emlinit.model.pretraining.metrics import METRICS_FILE, MetricsLog, Window, drop_later_lines
from emlinit.model.pretraining.optimisation import OptimiserConfig, WeightAverage, build_optimiser
from emlinit.model.pretraining.resumption import check_resumable, moments_to_load
from emlinit.model.pretraining.schedule import is_cooling, learning_rate_at
from emlinit.model.pretraining.scores import Scorer
from emlinit.model.pretraining.stages import first_model
from emlinit.model.pretraining.state import load_state, save_state
from emlinit.model.weights.saving import save_weights

EXPORT_FOLDER = "export"


def pretrain(config: PretrainConfig) -> dict[str, Any]:
    """Train until the budget is used or the process is asked to stop (SIGINT, SIGTERM); returns the last metrics.

    Raises:
        UserError: an option out of its range, no budget, a folder that already holds a run (without `resume`) or holds
            none (with it), a run made with another configuration, a state that is not one of such a run, a folder that
            cannot be written (any more), or a worker process that was killed. What was saved before stays.
    """
    check(config)
    if config.threads > 0:
        torch.set_num_threads(config.threads)
    try:
        with joined_world(config.device) as world, worker_deaths_told():
            return _trained(config, world)
    except OSError as problem:
        raise UserError(
            f"the run in {shown(config.out)} cannot be written ({reason(problem)}): make room or name another --out"
        ) from problem


def _trained(config: PretrainConfig, world: World) -> dict[str, Any]:
    """A whole run, of which nothing is left on return."""
    run = PretrainingRun(config, world)
    try:
        run.start()
        return run.train()
    finally:
        run.stream.close()


class PretrainingRun:
    """One process's share of a run."""

    def __init__(self, config: PretrainConfig, world: World) -> None:
        """Build model, optimiser, stream and held-out set; touches no file."""
        self.config, self.world = config, world
        model, self.stages_before = first_model(config)
        self.model = model.to(world.device)
        self.parallel: torch.nn.Module = self.model
        if world.size > 1:
            self.parallel = DistributedDataParallel(self.model)
        self.network: Callable[..., Any] = compiled(self.parallel, world.device) if config.compile else self.parallel
        """What is called: the model, distributed and compiled if wanted."""
        self.optimiser = build_optimiser(self.model, config.optimiser)
        self.average = WeightAverage(self.model.named_parameters(), config.optimiser.ema_decay)
        batches, excluded = training_exclusions(_held_out_stream(config.stream))
        self.held_out = [batch.to(world.device) for batch in batches[: config.held_out_batches]]
        self.stream = ExampleStream(
            config.stream,
            seed=config.seed,
            rank=world.rank,
            n_ranks=world.size,
            excluded_keys=excluded,
            device=world.device,
        )
        self.score = Scorer(config.precision, world.device, config.optimiser.z_loss)
        self.buckets = config.buckets
        if self.buckets is None:
            self.buckets = 1 if config.compile else 4 if world.device.type == "cuda" else 0
        self.log = MetricsLog(config.out, config.tensorboard)
        self.step, self.examples, self.skipped, self.seconds = 0, 0, 0, 0.0
        self.cooling = False
        """Whether the learning rate has begun to fall."""
        self._seconds_before = 0.0
        self.last_metrics: dict[str, Any] = {}
        self._stop = False

    # ---- one step ----

    def progress(self) -> float:
        """Share of the budget used, 0..1, the same on all ranks."""
        shares = [0.0]
        if self.config.steps is not None:
            shares.append(self.step / max(1, self.config.steps))
        if self.config.minutes is not None:
            shares.append(self.seconds / (60 * self.config.minutes) if self.config.minutes > 0 else 1.0)
        if self.config.more_minutes is not None:
            seconds = self.seconds - self._seconds_before
            shares.append(seconds / (60 * self.config.more_minutes) if self.config.more_minutes > 0 else 1.0)
        return self.world.agree(min(1.0, max(shares)))

    def train_step(self, batch: Batch, progress: float) -> tuple[Scores, Tensor]:
        """One update; a gradient that is not finite is counted and skipped. Returns scores and gradient norm."""
        self.parallel.train()
        self.cooling = is_cooling(progress, self.config.cooldown)
        rate = learning_rate_at(self.step, progress, self.config.cooldown, self.config.optimiser)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad(set_to_none=True)
        scores = self._backward(batch)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.optimiser.max_gradient_norm)
        if bool(torch.isfinite(norm)):
            self.optimiser.step()
            self.average.update(self.model.named_parameters())
        else:
            self.skipped += 1
        self.step += 1
        self.examples += len(batch) * self.world.size
        return scores, norm

    def _backward(self, batch: Batch) -> Scores:
        """Set the gradients of a minibatch's objective, which is a mean over its tokens; returns its scores."""
        parts = parts_of(batch, self.config.micro_batch_size)
        n_tokens = (batch.tokens != PAD).sum()
        total: Scores | None = None
        for number, part in enumerate(parts):
            scores = self.score(self.network, bucketed(part, self.buckets or 0, self.model.config.max_tokens))
            if len(parts) > 1:
                share = (part.tokens != PAD).sum() / n_tokens
                scores = dataclasses.replace(scores, loss=scores.loss * share, objective=scores.objective * share)
            with nullcontext() if number == len(parts) - 1 else self._without_exchange():
                torch.autograd.backward(scores.objective)
            total = scores if total is None else total + scores
        assert total is not None
        return total

    def _without_exchange(self) -> AbstractContextManager[None]:
        """Inside, gradients are added up on each rank alone."""
        if isinstance(self.parallel, DistributedDataParallel):
            return self.parallel.no_sync()
        return nullcontext()

    # ---- the loop ----

    def train(self) -> dict[str, Any]:
        """Run until the budget is used or a signal comes; the state is saved either way."""
        window = Window()
        now = time.monotonic()
        last_log = last_save = last_held_out = now
        bar = tqdm(
            disable=None if self.world.is_first else True, unit=" examples", initial=self.examples, file=sys.stderr
        )
        with bar, self.log, self._signals():
            while (progress := self.progress()) < 1 and not self.world.largest(float(self._stop)):
                if is_cooling(progress, self.config.cooldown) and not self.cooling:
                    self.save(WARM_STATE_FILE)
                begin = time.monotonic()
                batch = next(self.stream)
                window.stream_seconds += time.monotonic() - begin
                scores, norm = self.train_step(batch, progress)
                window.add(scores, norm, len(batch) * self.world.size)
                bar.update(len(batch) * self.world.size)
                self.seconds += time.monotonic() - now
                now = time.monotonic()
                if now - last_log >= self.config.log_seconds:
                    self._log(window.metrics(now - last_log))
                    bar.set_postfix(loss=f"{self.last_metrics['loss']:.3f}")
                    window, last_log = Window(), now
                if self.world.agree(now - last_held_out) >= self.config.held_out_seconds:
                    self._log(self.measure())
                    self.export()
                    last_held_out = time.monotonic()
                if self.world.agree(now - last_save) >= self.config.checkpoint_seconds:
                    self.save()
                    last_save = time.monotonic()
            if window.n_batches:
                self._log(window.metrics(time.monotonic() - last_log))
            self.save()
            self._log(self.measure())
            self.export()
        return self.last_metrics

    def measure(self) -> dict[str, Any]:
        """Held-out figures of the averaged weights (rank 0)."""
        return self.score.held_out(self.model, self.average.average, self.held_out) if self.world.is_first else {}

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Let SIGINT and SIGTERM end the loop after the present step; a second one acts as usual."""

        def stop(number: int, _frame: object) -> None:
            self._stop = True
            signal.signal(number, before[signal.Signals(number)])

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    # ---- files ----

    def start(self) -> None:
        """Make the run's folder, or go on with the run in it."""
        if self.config.resume:
            self._load(load_state(self.config.out / STATE_FILE))
            before = self.config.out / WARM_STATE_FILE
            too_early = self.cooling and not is_cooling(self.progress(), self.config.cooldown)
            if too_early and kind_of_path(before) != "missing":
                self._load(load_state(before))
        elif self.world.is_first:
            self.config.out.mkdir(parents=True, exist_ok=True)
            (self.config.out / METRICS_FILE).unlink(missing_ok=True)

    def save(self, name: str = STATE_FILE) -> None:
        """Write the resumable state (rank 0; all ranks must call it)."""
        streams = self.world.gather(self.stream.state_dict())
        if self.world.is_first:
            save_state(self._state(streams), self.config.out / name)
            if name == STATE_FILE and not self.cooling:  # the run has gone on from before its cool-down
                (self.config.out / WARM_STATE_FILE).unlink(missing_ok=True)

    def _state(self, streams: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "config": self._fixed_config(),
            "world_size": self.world.size,
            "counters": [self.step, self.examples, self.skipped, self.seconds],
            "cooling": self.cooling,
            "model": dict(self.model.named_parameters()),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "streams": streams,
        }

    def _load(self, state: Any) -> None:
        config = state.get("config") if isinstance(state, dict) else None
        if not isinstance(config, dict) or not isinstance(config.get("stream"), dict):
            raise self._foreign("it says nothing of its configuration")
        before = {"corpus_version": 1, **config}  # see CORPUS_VERSION
        before["stream"] = programs_law({**dataclasses.asdict(StreamConfig()), **before["stream"]})
        if isinstance(before.get("optimiser"), dict):
            before["optimiser"] = {**dataclasses.asdict(OptimiserConfig()), **before["optimiser"]}
        for name, value in self._fixed_config().items():
            if before.get(name) != value:
                had = shorten(str(before.get(name)), 1000)
                raise UserError(f"the run in '{self.config.out}' has {name} {had}, not {value}")
        if state.get("world_size") != self.world.size:
            had = shown(state.get("world_size"))
            raise UserError(f"the run in '{self.config.out}' has {had} processes, not {self.world.size}")
        own = self._state([self.stream.state_dict()])
        try:
            check_resumable(state, own, self.world.size, self.config.stream.pool_batches)
            for name, part in self.optimiser.parts.items():
                parameters = [parameter for group in part.param_groups for parameter in group["params"]]
                moments = moments_to_load(state["optimiser"][name], own["optimiser"][name], parameters, name)
                state["optimiser"][name] = moments
        except ValueError as problem:
            raise self._foreign(reason(problem)) from problem
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(state["model"][name])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.stream.load_state_dict(state["streams"][self.world.rank])
        self.step, self.examples, self.skipped, self.seconds = state["counters"]
        self.cooling, self._seconds_before = state.get("cooling", False), self.seconds
        if self.world.is_first:
            drop_later_lines(self.config.out, self.step)

    def _foreign(self, why: str) -> UserError:
        return UserError(
            f"'{self.config.out / STATE_FILE}' is not the state of such a run ({why}): remove it to start over"
        )

    def _fixed_config(self) -> dict[str, Any]:
        """What must not change when a run is resumed: budget, intervals and place may."""
        return {
            "seed": self.config.seed,
            "corpus_version": CORPUS_VERSION,
            "stream": programs_law(dataclasses.asdict(self.config.stream)),
            "model": dataclasses.asdict(self.model.config),
            "optimiser": dataclasses.asdict(self.config.optimiser),
        }

    def export(self) -> None:
        """Write the averaged weights with everything that says how they came about (rank 0)."""
        if not self.world.is_first:
            return
        about = {
            "pretraining": {**dataclasses.asdict(self.config), "out": str(self.config.out)},
            "reached": {**self._counters(), **self.last_held_out()},
            "corpus": {"version": CORPUS_VERSION, **self._stored_corpus()},
            "stages_before": self.stages_before,
        }
        architecture = dataclasses.asdict(self.model.config)
        weights = self.average.average if self.config.optimiser.ema_decay > 0 else dict(self.model.named_parameters())
        most_bytes = int(self.config.shard_megabytes * 1e6) or None
        save_weights(self.config.out / EXPORT_FOLDER, weights, architecture, about, most_bytes=most_bytes)

    def _stored_corpus(self) -> dict[str, Any]:
        stored = self.stream.stored
        return {} if stored is None else {"programs": len(stored), "sha256": stored.sha256}

    def last_held_out(self) -> dict[str, Any]:
        """The newest held-out figures."""
        return {name: value for name, value in self.last_metrics.items() if name.startswith("held_out")}

    def _counters(self) -> dict[str, Any]:
        return {"step": self.step, "examples": self.examples, "skipped": self.skipped, "minutes": self.seconds / 60}

    def _log(self, metrics: dict[str, Any]) -> None:
        if not self.world.is_first:
            return
        self.last_metrics = {**self.last_metrics, **metrics}
        line = {**self._counters(), **metrics, "learning_rate": self.optimiser.param_groups[0]["lr"]}
        self.log.append(line)


def _held_out_stream(stream: StreamConfig) -> StreamConfig:
    """The stream whose first pool is held out: no larger than by default, so that runs in large minibatches are measured on
    the same examples, and do not wait for tens of thousands of them."""
    return dataclasses.replace(
        stream,
        batch_size=min(stream.batch_size, StreamConfig.batch_size),
        pool_batches=min(stream.pool_batches, StreamConfig.pool_batches),
    )
