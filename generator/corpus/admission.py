"""What may be trained on: programs within the limits, in canonical form, and of no function that an evaluation asks for.

Every program passes here, whether it was drawn a moment ago or read from a file of unknown origin. Functions are known by
their values at fixed probe points (`value_keys`), so that a held-out one is found in any spelling.

Legend: b batch, l token position, v input variable, k key.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from emlinit.generator.corpus.canonical import Canonicaliser
from emlinit.generator.corpus.config import StreamConfig
from emlinit.generator.evaluate import evaluate
from emlinit.generator.functions.table import INVALID_KEY, probe_points, value_keys
from emlinit.generator.grammar import MAX_VARIABLES, PAD, X1, depth, size
from emlinit.generator.program import programs_from_tokens

EXCLUDE_FROM_SIZE = 5
"""Frozen functions of this many nodes or more are kept out of training; smaller ones are too few to keep apart. (Exact
grammar. Laws with constants are kept out whatever their size.)"""
UNCANONICAL_NODES = 3
"""Exact trees may have this many nodes more than a label before they are put into canonical form, which shortens some."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """Programs that wait for their points."""

    tokens: Int64[Tensor, "b l"]
    """Prefix tokens, padded with `PAD`."""
    constants: Float64[Tensor, "b l"]
    """Values of `c`, `w`, `j`; 0 elsewhere."""
    variable_mask: Bool[Tensor, "b v"]
    """Which variables each problem has."""

    def rows(self, index: Tensor) -> "Drawn":
        """Some of the programs: a mask, or their numbers."""
        return Drawn(self.tokens[index], self.constants[index], self.variable_mask[index])

    def __len__(self) -> int:
        return len(self.tokens)


class Admission:
    """Lets through what may be trained on, in the form in which it is a label."""

    def __init__(self, config: StreamConfig, excluded_keys: Int64[Tensor, " k"] | None = None) -> None:
        """Args:
        config: the limits.
        excluded_keys: functions that must not enter, as `Canonicaliser.node_keys` (exact grammar) or `weighted_keys`
            tells them.
        """
        self.config = config
        self._excluded = torch.empty(0, dtype=torch.int64) if excluded_keys is None else excluded_keys
        self._canonicaliser = Canonicaliser(config.max_variables) if config.grammar == "exact" else None

    def __call__(self, drawn: Drawn) -> Drawn:
        """The programs that may enter."""
        return self._weighted(drawn) if self._canonicaliser is None else self._exact(drawn, self._canonicaliser)

    def _exact(self, drawn: Drawn, canonicaliser: Canonicaliser) -> Drawn:
        config = self.config
        small = size(drawn.tokens) <= config.max_nodes + UNCANONICAL_NODES
        if not bool(small.any()):
            return drawn.rows(small)
        tokens, key = canonicaliser(drawn.tokens[small])
        new_size = size(tokens)
        keep = (key != INVALID_KEY) & (depth(tokens) <= config.max_depth) & (new_size <= config.max_nodes)
        keep &= (2 * new_size + 1 <= config.max_tokens) & (new_size > 0)
        keep &= ~(torch.isin(key, self._excluded) & (new_size >= EXCLUDE_FROM_SIZE))
        tokens = tokens[keep]
        return Drawn(tokens, torch.zeros(tokens.shape, dtype=torch.float64), drawn.variable_mask[small][keep])

    def _weighted(self, drawn: Drawn) -> Drawn:
        config = self.config
        fits = ((drawn.tokens != PAD).sum(-1) <= config.max_tokens) & (size(drawn.tokens) <= config.max_nodes)
        drawn = drawn.rows(fits)
        if not len(self._excluded):
            return drawn
        return drawn.rows(~torch.isin(weighted_keys(drawn.tokens, drawn.constants), self._excluded))


def weighted_keys(tokens: Int64[Tensor, "b l"], constants: Float64[Tensor, "b l"]) -> Int64[Tensor, " b"]:
    """Value key of each weighted program at fixed positive points, to about 1e-11; `INVALID_KEY` where it has no certified
    value there."""
    programs = programs_from_tokens(tokens, constants, MAX_VARIABLES)
    probes = probe_points(MAX_VARIABLES)
    result = evaluate(programs, probes.expand(len(tokens), -1, -1))
    values = torch.where(result.valid, result.value, float("nan"))
    return value_keys(values, torch.zeros_like(values))


def read_variables(tokens: Int64[Tensor, "b l"], n_variables: int) -> Bool[Tensor, "b v"]:
    """The variables up to the last one that each program reads."""
    used = (tokens[:, :, None] == X1 + torch.arange(n_variables)).any(1)
    last_used = torch.where(used, torch.arange(1, n_variables + 1), 0).amax(-1, keepdim=True)
    return torch.arange(n_variables) < last_used


def pad_to(t: Tensor, length: int) -> Tensor:
    """Zeros (which are `PAD`) on the right, up to a length."""
    return torch.nn.functional.pad(t, (0, length - t.shape[1]))
