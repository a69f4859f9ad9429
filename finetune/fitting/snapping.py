"""Snapping: terms that do nothing go, and constants become the simple numbers they are, as far as the data agree.

Every free constant is offered 0 and the simple numbers within its error; each offer that may pay is tried with all other
constants fitted again, all offers of all candidates in one batch. An offer is worth

    (nats of the free constant - nats of the simple one) - points/2 · ln(mse after / mse before),

its saving in description length, and is taken if that is positive and the error does not rise beyond a tolerance. Good
offers are combined, the best prefix of them (by worth) that still pays is kept, and the round is repeated.

Order matters. Constants below the readout that the data determine go first; then those that only trade off against others
(infinite error); then the readout's. And `c + w·eml(1, u)` is `(c + w·e) - w·ln u`: once w is fixed, c is also offered the
values that make c + w·e simple, so that 183·exp(-1.5·eml(1, x)) becomes 3.1·exp(1.5·ln x).

Legend: b batch (candidate), m all real numbers of a program, slots and terms as in `Programs`.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from emlinit.finetune.fitting.levenberg_marquardt import Fit, FitConfig, fit_constants
from emlinit.finetune.fitting.packed import flatten, unflatten
from emlinit.finetune.fitting.simple_values import free_cost, simple_values
from emlinit.finetune.fitting.standard_errors import standard_errors
from emlinit.generator.program import Programs
from emlinit.generator.tidy import drop_dead_nodes, fold_constants, logarithm_shifts, scaled_exponentials

_PRICE_TAKEN = 0.5  # offers are tried if their gain is more than this share of their expected price


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


@dataclass(frozen=True)
class _Move:
    owner: int
    place: int
    """Position in the flat row of all real numbers."""
    value: float
    gain: float
    """Nats saved if the fit does not suffer."""
    node: int | None = None
    """Node of a plain exponential whose exponent's constant is moved: its readers' factors make up for it."""


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
    floor = config.relative_floor**2 * float((weights * y.square()).sum() / weights.sum()) + 1e-300
    tidy = fold_constants(programs)
    fit = fit_constants(tidy, x, y, weights=weights, config=FitConfig(steps=config.fit_steps))
    points = y.shape[0]
    limit = fit.mse * ((config.z_tolerance**2 + tidy.n_free()) / points).exp() + floor
    for _ in range(config.rounds):
        moves = _moves(fit, x, y, weights, floor, config)
        if not moves:
            break
        accepted: dict[int, list[_Move]] = {}
        for turn in range(3):
            singles = [[move] for move, its_turn in moves if its_turn == turn and move.owner not in accepted]
            accepted |= _best(fit, singles, x, y, weights, limit, floor, config)
        if not accepted:
            break
        fit = _apply(fit, accepted, x, y, weights, config)
    return replace(fit, programs=drop_dead_nodes(fit.programs))


def likely_savings(programs: Programs, x: Float64[Tensor, "p v"], y: Float64[Tensor, " p"]) -> Float64[Tensor, " b"]:
    """Nats that snapping will save at most, roughly: what each free constant of a fitted candidate would save if the others
    stayed as they are. It costs no fit, so it tells which of many candidates are worth snapping.

    Args:
        programs: candidates with fitted constants.
        x: points.
        y: targets.
    """
    errors = torch.cat([error.flatten(1) for error in standard_errors(programs, x, y)], 1)
    savings = torch.zeros(len(programs), dtype=torch.float64)
    for constant in _offers(programs, errors):
        if math.isfinite(constant.error):
            cost = free_cost(constant.value, constant.error)
            worth = (
                cost - nats - 0.5 * ((number - offset - constant.value) / constant.error) ** 2
                for offset, number, nats in constant.offers
            )
            savings[constant.owner] += max(0.0, *worth)
    return savings


@dataclass(frozen=True)
class _Constant:
    """A free constant and what is offered in its place."""

    owner: int
    place: int
    """Position in the flat row of all real numbers."""
    value: float
    error: float
    """Standard error; infinite where the data do not determine the constant."""
    offers: list[tuple[float, float, float]]
    """Offset, simple number, nats: the constant would be the number less the offset."""


def _offers(programs: Programs, errors: Float64[Tensor, "b m"]) -> Iterator[_Constant]:
    """All free constants with their offers."""
    values, free = flatten(programs), _free(programs)
    n_weight, shifts = programs.weight[0].numel(), logarithm_shifts(programs)
    for owner, place in free.nonzero().tolist():
        value = float(values[owner, place])
        # a fit to rounding reports no error at all; no digit beyond float64's is ever paid for
        error = max(float(errors[owner, place]), 1e-13 * max(abs(value), 1e-3))
        is_constant = place >= n_weight and (place - n_weight) % 2 == 0
        shift = float(shifts[owner, _slot_of(programs, place)]) if is_constant else 0.0
        offers = [(0.0, number, nats) for number, nats in simple_values(value, error)]
        if shift:
            offers += [(shift, number, nats - 1.0) for number, nats in simple_values(value + shift, error)]
        yield _Constant(owner, place, value, error, offers)


def _moves(
    fit: Fit, x: Tensor, y: Tensor, weights: Tensor, floor: float, config: SnapConfig
) -> list[tuple[_Move, int]]:
    """All offers to all free constants, and in which turn they are decided (0 first)."""
    programs = fit.programs
    weight_error, bias_error = standard_errors(programs, x, y, weights=weights)
    errors = torch.cat([weight_error.flatten(1), bias_error.flatten(1)], 1)
    errors = errors * ((fit.mse + floor) / fit.mse.clamp_min(1e-300)).sqrt()[:, None]
    values, free = flatten(programs), _free(programs)
    n_weight = programs.weight[0].numel()
    shifts, loose = logarithm_shifts(programs), scaled_exponentials(programs)
    moves = []
    for constant in _offers(programs, errors):
        value, error = constant.value, constant.error
        cost = free_cost(value, error)
        is_readout = _slot_of(programs, constant.place) == programs.source.shape[1] - 1
        turn = (2 if is_readout else 0) if math.isfinite(error) else 1
        for offset, number, nats in constant.offers:
            gain = cost - nats + (config.removal_bonus if number == 0.0 else -config.least_gain)
            # With the others fitted again an offer at z standard errors costs z²/2, as far as the law is linear in them.
            price = ((number - offset - value) / error) ** 2 / 2 if math.isfinite(error) else 0.0
            if gain > _PRICE_TAKEN * price:
                moves.append((_Move(constant.owner, constant.place, number - offset, gain), turn))
    for owner, slot in (loose & (shifts != 0)).nonzero().tolist():  # w·exp(p ln u) rather than w'·exp(-p·eml(1, u))
        place, shift = n_weight + 2 * slot, float(shifts[owner, slot])
        if not free[owner, place] and abs(float(values[owner, place]) + shift) > 1e-12 * abs(shift):
            moves.append((_Move(owner, place, -shift, 1.0, slot // 2), 1))
    return moves


def _slot_of(programs: Programs, place: int) -> int:
    n_weight, t = programs.weight[0].numel(), programs.source.shape[2]
    return place // (2 * t) if place < n_weight else (place - n_weight) // 2


def _best(
    fit: Fit,
    singles: list[list[_Move]],
    x: Tensor,
    y: Tensor,
    weights: Tensor,
    limit: Tensor,
    floor: float,
    config: SnapConfig,
) -> dict[int, list[_Move]]:
    """For each candidate the combination of moves that saves most; those that nothing helps are left out."""
    worth = _worth(fit, singles, x, y, weights, limit, floor, config)
    by_owner: dict[int, dict[int, tuple[float, _Move]]] = {}
    for (move,), value in zip(singles, worth, strict=True):
        places = by_owner.setdefault(move.owner, {})
        if value > 0 and value > places.get(move.place, (0.0, move))[0]:
            places[move.place] = (value, move)
    trials: list[list[_Move]] = []
    for places in by_owner.values():
        ranked = [move for _, move in sorted(places.values(), key=lambda item: -item[0])]
        lengths = {min(2**i, len(ranked)) for i in range(len(ranked).bit_length() + 1)}
        trials += [ranked[:length] for length in sorted(lengths) if length]
    best: dict[int, tuple[float, list[_Move]]] = {}
    for trial, value in zip(trials, _worth(fit, trials, x, y, weights, limit, floor, config), strict=True):
        if value > 0 and value > best.get(trial[0].owner, (0.0, trial))[0]:
            best[trial[0].owner] = (value, trial)
    return {owner: trial for owner, (_, trial) in best.items()}


def _worth(
    fit: Fit,
    trials: Sequence[list[_Move]],
    x: Tensor,
    y: Tensor,
    weights: Tensor,
    limit: Tensor,
    floor: float,
    config: SnapConfig,
) -> list[float]:
    """Nats that each trial saves; minus infinity where the fit gets worse than allowed."""
    if not trials:
        return []
    tried = _fit_moves(fit, trials, x, y, weights, config)
    owner = torch.tensor([trial[0].owner for trial in trials])
    price = 0.5 * y.shape[0] * ((tried.mse + floor) / (fit.mse[owner] + floor)).log()
    allowed = (tried.mse <= limit[owner]) & (tried.valid_share >= fit.valid_share[owner] - 1e-12)
    gains = torch.tensor([sum(move.gain for move in trial) for trial in trials], dtype=torch.float64)
    return torch.where(allowed, gains - price, -torch.inf).tolist()


def _fit_moves(
    fit: Fit, trials: Sequence[list[_Move]], x: Tensor, y: Tensor, weights: Tensor, config: SnapConfig
) -> Fit:
    moved = fit.programs.rows(torch.tensor([trial[0].owner for trial in trials]))
    flat, free = flatten(moved).clone(), _free(moved).clone()
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
    return fit_constants(moved, x, y, weights=weights, config=FitConfig(steps=config.fit_steps))


def _apply(
    fit: Fit, accepted: dict[int, list[_Move]], x: Tensor, y: Tensor, weights: Tensor, config: SnapConfig
) -> Fit:
    owners = torch.tensor(list(accepted))
    new = _fit_moves(fit, list(accepted.values()), x, y, weights, config)
    order = torch.arange(len(fit.mse))
    order[owners] = len(order) + torch.arange(len(owners))
    joined = Programs.cat([fit.programs, new.programs])
    return Fit(
        joined.rows(order),
        torch.cat([fit.mse, new.mse])[order],
        torch.cat([fit.valid_share, new.valid_share])[order],
        torch.cat([fit.steps, new.steps])[order],
    )


def _free(programs: Programs) -> Bool[Tensor, "b m"]:
    return torch.cat([programs.free_weight.flatten(1), programs.free_bias.flatten(1)], 1)
