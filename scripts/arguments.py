"""What the scripts share: a parser whose errors are one line, and the last stop of an error that a user can mend."""

import argparse
import difflib
import io
import sys
from collections.abc import Callable
from typing import NoReturn

from emlinit.generator.errors import UserError

EXIT_USER_ERROR = 2
"""Exit code when the input has to be mended."""
EXIT_INTERRUPTED = 130


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` that shows defaults in its help, takes no abbreviations and prints errors as `error: ...`."""

    def __init__(self, description: str, epilog: str = "") -> None:
        super().__init__(description=description, epilog=epilog, allow_abbrev=False, formatter_class=_HelpFormatter)

    def error(self, message: str) -> NoReturn:
        """Print one line that says what is meant, and exit with code 2."""
        prefix = "unrecognized arguments: "
        if message.startswith(prefix):
            unknown = message.removeprefix(prefix).split()[0]
            known = [option for action in self._actions for option in action.option_strings if option.startswith("--")]
            close = difflib.get_close_matches(unknown.partition("=")[0], known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"the options are {', '.join(known)}"
            message = f"unknown argument '{unknown}': {hint}"
        print_error(message)
        raise SystemExit(EXIT_USER_ERROR)


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    def _get_help_string(self, action: argparse.Action) -> str | None:
        # A default of None or False says nothing to a reader: the help text of such an option tells what happens.
        return action.help if action.default is None or action.default is False else super()._get_help_string(action)


def print_error(message: object) -> None:
    """Print `error: <message>` on standard error as exactly one line."""
    print("error:", " ".join(str(message).split()), file=sys.stderr)


def run(body: Callable[[], int]) -> int:
    """Run a script's body; an error that the user can mend becomes one line and exit code 2, never a traceback."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a column name that the terminal cannot show is no failure
    try:
        return body()
    except UserError as error:
        print_error(error)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        print_error("interrupted, nothing was written")
        return EXIT_INTERRUPTED
