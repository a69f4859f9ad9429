"""Cells of one column: what they are is settled by all of them, and never guessed in silence."""

import numpy as np
import pytest

from emlinit.finetune.tables.cells import Column, kind_of
from emlinit.generator.errors import UserError


def column(
    *cells: str, separator: str = ";", commas: bool = False, points: bool = False, missing: tuple[str, ...] = ()
) -> tuple[list[float], list[str]]:
    read = Column("c", separator, ["c", "d"], missing)
    for line, cell in enumerate(cells, start=2):  # piece by piece
        read.add([cell], [line])
    at_once = Column("c", separator, ["c", "d"], missing)
    at_once.add(cells, range(2, len(cells) + 2))
    marks = [float(mark) for mark in missing if mark.lstrip("-").replace(".", "").isdecimal()]
    results = []
    for one in (read, at_once):
        one.check_signs(commas or one.has_decimal_commas, points or one.has_decimal_points)
        numbers, _, notes = one.numbers(marks)
        results.append((numbers.tolist(), notes))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]
    return results[0]


NBSP, NARROW, THIN = "\u00a0", "\u202f", "\u2009"


@pytest.mark.parametrize("separator", [";", "\t", " "])
@pytest.mark.parametrize(
    ("cells", "values", "said"),
    [
        (["123.500,00", "1.234.567,89"], [123500.0, 1234567.89], "points group thousands, as in '123.500,00'"),
        (["1.234.567", "12,5", "1.234"], [1234567.0, 12.5, 1234.0], "points group thousands"),
        (["1.234", "12", "-1.234,5"], [1234.0, 12.0, -1234.5], "points group thousands"),
        (["1,234.50", "1,234", "12.5", "7"], [1234.5, 1234.0, 12.5, 7.0], "commas group thousands, as in '1,234.50'"),
        (["1,234,567", "1,234", "+2,000"], [1234567.0, 1234.0, 2000.0], "commas group thousands"),
        ([f"1{NBSP}234,5", "2,25"], [1234.5, 2.25], "blanks group thousands"),
        ([f"1{NARROW}234{NARROW}567", "8"], [1234567.0, 8.0], "blanks group thousands"),
        ([f"-1{THIN}234.5", "2.25"], [-1234.5, 2.25], "blanks group thousands"),
        (["1'234.5", "1'234'567"], [1234.5, 1234567.0], 'apostrophes group thousands, as in "1\'234.5"'),
        (["1.0D+00", "-2.5d-3", "1D2"], [1.0, -0.0025, 100.0], "D begins an exponent, as in '1.0D+00'"),
        (["\u22121.5", "2", "\u22123e\u22122"], [-1.5, 2.0, -0.03], "\u2212 is read as a minus"),
        (["12%", "3.5 %", "", "-100%"], [0.12, 0.035, np.nan, -1.0], "holds percentages: 12% is read as 0.12"),
        (["True", "FALSE", "", "true"], [1.0, 0.0, np.nan, 1.0], "True is read as 1, False as 0"),
        (["yes", "No", "YES"], [1.0, 0.0, 1.0], "yes is read as 1, no as 0"),
        (["", "2024-01-01", "NaT", "2024-01-09"], [np.nan, 0.0, np.nan, 8.0], "days since 2024-01-01"),
        (["1,5", "2,25"], [1.5, 2.25], "the comma is read as the decimal sign"),
    ],
)
def test_spellings_that_can_be_read_in_one_way_are_read_and_said(
    separator: str, cells: list[str], values: list[float], said: str
) -> None:
    read, notes = column(*cells, separator=separator)
    np.testing.assert_array_equal(read, values)
    assert any(said in note for note in notes), notes


