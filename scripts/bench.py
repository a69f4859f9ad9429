"""How fast the evaluator is: real node-points a second on one core, mask included, over a batch of different programs.

    python scripts/bench.py

Programs are random trees of 1 to 15 nodes that are real and valid at all points, no two alike; each has its own points.
Time is CPU time of this one thread, so that a busy machine does not change the figure much. The plain loop beside it
evaluates the same batch node by node with a PyTorch gather and no mask at all.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

# Torch takes seconds to import: until `run` is reached, Ctrl-C shows a traceback.
from emlinit.scripts.arguments import Parser, count_argument
from emlinit.scripts.running import print_remark, run

if TYPE_CHECKING:
    from torch import Tensor

    from emlinit.generator.program import Programs


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line of `bench`."""
    parser = Parser("Speed of the evaluator on one core.")
    parser.add_argument(
        "--programs", type=count_argument, default=2000, metavar="N", help="different programs in the batch"
    )
    parser.add_argument("--points", type=count_argument, default=256, metavar="N", help="points of each program")
    parser.add_argument(
        "--repeats", type=count_argument, default=7, metavar="N", help="runs, of which the fastest counts"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    return run(lambda: _bench(parse(argv)))


def _bench(arguments: argparse.Namespace) -> int:
    import torch

    from emlinit.generator.corpus.trees import trees_by_size
    from emlinit.generator.evaluate import evaluate
    from emlinit.generator.program import Programs, programs_from_tokens

    n_programs, n_points, repeats = arguments.programs, arguments.points, arguments.repeats
    torch.set_num_threads(1)
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
    programs = everything[torch.randperm(len(everything), generator=generator)[:n_programs]]
    node_points: int = int(programs.n_nodes.sum()) * n_points

    def speed(work: Callable[[], object]) -> float:
        """Million node-points a second of the fastest run."""
        times = []
        for _ in range(repeats):
            began = time.process_time()
            work()
            times.append(time.process_time() - began)
        return node_points / min(times) / 1e6

    print(
        f"{len(programs)} programs, {float(programs.n_nodes.double().mean()):.1f} nodes on average, {n_points} points"
    )
    share = 100 * float(evaluate(programs, x).valid.double().mean())
    print(
        f"certified mask (default)    {speed(lambda: evaluate(programs, x)):6.1f} million node-points/s, {share:.1f} % valid"
    )
    print(f"finite mask                 {speed(lambda: evaluate(programs, x, rtol=None)):6.1f}")
    print(f"plain gather loop, no mask  {speed(lambda: _plain(programs, x)):6.1f}")
    print_remark(f"torch {torch.__version__}, one thread")
    return 0


def _really_real(programs: "Programs", x: "Tensor") -> "Tensor":
    """Programs that are real and valid at every node and point: a logarithm of a negative number makes NaN here."""
    import torch

    from emlinit.generator.evaluate import evaluate

    valid = evaluate(programs, x).valid.all(-1)
    return valid & torch.isfinite(_plain(programs, x)).all(-1)


def _plain(programs: "Programs", x: "Tensor") -> "Tensor":
    """Exact trees the simple way: all programs run through all node places, one gather for each operand."""
    import torch

    n, v = len(programs), programs.n_variables
    buffer = x.new_ones(1 + v + programs.max_nodes, n, len(x))
    buffer[1 : 1 + v] = x.T[:, None]
    rows = torch.arange(n)
    for node in range(programs.max_nodes):
        left, right = (buffer[programs.source[:, 2 * node + side, 0], rows] for side in (0, 1))
        buffer[1 + v + node] = torch.exp(left) - torch.log(right)
    return buffer[programs.source[:, -1, 0], rows]


if __name__ == "__main__":
    sys.exit(main())
