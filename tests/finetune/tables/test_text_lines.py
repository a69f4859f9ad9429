"""Lines of a text: of any encoding, and never without end."""

import codecs
from pathlib import Path

import pytest

from emlinit.finetune.tables import text_lines as module
from emlinit.finetune.tables.text_lines import text_lines
from emlinit.generator.errors import UserError

LINES = [(1, "a,b\n"), (2, "\n"), (3, "1,ü\n"), (4, "2")]
TEXT = "".join(line for _, line in LINES)


def read(path: Path) -> list[tuple[int, str]]:
    with path.open("rb") as data, text_lines(data, path) as lines:
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


def test_lines_without_end_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "table"
    path.write_text("a,b\n" + "1" * 100 + "\n")
    monkeypatch.setattr(module, "LONGEST_LINE", 50)
    with pytest.raises(UserError, match=r"line 2 of .* has more than 50 characters"):
        read(path)
