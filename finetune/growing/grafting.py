"""Putting parts of programs together: the values of everything in a program, and a part of one in a slot of another.

Legend: b program, s slot, t term, n source (1, the variables, the nodes), p point, v input variable.
"""

from dataclasses import replace

import torch
from jaxtyping import Complex128, Float64, Int64
from torch import Tensor

from emlinit.generator.node import eml
from emlinit.generator.program import Programs
from emlinit.generator.tidy import drop_dead_nodes, drop_unused_terms


def values_of(programs: Programs, x: Tensor) -> tuple[Complex128[Tensor, "b n p"], Complex128[Tensor, "b s p"]]:
    """Values of all sources (1, the variables, the nodes) and of all slots."""
    b, s, _ = programs.source.shape
    leaves = programs.n_variables + 1
    value = torch.zeros(b, leaves + s // 2, len(x), dtype=torch.complex128, device=x.device)
    value[:, 0] = 1
    value[:, 1:leaves] = x.T.to(torch.complex128)
    weight, bias = as_complex(programs.weight), as_complex(programs.bias)
    slots = torch.zeros(b, s, len(x), dtype=torch.complex128, device=x.device)

    def fill(slot: int) -> None:
        read = value.gather(1, programs.source[:, slot, :, None].expand(-1, -1, len(x)))
        slots[:, slot] = bias[:, slot, None] + (weight[:, slot, :, None] * read).sum(1)

    for node in range(s // 2):
        fill(2 * node)
        fill(2 * node + 1)
        value[:, leaves + node] = eml(slots[:, 2 * node], slots[:, 2 * node + 1])
    fill(s - 1)
    return value, slots


def as_complex(pair: Float64[Tensor, "*n 2"]) -> Complex128[Tensor, "*n"]:
    """Numbers whose real and imaginary parts lie side by side, as those of a program do."""
    return torch.view_as_complex(pair.contiguous())


def grafted(programs: Programs, slot: Int64[Tensor, " b"], parts: Programs) -> Programs:
    """Each program with the readout of a part added to one of its slots.

    Args:
        programs: b programs.
        slot: of each, the one that is added to.
        parts: b programs over the same variables.
    """
    leaves, n_terms = programs.n_variables + 1, programs.source.shape[2]
    width = n_terms + parts.source.shape[2]
    old, new = programs._resize(programs.max_nodes, width), parts._resize(parts.max_nodes, width)
    first = new.max_nodes  # the nodes of the part come first
    old = replace(old, source=torch.where(old.source >= leaves, old.source + first, old.source))
    rows = torch.arange(len(programs), device=programs.device)

    def joined(name: str) -> Tensor:
        mine, theirs = getattr(old, name).clone(), getattr(new, name)
        if name in ("bias", "free_bias"):
            held = mine[rows, slot]
            mine[rows, slot] = held | theirs[:, -1] if held.dtype == torch.bool else held + theirs[:, -1]
        else:
            mine[rows, slot, n_terms:] = theirs[:, -1, : width - n_terms]
        return torch.cat([theirs[:, :-1], mine], 1)

    together = Programs(
        joined("source"),
        joined("weight"),
        joined("bias"),
        first + programs.n_nodes,
        programs.n_variables,
        joined("free_weight"),
        joined("free_bias"),
    )
    return drop_unused_terms(drop_dead_nodes(together))
