"""The installed command `emlinit`: each script as a subcommand.

emlinit solve examples/kepler.csv
emlinit pretrain --help
emlinit evaluate trees --suite paper
"""

import difflib
import importlib
import sys
from collections.abc import Sequence

from emlinit.scripts.running import EXIT_USER_ERROR, print_error, run

COMMANDS = {
    "solve": "find the law behind a table of numbers",
    "pretrain": "train an initialiser on the endless stream of random programs",
    "make-corpus": "write random programs as a data set to pretrain on",
    "evaluate": "compare methods on suites of exact trees, or of laws with constants",
    "compile": "write a formula as a tree of the one operator",
    "publish": "make a folder for the Hugging Face Hub from a checkpoint, and upload it",
}
"""Subcommand, which is also the module in `emlinit.scripts` (with _ for -), and what it does."""


def usage() -> str:
    """The help text of `emlinit`."""
    width = max(map(len, COMMANDS))
    listed = "\n".join(f"  {name:{width}}  {what}" for name, what in COMMANDS.items())
    return (
        "usage: emlinit COMMAND [ARGUMENTS...]\n\n"
        "Symbolic regression with one operator, eml(l, r) = exp(l) - ln(r).\n\n"
        f"commands:\n{listed}\n\n'emlinit COMMAND --help' explains a command."
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand; returns the exit code."""
    return run(lambda: _command(list(sys.argv[1:] if argv is None else argv)))


def _command(arguments: list[str]) -> int:
    if arguments and arguments[0] in ("-h", "--help"):
        print(usage())
        return 0
    if not arguments or arguments[0] not in COMMANDS:
        given = f"'{arguments[0]}' is no command" if arguments else "a command is missing"
        close = difflib.get_close_matches(arguments[0], COMMANDS, n=1) if arguments else []
        hint = f"did you mean '{close[0]}'?" if close else f"use one of {', '.join(COMMANDS)}"
        print_error(f"{given}: {hint}")
        return EXIT_USER_ERROR
    command = importlib.import_module(f"emlinit.scripts.{arguments[0].replace('-', '_')}")
    sys.argv = [f"emlinit {arguments[0]}", *arguments[1:]]  # what a parser shows as the name of its program
    return int(command.main(arguments[1:]) or 0)


if __name__ == "__main__":
    sys.exit(main())
