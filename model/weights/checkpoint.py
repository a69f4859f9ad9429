"""Weights on disk: a folder with `config.json` and `model.safetensors`, or several such files and their index (see
`shards`), and the names by which such folders are found.

    builtin:exact | builtin:weighted    shipped with the package
    local-dir:PATH                      a folder of your own
    hf-hub:OWNER/NAME@REV               the Hugging Face Hub at a revision, which should be a commit hash (see `hub`)

The configuration is data, never code, and believed only as far as the weights bear it out: it is bounded, then compared with
the names, shapes and types in the weights' header, before anything of its size is read or built. Loading is strict: every
tensor of the architecture, no other, in its shape, float32 and finite; each file's sha256 as recorded, and one more for the
architecture, since the number of heads, say, changes what the weights mean and none of their shapes. A damaged copy in
the Hub's cache is removed, so that the next attempt downloads it anew.
"""

import dataclasses
import hashlib
import json
import logging
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from emlinit.checkpoints import BUILTIN_DIR
from emlinit.generator.errors import UserError
from emlinit.generator.foreign import kind_of_path, open_regular, parse_json, read_bounded, reason, shown
from emlinit.model.weights.header import MOST_HEADER_BYTES, header_difference, read_header, weight_bytes
from emlinit.model.weights.shards import (
    INDEX_FILE,
    checked_hashes,
    combined_sha256,
    is_shard_name,
    shapes_by_file,
)

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
FORMAT = "emlinit-initialiser"
FORMAT_VERSION = 1
MOST_CONFIG_BYTES = 16 << 20
"""Largest configuration, and largest index, that is read: the shipped configurations have 4 kB."""
MOST_WEIGHT_BYTES = 2 << 30
"""Largest weights that are read: the shipped ones have 13 MB."""
_MOST_STAGES = 1000
_Config = TypeVar("_Config")
_Shapes = Callable[[Mapping[str, Any]], Mapping[str, tuple[int, ...]]]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoredWeights:
    """A checkpoint read from disk."""

    source: str
    """The name it was asked for by."""
    sha256: str
    """Hash of the weights file, hexadecimal; of several, that of their hashes."""
    architecture: dict[str, Any]
    """Fields of `InitialiserConfig`."""
    tensors: dict[str, Tensor]
    """Weights by parameter name, on the CPU."""
    about: dict[str, Any]
    """The whole configuration file: architecture, pretraining configuration, what the run reached."""
    folder: Path
    """Where the files are."""
    files: tuple[str, ...]
    """Names of the files of the weights, and of their index if they have one."""
    revision: str | None = None
    """Commit hash, if the checkpoint comes from the Hub."""


def weight_files_in(folder: Path) -> list[str]:
    """Names of what a folder holds that is called as weights or their index are."""
    names = sorted(path.name for path in folder.iterdir())
    return [name for name in names if name in (WEIGHTS_FILE, INDEX_FILE) or is_shard_name(name)]


def weight_files(config: Path) -> tuple[str, ...]:
    """Names of the files that belong to a configuration, which may be anybody's; none where it cannot be understood, which
    loading it will tell."""
    try:
        about = parse_json(read_bounded(config, MOST_CONFIG_BYTES))
        return _files_of(about) if isinstance(about, dict) else ()
    except (OSError, ValueError):
        return ()


def _files_of(about: Mapping[str, Any]) -> tuple[str, ...]:
    return (*checked_hashes(about["shards"]), INDEX_FILE) if "shards" in about else (WEIGHTS_FILE,)


