"""What separates the cells of a table, and at which line it begins: above it, lines of another number of cells are titles.

Comma, semicolon and tab are tried first. Blanks, several of which count as one, separate only where those cut nothing into
rows of one width. A line is a title only if it stands above the first row of the table's width, and never if it is a row of
numbers.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from emlinit.finetune.tables.cells import is_missing, is_number, kind_of
from emlinit.generator.errors import UserError

BLANKS = " "
"""The separator of a table whose cells stand between blanks."""
_GAP = re.compile(r'("(?:[^"]|"")*")|[ \t]+')
_BLANKS_AND_TABS = re.compile(r"[ \t]+")
_NUMBERS_APART = re.compile(r"\d +[+-]?\.?\d")
_THOUSANDS_APART = re.compile(r"[+-]?\d{1,3}( \d{3})*(\.\d+)?")
_ENOUGH = 0.5  # share of the lines that must have the width of the table; less, and blanks are tried
_FEWEST_BELOW_TITLES = 2  # rows of one width that make a table

Line = tuple[int, str]
"""Number of a line, from 1, and its text."""


class Rows:
    """The rows of a table as cells of text, and the line of the file at which the last one ended."""

    def __init__(self, lines: Iterator[Line], separator: str, path: Path, *, strict: bool = True) -> None:
        """Cut `lines`, which blank ones are left out of; not `strict`, quotes are not checked."""
        self.line = 0
        self._lines, self._path = lines, path
        texts = self._texts()
        if separator == BLANKS:
            texts, separator = map(_with_tabs, texts), "\t"
        self._reader = csv.reader(texts, delimiter=separator, skipinitialspace=True, strict=strict)

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


@dataclass(frozen=True)
class Found:
    """Where a table is among the first lines of its file."""

    separator: str
    """Comma, semicolon, tab, or `BLANKS`."""
    titles: tuple[Line, ...]
    """Lines above it that are skipped."""
    names_one_short: bool
    """The first row names all columns but the first one, as R writes it."""


@dataclass(frozen=True)
class _Cut:
    """The first lines as one separator cuts them."""

    separator: str
    rows: list[list[str]]
    ends: list[int]
    width: int
    """Cells of a row of the table; 1 if there is none."""
    first: int
    """Place of the first such row."""
    share: float
    """Of the rows from that one on, those of this width."""


def find_table(head: Sequence[Line], path: Path) -> Found:
    """The table among the first lines of a file.

    Raises:
        UserError: nothing separates columns, or lines above the table are rows of numbers.
    """
    cut = max((_cut(head, separator, path) for separator in ("\t", ";", ",")), key=lambda cut: cut.share)
    with_gaps = [row for row in cut.rows if any(_NUMBERS_APART.search(cell) for cell in row)]
    if cut.share < 1.0 or with_gaps:
        blanks = _cut(head, BLANKS, path)
        if _is_table_of_blanks(blanks) and (cut.share < _ENOUGH or _is_better(blanks, cut, with_gaps)):
            cut = blanks
    if cut.width < 2:
        raise UserError(f"'{path}' is not a CSV table: no comma, semicolon, tab or blank separates its columns")
    first = cut.first
    if not first:
        return Found(cut.separator, (), False)
    above, below = cut.rows[:first], cut.rows[first]
    short = _names_all_but_the_first(above[-1], cut.rows[first:], cut)
    titles, begin = above[: first - short], cut.ends[first - short - 1] if first > short else 0
    has_header = short or not all(kind_of(cell.strip(), cut.separator) or is_missing(cell.strip()) for cell in below)
    for row, end in zip(titles, cut.ends, strict=False):
        like_a_header = len(row) > 1 and not has_header and cut.separator != BLANKS
        if like_a_header or _is_row_of_numbers(row, cut.separator):
            raise UserError(
                f"line {end} of '{path}' does not have {cut.width} cells like the lines below it, but {len(row)}: mend it, "
                "or leave it out if it belongs to no row"
            )
    return Found(cut.separator, tuple(line for line in head if line[0] <= begin), bool(short))


def _cut(head: Sequence[Line], separator: str, path: Path) -> _Cut:
    """How a separator cuts the lines; the width is that of most rows of several cells, and of the first among equals."""
    rows: list[list[str]] = []
    ends: list[int] = []
    reading = Rows(iter(head), separator, path, strict=False)
    try:
        for row in reading:
            rows.append(row)
            ends.append(reading.line)
    except UserError:
        return _Cut(separator, rows, ends, 1, 0, 0.0)
    widths = [len(row) for row in rows]
    several = Counter(width for width in widths if width > 1)
    if not several:
        return _Cut(separator, rows, ends, 1, 0, 0.0)
    width, times = several.most_common(1)[0]
    if times == several[widths[0]]:
        width = widths[0]
    first = widths.index(width)
    if first and times < _FEWEST_BELOW_TITLES:
        return _Cut(separator, rows, ends, 1, 0, 0.0)
    return _Cut(separator, rows, ends, width, first, times / (len(widths) - first))


def _with_tabs(text: str) -> str:
    """A line with one tab in place of the blanks between two cells."""
    text = text.strip(" \t\r\n")
    if '"' not in text:
        return _BLANKS_AND_TABS.sub("\t", text)
    return _GAP.sub(lambda match: match[1] or "\t", text)


def _is_table_of_blanks(cut: _Cut) -> bool:
    if cut.width < 2 or cut.share < _ENOUGH:
        return False
    rows = [row for row in cut.rows if len(row) == cut.width]
    with_number = sum(any(is_number(cell, BLANKS) for cell in row) for row in rows)
    return with_number >= _ENOUGH * len(rows)


def _is_better(blanks: _Cut, other: _Cut, with_gaps: Sequence[Sequence[str]]) -> bool:
    """Whether blanks cut all rows, down to numbers, and another separator cuts them unevenly or leaves several in a cell.

    Commas may then be decimal signs. Where tabs or semicolons cut evenly they stay, and so do commas in `1 234,5 678`,
    which may be two numbers or three.
    """
    numbers = all(is_number(cell, BLANKS) or is_missing(cell) for cell in blanks.rows[-1])
    two_ways = bool(with_gaps) and all(_THOUSANDS_APART.fullmatch(cell.strip()) for row in with_gaps for cell in row)
    is_even = other.share == 1.0 and not other.first and other.separator != ","
    return numbers and blanks.share == 1.0 and blanks.first <= other.first and not two_ways and not is_even


def _is_row_of_numbers(row: Sequence[str], separator: str) -> bool:
    cells = [cell.strip() for cell in row]
    return any(is_number(cell, separator) for cell in cells) and all(
        is_number(cell, separator) or is_missing(cell) for cell in cells
    )


def _names_all_but_the_first(row: Sequence[str], below: Sequence[Sequence[str]], cut: _Cut) -> bool:
    """Whether a row with a cell too few is a header without a name for the first column, which counts or names the rows."""
    if len(row) != cut.width - 1 or any(kind_of(cell.strip(), cut.separator) or not cell.strip() for cell in row):
        return False
    labels = [cells[0].strip() for cells in below]
    if not any(kind_of(label, cut.separator) or is_missing(label) for label in labels):
        return True
    return any(labels == [str(number + start) for number in range(len(labels))] for start in (0, 1))
