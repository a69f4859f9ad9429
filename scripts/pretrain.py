"""Pretrain an initialiser on the endless stream of random programs.

One device (CUDA if there is one), an hour, exact grammar:

    python scripts/pretrain.py --out runs/exact --minutes 60 --stream.grammar exact

Interrupted, or to go on for longer (the learning rate falls over the whole budget):

    python scripts/pretrain.py --out runs/exact --minutes 120 --stream.grammar exact --resume

Two processes, each with its own stream (gloo on the CPU, nccl on CUDA):

    torchrun --nproc-per-node 2 scripts/pretrain.py --out runs/weighted --minutes 60 --stream.grammar weighted

A smoke test of a few seconds on a CPU:

    python scripts/pretrain.py --out runs/smoke --steps 20 --model.d-model 32 --model.n-heads 2 \\
        --stream.batch-size 16 --stream.pool-batches 2 --stream.max-points 32 --held-out-batches 2

The averaged weights are exported to OUT/export, for `EMLInitialiser.load("local-dir:OUT/export")`.
"""

import json
import sys

import tyro

from emlinit.generator.errors import UserError
from emlinit.model.pretrain import PretrainConfig, pretrain


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, train, print the last metrics as JSON; returns the exit code."""
    config = tyro.cli(PretrainConfig, args=arguments, description=__doc__)
    try:
        metrics = pretrain(config)
    except UserError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    if metrics:
        print(json.dumps(metrics))
    return 0


if __name__ == "__main__":
    sys.exit(main())
