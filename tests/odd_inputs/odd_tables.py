"""A seeded generator of odd tables, each with what is right: its numbers, or a refusal that names the fault.

Each table begins as random numbers that are known, and one kind of oddness is done to its text. A kind is a function of the
random numbers and of a table; it returns the bytes of a file and what should come of it.
"""

import codecs
import gzip
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

Rows = list[list[str]]


@dataclass(frozen=True)
class OddTable:
    """A file, and what should come of it."""

    kind: str
    """What was done to it."""
    data: bytes
    """The file."""
    refused: str | None = None
    """Part of the one line by which it is refused; None if it is read."""
    names: tuple[str, ...] = ()
    """Names of its columns, if it is read."""
    values: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    """Its numbers, of shape (rows, columns), NaN where a cell is missing, if it is read."""
    said: str | None = None
    """What one of the notes must say."""


@dataclass(frozen=True)
class Plain:
    """A table before anything odd is done to it."""

    names: tuple[str, ...]
    values: np.ndarray
    rng: np.random.Generator

    def cells(self) -> Rows:
        return [[_spelled(number, self.rng) for number in row] for row in self.values.tolist()]

    def place(self) -> tuple[int, int]:
        """A random cell."""
        return int(self.rng.integers(self.values.shape[0])), int(self.rng.integers(self.values.shape[1]))

    def read(self, kind: str, data: bytes, said: str | None = None, **changed: object) -> OddTable:
        known = {"names": self.names, "values": self.values, **changed}
        return OddTable(kind, data, said=said, **known)  # type: ignore[arg-type]


def odd_tables(seed: int, n: int) -> Iterator[OddTable]:
    """`n` tables, the kinds in turn."""
    rng = np.random.default_rng(seed)
    for number in range(n):
        n_rows, n_columns = int(rng.integers(4, 12)), int(rng.integers(2, 6))
        values = rng.normal(size=(n_rows, n_columns)) * 10.0 ** rng.integers(-3, 4)
        values = np.where(rng.random(values.shape) < 0.2, np.round(values), values)
        names = tuple(f"{letter}{number}" for letter in "abcdefg"[:n_columns])
        kind = KINDS[number % len(KINDS)]
        yield kind(Plain(names, values, rng))


def text(rows: Rows, separator: str = ",", end: str = "\n") -> bytes:
    """Rows of cells as a file."""
    return end.join(separator.join(row) for row in rows).encode() + end.encode()


def _spelled(number: float, rng: np.random.Generator) -> str:
    exact = repr(number)
    choices = [exact, f"{number:.17e}", f"{number:+.20g}", f" {exact}", f"{exact} "]
    return choices[int(rng.integers(len(choices)))]


def _table(plain: Plain) -> Rows:
    return [list(plain.names), *plain.cells()]


# ---- what is read ----


def _spelling(plain: Plain) -> OddTable:
    separator = str(plain.rng.choice([",", ";", "\t"]))
    rows = _table(plain)
    if plain.rng.random() < 0.3:
        rows = [[f'"{cell.strip()}"' for cell in row] for row in rows]
    data = text(rows, separator, str(plain.rng.choice(["\n", "\r\n", "\r"])))
    coded = [data, codecs.BOM_UTF8 + data, data.decode().encode("utf-16")]
    return plain.read("spelling", coded[int(plain.rng.integers(3))])


def _blank_lines(plain: Plain) -> OddTable:
    rows = _table(plain)
    for _ in range(3):
        rows.insert(int(plain.rng.integers(len(rows) + 1)), ["  "])
    return plain.read("blank lines", text(rows))


def _comments(plain: Plain) -> OddTable:
    n = int(plain.rng.integers(1, 4))
    above = b"".join(b"# a remark; of, cells\t\n" for _ in range(n))
    said = "begins with # and is skipped" if n == 1 else f"{n} lines above the table begin with #"
    return plain.read("comments above", above + text(_table(plain)), said)


def _commented_header(plain: Plain) -> OddTable:
    hashes = str(plain.rng.choice(["#", "# ", "##  "]))
    data = (hashes + ",".join(plain.names) + "\n").encode() + text(plain.cells())
    return plain.read("header in a comment", data, "is read as the header, although it begins with #")


