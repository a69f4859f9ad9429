"""What a table comes in: a file, a pipe, standard input (`-`), any of them packed by gzip, an Excel sheet or a Parquet file.

What it is shows in its first bytes and not in its name. A sheet and a Parquet file are written out as text first
(`sheets`), so that every table goes through the same checks. A pipe is copied to a temporary file: the encoding is known
only at its end. Nothing is unpacked beyond `MOST_BYTES`.
"""

import gzip
import io
import os
import stat
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from emlinit.finetune.tables.sheets import excel_as_text, parquet_as_text, too_large
from emlinit.generator.errors import UserError

MOST_BYTES = 4 * 2**30
"""Size of a file, unpacked, from which it is refused: a law shows in a few thousand rows."""
SECONDS_FOR_A_WRITER = 3.0
"""How long a pipe may be without anybody who writes to it."""
_PIECE = 2**20
_WAIT = 0.02  # seconds between two looks at a pipe
_GZIP, _ZIP, _PARQUET, _OLD_EXCEL = b"\x1f\x8b", b"PK\x03\x04", b"PAR1", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


@dataclass(frozen=True)
class OpenedTable:
    """The bytes of a table as text, at their start."""

    data: io.BufferedIOBase
    """Seekable."""
    notes: tuple[str, ...] = ()
    """What was chosen, one sentence each."""
    has_names: bool = False
    """The first line is known to hold names."""


@contextmanager
def opened_table(path: Path) -> Iterator[OpenedTable]:
    """Open what `path` names; `-` is standard input.

    Raises:
        UserError: no such file, a folder or a device, no permission, larger than `MOST_BYTES`, a pipe that nobody writes to,
            damaged, or a container that is not known.
    """
    with _opened(path) as data:
        start = data.read(8)
        data.seek(0)
        if start.startswith(_GZIP):
            with gzip.GzipFile(fileobj=data) as unpacked:
                _check_packed(unpacked, path)
                yield OpenedTable(unpacked)
        elif start.startswith(_ZIP) or start.startswith(_PARQUET):
            with tempfile.TemporaryFile() as text:
                if start.startswith(_ZIP):
                    notes, has_names = excel_as_text(data, text, path, MOST_BYTES), False
                else:
                    notes, has_names = parquet_as_text(data, text, path, MOST_BYTES), True
                text.seek(0)
                yield OpenedTable(cast(io.BufferedIOBase, text), notes, has_names)
        elif start == _OLD_EXCEL:
            raise UserError(f"'{path}' is a workbook of an old Excel: save it as .xlsx or as CSV")
        else:
            yield OpenedTable(data)


def _check_packed(packed: gzip.GzipFile, path: Path) -> None:
    """Unpack all of a file once, and go back: it is whole, not too large, and holds no other container."""
    size = 0
    try:
        while piece := packed.read(_PIECE):
            if not size and piece.startswith((_GZIP, _ZIP, _PARQUET)):
                raise UserError(f"'{path}' holds a packed file in a packed one: unpack it first")
            size += len(piece)
            if size > MOST_BYTES:
                raise too_large(path, MOST_BYTES)
        packed.seek(0)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise UserError(f"'{path}' is a damaged gzip file: copy or pack it again") from None


@contextmanager
def _opened(path: Path) -> Iterator[io.BufferedIOBase]:
    is_input = str(path) == "-"
    try:
        # Opened without waiting: a pipe that nobody writes to would never answer. Standard input is shared with other
        # processes and stays as it is.
        handle = (
            os.dup(0)
            if is_input
            else os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        )
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
                    raise too_large(path, MOST_BYTES)
                file.seek(0)
                yield file
            elif is_input and os.isatty(handle):
                raise UserError("standard input is a terminal: send a table to it, as in `emlinit solve - < DATA.csv`")
            elif stat.S_ISFIFO(kind.st_mode) or (is_input and not stat.S_ISBLK(kind.st_mode)):
                with tempfile.TemporaryFile() as copy:
                    _copy_pipe(handle, copy, path)
                    copy.seek(0)
                    yield cast(io.BufferedIOBase, copy)
            else:
                raise UserError(f"'{path}' is a device, not a file: give the path of a CSV file")
    except OSError as problem:
        raise _unreadable(path, problem) from None


def _copy_pipe(handle: int, copy: IO[bytes], path: Path) -> None:
    """All that comes out of a pipe, however slowly, as long as somebody writes to it."""
    size, give_up = 0, time.monotonic() + (0.0 if str(path) == "-" else SECONDS_FOR_A_WRITER)
    while True:
        try:
            piece = os.read(handle, _PIECE)
        except BlockingIOError:  # there is a writer, who has nothing to say just now
            give_up = 0.0
            time.sleep(_WAIT)
            continue
        if not piece:  # there is none: it has ended, or not yet begun
            if size or not give_up or str(path) == "-":
                return
            if time.monotonic() > give_up:
                raise UserError(f"'{path}' is a pipe that nobody writes to: give the path of a CSV file")
            time.sleep(_WAIT)
        size += len(piece)
        if size > MOST_BYTES:
            raise too_large(path, MOST_BYTES)
        copy.write(piece)


def _unreadable(path: Path, problem: OSError | ValueError) -> UserError:
    reason = getattr(problem, "strerror", None) or str(problem)
    return UserError(f"'{path}' cannot be read ({reason}): give a CSV file that you may read")
