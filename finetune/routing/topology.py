"""Topologies: which sources each slot of a routed EML network may take.

The design's three shapes differ in nothing else:

    full_tree(depth)   the paper's master formula: a slot takes 1, a variable, or its own child node
    layered(widths)    EQL's shape: a slot takes 1, a variable, or any node of an earlier layer
    program(n_nodes)   GMEQL's shape, the program: a slot takes 1, a variable, or any earlier node

Sources are numbered as in `Programs`: 0 the constant 1, 1..v the variables, v + 1 + i node i. Nodes are numbered so
that children come before parents and the nodes of a level stand together: a level is evaluated at once.

Legend: s slot (2i left of node i, 2i+1 right of node i, last = readout), c choice.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from emlinit.generator.errors import UserError


@dataclass(frozen=True, eq=False)
class Topology:
    """The allowed sources of each slot, and the order of evaluation."""

    sources: Int64[Tensor, "s c"]
    """Source that each choice stands for; 0 on padding."""
    allowed: Bool[Tensor, "s c"]
    """False on padding: slots have different numbers of choices. The first choice is always the constant 1."""
    levels: tuple[tuple[int, int], ...]
    """First node and end (exclusive) of each level, deepest first."""
    n_variables: int
    """Number of variables, v."""
    n_terms: int = 1
    """Sources that a slot adds up; 1 in the exact grammar."""
    weighted: bool = False
    """Whether terms have a complex factor and slots a constant, all trained; False in the exact grammar."""

    @property
    def n_nodes(self) -> int:
        """Number of nodes, n."""
        return self.sources.shape[0] // 2

    @property
    def n_slots(self) -> int:
        """Number of slots, s = 2n + 1."""
        return self.sources.shape[0]

    @property
    def n_choices(self) -> int:
        """Widest slot's number of choices, c."""
        return self.sources.shape[1]

    def to(self, device: torch.device | str) -> "Topology":
        """The same topology on another device."""
        return replace(self, sources=self.sources.to(device), allowed=self.allowed.to(device))


def full_tree(depth: int, n_variables: int, *, weighted: bool = False, n_terms: int = 1) -> Topology:
    """The full binary tree of `depth` node levels (2^depth - 1 nodes).

    Node i stands at heap position n - 1 - i (root 0, children of h at 2h + 1 and 2h + 2): see `heap_slots`.
    """
    _check(n_variables, depth=depth, n_terms=n_terms)
    n = 2**depth - 1
    leaves = list(range(n_variables + 1))
    choices = []
    for node in range(n):
        for child in (2 * (n - 1 - node) + 1, 2 * (n - 1 - node) + 2):
            choices.append(leaves + ([n_variables + 1 + n - 1 - child] if child < n else []))
    choices.append([*leaves, n_variables + n])
    levels = tuple((n - 2 ** (level + 1) + 1, n - 2**level + 1) for level in reversed(range(depth)))
    return _topology(choices, levels, n_variables, n_terms, weighted)


def layered(widths: Sequence[int], n_variables: int, *, weighted: bool = False, n_terms: int = 1) -> Topology:
    """Layers of `widths` nodes, the first nearest to the variables; a slot may take any node of an earlier layer."""
    for width in widths:
        _check(n_variables, width=width, n_terms=n_terms)
    if not widths:
        raise UserError("layered needs at least one layer: give the number of nodes of each")
    choices: list[list[int]] = []
    levels: list[tuple[int, int]] = []
    first = 0
    for width in widths:
        choices += [list(range(n_variables + 1 + first))] * (2 * width)
        levels.append((first, first + width))
        first += width
    choices.append(list(range(n_variables + 1 + first)))
    return _topology(choices, tuple(levels), n_variables, n_terms, weighted)


def program(n_nodes: int, n_variables: int, *, weighted: bool = False, n_terms: int = 1) -> Topology:
    """A program of `n_nodes` nodes: a slot may take any earlier node."""
    _check(n_variables, n_nodes=n_nodes, n_terms=n_terms)
    return layered([1] * n_nodes, n_variables, weighted=weighted, n_terms=n_terms)


def heap_slots(depth: int, heap: Int64[Tensor, "*l"], side: Int64[Tensor, "*l"]) -> Int64[Tensor, "*l"]:
    """Slot of `full_tree(depth)` on a side (0 left, 1 right) of the node at a heap position."""
    node: Tensor = 2**depth - 2 - heap
    return 2 * node + side


def _check(n_variables: int, **positive: int) -> None:
    for name, value in {"n_variables": n_variables, **positive}.items():
        if value < 1:
            raise UserError(f"{name} is {value}: it must be at least 1")


def _topology(
    choices: list[list[int]], levels: tuple[tuple[int, int], ...], n_variables: int, n_terms: int, weighted: bool
) -> Topology:
    if n_terms > 1 and not weighted:
        raise UserError(f"n_terms={n_terms} needs weighted=True: an exact slot holds one source")
    width = max(len(row) for row in choices)
    sources = torch.tensor([row + [0] * (width - len(row)) for row in choices])
    allowed = torch.tensor([[True] * len(row) + [False] * (width - len(row)) for row in choices])
    return Topology(sources, allowed, levels, n_variables, n_terms, weighted)
