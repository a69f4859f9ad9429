"""Read a table of measurements from a text file and check that a law can be fitted to it.

Comma, semicolon or tab separated, with a header or without one (columns are then `x1`..`xn` and `y`); a byte-order
mark, blank lines and lines that begin with `#` are fine, and so are decimal commas where the comma does not separate
cells. Every cell is data: it is split, matched against the shape of a number and converted by `float`, never evaluated.

The cells are split by the standard `csv` module and not by pandas: errors can then name the line as an editor counts
it, and `float` rounds every number exactly (pandas' default parser is a few bits off).
"""

import csv
import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emlinit.finetune.options import MIN_ROWS
from emlinit.generator.errors import UserError

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+", re.ASCII)
_NOT_FINITE = {"", "na", "n/a", "nan", "null", "none", "-", "?", "inf", "+inf", "-inf", "infinity", "-infinity"}
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f]")


@dataclass(frozen=True)
class Table:
    """The rows of a file that can be used, as numbers."""

    x: np.ndarray
    """Features, float64 of shape (rows, features), all finite."""
    y: np.ndarray
    """Target, float64 of shape (rows,), all finite."""
    features: tuple[str, ...]
    """Column names of `x`, in order."""
    target: str
    """Column name of `y`."""
    rows_dropped: int
    """Rows left out because a used cell is missing, NaN or infinite."""
    notes: tuple[str, ...]
    """What a reader should know about the reading, one sentence each."""


@dataclass(frozen=True)
class _Cells:
    """A file split into text cells."""

    names: tuple[str, ...]
    rows: list[list[str]]
    lines: list[int]  # line of the file, counted from 1, where each row ends
    separator: str
    path: Path


def read_table(path: str | Path, target: str | None = None, features: Sequence[str] | None = None) -> Table:
    """Read a file and pick the target (the last column unless named) and the features (all other columns unless named).

    Raises:
        UserError: the file cannot be read, is no table, has fewer than `MIN_ROWS` usable rows, two columns of one name
            or text where numbers are needed, or a named column does not exist.
    """
    cells = _split(Path(path))
    chosen_target = cells.names[-1] if target is None else _known_column("--target", target, cells.names)
    if features is None:
        chosen = tuple(name for name in cells.names if name != chosen_target)
    else:
        chosen = tuple(_known_column("--features", name, cells.names) for name in features)
    if chosen_target in chosen:
        raise UserError(
            f"column '{chosen_target}' is the target and cannot be a feature too: leave it out of --features"
        )
    if len(set(chosen)) != len(chosen):
        raise UserError("--features names a column twice: name each column once")
    if not chosen:
        raise UserError("no column is left to explain the target: give --features at least one column")

    notes: list[str] = []
    columns = [_numbers(cells, name, notes) for name in (*chosen, chosen_target)]
    values = np.array(columns, dtype=np.float64).reshape(len(columns), len(cells.rows)).T
    usable = np.isfinite(values).all(axis=1)
    dropped = int((~usable).sum())
    if not usable.any():
        raise UserError(f"'{path}' has no row in which every used column is a finite number")
    if usable.sum() < MIN_ROWS:
        left_out = f" ({dropped} dropped for missing, NaN or infinite cells)" if dropped else ""
        raise UserError(f"'{path}' has {_rows(int(usable.sum()))} of numbers{left_out}, at least {MIN_ROWS} are needed")
    if dropped:
        notes.append(f"{_rows(dropped)} of {len(cells.rows)} dropped: a used cell is missing, NaN or infinite")
    values = values[usable]
    return Table(values[:, :-1].copy(), values[:, -1].copy(), chosen, chosen_target, dropped, tuple(notes))


def split_names(text: str) -> list[str]:
    """Column names from one comma-separated option; a name with a comma is written in double quotes."""
    return [name.strip() for name in next(csv.reader([text], skipinitialspace=True), [])]


def _rows(n: int) -> str:
    return f"{n} row" if n == 1 else f"{n} rows"


def _read_text(path: Path) -> str:
    if path.is_dir():
        raise UserError(f"'{path}' is a folder: give the path of a CSV file")
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"'{path}' does not exist: give the path of a CSV file") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"'{path}' cannot be read ({reason}): give a CSV file that you may read") from None
    encodings = ["utf-16"] if data[:2] in (b"\xff\xfe", b"\xfe\xff") else ["utf-8-sig", "cp1252"]
    for encoding in encodings:
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if not _CONTROL.search(text):
            return text
    raise UserError(f"'{path}' is not a text file: give a table as CSV (comma, semicolon or tab separated)")


