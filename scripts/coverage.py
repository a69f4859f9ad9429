"""What the suites' laws are as weighted programs, and how often the random corpus draws the like of them by itself; and of
random trees without constants, how many the corpus can hold.

python scripts/coverage.py                             # 300000 formulas, some minutes on one core
python scripts/coverage.py --suites nguyen --draws 20000
python scripts/coverage.py --trees 1000                # of each depth, a minute
"""

import argparse
import sys
from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING

# The suites need torch, which takes seconds to import: until `run` is reached, Ctrl-C shows a traceback.
from emlinit.scripts.arguments import Parser, count_argument, seed_argument
from emlinit.scripts.running import run

if TYPE_CHECKING:
    from emlinit.benchmarks.laws.coverage import Coverage
    from emlinit.benchmarks.trees.blind_spot import BlindSpot

_EPILOG = """\
columns:
  nodes      different eml nodes of the law's program
  constants  its free constants: factors other than 1 and constant terms
  tokens     length of the program written out, as the corpus has it
  drawn      random formulas with the law's skeleton: its program but for the values of constants, the names of
             variables and the order of terms, in any form that the simplifier knows
  freely     the same where a factor or exponent 1 counts as any other

The formulas are those that pretraining draws (the weighted stream mixes them with random trees, which are not counted).

columns with --trees, in percent of random trees that have real, moderate values at half of 64 points at least:
  doubles    whose values need no number beyond 1e100 on the way
  one level  exponentials of such doubles, held by their logarithm
  two levels exponentials of those
  seen       that the evaluator certifies, so that they are problems to it
  no key     in percent of these: without a value key, so that neither the corpus nor the frozen sets can hold them"""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line of `coverage`."""
    from emlinit.benchmarks.laws.suites import LAW_SUITES

    published = [name for name, suite in LAW_SUITES.items() if suite.published]
    parser = Parser("How often the random corpus draws the laws of the suites.", _EPILOG)
    parser.add_argument("--suites", nargs="+", choices=LAW_SUITES, default=published, help="laws to look for")
    parser.add_argument("--draws", type=count_argument, default=300_000, metavar="N", help="random formulas to draw")
    parser.add_argument(
        "--trees", type=count_argument, metavar="N", help="instead: N random trees without constants of each depth 2..8"
    )
    parser.add_argument("--seed", type=seed_argument, default=1, metavar="N", help="of the random formulas or trees")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    return run(lambda: _report(parse(argv)))


def _report(arguments: argparse.Namespace) -> int:
    return _report_laws(arguments) if arguments.trees is None else _report_trees(arguments)


def _report_trees(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from emlinit.benchmarks.trees.blind_spot import blind_spot

    rows = [blind_spot(depth, arguments.trees, arguments.seed) for depth in tqdm(range(2, 9), disable=None)]
    print(f"{arguments.trees} random trees of each depth, seed {arguments.seed}\n\n{blind_spot_table(rows)}")
    return 0


def _report_laws(arguments: argparse.Namespace) -> int:
    import numpy as np
    from tqdm import tqdm

    from emlinit.benchmarks.laws.coverage import coverage
    from emlinit.benchmarks.laws.suites import load_law_suite

    suites, n_draws, seed = arguments.suites, arguments.draws, arguments.seed
    problems = [problem for suite in dict.fromkeys(suites) for problem in load_law_suite(suite)]
    with tqdm(total=n_draws, unit=" formulas", disable=None) as bar:
        rows = coverage(problems, n_draws, np.random.default_rng(seed), progress=bar.update)
    print(f"{n_draws} random formulas, seed {seed}\n")
    print(suite_table(rows), "\n", law_table(rows), sep="\n")
    return 0


def suite_table(rows: "Sequence[Coverage]") -> str:
    """A Markdown table with one line a suite."""
    lines = ["| suite | laws | drawn | freely | median nodes | most nodes |", "| --- | --- | --- | --- | --- | --- |"]
    for suite in dict.fromkeys(row.problem.suite for row in rows):
        own = [row for row in rows if row.problem.suite == suite]
        drawn, freely = sum(row.drawn > 0 for row in own), sum(row.drawn_freely > 0 for row in own)
        nodes = [row.nodes for row in own]
        lines.append(f"| {suite} | {len(own)} | {drawn} | {freely} | {median(nodes):g} | {max(nodes)} |")
    return "\n".join(lines)


def law_table(rows: "Sequence[Coverage]") -> str:
    """A Markdown table with one line a law."""
    lines = ["| law | formula | nodes | constants | tokens | drawn | freely |", "| --- |" + " --- |" * 6]
    for row in rows:
        formula = str(row.problem.formula).replace("**", "^").replace("*", " ")
        lines.append(
            f"| {row.problem.name} | {formula} | {row.nodes} | {row.constants} | {row.tokens} "
            f"| {row.drawn} | {row.drawn_freely} |"
        )
    return "\n".join(lines)


def blind_spot_table(rows: "Sequence[BlindSpot]") -> str:
    """A Markdown table with one line a depth."""
    lines = ["| depth | doubles | one level | two levels | seen | no key |", "| --- |" + " ---: |" * 5]
    for row in rows:
        levels = " | ".join(f"{100 * n / row.problems:.1f}" for n in row.by_levels)
        no_key = 100 * (row.seen - row.with_key) / max(row.seen, 1)
        lines.append(f"| {row.depth} | {levels} | {100 * row.seen / row.problems:.1f} | {no_key:.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
