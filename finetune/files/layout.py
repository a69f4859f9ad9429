"""How a table is laid out: where its comments end, what separates its cells, and whether it has a header.

Everything that is guessed here is said in a note; `--header yes` or `no` settles the header.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from emlinit.finetune.files.cells import is_missing, is_number
from emlinit.finetune.options import MIN_ROWS
from emlinit.generator.errors import UserError

_SNIFFED_LINES, _SNIFFED_CHARACTERS = 100, 2**20
_ERROR_CELL = re.compile(r"#(N/A|NA|DIV/0!|VALUE!|REF!|NUM!|NAME\?|NULL!)", re.IGNORECASE)  # spreadsheets'
_NO_VALUE = {"na", "n/a", "n.a.", "null", "none"}  # what may also be the name of a column


@dataclass(frozen=True)
class Layout:
    """What was found out from the first lines of a table."""

    names: tuple[str, ...]
    """One a column, all different."""
    separator: str
    """Comma, semicolon or tab."""
    header_line: int | None
    """Line that the names are from, counted from 1; None if the table has no header."""
    closed: bool
    """Every line ends with a separator: rows have an empty cell more than there are columns."""
    notes: tuple[str, ...]
    """What was skipped or guessed, one sentence each."""


class Rows:
    """The rows of a table as cells of text, and the line of the file at which the last one ended."""

    def __init__(self, lines: Iterator[tuple[int, str]], separator: str, path: Path) -> None:
        """Cut `lines`, which blank ones are left out of."""
        self.line = 0
        self._lines, self._path = lines, path
        self._reader = csv.reader(self._texts(), delimiter=separator, skipinitialspace=True, strict=True)

    def _texts(self) -> Iterator[str]:
        for number, text in self._lines:
            if text.strip():
                self.line = number
                yield text

    def __iter__(self) -> Iterator[list[str]]:
        try:
            yield from self._reader
        except csv.Error as problem:
            raise UserError(
                f"'{self._path}' is not a CSV table ({problem} in line {self.line}): mend its quotes or export it again"
            ) from None


def read_layout(lines: Iterator[tuple[int, str]], header: str, path: Path) -> tuple[Layout, Rows]:
    """The layout of a table and its rows, those of the header left out.

    Args:
        lines: number and text of each line.
        header: "yes", "no" or "auto".
        path: for messages.

    Raises:
        UserError: empty, one column, not separated by comma, semicolon or tab, or two columns of one name.
    """
    comments, head = _head(lines)
    if not head:
        raise UserError(f"'{path}' is empty: give a table with at least {MIN_ROWS} rows of numbers")
    separator = _sniff([text for _, text in head], path)
    first, first_line = _first_row(head, separator, path)
    width, closed = _width(head, separator, first)
    if width < 2:
        raise UserError(f"'{path}' has one column: a table needs at least one feature and a target")
    first = first[:width]

    notes: list[str] = []
    above = _commented_header(comments, separator, width) if header != "no" else None
    has_text = any(not is_number(cell, separator) and not is_missing(cell) for cell in first)
    no_value = len(set(first)) == width and {cell.lower() for cell in first} <= _NO_VALUE
    if above is not None and not has_text:
        header_line: int | None
        header_line, titles = above
        comments = comments[:-1]
        notes.append(f"line {header_line} is read as the header, although it begins with #")
    elif header == "yes" or (header == "auto" and (has_text or no_value)):
        header_line, titles = first_line, first
        numbers = [cell for cell in first if is_number(cell, separator)]
        if header == "auto" and numbers:
            text = next(cell for cell in first if not is_number(cell, separator) and not is_missing(cell))
            notes.append(
                f"line {first_line} mixes numbers and text ({_short(numbers[0])}, {_short(text)}) and is read as the "
                "header: with --header no it is a row"
            )
        elif header == "auto" and no_value:
            notes.append(f"line {first_line} is read as the header: with --header no it is a row of missing values")
    else:
        header_line, titles = None, []
        if header == "auto":
            notes.append(
                f"no header: line {first_line} is read as a row, the columns are called x1 to "
                f"{'x' + str(width - 1)} and y (--header yes takes it for names)"
                if width > 2
                else f"no header: line {first_line} is read as a row, the columns are called x1 and y (--header yes "
                "takes it for names)"
            )
    if comments:
        n = len(comments)
        notes.append(
            f"line {comments[0][0]} begins with # and is skipped"
            if n == 1
            else f"{n} lines above the table begin with # and are skipped"
        )
    names = _names(titles, width, path)
    rows = Rows(_chain(head, lines), separator, path)
    if header_line == first_line:
        next(iter(rows))
    return Layout(names, separator, header_line, closed, tuple(notes)), rows


def _head(lines: Iterator[tuple[int, str]]) -> tuple[list[tuple[int, str]], list[tuple[int, str]]]:
    """The comments above a table, and its first lines."""
    comments: list[tuple[int, str]] = []
    head: list[tuple[int, str]] = []
    size = 0
    for number, text in lines:
        if not text.strip():
            continue
        start = text.lstrip()
        if not head and start.startswith("#") and not _ERROR_CELL.match(start):
            comments.append((number, text))
            continue
        head.append((number, text))
        size += len(text)
        if len(head) >= _SNIFFED_LINES or (size > _SNIFFED_CHARACTERS and len(head) > 1):
            break
    return comments, head


def _chain(head: list[tuple[int, str]], rest: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    yield from head
    yield from rest


def _sniff(lines: list[str], path: Path) -> str:
    """The separator that cuts the largest share of the lines into as many cells as the first line, two or more."""
    best, best_share = "", 0.0
    for separator in ("\t", ";", ","):
        try:
            counts = [len(row) for row in csv.reader(lines, delimiter=separator, skipinitialspace=True)]
        except csv.Error:
            continue
        share = counts.count(counts[0]) / len(counts)
        if counts[0] > 1 and share > best_share:
            best, best_share = separator, share
    if not best:
        raise UserError(f"'{path}' is not a CSV table: no comma, semicolon or tab separates its columns")
    return best


def _first_row(head: list[tuple[int, str]], separator: str, path: Path) -> tuple[list[str], int]:
    rows = Rows(iter(head), separator, path)
    first = [cell.strip() for cell in next(iter(rows))]
    return first, rows.line


def _width(head: list[tuple[int, str]], separator: str, first: list[str]) -> tuple[int, bool]:
    """Number of columns, and whether every line ends with a separator that closes it."""
    width = len(first)
    try:
        rows = list(csv.reader((text for _, text in head), delimiter=separator, skipinitialspace=True))
    except csv.Error:
        return width, False
    if width > 1 and all(len(row) == width and not row[-1].strip() for row in rows):
        return width - 1, True
    return width, False


def _commented_header(comments: list[tuple[int, str]], separator: str, width: int) -> tuple[int, list[str]] | None:
    """Line and titles of a header that is written as the last comment above a table, as NumPy does, if there is one."""
    if not comments:
        return None
    line, text = comments[-1]
    cells = [cell.strip() for cell in next(csv.reader([text.lstrip().lstrip("#").strip()], delimiter=separator), [])]
    if len(cells) != width or any(is_number(cell, separator) for cell in cells) or not any(cells[1:]):
        return None
    return line, [cells[0] or "#", *cells[1:]]


def _names(titles: list[str], width: int, path: Path) -> tuple[str, ...]:
    """Names of the columns: the titles on one line, without what cannot be printed; an empty one by its place."""
    if not titles:
        return (*(f"x{i + 1}" for i in range(width - 1)), "y")
    plain = [" ".join("".join(c if c.isprintable() else " " for c in title).split()) for title in titles]
    for name, times in Counter(plain).items():
        if name and times > 1:
            raise UserError(f"'{path}' has more than one column named {_short(name)}: give every column its own name")
    names, taken = [], set(plain)
    for place, name in enumerate(plain, start=1):
        if not name:
            name = f"x{place}"
            while name in taken:
                name += "_"
            taken.add(name)
        names.append(name)
    return tuple(names)


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")
