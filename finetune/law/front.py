"""The front of error against complexity, and the choice of one law from it.

The law with the shortest description (see `fitting.prices`) wins, among those whose *validation* error is not clearly worse
than the best one's: what was fitted to noise is short on paper and fails there.

Legend: e entry.
"""

import math

import torch
from jaxtyping import Float64, Int64, Real
from torch import Tensor

from emlinit.finetune.fitting.prices import description_length, rounding_floor


def pareto_front(complexity: Real[Tensor, " e"], loss: Float64[Tensor, " e"]) -> Int64[Tensor, " f"]:
    """Indices of the entries that no other one matches in complexity with less loss, simplest first.

    Entries whose loss is not finite are never on it. Of equals the first stays.
    """
    order = sorted(range(len(loss)), key=lambda i: (int(complexity[i]), float(loss[i])))
    front: list[int] = []
    best = math.inf
    for index in order:
        if float(loss[index]) < best:
            front.append(index)
            best = float(loss[index])
    return torch.tensor(front, dtype=torch.int64)


def shortest_description(
    complexity: Real[Tensor, " e"],
    n_free: Int64[Tensor, " e"],
    train_mse: Float64[Tensor, " e"],
    validation_mse: Float64[Tensor, " e"],
    n_train: int,
    n_validation: int,
    scale: float,
    n_distinct: int | None = None,
    spread: float | None = None,
    n_points: int | None = None,
    n_unseen: int | None = None,
) -> int:
    """Index of the law to report: the shortest description among those that hold on the validation points.

    With few validation points their error says little, so it may exceed the best one's by a factor exp(6 / √points).
    Where no error is finite the first entry is returned. `n_distinct` and `spread` are as in `description_length`,
    and `n_points` is how many points there are to describe, `n_unseen` how many of the validation points were not seen in
    training, where rows are copies of others.
    """
    floor = rounding_floor(scale)
    mse = (n_train * train_mse + n_validation * validation_mse) / (n_train + n_validation)
    n_unseen = n_validation if n_unseen is None else n_unseen
    if n_validation == 0:
        mse = train_mse
    if n_unseen == 0:
        admissible = torch.ones_like(train_mse, dtype=torch.bool)
    else:
        finite = torch.where(validation_mse.isfinite(), validation_mse, torch.inf)
        admissible = finite + floor <= (finite.min() + floor) * math.exp(6.0 / math.sqrt(n_unseen))
    n_points = n_train + n_validation if n_points is None else n_points
    length = description_length(mse, complexity, n_free, n_points, scale, n_distinct, spread)
    return int(torch.where(admissible, length, torch.inf).argmin())
