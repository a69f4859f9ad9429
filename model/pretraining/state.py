"""Everything a training run needs to go on, in one file without pickles.

A nested state (dicts, lists, numbers, strings, tensors, numpy arrays, bytes) is split into its tensors, stored by
safetensors, and the rest, stored as JSON in the same file's metadata. One file, written beside the old one, flushed and
renamed: a reader sees the old state or the new one, never half of one, whenever the process is killed.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from emlinit.generator.errors import UserError
from emlinit.generator.files import write_atomically
from emlinit.generator.foreign import kind_of_path, parse_json, reason, shown

_KEY = "state"


def save_state(state: Any, path: Path) -> None:
    """Write a nested state atomically to `path`; tensors keep dtype and every bit.

    Raises:
        TypeError: the state holds something other than dicts, lists, tuples, numbers, strings, None, bytes, tensors
            and numpy arrays.
        UserError: it cannot be written, or the disk is full; the state of before stays.
    """
    tensors: dict[str, Tensor] = {}
    text = json.dumps(_pack(state, tensors))
    try:
        write_atomically(path, lambda temporary: save_file(tensors, temporary, metadata={_KEY: text}))
    except (OSError, ValueError, SafetensorError) as problem:
        raise UserError(
            f"no training state can be written to {shown(path)} ({reason(problem)}): make room or name another folder"
        ) from problem


def load_state(path: Path) -> Any:
    """Read what `save_state` wrote; tensors come back on the CPU, tuples as lists.

    Raises:
        UserError: the file is missing, cut off, or no training state.
    """
    if kind_of_path(path) != "file":
        raise UserError(f"no training state at '{path}': start a new run or name the folder of an old one")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if _KEY not in metadata:
                raise ValueError("it is of another program")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        return _unpack(parse_json(metadata[_KEY]), tensors)
    except OSError as problem:
        raise UserError(f"'{path}' cannot be read ({reason(problem)}): mend that") from problem
    except (SafetensorError, LookupError, TypeError, ValueError) as problem:
        said = reason(problem)
        raise UserError(f"'{path}' is damaged or no training state ({said}); remove it to start over") from problem


def _pack(value: Any, tensors: dict[str, Tensor]) -> Any:
    """JSON form of `value`: containers as [tag, content], so that keys and kinds survive."""
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().cpu().contiguous().clone()
        return ["tensor", name]
    if isinstance(value, np.ndarray):
        return ["array", _pack(torch.from_numpy(np.ascontiguousarray(value)), tensors)]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, bytes):
        return ["bytes", value.hex()]
    if isinstance(value, dict):
        return ["dict", [[key, _pack(item, tensors)] for key, item in value.items()]]
    if isinstance(value, list | tuple):
        return ["list", [_pack(item, tensors) for item in value]]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a training state cannot hold a {type(value).__name__}")


def _unpack(value: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(value, list):
        return value
    if len(value) != 2:
        raise ValueError("a list without a tag")
    tag, content = value
    if tag == "tensor":
        return tensors[content]
    if tag == "array":
        tensor = _unpack(content, tensors)
        if not isinstance(tensor, Tensor):
            raise ValueError("an array without a tensor")
        return tensor.numpy()
    if tag == "bytes":
        return bytes.fromhex(content)
    if tag == "dict":
        return {key: _unpack(item, tensors) for key, item in content}
    if tag == "list":
        return [_unpack(item, tensors) for item in content]
    raise ValueError(f"unknown tag {shown(tag)}")
