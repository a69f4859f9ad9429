"""Sheets and Parquet files give what the same table as CSV gives; damaged ones and bombs are one line."""

import datetime
import io
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from emlinit.finetune.tables import containers, sheets
from emlinit.finetune.tables.read_table import Table, read_table
from emlinit.generator.errors import UserError

VALUES = np.random.default_rng(0).normal(size=(6, 3)) * 10.0 ** np.arange(-3, 6, 3)


def saved(folder: Path, *rows: list[Any], others: tuple[str, ...] = ()) -> Path:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.title = "run 1"
    for row in rows:
        book.active.append(row)
    for name in others:
        book.create_sheet(name)
    book.save(folder / "table.xlsx")
    return folder / "table.xlsx"


def numbers(table: Table) -> np.ndarray:
    return np.column_stack([table.x, table.y])


def test_a_sheet_gives_its_numbers_to_the_last_bit(tmp_path: Path) -> None:
    values = [[float(f"{number:.15g}") for number in row] for row in VALUES]  # openpyxl writes 16 digits
    table = read_table(saved(tmp_path, ["a", "b", "c"], *values))
    np.testing.assert_array_equal(numbers(table), values)
    assert (table.features, table.target, table.header_line) == (("a", "b"), "c", 1)
    assert "sheet 'run 1' is read" in table.notes


def test_titles_units_gaps_and_kinds_of_a_sheet(tmp_path: Path) -> None:
    begin = datetime.datetime(2024, 5, 1, 12)
    rows = [[None, begin + datetime.timedelta(hours=i), i % 2 == 0, None if i == 2 else 1.5 * i] for i in range(6)]
    path = saved(
        tmp_path,
        [None, "Experiment 12"],
        [],
        [None, "when", "open", "flow"],
        [None, None, None, "[l/s]"],
        *rows,
        others=("notes",),
    )
    table = read_table(path)
    assert (table.features, table.target, table.rows_dropped, table.header_line) == (("when", "open"), "flow", 1, 3)
    np.testing.assert_array_equal(numbers(table), [[3600.0 * i, i % 2 == 0, 1.5 * i] for i in range(6) if i != 2])
    assert table.units == {"when": "seconds since 2024-05-01 12:00:00", "flow": "l/s"}
    said = "; ".join(table.notes)
    for note in (
        "sheet 'run 1' is read, the first of 2",
        "'Experiment 12'",
        "line 4 is read as units",
        "1 row of 6 dropped",
    ):
        assert note in said


def test_text_in_a_sheet_is_named_by_its_row(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"column 'a' holds text where a number is needed \('two' in line 3\)"):
        read_table(saved(tmp_path, ["a", "b"], [1, 2], ["two", 3], [4, 5]))
    with pytest.raises(UserError, match=r"the first sheet of .* is empty"):
        read_table(saved(tmp_path))


def test_damaged_workbooks_and_bombs_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, ["a", "b"], [1, 2], [2, 3], [3, 4])
    whole = path.read_bytes()
    sheet = "xl/worksheets/sheet1.xml"
    for name, damage in [
        (sheet, b"<worksheet><sheetData><row><c"),
        (sheet, b"not xml"),
        ("xl/workbook.xml", b""),
        ("[Content_Types].xml", b"<a/>"),
    ]:
        path.write_bytes(changed(whole, name, damage))
        with pytest.raises(UserError, match=r"is a damaged workbook|holds no sheet|is empty") as raised:
            read_table(path)
        assert len(str(raised.value).splitlines()) == 1
    path.write_bytes(whole[:-60])
    with pytest.raises(UserError, match="is a damaged archive"):
        read_table(path)
    path.write_bytes(whole)
    monkeypatch.setattr(sheets, "_MOST_UNPACKED", 1000)
    with pytest.raises(UserError, match="GiB unpacked: save the table as CSV"):
        read_table(path)
    monkeypatch.undo()
    for row, column in ((2**20 + 1, "A"), (2**40, "B"), (5000, "XFD")):
        monkeypatch.setattr(sheets, "_MOST_CELLS", 10_000)
        path.write_bytes(changed(whole, sheet, far_away_cell(row, column)))
        with pytest.raises(UserError, match=r"the first sheet of .* is too large: save its table as CSV"):
            read_table(path)
    monkeypatch.undo()
    monkeypatch.setattr(containers, "MOST_BYTES", len(whole) - 1)
    path.write_bytes(whole)
    with pytest.raises(UserError, match="give a sample of its rows"):
        read_table(path)


def changed(book: bytes, member: str, data: bytes) -> bytes:
    """A workbook with one of its members replaced."""
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(book)) as old, zipfile.ZipFile(result, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, data if name == member else old.read(name))
    return result.getvalue()


def far_away_cell(row: int, column: str) -> bytes:
    """A small file of a sheet that is large."""
    space = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    cell = f'<row r="{row}"><c r="{column}{row}"><v>1</v></c></row>'
    return f'<worksheet xmlns="{space}"><sheetData>{cell}</sheetData></worksheet>'.encode()


def test_without_openpyxl_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "table.xlsx"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("[Content_Types].xml", "")
        archive.writestr("xl/workbook.xml", "")
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(UserError, match="for which openpyxl is needed: pip install openpyxl, or save it as CSV"):
        read_table(path)


def test_a_parquet_file_gives_its_numbers_to_the_last_bit(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    pd.DataFrame(VALUES, columns=["1990", "1991", "1992"]).to_parquet(path)  # names that are numbers are names
    table = read_table(path)
    np.testing.assert_array_equal(numbers(table), VALUES)
    assert (*table.features, table.target) == ("1990", "1991", "1992")


def test_kinds_missing_values_and_the_index_of_a_parquet_file(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    frame = pd.DataFrame(
        {
            "when": pd.date_range("2024-05-01", periods=5, tz="UTC"),
            "open": [True, False, True, True, False],
            "remark": ["a\nb", 'c\t"', "", None, "e\x1b"],
            "n": pd.array([1, 2, None, 4, 5], dtype="Int64"),
            "y": np.float32([0.1, 0.2, 0.3, 0.4, 0.5]),
        }
    )
    frame[[True] * 5].to_parquet(path)
    table = read_table(path, features=["when", "open", "n"])
    wanted = [[i, i in (0, 3), i + 1, float(np.float32(0.1 * (i + 1)))] for i in (0, 1, 3, 4)]
    np.testing.assert_allclose(numbers(table), wanted, rtol=1e-7)
    assert table.units == {"when": "days since 2024-05-01 UTC"}
    with pytest.raises(UserError, match=r"column 'remark' holds text where a number is needed \('a b' in line 2\)"):
        read_table(path)


def test_damaged_and_large_parquet_files_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "table.parquet"
    pd.DataFrame({"a": np.zeros(100_000), "b": np.zeros(100_000)}).to_parquet(path)
    whole = path.read_bytes()
    for damaged in (whole[:-20], whole[:4] + b"\xff" * 600 + whole[604:], b"PAR1" + b"\0" * 50, b"PAR1"):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="is a damaged Parquet file") as raised:
            read_table(path)
        assert len(str(raised.value).splitlines()) == 1
    path.write_bytes(whole)
    monkeypatch.setattr(containers, "MOST_BYTES", len(whole) + 10)
    with pytest.raises(UserError, match="give a sample of its rows"):
        read_table(path)
