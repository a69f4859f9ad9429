"""A folder of results that is written whole or not at all.

The files are written to a temporary folder on the same disk, and moved when all are complete. What they replace is moved
there in turn, and back again if a later move fails. Signals that would end the process between two moves wait: they come
too late. What a killed run has left (the temporary folder) is removed by a later one.
"""

import os
import signal
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

from emlinit.generator.errors import UserError

RESULT_FILES = ("result.json", "law.tex", "law.py", "fit.png", "front.png")
"""The files of a solution."""
_PREFIX = ".emlinit-"  # of temporary folders
_ABANDONED = 3600.0  # seconds after which a temporary folder is that of a killed run: writing takes a few
_ASIDE = "old-"  # before the name of a file that is about to be replaced


def check_output_folder(folder: Path, names: Sequence[str] = RESULT_FILES) -> None:
    """Say so before any work if files of these names could not be written to the folder later; leaves nothing behind.

    Raises:
        UserError: the path is a file or lies below one, nothing can be written there, or one of the names is taken by
            something other than a file.
    """
    try:
        _check_kinds(folder, names)
        place = _existing_parent(folder)
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
        place = _existing_parent(folder)
        for where in {place, folder.absolute().parent}:
            _sweep(where, writers.keys())
        with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=place, ignore_cleanup_errors=True) as temporary:
            for name, write in writers.items():
                write(Path(temporary) / name)
            with _signals_too_late():
                _move(Path(temporary), folder, tuple(writers))
                when_written()
                for name in writers:  # else a signal during the removal of the temporary folder would leave them
                    with suppress(OSError):
                        (Path(temporary) / f"{_ASIDE}{name}").unlink(missing_ok=True)
    except OSError as error:
        raise _refusal(folder, error) from None


def _check_kinds(folder: Path, names: Sequence[str]) -> None:
    """Nothing but a folder may stand in the place of the folder, and nothing but files in those of its files.

    Raises:
        UserError: something else does.
        OSError: it cannot be told.
    """
    place = _existing_parent(folder)
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


def _existing_parent(folder: Path) -> Path:
    """The folder, or the nearest of its parents that is there."""
    folder = folder.absolute()
    while not os.path.lexists(folder):
        folder = folder.parent
    return folder


def _move(temporary: Path, folder: Path, names: Sequence[str]) -> None:
    """Move the files into the folder, all of them or none.

    Raises:
        OSError: it cannot be done; everything is as before.
    """
    undo: list[Callable[[], object]] = []
    try:
        for path in (*reversed(folder.absolute().parents), folder.absolute()):
            if not path.exists():
                path.mkdir()
                undo.append(path.rmdir)
        for name in names:
            new, target, aside = temporary / name, folder / name, temporary / f"{_ASIDE}{name}"
            with suppress(FileNotFoundError):
                os.rename(target, aside)
                undo.append(partial(os.rename, aside, target))
            os.rename(new, target)
            undo.append(partial(os.rename, target, new))
    except BaseException:
        for step in reversed(undo):
            with suppress(OSError):
                step()
        raise


@contextmanager
def _signals_too_late() -> Iterator[None]:
    """Signals that end a process have no effect inside; one that comes does not end it afterwards either.

    Handlers are replaced, and the signals not only blocked: a mask is that of one thread, and the kernel gives the signal
    to any other one, of which a numerical library has several. Only the main thread may do this; in any other one signals
    raise nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    with ExitStack() as restored:  # which goes on when a signal raises in the middle of it
        for number in numbers:
            if (handler := signal.getsignal(number)) not in (None, signal.SIG_IGN):
                restored.callback(signal.signal, number, handler)
                signal.signal(number, _ignore)
        yield


def _ignore(_number: int, _frame: object) -> None:
    pass


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
