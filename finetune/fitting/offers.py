"""What free constants may become: 0, the simple numbers within their errors, and what each change would save.

`c + w·eml(1, u)` is `(c + w·e) - w·ln u`: once w is fixed, c is also offered the values that make c + w·e simple, so that
183·exp(-1.5·eml(1, x)) becomes 3.1·exp(1.5·ln x).

Legend: b batch (candidate), m all real numbers of a program, slots and terms as in `Programs`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from emlinit.finetune.fitting.packed import flatten
from emlinit.finetune.fitting.prices import free_cost
from emlinit.finetune.fitting.simple_values import simple_values
from emlinit.generator.program import Programs
from emlinit.generator.tidy import logarithm_shifts, scaled_exponentials

BELOW, UNDETERMINED, READOUT = range(3)
"""Turns in which moves are decided: constants below the readout that the data determine, those that only trade off against
others (infinite error), and those of the readout."""

_PRICE_TAKEN = 0.5  # offers are tried if their gain is more than this share of their expected price
_LEAST_ERROR = 1e-13  # of a constant, relative to it: no digit beyond float64's is ever paid for
_SMALL_CONSTANT = 1e-3  # what is smaller is taken to be known to digits of this
_SHIFT_NATS = 1.0  # what a simple c + w·e costs less than another simple number: the law is the shorter for it
_SHIFT_GAIN = 1.0  # nats that an exponential saves whose exponent is a multiple of a logarithm
_SHIFTED = 1e-12  # of the shift: an exponent that is nearer is such a multiple already


@dataclass(frozen=True)
class Constant:
    """A free constant and what is offered in its place."""

    owner: int
    """Candidate that it belongs to."""
    place: int
    """Position in the flat row of all real numbers."""
    value: float
    """What the fit made it."""
    error: float
    """Standard error; infinite where the data do not determine the constant."""
    offers: list[tuple[float, float, float]]
    """Offset, simple number, nats: the constant would be the number less the offset."""

    @property
    def cost(self) -> float:
        """Nats of the constant as it is."""
        return free_cost(self.value, self.error)


@dataclass(frozen=True)
class Move:
    """One constant set to a number, and no longer free."""

    owner: int
    """Candidate whose constant it is."""
    place: int
    """Position in the flat row of all real numbers."""
    value: float
    """The number."""
    gain: float
    """Nats saved if the fit does not suffer."""
    turn: int
    """When it is decided: `BELOW`, `UNDETERMINED` or `READOUT`."""
    node: int | None = None
    """Node of a plain exponential whose exponent's constant is moved: its readers' factors make up for it."""


def free_numbers(programs: Programs) -> Bool[Tensor, "b m"]:
    """Which of the flat rows' real numbers are free."""
    return torch.cat([programs.free_weight.flatten(1), programs.free_bias.flatten(1)], 1)


def offers(programs: Programs, errors: Float64[Tensor, "b m"]) -> Iterator[Constant]:
    """All free constants with their offers, given their standard errors."""
    values, free = flatten(programs), free_numbers(programs)
    n_weight, shifts = programs.weight[0].numel(), logarithm_shifts(programs)
    for owner, place in free.nonzero().tolist():
        value = float(values[owner, place])
        # a fit to rounding reports no error at all
        error = max(float(errors[owner, place]), _LEAST_ERROR * max(abs(value), _SMALL_CONSTANT))
        is_constant = place >= n_weight and (place - n_weight) % 2 == 0
        shift = float(shifts[owner, _slot_of(programs, place)]) if is_constant else 0.0
        offered = [(0.0, number, nats) for number, nats in simple_values(value, error)]
        if shift:
            offered += [(shift, number, nats - _SHIFT_NATS) for number, nats in simple_values(value + shift, error)]
        yield Constant(owner, place, value, error, offered)


def moves(programs: Programs, errors: Float64[Tensor, "b m"], *, least_gain: float, removal_bonus: float) -> list[Move]:
    """The offers to all free constants that may pay.

    Args:
        programs: fitted candidates.
        errors: standard errors of all their real numbers.
        least_gain: nats that a number other than 0 must save.
        removal_bonus: nats that a 0 saves beyond those of the constant.
    """
    found = []
    for constant in offers(programs, errors):
        is_readout = _slot_of(programs, constant.place) == programs.source.shape[1] - 1
        turn = (READOUT if is_readout else BELOW) if math.isfinite(constant.error) else UNDETERMINED
        for offset, number, nats in constant.offers:
            gain = constant.cost - nats + (removal_bonus if number == 0.0 else -least_gain)
            # With the others fitted again an offer at z standard errors costs z²/2, as far as the law is linear in them.
            z = (number - offset - constant.value) / constant.error if math.isfinite(constant.error) else 0.0
            if gain > _PRICE_TAKEN * (z**2 / 2):
                found.append(Move(constant.owner, constant.place, number - offset, gain, turn))
    return found + list(_shifted_exponentials(programs))


def _shifted_exponentials(programs: Programs) -> Iterator[Move]:
    """w·exp(p ln u) rather than w'·exp(-p·eml(1, u))."""
    values, free = flatten(programs), free_numbers(programs)
    n_weight = programs.weight[0].numel()
    shifts, loose = logarithm_shifts(programs), scaled_exponentials(programs)
    for owner, slot in (loose & (shifts != 0)).nonzero().tolist():
        place, shift = n_weight + 2 * slot, float(shifts[owner, slot])
        if not free[owner, place] and abs(float(values[owner, place]) + shift) > _SHIFTED * abs(shift):
            yield Move(owner, place, -shift, _SHIFT_GAIN, UNDETERMINED, slot // 2)


def _slot_of(programs: Programs, place: int) -> int:
    n_weight, t = programs.weight[0].numel(), programs.source.shape[2]
    return place // (2 * t) if place < n_weight else (place - n_weight) // 2
