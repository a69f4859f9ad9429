"""Programs: the one representation of an EML expression, batched.

A program is a list of eml nodes in topological order. Node i has a left and a right slot; a slot is a sparse linear
combination of sources, `bias + sum_t weight_t * source_t`, a source being the constant 1, a variable or an earlier node:

    node_i  = exp(slot_{2i}) - ln(slot_{2i+1})           (principal branch, complex arithmetic)
    y       = Re(slot_last)                              the readout

The exact grammar is the case of one term a slot, weight 1 and bias 0.

Legend: b batch, s slot (2i left of node i, 2i+1 right of node i, last = readout), t term, l token position; the last axis
of weights and biases, of length 2, is (real part, imaginary part).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from emlinit.generator.grammar import EML, ONE, PAD, PLUS, X1, C, J, W, arity, subtree_lengths
from emlinit.generator.records import Records


@dataclass(frozen=True, eq=False)
class Programs(Records):
    """A batch of programs of at most `n` nodes each (`s = 2n + 1` slots)."""

    source: Int64[Tensor, "b s t"]
    """What each term reads: 0 the constant 1, 1..v a variable, v + 1 + i node i."""
    weight: Float64[Tensor, "b s t 2"]
    """Complex factor of each term; an unused term reads source 0 with weight 0."""
    bias: Float64[Tensor, "b s 2"]
    """Complex constant of each slot."""
    n_nodes: Int64[Tensor, " b"]
    """Number of nodes that each program uses; slots of unused nodes are empty."""
    n_variables: int
    """Number of variables, v."""
    free_weight: Bool[Tensor, "b s t 2"]
    """Which real numbers in `weight` may be fitted to data."""
    free_bias: Bool[Tensor, "b s 2"]
    """Which real numbers in `bias` may be fitted to data."""

    def __len__(self) -> int:
        return self.source.shape[0]

    def __getitem__(self, index: int | slice | Tensor | list[int]) -> "Programs":
        """Some of the programs, in order, cut to the largest number of nodes among them (`rows` keeps all places); an int
        gives a batch of one."""
        if isinstance(index, int):
            index = slice(index, index + 1) if index != -1 else slice(index, None)
        rows = torch.arange(len(self), device=self.source.device)[index]
        picked = self.rows(rows)
        return picked._resize(int(picked.n_nodes.max()) if len(rows) else 0, picked.source.shape[2])

    @property
    def max_nodes(self) -> int:
        """Number of node places of the batch, n."""
        return self.source.shape[1] // 2

    @property
    def device(self) -> torch.device:
        """Where the tensors live."""
        return self.source.device

    def with_constants(self, weight: Float64[Tensor, "b s t 2"], bias: Float64[Tensor, "b s 2"]) -> "Programs":
        """The same structures with other numbers."""
        return replace(self, weight=weight, bias=bias)

    def used_terms(self) -> Bool[Tensor, "b s t"]:
        """Terms that take part: a non-zero weight, or one that may be fitted."""
        return (self.weight != 0).any(-1) | self.free_weight.any(-1)

    def is_exact(self) -> Bool[Tensor, " b"]:
        """Whether each program lies in the exact grammar: one term a slot, weight 1, bias 0, nothing free."""
        node_slots = 2 * self.n_nodes[:, None] > torch.arange(2 * self.max_nodes, device=self.device)
        needed = torch.cat([node_slots, node_slots.new_ones(len(self), 1)], dim=1)
        one_term = self.used_terms().sum(-1) == needed.long()
        unit = (self.weight[..., 0].sum(-1) == needed.double()) & (self.weight[..., 1] == 0).all(-1)
        plain = (self.bias == 0).all(-1) & ~self.free_bias.any(-1) & ~self.free_weight.any(-1).any(-1)
        return (one_term & unit & plain).all(-1)

    def n_free(self) -> Int64[Tensor, " b"]:
        """Number of free real constants of each program."""
        return self.free_weight.flatten(1).sum(-1) + self.free_bias.flatten(1).sum(-1)

    def n_written_nodes(self) -> Int64[Tensor, " b"]:
        """Number of nodes of each program written out as a tree: a node that several slots read counts each time."""
        leaves, used = self.n_variables + 1, self.used_terms()
        counts = torch.zeros(len(self), leaves + self.max_nodes, dtype=torch.int64, device=self.device)

        def read(first: int, end: int) -> Tensor:
            source = self.source[:, first:end].flatten(1)
            return (counts.gather(1, source) * used[:, first:end].flatten(1)).sum(1)

        for node in range(self.max_nodes):
            counts[:, leaves + node] = 1 + read(2 * node, 2 * node + 2)
        return read(2 * self.max_nodes, 2 * self.max_nodes + 1)

    def depth(self) -> Int64[Tensor, " b"]:
        """Nodes on the longest path from the readout."""
        first_node = self.n_variables + 1
        depth_of = torch.zeros(len(self), first_node + self.max_nodes, dtype=torch.int64, device=self.device)
        used = self.used_terms()
        for node in range(self.max_nodes):
            sources = self.source[:, 2 * node : 2 * node + 2].flatten(1)
            below = torch.where(used[:, 2 * node : 2 * node + 2].flatten(1), depth_of.gather(1, sources), 0)
            depth_of[:, first_node + node] = below.amax(-1) + 1
        readout = torch.where(used[:, -1], depth_of.gather(1, self.source[:, -1]), 0)
        return readout.amax(-1)

    def _resize(self, n_nodes: int, n_terms: int) -> "Programs":
        """Grow or cut the node and term places; only empty places may be cut."""
        if n_nodes == self.max_nodes and n_terms == self.source.shape[2]:
            return self
        keep, terms = 2 * min(n_nodes, self.max_nodes), min(n_terms, self.source.shape[2])

        def fit_slots(old: Tensor) -> Tensor:
            new = old.new_zeros(len(self), 2 * n_nodes + 1, *old.shape[2:])
            new[:, :keep] = old[:, :keep]
            new[:, -1] = old[:, -1]
            return new

        def fit_terms(old: Tensor) -> Tensor:
            new = old.new_zeros(*old.shape[:2], n_terms, *old.shape[3:])
            new[:, :, :terms] = old[:, :, :terms]
            return fit_slots(new)

        return Programs(
            fit_terms(self.source),
            fit_terms(self.weight),
            fit_slots(self.bias),
            self.n_nodes,
            self.n_variables,
            fit_terms(self.free_weight),
            fit_slots(self.free_bias),
        )

    @classmethod
    def cat(cls, parts: Sequence["Programs"]) -> "Programs":
        """Join batches over the same variables, padding to the largest number of nodes and terms.

        Raises:
            ValueError: no batch given, or different numbers of variables.
        """
        if not parts or len({part.n_variables for part in parts}) != 1:
            raise ValueError("Programs.cat needs at least one batch, all with the same number of variables")
        n_nodes = max(part.max_nodes for part in parts)
        n_terms = max(part.source.shape[2] for part in parts)
        return super().cat([part._resize(n_nodes, n_terms) for part in parts])


def programs_from_tokens(tokens: Int64[Tensor, "b l"], constants: Float64[Tensor, "b l"], n_variables: int) -> Programs:
    """Read complete prefix sequences as programs: products are multiplied out, sums become terms of their slot.

    All positions of all sequences at once. A position that is an operand of `eml` (or the whole expression) begins a slot
    with the factor `value * i**turns = 1`; one below `+`, `w` or `j` belongs to the slot of its parent and has its factor,
    times the constant of `w` and `j`. Nodes are numbered from the end of the sequence, so that children come before their
    parents.
    """
    places = _places(tokens)
    parent, kind = places.parent, places.parent_kind
    value = torch.ones(tokens.shape, dtype=torch.float64, device=tokens.device)
    turns = torch.zeros_like(places.slot)  # powers of i
    is_factor = (kind == W) | (kind == J)
    free = torch.zeros_like(is_factor)
    if places.waves:
        factor = torch.where(is_factor, constants.gather(1, parent), 1.0)
        for now in places.waves:
            value = torch.where(now, value.gather(1, parent) * factor, value)
            turns = torch.where(now, turns.gather(1, parent) + (kind == J), turns)
            free = torch.where(now, free.gather(1, parent) | is_factor, free)
        value = torch.where(tokens == C, value * constants, value)
    else:
        value = torch.where(tokens == C, constants, value)
    free = free | (tokens == C)
    source = torch.where(tokens == EML, n_variables + 1 + places.node, (tokens - X1 + 1).clamp_min(0))
    return _fill_slots(tokens, places, value, turns % 4, free, source, n_variables)


@dataclass(frozen=True, eq=False)
class _Places:
    """Where the tokens of prefix sequences go."""

    slot: Int64[Tensor, "b l"]
    """Slot that each position belongs to."""
    node: Int64[Tensor, "b l"]
    """Number of the node that each `eml` is."""
    parent: Int64[Tensor, "b l"]
    """Position of the operator that each position is an operand of; 0 at the beginning."""
    parent_kind: Int64[Tensor, "b l"]
    """Its kind, `PAD` at the beginning."""
    waves: list[Bool[Tensor, "b l"]]
    """The positions that take their slot from their parent, one operator of a slot deeper each time."""
    n_nodes: Int64[Tensor, " b"]
    """Nodes of each program."""
    n_slots: int
    """Slots of the batch."""


def _places(tokens: Int64[Tensor, "b l"]) -> _Places:
    n_rows, length = tokens.shape
    is_eml = tokens == EML
    n_nodes = is_eml.sum(-1)
    node = n_nodes[:, None] - is_eml.cumsum(-1)
    n_slots = 2 * (int(n_nodes.max()) if n_rows else 0) + 1
    parent = _parents(tokens)
    kind = torch.where(parent < 0, PAD, tokens.gather(1, parent.clamp_min(0)))
    side = (torch.arange(length, device=tokens.device) > parent + 1).long()  # 0 left, 1 right
    parent = parent.clamp_min(0)
    slot = torch.where(kind == EML, 2 * node.gather(1, parent) + side, n_slots - 1)
    settled = ~((kind == PLUS) | (kind == W) | (kind == J))
    waves = []
    while not bool(settled.all()):
        now = ~settled & settled.gather(1, parent)
        slot = torch.where(now, slot.gather(1, parent), slot)
        settled |= now
        waves.append(now)
    return _Places(slot, node, parent, kind, waves, n_nodes, n_slots)


def _parents(tokens: Tensor) -> Tensor:
    """Position of the operator that each position is an operand of; -1 at the beginning, anything at padding."""
    n_rows, length = tokens.shape
    place = torch.arange(length, device=tokens.device).expand(n_rows, -1)
    spans = torch.nn.functional.pad(subtree_lengths(tokens), (0, 1))
    # A first operand stands behind its operator, a second one behind the first.
    second = torch.where(arity(tokens) == 2, place + 1 + spans[:, 1:], length)
    return torch.nn.functional.pad(place - 1, (0, 1)).scatter(1, second, place)[:, :length]


def term_places(tokens: Int64[Tensor, "b l"]) -> tuple[Bool[Tensor, "b l"], Int64[Tensor, "b l"], Int64[Tensor, "b l"]]:
    """Which tokens of complete prefix sequences are the source of a term (1, a variable or a node), and of the program that
    `programs_from_tokens` makes of them the slot and the number of that term; anything at other tokens."""
    places = _places(tokens)
    is_term, term = _terms(tokens, places)
    return is_term, places.slot, term


def _terms(tokens: Tensor, places: _Places) -> tuple[Bool[Tensor, "b l"], Int64[Tensor, "b l"]]:
    """Which positions are terms, and the number of each in its slot."""
    length, slot, n_slots = tokens.shape[1], places.slot, places.n_slots
    is_term = (tokens == EML) | (tokens == ONE) | (tokens >= X1)
    term = torch.zeros_like(slot)
    if bool((tokens == PLUS).any()):
        # Number of the earlier terms of the same slot: among all keys those from the slot's first one on.
        keys = slot * length + torch.arange(length, device=tokens.device)
        ascending = torch.where(is_term, keys, n_slots * length).sort(-1).values
        term = torch.searchsorted(ascending, keys) - torch.searchsorted(ascending, slot * length)
    return is_term, term


def _fill_slots(
    tokens: Tensor, places: _Places, value: Tensor, turns: Tensor, free: Tensor, source: Tensor, n_variables: int
) -> Programs:
    """Scatter what each position contributes to its slot: a constant to the bias, any other source to the next term."""
    n_rows, device = len(tokens), tokens.device
    slot, n_nodes, n_slots = places.slot, places.n_nodes, places.n_slots
    is_term, term = _terms(tokens, places)
    row, place = is_term.nonzero(as_tuple=True)
    n_terms = 1 + (int(term[row, place].max()) if len(row) else 0)
    value = torch.where(turns < 2, value, -value)
    part = turns % 2  # 0 real, 1 imaginary
    sources = torch.zeros(n_rows, n_slots, n_terms, dtype=torch.int64, device=device)
    weight = torch.zeros(n_rows, n_slots, n_terms, 2, dtype=torch.float64, device=device)
    free_weight = torch.zeros(n_rows, n_slots, n_terms, 2, dtype=torch.bool, device=device)
    bias = torch.zeros(n_rows, n_slots, 2, dtype=torch.float64, device=device)
    free_bias = torch.zeros(n_rows, n_slots, 2, dtype=torch.bool, device=device)
    sources[row, slot[row, place], term[row, place]] = source[row, place]
    of_weight = (row, slot[row, place], term[row, place], part[row, place])
    weight[of_weight] = value[row, place]
    free_weight[of_weight] = free[row, place]
    row, place = (tokens == C).nonzero(as_tuple=True)
    of_bias = (row, slot[row, place], part[row, place])
    bias.index_put_(of_bias, value[row, place], accumulate=True)
    free_bias[of_bias] = True
    return Programs(sources, weight, bias, n_nodes, n_variables, free_weight, free_bias)


def tokens_from_program(programs: Programs, index: int = 0) -> tuple[Int64[Tensor, " l"], Float64[Tensor, " l"]]:
    """Write one program as a prefix sequence in slot normal form; a node that several slots read is repeated.

    A slot is a right-leaning sum: the constant, then 1, the variables in order, the nodes (small before large). A factor
    of exactly 1 that is not free has no `w`; a complex factor is a `w` and a `j` term; an imaginary constant is `j 1`.
    """
    source, weight, bias = (t[index].tolist() for t in (programs.source, programs.weight, programs.bias))
    free_weight, free_bias = programs.free_weight[index].tolist(), programs.free_bias[index].tolist()
    first_node = programs.n_variables + 1
    cache: dict[int, list[tuple[int, float]]] = {}

    def node(i: int) -> list[tuple[int, float]]:
        if i not in cache:
            cache[i] = [(EML, 0.0), *slot(2 * i), *slot(2 * i + 1)]
        return cache[i]

    def slot(s: int) -> list[tuple[int, float]]:
        parts: list[list[tuple[int, float]]] = []
        if bias[s][0] != 0 or free_bias[s][0]:
            parts.append([(C, bias[s][0])])
        if bias[s][1] != 0 or free_bias[s][1]:
            parts.append([(J, bias[s][1]), (ONE, 0.0)])
        terms = []
        for read, (re, im), (free_re, free_im) in zip(source[s], weight[s], free_weight[s], strict=True):
            leaf = (ONE, 0.0) if read == 0 else (X1 + read - 1, 0.0)
            body = [leaf] if read < first_node else node(read - first_node)
            order = (read >= first_node, len(body), [kind for kind, _ in body])
            if re != 0 or free_re:
                terms.append((order, 0, body if re == 1 and not free_re else [(W, re), *body]))
            if im != 0 or free_im:
                terms.append((order, 1, [(J, im), *body]))
        parts += [words for _, _, words in sorted(terms, key=lambda item: (item[0], item[1]))]
        if not parts:
            return [(C, 0.0)]
        joined = parts[-1]
        for part in reversed(parts[:-1]):
            joined = [(PLUS, 0.0), *part, *joined]
        return joined

    words = slot(len(source) - 1)
    return (
        torch.tensor([kind for kind, _ in words], dtype=torch.int64),
        torch.tensor([value for _, value in words], dtype=torch.float64),
    )
