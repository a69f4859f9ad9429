"""Read a table of measurements and check that a law can be fitted to it.

Comma, semicolon, tab or blank separated, with a header or without one (columns are then `x1`..`xn` and `y`), packed by
gzip or not, an Excel sheet or a Parquet file; what else a table may look like is told in `docs/tables.md`. Every cell is
data: it is split, matched against the shape of a number, a date or a truth value and converted by `float`, never evaluated.
What is guessed, changed or skipped is said.

The cells are split by the standard `csv` module and not by pandas: errors can then name the line as an editor counts
it, `float` rounds every number exactly (pandas' default parser is a few bits off), and a row that is too short is an error.
The file is read piece by piece: beside a piece, only the numbers of the columns used are held.
"""

import csv
import difflib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from emlinit.finetune.options import MIN_ROWS
from emlinit.finetune.sizes import constant_columns, odd_size
from emlinit.finetune.tables.cells import Column, is_missing
from emlinit.finetune.tables.containers import opened_table
from emlinit.finetune.tables.layout import Layout, read_layout
from emlinit.finetune.tables.separators import Rows
from emlinit.finetune.tables.sigma import checked_sigma, is_sigma_column, sigma_of
from emlinit.finetune.tables.suspects import said_of_suspects
from emlinit.finetune.tables.text_lines import text_lines
from emlinit.generator.errors import UserError

_PIECE = 2**16  # cells that are held as text


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
    header_line: int | None = None
    """Line of the file, from 1, that the names are from; None if it has no header."""
    units: dict[str, str] = field(default_factory=dict)
    """Column -> unit, of the columns above whose unit is known: from a row of units, or of dates."""
    row_numbers: np.ndarray | None = None
    """Of each row, which of the file it is, int64 of shape (rows,), counted from 1 below the header; None for those from 1
    on."""
    sigma: np.ndarray | None = None
    """Standard deviations of the target, float64 of shape (rows,), positive; None if they are not known."""
    group: str | None = None
    """Column that names the group of each row; None if none was asked for."""
    labels: tuple[str, ...] = ()
    """The group of each row, as text without blanks around it; empty if none was asked for."""


