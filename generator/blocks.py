"""Programs in blocks: rows of a batch and a range of points, small enough for their buffers to stay in the cache.

Legend: b batch, p point, v input variable, s slot, t term.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from emlinit.generator.program import Programs

_BLOCK_ELEMENTS = 3 << 14  # rows x points of one buffer row-block: 384 KiB in float64, a few of them fit in L2
_CHUNK_POINTS = 2048


def blocks(programs: Programs, rows: Tensor, n_points: int, *, times: int = 1) -> Iterator[tuple[Tensor, slice]]:
    """Row indices, largest programs first, and a range of points: blocks whose buffers stay in the cache, or so many times
    as large ones where there are many operations and few rows."""
    if not len(rows) or not n_points:
        return
    rows = rows[torch.argsort(programs.n_nodes[rows], descending=True, stable=True)]
    scale = times if rows.device.type == "cpu" else 256  # an accelerator wants large launches, not a warm cache
    step = max(_BLOCK_ELEMENTS * scale // min(n_points, _CHUNK_POINTS * scale), 1)
    for block in torch.split(rows, step):
        for start in range(0, n_points, _CHUNK_POINTS * scale):
            yield block, slice(start, min(start + _CHUNK_POINTS * scale, n_points))


class Prepared:
    """What all blocks of a batch need to know of its slots, worked out once."""

    def __init__(self, programs: Programs, dtype: torch.dtype) -> None:
        self.n_nodes = programs.n_nodes
        self.n_variables = programs.n_variables
        self.source = programs.source
        self.weight, self.bias = programs.weight.to(dtype), programs.bias.to(dtype)
        used = programs.used_terms()
        place = torch.arange(used.shape[2], device=used.device)
        self.n_terms = torch.where(used, place + 1, 1).amax(-1)  # (b, s)
        # A slot of one bare source needs no arithmetic at all; nor does one of a node that the program lacks.
        bare = (self.bias == 0).all(-1) & (self.weight[:, :, 0, 0] == 1) & (self.weight[:, :, 0, 1] == 0)
        slot = torch.arange(used.shape[1], device=used.device)
        missing = (slot >= 2 * self.n_nodes[:, None]) & (slot < used.shape[1] - 1)
        self.bare = bare & (self.n_terms == 1) | missing


class Block:
    """The rows of one block and where each source lies in its buffers: [1], variables, then node-major node rows."""

    def __init__(self, prepared: Prepared, rows: Tensor, x: Tensor, points: slice) -> None:
        n_nodes = prepared.n_nodes[rows]
        self.n_nodes = int(n_nodes[0])
        self.n_rows = len(rows)
        self.n_active = (n_nodes[None] > torch.arange(self.n_nodes, device=rows.device)[:, None]).sum(-1).tolist()
        last = prepared.source.shape[1] - 1
        slots = torch.tensor([*range(2 * self.n_nodes), last], device=rows.device)
        self.bare = prepared.bare[rows].all(0)[slots].tolist()
        most = prepared.n_terms[rows].amax(0)[slots].tolist()
        self.n_terms = [1 if bare else terms for bare, terms in zip(self.bare, most, strict=True)]
        pick = (rows[:, None], slots[None], slice(0, max(self.n_terms)))
        source, self.weight, self.bias = prepared.source[pick], prepared.weight[pick], prepared.bias[pick[:2]]
        # The same as columns over points: real part, imaginary part, their sizes added up; by slot and term.
        re, im = self.weight.unbind(-1)
        self._weights = torch.stack([re, im, re.abs() + im.abs()]).permute(2, 3, 0, 1)[..., None].contiguous()
        self.zero = self.bias.new_zeros(())
        re, im = self.bias.unbind(-1)
        self._biases = torch.stack([re, im, re.abs() + im.abs()]).permute(2, 0, 1)[..., None].contiguous()
        v = prepared.n_variables
        local = torch.arange(self.n_rows, device=rows.device)[:, None, None]
        shared = x.dim() == 2
        self.x = (x[points, :v].T if shared else x[rows][:, points, :v].permute(2, 0, 1).flatten(0, 1)).contiguous()
        self.first_node_row = 1 + len(self.x)
        # A source's first row and the number of rows it takes: one if all programs share it, else one a program.
        index = torch.arange(v + 1 + self.n_nodes, device=rows.device)
        own = (index > v) | ((index > 0) & (not shared))
        first = torch.cat([torch.zeros(1, dtype=torch.int64, device=rows.device), torch.where(own, self.n_rows, 1)])
        self.row = torch.where(own[source], first.cumsum(0)[source] + local, first.cumsum(0)[source])
        self.row = self.row.permute(1, 2, 0).contiguous()  # (slot, term, program)

    def rows(self, slot: int, active: int) -> tuple[Tensor, ...]:
        """Buffer rows that each term of a slot of the first `active` programs reads."""
        return self.row[slot, : self.n_terms[slot], :active].unbind(0)

    def weights(self, slot: int, active: int) -> list[tuple[Tensor, ...]]:
        """(Real part, imaginary part, their sizes added up) of each weight of a slot of the first `active` programs."""
        columns = self._weights[slot, : self.n_terms[slot], :, :active].flatten(0, 1).unbind(0)
        return [columns[at : at + 3] for at in range(0, len(columns), 3)]

    def biases(self, slot: int, active: int) -> tuple[Tensor, ...]:
        """(Real part, imaginary part, their sizes added up) of a slot's constant in the first `active` programs."""
        return self._biases[slot, :, :active].unbind(0)

    def buffer(self, fill_x: bool) -> Tensor:
        """Rows of values (or, without `fill_x`, of zeros): [1], variables, nodes; unused node rows are 0."""
        n_points = self.x.shape[-1]
        buffer = self.x.new_zeros(self.first_node_row + self.n_nodes * self.n_rows, n_points)
        if fill_x:
            buffer[0] = 1.0
            buffer[1 : self.first_node_row] = self.x
        return buffer

    def node_rows(self, node: int) -> slice:
        """Buffer rows of one node of the active programs."""
        start = self.first_node_row + node * self.n_rows
        return slice(start, start + self.n_active[node])
