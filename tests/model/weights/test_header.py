"""A header is read alone, and what keeps it from being that of an architecture is said."""

import io

import pytest
import torch
from safetensors.torch import save

from emlinit.model.weights.header import TensorHead, header_difference, read_header, weight_bytes

SHAPES = {"a": (2, 3), "b": ()}


def test_a_header_is_that_of_the_tensors_saved() -> None:
    data = save({"a": torch.zeros(2, 3), "b": torch.zeros(())}, metadata={"format": "pt"})
    heads = read_header(io.BytesIO(data), len(data))
    assert heads == {name: TensorHead("F32", shape) for name, shape in SHAPES.items()}
    assert header_difference(heads, SHAPES) is None
    assert weight_bytes(SHAPES) == 28


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"b": None}, "b missing"),
        ({"c": TensorHead("F32", ())}, "c not of it"),
        ({"a": TensorHead("F32", (3, 2))}, "a is of shape [3, 2], not [2, 3]"),
        ({"a": TensorHead("F16", (2, 3))}, "a is of type 'F16', not F32"),
    ],
)
def test_differences_are_named(changes: dict[str, TensorHead | None], message: str) -> None:
    heads = {name: TensorHead("F32", shape) for name, shape in SHAPES.items()} | changes
    assert header_difference({name: head for name, head in heads.items() if head is not None}, SHAPES) == message


@pytest.mark.parametrize("n_bytes", [0, 7, 8, 100])
def test_a_header_that_is_cut_off_is_refused(n_bytes: int) -> None:
    with pytest.raises(ValueError, match=r"cut off or too long|codec"):
        read_header(io.BytesIO(b"\xff" * n_bytes), n_bytes)
