"""The lines of a text file, one after the other: of any encoding that tables come in, and never the whole file at once.

A pipe (`<(...)`, a named one) is copied to a temporary file first: the encoding is known only at the end.
"""

import codecs
import io
import os
import re
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from emlinit.generator.errors import UserError

MOST_BYTES = 4 * 2**30
"""Size of a file from which it is refused: a law shows in a few thousand rows."""
LONGEST_LINE = 16 * 2**20
"""Most characters of a line."""
SECONDS_FOR_A_WRITER = 3.0
"""How long a pipe may be without anybody who writes to it."""
_PIECE = 2**20
_WAIT = 0.02  # seconds between two looks at a pipe
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f\x7f]")
_WIDE_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
_WHAT = "give a table as CSV (comma, semicolon or tab separated)"


@contextmanager
def text_lines(path: Path) -> Iterator[Iterator[tuple[int, str]]]:
    """Yields the numbers of the lines, from 1, and the lines, each with its end written as one newline.

    Raises:
        UserError: no such file, a folder or a device, no permission, larger than `MOST_BYTES`, a line longer than
            `LONGEST_LINE`, a pipe that nobody writes to, or no text (UTF-8, UTF-16 with its mark, Windows-1252).
    """
    with _opened(path) as data, io.TextIOWrapper(data, encoding=_encoding(data, path), newline=None) as text:
        yield _numbered(text, path)


def _numbered(text: io.TextIOWrapper, path: Path) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(iter(lambda: text.readline(LONGEST_LINE), ""), start=1):
        if len(line) == LONGEST_LINE and not line.endswith("\n"):
            raise UserError(f"line {number} of '{path}' has more than {LONGEST_LINE:,} characters: {_WHAT}")
        yield number, line


def _encoding(data: BinaryIO, path: Path) -> str:
    """The encoding of a file, which is then at its start again."""
    start = data.read(2)
    data.seek(0)
    encodings = ["utf-16"] if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else ["utf-8-sig", "cp1252"]
    for encoding in encodings:
        decoder = codecs.getincrementaldecoder(encoding)()
        try:
            while piece := data.read(_PIECE):
                text = decoder.decode(piece)
                if _WIDE_CONTROL.search(text) if encoding == "utf-16" else _CONTROL.search(piece):
                    raise UserError(f"'{path}' is not a text file: {_WHAT}")
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            continue
        finally:
            data.seek(0)
        return encoding
    raise UserError(f"'{path}' is not a text file: {_WHAT}")


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        # Opened without waiting: a pipe that nobody writes to would never answer.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        raise UserError(f"'{path}' does not exist: give the path of a CSV file") from None
    except IsADirectoryError:
        raise UserError(f"'{path}' is a folder: give the path of a CSV file") from None
    except (OSError, ValueError) as problem:
        raise _unreadable(path, problem) from None
    try:
        kind = os.fstat(handle)
        if stat.S_ISDIR(kind.st_mode):
            os.close(handle)
            raise UserError(f"'{path}' is a folder: give the path of a CSV file")
        with os.fdopen(handle, "rb") as file:
            if stat.S_ISREG(kind.st_mode):
                if kind.st_size > MOST_BYTES:
                    raise _too_large(path)
                yield file
            elif stat.S_ISFIFO(kind.st_mode):
                with tempfile.TemporaryFile() as copy:
                    _copy_pipe(handle, copy, path)
                    copy.seek(0)
                    yield copy
            else:
                raise UserError(f"'{path}' is a device, not a file: give the path of a CSV file")
    except OSError as problem:
        raise _unreadable(path, problem) from None


def _copy_pipe(handle: int, copy: BinaryIO, path: Path) -> None:
    """All that comes out of a pipe, however slowly, as long as somebody writes to it."""
    size, give_up = 0, time.monotonic() + SECONDS_FOR_A_WRITER
    while True:
        try:
            piece = os.read(handle, _PIECE)
        except BlockingIOError:  # there is a writer, who has nothing to say just now
            give_up = 0.0
            time.sleep(_WAIT)
            continue
        if not piece:  # there is none: it has ended, or not yet begun
            if size or not give_up:
                return
            if time.monotonic() > give_up:
                raise UserError(f"'{path}' is a pipe that nobody writes to: give the path of a CSV file")
            time.sleep(_WAIT)
        size += len(piece)
        if size > MOST_BYTES:
            raise _too_large(path)
        copy.write(piece)


def _too_large(path: Path) -> UserError:
    return UserError(
        f"'{path}' has more than {MOST_BYTES // 2**30} GiB: give a sample of its rows, a law shows in a few thousand"
    )


def _unreadable(path: Path, problem: OSError | ValueError) -> UserError:
    reason = getattr(problem, "strerror", None) or str(problem)
    return UserError(f"'{path}' cannot be read ({reason}): give a CSV file that you may read")
