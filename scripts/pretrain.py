"""Pretrain an initialiser on the endless stream of random programs.

One device (CUDA if there is one), an hour, exact grammar:

    python scripts/pretrain.py --out runs/exact --minutes 60 --stream.grammar exact

Interrupted, or to go on for longer (the learning rate falls over the whole budget):

    python scripts/pretrain.py --out runs/exact --minutes 120 --stream.grammar exact --resume

Two processes, each with its own stream (gloo on the CPU, nccl on CUDA):

    torchrun --nproc-per-node 2 scripts/pretrain.py --out runs/weighted --minutes 60 --stream.grammar weighted

A smoke test of a few seconds on a CPU:

    python scripts/pretrain.py --out runs/smoke --steps 20 --model.d-model 32 --model.n-heads 2 \\
        --stream.batch-size 16 --stream.pool-batches 2 --stream.max-points 32

The averaged weights are exported to OUT/export, for `EMLInitialiser.load("local-dir:OUT/export")`.
"""

import contextlib
import io
import json
import os
import sys
from typing import TYPE_CHECKING

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

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(PretrainConfig, args=arguments, description=__doc__)
    except SystemExit as leaving:
        if not leaving.code:
            raise
        raise UserError(f"{_first_paragraph(said.getvalue())} (see --help)") from None


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
