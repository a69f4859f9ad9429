"""Dates become the days or seconds that lie between them; what may be read in two ways is refused."""

import calendar
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emlinit.finetune.tables.dates import Dates, is_date, is_like_a_date
from emlinit.generator.errors import UserError


def numbers(*cells: str | None) -> tuple[list[float], str]:
    dates = Dates()
    for line, cell in enumerate(cells, start=2):
        if cell is None:
            dates.add_missing()
        else:
            assert dates.add(cell, line), cell
    values, unit, note = dates.numbers("t")
    assert f"are read as {unit}" in note
    return values.tolist(), unit


@pytest.mark.parametrize(
    ("cells", "values", "unit"),
    [
        (["2024-02-28", "2024-02-29", "2024-03-01"], [0, 1, 2], "days since 2024-02-28"),
        (["2024-01-05", "2024-01-01", "2025-01-01"], [4, 0, 366], "days since 2024-01-01"),
        (["2024/1/1", "2024/1/31"], [0, 30], "days since 2024-01-01"),
        (["2024-01-01T12:00", "2024-01-04 00:00"], [0, 2.5], "days since 2024-01-01 12:00:00"),
        (["2024-01-01 00:00:00", "2024-01-01 00:01:00.5"], [0, 60.5], "seconds since 2024-01-01 00:00:00"),
        (["2024-01-01", "2024-01-02"], [0, 86400], "seconds since 2024-01-01 00:00:00"),
        (["2024-01-01T00:00:00Z", "2024-01-01T01:00:01+01:00"], [0, 1], "seconds since 2024-01-01 00:00:00 UTC"),
        (["2024-01-01T05:00-0530", "2024-01-05T10:30Z"], [0, 4], "days since 2024-01-01 10:30:00 UTC"),
        (["31.12.2023", "2.1.2024"], [0, 2], "days since 2023-12-31"),
        (["01.02.2024 06:00", "04.02.2024 18:00"], [0, 3.5], "days since 2024-02-01 06:00:00"),
        (["12/31/2024 13:45", "1/2/2025 13:45"], [0, 2], "days since 2024-12-31 13:45:00"),
        (["1/2/2024", "12/31/2024"], [0, 364], "days since 2024-01-02"),
        (["1/2/2024", "31/12/2024"], [0, 334], "days since 2024-02-01"),
        (["02/02/2024", "03/03/2024"], [0, 30], "days since 2024-02-02"),
        (["1/13/2024 12:00 AM", "1/13/2024 12:30 pm"], [0, 45000], "seconds since 2024-01-13 00:00:00"),
        (["1969-12-31 23:59:59.999999", "1970-01-01 00:00:00"], [0, 1e-6], "seconds since 1969-12-31 23:59:59.999999"),
    ],
)
def test_dates_are_counted_from_the_first(cells: list[str], values: list[float], unit: str) -> None:
    assert numbers(*cells) == (values, unit)


@given(
    st.lists(st.datetimes(datetime(1800, 1, 1), datetime(2200, 1, 1)), min_size=2, max_size=5), st.sampled_from("T ")
)
def test_any_moment_is_read_to_the_microsecond(moments: list[datetime], between: str) -> None:
    values, unit = numbers(*(moment.isoformat(between) for moment in moments))
    seconds = [(moment - min(moments)) / timedelta(seconds=1) for moment in moments]
    size = 86400 if unit.startswith("days") else 1
    np.testing.assert_allclose(np.array(values) * size, seconds, rtol=1e-15, atol=1e-9)


def test_a_zone_is_that_of_the_calendar() -> None:
    values, _ = numbers("2024-06-01T12:00:00+02:00", "2024-06-09T09:00:00Z")
    ends = [datetime(2024, 6, 1, 10, tzinfo=UTC), datetime(2024, 6, 9, 9, tzinfo=UTC)]
    stamps = [calendar.timegm(end.timetuple()) for end in ends]
    assert values == [0, (stamps[1] - stamps[0]) / 86400]


def test_a_missing_date_is_missing() -> None:
    values, _ = numbers("2024-01-01", None, "2024-01-05")
    np.testing.assert_array_equal(values, [0, np.nan, 4])


def test_day_and_month_that_cannot_be_told_apart_are_refused() -> None:
    with pytest.raises(
        UserError, match=r"'01/02/2024' in line 2, day or month first, it cannot be told: write year-month"
    ):
        numbers("01/02/2024", "03/04/2024")
    with pytest.raises(UserError, match="fit neither day/month/year nor month/day/year"):
        numbers("13/02/2024", "02/13/2024")


@pytest.mark.parametrize(
    "cell",
    ["2024-02-30", "32.1.2024", "13/13/2024", "2024-01-01 24:30", "2024-01-01 13:00 PM", "20240101", "2024-01", "1.5"],
)
def test_what_is_no_date_is_none(cell: str) -> None:
    assert not is_date(cell)


@pytest.mark.parametrize("cell", ["31.12.24", "1/2/24", "31-Dec-2024", "3 March 2024", "1/2/24 10:30"])
def test_other_spellings_of_dates_are_known_for_what_they_are(cell: str) -> None:
    assert not is_date(cell)
    assert is_like_a_date(cell)
    assert not is_like_a_date("1.5")


def test_a_column_keeps_to_one_form() -> None:
    for first, other in [("2024-01-01", "31.12.2024"), ("2024-01-01T00:00", "2024-01-01T00:00Z"), ("2024-01-01", "5")]:
        dates = Dates()
        assert dates.add(first, 2)
        assert not dates.add(other, 3)