def architecture_sha256(architecture: Mapping[str, Any], weights_sha256: str) -> str:
    """Hash of an architecture together with the weights that it belongs to, hexadecimal."""
    text = json.dumps({"architecture": dict(architecture), "sha256": weights_sha256}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def find_checkpoint(source: str) -> Path:
    """Folder of a checkpoint, downloaded if it lives on the Hub.

    Raises:
        UserError: not one of the forms above, a Hub name without a revision, or nothing there.
    """
    scheme, colon, name = source.partition(":")
    if scheme == "builtin" and colon:
        folder = BUILTIN_DIR / name
        shipped = sorted(path.parent.name for path in BUILTIN_DIR.glob(f"*/{CONFIG_FILE}"))
        if name not in shipped:
            names = ", ".join(f"builtin:{known}" for known in shipped) or "none"
            raise UserError(f"no shipped checkpoint '{source}': this installation has {names}")
        return folder
    if scheme == "local-dir" and name:
        try:
            folder = Path(name).expanduser()
        except RuntimeError as problem:  # ~somebody without a home
            raise UserError(f"no folder {shown(name)} ({reason(problem)}): write out its path") from problem
        if kind_of_path(folder) != "folder":
            raise UserError(f"no folder {shown(name)}: local-dir: needs a folder with {WEIGHTS_FILE} and {CONFIG_FILE}")
        return folder
    if scheme == "hf-hub" and name:
        from emlinit.model.weights import hub  # the Hub's client is slow to import and needed only here

        return hub.fetch(name, CONFIG_FILE, weight_files)
    raise UserError(
        f"unknown checkpoint '{source}': expected builtin:exact, builtin:weighted, local-dir:PATH "
        "or hf-hub:OWNER/NAME@REV"
    )


def read_checkpoint(source: str, shapes_of: _Shapes) -> StoredWeights:
    """Read and check a checkpoint; see the module for the forms of `source`.

    Args:
        source: the name of the checkpoint.
        shapes_of: names and shapes of the weights of an architecture; a `UserError` of it says why there are none.

    Raises:
        UserError: missing, unreadable, truncated, changed, of another format or of another architecture.
    """
    folder = find_checkpoint(source)
    if not source.startswith("hf-hub:"):
        return _read(source, folder, shapes_of)
    try:
        return replace(_read(source, folder, shapes_of), revision=folder.name)
    except _DamagedError as problem:
        from emlinit.model.weights import hub

        hub.discard(folder, [CONFIG_FILE, *weight_files_in(folder)])
        raise UserError(
            f"{problem.what}: this copy was removed from the cache, try again; if that does not help, the repository "
            "itself is damaged"
        ) from problem


class _DamagedError(UserError):
    """A copy of a checkpoint is not what was published."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}: get it anew")
        self.what = what


def _read(source: str, folder: Path, shapes_of: _Shapes) -> StoredWeights:
    _check_there(source, folder, CONFIG_FILE)
    about = _read_json(source, folder / CONFIG_FILE)
    sha256, architecture = _checked_config(source, about)
    hashes = checked_hashes(about["shards"]) if "shards" in about else {WEIGHTS_FILE: sha256}
    files = _files_of(about)
    for name in files:
        _check_there(source, folder, name)
    try:
        shapes = shapes_of(architecture)
        n_bytes = weight_bytes(shapes)
        if n_bytes > MOST_WEIGHT_BYTES:
            raise UserError(f"its weights would take {n_bytes:,} bytes, more than {MOST_WEIGHT_BYTES:,}")
        held: Mapping[str, Mapping[str, tuple[int, ...]]] = {WEIGHTS_FILE: shapes}
        if "shards" in about:
            held = _read_index(source, folder / INDEX_FILE, hashes, shapes)
        tensors: dict[str, Tensor] = {}
        for name, of_file in held.items():
            tensors |= _read_weights(source, folder / name, hashes[name], of_file)
    except _DamagedError:
        raise
    except OSError as problem:
        raise _unreadable(source, "a file of the weights", problem) from problem
    except UserError as problem:
        raise UserError(
            f"checkpoint '{source}' is of an architecture that this program cannot read ({reason(problem)}): "
            "get it anew or update emlinit"
        ) from problem
    check_finite(tensors, f"the weights of checkpoint '{source}'", "get other weights")
    if "architecture_sha256" not in about:
        _log.warning(
            "checkpoint '%s' has no architecture_sha256, so a changed number of heads would go unseen: 'emlinit publish' "
            "writes a copy that has it",
            source,
        )
    return StoredWeights(source, sha256, architecture, tensors, about, folder, files)


def _check_there(source: str, folder: Path, name: str) -> None:
    if kind_of_path(folder / name) != "file":
        raise UserError(f"checkpoint '{source}' has no {name}: a checkpoint is {CONFIG_FILE} and its weights")


def _read_json(source: str, path: Path) -> Any:
    try:
        return parse_json(read_bounded(path, MOST_CONFIG_BYTES))
    except OSError as problem:
        raise _unreadable(source, path.name, problem) from problem
    except ValueError as problem:
        said = f"{path.name} of checkpoint '{source}' is not valid JSON ({reason(problem)})"
        raise _DamagedError(said) from problem


def _read_index(
    source: str, path: Path, hashes: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, dict[str, tuple[int, ...]]]:
    """What each file of the weights has to hold."""
    try:
        return shapes_by_file(_read_json(source, path), hashes, shapes)
    except UserError:
        raise
    except ValueError as problem:
        raise _DamagedError(f"{path.name} of checkpoint '{source}' is not in order ({reason(problem)})") from problem


def _checked_config(source: str, about: Any) -> tuple[str, dict[str, Any]]:
    """The recorded hash of the weights and the architecture."""
    if not isinstance(about, dict) or about.get("format") != FORMAT or not isinstance(about.get("architecture"), dict):
        raise UserError(f"checkpoint '{source}' is no {FORMAT} checkpoint: train one with scripts/pretrain.py")
    version = about.get("format_version")
    if type(version) is not int or version != FORMAT_VERSION:
        raise UserError(
            f"checkpoint '{source}' has format version {shown(version)}, this program reads {FORMAT_VERSION}: update "
            "emlinit"
        )
    sha256, architecture = about.get("sha256"), about["architecture"]
    if not isinstance(sha256, str) or not re.fullmatch("[0-9a-f]{64}", sha256):
        raise _DamagedError(f"{CONFIG_FILE} of checkpoint '{source}' has no sha256 of the weights")
    if "shards" in about:
        try:
            recorded = combined_sha256(checked_hashes(about["shards"]))
        except ValueError as problem:
            said = f"{CONFIG_FILE} of checkpoint '{source}' is not in order ({reason(problem)})"
            raise _DamagedError(said) from problem
        if recorded != sha256:
            raise _DamagedError(f"{CONFIG_FILE} of checkpoint '{source}' is changed (sha256 differs)")
    signed = architecture_sha256(architecture, sha256)
    if about.get("architecture_sha256", signed) != signed:
        raise _DamagedError(f"{CONFIG_FILE} of checkpoint '{source}' is changed (architecture_sha256 differs)")
    wrong = _odd_history(about)
    if wrong:
        raise UserError(f"{CONFIG_FILE} of checkpoint '{source}' is not in order ({wrong}): correct it or get it anew")
    return sha256, architecture


def _odd_history(about: Mapping[str, Any]) -> str | None:
    """What is wrong with the kinds of what a configuration says about the run, and the runs before it."""
    stages = about.get("stages_before", [])
    if not isinstance(stages, list) or not all(isinstance(stage, dict) for stage in stages):
        return "stages_before should be a list of objects"
    if len(stages) > _MOST_STAGES:
        return f"stages_before has {len(stages)} entries, more than {_MOST_STAGES}"
    for stage in (about, *stages):
        for name in ("pretraining", "reached", "corpus"):
            if not isinstance(stage.get(name, {}), dict):
                return f"{name} should be an object, not {shown(stage[name])}"
        for name, value in stage.get("reached", {}).items():
            counts = name in ("step", "examples", "skipped")
            if value is None and not counts:
                continue  # a figure that was not finite
            if type(value) not in ((int,) if counts else (int, float)) or value < 0:
                return f"reached.{shown(name)} should be a number of at least 0, not {shown(value)}"
    return None


def _read_weights(source: str, path: Path, sha256: str, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """The tensors of a file, if they are those of an architecture."""
    with open_regular(path) as file:
        n_bytes, most = os.fstat(file.fileno()).st_size, weight_bytes(shapes) + 8 + MOST_HEADER_BYTES
        if n_bytes > most:
            raise UserError(f"{path.name} has {n_bytes:,} bytes, its architecture at most {most:,}")
        try:
            wrong = header_difference(read_header(file, n_bytes), shapes)
        except ValueError as problem:
            wrong = f"{path.name} cannot be read: {reason(problem)}"
        file.seek(0)
        if wrong is not None:  # damage or another architecture? Nothing is kept while that is found out
            data = b""
            found = hashlib.file_digest(file, "sha256").hexdigest()
        else:
            data = file.read(n_bytes)
            found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise _DamagedError(f"{path.name} of checkpoint '{source}' is truncated or changed (sha256 differs)")
    if wrong is not None:
        raise UserError(wrong)
    try:
        tensors: dict[str, Tensor] = load(data)
    except SafetensorError as problem:
        raise _DamagedError(f"{path.name} of checkpoint '{source}' cannot be read ({reason(problem)})") from problem
    return tensors


def check_finite(tensors: Mapping[str, Tensor], what: str, advice: str) -> None:
    """Refuse weights that are not all finite.

    Raises:
        UserError: a line that begins with `what`, names a tensor, and ends with `advice`.
    """
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise UserError(f"{what} are not all finite ({name} has NaN or infinite values): {advice}")


def _unreadable(source: str, name: str, problem: OSError) -> UserError:
    return UserError(f"{name} of checkpoint '{source}' cannot be read ({reason(problem)}): mend that or name another")


def architecture_from_json(config_class: type[_Config], fields: Mapping[str, Any]) -> _Config:
    """Build a frozen config dataclass of ints and strings from JSON, checking names and types.

    Raises:
        UserError: a field is missing, unknown or of another type.
    """
    expected = {field.name: field.type for field in dataclasses.fields(config_class)}  # type: ignore[arg-type]
    if set(fields) != set(expected):
        differing = sorted(set(fields) ^ set(expected))
        names = [name if name.isidentifier() and len(name) < 60 else shown(name) for name in differing[:5]]
        raise UserError(f"fields that differ: {', '.join(names)}")
    for name, value in fields.items():
        if type(value) is not expected[name]:
            wanted = getattr(expected[name], "__name__", expected[name])
            raise UserError(f"'{name}' should be of type {wanted}, not {shown(value)}")
    return config_class(**fields)
