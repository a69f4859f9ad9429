"""How a table is laid out: where its comments and titles end, what separates its cells, whether it has a header and units.

Everything that is guessed here is said in a note; `--header yes` or `no` settles the header.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from emlinit.finetune.options import MIN_ROWS
from emlinit.finetune.tables.cells import is_missing, is_number, kind_of
from emlinit.finetune.tables.separators import Line, Rows, find_table
from emlinit.finetune.tables.units import unit_of
from emlinit.generator.errors import UserError

_SNIFFED_LINES, _SNIFFED_CHARACTERS = 100, 2**20
_ERROR_CELL = re.compile(r"#(N/A|NA|DIV/0!|VALUE!|REF!|NUM!|NAME\?|NULL!)", re.IGNORECASE)  # spreadsheets'
_NO_VALUE = {"na", "n/a", "n.a.", "null", "none"}  # what may also be the name of a column
_UNNAMED = {
    "",
    "Unnamed: 0",
    "__index_level_0__",
}  # what the first column is called if it is the index of a pandas table
_SEPARATOR_HINT = re.compile(r'"?sep=.?"?', re.IGNORECASE)  # what Excel is told by the first line
_MOST_UNITS = 6  # that are listed


@dataclass(frozen=True)
class Layout:
    """What was found out from the first lines of a table."""

    names: tuple[str, ...]
    """One a column, all different."""
    separator: str
    """Comma, semicolon, tab, or a blank."""
    header_line: int | None
    """Line that the names are from, counted from 1; None if the table has no header."""
    closed: bool
    """Every line ends with a separator: rows have an empty cell more than there are columns."""
    notes: tuple[str, ...]
    """What was skipped or guessed, one sentence each."""
    units: dict[str, str]
    """Column -> unit, of those that a row of units below the header names."""
    may_be_index: bool
    """The first column has no name, as that of a pandas table which counts the rows."""


def read_layout(lines: Iterator[Line], header: str, path: Path) -> tuple[Layout, Rows]:
    """The layout of a table and its rows, those of the header left out.

    Args:
        lines: number and text of each line.
        header: "yes", "no" or "auto".
        path: for messages.

    Raises:
        UserError: empty, one column, not separated by comma, semicolon, tab or blanks, or two columns of one name.
    """
    comments, head = _head(lines)
    hint = [line for line, text in head[:1] if _SEPARATOR_HINT.fullmatch(text.strip())]
    head = head[len(hint) :]
    if not head:
        raise UserError(f"'{path}' is empty: give a table with at least {MIN_ROWS} rows of numbers")
    found = find_table(head, path)
    head = head[len(found.titles) :]
    separator = found.separator
    top = _first_rows(head, separator, path)
    if found.names_one_short:
        top[0] = (["", *top[0][0]], top[0][1])
    first, first_line = top[0]
    width = len(first)
    closed = width > 1 and all(len(row) == width and not row[-1] for row, _ in top)
    width -= closed
    if width < 2:
        raise UserError(f"'{path}' has one column: a table needs at least one feature and a target")
    first = first[:width]

    notes = [*(f"line {line} names the separator and is skipped" for line in hint), *_said_of_titles(found.titles)]
    above = _commented_header(comments, separator, width, path) if header != "no" else None
    units_above = _units_in_comment(comments, top[0], separator, width, path) if above is not None else None
    if units_above is not None:
        comments, above = comments[:-1], _commented_header(comments[:-1], separator, width, path)
    has_text = not all(_is_value(cell, row_below, separator) for cell, row_below in _with_cells_below(top, width))
    no_value = len(set(first)) == width and {cell.lower() for cell in first} <= _NO_VALUE
    units_first = above is not None and _units(top[:2], separator, width) is not None
    header_line: int | None
    if above is not None and (not has_text or units_first):
        header_line, titles = above
        comments = comments[:-1]
        notes.append(f"line {header_line} is read as the header, although it begins with #")
    elif header == "yes" or (header == "auto" and (has_text or no_value)):
        header_line, titles = first_line, first
        numbers = [cell for cell in first if is_number(cell, separator)]
        if header == "auto" and numbers:
            text = next((c for c in first if not is_number(c, separator) and not is_missing(c)), first[-1])
            notes.append(
                f"line {first_line} mixes numbers and text ({_short(numbers[0])}, {_short(text)}) and is read as the "
                "header: with --header no it is a row"
            )
        elif header == "auto" and no_value:
            notes.append(f"line {first_line} is read as the header: with --header no it is a row of missing values")
    else:
        header_line, titles = None, []
        if header == "auto":
            called = f"x1 to x{width - 1} and y" if width > 2 else "x1 and y"
            notes.append(
                f"no header: line {first_line} is read as a row, the columns are called {called} (--header yes takes it "
                "for names)"
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
    n_above = int(header_line == first_line)
    units = None if header_line is None else _units(top[n_above : n_above + 2], separator, width)
    for _ in range(n_above + (units is not None)):
        next(iter(rows))
    units_line = top[n_above][1] if units is not None else 0
    if units_above is not None and units is None:
        units_line, units = units_above
    named = {name: unit for name, unit in zip(names, units or (), strict=False) if unit}
    if units is not None:
        notes.append(_said_of_units(named, units_line))
    may_be_index = bool(titles) and titles[0] in _UNNAMED
    return Layout(names, separator, header_line, closed, tuple(notes), named, may_be_index), rows


def _with_cells_below(top: Sequence[tuple[list[str], int]], width: int) -> Iterator[tuple[str, str | None]]:
    """The cells of the first row, each with the one below it."""
    first = top[0][0][:width]
    below = top[1][0] if len(top) > 1 and len(top[1][0]) >= width else None
    for place, cell in enumerate(first):
        yield cell, None if below is None else below[place]


def _is_value(cell: str, below: str | None, separator: str) -> bool:
    """Whether a cell of the first row is a value and not a name; what may be either is what the cell below it is."""
    kind = kind_of(cell, separator)
    if kind is None or kind == "number":
        return kind == "number" or is_missing(cell)
    return below is not None and (kind_of(below, separator) == kind or is_missing(below))


def _units(rows: Sequence[tuple[list[str], int]], separator: str, width: int) -> list[str] | None:
    """The units that the first of two rows holds; None if it is a row of data.

    It holds units if none of its cells is a value, and what stands below a unit is one.
    """
    if len(rows) < 2 or any(len(row) < width for row, _ in rows):
        return None
    units = []
    for cell, below in zip(rows[0][0][:width], rows[1][0][:width], strict=True):
        unit = None if kind_of(cell, separator) is not None and cell != "1" else unit_of(cell)
        if unit is None or (unit and kind_of(below, separator) is None and not is_missing(below)):
            return None
        units.append(unit)
    return units if any(units) else None


def _said_of_titles(titles: Sequence[Line]) -> list[str]:
    if not titles:
        return []
    shown = _short(" ".join(titles[0][1].split()))
    if len(titles) == 1:
        return [f"line {titles[0][0]} ({shown}) has another number of cells than the table below it and is skipped"]
    return [f"{len(titles)} lines above the table ({shown} first) have another number of cells and are skipped"]


def _said_of_units(named: dict[str, str], line: int) -> str:
    shown = ", ".join(f"{name} in {unit}" for name, unit in list(named.items())[:_MOST_UNITS])
    return f"line {line} is read as units: {shown}{', ...' if len(named) > _MOST_UNITS else ''}"


def _head(lines: Iterator[Line]) -> tuple[list[Line], list[Line]]:
    """The comments above a table, and its first lines."""
    comments: list[Line] = []
    head: list[Line] = []
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


def _chain(head: list[Line], rest: Iterator[Line]) -> Iterator[Line]:
    yield from head
    yield from rest


def _first_rows(head: Sequence[Line], separator: str, path: Path) -> list[tuple[list[str], int]]:
    """The rows that the first lines hold, cells without blanks around them, and the line at which each ends."""
    rows = Rows(iter(head), separator, path, strict=False)
    return [([cell.strip() for cell in row], rows.line) for row in rows]


def _commented_header(comments: Sequence[Line], separator: str, width: int, path: Path) -> tuple[int, list[str]] | None:
    """Line and titles of a header that is written as the last comment above a table, as NumPy does, if there is one."""
    if not comments:
        return None
    line, text = comments[-1]
    plain = text.lstrip().lstrip("#").strip()
    cells = [cell.strip() for cell in next(iter(Rows(iter([(line, plain)]), separator, path, strict=False)), [])]
    if len(cells) != width or any(is_number(cell, separator) for cell in cells) or not any(cells[1:]):
        return None
    return line, [cells[0] or "#", *cells[1:]]


def _units_in_comment(
    comments: Sequence[Line], first: tuple[list[str], int], separator: str, width: int, path: Path
) -> tuple[int, list[str]] | None:
    """Line and units of the last comment above a table, if it holds them and the one above it the names."""
    if len(comments) < 2 or _commented_header(comments[:-1], separator, width, path) is None:
        return None
    last = _commented_header(comments[-1:], separator, width, path)
    units = None if last is None else _units([(last[1], last[0]), first], separator, width)
    return None if last is None or units is None else (last[0], units)


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
