"""What the suites' laws are as weighted programs, and how often the random corpus draws the like of them by itself.

python scripts/coverage.py                             # 300000 formulas, some minutes on one core
python scripts/coverage.py --suites nguyen --draws 20000
"""

import argparse
import sys
from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from emlinit.benchmarks.laws.coverage import Coverage, coverage
from emlinit.benchmarks.laws.suites import LAW_SUITES, load_law_suite
from emlinit.generator.errors import UserError
from emlinit.scripts.arguments import Parser, run

_EPILOG = """\
columns:
  nodes      different eml nodes of the law's program
  constants  its free constants: factors other than 1 and constant terms
  tokens     length of the program written out, as the corpus has it
  drawn      random formulas with the law's skeleton: its program but for the values of constants, the names of
             variables and the order of terms, in any form that the simplifier knows
  freely     the same where a factor or exponent 1 counts as any other

The formulas are those that pretraining draws (the weighted stream mixes them with random trees, which are not counted)."""
_DEFAULT = [name for name, suite in LAW_SUITES.items() if suite.published]


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line of `coverage`."""
    parser = Parser("How often the random corpus draws the laws of the suites.", _EPILOG)
    parser.add_argument("--suites", nargs="+", choices=LAW_SUITES, default=_DEFAULT, help="laws to look for")
    parser.add_argument("--draws", type=int, default=300_000, metavar="N", help="random formulas to draw")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the random formulas")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    arguments = parse(argv)
    return run(lambda: _report(arguments.suites, arguments.draws, arguments.seed))


def _report(suites: Sequence[str], n_draws: int, seed: int) -> int:
    if n_draws < 1 or seed < 0:
        raise UserError("--draws must be 1 or larger and --seed 0 or larger")
    problems = [problem for suite in dict.fromkeys(suites) for problem in load_law_suite(suite)]
    with tqdm(total=n_draws, unit=" formulas", disable=None) as bar:
        rows = coverage(problems, n_draws, np.random.default_rng(seed), progress=bar.update)
    print(f"{n_draws} random formulas, seed {seed}\n")
    print(suite_table(rows), "\n", law_table(rows), sep="\n")
    return 0


def suite_table(rows: Sequence[Coverage]) -> str:
    """A Markdown table with one line a suite."""
    lines = ["| suite | laws | drawn | freely | median nodes | most nodes |", "| --- | --- | --- | --- | --- | --- |"]
    for suite in dict.fromkeys(row.problem.suite for row in rows):
        own = [row for row in rows if row.problem.suite == suite]
        drawn, freely = sum(row.drawn > 0 for row in own), sum(row.drawn_freely > 0 for row in own)
        nodes = [row.nodes for row in own]
        lines.append(f"| {suite} | {len(own)} | {drawn} | {freely} | {np.median(nodes):g} | {max(nodes)} |")
    return "\n".join(lines)


def law_table(rows: Sequence[Coverage]) -> str:
    """A Markdown table with one line a law."""
    lines = ["| law | formula | nodes | constants | tokens | drawn | freely |", "| --- |" + " --- |" * 6]
    for row in rows:
        formula = str(row.problem.formula).replace("**", "^").replace("*", " ")
        lines.append(
            f"| {row.problem.name} | {formula} | {row.nodes} | {row.constants} | {row.tokens} "
            f"| {row.drawn} | {row.drawn_freely} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
