"""The header of a safetensors file, compared with what an architecture needs before anything of the size of weights is
read or built.

A file is the length of the header (8 bytes), the header (JSON: name -> dtype, shape, place), then all tensors without a
gap. That the places are without gap or overlap is checked by safetensors itself when it reads them.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from io import BufferedIOBase
from itertools import islice
from typing import Any

from emlinit.generator.foreign import parse_json, shown

DTYPE = "F32"
"""The one type of weights that is saved."""
ITEM_BYTES = 4
MOST_HEADER_BYTES = 8 << 20
"""Longest header that is read: one tensor takes about 100 bytes."""


@dataclass(frozen=True)
class TensorHead:
    """What a header says of one tensor."""

    dtype: str
    """As safetensors writes it, `F32` for one."""
    shape: tuple[int, ...]
    """Length of each axis."""


def weight_bytes(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Bytes of the tensors of an architecture."""
    return ITEM_BYTES * sum(math.prod(shape) for shape in shapes.values())


def read_header(file: BufferedIOBase, n_bytes: int) -> dict[str, TensorHead]:
    """The tensors that a file of `n_bytes` bytes says it has; reads the header alone.

    Raises:
        ValueError: it is not the header of a safetensors file; the message is one line.
    """
    length = int.from_bytes(file.read(8), "little")
    if n_bytes < 8 or length > min(n_bytes - 8, MOST_HEADER_BYTES):
        raise ValueError("its header is cut off or too long")
    heads = parse_json(file.read(length))
    if not isinstance(heads, dict):
        raise ValueError("its header is no JSON object")
    return {name: _head(name, said) for name, said in heads.items() if name != "__metadata__"}


def header_difference(heads: Mapping[str, TensorHead], shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """What keeps tensors from being the weights of an architecture, in one line; None if nothing does."""
    missing, strange = sorted(shapes.keys() - heads.keys()), sorted(heads.keys() - shapes.keys())
    if missing or strange:
        parts = (("missing", missing), ("not of it", strange))
        return "; ".join(f"{_some(names)} {what}" for what, names in parts if names)
    for name, shape in shapes.items():
        if heads[name].shape != shape:
            return f"{name} is of shape {shown(list(heads[name].shape))}, not {list(shape)}"
        if heads[name].dtype != DTYPE:
            return f"{name} is of type {shown(heads[name].dtype)}, not {DTYPE}"
    return None


def _head(name: str, said: Any) -> TensorHead:
    shape = said.get("shape") if isinstance(said, dict) else None
    dtype = said.get("dtype") if isinstance(said, dict) else None
    lengths: list[Any] = shape if isinstance(shape, list) else [None]
    if not isinstance(dtype, str) or not all(type(length) is int and length >= 0 for length in lengths):
        raise ValueError(f"its header says {shown(said)} of {shown(name)}")
    return TensorHead(dtype, tuple(lengths))


def _some(names: list[str]) -> str:
    first = ", ".join(shown(name).strip("'") for name in islice(names, 3))
    return f"{first}, ... ({len(names)} tensors)" if len(names) > 3 else first
