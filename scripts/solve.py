"""Find the law behind a table of numbers.

    python scripts/solve.py examples/kepler.csv
    python scripts/solve.py DATA.csv --target y --features a,b --grammar weighted --seconds 60 --out RESULTS
    python scripts/solve.py DATA.csv --operators "+,*,/,exp" --max-complexity 15 --plot
    python scripts/solve.py DATA.csv --json > law.json

The Pareto front and the chosen law go to standard output, progress and remarks to standard error.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any

# Torch and sympy take seconds to import: they are loaded in `_solve`, after the input has been found to be in order.
# NumPy is loaded there, too: until `run` is reached, Ctrl-C shows a traceback.
from emlinit.finetune.options import DEVICES, GRAMMAR_CHOICES, HEADER_CHOICES, LOSSES, MAX_COMPLEXITY
from emlinit.generator.errors import UserError
from emlinit.scripts.arguments import (
    Parser,
    checkpoint_argument,
    count_argument,
    operators_argument,
    path_argument,
    seconds_argument,
    seed_argument,
)
from emlinit.scripts.running import Remarks, first_interrupt_as_wish, note_written, printable, run

if TYPE_CHECKING:
    from emlinit.finetune.law.law import Law
    from emlinit.finetune.tables.read_table import Table

_EPILOG = """\
examples:
  %(prog)s examples/kepler.csv                         Kepler's third law from eight planets
  %(prog)s data.csv --target T --features a,m          choose the columns (the target is the last one otherwise)
  %(prog)s data.csv --grammar exact                    identities: no free constants, fitted to machine precision
  %(prog)s data.csv --seconds 120 --out results        search longer; write law.py, law.tex, result.json, two figures
  %(prog)s data.csv --operators "+,*,/,exp"            laws of your field: no roots, no logarithms, no sines
  %(prog)s data.csv --forbid sin,cos --integer-exponents --max-complexity 15 --plot
  %(prog)s data.csv --group material                   one law for all materials, with constants of their own

The table may be separated by commas, semicolons, tabs or blanks, with or without a header (columns are then x1, x2, ..., y);
it may be a .gz, an Excel sheet (.xlsx) or a Parquet file, and - is standard input.
Lines above it that begin with # are comments; the last one is the header if the table has no other. Titles above it and a
row of units below the header are known. Dates become days or seconds since the first, True and yes 1, 12%% 0.12.
Rows with missing, NaN or infinite cells are dropped and counted; numbers that may mark missing values are named, and
--missing makes them so. What is changed is said, what may be read in two ways is refused (docs/tables.md).
The search stops early when a law is exact. The same seed on the same machine gives the same law, as long as --seconds do not
cut the search short. Fitted constants come with their standard errors, unless the law is exact.