def read_table(
    path: str | Path,
    target: str | None = None,
    features: Sequence[str] | None = None,
    header: str = "auto",
    missing: Sequence[str] = (),
    sigma: str | None = None,
    group: str | None = None,
) -> Table:
    """Read a file and pick the target (the last column unless named) and the features (all other columns unless named).

    Args:
        path: a file, a pipe, or `-` for standard input.
        target: name of the column to explain.
        features: names of the columns to explain it by.
        header: "yes", "no", or "auto": the first line is a header unless all its cells are values or missing.
        missing: numbers, or texts, that mark a missing value.
        sigma: errors of the target: a column, which is no feature then, a number for all rows, or a share such as 5%.
        group: name of the column that holds the group of each row, as text; it is neither target nor feature.

    Raises:
        UserError: the file cannot be read, is no table, has fewer than `MIN_ROWS` usable rows, two columns of one name,
            text where numbers are needed, numbers of a size that cannot be computed with, what may be read in two ways, no
            feature that varies, a named column that does not exist, an error that is not positive, or a group column that is
            the target or a feature too.
    """
    path = Path(path)
    with opened_table(path) as source, text_lines(source.data, path) as lines:
        layout, rows = read_layout(lines, "yes" if source.has_names and header == "auto" else header, path)
        beside = () if sigma is None or not is_sigma_column(sigma, tuple(layout.names)) else (sigma,)
        chosen_target, chosen = _chosen(layout.names, target, features, beside, group)
        columns, ends, cells = _columns(rows, layout, (*chosen, *beside, chosen_target), missing, path, group)

    notes = [*source.notes, *layout.notes]
    with_comma = any(column.has_decimal_commas for column in columns)
    with_point = any(column.has_decimal_points for column in columns)
    for column in columns:
        column.check_signs(with_comma, with_point)

    if not ends:
        raise UserError(f"'{path}' has a header and no rows: at least {MIN_ROWS} rows of numbers are needed")
    values = np.empty((len(columns), len(ends)))
    units = {column.name: layout.units[column.name] for column in columns if column.name in layout.units}
    marks = [number for number in map(_as_number, missing) if number is not None]
    for place, column in enumerate(columns):
        values[place], unit, said = column.numbers(marks)
        units |= {} if unit is None else {column.name: unit}
        notes += said
    index = layout.names[0]
    if layout.may_be_index and features is None and len(chosen) > 1 and index in chosen and _counts(values[0]):
        notes.append(
            f"the first column has no name and counts the rows: it is no variable (--features {index},... makes it one)"
        )
        chosen, columns, values = chosen[1:], columns[1:], values[1:]
        units.pop(index, None)
    usable = np.asarray(np.isfinite(values).all(axis=0))
    labels = [_label(cell, missing) for cell in cells]
    if group is not None:
        n_unlabelled = labels.count("")
        usable &= np.array([label != "" for label in labels])
        if n_unlabelled:
            notes.append(f"{_rows(n_unlabelled)} without a group in column '{group}'")
    n_usable = int(np.count_nonzero(usable))
    dropped = len(ends) - n_usable
    if not n_usable:
        raise UserError(f"'{path}' has no row in which every used column is a finite number")
    if n_usable < MIN_ROWS:
        left_out = f" ({dropped} dropped for missing, NaN or infinite cells)" if dropped else ""
        raise UserError(f"'{path}' has {_rows(n_usable)} of numbers{left_out}, at least {MIN_ROWS} are needed")
    if dropped:
        notes.append(f"{_rows(dropped)} of {len(ends)} dropped: a used cell is missing, NaN or infinite")
        values = values[:, usable]
    line_of = np.frombuffer(ends, dtype=np.int64)[usable]
    for column, numbers in zip(columns, values, strict=True):
        _check_size(column.name, numbers, line_of)
        notes += said_of_suspects(column.name, numbers, line_of)
    x, y = values[: len(chosen)].T, values[-1]
    if np.ptp(y):
        constant_columns(x, chosen)
    errors = None
    if sigma is not None:
        errors = checked_sigma(sigma, values[len(chosen)], line_of) if beside else sigma_of(sigma, y, line_of)
    return Table(
        x,
        y,
        chosen,
        chosen_target,
        dropped,
        tuple(notes),
        layout.header_line,
        units,
        np.flatnonzero(usable) + 1 if dropped else None,
        errors,
        group,
        () if group is None else tuple(label for label, kept in zip(labels, usable.tolist(), strict=True) if kept),
    )


def split_names(text: str, option: str = "--features") -> list[str]:
    """Column names, or other texts, from one comma-separated option; one with a comma is written in double quotes.

    Raises:
        UserError: quotes that do not match.
    """
    try:
        cells = next(csv.reader([text.replace("\n", " ").replace("\r", " ")], skipinitialspace=True, strict=True), [])
    except csv.Error as problem:
        raise UserError(f'{option} cannot be read ({problem}): write A,B,... or "A, with a comma",B') from None
    return [" ".join(name.split()) for name in cells]


def _chosen(
    names: Sequence[str],
    target: str | None,
    features: Sequence[str] | None,
    beside: Sequence[str] = (),
    group: str | None = None,
) -> tuple[str, tuple[str, ...]]:
    """Target and features among the columns; the group and those `beside` them are neither."""
    known = dict.fromkeys(names)
    if group is not None:
        group = _known_column("--group", group, known)
    if group in beside:
        raise UserError(f"column '{group}' holds the errors of the target and cannot name the groups too")
    others = [name for name in names if name not in (*beside, group)] or names
    chosen_target = others[-1] if target is None else _known_column("--target", target, known)
    if group == chosen_target:
        raise UserError(
            f"column '{group}' is the target and cannot name the groups too: give --target or --group another"
        )
    if features is None:
        chosen = tuple(name for name in others if name != chosen_target)
    else:
        chosen = tuple(_known_column("--features", name, known) for name in features)
    if group in chosen:
        raise UserError(f"column '{group}' names the groups and cannot be a feature too: leave it out of --features")
    if chosen_target in chosen:
        raise UserError(
            f"column '{chosen_target}' is the target and cannot be a feature too: leave it out of --features"
        )
    for name in beside:
        if name == chosen_target or name in chosen:
            role = "the target" if name == chosen_target else "a feature"
            raise UserError(f"column '{name}' holds the errors of the target and cannot be {role} too")
    if len(set(chosen)) != len(chosen):
        raise UserError("--features names a column twice: name each column once")
    if not chosen:
        raise UserError("no column is left to explain the target: give --features at least one column")
    return chosen_target, chosen