def _no_header(plain: Plain) -> OddTable:
    names = (*(f"x{i + 1}" for i in range(len(plain.names) - 1)), "y")
    return plain.read("no header", text(plain.cells()), "no header: line 1 is read as a row", names=names)


def _numbers_in_the_header(plain: Plain) -> OddTable:
    names = ("1.5", *plain.names[1:])
    data = text([list(names), *plain.cells()])
    return plain.read("numbers in the header", data, "mixes numbers and text ('1.5'", names=names)


def _missing_cell(plain: Plain) -> OddTable:
    rows, values = plain.cells(), plain.values.copy()
    marks = ["", "nan", "NA", "#N/A", "#DIV/0!", "n.a.", "-", "inf", "-Infinity", "NULL", "1e999", "<NA>", "-1.#IND"]
    row, column = (0, 0) if plain.rng.random() < 0.5 else plain.place()
    rows[row][column] = marks[int(plain.rng.integers(len(marks)))]
    values[row, column] = np.nan
    data = text([list(plain.names), *rows])
    return plain.read(f"missing cell {rows[row][column]!r}", data, f"1 row of {len(rows)} dropped", values=values)


def _closing_separators(plain: Plain) -> OddTable:
    return plain.read("separators at the ends", text([[*row, ""] for row in _table(plain)]))


def _decimal_commas(plain: Plain) -> OddTable:
    separator = str(plain.rng.choice([";", "\t"]))
    rows = [[f"{number:.17e}".replace(".", ",") for number in row] for row in plain.values.tolist()]
    return plain.read("decimal commas", text([list(plain.names), *rows], separator), "read as the decimal sign")


def _unprintable_name(plain: Plain) -> OddTable:
    odd = str(plain.rng.choice(["\u202e", "\u200b", "\x9b31m"]))
    titles = [odd + plain.names[0], *plain.names[1:]]
    shown = " ".join("".join(c if c.isprintable() else " " for c in titles[0]).split())
    return plain.read("unprintable name", text([titles, *plain.cells()]), names=(shown, *plain.names[1:]))


def _line_break_in_a_name(plain: Plain) -> OddTable:
    titles = [f'"{plain.names[0]}\n(cm)"', *plain.names[1:]]
    names = (f"{plain.names[0]} (cm)", *plain.names[1:])
    return plain.read("line break in a name", text([titles, *plain.cells()]), names=names)


def _long_name(plain: Plain) -> OddTable:
    names = ("é" * int(plain.rng.integers(300, 5000)), *plain.names[1:])
    return plain.read("long name", text([list(names), *plain.cells()]), names=names)


def _far_out(plain: Plain) -> OddTable:
    rows, values = plain.cells(), plain.values.copy()
    row, column = plain.place()
    mark = float(plain.rng.choice([9.96921e36, -1e30, 1e99]))
    rows[row][column], values[row, column] = repr(mark), mark
    data = text([list(plain.names), *rows])
    return plain.read("mark for a missing number", data, f"'{plain.names[column]}' holds {mark!r}", values=values)


def _wide(plain: Plain) -> OddTable:
    values = plain.rng.normal(size=(4, 800))
    names = tuple(f"c{i}" for i in range(800))
    data = text([list(names), *([repr(number) for number in row] for row in values.tolist())])
    return plain.read("wide", data, names=names, values=values)


def _tiny_among_others(plain: Plain) -> OddTable:
    rows, values = plain.cells(), plain.values.copy()
    row, column = plain.place()
    rows[row][column], values[row, column] = "5e-324", 5e-324
    return plain.read("tiny among others", text([list(plain.names), *rows]), values=values)


def _blanks(plain: Plain) -> OddTable:
    def line(row: list[str], gaps: list[str]) -> str:
        between = [str(plain.rng.choice(gaps)) for _ in row[1:]]
        end = str(plain.rng.choice(["", "  "]))
        return "  " + "".join(cell.strip() + gap for cell, gap in zip(row, [*between, end], strict=True))

    kind = int(plain.rng.integers(3))  # a header, one in a comment, or none
    header = [[*plain.names], ["#", *plain.names], []][kind]
    *rows, last = [header, *plain.cells()] if header else plain.cells()
    lines = [*(line(row, [" ", "   ", "\t", " \t "]) for row in rows), line(last, [" "])]  # tabs never cut all evenly
    data = "\n".join(lines).encode() + b"\n"
    names = plain.names if kind < 2 else (*(f"x{i + 1}" for i in range(len(plain.names) - 1)), "y")
    said = (None, "line 1 is read as the header, although it begins with #", "no header: line 1 is read as a row")[kind]
    return plain.read("blanks between cells", data, said, names=names)


