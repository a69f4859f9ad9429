"""Fits the free constants of many different programs at once: Levenberg-Marquardt with variable projection.

With J = [J_lin | J_below] and residual r, one QR factorisation of [J_lin | J_below | r] per step,

    R = [ R11  R12  q1 ]      R11 dc = q1                  the best linear constants, in closed form
        [  0   R22  q2 ]      min |q2 - R22 da|² + μ|D da|²  a damped step of the others, with the linear ones
                                                           following them (variable projection, Kaufman's form)

The factor is built over chunks of points, so memory does not grow with their number, and no normal equations are
formed: their condition number is the square of J's, and constants are wanted to machine precision. Damping, acceptance
and freezing are kept per candidate. Golub & Pereyra 1973; Kaufman 1975; Nielsen's damping (IMM-REP-1999-05).

Legend: b batch (candidate), p point, v input variable, k packed constant, m all real numbers of a program.
"""

import math
import time
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from emlinit.finetune.fitting.factor import FitData, factorise, fit_data
from emlinit.finetune.fitting.misfit import SQUARES, robust_weights
from emlinit.finetune.fitting.packed import PackedConstants, flatten, split_constants, unflatten
from emlinit.finetune.fitting.starts import multi_start
from emlinit.generator.evaluate import evaluate
from emlinit.generator.program import Programs
from emlinit.generator.records import Records

_RIDGE = 1e-8  # of the linear constants' steps, relative to the norm of their columns
_STALE = (
    1e-2  # decrease by the linear constants, relative to the data, from which the factor is made anew after their step
)
_CALM = 1e-9  # relative improvement of a step that counts as none
_CALM_STEPS = 2  # such steps in a row end a fit
_LEAST_SHRINK = 0.1  # of the damping by one step; Nielsen's is a third
_DAMPING_GROWTH = 2.0  # first factor of the damping after a step that failed; it doubles with each further one
_LEAST_DAMPING, _LARGEST_DAMPING = (
    1e-15,
    1e12,
)  # below, steps are undamped in double precision; above, they move nothing


@dataclass(frozen=True)
class FitConfig:
    """How constants are fitted."""

    steps: int = 30
    """Most Levenberg-Marquardt steps of a candidate; each is one evaluation with derivatives."""
    restarts: int = 0
    """Further starts of each candidate, its constants below the readout multiplied by random factors."""
    spread: float = 0.5
    """Standard deviation of the logarithm of those factors."""
    frequency_factors: tuple[float, ...] = ()
    """Further starts with all free imaginary parts below the readout (frequencies) multiplied by each of these."""
    screen_steps: int = 8
    """Steps after which only the `survivors` best starts of a candidate go on."""
    survivors: int = 2
    """Starts of a candidate that go on after the screening."""
    damping: float = 1e-2
    """First damping, relative to the squared column norms of the Jacobian."""
    tolerance: float = 1e-15
    """A candidate is done when its relative residual is below this, or two steps in a row each improve its objective by less
    than 1e-9 of it."""
    chunk_numbers: int = 2**21
    """Most float64 numbers of the Jacobian held at once (16 MiB by default, which the cache likes)."""
    until: float = math.inf
    """No further step begins after this, on the clock of `time.monotonic`: what there is by then is returned."""


@dataclass(frozen=True, eq=False)
class Fit(Records):
    """Fitted programs and how well they fit."""

    programs: Programs
    """The candidates in their order, with fitted constants."""
    mse: Float64[Tensor, " b"]
    """(Weighted) mean squared residual over the valid points; infinite where no point is valid."""
    valid_share: Float64[Tensor, " b"]
    """(Weighted) share of the points where the candidate has a valid value, 0..1."""
    steps: Int64[Tensor, " b"]
    """Steps the chosen start of each candidate used."""


