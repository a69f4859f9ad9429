"""torch.compile for the network of a run, and a clear word where that cannot work."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from emlinit.generator.errors import UserError
from emlinit.generator.foreign import reason

MOST_SHAPES = 512
"""Shapes of minibatches that are compiled; torch's own limit is 8, beyond which it goes on uncompiled without a word."""


def compiled(network: nn.Module, device: torch.device) -> Callable[..., Any]:
    """The network compiled for each shape of its input, at the first use of the shape (tens of seconds).

    Raises:
        UserError: nothing can be compiled here, as there is no compiler or none that torch can use.
    """
    import torch._dynamo

    _try_out(device)
    torch._dynamo.config.recompile_limit = MOST_SHAPES
    torch._dynamo.config.accumulated_recompile_limit = MOST_SHAPES
    return torch.compile(network, dynamic=False)


def _try_out(device: torch.device) -> None:
    """Compile something small, forward and backward: what is missing differs from machine to machine, as do the errors."""
    try:
        value = torch.ones(8, device=device, requires_grad=True)
        torch.compile(lambda x: (x.sin() * x).sum(), dynamic=False)(value).backward()
    except Exception as problem:  # of the compiler, the loader or torch's own layers, each with kinds of its own
        raise UserError(
            f"--compile cannot work here ({reason(problem)}): install a C++ compiler and Python's headers, or leave it out"
        ) from problem
