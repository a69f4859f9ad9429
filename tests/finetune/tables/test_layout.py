"""Titles, headers and units above a table: each is found, and said."""

from pathlib import Path

import pytest

from emlinit.finetune.tables.read_table import Table, read_table
from emlinit.generator.errors import UserError

ROWS = "1,2\n2,4\n3,7\n"


def read(folder: Path, text: str, header: str = "auto") -> Table:
    (folder / "table.csv").write_text(text, encoding="utf-8")
    table = read_table(folder / "table.csv", header=header)
    assert table.y.tolist() == [2, 4, 7]
    return table


@pytest.mark.parametrize("above", ["Experiment 12\n", "Experiment 12\n\n\n", "Experiment 12\nin May\n# a remark\n"])
def test_titles_are_skipped_and_said(above: str, tmp_path: Path) -> None:
    table = read(tmp_path, above + "t,v\n" + ROWS)
    assert (table.features, table.target, table.header_line) == (("t",), "v", above.count("\n") + 1)
    assert any("'Experiment 12'" in note and "skipped" in note for note in table.notes)
    assert read(tmp_path, above + ROWS).features == ("x1",)


@pytest.mark.parametrize(
    ("units", "read_as"),
    [
        ("[s],[m/s]", {"t": "s", "v": "m/s"}),
        ("(s),-", {"t": "s"}),
        ("s,kg/m^3", {"t": "s", "v": "kg/m^3"}),
        (",°C", {"v": "°C"}),
        ("[arb. units],1", {"t": "arb. units"}),
    ],
)
def test_a_row_of_units_is_kept_and_said(units: str, read_as: dict[str, str], tmp_path: Path) -> None:
    table = read(tmp_path, f"t,v\n{units}\n{ROWS}")
    assert table.units == read_as
    shown = ", ".join(f"{name} in {unit}" for name, unit in read_as.items())
    assert f"line 2 is read as units: {shown}" in table.notes
    assert table.rows_dropped == 0


def test_units_below_a_header_in_a_comment(tmp_path: Path) -> None:
    table = read(tmp_path, "# t v\n[s] [m]\n" + ROWS.replace(",", " "))
    assert (table.features, table.target, table.units) == (("t",), "v", {"t": "s", "v": "m"})


def test_units_in_a_comment_below_the_names(tmp_path: Path) -> None:
    table = read(tmp_path, "# made in May\n# t v\n# [s] [m]\n" + ROWS.replace(",", " "))
    assert (table.features, table.target, table.units) == (("t",), "v", {"t": "s", "v": "m"})
    assert "line 3 is read as units: t in s, v in m" in table.notes
    assert "line 2 is read as the header, although it begins with #" in table.notes
    assert "line 1 begins with # and is skipped" in table.notes


def test_what_tells_excel_the_separator_is_no_row(tmp_path: Path) -> None:
    table = read(tmp_path, "sep=;\nt;v\n" + ROWS.replace(",", ";"))
    assert (table.features, table.target, table.header_line) == (("t",), "v", 2)
    assert "line 1 names the separator and is skipped" in table.notes


@pytest.mark.parametrize("row", ["bad,worse", "Mars,m", "s,5", "n,m"])
def test_a_row_of_words_is_no_row_of_units(row: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds text where a number is needed"):
        read(tmp_path, f"t,v\n{row}\n{ROWS}")


def test_what_stands_above_text_is_no_unit(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("t,name,v\ns,m,m\n1,Mars,2\n2,Venus,4\n3,Earth,7\n")
    with pytest.raises(UserError, match=r"column 't' holds text where a number is needed \('s' in line 2\)"):
        read_table(tmp_path / "table.csv", features=["t"])
    (tmp_path / "table.csv").write_text("t,name,v\ns,-,m\n1,Mars,2\n2,Venus,4\n3,Earth,7\n")
    assert read_table(tmp_path / "table.csv", features=["t"]).units == {"t": "s", "v": "m"}


def test_rows_of_missing_cells_are_no_units(tmp_path: Path) -> None:
    table = read(tmp_path, f"t,v\n-,\n{ROWS}")
    assert (table.units, table.rows_dropped) == ({}, 1)


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (("2024-01-01", "2024-01-05", "2024-01-03"), [0, 4, 2]),
        (("True", "False", "True"), [1, 0, 1]),
        (("5%", "6%", "8%"), [0.05, 0.06, 0.08]),
        (("1.0D+00", "2.0D+00", "3.0D+00"), [1, 2, 3]),
    ],
)
def test_a_first_row_of_values_is_no_header(cells: tuple[str, ...], values: list[float], tmp_path: Path) -> None:
    text = "".join(f"{cell},{row[2:]}\n" for cell, row in zip(cells, ROWS.split(), strict=True))
    table = read(tmp_path, text)
    assert table.header_line is None
    assert table.x[:, 0].tolist() == values
    assert read(tmp_path, f"True,2024-01-01\n{ROWS}").features == ("True",)  # values above numbers are names


@pytest.mark.parametrize("first", ["", "Unnamed: 0"])
@pytest.mark.parametrize("start", [0, 1])
def test_a_column_that_counts_the_rows_is_no_variable_unless_named(first: str, start: int, tmp_path: Path) -> None:
    rows = "".join(f"{start + i},{row}\n" for i, row in enumerate(ROWS.split()))
    table = read(tmp_path, f"{first},t,v\n{rows}")
    assert table.features == ("t",)
    assert table.x.tolist() == [[1], [2], [3]]
    name = first or "x1"
    assert any(f"counts the rows: it is no variable (--features {name},..." in note for note in table.notes)
    named = read_table(tmp_path / "table.csv", features=[name, "t"])
    assert named.x.tolist() == [[start, 1], [start + 1, 2], [start + 2, 3]]
    assert read(tmp_path, f"n,t,v\n{rows}").features == ("n", "t")
    assert read(tmp_path, f"{first},t,v\n{rows.replace(f'{start},', '9,', 1)}").features == (name, "t")
    assert read(tmp_path, f"{first},v\n" + ROWS).features == (name,)  # there is no other


def test_what_r_writes(tmp_path: Path) -> None:
    table = read(tmp_path, '"t" "v"\n"1" 1 2\n"2" 2 4\n"3" 3 7\n')
    assert (table.features, table.target) == (("t",), "v")
