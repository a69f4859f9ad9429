"""Reading tables: every spelling of a table gives the same numbers; every bad one is named."""

import codecs
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emlinit.finetune.files.read_table import read_table, split_names
from emlinit.generator.errors import UserError

ROWS = [[1.5, -2.0, 3.25e-7], [4.0, 5.5, 1e22], [0.1, 7.0, -8.0], [1 / 3, 0.0, 12.0]]
FINITE = st.floats(allow_nan=False, allow_infinity=False, width=64)


def text_of(rows: list[list[float]], separator: str = ",", header: str | None = "a,b,c") -> str:
    lines = [separator.join(repr(cell) for cell in row) for row in rows]
    return "\n".join(([header.replace(",", separator)] if header else []) + lines) + "\n"


def write(folder: Path, text: str | bytes, name: str = "data.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


PLAIN = text_of(ROWS)
SPELLINGS: dict[str, str | bytes] = {
    "comma": PLAIN,
    "semicolon": text_of(ROWS, ";"),
    "tab": text_of(ROWS, "\t"),
    "decimal comma, semicolon": text_of(ROWS, ";").replace(".", ","),
    "decimal comma, tab": text_of(ROWS, "\t").replace(".", ","),
    "byte-order mark": codecs.BOM_UTF8 + PLAIN.encode(),
    "UTF-16": PLAIN.encode("utf-16"),
    "Windows line ends": PLAIN.replace("\n", "\r\n"),
    "comments and blank lines": "# made by hand\n\n"
    + PLAIN.replace("4.0", "# a remark, with commas\n\n  4.0")
    + "\n\n",
    "quotes": PLAIN.replace("a,b,c", '"a", "b",c').replace("1.5", '"1.5"'),
    "blanks": PLAIN.replace(",", " , "),
    "separator at the end of each line": PLAIN.replace("\n", ",\n"),
    "no line end at the end": PLAIN.rstrip("\n"),
    "capital E": PLAIN.replace("e", "E"),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_gives_the_same_table(spelling: str, tmp_path: Path) -> None:
    table = read_table(write(tmp_path, SPELLINGS[spelling]))
    assert (table.features, table.target, table.rows_dropped) == (("a", "b"), "c", 0)
    np.testing.assert_array_equal(np.column_stack([table.x, table.y]), ROWS)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(FINITE, min_size=3, max_size=3), min_size=3, max_size=6), st.sampled_from(",;\t"))
def test_numbers_are_read_to_the_last_bit(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[float]], separator: str
) -> None:
    table = read_table(write(tmp_path_factory.mktemp("table"), text_of(rows, separator)))
    np.testing.assert_array_equal(np.column_stack([table.x, table.y]), rows)


def test_without_a_header_columns_are_numbered(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, text_of(ROWS, header=None)))
    assert (table.features, table.target) == (("x1", "x2"), "y")
    assert len(table.y) == len(ROWS)


def test_a_first_row_with_a_missing_number_is_no_header(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, "nan,2\n" + "1,2\n" * 3))
    assert (table.target, len(table.y), table.rows_dropped) == ("y", 3, 1)


def test_target_and_features_pick_columns_in_the_order_asked_for(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, PLAIN), target="a", features=["c", "b"])
    np.testing.assert_array_equal(table.x, np.array(ROWS)[:, [2, 1]])
    np.testing.assert_array_equal(table.y, np.array(ROWS)[:, 0])
    assert read_table(write(tmp_path, PLAIN), target="b").features == ("a", "c")


@pytest.mark.parametrize("cell", ["", "nan", "NA", "inf", "-Infinity", "null", "1e999"])
def test_rows_that_are_not_finite_are_dropped_and_counted(cell: str, tmp_path: Path) -> None:
    table = read_table(write(tmp_path, PLAIN + f"1,{cell},2\n"))
    assert (len(table.y), table.rows_dropped) == (4, 1)
    assert table.notes == ("1 row of 5 dropped: a used cell is missing, NaN or infinite",)


def test_only_used_columns_decide_what_is_dropped_or_wrong(tmp_path: Path) -> None:
    text = "name,a,b\nMercury,1,2\nVenus,2,3\nEarth,3,nan\nMars,4,5\n"
    assert len(read_table(write(tmp_path, text), target="a", features=["b"]).y) == 3
    with pytest.raises(UserError, match=r"column 'name' holds text where a number is needed \('Mercury' in line 2\)"):
        read_table(write(tmp_path, text))


def test_line_numbers_count_comments_and_blank_lines(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"column 'b' .*'oops' in line 6"):
        read_table(write(tmp_path, "# remark\n\na,b\n1,2\n2,3\n4,oops\n"))


def test_cells_are_never_evaluated(tmp_path: Path) -> None:
    for cell in ("__import__('os').getcwd()", "1+1", "0x10", "1_000", "١٢"):
        with pytest.raises(UserError, match="column 'a' holds text"):
            read_table(write(tmp_path, f"a,b\n1,2\n2,3\n{cell},3\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("# only a remark\n\n", "is empty"),
        ("a,b\n", "header and no rows"),
        ("a,b\n1,2\n", "1 row of numbers, at least 3"),
        ("a,b\n1,2\n2,3\n", "2 rows of numbers, at least 3"),
        ("a,b\n1,2\n2,3\n4,\n", r"2 rows of numbers \(1 dropped"),
        ("1,2\n", "1 row of numbers"),
        ("a,b\nnan,1\ninf,2\n1,\n", "no row in which every used column is a finite number"),
        ("a,b,a\n1,2,3\n", "more than one column named 'a'"),
        ("a,b\n1,2\n3\n4,5\n", "line 3 of .* does not have 2 cells like the first one, but 1"),
        ("once upon a time\nthere was a file\n", "no comma, semicolon or tab"),
        ("a\n1\n2\n3\n", "no comma, semicolon or tab"),
        ('a,b\n1,"2\n3,4\n', "is not a CSV table"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "is not a text file"),
        ("a\tb\n1,234\t5\n2,345\t6\n3,456\t7\n", "column 'a' holds '1,234'"),
    ],
)
def test_bad_tables_are_named(text: str | bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        read_table(write(tmp_path, text))


def test_unknown_columns_get_a_suggestion(tmp_path: Path) -> None:
    path = write(tmp_path, "Period,Axis\n1,2\n2,3\n3,4\n")
    with pytest.raises(UserError, match=r"--target names 'period', which is no column: did you mean 'Period'\?"):
        read_table(path, target="period")
    with pytest.raises(UserError, match="--features names 'q', which is no column: the columns are Period, Axis"):
        read_table(path, features=["q"])
    with pytest.raises(UserError, match="'Axis' is the target and cannot be a feature too"):
        read_table(path, features=["Axis"])
    with pytest.raises(UserError, match="names a column twice"):
        read_table(path, features=["Period", "Period"])


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"missing\.csv' does not exist"):
        read_table(tmp_path / "missing.csv")
    with pytest.raises(UserError, match="is a folder"):
        read_table(tmp_path)


def test_names_with_commas_are_quoted_in_an_option() -> None:
    assert split_names('a, "b, c",d ') == ["a", "b, c", "d"]
