"""Weights on disk: a folder with `model.safetensors` and `config.json`, and the names by which such folders are found.

    builtin:exact | builtin:weighted    shipped with the package
    local-dir:PATH                      a folder of your own
    hf-hub:OWNER/NAME@REV               the Hugging Face Hub at a revision, which should be a commit hash (see model/hub.py)

The configuration is data, never code; loading is strict: every tensor of the architecture, no other, in its shape, and
the file's sha256 as recorded. A damaged copy in the Hub's cache is removed, so that the next attempt downloads it anew.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from emlinit.checkpoints import BUILTIN_DIR
from emlinit.generator.errors import UserError
from emlinit.generator.files import write_atomically

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
FILES = (CONFIG_FILE, WEIGHTS_FILE)
FORMAT = "emlinit-initialiser"
FORMAT_VERSION = 1
_Config = TypeVar("_Config")


@dataclass(frozen=True)
class StoredWeights:
    """A checkpoint read from disk."""

    source: str
    """The name it was asked for by."""
    sha256: str
    """Hash of the weights file, hexadecimal."""
    architecture: dict[str, Any]
    """Fields of `InitialiserConfig`."""
    tensors: dict[str, Tensor]
    """Weights by parameter name, on the CPU."""
    about: dict[str, Any]
    """The whole configuration file: architecture, pretraining configuration, what the run reached."""
    folder: Path
    """Where the files are."""
    revision: str | None = None
    """Commit hash, if the checkpoint comes from the Hub."""


def save_weights(
    folder: Path, tensors: Mapping[str, Tensor], architecture: Mapping[str, Any], about: Mapping[str, Any]
) -> str:
    """Write weights and configuration to `folder` (made if missing), each file atomically; returns the sha256.

    Args:
        folder: where to.
        tensors: weights by parameter name.
        architecture: fields of `InitialiserConfig`.
        about: more entries of the configuration file, such as `pretraining`.
    """
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    weights = folder / WEIGHTS_FILE
    write_atomically(weights, lambda path: save_file(plain, path, metadata={"format": "pt"}))
    sha256 = _sha256(weights)
    entries = {"format": FORMAT, "format_version": FORMAT_VERSION, "sha256": sha256, "architecture": dict(architecture)}
    text = json.dumps({**entries, **about}, indent=2) + "\n"
    write_atomically(folder / CONFIG_FILE, lambda path: path.write_text(text))
    return sha256


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
        folder = Path(name).expanduser()
        if not folder.is_dir():
            raise UserError(f"no folder '{name}': local-dir: needs a folder with {WEIGHTS_FILE} and {CONFIG_FILE}")
        return folder
    if scheme == "hf-hub" and name:
        from emlinit.model.weights import hub  # the Hub's client is slow to import and needed only here

        return hub.fetch(name, FILES)
    raise UserError(
        f"unknown checkpoint '{source}': expected builtin:exact, builtin:weighted, local-dir:PATH "
        "or hf-hub:OWNER/NAME@REV"
    )


def load_weights(source: str) -> StoredWeights:
    """Read and check a checkpoint; see the module for the forms of `source`.

    Raises:
        UserError: missing, truncated, changed, or of another format.
    """
    folder = find_checkpoint(source)
    if not source.startswith("hf-hub:"):
        return _read(source, folder)
    try:
        return replace(_read(source, folder), revision=folder.name)
    except _DamagedError as problem:
        from emlinit.model.weights import hub

        hub.discard(folder, FILES)
        raise UserError(
            f"{problem.what}: this copy was removed from the cache, try again; if that does not help, the repository "
            "itself is damaged"
        ) from problem


class _DamagedError(UserError):
    """A copy of a checkpoint is not what was published."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}: get it anew")
        self.what = what


def _read(source: str, folder: Path) -> StoredWeights:
    weights, config = folder / WEIGHTS_FILE, folder / CONFIG_FILE
    for path in (weights, config):
        if not path.is_file():
            raise UserError(
                f"checkpoint '{source}' has no {path.name}: a checkpoint is {WEIGHTS_FILE} and {CONFIG_FILE}"
            )
    try:
        about = json.loads(config.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as problem:
        raise _DamagedError(f"{CONFIG_FILE} of checkpoint '{source}' is not valid JSON ({problem})") from problem
    if not isinstance(about, dict) or about.get("format") != FORMAT or not isinstance(about.get("architecture"), dict):
        raise UserError(f"checkpoint '{source}' is no {FORMAT} checkpoint: train one with scripts/pretrain.py")
    if about.get("format_version") != FORMAT_VERSION:
        raise UserError(
            f"checkpoint '{source}' has format version {about.get('format_version')!r}, this program reads "
            f"{FORMAT_VERSION}: update emlinit"
        )
    sha256 = _sha256(weights)
    if sha256 != about.get("sha256"):
        raise _DamagedError(f"{WEIGHTS_FILE} of checkpoint '{source}' is truncated or changed (sha256 differs)")
    try:
        tensors = load_file(weights)
    except SafetensorError as problem:
        raise _DamagedError(f"{WEIGHTS_FILE} of checkpoint '{source}' cannot be read ({problem})") from problem
    return StoredWeights(source, sha256, about["architecture"], tensors, about, folder)


def architecture_from_json(config_class: type[_Config], fields: Mapping[str, Any]) -> _Config:
    """Build a frozen config dataclass of ints and strings from JSON, checking names and types.

    Raises:
        UserError: a field is missing, unknown or of another type.
    """
    expected = {field.name: field.type for field in dataclasses.fields(config_class)}  # type: ignore[arg-type]
    if set(fields) != set(expected):
        raise UserError(f"fields that differ: {', '.join(sorted(set(fields) ^ set(expected)))}")
    for name, value in fields.items():
        if type(value) is not expected[name]:
            wanted = getattr(expected[name], "__name__", expected[name])
            raise UserError(f"'{name}' should be of type {wanted}, not {value!r}")
    return config_class(**fields)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
