"""What the formula of a program will be made of, read off its structure: so that a search for laws without sines, say, need
not read every candidate as a formula to pass it over.

A node is exp(l) - ln(r). Where l is a constant it is a logarithm; where l holds a real multiple of a logarithm, exp makes
a power of it, else an exponential, or with an imaginary factor a wave. This is told from no more than that, so a formula
may turn out simpler: whether a law is admitted is decided when it is read.

Legend: b candidate, s slot, t term.
"""

from collections.abc import Set

import torch
from jaxtyping import Bool
from torch import Tensor

from emlinit.generator.program import Programs

INGREDIENTS = ("wave", "exp", "ln", "root", "inverse")
"""Sines and cosines; exponentials; logarithms; powers that are not whole; negative powers."""
_NEARLY_WHOLE = 0.05  # an exponent that may still be snapped to a whole number
_NOTHING = 1e-9  # a real or imaginary part of a factor, relative to the other one


def holds(programs: Programs) -> dict[str, Bool[Tensor, " b"]]:
    """For each of the `INGREDIENTS`, which programs have it."""
    n, first = len(programs), programs.n_variables + 1
    used = programs.used_terms()
    varies = torch.zeros(n, first + programs.max_nodes, dtype=torch.bool)
    varies[:, 1:first] = True
    is_log = torch.zeros_like(varies)
    found = {name: torch.zeros(n, dtype=torch.bool) for name in INGREDIENTS}

    def terms(slot: int) -> tuple[Tensor, Tensor]:
        """Which terms of a slot vary, and which of them are logarithms."""
        source = programs.source[:, slot]
        there = used[:, slot] & varies.gather(1, source)
        return there, there & is_log.gather(1, source)

    for node in range(programs.max_nodes):
        left, logs = terms(2 * node)
        right, inner_logs = terms(2 * node + 1)
        real, imaginary = programs.weight[:, 2 * node].unbind(-1)
        turns = left & (imaginary.abs() > _NOTHING * real.abs())
        grows = left & (real.abs() > _NOTHING * imaginary.abs())
        powers = logs & grows & ~turns
        found["wave"] |= turns.any(1)
        found["exp"] |= (grows & ~logs).any(1)
        found["ln"] |= (turns & logs).any(1) | inner_logs.any(1) | (left.any(1) & right.any(1))
        found["root"] |= (powers & ((real - real.round()).abs() > _NEARLY_WHOLE)).any(1)
        found["inverse"] |= (powers & (real > _NEARLY_WHOLE)).any(1)  # exp(p (c - ln u)) is u to the power -p
        varies[:, first + node] = left.any(1) | right.any(1)
        is_log[:, first + node] = ~left.any(1) & right.any(1)
    found["ln"] |= terms(2 * programs.max_nodes)[1].any(1)
    return found


def holds_none_of(programs: Programs, ingredients: Set[str]) -> Bool[Tensor, " b"]:
    """Which programs have none of some ingredients."""
    found = holds(programs)
    return ~torch.stack([torch.zeros(len(programs), dtype=torch.bool), *(found[name] for name in ingredients)]).any(0)