def _columns(
    rows: Rows, layout: Layout, used: Sequence[str], missing: Sequence[str], path: Path, group: str | None = None
) -> tuple[list[Column], "array[int]", list[str]]:
    """The used columns as numbers, the line of the file at which each row ends, and the cells that name the groups."""
    places = {name: place for place, name in enumerate(layout.names)}
    columns = [Column(name, layout.separator, layout.names, missing) for name in used]
    indices = [places[name] for name in used]
    width = len(layout.names) + layout.closed
    ends = array("q")
    labels: list[str] = []
    for cells, lines in _pieces(rows, max(1, _PIECE // width)):
        for row, line in zip(cells, lines, strict=True):
            if len(row) != width:
                mend = "comments may stand above the table only" if row and row[0].startswith("#") else "mend it"
                raise UserError(
                    f"line {line} of '{path}' does not have {width} cells like the first one, but {len(row)}: {mend}"
                )
            if layout.closed and row[-1].strip():
                raise UserError(
                    f"line {line} of '{path}' has {width} cells, where the first lines have {width - 1} and a separator "
                    "at the end: mend it"
                )
        for column, index in zip(columns, indices, strict=True):
            column.add([row[index] for row in cells], lines)
        if group is not None:
            labels += [row[places[group]] for row in cells]
        ends.extend(lines)
    return columns, ends, labels


def _label(cell: str, missing: Sequence[str]) -> str:
    """A group's label, empty where it is missing."""
    text = " ".join(cell.split())
    return "" if is_missing(text) or text.lower() in {mark.lower() for mark in missing} else text


def _pieces(rows: Rows, size: int) -> Iterator[tuple[list[list[str]], list[int]]]:
    """So many rows at a time, with the lines at which they end."""
    numbered = ((row, rows.line) for row in rows)
    while piece := list(islice(numbered, size)):
        yield [row for row, _ in piece], [line for _, line in piece]


def _check_size(name: str, numbers: np.ndarray, lines: np.ndarray) -> None:
    """Refuse numbers that cannot be computed with.

    Raises:
        UserError: names the cell.
    """
    odd = odd_size(numbers)
    if odd is not None:
        place, shown, advice = odd
        raise UserError(f"column '{name}' holds {shown} in line {lines[place]}: {advice}")


def _as_number(mark: str) -> float | None:
    try:
        return float(mark)
    except ValueError:
        return None


def _counts(numbers: np.ndarray) -> bool:
    """Whether numbers are 0, 1, 2, ... or 1, 2, 3, ..."""
    return numbers[0] in (0.0, 1.0) and bool((numbers == numbers[0] + np.arange(len(numbers))).all())


def _rows(n: int) -> str:
    return f"{n} row" if n == 1 else f"{n} rows"


def _known_column(option: str, name: str, names: dict[str, None]) -> str:
    if name in names:
        return name
    folded = {known.casefold(): known for known in names}
    close = difflib.get_close_matches(name[:200].casefold(), list(folded)[:1000], n=1)
    hint = f"did you mean '{folded[close[0]]}'? " if close else ""
    listed = ", ".join(list(names)[:20]) + (", ..." if len(names) > 20 else "")
    raise UserError(f"{option} names '{name}', which is no column: {hint}the columns are {listed}")
