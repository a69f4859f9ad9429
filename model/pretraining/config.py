"""What a pretraining run is made of; the command line of scripts/pretrain.py is made from these fields."""

import math
import os
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import torch

from emlinit.generator.corpus.config import StreamConfig, check_ranges, stream_ranges
from emlinit.generator.corpus.frozen import HELD_OUT_SEED
from emlinit.generator.errors import UserError
from emlinit.generator.foreign import kind_of_path, shown
from emlinit.generator.grammar import MAX_VARIABLES
from emlinit.model.initialiser import InitialiserConfig
from emlinit.model.pretraining.optimisation import OptimiserConfig

STATE_FILE = "state.safetensors"
"""Where a run's folder keeps what resuming needs."""
WARM_STATE_FILE = "state-before-cooldown.safetensors"
"""The same as it was when the learning rate began to fall: from there a run goes on that gets a larger budget."""


@dataclass(frozen=True)
class PretrainConfig:
    """A pretraining run. The grammar is the stream's."""

    out: Path = Path("runs/exact")
    """Folder of the run."""
    minutes: float | None = None
    """Budget in minutes of training time; resumed runs go on counting."""
    more_minutes: float | None = None
    """Budget in minutes from here on, whatever a resumed run has used before."""
    steps: int | None = None
    """Budget in steps, over all sessions; of several budgets the run ends at whichever comes first."""
    cooldown: float = 0.2
    """Share of the budget, at its end, over which the learning rate falls; before it is constant. A run that is resumed with
    a larger budget goes on from before its cool-down. 0 never lets it fall."""
    seed: int = 0
    """Decides the first weights and every example."""
    init_from: str | None = None
    """Checkpoint whose weights a new run starts from, as in `builtin:exact`; its architecture is used."""
    resume: bool = False
    """Go on with the run in `out`."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train; auto takes CUDA if there is one."""
    precision: Literal["auto", "bfloat16", "float32"] = "auto"
    """Precision of the matrix products; auto takes bfloat16 on CUDA and on CPUs that have it."""
    micro_batch_size: int = 0
    """Examples that go through the network at once; a larger minibatch goes in parts, whose gradients are added up to that
    of the whole. 0 takes all at once: lower it where the memory does not do."""
    buckets: int | None = None
    """Sizes a doubling (1, 2, 4 or 8) that labels, padded, and points, of which the last are left out, are brought to,
    so that few shapes occur; 0 leaves them as they are. None is 1 with --compile, else 4 on CUDA and 0 on the CPU."""
    compile: bool = False
    """Let torch.compile fuse the network's operations: each shape takes tens of seconds once, so for long runs."""
    threads: int = 1
    """CPU threads of each process; 0 leaves torch's choice."""
    checkpoint_seconds: float = 120.0
    """Interval between resumable states."""
    log_seconds: float = 15.0
    """Interval between lines of metrics.jsonl."""
    held_out_seconds: float = 300.0
    """Interval between held-out measurements, each of which also exports the averaged weights."""
    held_out_batches: int = 16
    """Held-out minibatches, at most one pool of the stream, and 16 of 128 examples whatever a pool has."""
    shard_megabytes: float = 0.0
    """Export the weights in files of at most so many megabytes, with an index; 0 writes one file."""
    tensorboard: bool = False
    """Also write TensorBoard events to the run's folder (needs the `tensorboard` extra)."""
    stream: StreamConfig = field(default_factory=StreamConfig)
    """The examples: grammar, law and size of the programs, points, noise, a stored corpus."""
    model: InitialiserConfig = field(default_factory=InitialiserConfig)
    """The architecture; grammar and max_tokens are taken from the stream."""
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    """Optimiser and schedule."""


def check(config: PretrainConfig) -> None:
    """Refuse what cannot work before anything is built.

    Raises:
        UserError: says which option and what it should be.
    """
    if config.minutes is None and config.more_minutes is None and config.steps is None:
        raise UserError("a run needs a budget: --minutes M, --more-minutes M, --steps N or several of them")
    _check_place(config.out)
    state = config.out / STATE_FILE
    if config.resume and kind_of_path(state) != "file":
        raise UserError(f"no training state at '{state}': start a new run or name the folder of an old one")
    if not config.resume and kind_of_path(state) != "missing":
        raise UserError(f"'{config.out}' already holds a run: add --resume to go on, or name another --out")
    if config.device == "cuda" and not torch.cuda.is_available():
        raise UserError("no CUDA device is available here: use --device cpu or auto")
    stream, model, optimiser = config.stream, config.model, config.optimiser
    if config.tensorboard and find_spec("tensorboard") is None:
        raise UserError("--tensorboard needs a package that is not installed: pip install 'emlinit[tensorboard]'")
    ranges: dict[str, tuple[int | float, ...]] = {
        "--minutes": (0, config.minutes or 0, math.inf),
        "--more-minutes": (0, config.more_minutes or 0, math.inf),
        "--steps": (0, config.steps or 0, math.inf),
        "--cooldown": (0, config.cooldown, 1),
        "--micro-batch-size": (0, config.micro_batch_size, math.inf),
        "--shard-megabytes": (0, config.shard_megabytes, math.inf),
        "--optimiser.z-loss": (0, optimiser.z_loss, math.inf),
        "--seed": (0, config.seed, HELD_OUT_SEED - 1),  # that seed's pool is the held-out one
        "--held-out-batches": (1, config.held_out_batches, math.inf),
        "--model.n-variables": (MAX_VARIABLES, model.n_variables, MAX_VARIABLES),
        "--optimiser.ema-decay": (0, optimiser.ema_decay, 1),
    }
    ranges |= {f"--stream.{name.replace('_', '-')}": bounds for name, bounds in stream_ranges(stream).items()}
    check_ranges(ranges)
    if config.buckets not in (None, 0, 1, 2, 4, 8):
        raise UserError(f"--buckets should be 0, 1, 2, 4 or 8, not {config.buckets}")
    if model.grammar not in (InitialiserConfig.grammar, stream.grammar):
        raise UserError(f"--model.grammar is taken from the stream: use --stream.grammar {model.grammar}")
    if model.max_tokens not in (InitialiserConfig.max_tokens, stream.max_tokens):
        raise UserError(f"--model.max-tokens is taken from the stream: use --stream.max-tokens {model.max_tokens}")


def _check_place(out: Path) -> None:
    """Refuse a folder that cannot be made or written, an hour before that would show."""
    place = out
    while kind_of_path(place) == "missing" and place != place.parent:
        place = place.parent
    if kind_of_path(place) != "folder":
        raise UserError(f"--out {shown(out)} cannot be a folder, since '{place}' is a file: name another one")
    if not os.access(place, os.W_OK | os.X_OK):
        raise UserError(f"--out {shown(out)} cannot be written, there is no permission for '{place}': name another one")
