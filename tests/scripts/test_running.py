"""What goes wrong in a script is one line and an exit code, whatever it is; run as processes where a process is meant."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from emlinit.generator.errors import UserError
from emlinit.scripts.running import Remarks, first_interrupt_as_wish, note_written, print_error, printable, run

ROOT = Path(__file__).resolve().parents[2]
SIGNALS = [(signal.SIGINT, "interrupted", 130), (signal.SIGTERM, "terminated", 143), (signal.SIGHUP, "hung up", 129)]
# A body to be run: it says that it has begun, and cleans up behind it.
SLEEPER = """
import sys, tempfile, time
from emlinit.scripts.running import note_written, run
def body():
    with tempfile.TemporaryDirectory(dir=sys.argv[1]):
        if len(sys.argv) > 2:
            note_written(sys.argv[2])
        print("ready", flush=True)
        time.sleep(60)
sys.exit(run(body))
"""


def raising(error: BaseException) -> Callable[[], int]:
    def body() -> int:
        raise error

    return body


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run by a shell, with `$PY` for Python; what it says of a pipe is the exit code of the first part."""
    return subprocess.run(
        ["bash", "-c", f"{command}; exit ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PY": sys.executable, "SCRIPTS": str(ROOT / "scripts"), **environment},
    )


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (UserError("mend it\nsoon"), "mend it soon"),
        (
            PermissionError(13, "Permission denied", "/root/x"),
            "'/root/x' cannot be read or written (Permission denied): mend that, or name another place",
        ),
        (OSError(36, "File name too long", "n" * 9_000), "nnn ... nnn"),
        (OSError(28, "No space left on device", b"data\xff"), "'data\\udcff' cannot be"),
        (OSError(28, "No space left on device"), "refuses to read or write (No space left on device)"),
        (TimeoutError(), "refuses to read or write (TimeoutError)"),
        (MemoryError(), "there is not enough memory for this"),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
            "not enough memory",
        ),
        (ValueError("embedded null byte"), "a name holds a null character"),
        (RecursionError("maximum recursion depth exceeded"), "nested too deeply"),
        (RuntimeError("Could not determine home directory."), "write the path in full"),
    ],
)
def test_what_can_be_mended_is_one_line(error: Exception, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(raising(error)) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert message in said.err


def test_a_fault_of_the_program_is_not_hidden() -> None:
    for error in (ValueError("shape"), RuntimeError("oops"), KeyError("x")):
        with pytest.raises(type(error)):
            run(raising(error))


def test_an_error_is_short_and_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    print_error("'" + "x" * 10_000 + "' is too long: name another one")
    print_error("a\x1b[31mred\x9b31m\u202e\udcff\tb\n é 漢")
    long, strange = capsys.readouterr().err.splitlines()
    assert len(long) == len("error: ") + 400
    assert long.startswith("error: 'xxx")
    assert long.endswith("xxx' is too long: name another one")
    assert " ... " in long
    assert strange == r"error: a\x1b[31mred\x9b31m\u202e\udcff b é 漢"
    assert printable("a\n\tb\r") == "a\n\\tb\\r"


def test_remarks_wait_for_success_unless_somebody_reads_along(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    remarks = Remarks()
    remarks.add("read 3 rows of '\x1b'")
    assert capsys.readouterr().err == ""
    remarks.say()
    assert capsys.readouterr().err == "read 3 rows of '\\x1b'\n"
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    remarks = Remarks()
    remarks.add("at once")
    assert capsys.readouterr().err == "at once\n"
    remarks.say()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("number", "word", "code"), SIGNALS)
@pytest.mark.parametrize("written", [False, True])
def test_a_signal_is_one_line_and_what_was_begun_is_removed(
    number: signal.Signals, word: str, code: int, written: bool, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", SLEEPER, str(tmp_path), *(["results"] if written else [])]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    said = process.communicate(timeout=60)[1]
    what = "'results' is" if written else "nothing was"
    assert said == f"error: {word}, {what} written\n"
    assert process.returncode == code
    assert list(tmp_path.iterdir()) == []


def test_handlers_are_as_before_afterwards() -> None:
    before = [signal.getsignal(number) for number, _, _ in SIGNALS]
    assert run(lambda: 0) == 0
    assert run(lambda: run(raising(KeyboardInterrupt()))) == 130
    assert [signal.getsignal(number) for number, _, _ in SIGNALS] == before


def test_what_an_earlier_run_wrote_is_not_told(capsys: pytest.CaptureFixture[str]) -> None:
    def body() -> int:
        note_written("results")
        return 0

    assert run(body) == 0
    assert run(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "error: interrupted, nothing was written\n"


def test_ctrl_c_while_modules_are_loaded_is_one_line(tmp_path: Path) -> None:
    """From a tenth of a second on, also on a busy machine: the interpreter and argparse are there by then."""
    (tmp_path / "data.csv").write_text("a,b\n1,2\n2,4\n3,6\n")
    for wait in (0.0, 0.1, 0.4, 0.9, 1.5):
        process = subprocess.Popen(
            [sys.executable, "-X", "importtime", str(ROOT / "scripts" / "solve.py"), "data.csv", "--out", "results"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        for line in process.stderr:  # read_table and with it NumPy are loaded inside of `run`
            if re.search(r"\| +numpy\.version$", line):
                break
        time.sleep(wait)
        process.send_signal(signal.SIGINT)
        said = [line for line in process.communicate(timeout=60)[1].splitlines() if not line.startswith("import time:")]
        assert said == ["error: interrupted, nothing was written"]
        assert process.returncode == 130
        assert [path.name for path in tmp_path.iterdir()] == ["data.csv"]


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("command", ["$SCRIPTS/solve.py --help", "-m emlinit.scripts.cli --help"])
def test_standard_output_may_be_gone_full_or_closed(command: str, unbuffered: str) -> None:
    done = shell(f"$PY {command} | true", PYTHONUNBUFFERED=unbuffered)
    assert (done.returncode, done.stdout, done.stderr) == (141, "", "")
    for where, message in {"> /dev/full": "No space left on device", ">&-": "standard output is closed"}.items():
        done = shell(f"$PY {command} {where}", PYTHONUNBUFFERED=unbuffered)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert message in done.stderr


def test_standard_error_may_be_gone_full_or_closed() -> None:
    for where in ("2>&-", "2> /dev/full", "2> >(true)"):
        done = shell(f"$PY $SCRIPTS/solve.py missing.csv {where}")
        assert (done.returncode, done.stdout, done.stderr) == (2, "", "")


def test_closed_descriptors_are_not_those_of_the_next_files(tmp_path: Path) -> None:
    code = (
        "import os, sys; from emlinit.scripts.running import Remarks, run\n"
        "def body():\n"
        "    file = open('data', 'w')\n"
        "    remarks = Remarks(); remarks.add('remark'); remarks.say()\n"
        "    os.write(2, b'of a library')\n"
        "    print(file.fileno())\n"
        "    return 0\n"
        "sys.exit(run(body))\n"
    )
    (tmp_path / "body.py").write_text(code)
    done = shell(f"cd {tmp_path} && $PY body.py <&- 2>&-")
    assert done.returncode == 0, done.stdout
    assert int(done.stdout) > 2
    assert (tmp_path / "data").read_text() == ""


@pytest.mark.parametrize("home", ["", "relative"])
def test_a_home_that_is_no_path_is_none(home: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", home)
    assert run(lambda: int("HOME" in os.environ)) == 0


def test_scripts_load_nothing_slow_before_they_run() -> None:
    names = sorted(path.stem for path in (ROOT / "scripts").glob("*.py") if path.stem != "__init__")
    code = f"import sys\nfor name in {names}: __import__('emlinit.scripts.' + name)\n"
    code += "print([name for name in ('numpy', 'torch', 'sympy', 'tqdm', 'tyro', 'pandas') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_first_interrupt_is_a_wish_and_the_second_one_interrupts() -> None:
    before = signal.getsignal(signal.SIGINT)
    with first_interrupt_as_wish("ending") as wished:
        assert not wished()
        os.kill(os.getpid(), signal.SIGINT)
        assert wished()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupt_that_is_ignored_or_taken_stays_so() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with first_interrupt_as_wish("ending") as wished:
            os.kill(os.getpid(), signal.SIGINT)
            assert not wished()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