def _split(path: Path) -> _Cells:
    text = _read_text(path)
    numbered = [
        (number, line)
        for number, line in enumerate(re.split(r"\r\n|\n|\r", text), start=1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if not numbered:
        raise UserError(f"'{path}' is empty: give a table with at least {MIN_ROWS} rows of numbers")
    separator = _sniff([line for _, line in numbered], path)
    rows, lines = _parse([line for _, line in numbered], separator, path)
    lines = [numbered[line - 1][0] for line in lines]
    width = len(rows[0])
    if width > 1 and all(len(row) == width and not row[-1] for row in rows):  # every line ends with a separator
        rows, width = [row[:-1] for row in rows], width - 1
    for row, line in zip(rows, lines, strict=True):
        if len(row) != width:
            raise UserError(
                f"line {line} of '{path}' does not have {width} cells like the first one, but {len(row)}: mend it"
            )
    if width < 2:
        raise UserError(f"'{path}' has one column: a table needs at least one feature and a target")
    if all(_is_number_like(cell, separator) for cell in rows[0]):
        return _Cells((*(f"x{i + 1}" for i in range(width - 1)), "y"), rows, lines, separator, path)
    names = tuple(name or f"x{i + 1}" for i, name in enumerate(rows[0]))
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"'{path}' has more than one column named '{name}': give every column its own name")
    if len(rows) == 1:
        raise UserError(f"'{path}' has a header and no rows: at least {MIN_ROWS} rows of numbers are needed")
    return _Cells(names, rows[1:], lines[1:], separator, path)


def _sniff(lines: list[str], path: Path) -> str:
    """The separator that cuts the largest share of the lines into as many cells as the first line, two or more."""
    best, best_share = "", 0.0
    for separator in ("\t", ";", ","):
        try:
            counts = [len(row) for row in csv.reader(lines[:100], delimiter=separator, skipinitialspace=True)]
        except csv.Error:
            continue
        share = counts.count(counts[0]) / len(counts)
        if counts[0] > 1 and share > best_share:
            best, best_share = separator, share
    if not best:
        raise UserError(f"'{path}' is not a CSV table: no comma, semicolon or tab separates its columns")
    return best


def _parse(lines: list[str], separator: str, path: Path) -> tuple[list[list[str]], list[int]]:
    reader = csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=True)
    rows, ends = [], []
    try:
        for row in reader:
            rows.append([cell.strip() for cell in row])
            ends.append(reader.line_num)
    except csv.Error as error:
        raise UserError(f"'{path}' is not a CSV table ({error}): mend its quotes or export it again") from None
    return rows, ends


def _is_number_like(cell: str, separator: str) -> bool:
    return (
        cell.lower() in _NOT_FINITE
        or _NUMBER.fullmatch(cell) is not None
        or (separator != "," and _DECIMAL_COMMA.fullmatch(cell) is not None)
    )


def _numbers(cells: _Cells, name: str, notes: list[str]) -> list[float]:
    """One column as numbers; missing cells are NaN."""
    column = [row[cells.names.index(name)] for row in cells.rows]
    with_comma = [cell for cell in column if "," in cell] if cells.separator != "," else []
    if with_comma and all(_THOUSANDS.fullmatch(cell) for cell in with_comma) and cells.separator == "\t":
        raise UserError(f"column '{name}' holds '{with_comma[0]}', thousands or a decimal comma: write decimal points")
    decimal_comma = bool(with_comma) and not any("." in cell for cell in column)
    pattern = re.compile(f"{_NUMBER.pattern}|{_DECIMAL_COMMA.pattern}", _NUMBER.flags) if decimal_comma else _NUMBER
    values = []
    for cell, line in zip(column, cells.lines, strict=True):
        if cell.lower() in _NOT_FINITE:
            values.append(float("nan"))
        elif pattern.fullmatch(cell):
            values.append(float(cell.replace(",", ".")))
        else:
            shown = cell if len(cell) <= 40 else cell[:37] + "..."
            others = [other for other in cells.names if other != name]
            raise UserError(
                f"column '{name}' holds text where a number is needed ({shown!r} in line {line}): mend the cell, "
                f"or leave the column out with --target and --features (columns: {', '.join(others)})"
            )
    if decimal_comma:
        notes.append(f"column '{name}': the comma is read as the decimal sign")
    return values


def _known_column(option: str, name: str, names: Sequence[str]) -> str:
    if name in names:
        return name
    folded = {known.casefold(): known for known in names}
    close = difflib.get_close_matches(name.casefold(), list(folded), n=1)
    hint = f"did you mean '{folded[close[0]]}'? " if close else ""
    raise UserError(f"{option} names '{name}', which is no column: {hint}the columns are {', '.join(names)}")
