"""Snapping: terms that do nothing go, and constants become the simple numbers they are, as far as the data agree.

Every free constant is offered 0 and the simple numbers within its error (`offers`); each offer that may pay is tried with
all other constants fitted again (`trials`), and is taken if it saves description length and the error does not rise beyond
a tolerance. Good offers are combined, the best prefix of them (by worth) that still pays is kept, and the round is repeated.

Order matters. Constants below the readout that the data determine go first; then those that only trade off against others
(infinite error); then the readout's.

Legend: b batch (candidate), p point, v input variable.
"""

import math
import time
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float64
from torch import Tensor

from emlinit.finetune.fitting.levenberg_marquardt import Fit, FitConfig, fit_constants
from emlinit.finetune.fitting.offers import BELOW, READOUT, UNDETERMINED, Move, moves, offers
from emlinit.finetune.fitting.standard_errors import standard_errors
from emlinit.finetune.fitting.trials import TINY, Trials
from emlinit.generator.program import Programs
from emlinit.generator.tidy import drop_dead_nodes, fold_constants


@dataclass(frozen=True)
class SnapConfig:
    """How eagerly constants are snapped."""

    rounds: int = 12
    """Most rounds; each may snap many constants."""
    fit_steps: int = 6
    """Levenberg-Marquardt steps of the other constants after a trial."""
    least_gain: float = 1.0
    """Nats that a number other than 0 must save before it replaces a free constant."""
    removal_bonus: float = 3.0
    """Nats saved by a term that goes away, beyond those of its constant."""
    z_tolerance: float = 3.0
    """The error may rise, in all, by what one constant moved by this many standard errors and all by one would cost."""
    relative_floor: float = 1e-11
    """Residuals below this share of the target's root mean square count as rounding."""
    until: float = math.inf
    """No further round begins after this, on the clock of `time.monotonic`."""


def snap(
    programs: Programs,
    x: Float64[Tensor, "p v"],
    y: Float64[Tensor, " p"],
    *,
    weights: Float64[Tensor, " p"] | None = None,
    config: SnapConfig | None = None,
) -> Fit:
    """Snap the constants of fitted candidates; snapped ones are no longer free, and nodes that nothing reads are gone.

    Args:
        programs: candidates with fitted constants.
        x: points.
        y: targets.
        weights: of the points, as they were fitted.
        config: options.
    """
    config = config or SnapConfig()
    weights = torch.ones_like(y) if weights is None else weights
    floor = config.relative_floor**2 * float((weights * y.square()).sum() / weights.sum()) + TINY
    tidy, fit_config = fold_constants(programs), FitConfig(steps=config.fit_steps, until=config.until)
    fit = fit_constants(tidy, x, y, weights=weights, config=fit_config)
    limit = fit.mse * ((config.z_tolerance**2 + tidy.n_free()) / y.shape[0]).exp() + floor
    trials = Trials(x, y, weights, fit_config, floor, limit)
    for _ in range(config.rounds):
        if time.monotonic() > config.until:
            break
        offered = moves(
            fit.programs, trials.errors(fit), least_gain=config.least_gain, removal_bonus=config.removal_bonus
        )
        if not offered:
            break
        accepted: dict[int, list[Move]] = {}
        for turn in (BELOW, UNDETERMINED, READOUT):
            open_moves = [move for move in offered if move.turn == turn and move.owner not in accepted]
            accepted |= trials.best(fit, open_moves)
        if not accepted:
            break
        fit = trials.made(fit, accepted)
    return replace(fit, programs=drop_dead_nodes(fit.programs))


def likely_savings(
    programs: Programs,
    x: Float64[Tensor, "p v"],
    y: Float64[Tensor, " p"],
    weights: Float64[Tensor, " p"] | None = None,
) -> Float64[Tensor, " b"]:
    """Nats that snapping will save at most, roughly: what each free constant of a fitted candidate would save if the others
    stayed as they are. It costs no fit, so it tells which of many candidates are worth snapping.

    Args:
        programs: candidates with fitted constants.
        x: points.
        y: targets.
        weights: of the points, as they were fitted.
    """
    errors = torch.cat([error.flatten(1) for error in standard_errors(programs, x, y, weights=weights)], 1)
    savings = torch.zeros(len(programs), dtype=torch.float64)
    for constant in offers(programs, errors):
        if math.isfinite(constant.error):
            worth = (
                constant.cost - nats - 0.5 * ((number - offset - constant.value) / constant.error) ** 2
                for offset, number, nats in constant.offers
            )
            savings[constant.owner] += max(0.0, *worth)
    return savings
