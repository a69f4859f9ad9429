"""What a network would consist of, without the memory for it: names and shapes of the parameters of an architecture."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


def shapes_of(build: Callable[[], nn.Module]) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every parameter of the module that `build` would make; takes milliseconds, whatever its size."""
    with _Blueprint():
        return {name: tuple(parameter.shape) for name, parameter in build().named_parameters()}


class _Blueprint(TorchFunctionMode):
    """Tensors that layers make to be filled hold nothing, and filling them does nothing.

    `torch.device("meta")` alone does the same and takes a second: filling such a tensor loads torch's Python references.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.empty:
            return func(*args, **{**kwargs, "device": "meta"})
        filled = args[0] if args else kwargs.get("tensor")
        name = getattr(func, "__name__", "")
        fills = name.endswith("_") and not name.startswith("_") and name != "requires_grad_"
        if fills and isinstance(filled, Tensor) and filled.is_meta:
            return filled
        return func(*args, **kwargs)
