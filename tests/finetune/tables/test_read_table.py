"""Reading tables: every spelling of a table gives the same numbers; every bad one is named."""

import codecs
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emlinit.finetune.tables.read_table import read_table, split_names
from emlinit.generator.errors import UserError

ROWS = [[1.5, -2.0, 3.25e-7], [4.0, 5.5, 1e22], [0.1, 7.0, -8.0], [1 / 3, 0.0, 12.0]]
FINITE = st.floats(-1e100, 1e100)


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
    "comments and blank lines": "# made by hand\n\n# with commas, many, of them\n"
    + PLAIN.replace("4.0", "\n\n  4.0")
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
    rows = [*rows, [1.0, 1.0, 1.0]]  # a column of the tiniest numbers alone is refused
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
    assert "1 row of 5 dropped: a used cell is missing, NaN or infinite" in table.notes


def test_rows_keep_the_number_that_they_have_in_the_file(tmp_path: Path) -> None:
    assert read_table(write(tmp_path, PLAIN)).row_numbers is None
    table = read_table(write(tmp_path, "# remark\na,b\n1,2\nnan,3\n\n4,5\n6,7\n"))
    assert table.row_numbers is not None
    assert table.row_numbers.tolist() == [1, 3, 4]


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
        ("once upon a time\nthere was a file\n", "no comma, semicolon, tab or blank"),
        ("a\n1\n2\n3\n", "no comma, semicolon, tab or blank"),
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


def header_of(text: str, folder: Path, header: str = "auto") -> tuple[tuple[str, ...], int, str]:
    """Names, rows used and notes of a table."""
    table = read_table(write(folder, text), header=header)
    return (*table.features, table.target), len(table.y) + table.rows_dropped, "; ".join(table.notes)


def test_rows_that_begin_with_a_hash_are_rows_and_never_lost(tmp_path: Path) -> None:
    names, n_rows, notes = header_of("a,b\n1,2\n#N/A,3\n#DIV/0!,4\n3,6\n5,10\n", tmp_path)
    assert (names, n_rows) == (("a", "b"), 5)
    assert "2 rows of 5 dropped" in notes
    with pytest.raises(UserError, match=r"'#3' in line 3\) \(comments may stand above the table only\)"):
        read_table(write(tmp_path, "id,b\n1,2\n#3,3\n3,6\n5,10\n"))
    with pytest.raises(UserError, match=r"line 4 of .* comments may stand above the table only"):
        read_table(write(tmp_path, "id,b\n1,2\n2,3\n# recalibrated\n3,6\n5,10\n"))
    assert header_of("#N/A,3\n1,2\n2,4\n3,6\n", tmp_path)[1] == 4


@pytest.mark.parametrize(
    ("text", "names", "said"),
    [
        ("#,b\n1,2\n2,4\n3,6\n", ("#", "b"), "line 1 is read as the header, although it begins with #"),
        ("# a,b\n1,2\n2,4\n3,6\n", ("a", "b"), "line 1 is read as the header"),
        ("# made in May\n\n# a, b\n1,2\n2,4\n3,6\n", ("a", "b"), "line 1 begins with # and is skipped"),
        ("# made, in May\na,b\n1,2\n2,4\n3,6\n", ("a", "b"), "line 1 begins with # and is skipped"),
        ("# one\n# two\n1,2\n2,4\n3,6\n", ("x1", "y"), "2 lines above the table begin with # and are skipped"),
        ("# 7,8\n1,2\n2,4\n3,6\n", ("x1", "y"), "line 1 begins with # and is skipped"),
    ],
)
def test_comments_above_a_table_may_hold_its_header(
    text: str, names: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    read, n_rows, notes = header_of(text, tmp_path)
    assert (read, n_rows) == (names, 3)
    assert said in notes


def test_what_the_first_line_was_taken_for_is_said_and_can_be_settled(tmp_path: Path) -> None:
    years = "1990,2000\n1,2\n2,4\n3,6\n"
    names, n_rows, notes = header_of(years, tmp_path)
    assert (names, n_rows) == (("x1", "y"), 4)
    assert "no header: line 1 is read as a row" in notes
    assert header_of(years, tmp_path, "yes")[:2] == (("1990", "2000"), 3)
    assert header_of(years, tmp_path, "no") == (("x1", "y"), 4, "")

    mixed = "1.0,bad\n1,2\n2,4\n3,6\n"
    names, n_rows, notes = header_of(mixed, tmp_path)
    assert (names, n_rows) == (("1.0", "bad"), 3)
    assert "line 1 mixes numbers and text ('1.0', 'bad') and is read as the header" in notes
    with pytest.raises(UserError, match=r"column 'y' holds text .*'bad' in line 1"):
        read_table(write(tmp_path, mixed), header="no")
    assert header_of("1.0,n.a.\n1,2\n2,4\n3,6\n", tmp_path)[:2] == (("x1", "y"), 4)

    names, n_rows, notes = header_of("na,null,none\n1,2,3\n2,4,5\n3,6,7\n", tmp_path)
    assert (names, n_rows) == (("na", "null", "none"), 3)
    assert "line 1 is read as the header: with --header no" in notes
    assert read_table(write(tmp_path, PLAIN)).header_line == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('a,b\n"1\n2",3\n2,3\n3,5\n5,6\n', r"column 'a' holds text .*'1\\n2' in line 3"),
        ("a;b\n1,5;1.234\n2,5;2.345\n3,5;3.456\n", "'1.234' in line 2, thousands or a decimal point"),
        ("a;b\n1,5;1\n2.5;2\n3,5;3\n", r"a comma \('1,5' in line 2\) and a point \('2.5' in line 3\)"),
    ],
)
def test_numbers_that_may_be_read_in_two_ways_are_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        read_table(write(tmp_path, text))


