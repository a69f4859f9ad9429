"""A folder of results that is written whole or not at all.

The files are written to a temporary folder on the same disk, and moved together when all are complete. What a killed run has
left (the temporary folder) is removed by a later one.
"""

import os
import stat
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from emlinit.generator.errors import UserError
from emlinit.generator.moves import existing_parent, move_together

RESULT_FILES = ("result.json", "law.tex", "law.py", "fit.png", "front.png")
"""The files of a solution."""
_PREFIX = ".emlinit-"  # of temporary folders
_ABANDONED = 3600.0  # seconds after which a temporary folder is that of a killed run: writing takes a few


def check_output_folder(folder: Path, names: Sequence[str] = RESULT_FILES) -> None:
    """Say so before any work if files of these names could not be written to the folder later; leaves nothing behind.

    Raises:
        UserError: the path is a file or lies below one, nothing can be written there, or one of the names is taken by
            something other than a file.
    """
    try:
        _check_kinds(folder, names)
        place = existing_parent(folder)
        # The same is done as later, and not asked for (os.access): names may be too long, disks full or read-only.
        with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=place, ignore_cleanup_errors=True) as temporary:
            inner = Path(temporary) / folder.absolute().relative_to(place)
            inner.mkdir(parents=True, exist_ok=True)
            (inner / max(names, key=len, default="file")).write_bytes(b"0")
    except UserError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a null character
        raise _refusal(folder, error) from None


def write_folder(
    folder: Path, writers: Mapping[str, Callable[[Path], object]], *, when_written: Callable[[], object] = lambda: None
) -> None:
    """Write the files of a folder, which is made if needed; other files of the folder stay as they are.

    Args:
        folder: where to.
        writers: by the name of the file, what gets the path that it has to fill.
        when_written: called as soon as all files are in place, before any signal is let through.

    Raises:
        UserError: the folder cannot be written.
    """
    try:
        _check_kinds(folder, tuple(writers))
        place = existing_parent(folder)
        for where in {place, folder.absolute().parent}:
            _sweep(where, writers.keys())
        with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=place, ignore_cleanup_errors=True) as temporary:
            for name, write in writers.items():
                write(Path(temporary) / name)
            move_together(Path(temporary), folder, tuple(writers), when_moved=when_written)
    except OSError as error:
        raise _refusal(folder, error) from None


def _check_kinds(folder: Path, names: Sequence[str]) -> None:
    """Nothing but a folder may stand in the place of the folder, and nothing but files in those of its files.

    Raises:
        UserError: something else does.
        OSError: it cannot be told.
    """
    place = existing_parent(folder)
    if place == folder.absolute() and not place.is_dir():
        what = "a file" if place.exists() else "a link that leads nowhere"
        raise UserError(f"--out '{folder}' is {what}: name a folder, which is made if it does not exist")
    if not place.is_dir():
        raise UserError(f"--out '{folder}' lies below the file '{place}': name a folder in another place")
    for name in names:
        try:
            mode = (folder / name).lstat().st_mode
        except FileNotFoundError:
            continue
        if not stat.S_ISREG(mode):
            what = "a folder" if stat.S_ISDIR(mode) else "a link" if stat.S_ISLNK(mode) else "no file"
            raise UserError(f"'{name}' in --out '{folder}' is {what}: move it away, or name another folder")


def _refusal(folder: Path, error: Exception) -> UserError:
    reason = getattr(error, "strerror", None) or error
    return UserError(f"--out '{folder}' cannot be written ({reason}): name another folder")


def _sweep(place: Path, names: Collection[str]) -> None:
    """Remove what killed runs have left in a folder: temporary folders, an hour old, with nothing but our files in them.

    One that holds files put aside stays: they are the only copies. No link is followed.
    """
    if os.unlink not in os.supports_dir_fd or os.scandir not in os.supports_fd:
        return
    try:
        found = [path for path in place.iterdir() if path.name.startswith(_PREFIX)]
    except OSError:
        return
    for path in found:
        with suppress(OSError):  # somebody else was faster, or it is not ours to remove
            opened = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                with os.scandir(opened) as entries:
                    held = list(entries)
                    ours = all(entry.name in names and entry.is_file(follow_symlinks=False) for entry in held)
                if ours and time.time() - os.fstat(opened).st_mtime > _ABANDONED:
                    for entry in held:
                        os.unlink(entry.name, dir_fd=opened)
                    path.rmdir()
            finally:
                os.close(opened)
