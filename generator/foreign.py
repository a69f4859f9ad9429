"""Reading files that may come from anybody: without waiting, never more than was asked for, and JSON that means one thing.

A pipe or a device in the place of a file is not opened; a file is read up to a limit. JSON is refused where it holds a key
twice, a number that is not finite or beyond 64 bits, text that cannot be written again, or more nesting than any of our
files: whoever reads it on need not think of these.
"""

import errno
import json
import math
import os
import stat
from collections.abc import Sequence
from io import BufferedReader
from pathlib import Path
from textwrap import shorten
from typing import Any, Literal

from emlinit.generator.errors import UserError

MOST_NESTING = 64
"""Deepest nesting of lists and objects in JSON that is read."""
_LARGEST_INT = 2**63


def kind_of_path(path: Path) -> Literal["file", "folder", "missing", "other"]:
    """What stands at a path, links followed.

    Raises:
        UserError: nobody can tell: no permission on a folder above it, a name that is too long, a circle of links.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "missing"
    except (OSError, ValueError) as problem:
        raise UserError(f"{shown(path)} cannot be looked at ({reason(problem)}): name another place") from problem
    return "file" if stat.S_ISREG(mode) else "folder" if stat.S_ISDIR(mode) else "other"


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file to read.

    Raises:
        OSError: there is none, or it cannot be read; a pipe, a device or a folder is none.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "not a regular file")
    # It may have become a pipe since: opening that would wait.
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "not a regular file")
    return os.fdopen(handle, "rb")


def read_bounded(path: Path, most: int) -> bytes:
    """The bytes of a regular file.

    Raises:
        OSError: there is none, it cannot be read, or it has more than `most` bytes.
    """
    with open_regular(path) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"larger than {most:,} bytes")
    return data


def parse_json(data: bytes | str) -> Any:
    """Read JSON; see the module for what is refused.

    Raises:
        ValueError: it is not JSON, or not such as ours; the message is one line.
    """
    try:
        text = data if isinstance(data, str) else data.decode("utf-8")
        value = json.loads(
            text, object_pairs_hook=_object, parse_int=_integer, parse_float=_number, parse_constant=_number
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None
    _check_nesting_and_text(value)
    return value


def reason(problem: BaseException) -> str:
    """What an error says, short and in one line."""
    said = problem.strerror if isinstance(problem, OSError) else None
    return shorten(" ".join(str(said or problem).split()) or type(problem).__name__, 200, placeholder=" ...")


def shown(value: object) -> str:
    """A value from outside inside a message: in quotes, short, without what would break the line."""
    text = repr(str(value) if isinstance(value, Path) else value)
    return text if len(text) <= 120 else f"{text[:80]} ... ({len(text)} characters)"


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{shown(twice)} is there twice")
    return fields


def _integer(digits: str) -> int:
    if len(digits) > 20 or not -_LARGEST_INT <= int(digits) < _LARGEST_INT:
        raise ValueError(f"the integer {digits[:20]}{'...' if len(digits) > 20 else ''} is beyond 64 bits")
    return int(digits)


def _number(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"the number {digits[:20]} is not finite")
    return value


def _check_nesting_and_text(value: Any) -> None:
    level: list[Any] = [value]
    for _ in range(MOST_NESTING):
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below += [*item, *item.values()]
            elif isinstance(item, list):
                below += item
            elif isinstance(item, str) and not item.isascii():
                item.encode("utf-8")  # half a surrogate pair cannot be: a ValueError
        if not below:
            return
        level = below
    raise ValueError("nested too deeply")
