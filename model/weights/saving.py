"""Writing weights: one file or several of a bounded size, and the configuration, all or nothing."""

import hashlib
import json
import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from emlinit.generator.errors import UserError
from emlinit.generator.files import write_together
from emlinit.generator.foreign import reason, shown
from emlinit.model.weights.checkpoint import (
    CONFIG_FILE,
    FORMAT,
    FORMAT_VERSION,
    WEIGHTS_FILE,
    architecture_sha256,
    check_finite,
    weight_files_in,
)
from emlinit.model.weights.shards import INDEX_FILE, combined_sha256, index_of, shard_names, split_weights


def save_weights(
    folder: Path,
    tensors: Mapping[str, Tensor],
    architecture: Mapping[str, Any],
    about: Mapping[str, Any],
    *,
    most_bytes: int | None = None,
) -> str:
    """Write weights and configuration to `folder` (made if missing), all or nothing; returns the sha256.

    Args:
        folder: where to.
        tensors: weights by parameter name.
        architecture: fields of `InitialiserConfig`.
        about: more entries of the configuration file, such as `pretraining`; figures that are not finite become null.
        most_bytes: largest file of weights; None writes one file.

    Raises:
        UserError: the folder cannot be written, the disk is full, a weight is not finite, or a tensor is larger than a file
            may be; nothing was written.
    """
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    check_finite(plain, f"the weights for {shown(folder)}", "train with a lower learning rate")
    files = _packed(plain, most_bytes)
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in files.items() if name != INDEX_FILE}
    sha256 = hashes[WEIGHTS_FILE] if most_bytes is None else combined_sha256(hashes)
    entries = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "sha256": sha256,
        **({} if most_bytes is None else {"shards": hashes}),
        "architecture_sha256": architecture_sha256(architecture, sha256),
        "architecture": dict(architecture),
    }
    text = json.dumps(_finite({**entries, **about}), indent=2, allow_nan=False) + "\n"
    try:
        write_together(
            {
                **{folder / name: partial(Path.write_bytes, data=data) for name, data in files.items()},
                folder / CONFIG_FILE: lambda path: path.write_text(text, encoding="utf-8"),
            }
        )
        for name in weight_files_in(folder):  # of before, in another number
            if name not in files:
                (folder / name).unlink()
    except (OSError, ValueError) as problem:
        raise UserError(
            f"no checkpoint can be written to {shown(folder)} ({reason(problem)}): make room or name another folder"
        ) from problem
    return sha256


def _packed(tensors: dict[str, Tensor], most_bytes: int | None) -> dict[str, bytes]:
    """Name -> content of the files of weights, and of their index if they are to be of a bounded size."""
    if most_bytes is None:
        return {WEIGHTS_FILE: save(tensors, metadata={"format": "pt"})}
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    try:
        groups = split_weights(shapes, most_bytes)
    except ValueError as problem:
        raise UserError(f"the weights cannot be split ({reason(problem)}): allow larger files") from problem
    files = dict(zip(shard_names(len(groups)), groups, strict=True))
    packed = {
        file: save({name: tensors[name] for name in names}, metadata={"format": "pt"}) for file, names in files.items()
    }
    return {**packed, INDEX_FILE: index_of(files, shapes).encode()}


def _finite(value: Any) -> Any:
    """The same with None for numbers that JSON cannot hold."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {name: _finite(item) for name, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