def fit_constants(
    programs: Programs,
    x: Float64[Tensor, "... p v"],
    y: Float64[Tensor, "... p"],
    *,
    weights: Float64[Tensor, "... p"] | None = None,
    loss: str = SQUARES,
    config: FitConfig | None = None,
    generator: torch.Generator | None = None,
) -> Fit:
    """Fit the free constants of every candidate to the same or to its own points.

    A point where a candidate is invalid counts like a prediction of zero while steps are compared, so that no step
    gains by losing points, and is left out of `mse`. `weights` (non-negative) weigh the points. A `loss` other than squares
    is one of squares whose weights follow the residuals (see `misfit`); `mse` is the square of the robust scale then.
    `generator` is needed for `config.restarts` only. A candidate's fit is never worse than its start.

    Raises:
        UserError: no points, shapes that do not belong together, or restarts without a generator.
    """
    config = config or FitConfig()
    data = fit_data(x, y, weights, loss)
    starts, n_starts = multi_start(programs, config.restarts, config.spread, config.frequency_factors, generator)
    if n_starts == 1:
        state = _descend(programs, data, config.steps, config)
    else:
        b = len(programs)
        candidate = torch.arange(b, device=y.device).repeat(n_starts)
        state = _descend(starts, data.rows(candidate), config.screen_steps, config)
        best = state.objective.view(n_starts, b).argsort(0)[: config.survivors]  # starts are laid out start-major
        rows = (best * b + torch.arange(b, device=y.device)).flatten()
        state = _descend(starts.rows(rows), data.rows(candidate[rows]), config.steps, config, state.rows(rows))
        winner = state.objective.view(len(best), b).argmin(0) * b + torch.arange(b, device=y.device)
        state = state.rows(winner)
    mse = torch.where(state.valid_share > 0, state.squares / state.valid_share, torch.inf)
    return Fit(unflatten(programs, state.flat), mse, state.valid_share, state.steps)


@dataclass(frozen=True, eq=False)
class _State(Records):
    """Where each candidate stands."""

    flat: Tensor
    """All real numbers of its program (b, m)."""
    factor: Tensor
    """The QR factor of [J_lin | J_below | residual] there (b, k + 1, k + 1), the linear constants' step taken."""
    objective: Tensor
    """What is compared: weighted squared residual, invalid points counting as a prediction of zero (b,)."""
    squares: Tensor
    """Weighted squared residual of the valid points (b,)."""
    valid_share: Tensor
    """Weighted share of the valid points (b,)."""
    damping: Tensor
    """μ of the next step (b,)."""
    growth: Tensor
    """Factor of the damping if that step fails (b,)."""
    calm: Tensor
    """Successful steps in a row that improved next to nothing (b,)."""
    steps: Tensor
    """Steps so far (b,)."""

    def put(self, rows: Tensor, other: "_State") -> None:
        for name, value in vars(self).items():
            value[rows] = getattr(other, name)


def _descend(programs: Programs, data: FitData, steps: int, config: FitConfig, state: _State | None = None) -> _State:
    linear, below = split_constants(programs)
    if state is None or state.factor.shape[1] != linear.index.shape[1] + below.index.shape[1] + 1:
        fresh = _linearise(programs, flatten(programs) if state is None else state.flat, linear, below, data, config)
        state = fresh if state is None else replace(fresh, steps=state.steps)
    is_robust = data.loss != SQUARES
    if not (below.index.shape[1] or is_robust):
        return state
    scale = (data.weights * data.y.square()).sum(-1).expand(len(programs))
    floor = scale * config.tolerance**2
    movable = linear.used.any(1) | below.used.any(1) if is_robust else below.used.any(1)
    active = ((state.objective > floor) & movable).nonzero().flatten()
    for _ in range(steps):
        if not len(active) or time.monotonic() > config.until:
            break
        here = state.rows(active)
        lin, bel = linear.rows(active), below.rows(active)
        step, predicted = _damped_step(here.factor, here.damping, lin.index.shape[1])
        flat = bel.add(here.flat, step[:, lin.index.shape[1] :])
        flat = lin.add(flat, step[:, : lin.index.shape[1]])
        there = _linearise(programs.rows(active), flat, lin, bel, data.rows(active), config)
        better = there.objective < here.objective
        gain = (here.objective - there.objective) / predicted.clamp_min(torch.finfo(torch.float64).tiny)
        shrink = (1.0 - (2.0 * gain.clamp(0.0, 1.0) - 1.0) ** 3).clamp_min(_LEAST_SHRINK)
        small = here.objective - there.objective <= _CALM * here.objective
        there = replace(
            there.where(better, here),
            damping=torch.where(better, here.damping * shrink, here.damping * here.growth).clamp_min(_LEAST_DAMPING),
            growth=torch.where(better, _DAMPING_GROWTH, here.growth * 2.0),
            calm=torch.where(better & small, here.calm + 1, torch.where(better, 0, here.calm)),
            steps=here.steps + 1,
        )
        state.put(active, there)
        done = (there.objective <= floor[active]) | (there.calm >= _CALM_STEPS) | (there.damping > _LARGEST_DAMPING)
        active = active[~done]
    return state


