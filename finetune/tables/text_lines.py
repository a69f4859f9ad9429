"""The lines of a text, one after the other: of any encoding that tables come in, and never the whole text at once."""

import codecs
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from emlinit.generator.errors import UserError

LONGEST_LINE = 16 * 2**20
"""Most characters of a line."""
_PIECE = 2**20
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f\x7f]")
_WIDE_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
_WHAT = "give a table as CSV (comma, semicolon, tab or blank separated), .xlsx or Parquet"


@contextmanager
def text_lines(data: io.BufferedIOBase, path: Path) -> Iterator[Iterator[tuple[int, str]]]:
    """Yields the numbers of the lines, from 1, and the lines, each with its end written as one newline.

    Args:
        data: the text, at its start; closed at the end.
        path: for messages.

    Raises:
        UserError: a line longer than `LONGEST_LINE`, or no text (UTF-8, UTF-16 with its mark, Windows-1252).
    """
    with io.TextIOWrapper(cast(BinaryIO, data), encoding=_encoding(data, path), newline=None) as text:
        yield _numbered(text, path)


def _numbered(text: io.TextIOWrapper, path: Path) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(iter(lambda: text.readline(LONGEST_LINE), ""), start=1):
        if len(line) == LONGEST_LINE and not line.endswith("\n"):
            raise UserError(f"line {number} of '{path}' has more than {LONGEST_LINE:,} characters: {_WHAT}")
        yield number, line


def _encoding(data: io.BufferedIOBase, path: Path) -> str:
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
