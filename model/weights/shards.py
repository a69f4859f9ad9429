"""Weights in several files of a bounded size, after the convention of the Hugging Face Hub.

    model-00001-of-00003.safetensors, ...    each a safetensors file of its own
    model.safetensors.index.json             {"metadata": {"total_size": bytes}, "weight_map": {name of a tensor: file}}

A checkpoint's configuration records the hash of each file, and which files there are. The names of the files follow
from their number, so no name is ever taken from what was read.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from typing import Any

from emlinit.generator.foreign import shown
from emlinit.model.weights.header import ITEM_BYTES, weight_bytes

INDEX_FILE = "model.safetensors.index.json"
MOST_SHARDS = 1000
"""Most files that weights are written to or read from."""
_SHARD = re.compile(r"model-[0-9]{5}-of-[0-9]{5}\.safetensors")
_HEAD_BYTES = 160  # of a tensor in the header, its name not counted; and of a header that is empty


def shard_names(n: int) -> list[str]:
    """The names of n files."""
    return [f"model-{number:05}-of-{n:05}.safetensors" for number in range(1, n + 1)]


def is_shard_name(name: str) -> bool:
    """Whether a file is called as one of several files of weights."""
    return _SHARD.fullmatch(name) is not None


def split_weights(shapes: Mapping[str, tuple[int, ...]], most_bytes: int) -> list[list[str]]:
    """The names of the tensors of each file, in the order given, so that no file has more than `most_bytes` bytes.

    Raises:
        ValueError: a tensor alone is larger, or there would be more than `MOST_SHARDS` files; the message is one line.
    """
    files: list[list[str]] = []
    room = 0
    for name, shape in shapes.items():
        n_bytes = ITEM_BYTES * math.prod(shape) + len(name) + _HEAD_BYTES
        if n_bytes + _HEAD_BYTES > most_bytes:
            raise ValueError(f"'{name}' takes {n_bytes + _HEAD_BYTES:,} bytes, and a file may have {most_bytes:,}")
        if n_bytes > room:
            files.append([])
            room = most_bytes - _HEAD_BYTES
        files[-1].append(name)
        room -= n_bytes
    if len(files) > MOST_SHARDS:
        raise ValueError(f"there would be {len(files)} files, and at most {MOST_SHARDS} are read")
    return files


def index_of(files: Mapping[str, list[str]], shapes: Mapping[str, tuple[int, ...]]) -> str:
    """The text of the index.

    Args:
        files: names of the tensors of each file.
        shapes: of the tensors.
    """
    weight_map = {name: file for file, names in files.items() for name in names}
    content = {"metadata": {"total_size": weight_bytes(shapes)}, "weight_map": weight_map}
    return json.dumps(content, indent=2) + "\n"


def combined_sha256(hashes: Mapping[str, str]) -> str:
    """One hash that stands for those of all files, hexadecimal."""
    return hashlib.sha256(json.dumps(dict(hashes), sort_keys=True).encode()).hexdigest()


def checked_hashes(said: Any) -> dict[str, str]:
    """Name -> sha256 of each file, as a configuration records them.

    Raises:
        ValueError: it is not that, or the files are not called as n files are; the message is one line.
    """
    if not isinstance(said, dict) or not 1 <= len(said) <= MOST_SHARDS:
        raise ValueError(f"shards should be an object of 1 to {MOST_SHARDS} files")
    if sorted(said) != shard_names(len(said)):
        strange = sorted(said.keys() - set(shard_names(len(said))))
        raise ValueError(f"{shown(strange[0])} is no name of one of {len(said)} files")
    for name, sha256 in said.items():
        if not isinstance(sha256, str) or not re.fullmatch("[0-9a-f]{64}", sha256):
            raise ValueError(f"shards has no sha256 of {name}")
    return said


def shapes_by_file(
    index: Any, files: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, dict[str, tuple[int, ...]]]:
    """What each file has to hold: names and shapes of its tensors.

    Args:
        index: content of the index, as read.
        files: the files that there are.
        shapes: of all tensors of the architecture.

    Raises:
        ValueError: the index does not give each of the tensors, and no other, one of the files; the message is one line.
    """
    weight_map = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(weight_map, dict):
        raise ValueError("it has no weight_map")
    differing = sorted(weight_map.keys() ^ shapes.keys())
    if differing:
        raise ValueError(f"its tensors are not those of the architecture: {shown(differing[0])}")
    held: dict[str, dict[str, tuple[int, ...]]] = {file: {} for file in files}
    for name, shape in shapes.items():
        file = weight_map[name]
        if not isinstance(file, str) or file not in held:
            raise ValueError(f"it has '{name}' in {shown(file)}, which is none of the files")
        held[file][name] = shape
    return held
