"""From cells of text to numbers: a cell is matched against the shape of one and converted by `float`, never evaluated.

The first cell of a column that is not missing decides what the column holds: numbers, percentages, truth values or dates;
all others must be of the same kind. Whether a comma or a point groups thousands or is the decimal sign shows in the whole
column, and for `"123,500"` in the whole file: such cells are kept in mind until all have been read. What may be read in two
ways is refused.
"""

import re
from array import array
from collections.abc import Collection, Sequence

import numpy as np

from emlinit.finetune.tables.dates import Dates, is_date, is_like_a_date
from emlinit.generator.errors import UserError

_EXPONENT = r"([ed][+-]?\d+)?"
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)" + _EXPONENT, re.ASCII | re.IGNORECASE)
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+" + _EXPONENT, re.ASCII | re.IGNORECASE)
_THOUSANDS = {sign: re.compile(rf"[+-]?[1-9]\d{{0,2}}[{sign}]\d{{3}}", re.ASCII) for sign in ",."}
_GROUPED = re.compile(
    r"(?P<first>[+-]?[1-9]\d{0,2})(?P<groups>(?P<mark>[.,'’\u00a0\u2009\u202f])\d{3}(?:(?P=mark)\d{3})*)"
    r"(?:(?P<sign>[.,])(?P<decimals>\d+))?",
    re.ASCII,
)
_OF_NUMBERS = set("0123456789+-.eE \t")
_MISSING = frozenset(
    (
        *("", "-", "--", "?", "na", "n/a", "n.a", "n.a.", "<na>", "nat", "null", "none", "nan", "+nan", "-nan"),
        *("inf", "+inf", "-inf", "infinity", "+infinity", "-infinity"),
        # Spreadsheets and old C libraries.
        *("#n/a", "#na", "#n/a n/a", "#div/0!", "#value!", "#ref!", "#num!", "#name?", "#null!"),
        *("1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan", "1.#inf", "-1.#inf"),
    )
)
_TRUTHS = {"true": ("true", 1.0), "false": ("true", 0.0), "yes": ("yes", 1.0), "no": ("yes", 0.0)}
_NEEDED = {
    "number": "text where a number is needed",
    "percentage": "something else where a percentage is needed, as above it",
    "truth": "something else where True or False, or yes or no, is needed, as above it",
    "date": "something else where a date of the same form is needed, as above it",
}
_CURRENCY = re.compile(r"[$€£¥₹]\s*[\d.,'\s+-]+|[\d.,'\s+-]+\s*([$€£¥₹]|EUR|USD|GBP|CHF|JPY)")
_MINUS = "\u2212"
_NAN = float("nan")

Shown = tuple[str, int]
"""A cell, and the line of the file that it stands in."""


def is_missing(cell: str) -> bool:
    """Whether a cell, without blanks around it, is empty, a mark for a missing value, or no finite number."""
    return cell.lower() in _MISSING


def is_number(cell: str, separator: str) -> bool:
    """Whether a cell, without blanks around it, is a number, with a decimal comma if commas do not separate cells."""
    cell = cell.replace(_MINUS, "-")
    if _NUMBER.fullmatch(cell) or (separator != "," and _DECIMAL_COMMA.fullmatch(cell)):
        return True
    grouped = _GROUPED.fullmatch(cell)
    if grouped is None or grouped["mark"] == grouped["sign"]:
        return False
    return separator != "," or (grouped["mark"] != "." and grouped["sign"] != ",")


def kind_of(cell: str, separator: str) -> str | None:
    """What a cell, without blanks around it, holds: "number", "percentage", "truth" or "date"; None if none of them."""
    if is_number(cell, separator):
        return "number"
    if cell.endswith("%") and is_number(cell[:-1].rstrip(), separator):
        return "percentage"
    if cell.lower() in _TRUTHS:
        return "truth"
    return "date" if is_date(cell) else None