def _titles(plain: Plain) -> OddTable:
    n, separator = int(plain.rng.integers(1, 4)), str(plain.rng.choice([",", ";", "\t"]))
    above = b"".join(b"Experiment %d on bench A\n" % i + b"\n" * int(plain.rng.integers(2)) for i in range(n))
    said = (
        "line 1 ('Experiment 0 on bench A')"
        if n == 1
        else f"{n} lines above the table ('Experiment 0 on bench A' first)"
    )
    return plain.read("titles above", above + text(_table(plain), separator), said)


def _units_row(plain: Plain) -> OddTable:
    units = [str(plain.rng.choice(["[s]", "(m)", "kg/m^3", "-", "°C", "", "m/s", "{a unit}"])) for _ in plain.names]
    units[0] = "[V]"
    data = text([list(plain.names), units, *plain.cells()])
    return plain.read("a row of units", data, f"line 2 is read as units: {plain.names[0]} in V")


def _column(
    kind: str, spell: Callable[[Plain, int], tuple[str, float]], said: str, separators: str = ",;\t"
) -> Callable[[Plain], OddTable]:
    """The first column replaced by other cells, each with its number."""

    def make(plain: Plain) -> OddTable:
        rows, values = plain.cells(), plain.values.copy()
        for place, row in enumerate(rows):
            row[0], values[place, 0] = spell(plain, place)
        data = text([list(plain.names), *rows], str(plain.rng.choice(list(separators))))
        return plain.read(kind, data, said.format(name=plain.names[0]), values=values)

    return make


def _thousands_point_comma(plain: Plain, place: int) -> tuple[str, float]:
    number = int(plain.rng.integers(10**6, 10**9)) if place == 0 else int(plain.rng.integers(0, 10**6))
    return f"{number:,}".replace(",", ".") + ",25", number + 0.25


def _thousands_comma_point(plain: Plain, place: int) -> tuple[str, float]:
    number = int(plain.rng.integers(1000, 10**6)) + 1_000_000 * (place == 0)
    return f'"{number:,}"', float(number)


def _thousands_blank(plain: Plain, place: int) -> tuple[str, float]:
    number = int(plain.rng.integers(1000, 10**9))
    return f"{number:,}".replace(",", str(plain.rng.choice(["\u00a0", "\u202f"]))) + ",5", number + 0.5


def _fortran(plain: Plain, place: int) -> tuple[str, float]:
    number = float(plain.values[place, 0])
    return f"{number:.16e}".replace("e", str(plain.rng.choice(["D", "d"]))), number


def _percent(plain: Plain, place: int) -> tuple[str, float]:
    number = int(plain.rng.integers(1000)) + place
    return f"{number}%", number / 100


def _truth(plain: Plain, place: int) -> tuple[str, float]:
    value = bool(plain.rng.integers(2)) if place > 1 else place == 0
    return str(value), float(value)


def _days(plain: Plain, place: int) -> tuple[str, float]:
    day = np.datetime64("1999-12-25") + 3 * place
    return str(day), 3.0 * place


def _german_days(plain: Plain, place: int) -> tuple[str, float]:
    day = str(np.datetime64("2024-01-30") + place)
    return f"{day[8:]}.{day[5:7]}.{day[:4]} 06:30", float(place)


def _american_minutes(plain: Plain, place: int) -> tuple[str, float]:
    return f"12/31/2024 1:{45 + place}:00 PM", 60.0 * place


def _index(plain: Plain) -> OddTable:
    start, name = int(plain.rng.integers(2)), str(plain.rng.choice(["", "Unnamed: 0"]))
    rows = [[name, *plain.names], *([str(start + i), *row] for i, row in enumerate(plain.cells()))]
    return plain.read("an index column", text(rows), "counts the rows: it is no variable")


