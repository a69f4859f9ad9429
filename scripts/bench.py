"""How fast evaluator, stream, training, proposals and Gumbel-hard training are; on a GPU beside one core of the CPU.

    python scripts/bench.py
    python scripts/bench.py --device cpu --only evaluator
    python scripts/bench.py --device cuda --workers 12 --json

Wall-clock rates: the fastest of some repetitions, after one that does not count. What is timed is said in
`benchmarks/speed.py`; what the machine lacks is skipped, and said.
Exit code: 0 measured, 1 something failed (the line says why), 2 the input has to be mended.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from textwrap import shorten
from typing import TYPE_CHECKING

from emlinit.generator.errors import UserError

# Torch takes seconds to import: until `run` is reached, Ctrl-C shows a traceback.
from emlinit.scripts.arguments import Parser, count_argument
from emlinit.scripts.running import print_remark, run

if TYPE_CHECKING:
    import torch

PARTS = ("evaluator", "stream", "training", "proposals", "gumbel-hard")
"""First words of the names of measurements."""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line of `bench`."""
    parser = Parser("Speed of the parts, on the CPU and on a GPU if there is one.")
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="cuda is measured beside the CPU"
    )
    parser.add_argument(
        "--only", choices=PARTS, nargs="+", metavar="PART", help=f"some of {', '.join(PARTS)} (default: all)"
    )
    parser.add_argument("--programs", type=count_argument, default=2000, metavar="N", help="of the evaluator's batch")
    parser.add_argument("--points", type=count_argument, default=256, metavar="N", help="points of each program")
    parser.add_argument("--batch-size", type=count_argument, default=128, metavar="N", help="of stream and training")
    parser.add_argument("--pool-batches", type=count_argument, default=16, metavar="N", help="minibatches of a pool")
    parser.add_argument(
        "--d-model", type=count_argument, metavar="N", help="width of the network (default: pretrain's)"
    )
    parser.add_argument(
        "--workers", type=count_argument, metavar="N", help="of the stream with workers (default: all cores but one)"
    )
    parser.add_argument(
        "--repeats", type=count_argument, default=3, metavar="N", help="runs, of which the fastest counts"
    )
    parser.add_argument("--threads", type=count_argument, default=1, metavar="N", help="CPU threads")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    return run(lambda: _bench(parse(argv)))


def _bench(arguments: argparse.Namespace) -> int:
    import torch

    from emlinit.benchmarks.speed import Measurement, SpeedConfig, measurements

    on_cuda = arguments.device == "cuda" or (arguments.device == "auto" and torch.cuda.is_available())
    if on_cuda and not torch.cuda.is_available():
        raise UserError("no CUDA device is available here: use --device cpu or auto")
    torch.set_num_threads(arguments.threads)
    sizes = {name: getattr(arguments, name) for name in ("programs", "points", "repeats", "batch_size", "pool_batches")}
    sizes["workers"] = arguments.workers or max((os.cpu_count() or 1) - 1, 1)
    if arguments.d_model is not None:
        sizes["d_model"] = arguments.d_model
    devices = [torch.device(name) for name in (("cpu", "cuda") if on_cuda else ("cpu",))]
    names = [torch.cuda.get_device_name() if device.type == "cuda" else "CPU" for device in devices]
    wanted = [m for m in measurements() if m.name.split()[0].strip(",") in (arguments.only or PARTS)]
    if not arguments.json:
        print(f"{'a second':30}" + "".join(f"{name[:18]:>20}" for name in names) + (f"{'ratio':>8}" if on_cuda else ""))
    found = []

    def measured(measurement: Measurement, device: "torch.device") -> float | str:
        from emlinit.benchmarks.speed import Missing, Speeds

        try:
            return measurement.rate(Speeds(SpeedConfig(**sizes), device))
        except Missing as lack:
            return f"skipped: {lack}"
        except RuntimeError as problem:  # the others are worth having all the same
            return f"failed: {shorten(str(problem), 200)}"

    for measurement in wanted:
        rates = [measured(measurement, device) for device in devices]
        by_device = {device.type: rate for device, rate in zip(devices, rates, strict=True)}
        found.append({"name": measurement.name, "unit": measurement.unit, **by_device})
        if not arguments.json:
            print(_line(measurement.name, measurement.unit, rates), flush=True)
    about = {"torch": torch.__version__, "threads": arguments.threads, "devices": names, **sizes}
    if arguments.json:
        print(json.dumps({**about, "measurements": found}))
    else:
        print_remark(", ".join(f"{name} {value}" for name, value in about.items() if name != "devices"))
    return 1 if any(str(rate).startswith("failed") for line in found for rate in line.values()) else 0


def _line(name: str, unit: str, rates: Sequence[float | str]) -> str:
    numbers = [rate for rate in rates if isinstance(rate, float)]
    cells = "".join(f"{_shown(rate):>20}" if isinstance(rate, float) else f"{'-':>20}" for rate in rates)
    ratio = f"{numbers[1] / numbers[0]:8.1f}" if len(numbers) == 2 else " " * 8 * (len(rates) - 1)
    why = next((f" ({rate})" for rate in rates if isinstance(rate, str)), "")
    return f"{name:30}{cells}{ratio}  {unit}{why}"


def _shown(rate: float) -> str:
    return f"{rate / 1e6:.1f} million" if rate >= 1e6 else f"{rate:,.0f}"


if __name__ == "__main__":
    sys.exit(main())
