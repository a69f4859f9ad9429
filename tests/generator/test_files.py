"""A file is the old one or the new one, and files that belong together are."""

import os
from pathlib import Path

import pytest

from emlinit.generator.files import write_atomically, write_together


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        path.write_text("half")
        raise OSError(28, "No space left on device")

    path = tmp_path / "folder" / "file"
    write_atomically(path, lambda temporary: temporary.write_text("old"))
    for writes in ({path: fail}, {path: lambda temporary: temporary.write_text("new"), path.with_name("b"): fail}):
        with pytest.raises(OSError, match="No space"):
            write_together(writes)
        assert [each.name for each in path.parent.iterdir()] == ["file"]
        assert path.read_text() == "old"


def test_files_are_readable_by_everybody(tmp_path: Path) -> None:
    def private(path: Path) -> None:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))

    write_atomically(tmp_path / "file", private)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644
