"""What the scripts share: a parser whose errors are one line, and the kinds of arguments that several of them take."""

import argparse
import difflib
import math
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from emlinit.finetune.options import checked_operators
from emlinit.generator.errors import UserError
from emlinit.scripts.running import EXIT_USER_ERROR, print_error

if TYPE_CHECKING:
    from _typeshed import SupportsWrite


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` that shows defaults in its help, takes no abbreviations and prints errors as `error: ...`."""

    def __init__(self, description: str, epilog: str = "") -> None:
        super().__init__(description=description, epilog=epilog, allow_abbrev=False, formatter_class=_HelpFormatter)

    def print_help(self, file: "SupportsWrite[str] | None" = None) -> None:
        """Print the help; unlike argparse's own, this one does not hide that it cannot be written."""
        print(self.format_help(), end="", file=file)

    def error(self, message: str) -> NoReturn:
        """Print one line that says what is meant, and exit with code 2."""
        prefix = "unrecognized arguments: "
        if message.startswith(prefix):
            unknown = next(iter(message.removeprefix(prefix).split()), "")
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


def path_argument(text: str) -> Path:
    """A path; the empty text, which would be the working folder, is none."""
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError(f"'{text}' is no path: name a file or a folder")
    return Path(text)


def checkpoint_argument(text: str) -> str:
    """The name of a checkpoint; a folder that is not there is found before torch is loaded."""
    kind, _, place = text.partition(":")
    if kind == "local-dir" and place:
        try:
            there = Path(place).expanduser().is_dir()
        except (
            OSError,
            RuntimeError,
            ValueError,
        ):  # a name that is too long, a user that is not known, a null character
            there = False
        if not there:
            raise argparse.ArgumentTypeError(
                f"checkpoint folder '{place}' does not exist: give local-dir:PATH of a folder with a checkpoint"
            )
    return text


def seconds_argument(text: str) -> float:
    """A time that a search may take."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"'{text}' is no positive number of seconds")
    return value


def seed_argument(text: str) -> int:
    """A whole number that NumPy and PyTorch both take as a seed."""
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and int(text) < 2**63):
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number from 0 to 2^63 - 1")
    return int(text)


def count_argument(text: str) -> int:
    """How many there shall be of something: at least one."""
    if not (text.isascii() and text.isdecimal() and len(text) < 19 and int(text) > 0):
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number from 1 on")
    return int(text)


def operators_argument(text: str) -> tuple[str, ...]:
    """Operators and functions with commas between them, by the names that the solver knows."""
    try:
        return tuple(sorted(checked_operators(text, "the list") or ()))
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
