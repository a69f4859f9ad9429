"""Compare methods of searching the exact grammar under the same budget.

    python scripts/evaluate.py --suite paper
    python scripts/evaluate.py --suite identities --seconds 20
    python scripts/evaluate.py --suite grammar --limit 20 --methods all --jobs 2
    python scripts/evaluate.py --suite wide --methods learned,meeting,completion --checkpoint local-dir:runs/exact/export

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
  wide        frozen random trees of 10 to 20 nodes in three variables

methods, all with the same points and time:
{methods}

A tree counts as recovered if it is the identical function: relative error below 1e-6 on fresh points in the range and on
a wider range. The random start is the same Gumbel-hard training from zero logits, over depths 2..6 in turn."""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line of `evaluate`."""
    from emlinit.finetune.methods import METHODS

    described = "\n".join(f"  {name:19} {method.description}" for name, method in METHODS.items())
    epilog = _EPILOG.format(methods=described)
    parser = Parser("Compare methods of searching the exact grammar under the same budget.", epilog)

    def methods(text: str) -> tuple[str, ...]:
        names = tuple(METHODS) if text == "all" else tuple(text.split(","))
        unknown = [name for name in names if name not in METHODS]
        if unknown:
            raise argparse.ArgumentTypeError(f"unknown method '{unknown[0]}': use all or some of {', '.join(METHODS)}")
        return names

    parser.add_argument(
        "--suite", choices=("paper", "identities", "grammar", "wide"), default="paper", help="which problems"
    )
    parser.add_argument("--seconds", type=float, default=10.0, metavar="S", help="time for each problem and method")
    parser.add_argument("--limit", type=int, metavar="N", help="at most N frozen trees a group (default: all)")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="runs of each problem, seeds 0..N-1")
    parser.add_argument(
        "--methods", type=methods, default="learned,random", metavar="A,B,...", help="which methods, or all"
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes, each on one core")
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

    problems, methods = load_suite(arguments.suite, arguments.limit), arguments.methods
    with tqdm(total=len(problems) * len(methods) * arguments.seeds, desc=arguments.suite, disable=None) as bar:
        outcomes = evaluation.run_suite(
            problems,
            methods,
            range(arguments.seeds),
            arguments.seconds,
            arguments.checkpoint,
            jobs=arguments.jobs,
            progress=lambda: bar.update(),
        )
    print(evaluation.table(outcomes, each=arguments.suite in ("paper", "identities")))
    settings = {key: str(value) for key, value in vars(arguments).items()}
    print(f"wrote {evaluation.write_results(arguments.out, arguments.suite, outcomes, settings)}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
