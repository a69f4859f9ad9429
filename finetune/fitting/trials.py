"""Trials: moves of constants are made with all other constants fitted again, all trials of all candidates in one batch.

A trial is a list of moves of one candidate. It is worth

    Σ gains of its moves - points/2 · ln(mse after / mse before)

nats, its saving in description length, and is out of the question if the error rises beyond a limit.

Legend: b batch (candidate), p point, v input variable, m all real numbers of a program.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float64
from torch import Tensor

from emlinit.finetune.fitting.levenberg_marquardt import Fit, FitConfig, fit_constants
from emlinit.finetune.fitting.offers import Move, free_numbers
from emlinit.finetune.fitting.packed import flatten, unflatten
from emlinit.finetune.fitting.standard_errors import standard_errors

TINY = 1e-300
"""Mean squared error of what fits perfectly: its quotients and logarithms stay finite."""
_LOST_SHARE = 1e-12  # of the points, by weight, that a trial may lose: rounding of the sum of weights


@dataclass(frozen=True, eq=False)
class Trials:
    """What all trials of the same candidates share: the data, and how much a fit may suffer."""

    x: Float64[Tensor, "p v"]
    """Points."""
    y: Float64[Tensor, " p"]
    """Targets."""
    weights: Float64[Tensor, " p"]
    """Weights of the points."""
    fit_config: FitConfig
    """How the other constants are fitted again."""
    floor: float
    """Mean squared error that counts as rounding."""
    limit: Float64[Tensor, " b"]
    """Largest mean squared error that each candidate may come to."""

    def errors(self, fit: Fit) -> Float64[Tensor, "b m"]:
        """Standard errors of all real numbers, as if the residuals were at least those of rounding."""
        errors = torch.cat(
            [e.flatten(1) for e in standard_errors(fit.programs, self.x, self.y, weights=self.weights)], 1
        )
        return errors * ((fit.mse + self.floor) / fit.mse.clamp_min(TINY)).sqrt()[:, None]

    def best(self, fit: Fit, moves: Sequence[Move]) -> dict[int, list[Move]]:
        """For each candidate the combination of moves that saves most; those that nothing helps are left out.

        Moves are tried alone; those that pay are combined, and the best prefix of them (by worth) is taken.
        """
        by_owner: dict[int, dict[int, tuple[float, Move]]] = {}
        for move, value in zip(moves, self._worth(fit, [[move] for move in moves]), strict=True):
            places = by_owner.setdefault(move.owner, {})
            if value > 0 and value > places.get(move.place, (0.0, move))[0]:
                places[move.place] = (value, move)
        trials: list[list[Move]] = []
        for places in by_owner.values():
            ranked = [move for _, move in sorted(places.values(), key=lambda item: -item[0])]
            lengths = {min(2**i, len(ranked)) for i in range(len(ranked).bit_length() + 1)}
            trials += [ranked[:length] for length in sorted(lengths) if length]
        best: dict[int, tuple[float, list[Move]]] = {}
        for trial, value in zip(trials, self._worth(fit, trials), strict=True):
            if value > 0 and value > best.get(trial[0].owner, (0.0, trial))[0]:
                best[trial[0].owner] = (value, trial)
        return {owner: trial for owner, (_, trial) in best.items()}

    def _worth(self, fit: Fit, trials: Sequence[list[Move]]) -> list[float]:
        """Nats that each trial saves; minus infinity where the fit gets worse than allowed."""
        if not trials:
            return []
        tried = self._fitted(fit, trials)
        owner = torch.tensor([trial[0].owner for trial in trials])
        price = 0.5 * self.y.shape[0] * ((tried.mse + self.floor) / (fit.mse[owner] + self.floor)).log()
        allowed = (tried.mse <= self.limit[owner]) & (tried.valid_share >= fit.valid_share[owner] - _LOST_SHARE)
        gains = torch.tensor([sum(move.gain for move in trial) for trial in trials], dtype=torch.float64)
        return torch.where(allowed, gains - price, -torch.inf).tolist()

    def _fitted(self, fit: Fit, trials: Sequence[list[Move]]) -> Fit:
        """The candidate of each trial with its moves made and the other constants fitted again."""
        moved = fit.programs.rows(torch.tensor([trial[0].owner for trial in trials]))
        flat, free = flatten(moved).clone(), free_numbers(moved).clone()
        for row, trial in enumerate(trials):
            for move in trial:
                if move.node is not None:
                    reads = moved.source[row] == moved.n_variables + 1 + move.node
                    factor = math.exp(float(flat[row, move.place]) - move.value)
                    flat[row, : moved.weight[0].numel()].view(*moved.weight.shape[1:])[reads] *= factor
                flat[row, move.place], free[row, move.place] = move.value, False
        moved = unflatten(moved, flat)
        n_weight = moved.weight[0].numel()
        moved = replace(
            moved,
            free_weight=free[:, :n_weight].reshape(moved.free_weight.shape),
            free_bias=free[:, n_weight:].reshape(moved.free_bias.shape),
        )
        moved = replace(moved, source=torch.where(moved.used_terms(), moved.source, 0))
        return fit_constants(moved, self.x, self.y, weights=self.weights, config=self.fit_config)

    def made(self, fit: Fit, accepted: dict[int, list[Move]]) -> Fit:
        """All candidates, those with an accepted trial after it."""
        owners = torch.tensor(list(accepted))
        new = self._fitted(fit, list(accepted.values()))
        order = torch.arange(len(fit.mse))
        order[owners] = len(order) + torch.arange(len(owners))
        return Fit.cat([fit, new]).rows(order)
