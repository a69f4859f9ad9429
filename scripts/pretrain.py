"""Pretrain an initialiser on the endless stream of random programs.

One device (CUDA if there is one), an hour, exact grammar:

    python scripts/pretrain.py --out runs/exact --minutes 60 --stream.grammar exact

Interrupted, or to go on for longer (the learning rate falls at the end of the budget; a run that gets a larger one goes
on from before its fall), to a total of two hours or for one more:

    python scripts/pretrain.py --out runs/exact --minutes 120 --stream.grammar exact --resume
    python scripts/pretrain.py --out runs/exact --more-minutes 60 --stream.grammar exact --resume

A larger network in large minibatches, on a GPU:

    python scripts/pretrain.py --out runs/base --minutes 60 --model-size base --stream.batch-size 2048

Two processes, each with its own stream (gloo on the CPU, nccl on CUDA):

    torchrun --nproc-per-node 2 scripts/pretrain.py --out runs/weighted --minutes 60 --stream.grammar weighted

A smoke test of a few seconds on a CPU:

    python scripts/pretrain.py --out runs/smoke --steps 20 --model.d-model 32 --model.n-heads 2 \\
        --stream.batch-size 16 --stream.pool-batches 2 --stream.max-points 32

The averaged weights are exported to OUT/export, for `EMLInitialiser.load("local-dir:OUT/export")`.
"""

import contextlib
import dataclasses
import io
import json
import os
import sys
from typing import TYPE_CHECKING, Literal

# The configuration needs torch, which takes seconds to import: until `run` is reached, Ctrl-C shows a traceback.
from emlinit.generator.errors import UserError
from emlinit.scripts.running import print_stopped, run

if TYPE_CHECKING:
    from emlinit.model.pretraining.config import PretrainConfig


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, train, print the last metrics as JSON; returns the exit code."""
    return run(lambda: _pretrain(parse(arguments)))


def _pretrain(config: "PretrainConfig") -> int:
    from emlinit.model.pretraining.config import STATE_FILE
    from emlinit.model.pretraining.run import pretrain

    try:
        metrics = pretrain(config)
    except KeyboardInterrupt as stop:  # the second one, once the loop runs: the first lets it save and end
        if not (config.out / STATE_FILE).exists():
            return print_stopped(stop, ", no state was saved yet")
        return print_stopped(stop, f"; --resume goes on from the last state in '{config.out}'")
    if metrics:
        print(json.dumps(metrics))
    return 0


def parse(arguments: list[str] | None) -> "PretrainConfig":
    """The configuration that a command line describes.

    Raises:
        UserError: an argument is unknown or of the wrong type.
        SystemExit: help was asked for.
    """
    import tyro

    from emlinit.model.pretraining.config import PretrainConfig
    from emlinit.model.sizes import MODEL_SIZES, MOST_POINTS

    @dataclasses.dataclass(frozen=True)
    class CommandLine(PretrainConfig):
        """A pretraining run. The grammar is the stream's."""

        model_size: Literal["small", "base", "large"] = "small"
        """About 3, 10 or 30 million parameters: the architecture, and of base and large --stream.max-points 256, from which
        the options below may differ."""

    said = io.StringIO()
    arguments = sys.argv[1:] if arguments is None else arguments
    size = _value_of("--model-size", arguments)
    default = CommandLine()
    if size in MODEL_SIZES:
        stream = dataclasses.replace(default.stream, max_points=MOST_POINTS[size])
        default = CommandLine(model_size=size, model=MODEL_SIZES[size], stream=stream)  # type: ignore[arg-type]
    try:
        with contextlib.redirect_stderr(said):
            given = tyro.cli(CommandLine, args=arguments, default=default, description=__doc__)
    except SystemExit as leaving:
        if not leaving.code:
            raise
        raise UserError(f"{_first_paragraph(said.getvalue())} (see --help)") from None
    return PretrainConfig(**{field.name: getattr(given, field.name) for field in dataclasses.fields(PretrainConfig)})


def _value_of(option: str, arguments: list[str]) -> str:
    """What an option is given on a command line that is not parsed yet; empty if it is not there."""
    for word, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if word.replace("_", "-").split("=")[0] == option:
            return word.partition("=")[2] or following
    return ""


def _first_paragraph(boxed: str) -> str:
    """What tyro says first, without its frame and title."""
    lines = [line.strip("╭╮╰╯│─ ") for line in boxed.splitlines()[1:]]
    return " ".join(lines[: lines.index("")] if "" in lines else lines)


if __name__ == "__main__":
    code = main()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        # Everything is written. A thread of gloo that outlives its group would abort the process while the interpreter is
        # taken down (pytorch/pytorch pull request 179291), and torchrun would report a run that succeeded as failed.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
