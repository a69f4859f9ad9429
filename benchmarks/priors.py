"""The controls of the learned starts, one a grammar: the same questions, answered without looking at the data.

Both draw as the pretraining corpus does: `FlatPrior` trees, by size and by depth, all equally likely and with flat routing
logits; `FormulaPrior` formulas with constants.

Legend: n proposal, p point, v input variable, l token position.
"""

import math

import numpy as np
import torch
from torch import Tensor

from emlinit.generator.corpus.formulas import FormulaConfig, sample_formula_programs
from emlinit.generator.corpus.trees import random_leaves, trees_by_depth, trees_by_size
from emlinit.generator.grammar import EML, MAX_VARIABLES, ONE, PAD, X1, n_kinds
from emlinit.generator.program import programs_from_tokens
from emlinit.model.propose import Proposals

_MAX_SIZE, _MAX_DEPTH = 12, 6
ONE_SHARE = 0.3
"""Share of the leaves that are 1, as in the corpus."""
_SPARE = 4  # trees drawn for each one asked for: small ones repeat


class FlatPrior:
    """Stands in for an `EMLInitialiser` of the exact grammar."""

    def __init__(self, generator: torch.Generator) -> None:
        """`generator` draws the trees where a question brings none."""
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
        by_size, by_depth = mask.tensor_split([n * _SPARE // (_MAX_DEPTH + 1)])
        sizes = torch.randint(1, _MAX_SIZE + 1, (len(by_size),), generator=generator)
        depths = 1 + torch.arange(len(by_depth)) * _MAX_DEPTH // len(by_depth)
        leaves = random_leaves(mask[: n_variables + 1], 1, ONE_SHARE, generator)
        trees = [
            leaves,
            trees_by_size(sizes, by_size, ONE_SHARE, generator),
            trees_by_depth(depths, by_depth, ONE_SHARE, generator),
        ]
        width = 2 * _MAX_SIZE + 1
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


class FormulaPrior:
    """Stands in for an `EMLInitialiser` of the weighted grammar."""

    def __init__(self) -> None:
        """Named as the weights of an initialiser are, for the solver's report."""
        self.source = ("the training prior", "")
        self.revision: str | None = None

    def propose(
        self,
        x: Tensor,
        y: Tensor,
        n: int,
        *,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
        n_bags: int = 4,
    ) -> Proposals:
        """`n` random formulas over the variables of x, of shape (p, v); everything else is ignored."""
        del y, temperature, n_bags
        n_variables = x.shape[-1]
        seed = int(torch.randint(2**31, (1,), generator=generator))
        rng = np.random.default_rng(seed)
        config = FormulaConfig(max_variables=min(n_variables, MAX_VARIABLES))
        numbers, values = sample_formula_programs(n, rng, config)
        # A formula of k variables reads x1..xk: any k of the columns, in any order.
        columns = rng.permuted(np.tile(np.arange(n_variables), (n, 1)), axis=1)
        renamed = X1 + np.take_along_axis(columns, (numbers - X1).clip(0, n_variables - 1), axis=1)
        tokens = torch.from_numpy(np.where(numbers >= X1, renamed, numbers))
        constants = torch.from_numpy(values)
        kinds = torch.zeros(*tokens.shape, n_kinds(MAX_VARIABLES))
        programs = programs_from_tokens(tokens, constants, n_variables)
        return Proposals(tokens, constants, torch.zeros(n, dtype=torch.float64), kinds, programs)
