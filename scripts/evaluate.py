"""Compare methods of searching under the same budget: exact trees, or laws with constants; and rules of choosing.

    python scripts/evaluate.py trees --suite paper
    python scripts/evaluate.py trees --suite grammar --limit 20 --methods all --jobs 2
    python scripts/evaluate.py trees --suite wide --methods learned,meeting --checkpoint local-dir:runs/exact/export
    python scripts/evaluate.py laws --suite nguyen,feynman --methods emlinit,no-network --noise 0,0.01
    python scripts/evaluate.py laws --suite nguyen,feynman --methods operon,gplearn --noise 0,0.01
    python scripts/evaluate.py laws --merge results/laws-A.json,results/laws-B.jsonl
    python scripts/evaluate.py choice --tables 2000

Prints tables and writes every outcome to a dated JSON file; those of laws also one by one, as they come, to a file of
lines beside it, which stays if the run is killed.
"""

import argparse
import difflib
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from emlinit.scripts.arguments import (
    Parser,
    checkpoint_argument,
    count_argument,
    path_argument,
    seconds_argument,
    seed_argument,
)
from emlinit.scripts.running import EXIT_USER_ERROR, note_written, print_error, print_remark, print_stopped, run

_COMMANDS = {
    "trees": "which find the identical function of an exact tree",
    "laws": "which find a law with constants, also from noisy data, beside other programs",
    "choice": "which rule chooses the right form of law, all forms being fitted to small tables",
}
"""Subcommand and what it does."""

_TREES_EPILOG = """\
suites (one at a time):
{suites}

methods, all with the same points and time:
{methods}

A tree counts as recovered if it is the identical function: relative error below 1e-6 on fresh points in the range and on
a wider range. The random start is the same Gumbel-hard training from zero logits, over depths 2..6 in turn."""
_LAWS_EPILOG = """\
suites (one or several):
{suites}

methods, all with the same points, time and one thread:
{methods}

A law is exact if it has a relative error below 1e-6 on fresh points in the range and on a wider range, as printed or
after a least-squares fit of its printed constants. From noisy data it is of the right form if it is exact once its
constants are fitted to noiseless values, and none of them is superfluous. It is accurate if 95 % of the fresh points are
met to 5 % or 0.001. The size ratio is that of the nodes of the simplified formula to those of the true law."""

_CHOICE_EPILOG = """\
Every form of benchmarks/laws/quick_fits.py is fitted to every table, and each rule of benchmarks/laws/choice_criteria.py
picks one. Shares are in per cent; a form is too short or too long if it has fewer or more constants than the law."""


def _usage() -> str:
    """The help text that names the commands."""
    program = Path(sys.argv[0]).name
    listed = "\n".join(f"  {name:5}  {what}" for name, what in _COMMANDS.items())
    return (
        f"usage: {program} COMMAND [ARGUMENTS...]\n\nCompare methods of searching under the same budget:\n\n"
        f"commands:\n{listed}\n\n'{program} COMMAND --help' lists its suites, methods and options."
    )


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line of `evaluate`: the name of a command, which becomes `command`, and its options."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] in ("-h", "--help"):
        print(_usage())
        raise SystemExit(0)
    if not words or words[0] not in _COMMANDS:
        print_error(_wrong_command(words))
        raise SystemExit(EXIT_USER_ERROR)
    arguments = {"trees": _parse_trees, "laws": _parse_laws, "choice": _parse_choice}[words[0]](words[1:])
    arguments.command = words[0]
    return arguments


def _wrong_command(words: Sequence[str]) -> str:
    listed = " or ".join(f"'{name}' ({what})" for name, what in _COMMANDS.items())
    if not words:
        return f"a command is missing: use {listed}"
    if words[0].startswith("-"):  # as it was before trees and laws had a command each
        from emlinit.benchmarks.laws.suites import LAW_SUITES

        named = {name for word in words for name in word.removeprefix("--suite=").split(",")}
        of_laws = named & LAW_SUITES.keys() or any(word.startswith(("--merge", "--noise", "--each")) for word in words)
        new = shlex.join(["laws" if of_laws else "trees", *words])
        return f"trees and laws are two commands now: {Path(sys.argv[0]).name} {new}"
    close = difflib.get_close_matches(words[0], _COMMANDS, n=1)
    return f"'{words[0]}' is no command: " + (f"did you mean '{close[0]}'?" if close else f"use {listed}")


