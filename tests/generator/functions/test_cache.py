"""Tables on disk: read back exactly, never trusted when anything is wrong with the file, never in a user's way."""

import errno
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save

from emlinit.generator.functions import cache as table_cache
from emlinit.generator.functions.cache import cache_folder, load_table
from emlinit.generator.functions.table import FunctionTable, build_table

SIZE = (1, 5)
NAME = "functions-1-5.safetensors"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of its own in which every table is worth keeping, in a process that has loaded none."""
    monkeypatch.setenv("EMLINIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(table_cache, "_tables", {})
    monkeypatch.setattr(table_cache, "_WORTH_KEEPING", 0.0)
    return tmp_path / "cache"


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Fills up with the tables that were built rather than read."""
    built = []

    def counting(n_variables: int, max_size: int, *, progress: Callable[[float], None] | None) -> FunctionTable:
        built.append((n_variables, max_size))
        return build_table(n_variables, max_size, progress=progress)

    monkeypatch.setattr(table_cache, "build_table", counting)
    return built


def _forget() -> None:
    table_cache._tables.clear()


def _assert_same(one: FunctionTable, other: FunctionTable) -> None:
    assert (one.n_variables, one.max_size, one.counts) == (other.n_variables, other.max_size, other.counts)
    for name in ("sizes", "left", "right", "tokens", "keys", "order"):
        assert torch.equal(getattr(one, name), getattr(other, name))
        assert getattr(one, name).dtype == getattr(other, name).dtype


def test_a_table_is_built_once_then_read_then_at_hand(folder: Path, builds: list[tuple[int, int]]) -> None:
    shares: list[float] = []
    first = load_table(*SIZE, progress=shares.append)
    assert builds == [SIZE]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert load_table(*SIZE) is first
    assert [path.name for path in folder.iterdir()] == [NAME]
    _forget()
    shares.clear()
    again = load_table(*SIZE, progress=shares.append)
    assert builds == [SIZE]
    assert shares == [1]
    assert again is not first
    _assert_same(again, first)
    _assert_same(again, build_table(*SIZE))


def test_a_small_table_gets_no_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_cache, "_WORTH_KEEPING", 60.0)
    assert len(load_table(2, 2)) == 66
    assert not folder.exists()


def test_reading_is_fast(folder: Path) -> None:
    load_table(1, 8)
    seconds = []
    for _ in range(3):
        _forget()
        start = time.perf_counter()
        assert len(load_table(1, 8)) > 400_000
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.3


def _flip(place: float) -> Callable[[bytes], bytes]:
    def damage(data: bytes) -> bytes:
        at = int(place * len(data))
        return data[:at] + bytes([data[at] ^ 16]) + data[at + 1 :]

    return damage


def _rewritten(key: str, value: object) -> Callable[[bytes], bytes]:
    """The same tensors with one entry of the head changed and a checksum that fits."""

    def damage(data: bytes) -> bytes:
        length = int.from_bytes(data[:8], "little")
        head = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["head"])
        head[key] = value
        tensors = load(data)
        text = json.dumps(head)
        return save(tensors, metadata={"head": text, "checksum": table_cache._checksum(tensors, text)})

    return damage


def _changed(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[bytes], bytes]:
    """One tensor changed, and a checksum that fits."""

    def damage(data: bytes) -> bytes:
        length = int.from_bytes(data[:8], "little")
        head = json.loads(data[8 : 8 + length])["__metadata__"]["head"]
        tensors = load(data)
        tensors[name] = change(tensors[name].clone()).contiguous()
        return save(tensors, metadata={"head": head, "checksum": table_cache._checksum(tensors, head)})

    return damage


