"""Moving several files into a folder, all of them or none, whatever fails and whenever a signal comes."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

_ASIDE = "old-"  # before the name of a file that is about to be replaced


def move_together(
    temporary: Path,
    folder: Path,
    names: Sequence[str],
    *,
    gone: Sequence[str] = (),
    when_moved: Callable[[], object] = lambda: None,
) -> None:
    """Move files into a folder, which is made if needed; what they replace is put aside, and back again if a move fails.

    Args:
        temporary: folder on the same disk where the files are, complete.
        folder: where to.
        names: of the files.
        gone: files that are removed from `folder` if they are there.
        when_moved: called as soon as all files are in place, before any signal is let through.

    Raises:
        OSError: it cannot be done; everything is as before.
    """
    with signals_too_late():
        _move(temporary, folder, names, gone)
        when_moved()
        for name in (*names, *gone):  # else a signal during the removal of the temporary folder would leave them
            with suppress(OSError):
                (temporary / f"{_ASIDE}{name}").unlink(missing_ok=True)


def existing_parent(folder: Path) -> Path:
    """The folder, or the nearest of its parents that is there."""
    folder = folder.absolute()
    while not os.path.lexists(folder):
        folder = folder.parent
    return folder


def _move(temporary: Path, folder: Path, names: Sequence[str], gone: Sequence[str]) -> None:
    undo: list[Callable[[], object]] = []
    try:
        for path in (*reversed(folder.absolute().parents), folder.absolute()):
            if not path.exists():
                path.mkdir()
                undo.append(path.rmdir)
        for name in (*names, *gone):
            new, target, aside = temporary / name, folder / name, temporary / f"{_ASIDE}{name}"
            with suppress(FileNotFoundError):
                os.rename(target, aside)
                undo.append(partial(os.rename, aside, target))
            if name not in gone:
                os.rename(new, target)
                undo.append(partial(os.rename, target, new))
    except BaseException:
        for step in reversed(undo):
            with suppress(OSError):
                step()
        raise


@contextmanager
def signals_too_late() -> Iterator[None]:
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
