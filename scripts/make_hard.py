"""Make the suites `hard` and `hard-aside`: formulas that a search without a network misses. They are made already.

    python scripts/make_hard.py --out runs/hard --jobs 2       # about an hour and a half on two cores

A run that is killed goes on where it was. What is made lies in the folder; the frozen sets are those in
generator/corpus/data, which this never touches.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from emlinit.scripts.arguments import Parser, count_argument, seconds_argument
from emlinit.scripts.running import run


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line of `make_hard`."""
    parser = Parser("Random formulas that a search without a network does not find.")
    parser.add_argument("--out", metavar="FOLDER", type=Path, required=True, help="gets the two sets and tried.jsonl")
    parser.add_argument("--draws", metavar="N", type=count_argument, default=420, help="formulas to search for")
    parser.add_argument("--seconds", metavar="S", type=seconds_argument, default=20.0, help="time for each search")
    parser.add_argument("--jobs", metavar="N", type=count_argument, default=1, help="processes, one thread each")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    return run(lambda: _make(parse(argv)))


def _make(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from emlinit.benchmarks.laws.hard import freeze, try_formulas

    folder: Path = arguments.out
    folder.mkdir(parents=True, exist_ok=True)
    with tqdm(total=arguments.draws, unit="formula") as bar:
        tried = try_formulas(
            arguments.draws,
            arguments.seconds,
            folder / "tried.jsonl",
            jobs=arguments.jobs,
            progress=lambda _: bar.update(),
        )
    freeze(tried, folder / "formulas_hard.parquet", folder / "formulas_hard_aside.parquet")
    print(f"{sum(not one.found for one in tried)} of {len(tried)} were not found", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
