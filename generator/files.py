"""Writing a file so that a reader sees the old one or the new one, never half of one."""

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from emlinit.generator.moves import signals_too_late


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file next to `path`, flush it to disk, then rename it to `path`.

    The folder is made if it is missing. Whenever the process is killed, `path` is the old file or the new one.
    """
    write_together({path: write})


def write_together(writes: Mapping[Path, Callable[[Path], object]]) -> None:
    """`write_atomically` for files that belong together: none is replaced before all of them are on the disk."""
    temporaries = {path: path.with_name(f"{path.name}.{os.getpid()}.tmp") for path in writes}
    try:
        for path, write in writes.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = temporaries[path]
            write(temporary)
            temporary.chmod(0o644)  # safetensors makes private files
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
        with signals_too_late():
            for path, temporary in temporaries.items():
                temporary.replace(path)
    finally:
        for temporary in temporaries.values():
            with suppress(OSError, ValueError):  # what kept it from being written is the error to tell
                temporary.unlink(missing_ok=True)