@pytest.mark.parametrize("cell", ["1e154", "-1e300", "1.7976931348623157e308", "1e101"])
def test_a_number_too_large_to_square_is_refused_by_its_line(cell: str, tmp_path: Path) -> None:
    for text in (f"a,b\n1,2\n2,{cell}\n3,5\n", f"a,b\n1,2\n{cell},3\n3,5\n"):
        with pytest.raises(UserError, match=r"column '[ab]' holds .* in line 3: numbers beyond 1e\+100"):
            read_table(write(tmp_path, text))
    unused = read_table(write(tmp_path, f"a,b,c\n1,2,{cell}\n2,3,1\n3,5,1\n"), target="b", features=["a"])
    assert len(unused.y) == 3


def test_a_column_of_nothing_but_tiny_numbers_is_refused_and_single_ones_are_not(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="column 'a' holds nothing larger than 3e-310 in line 4"):
        read_table(write(tmp_path, "a,b\n1e-310,1\n-2e-310,3\n3e-310,2\n"))
    assert len(read_table(write(tmp_path, "a,b\n1e-310,1\n0,3\n3,2\n")).y) == 3
    assert len(read_table(write(tmp_path, "a,b\n1,0\n3,0\n2,0\n")).y) == 3


def test_a_number_far_out_is_pointed_out(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, "a,b\n1,2\n2,9.96921e+36\n3,6\n4,9.96921e+36\n"))
    assert any("column 'b' holds 9.96921e+36 2 times, first in line 3, far from" in n for n in table.notes)


def test_names_are_printable_and_on_one_line(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, '"length\n(cm)",\x9b31m\u202eb,\n1,2,3\n2,3,4\n3,4,6\n'.encode()))
    assert (*table.features, table.target) == ("length (cm)", "31m b", "x3")
    assert read_table(write(tmp_path, "x2,,c\n1,2,3\n2,3,4\n3,4,6\n")).features == ("x2", "x2_")


def test_wide_and_long_tables_are_read_in_linear_time(tmp_path: Path) -> None:
    seconds = []
    for n_columns in (2_000, 20_000):
        rows = np.arange(1, 4 * n_columns + 1).reshape(4, -1)
        text = ",".join(f"c{i}" for i in range(n_columns)) + "\n" + "\n".join(",".join(map(str, row)) for row in rows)
        begin = time.process_time()
        table = read_table(write(tmp_path, text))
        seconds.append(time.process_time() - begin)
        assert table.x.shape == (4, n_columns - 1)
    assert seconds[1] < 40 * seconds[0] + 0.5  # a hundred times as long, were it quadratic


def test_text_beyond_the_first_piece_is_named_by_its_line(tmp_path: Path) -> None:
    n_rows = 40_000
    text = "a,b\n" + "1,2.5\n" * n_rows
    assert len(read_table(write(tmp_path, text)).y) == n_rows
    with pytest.raises(UserError, match=f"'x1' in line {n_rows + 2}"):
        read_table(write(tmp_path, text + "x1,3\n"))
    with pytest.raises(UserError, match=f"line {n_rows + 2} of .* does not have 2 cells"):
        read_table(write(tmp_path, text + "1,3,4\n"))
    assert read_table(write(tmp_path, text + "nan,3\n")).rows_dropped == 1


def test_an_option_of_names_with_line_breaks_or_odd_quotes_is_no_traceback() -> None:
    assert split_names("a\nb") == ["a b"]
    assert split_names("a\r\nb,c") == ["a b", "c"]
    for text in ('a,"b', 'a,"b" c'):
        with pytest.raises(UserError, match="--features cannot be read"):
            split_names(text)


def test_names_with_commas_are_quoted_in_an_option() -> None:
    assert split_names('a, "b, c",d ') == ["a", "b, c", "d"]


GROUPED = "material,x,y\n copper ,1,2\nsteel,2,3\ncopper,nan,4\n,4,5\nbad,5,6\nsteel,6,7\n"


def test_a_column_of_groups_is_text_and_neither_target_nor_feature(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, GROUPED), group="material", missing=["BAD"])
    assert (table.features, table.target, table.group) == (("x",), "y", "material")
    assert table.labels == ("copper", "steel", "steel")
    np.testing.assert_array_equal(table.y, [2, 3, 7])
    assert table.rows_dropped == 3
    assert "2 rows without a group in column 'material'" in table.notes


def test_a_column_of_groups_may_be_the_last_and_hold_numbers(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, "x,y,run\n1,2,1\n2,3,1\n3,4,02\n4,7,02\n"), group="run")
    assert (table.features, table.target, table.labels) == (("x",), "y", ("1", "1", "02", "02"))
    plain = read_table(write(tmp_path, "x,y,run\n1,2,1\n2,3,1\n3,4,02\n4,7,02\n"))
    assert (plain.target, plain.group, plain.labels) == ("run", None, ())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group": "stuff"}, "--group names 'stuff', which is no column"),
        ({"group": "y", "target": "y"}, "column 'y' is the target and cannot name the groups too"),
        (
            {"group": "material", "features": ["material", "x"]},
            "column 'material' names the groups and cannot be a feature",
        ),
    ],
)
def test_a_column_of_groups_that_is_something_else_is_refused(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        read_table(write(tmp_path, GROUPED), **options)