def _at(row: int, value: int) -> Callable[[torch.Tensor], torch.Tensor]:
    def change(tensor: torch.Tensor) -> torch.Tensor:
        tensor[row] = value
        return tensor

    return change


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(_changed("left", _at(-1, 10**9)), id="left child beyond the end"),
        pytest.param(_changed("left", _at(-1, -1)), id="no left child"),
        pytest.param(_changed("left", _at(0, 0)), id="a leaf with a child"),
        pytest.param(_changed("right", _at(2, 2)), id="its own right child"),
        pytest.param(_changed("right", _at(-1, -7)), id="right child before the start"),
        pytest.param(_changed("right", _at(-1, 100)), id="right child of another size"),
        pytest.param(_changed("order", _at(3, 10**9)), id="order beyond the end"),
        pytest.param(_changed("order", _at(3, -1)), id="order before the start"),
        pytest.param(_changed("order", lambda order: order.clamp_min(5)), id="order with a row twice"),
        pytest.param(_changed("order", lambda order: order.int()), id="order of another type"),
        pytest.param(_changed("order", lambda order: order[:-1]), id="a short order"),
        pytest.param(_changed("keys", lambda keys: keys.flip(0)), id="keys descending"),
        pytest.param(_changed("keys", lambda keys: keys.double()), id="keys of another type"),
        pytest.param(_changed("keys", _at(0, -1)), id="an invalid key"),
        pytest.param(_changed("tokens", _at(-1, 99)), id="tokens that are none"),
        pytest.param(_changed("tokens", lambda tokens: tokens[:, :-1]), id="narrow tokens"),
        pytest.param(_changed("tokens", lambda tokens: tokens.roll(1, 0)), id="tokens of other rows"),
        pytest.param(lambda data: b"", id="empty"),
        pytest.param(lambda data: data[: len(data) // 2], id="truncated"),
        pytest.param(lambda data: data[:-1], id="last byte lost"),
        pytest.param(lambda data: data + b"\0", id="longer"),
        pytest.param(_flip(0.0001), id="flipped in the length"),
        pytest.param(_flip(0.004), id="flipped in the head"),
        pytest.param(_flip(0.3), id="flipped in the tensors"),
        pytest.param(_flip(0.9999), id="flipped near the end"),
        pytest.param(lambda data: b"left,right\n1,2\n" * 500, id="foreign"),
        pytest.param(lambda data: save({"left": torch.zeros(3)}), id="foreign safetensors"),
        pytest.param(lambda data: save(load(data)), id="no metadata"),
        pytest.param(_rewritten("made_by", "0 2.0 abc"), id="another version"),
        pytest.param(_rewritten("n_variables", 2), id="another table"),
        pytest.param(_rewritten("counts", [2, 4]), id="other counts"),
    ],
)
def test_a_file_that_is_not_right_is_replaced(
    folder: Path, builds: list[tuple[int, int]], damage: Callable[[bytes], bytes]
) -> None:
    expected = load_table(*SIZE)
    path = folder / NAME
    data = path.read_bytes()
    wrong = damage(data)
    assert wrong != data
    path.write_bytes(wrong)
    _forget()
    _assert_same(load_table(*SIZE), expected)
    assert builds == [SIZE, SIZE]
    _forget()
    load_table(*SIZE)
    assert builds == [SIZE, SIZE]


def test_other_code_makes_another_fingerprint(folder: Path, builds: list[tuple[int, int]], tmp_path: Path) -> None:
    load_table(*SIZE)
    _forget()
    source = Path(str(table_cache.function_table.__file__))
    changed = tmp_path / "function_table.py"
    changed.write_bytes(source.read_bytes().replace(b"_KEY_BITS = 36", b"_KEY_BITS = 35"))
    assert changed.read_bytes() != source.read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table_cache.function_table, "__file__", str(changed))
        table_cache._fingerprint.cache_clear()
        load_table(*SIZE)
    table_cache._fingerprint.cache_clear()
    assert builds == [SIZE, SIZE]


@pytest.mark.parametrize("kind", ["file for the folder", "folder for the file"])
def test_an_unusable_place_is_no_error(
    folder: Path, kind: str, caplog: pytest.LogCaptureFixture, builds: list[tuple[int, int]]
) -> None:
    if kind == "file for the folder":
        folder.write_text("mine")
    else:
        (folder / NAME).mkdir(parents=True)
    with caplog.at_level(logging.WARNING):
        table = load_table(*SIZE)
    assert len(caplog.records) == 1
    assert "not cached" in caplog.text
    assert load_table(*SIZE) is table
    assert builds == [SIZE]
    if kind == "file for the folder":
        assert folder.read_text() == "mine"
    else:
        assert [path.name for path in folder.iterdir()] == [NAME]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is unwritable for root")
