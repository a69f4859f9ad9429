"""How often does one run of Gumbel-hard training find the identical function, by the start that it is given?

    OMP_NUM_THREADS=1 python scripts/basin_study.py          # many small tensors: more threads are slower
    python scripts/basin_study.py --trees 6 --runs 16 --checkpoint local-dir:runs/exact/export
    python scripts/basin_study.py --figure-from results/basin-20260101-000000.json

Prints one table, writes every outcome to a dated JSON file and draws docs/basin.png.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from emlinit.scripts.arguments import Parser, checkpoint_argument, path_argument
from emlinit.scripts.running import note_written, print_remark, run

_EPILOG = """\
starts:
  random       zero logits
  learned      the logits of one proposal of the checkpoint, drawn anew for every run
  likeliest    the logits of its likeliest proposal
  truth ± s    the true tree's logits with Gaussian noise of standard deviation s

columns, in percent of the runs (Wilson intervals of 95 %):
  drawn             the proposal was the identical function before any training
  at the start      the first logits have it as their mode
  ends in it        the last logits have it as their mode
  visits it         the best program on the way was it
  without gradient  ends in it / visits it, same seeds, learning rate 0
  trees             trees that at least one run visited

Runs share nothing: no elites, no memory of what was visited, no proposals ranked by their fit."""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line of `basin_study`."""
    parser = Parser("How often one run of Gumbel-hard training finds the identical function.", _EPILOG)
    parser.add_argument("--suite", choices=("grammar", "paper"), default="grammar", help="frozen trees, or the paper's")
    parser.add_argument("--trees", type=int, default=30, metavar="N", help="trees of each depth")
    parser.add_argument("--runs", type=int, default=16, metavar="N", help="runs of each tree and start")
    parser.add_argument("--steps", type=int, default=100, metavar="N", help="steps of a run")
    parser.add_argument(
        "--depths", type=int, nargs="+", default=[2, 3, 4, 5, 6], metavar="D", help="depths of the trees"
    )
    parser.add_argument(
        "--noise", type=float, nargs="*", default=[1.0, 2.0, 3.0], metavar="S", help="noise on the true logits"
    )
    parser.add_argument(
        "--checkpoint", default="builtin:exact", type=checkpoint_argument, metavar="SOURCE", help="the learned start"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of everything random")
    parser.add_argument(
        "--out", type=path_argument, default=Path("results"), metavar="DIR", help="folder of the JSON file"
    )
    parser.add_argument(
        "--figure", type=path_argument, default=Path("docs/basin.png"), metavar="PNG", help="figure to draw"
    )
    parser.add_argument(
        "--figure-from", type=path_argument, metavar="JSON", help="draw an earlier study again; nothing is run"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    return run(lambda: _study(parse(argv)))


def _study(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from emlinit.benchmarks.basin import report as basin_report
    from emlinit.benchmarks.basin.study import BasinConfig, basin_problems, basin_study
    from emlinit.model.initialiser import EMLInitialiser

    if arguments.figure_from is not None:
        outcomes = basin_report.read_basin_results(arguments.figure_from)
    else:
        config = BasinConfig(
            suite=arguments.suite,
            depths=tuple(arguments.depths),
            trees=arguments.trees,
            runs=arguments.runs,
            noise_levels=tuple(arguments.noise),
            seed=arguments.seed,
        )
        config = replace(config, training=replace(config.training, steps=arguments.steps))
        problems = basin_problems(config)
        initialiser = EMLInitialiser.load(arguments.checkpoint)
        with tqdm(total=len(problems), desc="trees", disable=None) as bar:
            outcomes = basin_study(problems, initialiser, config, lambda: bar.update())
        path = basin_report.write_basin_results(arguments.out, outcomes, config, initialiser.source)
        note_written(path)
        print_remark(f"wrote {path}")
    rows = basin_report.summarise(outcomes)
    print(basin_report.basin_table(rows))
    basin_report.save_basin_figure(arguments.figure, rows)
    print_remark(f"wrote {arguments.figure}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