class Column:
    """One column of a table on its way from text to numbers, a piece at a time."""

    def __init__(self, name: str, separator: str, other_names: Sequence[str], marks: Collection[str] = ()) -> None:
        """Begin an empty column; the other names are for messages, the marks are text that is missing, too."""
        self.name, self.separator, self.other_names = name, separator, other_names
        self.values = array("d")
        """The numbers so far; NaN where a cell is missing."""
        self.kind: str | None = None
        """What the column holds; None as long as all cells are missing."""
        self.comma: Shown | None = None
        """The first cell with a comma that may be the decimal sign."""
        self.point: Shown | None = None
        """The first cell with a point that may be the decimal sign."""
        self._marks = {mark.lower() for mark in marks}
        self.n_marked = 0
        """Cells that are text of the marks."""
        self._grouped: dict[str, Shown] = {}  # sign that groups thousands beyond doubt -> its first cell
        self._decimal: dict[str, Shown] = {}  # sign that is a decimal sign beyond doubt -> its first cell
        self._unsettled = {",": array("q"), ".": array("q")}  # where cells are that may hold thousands or decimals
        self._exponent: Shown | None = None  # the first with the D of Fortran
        self._has_minus = False  # the one of typesetters
        self._dates: Dates | None = None
        self._truth = ""

    def add(self, cells: Sequence[str], lines: Sequence[int]) -> None:
        """Convert the next cells, which stand in these lines of the file.

        Raises:
            UserError: a cell is no number, named by its line.
        """
        text = "".join(cells)
        if self.kind in (None, "number") and _OF_NUMBERS.issuperset(text):
            try:  # `float` knows more spellings than these characters can make
                numbers = array("d", map(float, cells))
            except ValueError:
                pass
            else:
                if "." in text:
                    self._see_points(cells, lines)
                self.values.extend(numbers)
                self.kind = "number"
                return
        for cell, line in zip(cells, lines, strict=True):
            self.values.append(self._value(cell.strip(), line))

    def _see_points(self, cells: Sequence[str], lines: Sequence[int]) -> None:
        if self.separator == ",":  # a point is the decimal sign there
            self.point = self.point or next((c.strip(), n) for c, n in zip(cells, lines, strict=True) if "." in c)
        elif "." not in self._decimal:
            for place, (cell, line) in enumerate(zip(cells, lines, strict=True), start=len(self.values)):
                if "." in cell:
                    self._see(".", cell.strip(), line, place)

    def _see(self, sign: str, cell: str, line: int, place: int) -> None:
        """Note a cell with a comma or a point."""
        if sign == ",":
            self.comma = self.comma or (cell, line)
        else:
            self.point = self.point or (cell, line)
        if sign not in self._decimal:
            if _THOUSANDS[sign].fullmatch(cell):
                self._unsettled[sign].append(place)
            else:
                self._decimal[sign] = cell, line
                self._unsettled[sign] = array("q")

    def _value(self, cell: str, line: int) -> float:
        if is_missing(cell) or cell.lower() in self._marks:
            self.n_marked += not is_missing(cell)
            if self._dates is not None:
                self._dates.add_missing()
            return _NAN
        if self.kind is None:
            self.kind = kind_of(cell, self.separator) or "number"
        if self.kind == "number":
            number = self._number(cell, line)
        elif self.kind == "percentage":
            number = self._number(cell[:-1].rstrip(), line) if cell.endswith("%") else None
        elif self.kind == "truth":
            number = self._true_or_false(cell)
        else:
            number = self._date(cell, line)
        if number is None:
            raise self._is_text(cell, line)
        return number

    def _true_or_false(self, cell: str) -> float | None:
        pair, value = _TRUTHS.get(cell.lower(), ("", 0.0))
        self._truth = self._truth or pair
        return value if pair == self._truth else None

    def _date(self, cell: str, line: int) -> float | None:
        if self._dates is None:
            self._dates = Dates()
            self._dates.add_missing(len(self.values))
        return 0.0 if self._dates.add(cell, line) else None

    def _number(self, cell: str, line: int) -> float | None:
        place = len(self.values)
        if _MINUS in cell:
            self._has_minus = True
            cell = cell.replace(_MINUS, "-")
        if _NUMBER.fullmatch(cell):
            if "." in cell:
                self._see(".", cell, line, place)
            return self._float(cell, line)
        if self.separator != "," and _DECIMAL_COMMA.fullmatch(cell):
            self._see(",", cell, line, place)
            return self._float(cell.replace(",", "."), line)
        grouped = _GROUPED.fullmatch(cell)
        if grouped is None or not is_number(cell, self.separator):
            return None
        mark, sign, digits = grouped["mark"], grouped["sign"], grouped["groups"].replace(grouped["mark"], "")
        if mark == "," and sign is None and len(digits) == 3:  # "123,500", where commas separate cells
            self._see(",", cell, line, place)
            return float(f"{grouped['first']}.{digits}")
        self._grouped.setdefault(mark, (cell, line))
        if sign is not None:
            self._see(sign, cell, line, place)
        return float(f"{grouped['first']}{digits}.{grouped['decimals'] or '0'}")

    def _float(self, cell: str, line: int) -> float:
        if "d" in cell or "D" in cell:
            self._exponent = self._exponent or (cell, line)
            cell = cell.lower().replace("d", "e")
        return float(cell)

    def _is_text(self, cell: str, line: int) -> UserError:
        shown = cell if len(cell) <= 40 else cell[:37] + "..."
        others = ", ".join(self.other_names[:20]) + (", ..." if len(self.other_names) > 20 else "")
        remark = ""
        if cell.startswith("#"):
            remark = " (comments may stand above the table only)"
        elif is_like_a_date(cell[:40]) or (is_date(cell) and self.kind == "number"):
            remark = " (write dates as year-month-day, such as 2024-12-31, in all cells)"
        elif _CURRENCY.fullmatch(cell[:40]):
            remark = " (write amounts of money as numbers alone)"
        return UserError(
            f"column '{self.name}' holds {_NEEDED[self.kind or 'number']} ({shown!r} in line {line}){remark}: mend the "
            f"cell, leave the column out with --target and --features, or take it for --group (columns: {others})"
        )

    @property
    def has_decimal_commas(self) -> bool:
        """Whether a comma is the decimal sign in this column, as far as it alone shows."""
        commas = self.comma is not None and self.separator != "," and "," not in self._grouped
        return commas or "." in self._grouped

    @property
    def has_decimal_points(self) -> bool:
        """Whether a point is the decimal sign in this column, as far as it alone shows."""
        return self.point is not None and "." not in self._grouped

    def check_signs(self, file_has_decimal_commas: bool, file_has_decimal_points: bool) -> None:
        """Settle what commas and points mean, once all cells are there, and refuse what may be read in two ways.

        Raises:
            UserError: thousands or a decimal sign, it cannot be told; names the cell.
        """
        groups = [sign for sign in ",." if sign in self._grouped]
        if groups:
            sign = groups[0]
            against = self._grouped["."] if len(groups) == 2 else self._decimal.get(sign)
            if against is not None:
                cell, line = self._grouped[sign]
                raise UserError(
                    f"column '{self.name}' holds {cell!r} in line {line} and {against[0]!r} in line {against[1]}, where "
                    "commas and points mean different things: write it in one way"
                )
            self._regroup(sign)
        elif self.separator == ",":
            if self.comma is not None and not file_has_decimal_points:
                raise UserError(
                    f"column '{self.name}' holds {self.comma[0]!r} in line {self.comma[1]}, thousands or a decimal comma: "
                    "write decimal points, and no thousands"
                )
            self._regroup(",")
        elif self.comma is not None and self.point is not None:
            raise UserError(
                f"column '{self.name}' holds a comma ({self.comma[0]!r} in line {self.comma[1]}) and a point "
                f"({self.point[0]!r} in line {self.point[1]}) as decimal sign: write it in one way"
            )
        elif self.comma is not None and "," not in self._decimal and self.separator != ";":
            raise UserError(
                f"column '{self.name}' holds {self.comma[0]!r} in line {self.comma[1]}, thousands or a decimal comma: "
                "write decimal points"
            )
        elif self.point is not None and "." not in self._decimal and file_has_decimal_commas:
            raise UserError(
                f"column '{self.name}' holds {self.point[0]!r} in line {self.point[1]}, thousands or a decimal point, "
                "and other columns have decimal commas: write the decimal sign in one way, and no thousands"
            )

    def _regroup(self, sign: str) -> None:
        """Read the cells that may hold thousands as such."""
        if len(self._unsettled[sign]):
            places = np.frombuffer(self._unsettled[sign], dtype=np.int64)
            values = np.frombuffer(self.values)
            first = self.comma if sign == "," else self.point
            assert first is not None
            values[places] = np.round(values[places] * 1000.0)
            self._grouped.setdefault(sign, first)

    def numbers(self, missing: Sequence[float] = ()) -> tuple[np.ndarray, str | None, list[str]]:
        """The column as float64, its unit if the reading gave it one, and what is to be said; nothing can be added then.

        Args:
            missing: numbers that mark a missing value.

        Raises:
            UserError: dates that may be read in two ways.
        """
        notes: list[str] = []
        if self._dates is not None:
            numbers, unit, note = self._dates.numbers(self.name)
            return numbers, unit, [note]
        values = np.frombuffer(self.values)
        self.values = array("d")
        n_marked = self.n_marked
        for mark in missing if self.kind == "number" else ():
            at = values == mark
            n_marked += int(np.count_nonzero(at))
            values[at] = _NAN
        if n_marked:
            notes.append(f"column '{self.name}': {n_marked} {'cell' if n_marked == 1 else 'cells'} marked as missing")
        notes += self._said_of_signs()
        if self.kind == "percentage":
            values /= 100.0
            notes.append(f"column '{self.name}' holds percentages: 12% is read as 0.12")
        elif self.kind == "truth":
            pair = "True is read as 1, False as 0" if self._truth == "true" else "yes is read as 1, no as 0"
            notes.append(f"column '{self.name}': {pair}")
        return values, None, notes

    def _said_of_signs(self) -> list[str]:
        notes = []
        for sign, (cell, _) in self._grouped.items():
            what = {",": "commas group", ".": "points group", "'": "apostrophes group", "’": "apostrophes group"}
            notes.append(f"column '{self.name}': {what.get(sign, 'blanks group')} thousands, as in {cell!r}")
        if self.comma is not None and self.has_decimal_commas:
            notes.append(f"column '{self.name}': the comma is read as the decimal sign")
        if self._has_minus:
            notes.append(f"column '{self.name}': {_MINUS} is read as a minus")
        if self._exponent is not None:
            notes.append(f"column '{self.name}': D begins an exponent, as in {self._exponent[0]!r}")
        return notes
