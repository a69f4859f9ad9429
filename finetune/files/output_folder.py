"""A folder of results that is written whole or not at all."""

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from emlinit.generator.errors import UserError


def check_output_folder(folder: Path) -> None:
    """Say so before any work if the folder cannot be written later; writes nothing.

    Raises:
        UserError: the path is a file, or nothing can be created there.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out '{folder}' is a file: name a folder, which is made if it does not exist")
    parent = _existing_parent(folder)
    if not parent.is_dir():
        raise UserError(f"--out '{folder}' lies below the file '{parent}': name a folder in another place")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise UserError(f"--out '{folder}' cannot be written: name a folder in a place where you may write")


def write_folder(folder: Path, writers: Mapping[str, Callable[[Path], object]]) -> None:
    """Write the files of a folder, which is made if needed: each writer gets the path that it has to fill.

    The files are written to a temporary folder on the same disk and moved when all are complete; other files of the
    folder stay as they are.

    Raises:
        UserError: the folder cannot be written.
    """
    try:
        with tempfile.TemporaryDirectory(prefix=".emlinit-", dir=_existing_parent(folder)) as temporary:
            for name, write in writers.items():
                write(Path(temporary) / name)
            folder.mkdir(parents=True, exist_ok=True)
            for name in writers:
                os.replace(Path(temporary) / name, folder / name)
    except OSError as error:
        raise UserError(
            f"--out '{folder}' cannot be written ({error.strerror or error}): name another folder"
        ) from None


def _existing_parent(folder: Path) -> Path:
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return folder
