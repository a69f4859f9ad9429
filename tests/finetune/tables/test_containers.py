"""What a table comes in: files, pipes, standard input, gzip, and what looks like a table and is none."""

import gzip
import io
import os
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from emlinit.finetune.tables import containers as module
from emlinit.finetune.tables.containers import opened_table
from emlinit.finetune.tables.read_table import read_table
from emlinit.generator.errors import UserError

TEXT = "a,b\n\n1,ü\n2"
TABLE = "a,b\n1,2\n2,4\n3,7\n"


def read(path: Path) -> str:
    with opened_table(path) as source:
        return source.data.read().decode()


def test_folders_devices_long_names_and_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a folder"):
        read(tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        read(tmp_path / "no")
    with pytest.raises(UserError, match=r"cannot be read \(File name too long\)"):
        read(tmp_path / ("n" * 300))
    with pytest.raises(UserError, match="cannot be read"):
        read(tmp_path / "a\0b")
    (tmp_path / "file").write_text("1")
    with pytest.raises(UserError, match=r"cannot be read \(Not a directory\)"):
        read(tmp_path / "file" / "table")
    for device in ("/dev/zero", "/dev/null", "/dev/urandom"):
        if Path(device).exists():
            with pytest.raises(UserError, match="is a device"):
                read(Path(device))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_is_read_to_its_end_and_not_waited_for_without_a_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    monkeypatch.setattr(module, "SECONDS_FOR_A_WRITER", 0.1)
    begin = time.monotonic()
    with pytest.raises(UserError, match="pipe that nobody writes to"):
        read(path)
    assert time.monotonic() - begin < 2

    def write_slowly() -> None:
        with path.open("wb") as pipe:
            for piece in TEXT.encode().splitlines(keepends=True):
                pipe.write(piece)
                pipe.flush()
                time.sleep(0.15)

    monkeypatch.setattr(module, "SECONDS_FOR_A_WRITER", 5.0)
    writer = threading.Thread(target=write_slowly)
    writer.start()
    assert read(path) == TEXT
    writer.join()


def test_files_without_end_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "table"
    path.write_text("a,b\n" + "1" * 100 + "\n")
    monkeypatch.setattr(module, "MOST_BYTES", 100)
    with pytest.raises(UserError, match="give a sample of its rows"):
        read(path)


@pytest.mark.parametrize("name", ["table.csv.gz", "table.csv"])  # what it is shows in its bytes
def test_a_file_packed_by_gzip_is_read(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(gzip.compress(TABLE.encode()))
    table = read_table(tmp_path / name)
    np.testing.assert_array_equal(np.column_stack([table.x, table.y]), [[1, 2], [2, 4], [3, 7]])


def test_packed_files_are_unpacked_to_a_bound_and_damaged_ones_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, packed = tmp_path / "table.csv.gz", gzip.compress(TABLE.encode() * 1000)
    for damaged in (packed[:-9], packed[:40] + b"\xff" * 9 + packed[49:], packed[:5]):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="is a damaged gzip file"):
            read_table(path)
    path.write_bytes(gzip.compress(gzip.compress(TABLE.encode())))
    with pytest.raises(UserError, match="a packed file in a packed one: unpack it first"):
        read_table(path)
    monkeypatch.setattr(module, "MOST_BYTES", len(packed) + 10)  # the file is no larger, what it holds is
    path.write_bytes(packed)
    with pytest.raises(UserError, match="give a sample of its rows"):
        read_table(path)


def test_archives_and_old_workbooks_are_named(tmp_path: Path) -> None:
    path = tmp_path / "table.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("table.csv", TABLE)
    with pytest.raises(UserError, match="is an archive and no Excel workbook: unpack it"):
        read_table(path)
    path.write_bytes(b"PK\x03\x04" + b"nonsense" * 9)
    with pytest.raises(UserError, match="is a damaged archive"):
        read_table(path)
    path.write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 99)
    with pytest.raises(UserError, match=r"workbook of an old Excel: save it as \.xlsx or as CSV"):
        read_table(path)


READ_INPUT = """
import sys
from emlinit.finetune.tables.read_table import read_table
from emlinit.generator.errors import UserError
try:
    print(read_table("-").y.tolist())
except UserError as problem:
    print(problem)
"""


def said_of_input(**how: object) -> str:
    command = [sys.executable, "-c", READ_INPUT]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=60, check=True, **how).stdout  # type: ignore[call-overload, no-any-return]


def test_standard_input_is_read_from_a_pipe_a_file_and_nothing(tmp_path: Path) -> None:
    assert said_of_input(input=TABLE) == "[2.0, 4.0, 7.0]\n"
    (tmp_path / "table").write_text(TABLE)
    with (tmp_path / "table").open() as file:
        assert said_of_input(stdin=file) == "[2.0, 4.0, 7.0]\n"
    assert "'-' is empty" in said_of_input(stdin=subprocess.DEVNULL)
    assert "'-' is empty" in said_of_input(input="")


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no terminals on this system")
def test_a_terminal_is_not_waited_for() -> None:
    ours, theirs = os.openpty()
    try:
        assert "standard input is a terminal: send a table to it" in said_of_input(stdin=theirs)
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_sheet_packed_as_parquet_is_known_by_its_bytes(tmp_path: Path) -> None:
    packed = io.BytesIO()
    pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": [2.0, 4.0, 7.0]}).to_parquet(packed)
    (tmp_path / "table").write_bytes(packed.getvalue())
    assert read_table(tmp_path / "table").y.tolist() == [2.0, 4.0, 7.0]
