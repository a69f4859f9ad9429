"""Lines of a file: of any encoding, from pipes as well, and never without end."""

import codecs
import os
import threading
import time
from pathlib import Path

import pytest

from emlinit.finetune.files import text_lines as module
from emlinit.finetune.files.text_lines import text_lines
from emlinit.generator.errors import UserError

LINES = [(1, "a,b\n"), (2, "\n"), (3, "1,ü\n"), (4, "2")]
TEXT = "".join(line for _, line in LINES)


def read(path: Path) -> list[tuple[int, str]]:
    with text_lines(path) as lines:
        return list(lines)


@pytest.mark.parametrize(
    "data",
    [
        TEXT.encode(),
        codecs.BOM_UTF8 + TEXT.encode(),
        TEXT.encode("utf-16"),
        codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
        TEXT.encode("cp1252"),
        TEXT.replace("\n", "\r\n").encode(),
        TEXT.replace("\n", "\r").encode(),
    ],
)
def test_every_encoding_and_line_end_gives_the_same_lines(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "table"
    path.write_bytes(data)
    assert read(path) == LINES


@pytest.mark.parametrize("data", [b"\x89PNG\r\n\x1a\n\x00", b"a,b\n1,\x81\n", b"\xff\xfe\x00\x00a\x00", b"a\x7fb\n"])
def test_what_is_no_text_is_named(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "table"
    path.write_bytes(b"a,b\n" * module._PIECE if data == b"" else data)
    with pytest.raises(UserError, match="is not a text file"):
        read(path)


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
    assert read(path) == LINES
    writer.join()


def test_files_and_lines_without_end_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "table"
    path.write_text("a,b\n" + "1" * 100 + "\n")
    monkeypatch.setattr(module, "LONGEST_LINE", 50)
    with pytest.raises(UserError, match=r"line 2 of .* has more than 50 characters"):
        read(path)
    monkeypatch.setattr(module, "MOST_BYTES", 100)
    with pytest.raises(UserError, match="give a sample of its rows"):
        read(path)
