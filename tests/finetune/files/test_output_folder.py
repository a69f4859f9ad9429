"""A folder of results is written whole or not at all: whatever stands in its way, and whenever a signal comes."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from emlinit.finetune.files.output_folder import RESULT_FILES, check_output_folder, write_folder
from emlinit.generator.errors import UserError

Writers = dict[str, Callable[[Path], object]]
AN_HOUR_AGO = 3_700.0


def new_files(*names: str) -> Writers:
    return {name: lambda path: path.write_text("new") for name in names}


def contents(folder: Path) -> dict[str, str]:
    """Everything below a folder, hidden files too; of a folder the empty text."""
    return {
        path.relative_to(folder).as_posix(): path.read_text() if path.is_file() else "" for path in folder.rglob("*")
    }


def test_a_folder_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        path.write_text("half")
        raise OSError(28, "No space left on device")

    old = tmp_path / "results"
    old.mkdir()
    (old / "a").write_text("old")
    with pytest.raises(UserError, match=r"'.*results' cannot be written \(No space left on device\)"):
        write_folder(old, {**new_files("a"), "b": fail})
    assert contents(tmp_path) == {"results": "", "results/a": "old"}
    with pytest.raises(UserError, match="cannot be written"):
        write_folder(tmp_path / "not" / "made", {**new_files("a"), "b": fail})
    assert contents(tmp_path) == {"results": "", "results/a": "old"}


def test_files_are_replaced_and_others_stay(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    (tmp_path / "mine").write_text("mine")
    write_folder(tmp_path, new_files("a", "b"))
    assert contents(tmp_path) == {"a": "new", "b": "new", "mine": "mine"}


@pytest.mark.parametrize("failing", range(1, 6))
def test_a_move_that_fails_is_taken_back_with_those_before(
    failing: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "a").write_text("old a")
    (folder / "c").write_text("old c")
    before, calls, rename = contents(tmp_path), [], os.rename

    def rename_but_one(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == failing:
            raise PermissionError(13, "Permission denied", str(target))
        rename(source, target)

    monkeypatch.setattr(os, "rename", rename_but_one)
    with pytest.raises(UserError, match="Permission denied"):
        write_folder(folder, new_files("a", "b", "c"))
    assert contents(tmp_path) == before


def test_folders_that_were_made_are_removed_if_a_move_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_source: Path, _target: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(UserError, match="Input/output error"):
        write_folder(tmp_path / "x" / "y", new_files("a"))
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("name", ["law.py", "front.png"])
@pytest.mark.parametrize("kind", ["a folder", "a link", "no file"])
def test_what_is_no_file_is_not_replaced(name: str, kind: str, tmp_path: Path) -> None:
    place = tmp_path / name
    {"a folder": place.mkdir, "a link": lambda: place.symlink_to("else"), "no file": lambda: os.mkfifo(place)}[kind]()
    for attempt in (lambda: check_output_folder(tmp_path), lambda: write_folder(tmp_path, new_files("a", name))):
        with pytest.raises(UserError, match=f"'{name}' in --out '.*' is {kind}: move it away"):
            attempt()
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_place_that_cannot_be_written_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "loose").symlink_to("nowhere")
    before = contents(tmp_path)
    for folder, message in {
        tmp_path / "file": "is a file",
        tmp_path / "file" / "results": "lies below the file",
        tmp_path / "loose": "is a link that leads nowhere",
        tmp_path / ("n" * 300): "File name too long",
        tmp_path / "new" / ("n" * 300): "File name too long",
        tmp_path / "null\0": "null",
        Path("/proc/results"): "cannot be written",
    }.items():
        with pytest.raises(UserError, match=message):
            check_output_folder(folder)
    check_output_folder(tmp_path)
    check_output_folder(tmp_path / "new" / "results")
    assert contents(tmp_path) == before


def test_a_folder_without_permission_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    if os.access(tmp_path, os.W_OK):
        pytest.skip("root may write everywhere")
    for folder in (tmp_path, tmp_path / "results"):
        with pytest.raises(UserError, match="Permission denied"):
            check_output_folder(folder)
    tmp_path.chmod(0o700)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_between_two_moves_comes_too_late(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename, told = os.rename, []

    def rename_and_be_interrupted(source: Path, target: Path) -> None:
        os.kill(os.getpid(), number)
        rename(source, target)

    (tmp_path / "a").write_text("old")
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    monkeypatch.setattr(os, "rename", rename_and_be_interrupted)
    # Threads take signals as well: to block them in this one alone is of no use.
    other = threading.Event()
    thread = threading.Thread(target=other.wait)
    thread.start()
    try:
        write_folder(tmp_path, new_files("a", "b"), when_written=lambda: told.append(contents(tmp_path)["b"]))
    finally:
        other.set()
        thread.join()
    assert contents(tmp_path) == {"a": "new", "b": "new"}
    assert told == ["new"]
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


def test_an_interruption_while_files_are_made_leaves_nothing(tmp_path: Path) -> None:
    def interrupted(path: Path) -> None:
        path.write_text("half")
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        write_folder(tmp_path / "results", {**new_files("a"), "b": interrupted})
    assert contents(tmp_path) == {}


def test_it_may_be_called_from_any_thread(tmp_path: Path) -> None:
    thread = threading.Thread(target=write_folder, args=(tmp_path, new_files("a")))
    thread.start()
    thread.join()
    assert contents(tmp_path) == {"a": "new"}


def test_what_killed_runs_have_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    results, elsewhere = tmp_path / "results", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "law.py").write_text("theirs")
    results.mkdir()
    for place in (tmp_path, results):
        for name, files in {
            "killed": ("law.py", "result.json"),
            "empty": (),
            "aside": ("law.py", "old-law.py"),
            "foreign": ("law.py", "thesis.tex"),
            "young": ("law.py",),
        }.items():
            folder = place / f".emlinit-{name}"
            folder.mkdir()
            for file in files:
                (folder / file).write_text("half")
        (place / ".emlinit-deep" / "law.py").mkdir(parents=True)
        (place / ".emlinit-leads").mkdir()
        (place / ".emlinit-leads" / "law.py").symlink_to(elsewhere / "law.py")
        (place / ".emlinit-link").symlink_to(elsewhere)
        (place / ".emlinit-file").write_text("file")
        for folder in place.glob(".emlinit-*"):
            if folder.name not in (".emlinit-young", ".emlinit-link"):
                then = folder.stat().st_mtime - AN_HOUR_AGO
                os.utime(folder, (then, then))
    then = elsewhere.stat().st_mtime - AN_HOUR_AGO
    os.utime(elsewhere, (then, then))
    write_folder(results, new_files(*RESULT_FILES))
    kept = {".emlinit-" + name for name in ("aside", "foreign", "young", "deep", "leads", "link", "file")}
    for place in (tmp_path, results):
        assert {path.name for path in place.glob(".emlinit-*")} == kept
        assert sorted(path.name for path in (place / ".emlinit-aside").iterdir()) == ["law.py", "old-law.py"]
    assert contents(elsewhere) == {"law.py": "theirs"}


def test_a_killed_run_leaves_old_files_whole_and_is_swept_up_later(tmp_path: Path) -> None:
    (tmp_path / "law.py").write_text("old")
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from emlinit.finetune.files.output_folder import write_folder\n"
        "write_folder(Path(sys.argv[1]), {'law.py': lambda path: (path.write_text('half'), os.kill(os.getpid(), 9))})\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    (left,) = tmp_path.glob(".emlinit-*")
    assert (tmp_path / "law.py").read_text() == "old"
    then = left.stat().st_mtime - AN_HOUR_AGO
    os.utime(left, (then, then))
    write_folder(tmp_path, new_files("law.py"))
    assert contents(tmp_path) == {"law.py": "new"}


def test_files_get_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    write_folder(tmp_path / "results", new_files("a"))
    (tmp_path / "usual").mkdir()
    (tmp_path / "usual" / "a").write_text("")
    for name in ("", "a"):
        assert (tmp_path / "results" / name).stat().st_mode == (tmp_path / "usual" / name).stat().st_mode


def test_a_full_disk_is_found_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_path: Path, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match="No space left on device"):
        check_output_folder(tmp_path)
    assert contents(tmp_path) == {}
