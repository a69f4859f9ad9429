"""Compare methods of searching under the same budget.

    python scripts/evaluate.py --suite paper
    python scripts/evaluate.py --suite grammar --limit 20 --methods all --jobs 2
    python scripts/evaluate.py --suite wide --methods learned,meeting,completion --checkpoint local-dir:runs/exact/export
    python scripts/evaluate.py --suite nguyen,feynman --methods emlinit,no-network --noise 0,0.01
    python scripts/evaluate.py --suite nguyen,feynman --methods operon,gplearn --noise 0,0.01
    python scripts/evaluate.py --merge results/laws-A.json,results/laws-B.jsonl

Prints tables and writes every outcome to a dated JSON file; those of laws also one by one, as they come, to a file of
lines beside it, which stays if the run is killed.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from emlinit.scripts.arguments import EXIT_INTERRUPTED, Parser, print_error, run

_EPILOG = """\
suites of exact identities (one at a time):
  paper       the depth targets of arXiv 2603.21852 (depth 2..6) and x*y, on its grid 1..3
  identities  exp, ln, -x, 1/x, x+y, x*y, x^y and other usual operations
  grammar     frozen random trees of exact depth 2..6, 100 each
  wide        frozen random trees of 10 to 20 nodes in three variables

their methods, all with the same points and time:
{methods}

A tree counts as recovered if it is the identical function: relative error below 1e-6 on fresh points in the range and on
a wider range. The random start is the same Gumbel-hard training from zero logits, over depths 2..6 in turn.

suites of laws with constants (one or several): {law_suites}

their methods, all with the same points, time and one thread:
{law_methods}

A law is exact if it has a relative error below 1e-6 on fresh points in the range and on a wider range, as printed or
after a least-squares fit of its printed constants. From noisy data it is of the right form if it is exact once its
constants are fitted to noiseless values, and none of them is superfluous. It is accurate if 95 % of the fresh points are
met to 5 % or 0.001. The size ratio is that of the nodes of the simplified formula to those of the true law."""
_EXACT_SUITES = ("paper", "identities", "grammar", "wide")
_SUITE, _EXACT_METHODS, _LAW_METHODS = "paper", "learned,random", "emlinit"


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line of `evaluate`."""
    from emlinit.benchmarks.laws.methods import LAW_METHODS
    from emlinit.benchmarks.laws.suites import LAW_SUITES
    from emlinit.benchmarks.trees.methods import METHODS

    epilog = _EPILOG.format(
        methods="\n".join(f"  {name:19} {method.description}" for name, method in METHODS.items()),
        law_suites=", ".join(LAW_SUITES),
        law_methods="\n".join(f"  {name:19} {method.description}" for name, method in LAW_METHODS.items()),
    )
    parser = Parser("Compare methods of searching under the same budget.", epilog)
    parser.add_argument("--suite", default=_SUITE, metavar="A,B,...", help="which problems")
    parser.add_argument("--seconds", type=float, default=10.0, metavar="S", help="time for each problem and method")
    parser.add_argument("--limit", type=int, metavar="N", help="at most N frozen trees a group, or laws a suite")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="runs of each problem, seeds 0..N-1")
    parser.add_argument(
        "--methods",
        metavar="A,B,...",
        help=f"which methods, or all (default: {_EXACT_METHODS}; for laws {_LAW_METHODS})",
    )
    parser.add_argument(
        "--noise",
        type=_levels,
        default="0",
        metavar="A,B,...",
        help="for laws: levels of noise, shares of the std of y",
    )
    parser.add_argument("--each", action="store_true", help="for laws: print every formula")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes, each on one core")
    parser.add_argument("--checkpoint", default="builtin:exact", metavar="SOURCE", help="for trees: the learned start")
    parser.add_argument("--out", type=Path, default=Path("results"), metavar="DIR", help="folder of the results")
    parser.add_argument("--merge", metavar="FILE,...", help="for laws: no search, one table from these results")
    arguments = parser.parse_args(argv)

    suites = tuple(arguments.suite.split(","))
    arguments.laws = arguments.merge is not None or all(name in LAW_SUITES for name in suites)
    if not arguments.laws and not (len(suites) == 1 and suites[0] in _EXACT_SUITES):
        parser.error(
            f"argument --suite: '{arguments.suite}' is neither one of {', '.join(_EXACT_SUITES)} nor some of "
            f"{', '.join(LAW_SUITES)}"
        )
    known = tuple(LAW_METHODS) if arguments.laws else tuple(METHODS)
    chosen = arguments.methods or (_LAW_METHODS if arguments.laws else _EXACT_METHODS)
    arguments.methods = known if chosen == "all" else tuple(chosen.split(","))
    unknown = [name for name in arguments.methods if name not in known]
    if unknown:
        parser.error(f"argument --methods: unknown method '{unknown[0]}': use all or some of {', '.join(known)}")
    return arguments


def _levels(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(level) for level in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no list of numbers such as 0,0.01,0.1") from None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    arguments = parse(argv)
    if arguments.merge is not None:
        return run(lambda: _merge(arguments))
    return run(lambda: _evaluate_laws(arguments) if arguments.laws else _evaluate(arguments))


def _evaluate(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from emlinit.benchmarks.trees import run as evaluation
    from emlinit.benchmarks.trees.suites import load_suite

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
    print(
        f"wrote {evaluation.write_results(arguments.out, arguments.suite, outcomes, _record(arguments))}",
        file=sys.stderr,
    )
    return 0


def _evaluate_laws(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from emlinit.benchmarks.laws import run as law_evaluation
    from emlinit.benchmarks.trees.run import write_results

    settings = law_evaluation.Settings(
        suites=tuple(arguments.suite.split(",")),
        methods=arguments.methods,
        noise=arguments.noise,
        seeds=arguments.seeds,
        seconds=arguments.seconds,
        limit=arguments.limit,
    )
    with law_evaluation.open_lines(arguments.out) as lines, tqdm(desc=arguments.suite, disable=None) as bar:

        def show(outcome: law_evaluation.LawOutcome, total: int) -> None:
            bar.total = total
            bar.update()

        try:
            outcomes = law_evaluation.run_law_suites(settings, lines, jobs=arguments.jobs, progress=show)
        except KeyboardInterrupt:
            print_error(f"interrupted: what was found is in {lines.name}")
            return EXIT_INTERRUPTED
    if arguments.each:
        print(law_evaluation.each(outcomes), end="\n\n")
    print(law_evaluation.tables(outcomes))
    print(f"wrote {write_results(arguments.out, 'laws', outcomes, _record(arguments))}", file=sys.stderr)
    return 0


def _merge(arguments: argparse.Namespace) -> int:
    from emlinit.benchmarks.laws import run as law_evaluation

    outcomes = law_evaluation.read_outcomes(Path(name) for name in arguments.merge.split(","))
    if arguments.each:
        print(law_evaluation.each(outcomes), end="\n\n")
    print(law_evaluation.tables(outcomes))
    return 0


def _record(arguments: argparse.Namespace) -> dict[str, str]:
    return {key: str(value) for key, value in vars(arguments).items()}


if __name__ == "__main__":
    sys.exit(main())