def _linearise(
    programs: Programs, flat: Tensor, linear: PackedConstants, below: PackedConstants, data: FitData, config: FitConfig
) -> _State:
    """Give the linear constants their best values and factorise there.

    The derivatives by the constants below depend on the linear ones, so where those moved far the factor is made anew.
    """
    k = linear.index.shape[1]
    weighed = data if data.loss == SQUARES else _reweighed(programs, flat, data)[0]
    raw, valid_share, penalty = factorise(unflatten(programs, flat), linear, below, weighed, config.chunk_numbers)
    factor = _with_ridge(raw, k)
    step = _back_substitute(factor[:, :k, :k], factor[:, :k, -1])
    step = torch.where(step.isfinite().all(1, keepdim=True), step, 0.0)
    flat = linear.add(flat, step)
    squares = (raw[:, :, -1] - _times(raw[:, :, :k], step)).square().sum(1)
    scale = (data.weights * data.y.square()).sum(-1)
    stale = (factor[:, :k, -1].square().sum(1) > _STALE * scale).nonzero().flatten()
    factor[:, :k, -1] = 0.0  # these linear constants have taken their step
    if len(stale):
        moved = unflatten(programs.rows(stale), flat[stale])
        weighed = data.rows(stale)
        if data.loss != SQUARES:
            weighed = _reweighed(programs.rows(stale), flat[stale], weighed)[0]
        raw, valid_share[stale], penalty[stale] = factorise(
            moved, linear.rows(stale), below.rows(stale), weighed, config.chunk_numbers
        )
        factor[stale], squares[stale] = _with_ridge(raw, k), raw[:, :, -1].square().sum(1)
    objective = squares + penalty
    if data.loss != SQUARES:
        _, objective, squares, valid_share = _reweighed(programs, flat, data)
    objective = torch.where(flat.isfinite().all(1), objective, torch.inf)
    b = len(flat)
    return _State(
        flat=flat,
        factor=factor,
        objective=objective,
        squares=squares,
        valid_share=valid_share,
        damping=flat.new_full((b,), config.damping),
        growth=flat.new_full((b,), _DAMPING_GROWTH),
        calm=torch.zeros(b, dtype=torch.int64, device=flat.device),
        steps=torch.zeros(b, dtype=torch.int64, device=flat.device),
    )


def _reweighed(programs: Programs, flat: Tensor, data: FitData) -> tuple[FitData, Tensor, Tensor, Tensor]:
    """A robust loss as one of squares with other weights; the loss, with what invalid points count, and the squared robust
    scale times the share of the points that is valid, and that share."""
    result = evaluate(unflatten(programs, flat), data.x, rtol=None)
    valid = result.valid
    e = torch.where(valid, data.y - result.value, 0.0) * (data.weights * data.y.shape[-1]).sqrt()
    robust = robust_weights(e, valid, data.loss)
    weights = torch.where(valid, data.weights * robust.weights, data.weights)
    share = torch.where(valid, data.weights, 0.0).sum(-1)
    penalty = torch.where(valid, 0.0, data.weights * data.y.square()).sum(-1)
    moved = FitData(data.x, data.y, weights, data.loss)
    return moved, robust.objective * share + penalty, robust.scale.square() * share, share


def _with_ridge(factor: Tensor, k: int) -> Tensor:
    """Add a small ridge on the steps of the first k constants: where columns depend on each other, no step explodes.

    It weighs the step and not the constant, so it slows a degenerate direction down and does not bias the result.
    """
    norms = torch.linalg.vector_norm(factor, dim=1)[:, :k]
    ridge = factor.new_zeros(len(factor), k, factor.shape[2])
    ridge[:, :, :k] = torch.where(norms > 0, _RIDGE * norms, 1.0).diag_embed()
    ridged: Tensor = torch.linalg.qr(torch.cat([factor, ridge], 1), mode="r").R
    return ridged


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    product: Tensor = matrix @ vector[:, :, None]
    return product[:, :, 0]


def _back_substitute(upper: Tensor, right: Tensor) -> Tensor:
    solution: Tensor = torch.linalg.solve_triangular(upper, right[:, :, None], upper=True)
    return solution[:, :, 0]


def _damped_step(factor: Tensor, damping: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The step of all packed constants and the decrease of the objective that the linear model promises."""
    norms = torch.linalg.vector_norm(factor[:, :, k:-1], dim=1)
    scale = torch.where(norms > 0, norms, 1.0) * damping.sqrt()[:, None]
    core, right = factor[:, k:, k:-1], factor[:, k:, -1]
    ridge = torch.nn.functional.pad(scale.diag_embed(), (0, 1))
    damped = torch.linalg.qr(torch.cat([factor[:, k:, k:], ridge], 1), mode="r").R
    n = core.shape[2]
    below = _back_substitute(damped[:, :n, :n], damped[:, :n, -1])
    left = right - _times(core, below)
    predicted = right.square().sum(1) - left.square().sum(1)
    linear = _back_substitute(factor[:, :k, :k], factor[:, :k, -1] - _times(factor[:, :k, k:-1], below))
    return torch.cat([linear, below], 1), predicted
