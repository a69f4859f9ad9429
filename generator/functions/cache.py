"""Tables of small functions, built once and kept on disk.

A table lies in one safetensors file of the cache folder: `$EMLINIT_CACHE` if set, else `$XDG_CACHE_HOME/emlinit`, else
`~/.cache/emlinit`. The folder may be deleted at any time.

A file is used only if it carries the fingerprint of the code that would build it now and the checksum of its own
contents, and if every index in it leads somewhere (a checksum can be worked out by anybody); anything else - damaged, cut
off, foreign, outdated - is built anew and replaced. It is written under a
temporary name and renamed, so a killed build leaves no half table, and of two builds at once the later one stays. Where
nothing can be written the table is used from memory, and one line of the log says so.
"""

import hashlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from threading import RLock

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from emlinit.generator import grammar, node
from emlinit.generator.functions import table as function_table
from emlinit.generator.functions.table import FunctionTable, build_table, check_table

_FORMAT = 1
_WORTH_KEEPING = 0.1  # seconds of building: what is built as fast as a file is read and checked gets no file
_ABANDONED = 600.0  # seconds after which a temporary file is the rest of a killed build: writing takes less than one
_MOST_BYTES = 1 << 30  # the largest table that searches use has 17 MB
_FIELDS = ("left", "right", "tokens", "keys", "order")  # the sizes follow from the counts

_log = logging.getLogger(__name__)
_tables: dict[tuple[int, int], FunctionTable] = {}
_lock = RLock()


SEARCH_SIZES = (8, 6, 5, 4, 4)
"""Most nodes of the table that searches look up, in 1, 2, ... variables: 400,000 functions at most."""


def load_search_table(n_variables: int, *, progress: Callable[[float], None] | None = None) -> FunctionTable:
    """The table that searches in so many variables use; see `load_table`."""
    return load_table(n_variables, SEARCH_SIZES[n_variables - 1], progress=progress)


def load_table(n_variables: int, max_size: int, *, progress: Callable[[float], None] | None = None) -> FunctionTable:
    """The table of `build_table(n_variables, max_size)`: from this process, from the cache, or built and cached.

    Args:
        n_variables: variables that a tree may read, 1..MAX_VARIABLES.
        max_size: most eml nodes of a tree, at least 0.
        progress: called with the share of the work done, 0..1, and always with 1 at the end.

    Raises:
        ValueError: as `build_table` does. A cache that cannot be read or written is never an error.
    """
    with _lock:
        table = _tables.get((n_variables, max_size))
        if table is None:
            table = _tables[n_variables, max_size] = _read_or_build(n_variables, max_size, progress)
    if progress is not None:
        progress(1.0)
    return table


def cache_folder() -> Path:
    """Where tables are kept; the folder need not exist.

    Raises:
        RuntimeError: no folder is named and the user has no home.
    """
    own = os.environ.get("EMLINIT_CACHE")
    if own:
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    if base and Path(base).is_absolute():  # a relative path is to be ignored, says the XDG specification
        return Path(base) / "emlinit"
    return Path.home() / ".cache" / "emlinit"


def _read_or_build(n_variables: int, max_size: int, progress: Callable[[float], None] | None) -> FunctionTable:
    try:
        path = cache_folder() / f"functions-{n_variables}-{max_size}.safetensors"
    except RuntimeError as problem:
        _log.warning("tables of functions are not cached: %s", problem)
        return build_table(n_variables, max_size, progress=progress)
    try:
        return _read(path, n_variables, max_size)
    except Exception:
        pass  # absent, or whatever may be wrong with a file: the table can be built
    start = time.monotonic()
    table = build_table(n_variables, max_size, progress=progress)
    if time.monotonic() - start >= _WORTH_KEEPING:
        try:
            _write(path, table)
        except OSError as problem:
            _log.warning("the table of functions is not cached in %s: %s", path.parent, problem.strerror or problem)
    return table


@cache
def _fingerprint() -> str:
    """Of everything that decides what a table holds: the code that builds it, the operator, the kinds of tokens, and
    PyTorch's exp and ln."""
    code = hashlib.sha256()
    for module in (function_table, grammar, node):
        assert module.__file__ is not None
        code.update(Path(module.__file__).read_bytes())
    return f"{_FORMAT} {torch.__version__} {code.hexdigest()}"


def _checksum(tensors: dict[str, Tensor], head: str) -> str:
    digest = hashlib.sha256(head.encode())
    for name in _FIELDS:
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].numpy().data.cast("B"))
    return digest.hexdigest()


def _read(path: Path, n_variables: int, max_size: int) -> FunctionTable:
    """The table in a file; raises some exception if there is no such file or it is not what it should be."""
    if not path.is_file():  # opening a pipe would wait
        raise FileNotFoundError(path)
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError("larger than any table")
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        # Copies: the file may be changed under a mapping.
        tensors = {name: file.get_tensor(name).clone() for name in _FIELDS}
    head = metadata["head"]
    if metadata["checksum"] != _checksum(tensors, head):
        raise ValueError("damaged")
    counts = json.loads(head)["counts"]
    if head != _head(n_variables, max_size, counts) or sum(counts) != len(tensors["left"]):
        raise ValueError("outdated, or another table")
    if any(type(count) is not int or count < 0 for count in counts):
        raise ValueError("counts that are none")
    sizes = torch.repeat_interleave(torch.arange(max_size + 1), torch.tensor(counts))
    table = FunctionTable(n_variables, max_size, sizes=sizes, counts=tuple(counts), **tensors)
    check_table(table)
    return table


def _head(n_variables: int, max_size: int, counts: list[int]) -> str:
    """What a table is and who made it, as text."""
    made_by = _fingerprint()
    return json.dumps({"made_by": made_by, "n_variables": n_variables, "max_size": max_size, "counts": counts})


def _write(path: Path, table: FunctionTable) -> None:
    """Write a table atomically.

    Raises:
        OSError: the folder cannot be made or written, or the disk is full; nothing is left behind.
    """
    tensors = {name: getattr(table, name) for name in _FIELDS}
    head = _head(table.n_variables, table.max_size, list(table.counts))
    data = save(tensors, metadata={"head": head, "checksum": _checksum(tensors, head)})
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path.parent)
    handle, name = tempfile.mkstemp(prefix=f"{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _remove_abandoned(folder: Path) -> None:
    for path in folder.glob("functions-*.tmp"):
        try:
            if time.time() - path.stat().st_mtime > _ABANDONED:
                path.unlink()
        except OSError:
            pass  # somebody else was faster, or it is not ours to remove
