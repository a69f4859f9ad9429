"""Compare the learned start with a random start under the same budget.

    python scripts/evaluate.py --suite paper
    python scripts/evaluate.py --suite identities --seconds 20
    python scripts/evaluate.py --suite grammar --limit 20 --checkpoint local-dir:runs/exact/export

Prints one table and writes every outcome to a dated JSON file.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from emlinit.scripts.arguments import Parser, run

_EPILOG = """\
suites:
  paper       the depth targets of arXiv 2603.21852 (depth 2..6) and x*y, on its grid 1..3
  identities  exp, ln, -x, 1/x, x+y, x*y, x^y and other usual operations
  grammar     frozen random trees of exact depth 2..6, 100 each

A tree counts as recovered if it is the identical function: relative error below 1e-6 on fresh points in the range and on
a wider range. The random start is the same Gumbel-hard training from zero logits, over depths 2..6 in turn."""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line of `evaluate`."""
    parser = Parser("Compare the learned start with a random start under the same budget.", _EPILOG)
    parser.add_argument("--suite", choices=("paper", "identities", "grammar"), default="paper", help="which problems")
    parser.add_argument("--seconds", type=float, default=10.0, metavar="S", help="time for each problem and method")
    parser.add_argument("--limit", type=int, metavar="N", help="at most N frozen trees a depth (default: all 100)")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="runs of each problem, seeds 0..N-1")
    parser.add_argument(
        "--methods", choices=("both", "learned", "random"), default="both", help="which starts are compared"
    )
    parser.add_argument("--checkpoint", default="builtin:exact", metavar="SOURCE", help="the learned start")
    parser.add_argument("--out", type=Path, default=Path("results"), metavar="DIR", help="folder of the JSON file")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    arguments = parse(argv)
    return run(lambda: _evaluate(arguments))


def _evaluate(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from emlinit.finetune import evaluation
    from emlinit.finetune.suites import load_suite
    from emlinit.model.initialiser import EMLInitialiser

    methods = evaluation.METHODS if arguments.methods == "both" else (arguments.methods,)
    problems = load_suite(arguments.suite, arguments.limit)
    initialiser = EMLInitialiser.load(arguments.checkpoint) if "learned" in methods else None
    with tqdm(total=len(problems) * len(methods) * arguments.seeds, desc=arguments.suite, disable=None) as bar:
        outcomes = evaluation.run_suite(
            problems, methods, range(arguments.seeds), arguments.seconds, initialiser, lambda: bar.update()
        )
    print(evaluation.table(outcomes, each=arguments.suite != "grammar"))
    settings = {key: str(value) for key, value in vars(arguments).items()}
    print(f"wrote {evaluation.write_results(arguments.out, arguments.suite, outcomes, settings)}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
