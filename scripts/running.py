"""The last stop of every script: what goes wrong is one line on standard error and an exit code, never a traceback.

    0          done
    2          something has to be mended: the line says what
    129, 130, 143   hung up, interrupted (Ctrl-C), terminated: 128 and the number of the signal, as a shell has it
    141        nobody reads standard output any more (`| head -1`): nothing is said

A script's `main` calls `run` before anything else and parses its arguments inside of it. So this module loads nothing
slow: until `run` is reached, Ctrl-C shows a traceback.
"""

import atexit
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from emlinit.generator.errors import UserError

EXIT_USER_ERROR = 2
"""Exit code when something has to be mended."""
_EXIT_BROKEN_PIPE = 141
_LONGEST = 400  # characters of an error: some lines of a terminal
_SAID_OF_SIGNALS = {"SIGINT": "interrupted", "SIGTERM": "terminated", "SIGHUP": "hung up"}

_written: list[str] = []  # what this run has written, for the line that says that it was stopped


class Stopped(KeyboardInterrupt):
    """SIGTERM or SIGHUP came. Whoever cleans up after Ctrl-C does so after these, too."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Remarks:
    """What is said on standard error beside the result: at once if that is a terminal, else when all has gone well.

    So a command that fails late, in a script or under a scheduler, leaves one line, and not one below remarks.
    """

    def __init__(self) -> None:
        self._held: list[str] = []
        self._at_once = sys.stderr is not None and sys.stderr.isatty()

    def add(self, text: str) -> None:
        """Say one line, now or later."""
        self._held.append(text)
        if self._at_once:
            self.say()

    def say(self) -> None:
        """Say what was held back: the work has succeeded."""
        for text in self._held:
            print_remark(text)
        self._held.clear()


def printable(text: str) -> str:
    r"""The text with everything that a terminal would act upon, new lines aside, written as an escape such as `\x1b`."""
    return "".join(
        char if char.isprintable() or char == "\n" else char.encode("unicode_escape").decode("ascii") for char in text
    )


def print_remark(text: str) -> None:
    """Print a line on standard error, which may be closed, full or gone: then the exit code has to say it all."""
    if sys.stderr is not None:
        try:
            print(printable(text), file=sys.stderr, flush=True)
        except (OSError, ValueError):
            _silence(sys.stderr)


def print_error(message: object) -> None:
    """Print `error: <message>` on standard error as exactly one line that can be read: a long one loses its middle."""
    text = printable(" ".join(str(message).split()))  # before it is cut: an escape is longer than what it stands for
    if len(text) > _LONGEST:  # the end is kept: it says what to do
        head, gap = _LONGEST * 3 // 5, " ... "
        text = text[:head] + gap + text[head + len(gap) - _LONGEST :]
    print_remark(f"error: {text}")


def print_stopped(stop: KeyboardInterrupt, rest: str) -> int:
    """Say in one line which signal ended the run, and `rest`; returns the exit code that goes with it."""
    number = stop.number if isinstance(stop, Stopped) else signal.SIGINT
    print_error(f"{_SAID_OF_SIGNALS[signal.Signals(number).name]}{rest}")
    return 128 + number


@contextmanager
def first_interrupt_as_wish(said: str) -> Iterator[Callable[[], bool]]:
    """Within, the first Ctrl-C raises nothing: it is a wish to come to an end, which the function yielded tells of.

    A second one interrupts as ever. `said` is a line for whoever waits at a terminal.
    """
    wished = threading.Event()
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # ignored, as under nohup
        yield wished.is_set
        return

    def wish(_number: int, _frame: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        wished.set()
        if sys.stderr is not None and sys.stderr.isatty():
            print_remark(f"\n{said}")

    signal.signal(signal.SIGINT, wish)
    try:
        yield wished.is_set
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def note_written(place: object) -> None:
    """Remember that something was written: whoever stops the command from now on is told so."""
    _written.append(str(place))


def run(body: Callable[[], int]) -> int:
    """Run a script's body; returns the exit code, after one line on what went wrong if something did.

    What is no fault of the input, and so a fault of the program, passes.

    Raises:
        SystemExit: of a parser that was asked for help or has said what is wrong with the arguments.
    """
    _written.clear()
    try:
        with _signals_as_exceptions():
            _prepare()
            try:
                code = body()
            except SystemExit:
                sys.stdout.flush()  # of the help: whether it arrives is seen here, and not when the interpreter ends
                raise
            sys.stdout.flush()
            return code
    except KeyboardInterrupt as stop:
        place = f", '{_written[-1]}' is written" if _written else ", nothing was written"
        return print_stopped(stop, place)
    except (UserError, OSError, ValueError, RuntimeError, MemoryError) as error:
        return _mishap(error)
    finally:
        _drop_unwritable()


def _mishap(error: Exception) -> int:
    """Say what went wrong and return the exit code; what cannot be put right by a user is raised again."""
    text = str(error)
    if isinstance(error, UserError):
        print_error(error)
    elif isinstance(error, BrokenPipeError):
        return _EXIT_BROKEN_PIPE
    elif isinstance(error, OSError):
        reason = error.strerror or text or type(error).__name__
        if error.filename is not None:
            name = error.filename if isinstance(error.filename, int) else os.fsdecode(error.filename)
            print_error(f"'{name}' cannot be read or written ({reason}): mend that, or name another place")
        else:  # of an open file, which has no name any more; most often it is standard output
            print_error(f"the system refuses to read or write ({reason}): send standard output to another place")
    elif isinstance(error, MemoryError) or "can't allocate memory" in text or "out of memory" in text:
        print_error("there is not enough memory for this: free some, or ask for less, such as fewer rows")
    elif isinstance(error, RecursionError):
        print_error("the input is nested too deeply: make it simpler")
    elif "embedded null" in text:
        print_error("a name holds a null character: no file can have such a name")
    elif text.startswith("Could not determine home directory"):  # Path.expanduser and Path.home
        print_error("the home directory of a path with ~ is not known: write the path in full")
    else:
        raise error
    return EXIT_USER_ERROR


def _prepare() -> None:
    """Put right what a process may be started with.

    Raises:
        UserError: there is no standard output.
    """
    for number in range(3):  # the next file that is opened would get the number of a closed one, and what is said there
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)
    if sys.stderr is None:  # for print, None means standard output
        sys.stderr = os.fdopen(2, "w", errors="backslashreplace", closefd=False)
    if sys.stdout is None:
        raise UserError("standard output is closed: send it to a file, or to /dev/null if the result is not needed")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a column name that the terminal cannot show is no failure
    if not os.path.isabs(os.environ.get("HOME", os.path.abspath(os.sep))):
        del os.environ["HOME"]  # empty: caches, ours and those of libraries, would stand in /.cache


@contextmanager
def _signals_as_exceptions() -> Iterator[None]:
    """SIGTERM and SIGHUP raise `Stopped`, so that what stands half-written is removed, as it is after Ctrl-C."""
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        numbers = []
    taken = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, _stop)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)
        atexit.unregister(_leave_quietly)
        atexit.register(_leave_quietly)  # as the last one it is called first


def _stop(number: int, _frame: object) -> None:
    signal.signal(number, signal.SIG_DFL)  # a second one ends the process at once
    raise Stopped(number)


def _leave_quietly() -> None:
    """All is said and written: Ctrl-C while the interpreter is taken down ends the process without a traceback."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _drop_unwritable() -> None:
    """Drop what waits for a standard output that cannot be written: at its end the interpreter would try again, and
    complain."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except (OSError, ValueError):
        _silence(sys.stdout)


def _silence(stream: TextIO) -> None:
    """Send the stream to nowhere."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
