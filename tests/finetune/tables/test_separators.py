"""Where a table begins and what separates its cells."""

from pathlib import Path

import pytest

from emlinit.finetune.tables.separators import BLANKS, Rows, find_table
from emlinit.generator.errors import UserError

HERE = Path("table")


def lines(text: str) -> list[tuple[int, str]]:
    return [(number, line) for number, line in enumerate(text.splitlines(keepends=True), start=1) if line.strip()]


def found(text: str) -> tuple[str, int, bool]:
    table = find_table(lines(text), HERE)
    return table.separator, len(table.titles), table.names_one_short


@pytest.mark.parametrize(
    ("text", "separator", "n_titles"),
    [
        ("a b\n1 2\n3 4\n", BLANKS, 0),
        ("  1.0   2.0\n 10.0  20.0\n", BLANKS, 0),
        ("1,5 2,5\n3,5 4,5\n", BLANKS, 0),  # commas cut it into rows of one width, too
        ("name x y\nMars 1 2\nVenus 2 3\n", BLANKS, 0),
        ("a, b\n1, 2\n3, 4\n", ",", 0),
        ("a b\n1,5 2,5\n3,5 4,5\n", BLANKS, 0),
        ("a 1 b\n1 2\t3\n3 \t 4 5\n", BLANKS, 0),  # tabs among them
        ("a,b\n1 234,5 678\n2 345,6 789\n", ",", 0),
        ("1 234,5 678\n2 345,6 789\n", ",", 0),
        ("p q\tr\n1 2\t3\n3 4\t5\n", "\t", 0),
        ("a;b\n1,5;2,5\n3,5;4,5\n", ";", 0),
        ("a\tb c\n1\t2\n3\t4\n", "\t", 0),
        ("when,y\n12/31/2024 13:45,2\n12/31/2024 13:46,3\n", ",", 0),
        ("Experiment 12\n\na,b\n1,2\n3,4\n", ",", 1),
        ("Experiment 12\nbench A; B\na,b\n1,2\n3,4\n", ",", 2),
        ("Operator,Ann,B,C\na,b\n1,2\n3,4\n", ",", 1),
        ("Experiment 12\n1,2\n3,4\n", ",", 1),
        ("made on a bench, in May\n1 2\n3 4\n5 6\n", BLANKS, 1),
        ("Experiment twelve of May\na b\n1 2\n3 4\n", BLANKS, 1),
    ],
)
def test_separator_and_titles(text: str, separator: str, n_titles: int) -> None:
    assert found(text) == (separator, n_titles, False)


@pytest.mark.parametrize(
    "text",
    [
        '"x" "y"\n"1" 1.5 2.5\n"2" 2.5 3.5\n',
        '"x","y"\n"a",1.5,2.5\n"b",2.5,3.5\n',
        " x y\n0 1.5 2.5\n1 2.5 3.5\n",
        "Title\nx;y\n1;2;3\n2;3;4\n",
    ],
)
def test_a_header_without_a_name_for_the_labels_of_rows_is_one(text: str) -> None:
    assert found(text)[2]
    assert found(text)[1] == text.startswith("Title")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("once upon a time\nthere was a file\n", "no comma, semicolon, tab or blank separates its columns"),
        ("once upon a time\nthere was, a file\n", "no comma, semicolon, tab or blank"),
        ("a\n1\n2\n", "no comma, semicolon, tab or blank"),
        ("125\na,b\n1,2\n2,3\n", "line 1 of 'table' does not have 2 cells like the lines below it, but 1"),
        ("7,8,9\na,b\n1,2\n2,3\n", "line 1 of 'table' does not have 2 cells like the lines below it, but 3"),
        ("a,b,c\n1,2\n2,3\n", "line 1 of 'table' does not have 2 cells like the lines below it, but 3"),
        ("a,b\n1,2,3\n4,3,4\n", "line 1 of 'table' does not have 3 cells like the lines below it, but 2"),
    ],
)
def test_rows_of_numbers_and_headers_of_another_width_are_no_titles(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        found(text)


def test_blanks_and_tabs_between_cells_are_one_and_those_in_quotes_stay() -> None:
    text = '  "my  time"\t y  \n 1 \t 2\n"3"   ""\n'
    assert list(Rows(iter(lines(text)), BLANKS, HERE)) == [["my  time", "y"], ["1", "2"], ["3", ""]]