def _parse_trees(words: Sequence[str]) -> argparse.Namespace:
    from emlinit.benchmarks.trees.methods import TREE_METHODS
    from emlinit.benchmarks.trees.suites import TREE_SUITES

    parser = _parser("trees", _TREES_EPILOG, TREE_SUITES, TREE_METHODS)
    parser.add_argument("--suite", default="paper", choices=TREE_SUITES, metavar="NAME", help="which problems")
    parser.add_argument("--limit", type=count_argument, metavar="N", help="at most N frozen trees a group")
    _add_methods(parser, TREE_METHODS, "learned,random")
    _add_budget(parser)
    parser.add_argument(
        "--checkpoint", default="builtin:exact", type=checkpoint_argument, metavar="SOURCE", help="the learned start"
    )
    return parser.parse_args(words)


def _parse_laws(words: Sequence[str]) -> argparse.Namespace:
    from emlinit.benchmarks.laws.methods import LAW_METHODS
    from emlinit.benchmarks.laws.suites import LAW_SUITES

    parser = _parser("laws", _LAWS_EPILOG, LAW_SUITES, LAW_METHODS)
    parser.add_argument(
        "--suite", type=_some_of(LAW_SUITES, "suite"), default="nguyen", metavar="A,B,...", help="which problems"
    )
    parser.add_argument("--limit", type=count_argument, metavar="N", help="at most N laws a suite")
    _add_methods(parser, LAW_METHODS, "emlinit")
    parser.add_argument(
        "--noise", type=_levels, default="0", metavar="A,B,...", help="levels of noise, shares of the std of y"
    )
    _add_budget(parser)
    parser.add_argument("--each", action="store_true", help="print every formula")
    parser.add_argument("--merge", metavar="FILE,...", help="no search, one table from these results")
    return parser.parse_args(words)


def _parse_choice(words: Sequence[str]) -> argparse.Namespace:
    parser = _parser("choice", _CHOICE_EPILOG, {}, {})
    parser.add_argument("--tables", type=count_argument, default=2000, metavar="N", help="how many are drawn")
    parser.add_argument("--seed", type=seed_argument, default=0, metavar="N", help="of all tables")
    parser.add_argument(
        "--out", type=path_argument, default=Path("results"), metavar="DIR", help="folder of the results"
    )
    return parser.parse_args(words)


def _parser(command: str, epilog: str, suites: Mapping[str, Any], methods: Mapping[str, Any]) -> Parser:
    """A parser whose help lists suites and methods, each with a `description`."""
    lists = {
        name: "\n".join(f"  {key:19} {entry.description}" for key, entry in entries.items())
        for name, entries in (("suites", suites), ("methods", methods))
    }
    parser = Parser(f"Compare methods under the same budget: {_COMMANDS[command]}.", epilog.format(**lists))
    parser.prog = f"{parser.prog} {command}"
    return parser


def _add_methods(parser: Parser, methods: Mapping[str, Any], default: str) -> None:
    parser.add_argument(
        "--methods", type=_some_of(methods, "method"), default=default, metavar="A,B,...", help="which methods, or all"
    )


def _add_budget(parser: Parser) -> None:
    parser.add_argument(
        "--seconds", type=seconds_argument, default=10.0, metavar="S", help="time for each problem and method"
    )
    parser.add_argument(
        "--seeds", type=count_argument, default=1, metavar="N", help="runs of each problem, seeds 0..N-1"
    )
    parser.add_argument("--jobs", type=count_argument, default=1, metavar="N", help="processes, each on one core")
    parser.add_argument(
        "--out", type=path_argument, default=Path("results"), metavar="DIR", help="folder of the results"
    )