@pytest.mark.parametrize(
    ("cells", "separator", "message"),
    [
        (["1,234", "2,345"], "\t", "'1,234' in line 2, thousands or a decimal comma: write decimal points"),
        (["1,234", "2,345"], " ", "'1,234' in line 2, thousands or a decimal comma"),
        (["123,500", "126,348"], ",", "'123,500' in line 2, thousands or a decimal comma: write decimal points"),
        (["1.234,5", "12.5"], ";", "'1.234,5' in line 2 and '12.5' in line 3, where commas and points mean different"),
        (["1,234.5", "1.234,5"], ";", "'1,234.5' in line 2 and '1.234,5' in line 3"),
        (["1,234,567", "1,5"], "\t", "'1,234,567' in line 2 and '1,5' in line 3"),
        (["1,5", "1.234"], ";", r"a comma \('1,5' in line 2\) and a point \('1.234' in line 3\)"),
        (["1,5", "2"], ",", r"text where a number is needed \('1,5' in line 2\)"),
        (["1.234,5", "2"], ",", r"text where a number is needed \('1.234,5' in line 2\)"),
        (["1,23,456", "2"], ";", "text where a number is needed"),
        (["0,123,456", "2"], ";", "text where a number is needed"),
        (["1 234", "2"], ";", "text where a number is needed"),
        (["$12.50", "2"], ";", r"write amounts of money as numbers alone\)"),
        (["12,50 €", "2"], ";", r"write amounts of money as numbers alone\)"),
        (["31.12.24", "2"], ";", r"write dates as year-month-day, such as 2024-12-31, in all cells\)"),
        (["1", "2024-12-31"], ";", r"write dates as year-month-day, such as 2024-12-31, in all cells\)"),
        (["12%", "0.5"], ";", r"where a percentage is needed, as above it \('0.5' in line 3\)"),
        (["True", "1"], ";", r"where True or False, or yes or no, is needed, as above it \('1' in line 3\)"),
        (["True", "no"], ";", r"where True or False, or yes or no, is needed, as above it \('no' in line 3\)"),
        (["0", "True"], ";", r"text where a number is needed \('True' in line 3\)"),
        (
            ["2024-01-01", "1.2.2024"],
            ";",
            r"where a date of the same form is needed, as above it \('1.2.2024' in line 3\)",
        ),
        (["2024-01-01", "5"], ";", r"where a date of the same form is needed, as above it \('5' in line 3\)"),
    ],
)
def test_what_can_be_read_in_two_ways_or_none_is_refused(cells: list[str], separator: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        column(*cells, separator=separator)


def test_thousands_between_commas_need_a_decimal_point_in_the_file() -> None:
    values, notes = column("123,500", "7", "-1,234", separator=",", points=True)
    assert values == [123500.0, 7.0, -1234.0]
    assert notes == ["column 'c': commas group thousands, as in '123,500'"]
    assert column("1,234,567", "1,234", separator=",")[0] == [1234567.0, 1234.0]
    assert column("1,234.5", "1,234", separator=",")[0] == [1234.5, 1234.0]


def test_points_that_may_group_thousands_are_refused_beside_decimal_commas() -> None:
    assert column("1.234", "2.345")[0] == [1.234, 2.345]
    with pytest.raises(UserError, match=r"'1\.234' in line 2, thousands or a decimal point, and other columns"):
        column("1.234", "2.345", commas=True)


def test_marks_for_missing_values_are_numbers_or_words() -> None:
    values, notes = column("1", "-999", "n.d.", "-999.0", "2", missing=("-999", "N.D."))
    np.testing.assert_array_equal(values, [1, np.nan, np.nan, np.nan, 2])
    assert notes == ["column 'c': 3 cells marked as missing"]
    values, notes = column("True", "?!", "False", missing=("?!",))
    np.testing.assert_array_equal(values, [1, np.nan, 0])
    assert "column 'c': 1 cell marked as missing" in notes


@pytest.mark.parametrize(
    ("cell", "kind"),
    [
        ("1.5", "number"),
        ("1,5", "number"),
        ("5 %", "percentage"),
        ("Yes", "truth"),
        ("2024-01-01", "date"),
        ("x", None),
    ],
)
def test_kinds(cell: str, kind: str | None) -> None:
    assert kind_of(cell, ";") == kind
    assert kind_of("1,5", ",") is None
