"""Oscillations that no grid of frequencies holds, read off the data: rapid ones, and plane waves in two phases.

A grid that is fine enough for every frequency would be most of a dictionary. So where the angle grows by more than a few
periods over the range of a phase u, and for the waves cos(ω u + ω' u' + φ) in two of them, frequencies are taken from the
periodogram of the targets, |Σ y exp(i(ω u + ω' u'))|², which does not ask for even spacing. Its highest peak is taken, as
long as it stands out of noise (Scargle 1982), and then that of what is left without this wave, and so on. What is slow is
taken away as well, or each trend would be made of rapid waves; but it is not reported.

Legend: p point, k phase (one or two), f frequency.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Bool, Float64
from torch import Tensor

SIGNAL_POINTS = 1000
"""Most points that are read."""
MOST_PERIODS = 200
"""Most periods over the range of one phase; and no more than one for four different values."""
MOST_PERIODS_OF_TWO = 25
"""The same for each of two phases."""
# Radians by which the angle of one frequency grows more, over the range, than that of the one before: in one phase, in two.
_STEP, _STEP_OF_TWO = 0.3 * math.pi, 0.5 * math.pi
_FINER = 5  # a peak is looked at so many times closer, three times
_FALSE_ALARM = 0.01  # chance that white noise has a peak as high, at any of the frequencies
_ROUNDING = 1e-24  # of the sum of squares: what is left below it says nothing
_TREND = 2  # degree of the polynomials that are taken out first
_TAKEN = 6  # waves that are taken out at most
_APART = 2.0  # steps: what is nearer to a wave that was taken is a part of it

_Array = Float64[np.ndarray, "..."]


def rapid_frequencies(
    u: Float64[Tensor, " p"], y: Float64[Tensor, " p"], lowest: float, most: int = 3
) -> Float64[Tensor, " f"]:
    """Angular frequencies of rapid oscillations of y in u, strongest first; few, and mostly none.

    Args:
        u: a phase at the points, in any order, of which the first `SIGNAL_POINTS` are read; those where it is not finite are
            passed over.
        y: targets, finite.
        lowest: slower ones are not reported.
        most: how many at most.
    """
    found = [wave for wave in _waves(u[None], y, MOST_PERIODS, _STEP) if wave[0] >= lowest]
    return torch.tensor(found[:most], dtype=torch.float64).view(-1)


def plane_waves(u: Float64[Tensor, "2 p"], y: Float64[Tensor, " p"], most: int = 2) -> Float64[Tensor, "f 2"]:
    """Angular frequencies of waves of y in two phases, strongest first; few, and mostly none. The angle goes through a
    period in one phase at least, and changes with both.

    Args:
        u: the phases at the points, of which the first `SIGNAL_POINTS` are read; those where one is not finite are passed
            over.
        y: targets, finite.
        most: how many at most.
    """
    span = [_range(row[:SIGNAL_POINTS]) for row in u]
    found = []
    for wave in _waves(u, y, MOST_PERIODS_OF_TWO, _STEP_OF_TWO):
        angles = [abs(frequency) * wide for frequency, wide in zip(wave, span, strict=True)]
        if max(angles) >= 2 * math.pi and min(angles) >= _STEP_OF_TWO / 2:
            found.append(wave)
    return torch.tensor(found[:most], dtype=torch.float64).view(-1, 2)


def _range(row: Tensor) -> float:
    finite = row[row.isfinite()]
    return float(finite.amax() - finite.amin()) if len(finite) else 0.0


def _waves(u: Float64[Tensor, "k p"], y: Tensor, most_periods: int, step: float) -> Iterator[list[float]]:
    """The frequencies of each wave that stands out, the strongest first, slow ones too."""
    finite = u[:, :SIGNAL_POINTS].isfinite().all(0)
    u, y = u[:, :SIGNAL_POINTS][:, finite], y[:SIGNAL_POINTS][finite]
    levels, span = [len(torch.unique(row)) for row in u], [_range(row) for row in u]
    if len(y) <= 4 * (_TREND + 1) or not all(0 < wide < math.inf for wide in span):
        return
    scaled = np.stack([(row.numpy() - float(row.mean())) / wide for row, wide in zip(u, span, strict=True)])
    n_steps = [int(2 * math.pi * min(most_periods, (n - 1) / 4) / step) for n in levels]
    axes = [np.arange(-n if k else 0, n + 1) * step for k, n in enumerate(n_steps)]
    if len(axes) == 1:
        axes.append(np.zeros(1))
        scaled = np.concatenate([scaled, np.zeros_like(scaled)])
    angular = [np.exp(1j * np.multiply.outer(axis, row)) for axis, row in zip(axes, scaled, strict=True)]
    possible = _is_wave(axes, step)
    n_frequencies = int(possible.sum())
    if n_frequencies < 3:
        return
    columns = [np.ones(len(y)), *(row**degree for row in scaled[: len(u)] for degree in range(1, _TREND + 1))]
    if len(u) == 2:
        columns.append(scaled[0] * scaled[1])
    high = 1 - (_FALSE_ALARM / n_frequencies) ** (2 / max(len(y) - len(columns), 1))
    taken: list[_Array] = []
    target = y.numpy()
    while len(taken) < _TAKEN and len(columns) < len(y):
        basis = np.stack(columns, 1)
        rest = target - basis @ np.linalg.lstsq(basis, target, rcond=None)[0]
        variance = float(rest @ rest)
        if not variance > _ROUNDING * float(target @ target):
            return
        power = np.abs(angular[0] @ (rest[:, None] * angular[1].T)) ** 2 * possible
        place = np.unravel_index(int(power.argmax()), power.shape)
        if 2 * float(power[place]) / (len(y) * variance) < high:  # share of what is left
            return
        wave = _nearer(np.array([axis[i] for axis, i in zip(axes, place, strict=True)]), step, scaled, rest, len(u))
        if all(np.abs(wave - other).max() > _APART * step for other in taken):
            yield [float(angle / wide) for angle, wide in zip(wave, span, strict=False)]
        taken.append(wave)
        columns += [np.cos(wave @ scaled), np.sin(wave @ scaled)]


def _is_wave(axes: list[_Array], step: float) -> Bool[np.ndarray, "f g"]:
    """Frequencies of which each wave has one: not 0, and of those of opposite sign one."""
    first, second = np.meshgrid(*axes, indexing="ij")
    waves: Bool[np.ndarray, "f g"] = (first > step / 2) | (second > step / 2)
    return waves


def _nearer(wave: _Array, width: float, scaled: _Array, rest: _Array, n_phases: int) -> _Array:
    """The place of a peak, three times looked at closer."""
    for _ in range(3):
        steps = [np.linspace(-width, width, 2 * _FINER + 1) if k < n_phases else np.zeros(1) for k in range(2)]
        near = [np.exp(1j * np.multiply.outer(at + way, row)) for at, way, row in zip(wave, steps, scaled, strict=True)]
        power = np.abs((near[0] * rest) @ near[1].T)
        place = np.unravel_index(int(power.argmax()), power.shape)
        wave = wave + np.array([way[i] for way, i in zip(steps, place, strict=True)])
        width /= _FINER
    return wave
