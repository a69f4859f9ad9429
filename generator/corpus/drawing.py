"""The programs of the corpus: random ones, and what of any program may be trained on.

Exact: random trees, `size_share` of them uniform by size and the rest by depth. Weighted: compiled random formulas and
random weighted trees. Of which kind a program is, is drawn for each, so that any few of them are a fair sample. Every
program passes `Admission`, whether it was drawn a moment ago or read from a file of unknown origin: it is within the
limits, in canonical form, and of no function that an evaluation asks for. Functions are known by their values at fixed
probe points (`value_keys`), so that a held-out one is found in any spelling.

Legend: b batch, l token position, v input variable, k key.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from emlinit.generator.corpus.canonical import Canonicaliser
from emlinit.generator.corpus.config import StreamConfig
from emlinit.generator.corpus.formulas import FormulaConfig, sample_formula_programs
from emlinit.generator.corpus.trees import add_constants, trees_by_depth, trees_by_size
from emlinit.generator.evaluate import evaluate
from emlinit.generator.functions.table import INVALID_KEY, probe_points, value_keys
from emlinit.generator.grammar import MAX_VARIABLES, PAD, X1, C, J, W, depth, size
from emlinit.generator.program import programs_from_tokens
from emlinit.generator.records import Records

EXCLUDE_FROM_SIZE = 5
"""Frozen trees and held-out programs of this many nodes or more are kept out of training; smaller ones are too few to keep
apart. (Frozen formulas, which have constants of their own, are kept out whatever their size.)"""
UNCANONICAL_NODES = 3
"""Exact trees may have this many nodes more than a label before they are put into canonical form, which shortens some."""
WEIGHTED_ONE_SHARE = 0.35
"""Share of ones among the leaves of random weighted trees, before some of them become constants."""
_STANDARD_CONSTANTS = {C: 1.3, W: 0.7, J: 0.9}  # any will do, as long as values are finite and tell functions apart
WEIGHTED_SIZE_DECAY, WEIGHTED_LARGEST = 0.75, 6
"""Random weighted trees have 1..6 nodes, each size this many times as often as the one below it."""


@dataclass(frozen=True, eq=False)
class Drawn(Records):
    """Programs that wait for their points."""

    tokens: Int64[Tensor, "b l"]
    """Prefix tokens, padded with `PAD`."""
    constants: Float64[Tensor, "b l"]
    """Values of `c`, `w`, `j`; 0 elsewhere."""
    variable_mask: Bool[Tensor, "b v"]
    """Which variables each problem has."""

    def __len__(self) -> int:
        return len(self.tokens)

    def trimmed(self) -> "Drawn":
        """Without padding that no program needs."""
        length = max(int((self.tokens != PAD).sum(-1).max()), 1) if len(self) else 1
        return replace(self, tokens=self.tokens[:, :length], constants=self.constants[:, :length])

    @classmethod
    def cat(cls, parts: Sequence["Drawn"]) -> "Drawn":
        """Join programs, padded to the longest."""
        length = max((part.tokens.shape[1] for part in parts), default=0)
        padded = [
            replace(part, tokens=pad_to(part.tokens, length), constants=pad_to(part.constants, length))
            for part in parts
        ]
        return super().cat(padded)


class Admission:
    """Lets through what may be trained on, in the form in which it is a label."""

    def __init__(
        self,
        config: StreamConfig,
        excluded_keys: Int64[Tensor, " k"] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        """Args:
        config: the limits.
        excluded_keys: functions that must not enter, as `Canonicaliser.root_keys` (exact grammar), `weighted_keys` or
            `skeleton_keys` tell them.
        device: where programs are looked at; from wherever they come, they are on it afterwards.
        """
        self.config, self._device = config, torch.device(device)
        excluded = torch.empty(0, dtype=torch.int64) if excluded_keys is None else excluded_keys
        self._excluded = excluded.to(self._device)
        self._canonicaliser = (
            Canonicaliser(config.max_variables, device=self._device) if config.grammar == "exact" else None
        )

    def __call__(self, drawn: Drawn) -> Drawn:
        """The programs that may enter, in order."""
        drawn = drawn.to(self._device)
        return self._weighted(drawn) if self._canonicaliser is None else self._exact(drawn, self._canonicaliser)

    def _exact(self, drawn: Drawn, canonicaliser: Canonicaliser) -> Drawn:
        config = self.config
        small = size(drawn.tokens) <= config.max_nodes + UNCANONICAL_NODES
        drawn = drawn.rows(small).trimmed()
        tokens, key = canonicaliser(drawn.tokens)
        new_size = size(tokens)
        keep = (key != INVALID_KEY) & (depth(tokens) <= config.max_depth) & (new_size <= config.max_nodes)
        keep &= (2 * new_size + 1 <= config.max_tokens) & (new_size > 0)
        if len(self._excluded):
            large = torch.nonzero(keep & (new_size >= EXCLUDE_FROM_SIZE))[:, 0]
            keep[large] = ~torch.isin(canonicaliser.root_keys(tokens[large]), self._excluded).any(-1)
        constants = torch.zeros(tokens.shape, dtype=torch.float64, device=tokens.device)
        return Drawn(tokens, constants, drawn.variable_mask).rows(keep)

    def _weighted(self, drawn: Drawn) -> Drawn:
        config = self.config
        fits = ((drawn.tokens != PAD).sum(-1) <= config.max_tokens) & (size(drawn.tokens) <= config.max_nodes)
        drawn = drawn.rows(fits)
        if not len(self._excluded):
            return drawn
        held_out = torch.isin(weighted_keys(drawn.tokens, drawn.constants), self._excluded)
        return drawn.rows(~(held_out | torch.isin(skeleton_keys(drawn.tokens), self._excluded)))


def weighted_keys(tokens: Int64[Tensor, "b l"], constants: Float64[Tensor, "b l"]) -> Int64[Tensor, " b"]:
    """Value key of each weighted program at fixed positive points, to 1e-11; `INVALID_KEY` where it has no finite value
    there.

    The values need not be certified: what is held out is to be known again, and the same program has the same ones.
    """
    programs = programs_from_tokens(tokens, constants, MAX_VARIABLES)
    probes = probe_points(MAX_VARIABLES).to(tokens.device)
    result = evaluate(programs, probes.expand(len(tokens), -1, -1), rtol=None)
    values = torch.where(result.valid, result.value, float("nan"))
    return value_keys(values, torch.zeros_like(values))


def skeleton_keys(tokens: Int64[Tensor, "b l"]) -> Int64[Tensor, " b"]:
    """Value key of each weighted program with the same number in place of all constants of a kind: one for all programs that
    differ in the values of their constants and the order of their terms (see `skeletons`)."""
    constants = torch.zeros(tokens.shape, dtype=torch.float64, device=tokens.device)
    for kind, value in _STANDARD_CONSTANTS.items():
        constants[tokens == kind] = value
    return weighted_keys(tokens, constants)


def read_variables(tokens: Int64[Tensor, "b l"], n_variables: int) -> Bool[Tensor, "b v"]:
    """The variables up to the last one that each program reads."""
    used = (tokens[:, :, None] == X1 + torch.arange(n_variables)).any(1)
    last_used = torch.where(used, torch.arange(1, n_variables + 1), 0).amax(-1, keepdim=True)
    return torch.arange(n_variables) < last_used


def pad_to(t: Tensor, length: int) -> Tensor:
    """Zeros (which are `PAD`) on the right, up to a length."""
    return torch.nn.functional.pad(t, (0, length - t.shape[1]))


def _places(share: Float64[Tensor, " c"], n: int, generator: torch.Generator) -> Int64[Tensor, " b"]:
    """Places in a list of shares, each as often as its share; there may be none to draw, which torch refuses."""
    if not n:
        return torch.empty(0, dtype=torch.int64)
    return torch.multinomial(share, n, replacement=True, generator=generator)


class FreshPrograms:
    """Programs that are made up on the spot; nothing but the two generators decides which."""

    def __init__(self, config: StreamConfig) -> None:
        self.config = config

    def draw(self, n_rows: int, generator: torch.Generator, rng: np.random.Generator) -> Drawn:
        """Make up `n_rows` programs, less those that are far too large: `Admission` says which may be trained on."""
        if self.config.grammar == "exact":
            return self._exact(n_rows, generator)
        return self._weighted(n_rows, generator, rng)

    def _variables(self, n_rows: int, generator: torch.Generator) -> Bool[Tensor, "b v"]:
        """Mask of the variables that each problem has: the first k of them, as often as 1 / sqrt(k)."""
        share = 1.0 / torch.arange(1, self.config.max_variables + 1).double().sqrt()
        count = 1 + _places(share, n_rows, generator)
        return torch.arange(self.config.max_variables) < count[:, None]

    def _exact(self, n_rows: int, generator: torch.Generator) -> Drawn:
        """Random exact trees, some uniform by size and the rest by depth."""
        config = self.config
        mask = self._variables(n_rows, generator)
        by_size = torch.rand(n_rows, generator=generator) < config.size_share
        sizes = torch.randint(1, config.max_nodes + 1, (int(by_size.sum()),), generator=generator)
        share = config.depth_growth ** torch.arange(config.max_depth).double()
        depths = 1 + _places(share, n_rows - len(sizes), generator)
        tokens = _interleaved(
            by_size,
            trees_by_size(sizes, mask[by_size], config.one_share, generator),
            trees_by_depth(depths, mask[~by_size], config.one_share, generator),
        )
        drawn = Drawn(tokens, torch.zeros(tokens.shape, dtype=torch.float64), mask)
        return drawn.rows(size(tokens) <= config.max_nodes + UNCANONICAL_NODES).trimmed()

    def _weighted(self, n_rows: int, generator: torch.Generator, rng: np.random.Generator) -> Drawn:
        """Compiled random formulas and random weighted trees, with variables that they do not read at times."""
        config = self.config
        is_formula = torch.rand(n_rows, generator=generator) < config.formula_share
        n_formulas = int(is_formula.sum())
        formula = FormulaConfig(
            max_variables=config.max_variables, max_nodes=config.max_nodes, max_tokens=config.max_tokens
        )
        formula_tokens, formula_constants = sample_formula_programs(n_formulas, rng, formula)
        mask = self._variables(n_rows - n_formulas, generator)
        share = WEIGHTED_SIZE_DECAY ** torch.arange(WEIGHTED_LARGEST).double()
        sizes = 1 + _places(share, len(mask), generator)
        trees = trees_by_size(sizes, mask, WEIGHTED_ONE_SHARE, generator)
        tree_tokens, tree_constants = add_constants(trees, mask, generator)
        tokens = _interleaved(is_formula, torch.as_tensor(formula_tokens), tree_tokens)
        constants = _interleaved(is_formula, torch.as_tensor(formula_constants), tree_constants)
        drawn = Drawn(tokens, constants, read_variables(tokens, config.max_variables))
        return with_irrelevant_variables(drawn, config.irrelevant_share, generator)


def _interleaved(mask: Bool[Tensor, " b"], these: Tensor, others: Tensor) -> Tensor:
    """Rows of two padded matrices: where the mask holds the next of `these`, elsewhere the next of `others`."""
    length = max(these.shape[1], others.shape[1])
    joined = these.new_zeros(len(mask), length)
    joined[mask], joined[~mask] = pad_to(these, length), pad_to(others, length)
    return joined


def with_irrelevant_variables(drawn: Drawn, share: float, generator: torch.Generator) -> Drawn:
    """The same problems, which have at times variables that their program does not read."""
    more = torch.rand(drawn.variable_mask.shape, generator=generator) < share
    return replace(drawn, variable_mask=drawn.variable_mask | more)
