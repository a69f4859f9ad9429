"""The control of the learned start: the same questions, answered without looking at the data.

Trees are drawn as the pretraining corpus draws them, by size and by depth; all are equally likely, and their routing
logits are flat.
"""

import math

import torch
from torch import Tensor

from emlinit.generator.corpus.trees import random_leaves, trees_by_depth, trees_by_size
from emlinit.generator.grammar import EML, MAX_VARIABLES, ONE, PAD, X1, n_kinds
from emlinit.generator.program import programs_from_tokens
from emlinit.model.propose import Proposals

MAX_SIZE, MAX_DEPTH = 12, 6
ONE_SHARE = 0.3
"""Share of the leaves that are 1, as in the corpus."""
_SPARE = 4  # trees drawn for each one asked for: small ones repeat


class FlatPrior:
    """Stands in for an `EMLInitialiser` of the exact grammar."""

    def __init__(self, generator: torch.Generator) -> None:
        self._generator = generator

    def propose(
        self,
        x: Tensor,
        y: Tensor,
        n: int,
        *,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
        n_bags: int = 1,
    ) -> Proposals:
        """`n` distinct random trees over the variables of x; everything else is ignored."""
        del y, temperature, n_bags
        return self._draw(n, x.shape[-1], generator or self._generator)

    def propose_each(
        self, x: Tensor, y: Tensor, point_mask: Tensor, n: int, *, max_tokens: int | None = None
    ) -> list[Proposals]:
        """As many trees for every problem."""
        del point_mask, max_tokens
        return [self._draw(n, x.shape[-1], self._generator) for _ in range(len(y))]

    def _draw(self, n: int, n_variables: int, generator: torch.Generator) -> Proposals:
        mask = torch.ones(_SPARE * n, n_variables, dtype=torch.bool)
        by_size, *by_depth = mask.tensor_split([n * _SPARE * k // (MAX_DEPTH + 1) for k in range(1, MAX_DEPTH + 1)])
        sizes = torch.randint(1, MAX_SIZE + 1, (len(by_size),), generator=generator)
        leaves = random_leaves(mask[: n_variables + 1], 1, ONE_SHARE, generator)
        trees = [leaves, trees_by_size(sizes, by_size, ONE_SHARE, generator)]
        trees += [trees_by_depth(level, rows, ONE_SHARE, generator) for level, rows in enumerate(by_depth, start=1)]
        width = 2 * MAX_SIZE + 1
        trees = [tree[(tree != PAD).sum(-1) <= width] for tree in trees]
        tokens = torch.cat(
            [torch.nn.functional.pad(tree[:, :width], (0, max(width - tree.shape[1], 0))) for tree in trees]
        )
        tokens = torch.unique(tokens, dim=0)
        tokens = tokens[torch.randperm(len(tokens), generator=generator)[:n]]
        flat = torch.full((*tokens.shape, n_kinds(MAX_VARIABLES)), -torch.inf)
        kinds = [EML, ONE, *range(X1, X1 + n_variables)]
        flat[..., kinds] = -math.log(len(kinds))
        zeros = torch.zeros(tokens.shape, dtype=torch.float64)
        return Proposals(
            tokens,
            zeros,
            torch.zeros(len(tokens), dtype=torch.float64),
            flat,
            programs_from_tokens(tokens, zeros, n_variables),
        )