def _sentinel(plain: Plain) -> OddTable:
    rows, values = plain.cells(), plain.values.copy()
    mark, column = str(plain.rng.choice(["-99999", "99999", "-99999.0"])), int(plain.rng.integers(len(plain.names)))
    for row in (1, 3):
        rows[row][column], values[row, column] = mark, float(mark)
    said = (
        f"column '{plain.names[column]}' holds {float(mark):.0f} 2 times, first in line 3, far from its other numbers"
    )
    return plain.read("a mark that repeats", text([list(plain.names), *rows]), said, values=values)


def _packed(plain: Plain) -> OddTable:
    return plain.read("packed by gzip", gzip.compress(text(_table(plain))))


def _parquet(plain: Plain) -> OddTable:
    data = io.BytesIO()
    pd.DataFrame(plain.values, columns=list(plain.names)).to_parquet(data)
    return plain.read("a Parquet file", data.getvalue())


# ---- what is refused ----


def _with_cell(kind: str, cell: str, refused: str) -> Callable[[Plain], OddTable]:
    def make(plain: Plain) -> OddTable:
        rows = plain.cells()
        row, column = plain.place()
        rows[row][column] = cell
        return OddTable(f"{kind} in row {row}", text([list(plain.names), *rows]), refused)

    return make


def _with_row(kind: str, change: Callable[[list[str]], list[str]], refused: str) -> Callable[[Plain], OddTable]:
    def make(plain: Plain) -> OddTable:
        rows = plain.cells()
        row = int(plain.rng.integers(1, len(rows)))
        rows[row] = change(rows[row])
        return OddTable(kind, text([list(plain.names), *rows]), refused)

    return make


def _with_bytes(kind: str, odd: bytes, refused: str) -> Callable[[Plain], OddTable]:
    def make(plain: Plain) -> OddTable:
        data = text(_table(plain))
        place = int(plain.rng.integers(len(data)))
        return OddTable(kind, data[:place] + odd + data[place:], refused)

    return make


def _double_name(plain: Plain) -> OddTable:
    titles = [*plain.names[:-1], plain.names[0]]
    return OddTable("double name", text([titles, *plain.cells()]), "more than one column named")


def _tiny_column(plain: Plain) -> OddTable:
    rows, column = plain.cells(), int(plain.rng.integers(len(plain.names)))
    for row in rows:
        row[column] = f"{plain.rng.normal():.3f}e-310"
    rows[0][column] = "2e-310"
    return OddTable("tiny column", text([list(plain.names), *rows]), "nothing larger than")


def _too_few_rows(plain: Plain) -> OddTable:
    n = int(plain.rng.integers(0, 3))
    rows = _table(plain)[: n + 1]
    return OddTable("too few rows", text(rows), "at least 3" if n else "has a header and no rows")


def _thousands(plain: Plain) -> OddTable:
    rows = [["1,5", "1.234", *row[2:]] for row in plain.cells()]
    rows = [[cell.replace(".", ",") if i > 1 else cell for i, cell in enumerate(row)] for row in rows]
    return OddTable("thousands", text([list(plain.names), *rows], ";"), "thousands or a decimal point")


def _constant_features(plain: Plain) -> OddTable:
    rows = [["5"] * (len(row) - 1) + row[-1:] for row in plain.cells()]
    return OddTable("constant features", text([list(plain.names), *rows]), "no feature varies (")


def _first_column(
    kind: str, cells: Callable[[int], str], refused: str, separator: str = ","
) -> Callable[[Plain], OddTable]:
    def make(plain: Plain) -> OddTable:
        rows = [
            [cells(place), *(str(round(float(cell))) for cell in row[1:])] for place, row in enumerate(plain.cells())
        ]
        return OddTable(kind, text([list(plain.names), *rows], separator), refused)

    return make


def _damaged(kind: str, change: Callable[[bytes], bytes], refused: str) -> Callable[[Plain], OddTable]:
    return lambda plain: OddTable(kind, change(text(_table(plain))), refused)


def _damaged_parquet(plain: Plain) -> OddTable:
    data = _parquet(plain).data
    return OddTable("a damaged Parquet file", data[: int(plain.rng.integers(4, len(data) - 1))], "damaged Parquet file")


def _cut_off(plain: Plain) -> OddTable:
    data = text([[cell.strip() for cell in row] for row in _table(plain)])
    last = data.rstrip(b"\n").rfind(b"\n")
    return OddTable("cut off", data[: last + 2], "cells like the first one, but 1")


