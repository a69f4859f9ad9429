"""From cells of text to numbers: a cell is matched against the shape of one and converted by `float`, never evaluated."""

import re
from array import array
from collections.abc import Sequence

from emlinit.generator.errors import UserError

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_THOUSANDS_COMMA = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+", re.ASCII)
_THOUSANDS_POINT = re.compile(r"[+-]?[1-9]\d{0,2}(\.\d{3})+", re.ASCII)
_OF_NUMBERS = set("0123456789+-.eE \t")
_MISSING = frozenset(
    (
        *("", "-", "--", "?", "na", "n/a", "n.a", "n.a.", "<na>", "null", "none", "nan", "+nan", "-nan"),
        *("inf", "+inf", "-inf", "infinity", "+infinity", "-infinity"),
        # Spreadsheets and old C libraries.
        *("#n/a", "#na", "#n/a n/a", "#div/0!", "#value!", "#ref!", "#num!", "#name?", "#null!"),
        *("1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan", "1.#inf", "-1.#inf"),
    )
)


def is_missing(cell: str) -> bool:
    """Whether a cell, without blanks around it, is empty, a mark for a missing value, or no finite number."""
    return cell.lower() in _MISSING


def is_number(cell: str, separator: str) -> bool:
    """Whether a cell, without blanks around it, is a number, with a decimal comma if commas do not separate cells."""
    return _NUMBER.fullmatch(cell) is not None or (separator != "," and _DECIMAL_COMMA.fullmatch(cell) is not None)


class Column:
    """One column of a table on its way from text to numbers, a piece at a time."""

    def __init__(self, name: str, separator: str, other_names: Sequence[str]) -> None:
        """Begin an empty column; the other names are for messages."""
        self.name, self.separator, self.other_names = name, separator, other_names
        self.values = array("d")
        """The numbers so far; NaN where a cell is missing."""
        self.comma: tuple[str, int] | None = None
        """The first cell with a decimal comma, and its line."""
        self.point: tuple[str, int] | None = None
        """The first cell with a point, and its line."""
        self._only_thousands = True  # every cell with a comma could be one with thousands
        self._points_are_thousands = True  # and every one with a point

    def add(self, cells: Sequence[str], lines: Sequence[int]) -> None:
        """Convert the next cells, which stand in these lines of the file.

        Raises:
            UserError: a cell is no number, named by its line.
        """
        text = "".join(cells)
        if _OF_NUMBERS.issuperset(text):
            try:  # `float` knows more spellings than these characters can make
                numbers = array("d", map(float, cells))
            except ValueError:
                pass
            else:
                if "." in text:
                    self._see_points(cells, lines)
                self.values.extend(numbers)
                return
        for cell, line in zip(cells, lines, strict=True):
            self.values.append(self._number(cell.strip(), line))

    def _see_points(self, cells: Sequence[str], lines: Sequence[int]) -> None:
        if not self._points_are_thousands or self.separator == ",":
            return
        for cell, line in zip(cells, lines, strict=True):
            if "." in cell:
                self._see_point(cell.strip(), line)

    def _see_point(self, cell: str, line: int) -> None:
        self.point = self.point or (cell, line)
        self._points_are_thousands = self._points_are_thousands and _THOUSANDS_POINT.fullmatch(cell) is not None

    def _number(self, cell: str, line: int) -> float:
        if is_missing(cell):
            return float("nan")
        if _NUMBER.fullmatch(cell):
            if "." in cell:
                self._see_point(cell, line)
            return float(cell)
        if self.separator != "," and _DECIMAL_COMMA.fullmatch(cell):
            self.comma = self.comma or (cell, line)
            self._only_thousands = self._only_thousands and _THOUSANDS_COMMA.fullmatch(cell) is not None
            return float(cell.replace(",", "."))
        raise self._is_text(cell, line)

    def _is_text(self, cell: str, line: int) -> UserError:
        shown = cell if len(cell) <= 40 else cell[:37] + "..."
        others = ", ".join(self.other_names[:20]) + (", ..." if len(self.other_names) > 20 else "")
        remark = " (comments may stand above the table only)" if cell.startswith("#") else ""
        return UserError(
            f"column '{self.name}' holds text where a number is needed ({shown!r} in line {line}){remark}: mend the cell, "
            f"or leave the column out with --target and --features (columns: {others})"
        )

    def check_commas(self, file_has_decimal_commas: bool) -> None:
        """Refuse what may be read in two ways, once all cells are there.

        Raises:
            UserError: thousands or a decimal sign, it cannot be told; names the cell.
        """
        if self.comma is not None and self.point is not None:
            raise UserError(
                f"column '{self.name}' holds a comma ({self.comma[0]!r} in line {self.comma[1]}) and a point "
                f"({self.point[0]!r} in line {self.point[1]}) as decimal sign: write it in one way"
            )
        if self.comma is not None and self._only_thousands and self.separator == "\t":
            raise UserError(
                f"column '{self.name}' holds {self.comma[0]!r} in line {self.comma[1]}, thousands or a decimal comma: "
                "write decimal points"
            )
        if self.point is not None and self._points_are_thousands and file_has_decimal_commas:
            raise UserError(
                f"column '{self.name}' holds {self.point[0]!r} in line {self.point[1]}, thousands or a decimal point, "
                "and other columns have decimal commas: write the decimal sign in one way, and no thousands"
            )
