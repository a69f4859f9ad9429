"""Dates and times as numbers: days since the first of them, or seconds if they span less than two days.

Which dates are read: ISO 8601 (`2024-12-31`, `2024-12-31T13:45:00Z`, `2024/12/31`), with dots the day first
(`31.12.2024`), and with slashes or dashes in the order that the column shows (`12/31/2024`); years have four digits. A
column whose order of day and month does not show is refused. Times without a zone are taken as they stand, times with one
in UTC.
"""

import re
from array import array
from datetime import datetime, timedelta
from functools import lru_cache

import numpy as np

from emlinit.generator.errors import UserError

_TIME = (
    r"(?:(?:[ T]+|, +)(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,](?P<part>\d{1,6})0{0,3})?)?"
    r"(?: ?(?P<half>[AaPp][Mm]))?(?: ?(?P<zone>[Zz]|UTC|[+-]\d{2}(?::?\d{2})?))?)?"
)
_SHAPES = {
    "year first": re.compile(
        rf"(?P<year>\d{{4}})(?P<mark>[-/.])(?P<b>\d{{1,2}})(?P=mark)(?P<a>\d{{1,2}}){_TIME}", re.ASCII
    ),
    "dots": re.compile(rf"(?P<a>\d{{1,2}})\.(?P<b>\d{{1,2}})\.(?P<year>\d{{4}}){_TIME}", re.ASCII),
    "slashes": re.compile(
        rf"(?P<a>\d{{1,2}})(?P<mark>[-/])(?P<b>\d{{1,2}})(?P=mark)(?P<year>\d{{4}}){_TIME}", re.ASCII
    ),
}
_SHORT_YEAR = re.compile(r"\d{1,2}([-./])\d{1,2}\1\d{2}\b.*|\d{1,2}[- ][A-Za-z]{3,9}\.?[- ,]+\d{2,4}\b.*", re.ASCII)
_EPOCH = datetime(1970, 1, 1)
_DAY, _SECOND = 86_400_000_000.0, 1_000_000.0  # microseconds
_NAN = float("nan")


def is_date(cell: str) -> bool:
    """Whether a cell, without blanks around it, is a date with or without a time, in whichever order."""
    return _read(cell) is not None


def is_like_a_date(cell: str) -> bool:
    """Whether a cell is a date to people, in a spelling that is not read."""
    return _SHORT_YEAR.fullmatch(cell) is not None


class Dates:
    """A column of dates on its way to numbers."""

    def __init__(self) -> None:
        self._days_first, self._months_first = array("d"), array("d")  # microseconds; NaN where there is none
        self._shape: str | None = None
        self._zoned: bool | None = None
        self._shown = ("", 0)

    def add(self, cell: str, line: int) -> bool:
        """Take the next cell; False if it is no date like those before."""
        read = _read(cell)
        if read is None:
            return False
        shape, zoned, day_first, month_first = read
        if self._shape is None:
            self._shape, self._zoned, self._shown = shape, zoned, (cell, line)
        if (shape, zoned) != (self._shape, self._zoned):
            return False
        self._days_first.append(day_first)
        self._months_first.append(month_first)
        return True

    def add_missing(self, n: int = 1) -> None:
        """Take `n` cells without a value."""
        for values in (self._days_first, self._months_first):
            values.extend([_NAN] * n)

    def numbers(self, name: str) -> tuple[np.ndarray, str, str]:
        """The column of this name as numbers, their unit, and a note.

        Raises:
            UserError: day and month may be either way round, or no order fits all.
        """
        values, order = self._in_order(name)
        first, last = float(np.nanmin(values)), float(np.nanmax(values))
        unit, size = ("days", _DAY) if last - first >= 2 * _DAY else ("seconds", _SECOND)
        origin = _shown_time(first, unit == "days" and first % _DAY == 0) + (" UTC" if self._zoned else "")
        since = f"{unit} since {origin}"
        return (values - first) / size, since, f"column '{name}': dates{order} are read as {since}"

    def _in_order(self, name: str) -> tuple[np.ndarray, str]:
        days, months = np.frombuffer(self._days_first), np.frombuffer(self._months_first)
        if self._shape != "slashes":
            return days, ""
        missing = np.isnan(days) & np.isnan(months)
        by_day, by_month = (not (np.isnan(values) & ~missing).any() for values in (days, months))
        cell, line = self._shown
        if by_day and by_month and not np.array_equal(days, months, equal_nan=True):
            raise UserError(
                f"column '{name}' holds {cell!r} in line {line}, day or month first, it cannot be told: write "
                "year-month-day, such as 2024-12-31"
            )
        if not by_day and not by_month:
            raise UserError(
                f"column '{name}' holds dates ({cell!r} in line {line}) that fit neither day/month/year nor month/day/year: "
                "write year-month-day, such as 2024-12-31"
            )
        return (days, " (day first)") if by_day else (months, " (month first)")


def _read(cell: str) -> tuple[str, bool, float, float] | None:
    """Shape, whether it has a zone, and microseconds with the day and the month first, NaN where there is no such day."""
    shape, match = next(
        ((shape, m) for shape, pattern in _SHAPES.items() if (m := pattern.fullmatch(cell))), ("", None)
    )
    if match is None:
        return None
    year, a, b, hour = int(match["year"]), int(match["a"]), int(match["b"]), int(match["hour"] or 0)
    half, zone = (match["half"] or "").lower(), match["zone"]
    if half:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if half == "pm" else 0)
    minute, second = int(match["minute"] or 0), int(match["second"] or 0)
    if hour > 23 or minute > 59 or second > 59:
        return None
    time = ((hour * 60 + minute) * 60 + second) * _SECOND + float((match["part"] or "0").ljust(6, "0"))
    if zone and zone[0] in "+-":
        digits = zone[1:].replace(":", "").ljust(4, "0")
        shift = (int(digits[:2]) * 60 + int(digits[2:])) * 60 * _SECOND
        time -= shift if zone[0] == "+" else -shift
    day_first = _midnight(year, b, a)
    month_first = _midnight(year, a, b) if shape == "slashes" else day_first
    if day_first is None and month_first is None:
        return None
    return (
        shape,
        zone is not None,
        _NAN if day_first is None else day_first + time,
        _NAN if month_first is None else month_first + time,
    )


@lru_cache(2**16)
def _midnight(year: int, month: int, day: int) -> float | None:
    try:
        return (datetime(year, month, day) - _EPOCH).days * _DAY
    except ValueError:
        return None


def _shown_time(microseconds: float, date_only: bool) -> str:
    try:
        moment = _EPOCH + timedelta(microseconds=microseconds)
    except OverflowError:  # a zone shifts the first day of the calendar out of it
        return "the year 0"
    return moment.date().isoformat() if date_only else moment.isoformat(" ")
