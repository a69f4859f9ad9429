"""The front of error against complexity, and the choice of one law from it.

The description length of data with a law, in nats, is

    points/2 · ln(mse)  +  cost of the constants  +  nats_per_node · complexity,

the residuals at the precision the law leaves, its constants, its form. k numbers estimated from n points (the constants and
the error itself) cost k/2 · ln(n) (Rissanen 1978), and each constant ln(scale of y / error), the digits that one point
fixes: the better the data, the more a fitted 0.9965 costs that could be 1. Or, if more, k · n / (n - k - 1), the
small-sample correction of Hurvich & Tsai (1989): eight points must not buy a law of six constants. The law with the shortest
description wins, among those whose *validation* error is not clearly worse than the best one's: what was fitted to noise
is short on paper and fails there.

Legend: e entry.
"""

import math

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

NATS_PER_NODE = 1.5
"""Cost of one node of the expression: about the logarithm of the number of things it could be."""
RELATIVE_FLOOR = 1e-10
"""Residuals below this share of the target's scale are rounding: nothing is gained below it."""


def pareto_front(complexity: Int64[Tensor, " e"], loss: Float64[Tensor, " e"]) -> Int64[Tensor, " f"]:
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


def description_length(
    mse: Float64[Tensor, " e"],
    complexity: Int64[Tensor, " e"],
    n_free: Int64[Tensor, " e"],
    n_points: int,
    scale: float,
) -> Float64[Tensor, " e"]:
    """Nats to describe the data with each law, up to a constant; infinite where the error is not finite or a law has as many
    constants as there are points to tell.

    Args:
        mse: mean squared error.
        complexity: nodes of the expression.
        n_free: constants that are not simple numbers.
        n_points: points that `mse` is a mean over.
        scale: of the target (its root mean square); residuals below `RELATIVE_FLOOR` of it count as rounding.
    """
    floor = (RELATIVE_FLOOR * scale) ** 2 + 1e-300
    k = n_free.to(torch.float64) + 1
    spare = n_points - k - 1
    digits = (scale / (mse + floor).sqrt()).log().clamp_min(0.0)
    precise = 0.5 * math.log(n_points) * k + torch.where(n_free > 0, n_free * digits, 0.0)
    constants = torch.maximum(precise, k * n_points / spare.clamp_min(1e-300))
    length = 0.5 * n_points * (mse + floor).log() + constants + NATS_PER_NODE * complexity
    length = torch.where(spare > 0, length, torch.inf)
    return torch.where(mse.isfinite(), length, torch.inf)


def shortest_description(
    complexity: Int64[Tensor, " e"],
    n_free: Int64[Tensor, " e"],
    train_mse: Float64[Tensor, " e"],
    validation_mse: Float64[Tensor, " e"],
    n_train: int,
    n_validation: int,
    scale: float,
) -> int:
    """Index of the law to report: the shortest description among those that hold on the validation points.

    With few validation points their error says little, so it may exceed the best one's by a factor exp(6 / √points).
    Where no error is finite the first entry is returned.
    """
    floor = (RELATIVE_FLOOR * scale) ** 2 + 1e-300
    mse = (n_train * train_mse + n_validation * validation_mse) / (n_train + n_validation)
    if n_validation == 0:
        mse, admissible = train_mse, torch.ones_like(train_mse, dtype=torch.bool)
    else:
        finite = torch.where(validation_mse.isfinite(), validation_mse, torch.inf)
        admissible = finite + floor <= (finite.min() + floor) * math.exp(6.0 / math.sqrt(n_validation))
    length = description_length(mse, complexity, n_free, n_train + n_validation, scale)
    return int(torch.where(admissible, length, torch.inf).argmin())