At a terminal each better law is shown while the search goes on. Ctrl-C ends the search with the best law so far; a
second Ctrl-C gives it up.
Exit code: 0 solved, 2 the input has to be mended (one line says how)."""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line of `solve`; errors exit with code 2 and one line."""
    parser = Parser("Find the law behind a table of numbers.", _EPILOG)
    parser.add_argument(
        "data", metavar="DATA.csv", type=path_argument, help="table with one row a measurement; - is standard input"
    )
    columns = parser.add_argument_group("columns")
    columns.add_argument("--target", metavar="COL", help="column to explain (default: the last one)")
    columns.add_argument(
        "--features", metavar="A,B,...", help="columns to explain it by (default: all others that vary)"
    )
    columns.add_argument(
        "--header",
        choices=HEADER_CHOICES,
        default="auto",
        help="whether the first line holds names; auto takes it for names unless all of it is values",
    )
    columns.add_argument(
        "--missing",
        metavar="VALUE,...",
        help="numbers or words that mark a missing value, such as -9999 (empty, NaN, NA and the like are known)",
    )
    columns.add_argument(
        "--group",
        metavar="COL",
        help="column, of text or numbers, that names each row's group (experiment, material, subject): one law, some of its "
        "constants each group's own",
    )
    errors = parser.add_argument_group("errors")
    errors.add_argument(
        "--sigma",
        metavar="COL|0.02|5%%",
        help="standard deviations of the target: a column of them, one for all rows, or a share of each value; rows weigh "
        "as 1/sigma^2, and the errors of the constants follow from it (default: estimated, alike in all rows)",
    )
    errors.add_argument(
        "--loss",
        choices=LOSSES,
        default=LOSSES[0],
        help="what residuals count as: squares; huber, by which rows that are far off count little; or l1, absolute values",
    )
    law = parser.add_argument_group("the law")
    law.add_argument(
        "--operators",
        metavar="LIST",
        type=operators_argument,
        help="what it may be written in, of + * / ^ sqrt abs exp ln sin cos tan asin acos atan sinh cosh tanh and "
        "their likes; + stands for -, too, x^2 is x*x (default: everything)",
    )
    law.add_argument("--forbid", metavar="LIST", type=operators_argument, help="what it may not be written in")
    law.add_argument(
        "--max-complexity",
        metavar="N",
        type=count_argument,
        default=MAX_COMPLEXITY,
        help="most operators, functions, variables and constants of its formula, all counted; a number is one, however it "
        "is written",
    )
    law.add_argument(
        "--integer-exponents", action="store_true", help="no roots, and no powers such as x^1.7 of what varies"
    )
    search = parser.add_argument_group("search")
    search.add_argument(
        "--grammar",
        choices=GRAMMAR_CHOICES,
        default="auto",
        help="exact has no free constants, weighted fits them, auto tries both",
    )
    search.add_argument("--seconds", metavar="S", type=seconds_argument, default=20.0, help="time for the search")
    search.add_argument(
        "--checkpoint",
        metavar="SOURCE",
        type=checkpoint_argument,
        help="learned start: builtin:exact, builtin:weighted, local-dir:PATH or hf-hub:OWNER/NAME@REV "
        "(default: the shipped one of each grammar)",
    )
    search.add_argument("--device", choices=DEVICES, default="auto", help="where the network and large fits run")
    search.add_argument("--seed", metavar="N", type=seed_argument, default=0, help="source of all randomness")
    output = parser.add_argument_group("output")
    output.add_argument(
        "--out",
        metavar="DIR",
        type=path_argument,
        help="also write result.json, law.tex, law.py (a NumPy function), fit.png and front.png there",
    )
    shown = output.add_mutually_exclusive_group()
    shown.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    shown.add_argument("--plot", action="store_true", help="draw data and law below the table, in characters")
    return parser.parse_args(_with_values_that_begin_with_minus(sys.argv[1:] if argv is None else argv))


def _with_values_that_begin_with_minus(argv: Sequence[str]) -> list[str]:
    """`--missing -99,-999` as `--missing=-99,-999`: argparse takes what begins with a minus for an option."""
    joined: list[str] = []
    for text in argv:
        if joined and joined[-1] == "--missing" and text[:1] == "-" and text[1:2] and text[1] in "0123456789.":
            joined[-1] = f"--missing={text}"
        else:
            joined.append(text)
    return joined


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    return run(lambda: _solve(parse(argv)))


def _solve(arguments: argparse.Namespace) -> int:
    from emlinit.finetune.files.output_folder import check_output_folder
    from emlinit.finetune.tables.read_table import read_table, split_names

    features = None if arguments.features is None else split_names(arguments.features)
    missing = () if arguments.missing is None else split_names(arguments.missing, "--missing")
    table = read_table(
        arguments.data,
        arguments.target,
        features,
        arguments.header,
        missing,
        sigma=arguments.sigma,
        group=arguments.group,
    )
    if arguments.group is not None:
        return _solve_groups(arguments, table)
    if arguments.out is not None:
        check_output_folder(arguments.out)

    from emlinit.finetune.files import report
    from emlinit.finetune.solver import solve

    with _searching(arguments, table, arguments.grammar) as (options, remarks, write):
        solution = solve(
            table.x,
            table.y,
            grammar=arguments.grammar,
            loss=arguments.loss,
            on_better=None if write is None else lambda law, error: write(_better_line(table.target, law, error)),
            **options,
        )
    for remark in report.remarks(solution, table):
        remarks.add(remark)
    record = report.result_record(solution, table, arguments.seed)
    if arguments.out is not None:
        report.write_outputs(arguments.out, solution, table, record, when_written=lambda: note_written(arguments.out))
        remarks.add(f"wrote {arguments.out}")
    print(report.to_json(record) if arguments.json else printable(report.front_table(solution, record)))
    if arguments.plot:
        print(f"\n{printable(_plot(solution.law, table))}")
    sys.stdout.flush()
    remarks.say()
    return 0


