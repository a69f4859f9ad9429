"""A law that was found: its residuals on the data, worked out once, and where it comes from.

Legend: p point.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import sympy
import torch

from emlinit.finetune.fitting.misfit import PLAIN, Misfit
from emlinit.finetune.fitting.prices import NATS_PER_NODE, integer_cost
from emlinit.finetune.law.law import Law
from emlinit.finetune.law.shape import told_nodes
from emlinit.generator.formulas.expression import size_at_most

EXACT_ERROR = 1e-9
"""Root mean squared error, relative to that of a constant, up to which a law counts as exact."""
_DIGITS_PER_CONSTANT = 1.5
"""Digits of the error that each constant must account for in an exact law: a series fitted to a smooth function gains
about one digit with every term."""
JUDGE_SHARE = 0.5
"""Of the price of a form, where the network has told one; the rest is that of its nodes. Calibrated on random laws with
noise: docs/log.md has the figures."""
_LEAST_ERROR = 1e-13  # relative: less is asked of no law
_USUAL_NUMBER = 4  # largest numerator and denominator of the fractions that laws are made of


class Errors(NamedTuple):
    """How far a law is from targets; all but `r2` are infinite where it is undefined at any point."""

    rmse: float
    """Root mean squared error, in units of y; weighted as the rows are, and with a robust loss the robust standard deviation
    of the residuals (see `fitting.misfit`)."""
    r2: float
    """Share of the variance of y that the law explains, at most 1; for a constant y, 1 or -infinity."""
    relative: float
    """`rmse` over the root mean squared deviation of y from its mean, or what stands for it."""


def errors_of(residual: np.ndarray, y: np.ndarray, misfit: Misfit = PLAIN) -> Errors:
    """The errors of residuals (law less target) of shape (p,) beside their targets, as they count."""
    mse, variance = math.inf, float(np.var(y))
    if np.isfinite(residual).all():
        with np.errstate(all="ignore"):
            mse = float(np.mean(residual**2) if misfit.is_plain else misfit.mse(torch.from_numpy(residual)))
    if not misfit.is_plain:
        variance = misfit.variance(torch.from_numpy(y))
    relative = math.sqrt(mse / variance) if variance > 0 else (0.0 if mse == 0 else math.inf)
    return Errors(math.sqrt(mse), 1.0 - relative**2, relative)


def count_distinct(x: np.ndarray) -> int:
    """Number of different points among rows of shape (p, v)."""
    return len(np.unique(x, axis=0))


def residuals(law: Law, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Law less target on points (p, v), of shape (p,); not finite where the law is undefined."""
    with np.errstate(all="ignore"):
        return np.asarray(law.predict(x) - y)


def odd_number_nats(expression: sympy.Expr) -> float:
    """Nats that the integers and fractions of a formula cost beyond a node each: nothing where numerator and
    denominator are at most 4, else what these do in the universal code (`integer_cost`). A root of degree 10 or an exponent
    of 17/8 is a constant that was fitted, though it is not written as one."""
    nats = 0.0
    for number in expression.atoms(sympy.Rational):
        p, q = abs(number.p), number.q
        if max(p, q) > _USUAL_NUMBER:
            nats += max(0.0, integer_cost(p) + (integer_cost(q) if q > 1 else 0.0) - NATS_PER_NODE)
    return nats


@dataclass(frozen=True, eq=False)
class Finding:
    """One law beside the data that it was found in."""

    law: Law
    """The law."""
    residual: np.ndarray
    """Law less target at all rows, float64 of shape (p,); not finite where the law is undefined."""
    y: np.ndarray
    """The targets, of shape (p,)."""
    grammar: str
    """Grammar that it was found in: `exact` or `weighted`."""
    n_distinct: int
    """Different points among the rows: repeated ones say nothing about the form of a law."""
    origin: tuple[str, bool] = ("", False)
    """The stage of the search that found it, and whether a proposal of the network is among its ancestors."""
    misfit: Misfit = PLAIN
    """How residuals count, with the weights of all rows."""
    told_nats: float | None = None
    """What the form costs in the eyes of the network, its coarse constants included: less the log-probability that it has,
    the data given; None if nobody was asked."""

    @classmethod
    def of(
        cls,
        law: Law,
        x: np.ndarray,
        y: np.ndarray,
        *,
        grammar: str,
        origin: tuple[str, bool] = ("", False),
        n_distinct: int | None = None,
        misfit: Misfit = PLAIN,
    ) -> "Finding":
        """Put a law beside data: x of shape (p, v), the columns that it reads, and y of shape (p,); `n_distinct` where it is
        known already."""
        n_distinct = count_distinct(x) if n_distinct is None else n_distinct
        return cls(law, residuals(law, x, y), y, grammar, n_distinct, origin, misfit)

    def errors(self, rows: np.ndarray | slice = slice(None)) -> Errors:
        """Its errors on some rows."""
        chosen = rows if isinstance(rows, slice) else torch.from_numpy(rows)
        return errors_of(self.residual[rows], self.y[rows], self.misfit.rows(chosen))

    def described_mse(self, rows: np.ndarray | slice = slice(None)) -> float:
        """What its description takes for the mean squared error on some rows: known errors are not got below."""
        return float(self.misfit.described(torch.tensor(self.errors(rows).rmse ** 2, dtype=torch.float64)))

    @cached_property
    def overall(self) -> Errors:
        """Its errors on all rows."""
        return self.errors()

    @property
    def rmse(self) -> float:
        """Root mean squared error over all rows, in units of y."""
        return self.overall.rmse

    @property
    def complexity(self) -> int:
        """Nodes of the printed formula's expression tree."""
        return self.law.complexity

    @cached_property
    def size(self) -> int:
        """Nodes that count against the most that a law may have: a number is one, however it is written."""
        return int(size_at_most(self.law.expression))

    @cached_property
    def told_nodes(self) -> int:
        """Nodes that it takes to say the formula, where shapes that have a name are said by it."""
        return told_nodes(self.law.expression)

    @cached_property
    def description_nodes(self) -> float:
        """Nodes that are paid for, and what its numbers cost beyond one node each (`odd_number_nats`), as nodes; where the
        network was asked, in part what it holds of the form with its numbers (`JUDGE_SHARE`)."""
        told = self.told_nodes + odd_number_nats(self.law.expression) / NATS_PER_NODE
        if self.told_nats is None:
            return told
        return (1 - JUDGE_SHARE) * told + JUDGE_SHARE * self.told_nats / NATS_PER_NODE

    def is_readable(self, max_complexity: float | int) -> bool:
        """Whether it may be offered: a formula of real numbers, of so many nodes at most, defined on all rows."""
        return self.law.is_real and self.size <= max_complexity and math.isfinite(self.rmse)

    @cached_property
    def n_fitted(self) -> int:
        """Constants of the printed formula that are no integers, fractions or multiples of pi; a and -a are one."""
        return len({abs(float(number)) for number in self.law.expression.atoms(sympy.Float)})

    @cached_property
    def is_exact(self) -> bool:
        """Whether it fits all rows to machine precision, and not for its many constants: there are more different points
        than those, and more digits than a series of as many terms would get right."""
        error = min(EXACT_ERROR, max(_LEAST_ERROR, 10.0 ** (-_DIGITS_PER_CONSTANT * self.n_fitted)))
        errors = self.overall if self.misfit.is_plain else errors_of(self.residual, self.y)
        return self.n_distinct > self.n_fitted + 1 and errors.relative <= error