def test_an_unwritable_folder_is_no_error(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder.mkdir(mode=0o500)
    with caplog.at_level(logging.WARNING):
        assert len(load_table(*SIZE)) == sum(build_table(*SIZE).counts)
    assert "Permission denied" in caplog.text


def test_without_a_home_the_table_is_built(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(table_cache, "_tables", {})
    monkeypatch.delenv("EMLINIT_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", nowhere)
    assert len(load_table(1, 2)) == 22
    assert "home" in caplog.text


def test_a_full_disk_is_no_error(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The soft limit on the size of files stands for the disk: half of the table goes in, the rest does not."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))  # Python ignores the signal and raises
    try:
        table = load_table(1, 6)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert len(table) > 10_000
    assert len(caplog.records) == 1
    assert os.strerror(errno.EFBIG) in caplog.text
    assert list(folder.iterdir()) == []


def test_a_disk_full_at_once_is_no_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(table_cache.tempfile, "mkstemp", full)
    assert len(load_table(*SIZE)) > 2000
    assert os.strerror(errno.ENOSPC) in caplog.text


def test_the_warning_is_one_line_on_stderr_and_no_traceback(folder: Path) -> None:
    folder.write_text("in the way")
    done = _start("load_table(1, 2)").communicate(timeout=120)
    assert len(done[1].strip().splitlines()) == 1
    assert "not cached" in done[1]


def test_where_the_cache_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EMLINIT_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.setenv("EMLINIT_CACHE", "")
    assert cache_folder() == tmp_path / "emlinit"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == Path.home() / ".cache" / "emlinit"


def _start(code: str) -> "subprocess.Popen[str]":
    """A process that runs a line with the cache of this one, every table being worth keeping."""
    setup = (
        "import os, time; from emlinit.generator.functions import cache as table_cache; table_cache._WORTH_KEEPING = 0"
    )
    program = f"{setup}\nfrom emlinit.generator.functions.cache import load_table\n{code}\n"
    return subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    )


def test_a_build_killed_while_writing_leaves_nothing_in_the_way(folder: Path, builds: list[tuple[int, int]]) -> None:
    half = (
        "whole = table_cache.save\n"
        "table_cache.save = lambda *a, **k: (lambda data: data[: len(data) // 2])(whole(*a, **k))\n"
        "table_cache.os.replace = lambda *_: (print('half', flush=True), time.sleep(600))\n"
        "load_table(1, 5)"
    )
    process = _start(half)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "half"
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    (left,) = folder.iterdir()
    assert left.name.startswith(NAME)
    assert left.stat().st_size > 10_000
    load_table(*SIZE)
    assert builds == [SIZE]
    assert {path.name for path in folder.iterdir()} == {NAME, left.name}  # it might still be written
    _forget()
    load_table(*SIZE)
    assert builds == [SIZE]
    long_ago = time.time() - 3600
    os.utime(left, (long_ago, long_ago))
    load_table(1, 4)
    assert {path.name for path in folder.iterdir()} == {NAME, "functions-1-4.safetensors"}


def test_two_builds_at_once_are_both_right(folder: Path, builds: list[tuple[int, int]]) -> None:
    # Each waits for the other's temporary file before it renames its own.
    meet = (
        "rename = os.replace\n"
        "def together(source, target):\n"
        f"    open({str(folder)!r} + f'/ready-{{os.getpid()}}', 'w').close()\n"
        "    end = time.monotonic() + 60\n"
        f"    while len([n for n in os.listdir({str(folder)!r}) if n.startswith('ready')]) < 2:\n"
        "        assert time.monotonic() < end\n"
        "        time.sleep(0.01)\n"
        "    rename(source, target)\n"
        "table_cache.os.replace = together\n"
        "table = load_table(1, 5)\n"
        "print(len(table), int(table.keys.sum()))"
    )
    outputs = [process.communicate(timeout=120) for process in [_start(meet), _start(meet)]]
    table = load_table(*SIZE)
    assert builds == []
    assert [out.split() for out, _ in outputs] == [[str(len(table)), str(int(table.keys.sum()))]] * 2
    assert [err for _, err in outputs] == ["", ""]
    assert sorted(path.name[:5] for path in folder.iterdir()) == ["funct", "ready", "ready"]