def _solve_groups(arguments: argparse.Namespace, table: "Table") -> int:
    """One law for the groups of a table."""
    from emlinit.finetune.files.output_folder import check_output_folder
    from emlinit.finetune.groups.labels import check_groups, groups_of

    if arguments.grammar == "exact":
        raise UserError(
            "--grammar exact has no constants that a group could have of its own: leave out one of it and --group"
        )
    if arguments.loss != LOSSES[0]:
        raise UserError(f"--loss {arguments.loss} is not there for groups: leave out one of it and --group")
    if arguments.plot:
        raise UserError("--plot draws no groups: use --out, whose fit.png has one colour a group")
    check_groups(groups_of(table.labels, len(table.labels)), f"the groups of column '{table.group}'")

    from emlinit.finetune.files import group_report, report

    if arguments.out is not None:
        check_output_folder(arguments.out, group_report.GROUP_RESULT_FILES)

    from emlinit.finetune.group_solver import solve_groups

    with _searching(arguments, table, "weighted") as (options, remarks, _):
        solution = solve_groups(table.x, table.y, table.labels, column=str(table.group), **options)
    for remark in solution.notes:
        remarks.add(remark)
    record = group_report.group_record(solution, table, arguments.seed)
    if arguments.out is not None:
        write = group_report.write_group_outputs
        write(arguments.out, solution, table, record, when_written=lambda: note_written(arguments.out))
        remarks.add(f"wrote {arguments.out}")
    print(report.to_json(record) if arguments.json else printable(group_report.group_tables(solution, record)))
    sys.stdout.flush()
    remarks.say()
    return 0


@contextmanager
def _searching(
    arguments: argparse.Namespace, table: "Table", grammar: str
) -> Iterator[tuple[dict[str, Any], Remarks, Callable[[str], None] | None]]:
    """A search, with a bar and an end at Ctrl-C: yields the options that every search takes, the remarks so far, and what
    writes a line above the bar (None if there is none)."""
    from emlinit.finetune.files.report import describe
    from emlinit.finetune.initialisers import load_initialisers, resolve_device

    initialisers = load_initialisers(arguments.checkpoint, grammar, resolve_device(arguments.device))
    remarks = Remarks()
    for remark in (describe(table), *table.notes, f"seed {arguments.seed}"):
        remarks.add(remark)
    with (
        first_interrupt_as_wish("stopping with the best law so far; Ctrl-C again gives it up") as stop,
        _progress_bar(arguments.seconds) as (progress, write),
    ):
        options = {
            "seconds": arguments.seconds,
            "initialisers": initialisers,
            "seed": arguments.seed,
            "progress": progress,
            "names": list(table.features),
            "operators": arguments.operators,
            "forbid": arguments.forbid,
            "max_complexity": arguments.max_complexity,
            "integer_exponents": arguments.integer_exponents,
            "sigma": table.sigma,
            "stop": stop,
        }
        yield options, remarks, write


def _plot(law: "Law", table: "Table") -> str:
    """Data and law in characters, for the terminal's width and alphabet."""
    from emlinit.finetune.files.terminal_plot import terminal_plot

    x = table.x[:, [table.features.index(name) for name in law.names]]
    plain = not (sys.stdout.encoding or "").lower().startswith("utf")
    return terminal_plot(law, x, table.y, table.target, width=get_terminal_size().columns, plain=plain)


def _better_line(target: str, law: "Law", error: float) -> str:
    """A law that was found on the way, before its constants are rounded and fitted to all rows."""
    return f"{law.complexity:>3} nodes, error {100 * error:.2g} % of the spread of {target}: {target} = {law.short_formula}"


@contextmanager
def _progress_bar(
    seconds: float,
) -> Iterator[tuple[Callable[[float, str], None], Callable[[str], None] | None]]:
    """A bar on standard error if that is a terminal; yields what takes the share done (0..1) and a remark, and what writes a
    line above the bar (None if there is none)."""
    from tqdm import tqdm

    layout = "{desc} {percentage:3.0f}%|{bar:30}| {elapsed}"
    with tqdm(total=1.0, desc=f"searching up to {seconds:g} s", bar_format=layout, disable=None, leave=False) as bar:

        def progress(share: float, remark: str) -> None:
            bar.n = min(max(share, 0.0), 1.0)
            bar.set_description_str(remark, refresh=False)
            bar.refresh()

        def write(line: str) -> None:
            bar.write(printable(line), file=sys.stderr)

        yield progress, None if bar.disable else write


if __name__ == "__main__":
    sys.exit(main())