def _some_of(known: Iterable[str], what: str) -> Callable[[str], tuple[str, ...]]:
    def names(text: str) -> tuple[str, ...]:
        chosen = tuple(known) if text == "all" else tuple(text.split(","))
        for name in chosen:
            if name not in known:
                raise argparse.ArgumentTypeError(f"unknown {what} '{name}': use all or some of {', '.join(known)}")
        return chosen

    return names


def _levels(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(level) for level in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no list of numbers such as 0,0.01,0.1") from None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    return run(lambda: _evaluate(parse(argv)))


def _evaluate(arguments: argparse.Namespace) -> int:
    if arguments.command != "laws" or arguments.merge is None:
        from emlinit.finetune.files.output_folder import check_output_folder

        check_output_folder(arguments.out, ())  # hours may pass before anything is written
    if arguments.command == "trees":
        return _trees(arguments)
    if arguments.command == "choice":
        return _choice(arguments)
    return _laws(arguments) if arguments.merge is None else _merge(arguments)


def _trees(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from emlinit.benchmarks.runner import write_results
    from emlinit.benchmarks.trees.run import recovery_table, run_tree_suite
    from emlinit.benchmarks.trees.suites import TREE_SUITES, load_tree_suite

    problems, methods = load_tree_suite(arguments.suite, arguments.limit), arguments.methods
    with tqdm(total=len(problems) * len(methods) * arguments.seeds, desc=arguments.suite, disable=None) as bar:
        outcomes = run_tree_suite(
            problems,
            methods,
            range(arguments.seeds),
            arguments.seconds,
            arguments.checkpoint,
            jobs=arguments.jobs,
            progress=lambda: bar.update(),
        )
    print(recovery_table(outcomes, by_problem=TREE_SUITES[arguments.suite].by_problem))
    path = write_results(arguments.out, arguments.suite, outcomes, _record(arguments))
    note_written(path)
    print_remark(f"wrote {path}")
    return 0


def _choice(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from emlinit.benchmarks.laws.choice_study import choice_tables, run_choice_study
    from emlinit.benchmarks.runner import write_results

    with tqdm(total=arguments.tables, desc="tables", disable=None) as bar:
        picked = run_choice_study(arguments.tables, arguments.seed, lambda: bar.update())
    print(choice_tables(picked))
    path = write_results(arguments.out, "choice", picked, _record(arguments), kind="study")
    note_written(path)
    print_remark(f"wrote {path}")
    return 0


def _laws(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from emlinit.benchmarks.laws.run import LawOutcome, LawSettings, run_law_suites
    from emlinit.benchmarks.runner import open_lines, write_results

    settings = LawSettings(
        suites=arguments.suite,
        methods=arguments.methods,
        noise=arguments.noise,
        seeds=arguments.seeds,
        seconds=arguments.seconds,
        limit=arguments.limit,
    )
    with open_lines(arguments.out, "laws") as lines, tqdm(desc=",".join(arguments.suite), disable=None) as bar:

        def show(outcome: LawOutcome, total: int) -> None:
            bar.total = total
            bar.update()

        try:
            outcomes = run_law_suites(settings, lines, jobs=arguments.jobs, progress=show)
        except KeyboardInterrupt as stop:
            where = f": what was found is in {lines.name}" if lines.tell() else ", nothing was found yet"
            return print_stopped(stop, where)
    note_written(lines.name)
    _print_laws(outcomes, arguments.each)
    settings_given = _record(arguments) | {"suite": ",".join(arguments.suite)}
    print_remark(f"wrote {write_results(arguments.out, 'laws', outcomes, settings_given)}")
    return 0


def _merge(arguments: argparse.Namespace) -> int:
    from emlinit.benchmarks.laws.run import read_outcomes

    _print_laws(read_outcomes(Path(name) for name in arguments.merge.split(",")), arguments.each)
    return 0


def _print_laws(outcomes: Sequence[Any], each: bool) -> None:
    from emlinit.benchmarks.laws.run import formula_lines, score_tables

    if each:
        print(formula_lines(outcomes), end="\n\n")
    print(score_tables(outcomes))


def _record(arguments: argparse.Namespace) -> dict[str, str]:
    return {key: str(value) for key, value in vars(arguments).items()}


if __name__ == "__main__":
    sys.exit(main())
