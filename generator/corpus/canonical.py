"""Canonical labels: no two spellings of one function.

A subtree whose values equal those of a smaller known tree - in a table of all small functions, or elsewhere in the same
tree - is replaced by it. Without this the network would be asked to guess between synonyms.

Legend: b batch, l token position (m after rewriting), n tree node, m probe point.
"""

import torch
from jaxtyping import Int64
from torch import Tensor

from emlinit.generator.evaluate import evaluate_nodes
from emlinit.generator.functions.table import INVALID_KEY, FunctionTable, build_table, probe_points, value_keys
from emlinit.generator.grammar import EML, PAD, subtree_lengths
from emlinit.generator.program import programs_from_tokens


class Canonicaliser:
    """Rewrites exact trees over `n_variables` variables; holds the table of small functions."""

    def __init__(self, n_variables: int, table_size: int = 5) -> None:
        """Build the table: in three variables, 0.1 s for size 4 and 1 s for size 5."""
        self.n_variables = n_variables
        self.probes = probe_points(n_variables)
        self.table: FunctionTable = build_table(n_variables, table_size, self.probes)

    def node_keys(self, tokens: Int64[Tensor, "b l"]) -> Int64[Tensor, "b l"]:
        """Value key of the function at each `eml` token; `INVALID_KEY` elsewhere and where a probe is not certified."""
        programs = programs_from_tokens(tokens, torch.zeros(tokens.shape, dtype=torch.float64), self.n_variables)
        re, im = evaluate_nodes(programs, self.probes)
        keys = value_keys(re, im)
        is_eml = tokens == EML
        node = programs.n_nodes[:, None] - is_eml.cumsum(-1)  # nodes are numbered from the end
        if not keys.shape[1]:
            return torch.full_like(tokens, INVALID_KEY)
        return torch.where(is_eml, keys.gather(1, node.clamp(0, keys.shape[1] - 1)), INVALID_KEY)

    def __call__(
        self, tokens: Int64[Tensor, "b l"], passes: int = 2
    ) -> tuple[Int64[Tensor, "b m"], Int64[Tensor, " b"]]:
        """Canonical tokens, and the key of each whole function (`INVALID_KEY` if it cannot be had at the probes).

        A replacement taken from the same tree may itself hold synonyms; each further pass resolves one level of those.
        """
        for _ in range(passes):
            tokens = self._rewrite(tokens, self.node_keys(tokens))
        return tokens, self.node_keys(tokens)[:, 0]

    def _rewrite(self, tokens: Tensor, keys: Tensor) -> Tensor:
        n_rows, length = tokens.shape
        spans = subtree_lengths(tokens)
        place = torch.arange(length)
        # The shortest spelling of each subtree: within the tree, then in the table.
        same = (keys[:, :, None] == keys[:, None, :]) & (keys != INVALID_KEY)[:, :, None]
        best, source = torch.where(same, spans[:, None, :], 10**6).min(-1)
        found = self.table.find(keys)
        table_span = torch.where(found >= 0, 2 * self.table.sizes[found] + 1, 10**6)
        from_table = table_span < torch.minimum(best, spans)
        best = torch.where(from_table, table_span, best)
        replace = best < spans
        source = torch.where(replace, source, place)
        # Outermost replacements only; what they cover is dropped.
        covered_until = torch.zeros(n_rows, dtype=torch.int64)
        width = torch.zeros_like(tokens)
        for position in range(length):
            outside = position >= covered_until
            take = outside & replace[:, position]
            covered_until = torch.where(take, position + spans[:, position], covered_until)
            kept = outside & (tokens[:, position] != PAD)
            width[:, position] = torch.where(take, best[:, position], kept.long())
        end = width.cumsum(-1)
        new_length = int(end[:, -1].max())
        slot = torch.arange(new_length)
        origin = torch.searchsorted(end, slot.expand(n_rows, -1).contiguous(), right=True).clamp_max(length - 1)
        offset = slot - (end - width).gather(1, origin)
        own = tokens.gather(1, (source.gather(1, origin) + offset).clamp_max(length - 1))
        table_width = self.table.tokens.shape[1]
        known = self.table.tokens[found.gather(1, origin).clamp_min(0), offset.clamp_max(table_width - 1)].long()
        out = torch.where(from_table.gather(1, origin), known, own)
        return torch.where(slot < end[:, -1:], out, PAD)
