"""Files are moved all or none, and signals in between come too late."""

import os
import signal
from pathlib import Path

import pytest

from emlinit.generator.moves import existing_parent, move_together, signals_too_late


def files(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """One with new files `a` and `b`, one with old files `a` and `c`."""
    new, old = tmp_path / "new", tmp_path / "old"
    new.mkdir()
    old.mkdir()
    for name in "ab":
        (new / name).write_text("new")
    for name in "ac":
        (old / name).write_text("old")
    return new, old


def test_files_are_replaced_removed_and_left_alone(folders: tuple[Path, Path]) -> None:
    new, old = folders
    (old / "mine").write_text("mine")
    told: list[dict[str, str]] = []
    move_together(new, old, ("a", "b"), gone=("c", "d"), when_moved=lambda: told.append(files(old)))
    assert files(old) == {"a": "new", "b": "new", "mine": "mine"}
    assert told == [files(old)]
    assert files(new) == {}


@pytest.mark.parametrize("failing", range(1, 5))
def test_what_fails_leaves_everything_as_it_was(
    failing: int, folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    new, old = folders
    calls, rename = [], os.rename

    def rename_but_one(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == failing:
            raise PermissionError(13, "Permission denied", str(target))
        rename(source, target)

    monkeypatch.setattr(os, "rename", rename_but_one)
    with pytest.raises(PermissionError):
        move_together(new, old, ("a", "b"), gone=("c",))
    assert files(old) == {"a": "old", "c": "old"}
    assert files(new) == {"a": "new", "b": "new"}


def test_a_folder_that_is_not_there_is_made(folders: tuple[Path, Path], tmp_path: Path) -> None:
    place = tmp_path / "not" / "made"
    assert existing_parent(place) == tmp_path
    move_together(folders[0], place, ("a", "b"))
    assert files(place) == {"a": "new", "b": "new"}
    assert existing_parent(place) == place


def test_signals_raise_nothing_inside_and_do_afterwards() -> None:
    with signals_too_late():
        os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
