"""Programs drawn afresh: the law of the corpus, before anything is evaluated.

Exact: random trees, `size_share` of them uniform by size and the rest by depth. Weighted: compiled random formulas and
random weighted trees. Either way what is drawn passes `Admission`, and problems may have variables that no program reads.

Legend: b batch, l token position, v input variable.
"""

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from emlinit.generator.corpus.admission import Admission, Drawn, pad_to, read_variables
from emlinit.generator.corpus.config import StreamConfig
from emlinit.generator.corpus.formulas import FormulaConfig, sample_formula_programs
from emlinit.generator.corpus.trees import add_constants, trees_by_depth, trees_by_size

WEIGHTED_ONE_SHARE = 0.35
"""Share of ones among the leaves of random weighted trees, before some of them become constants."""
WEIGHTED_SIZE_DECAY, WEIGHTED_LARGEST = 0.75, 6
"""Random weighted trees have 1..6 nodes, each size this many times as often as the one below it."""


class FreshPrograms:
    """Programs that are made up on the spot; nothing but the two generators decides which."""

    def __init__(self, config: StreamConfig, admission: Admission) -> None:
        self.config, self._admission = config, admission

    def draw(self, n_rows: int, generator: torch.Generator, rng: np.random.Generator) -> Drawn:
        """Try `n_rows` programs; those that may be trained on."""
        if self.config.grammar == "exact":
            return self._exact(n_rows, generator)
        return self._weighted(n_rows, generator, rng)

    def _variables(self, n_rows: int, generator: torch.Generator) -> Bool[Tensor, "b v"]:
        """Mask of the variables that each problem has: the first k of them, as often as 1 / sqrt(k)."""
        share = 1.0 / torch.arange(1, self.config.max_variables + 1).double().sqrt()
        count = 1 + torch.multinomial(share, n_rows, replacement=True, generator=generator)
        return torch.arange(self.config.max_variables) < count[:, None]

    def _exact(self, n_rows: int, generator: torch.Generator) -> Drawn:
        """Random exact trees, some uniform by size and the rest by depth, in canonical form."""
        config = self.config
        mask = self._variables(n_rows, generator)
        by_size = int(n_rows * config.size_share + 1e-9)  # a sixth of 12 is 2, whatever the rounding of 1 / 6
        trees = []
        if by_size:
            sizes = torch.randint(1, config.max_nodes + 1, (by_size,), generator=generator)
            trees.append(trees_by_size(sizes, mask[:by_size], config.one_share, generator))
        share = config.depth_growth ** torch.arange(config.max_depth).double()
        ends = (share.cumsum(0) / share.sum() * (n_rows - by_size)).long()
        for level, rows in enumerate(mask[by_size:].tensor_split(ends[:-1]), start=1):
            if len(rows):
                trees.append(trees_by_depth(level, rows, config.one_share, generator))
        length = max(t.shape[1] for t in trees)
        tokens = torch.cat([pad_to(t, length) for t in trees])
        return self._admission(Drawn(tokens, torch.zeros(tokens.shape, dtype=torch.float64), mask))

    def _weighted(self, n_rows: int, generator: torch.Generator, rng: np.random.Generator) -> Drawn:
        """Compiled random formulas and random weighted trees."""
        config = self.config
        n_formulas = round(n_rows * config.formula_share)
        formula = FormulaConfig(
            max_variables=config.max_variables, max_nodes=config.max_nodes, max_tokens=config.max_tokens
        )
        drawn_tokens, drawn_constants = sample_formula_programs(n_formulas, rng, formula)
        mask = self._variables(n_rows - n_formulas, generator)
        sizes = 1 + torch.multinomial(
            WEIGHTED_SIZE_DECAY ** torch.arange(WEIGHTED_LARGEST).double(),
            len(mask),
            replacement=True,
            generator=generator,
        )
        trees = trees_by_size(sizes, mask, WEIGHTED_ONE_SHARE, generator)
        tree_tokens, tree_constants = add_constants(trees, mask, generator)
        length = max(drawn_tokens.shape[1], tree_tokens.shape[1])
        tokens = torch.cat([pad_to(torch.as_tensor(drawn_tokens), length), pad_to(tree_tokens, length)])
        constants = torch.cat([pad_to(torch.as_tensor(drawn_constants), length), pad_to(tree_constants, length)])
        drawn = self._admission(Drawn(tokens, constants, read_variables(tokens, config.max_variables)))
        return with_irrelevant_variables(drawn, config.irrelevant_share, generator)


def with_irrelevant_variables(drawn: Drawn, share: float, generator: torch.Generator) -> Drawn:
    """The same problems, which have at times variables that their program does not read."""
    more = torch.rand(drawn.variable_mask.shape, generator=generator) < share
    return Drawn(drawn.tokens, drawn.constants, drawn.variable_mask | more)