_CODE = "__import__('os').mkdir('x')"
KINDS: tuple[Callable[[Plain], OddTable], ...] = (
    *(_spelling, _blank_lines, _comments, _commented_header, _no_header, _numbers_in_the_header, _missing_cell),
    *(_closing_separators, _decimal_commas, _unprintable_name, _line_break_in_a_name, _long_name, _far_out, _wide),
    *(_tiny_among_others, _double_name, _tiny_column, _too_few_rows, _thousands, _cut_off),
    *(_blanks, _titles, _units_row, _index, _sentinel, _packed, _parquet, _damaged_parquet, _constant_features),
    _column("points between thousands", _thousands_point_comma, "points group thousands", ";\t"),
    _column("commas between thousands", _thousands_comma_point, "commas group thousands"),
    _column("blanks between thousands", _thousands_blank, "blanks group thousands", ";\t"),
    _column("exponents of Fortran", _fortran, "'{name}': D begins an exponent"),
    _column("percentages", _percent, "'{name}' holds percentages: 12% is read as 0.12"),
    _column("truth values", _truth, "'{name}': True is read as 1, False as 0"),
    _column("days", _days, "'{name}': dates are read as days since 1999-12-25"),
    _column("days with dots", _german_days, "'{name}': dates are read as days since 2024-01-30 06:30:00"),
    _column("times with slashes", _american_minutes, "(month first) are read as seconds since 2024-12-31 13:45:00"),
    _first_column(
        "days or months first", lambda i: f"{i % 9 + 1}/{i % 9 + 2}/2024", "day or month first, it cannot be told"
    ),
    _first_column("thousands or decimals", lambda i: f'"12{i % 9 + 1},500"', "thousands or a decimal comma"),
    _first_column(
        "dates and numbers", lambda i: "2024-01-01" if i < 2 else "5", "where a date of the same form is needed"
    ),
    _first_column("percentages and shares", lambda i: "5" + "%" * (i < 2), "where a percentage is needed"),
    _first_column(
        "truth values and numbers", lambda i: "True" if i < 2 else "1", "where True or False, or yes or no, is"
    ),
    _first_column("money", lambda i: f"${i}", "write amounts of money as numbers alone"),
    _first_column("short years", lambda i: f"{i + 1}.12.24", "write dates as year-month-day"),
    _damaged("a damaged gzip file", lambda data: gzip.compress(data)[:-6], "is a damaged gzip file"),
    _damaged("a gzip file twice", lambda data: gzip.compress(gzip.compress(data)), "unpack it first"),
    _damaged("a number above the table", lambda data: b"125\n" + data, "like the lines below it, but 1"),
    _damaged("no archive", lambda data: b"PK\x03\x04" + data, "is a damaged archive"),
    _with_cell("text", "two", "holds text where a number is needed ('two'"),
    _with_cell("code", _CODE, "holds text where a number is needed"),
    _with_cell("an id with a hash", "#3", "holds text where a number is needed ('#3'"),
    _with_cell("a line break between digits", '"1\n2"', "holds text where a number is needed"),
    _with_cell("an underscore", "1_000", "holds text where a number is needed ('1_000'"),
    _with_cell("digits of another script", "١٢", "holds text where a number is needed"),
    _with_cell("hexadecimal", "0x10", "holds text where a number is needed"),
    _with_cell("two numbers", "1 2", "holds text where a number is needed"),
    _with_cell("the largest double", "1.7976931348623157e308", "cannot be fitted"),
    _with_cell("a fill value", "-1e300", "cannot be fitted"),
    _with_cell("a number that overflows when squared", "1e154", "cannot be fitted"),
    _with_cell("a long integer", "9" * 300, "cannot be fitted"),
    _with_cell("a long cell", "x" * 200_000, "is not a CSV table"),
    _with_cell("a quote that does not end", '"1', "is not a CSV table"),
    _with_row("a comment in the middle", lambda row: ["# recalibrated"], "comments may stand above the table only"),
    _with_row("a short row", lambda row: row[:-1], "does not have"),
    _with_row("a long row", lambda row: [*row, "1"], "does not have"),
    _with_bytes("a null byte", b"\0", "is not a text file"),
    _with_bytes("an escape sequence", b"\x1b[31m", "is not a text file"),
    _with_bytes("bytes of no encoding", b"\x81\xff", "is not a text file"),
)
