"""Canonical labels: no two spellings of one function.

A subtree whose values equal those of a smaller known tree - in a table of all small functions, or elsewhere in the same
tree - is replaced by it. Without this the network would be asked to guess between synonyms.

Legend: b batch, l token position (m after rewriting), n tree node, m probe point.
"""

import torch
from einops import rearrange
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from emlinit.generator.evaluate import evaluate_nodes
from emlinit.generator.functions.cache import load_table
from emlinit.generator.functions.table import INVALID_KEY, FunctionTable, probe_sets, value_keys
from emlinit.generator.grammar import EML, PAD, subtree_lengths
from emlinit.generator.program import programs_from_tokens

_JOIN = 0x2545F4914F6CDD1D  # odd: no two keys are joined to the same
_LONGEST = torch.iinfo(torch.int16).max
"""Tokens of a spelling that does not exist."""


class Canonicaliser:
    """Rewrites exact trees over `n_variables` variables; holds the table of small functions."""

    def __init__(self, n_variables: int, table_size: int = 5, device: torch.device | str = "cpu") -> None:
        """Read the table from the cache or build it: in three variables, 0.1 s for size 4 and 1 s for size 5.

        Args:
            n_variables: variables of the trees.
            table_size: most nodes of the small functions.
            device: where the trees will be.
        """
        self.n_variables = n_variables
        self.probes = probe_sets(n_variables).to(device)
        self.table: FunctionTable = load_table(n_variables, table_size).to(device)

    def node_keys(self, tokens: Int64[Tensor, "b l"]) -> Int64[Tensor, "b l"]:
        """Key of the function at each `eml` token: its value key at the first set of probes where it is certified and says
        something of all its parts, or else one of its values at all sets; `INVALID_KEY` elsewhere and if there are none."""
        keys: Tensor = self._keys_at(tokens, self.probes[:1])[0]
        for ask in (lambda some: self._keys_at(some, self.probes[1:]), self._joint_keys):
            rows = torch.nonzero(((keys == INVALID_KEY) & (tokens == EML)).any(-1))[:, 0]
            for found in ask(tokens[rows]) if len(rows) else ():
                keys[rows] = torch.where(keys[rows] == INVALID_KEY, found, keys[rows])
        return keys

    def root_keys(self, tokens: Int64[Tensor, "b l"]) -> Int64[Tensor, "b k"]:
        """All keys of whole trees: a function is known again where it has any one of them."""
        keys = torch.cat([self._keys_at(tokens, self.probes), self._joint_keys(tokens)])
        return keys[:, :, 0].T

    def _joint_keys(self, tokens: Int64[Tensor, "b l"]) -> Int64[Tensor, "1 b l"]:
        """One key of the values at all sets of probes, whatever they say of the function's parts."""
        every = self._keys_at(tokens, self.probes, faithful=False)
        total = torch.zeros_like(tokens)
        for keys in every:
            total = (total ^ keys) * _JOIN
        known = (every != INVALID_KEY).any(0)
        return torch.where(known, (total ^ (total >> 29)).abs(), INVALID_KEY)[None]

    def _keys_at(
        self, tokens: Int64[Tensor, "b l"], sets: Float64[Tensor, "k m v"], *, faithful: bool = True
    ) -> Int64[Tensor, "k b l"]:
        zeros = torch.zeros(tokens.shape, dtype=torch.float64, device=tokens.device)
        programs = programs_from_tokens(tokens, zeros, self.n_variables)
        nodes = evaluate_nodes(programs, sets.flatten(0, 1), faithful=faithful)
        keys = value_keys(*(rearrange(part, "b n (k m) -> k b n m", k=len(sets)) for part in nodes))
        is_eml = tokens == EML
        node = programs.n_nodes[:, None] - is_eml.cumsum(-1)  # nodes are numbered from the end
        if not keys.shape[2]:
            return torch.full_like(tokens, INVALID_KEY).expand(len(sets), -1, -1)
        own = keys.gather(2, node.clamp(0, keys.shape[2] - 1).expand(len(sets), -1, -1))
        return torch.where(is_eml, own, INVALID_KEY)

    def __call__(
        self, tokens: Int64[Tensor, "b l"], passes: int = 2
    ) -> tuple[Int64[Tensor, "b m"], Int64[Tensor, " b"]]:
        """Canonical tokens, and the key of each whole function (`INVALID_KEY` if it cannot be had at the probes).

        A replacement taken from the same tree may itself hold synonyms; each further pass resolves one level of those. What
        a pass leaves as it is, the next one would leave, too: only the few trees that change are looked at again.
        """
        keys = self.node_keys(tokens)
        canonical, root = tokens.clone(), keys[:, 0].clone()
        rows = torch.arange(len(tokens), device=tokens.device)
        changed = torch.zeros_like(root, dtype=torch.bool)
        for _ in range(passes):
            changes, tokens, keys = self._rewrite(tokens, keys)
            if not len(tokens):
                break
            rows = rows[changes]
            canonical[rows] = torch.nn.functional.pad(tokens, (0, canonical.shape[1] - tokens.shape[1]))
            changed[rows] = True
        if bool(changed.any()):
            root[changed] = self.node_keys(canonical[changed])[:, 0]
        longest = int((canonical != PAD).sum(-1).max()) if len(canonical) else 1
        return canonical[:, :longest], root

    def _rewrite(self, tokens: Tensor, keys: Tensor) -> tuple[Bool[Tensor, " b"], Tensor, Tensor]:
        """Which trees have a subtree with a shorter spelling, these trees with it, and the keys of their nodes.

        The nodes below a spelling from the table get no key: they are as short as can be, and so would any tree be that
        equals one of them.
        """
        device, place = tokens.device, torch.arange(tokens.shape[1], device=tokens.device)
        spans = subtree_lengths(tokens)
        # The shortest spelling of each subtree: within the tree, then in the table.
        same = (keys[:, :, None] == keys[:, None, :]) & (keys != INVALID_KEY)[:, :, None]
        best, source = torch.where(same, spans[:, None, :].short(), _LONGEST).min(-1)
        found = self.table.find(keys)
        table_span = torch.where(found >= 0, 2 * self.table.sizes[found] + 1, _LONGEST)
        shortest = torch.minimum(best.long(), table_span)
        replace = shortest < spans
        changes = replace.any(-1)
        tokens, spans, replace, shortest = tokens[changes], spans[changes], replace[changes], shortest[changes]
        n_rows, length = tokens.shape
        if not n_rows:
            return changes, tokens, keys[changes]
        from_table = (table_span < best)[changes] & replace
        source = torch.where(replace, source[changes], place)
        # Outermost replacements only; what they cover, from their beginning to their end, is dropped.
        ends = replace.long()
        covers = torch.nn.functional.pad(ends, (0, 1)).scatter_add(1, place + spans, -ends).cumsum(-1)[:, :length]
        outermost = replace & (covers == 1)
        kept = (covers == 0) & (tokens != PAD)
        width = torch.where(outermost, shortest, kept.long())
        end = width.cumsum(-1)
        slot = torch.arange(int(end[:, -1].max()), device=device)
        origin = torch.searchsorted(end, slot.expand(n_rows, -1).contiguous(), right=True).clamp_max(length - 1)
        offset = slot - (end - width).gather(1, origin)
        place = (source.gather(1, origin) + offset).clamp_max(length - 1)
        table_width = self.table.tokens.shape[1]
        row = found[changes].gather(1, origin).clamp_min(0)
        known = self.table.tokens[row, offset.clamp_max(table_width - 1)].long()
        from_table, inside = from_table.gather(1, origin), slot < end[:, -1:]
        out = torch.where(from_table, known, tokens.gather(1, place))
        keyless = (from_table & (offset > 0)) | ~inside
        keys = keys[changes].gather(1, place).masked_fill(keyless, INVALID_KEY)
        return changes, torch.where(inside, out, PAD), keys
