"""Excel sheets and Parquet files as the text of a table: a line a row, tabs between cells, each number to its last bit.

So they go through the same checks as a CSV file, and the lines in messages are the rows of the sheet. Nothing in them is
evaluated: of a formula, what Excel last computed is read.
"""

import csv
import datetime
import io
import warnings
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any

from emlinit.generator.errors import UserError

_MOST_UNPACKED = 2**30  # bytes of a workbook: what it says twice is held in memory
_MOST_ROWS, _MOST_CELLS = 2**20, 2**27  # of a sheet: the first is Excel's own bound, which a file need not keep
_ROWS_AT_ONCE = 2**14
_CONTROL = dict.fromkeys((*range(32), 127), " ")


def excel_as_text(data: io.BufferedIOBase, text: IO[bytes], path: Path, most_bytes: int) -> tuple[str, ...]:
    """Write the first sheet of a workbook into the open file `text`; returns notes.

    Raises:
        UserError: no workbook, a damaged or too large one, an empty sheet, or openpyxl is not installed.
    """
    _check_archive(data, path)
    try:
        from openpyxl import load_workbook
    except ImportError:
        raise UserError(
            f"'{path}' is an Excel workbook, for which openpyxl is needed: pip install openpyxl, or save it as CSV"
        ) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it says of styles and the like is nothing to us
            book = load_workbook(data, read_only=True, data_only=True, keep_links=False)
            sheets = book.worksheets
            if not sheets:
                raise UserError(f"'{path}' holds no sheet of cells: give a workbook with a table in it")
            sheets[0].reset_dimensions()  # what the file says of its size may be anything
            used = _used_columns(sheets[0].iter_rows(values_only=True), path)
            rows = (_trimmed(row, used) for row in sheets[0].iter_rows(values_only=True))
            _write(_padded(rows, len(used)), text, path, most_bytes)
    except (UserError, MemoryError):
        raise
    except Exception as problem:  # there is no end to what a parser says of damaged files
        raise _damaged(path, "workbook", problem) from None
    titles = [sheet.title for sheet in sheets]
    others = f", the first of {len(titles)}: save another one as CSV to read it" if len(titles) > 1 else ""
    return (f"sheet '{_plain(titles[0])}' is read{others}",)


def parquet_as_text(data: io.BufferedIOBase, text: IO[bytes], path: Path, most_bytes: int) -> tuple[str, ...]:
    """Write a Parquet file into the open file `text`, the names of its columns first; returns notes.

    Raises:
        UserError: a damaged or too large file.
    """
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(data)
        names = file.schema_arrow.names
        if file.metadata.num_rows * max(1, len(names)) > most_bytes // 2:  # a cell is a character and a tab at least
            raise too_large(path, most_bytes)
        n_rows = max(1, _ROWS_AT_ONCE // max(1, len(names)))
        batches = file.iter_batches(n_rows, use_threads=False)
        rows = (row for batch in batches for row in zip(*(column.to_pylist() for column in batch.columns), strict=True))
        _write((row for part in ([names], rows) for row in part), text, path, most_bytes)
    except (UserError, MemoryError):
        raise
    except Exception as problem:
        raise _damaged(path, "Parquet file", problem) from None
    return ("line 1 is the names of the Parquet file, its rows follow",)


def too_large(path: Path, most_bytes: int) -> UserError:
    """The error of a table that has more bytes than are read."""
    return UserError(
        f"'{path}' has more than {most_bytes // 2**30} GiB: give a sample of its rows, a law shows in a few thousand"
    )


def _check_archive(data: io.BufferedIOBase, path: Path) -> None:
    try:
        with zipfile.ZipFile(data) as archive:
            names = archive.namelist()
            size = sum(member.file_size for member in archive.infolist())
    except (zipfile.BadZipFile, zipfile.LargeZipFile, ValueError, OSError, NotImplementedError) as problem:
        raise _damaged(path, "archive", problem) from None
    data.seek(0)
    if "[Content_Types].xml" not in names or not any(name.startswith("xl/") for name in names):
        raise UserError(f"'{path}' is an archive and no Excel workbook: unpack it and give the table in it")
    if size > _MOST_UNPACKED:
        raise UserError(f"'{path}' has more than {_MOST_UNPACKED // 2**30} GiB unpacked: save the table as CSV")


def _used_columns(rows: Iterable[Sequence[Any]], path: Path) -> list[int]:
    """The columns in which anything stands."""
    used: set[int] = set()
    n_cells = 0
    for number, row in enumerate(rows, start=1):
        n_cells += len(row)
        if number > _MOST_ROWS or n_cells > _MOST_CELLS:
            raise UserError(f"the first sheet of '{path}' is too large: save its table as CSV")
        used.update(place for place, cell in enumerate(row) if cell is not None)
    if not used:
        raise UserError(f"the first sheet of '{path}' is empty: move the table to it, or save its sheet as CSV")
    return sorted(used)


def _trimmed(row: Sequence[Any], used: Sequence[int]) -> list[Any]:
    """The used cells of a row, without those at its end that are empty."""
    cells = [row[place] if place < len(row) else None for place in used]
    while cells and cells[-1] is None:
        del cells[-1]
    return cells


def _padded(rows: Iterable[list[Any]], width: int) -> Iterable[list[Any]]:
    """From the first row on that is full, all are: those above may be titles."""
    full = False
    for row in rows:
        full = full or len(row) == width
        yield row + [None] * (width - len(row)) if full and row else row


def _write(rows: Iterable[Sequence[Any]], text: IO[bytes], path: Path, most_bytes: int) -> None:
    lines = io.StringIO()
    writer = csv.writer(lines, delimiter="\t", lineterminator="\n")
    for number, row in enumerate(rows, start=1):
        writer.writerow([_cell(value) for value in row])
        if lines.tell() > _ROWS_AT_ONCE or number == 1:
            _flush(lines, text, path, most_bytes)
    _flush(lines, text, path, most_bytes)


def _flush(lines: io.StringIO, text: IO[bytes], path: Path, most_bytes: int) -> None:
    text.write(lines.getvalue().encode("utf-8", errors="replace"))
    lines.seek(0)
    lines.truncate()
    if text.tell() > most_bytes:
        raise too_large(path, most_bytes)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, datetime.datetime):
        return value.isoformat(" ")
    return _plain(str(value))


def _plain(text: str) -> str:
    return text.translate(_CONTROL)


def _damaged(path: Path, what: str, problem: Exception) -> UserError:
    reason = str(problem).strip().splitlines()
    shown = f" ({reason[0][:100]})" if reason else ""
    return UserError(f"'{path}' is a damaged {what}{shown}: save it again, or as CSV")
