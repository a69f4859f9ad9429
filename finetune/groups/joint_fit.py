"""One form fitted to all groups at once, some of its constants shared and the others each group's own.

Least squares by Levenberg and Marquardt. With the own constants of group i first, the normal equations are an arrow,

    [A_i   B_i] [δ_i]   [g_i]            S = D - Σ B_iᵀ A_i⁻¹ B_i
    [B_iᵀ  D  ] [δ  ] = [h  ]            S δ = h - Σ B_iᵀ A_i⁻¹ g_i,     δ_i = A_i⁻¹ (g_i - B_i δ)

so that a step costs no more for many groups than for one of as many rows. The blocks of S⁻¹ and A_i⁻¹ give the covariance.
Linear constants are solved for at every start. If all constants are own, each group has a damping of its own: groups
that are hard to fit do not hold back the others.

Legend: p point, v input variable, k constant, g group, m own constant, s shared constant.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from emlinit.finetune.groups.group_form import GroupForm

_LEAST_DAMPING, _MOST_DAMPING = 1e-15, 1e8
_MOST_STEPS = 80
_SETTLED = 1e-12  # relative change of the sum of squares up to which a step counts as none
_ROUGHLY, _FEW_STEPS = (
    1e-4,
    30,
)  # the same where each group is fitted alone: that is only to know what sharing may come to
_QUIET_STEPS = 2
_STUCK = 1e3  # damping from which a step is hopeless
_FACTORS = (0.3, 3.0, -1.0)  # of each constant in which a form is not linear, beside the start that it has
_MOST_DONORS = 6  # groups whose constants are tried as starts
_BETTER = 1 - 1e-9
_DEPENDENT = 1e-12  # eigenvalues below this share of the largest (of unit columns) say that constants trade off


@dataclass(frozen=True, eq=False)
class GroupedRows:
    """The rows of a table, sorted by group."""

    x: np.ndarray
    """Float64 of shape (p, v)."""
    y: np.ndarray
    """Float64 of shape (p,)."""
    index: np.ndarray
    """Group of each row, int64 of shape (p,), ascending; every group has a row."""
    root: np.ndarray
    """Square roots of the rows' weights, float64 of shape (p,)."""

    @classmethod
    def of(cls, x: np.ndarray, y: np.ndarray, index: np.ndarray, weights: np.ndarray | None = None) -> "GroupedRows":
        """Sort rows; `weights` of shape (p,), 0 or more, all 1 by default."""
        order = np.argsort(index, kind="stable")
        root = np.ones(len(y)) if weights is None else np.sqrt(np.asarray(weights, dtype=np.float64))[order]
        return cls(x[order], y[order], index[order], root)

    @cached_property
    def n_groups(self) -> int:
        """How many groups there are."""
        return int(self.index[-1]) + 1

    @cached_property
    def counts(self) -> np.ndarray:
        """Rows of each group, int64 of shape (g,)."""
        return np.bincount(self.index)

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sum over each group's rows, of shape (g, ...)."""
        return np.asarray(np.add.reduceat(values, np.searchsorted(self.index, np.arange(self.n_groups)), axis=0))


@dataclass(frozen=True, eq=False)
class JointFit:
    """Constants of a form that are a minimum of the sum of squares."""

    form: GroupForm
    """What was fitted."""
    own: np.ndarray
    """Which constants are each group's own, bool of shape (k,)."""
    constants: np.ndarray
    """Float64 of shape (g, k); those that are shared are the same in every row."""
    squares: np.ndarray
    """Sum of the squares of each group's (weighted) residuals, float64 of shape (g,)."""

    @property
    def rss(self) -> float:
        """Sum of the squares of all residuals."""
        return float(self.squares.sum())

    @property
    def n_constants(self) -> int:
        """Numbers that were fitted."""
        return int((~self.own).sum() + self.own.sum() * len(self.constants))


def fit_own(form: GroupForm, rows: GroupedRows) -> JointFit | None:
    """Fit every group alone; None if the form is undefined at a row whatever start is tried.

    A group takes the constants of another as its start where these fit it better than its own do.
    """
    own = np.ones(len(form.constants), dtype=bool)
    constants = np.tile(form.start, (rows.n_groups, 1))
    starts = [constants]
    for k in np.flatnonzero(~form.linear):
        for factor in _FACTORS:
            moved = constants.copy()
            moved[:, k] *= factor
            starts.append(moved)
    best = _Fit(form, rows, own, _best_of(form, rows, own, starts)).run(_ROUGHLY, _FEW_STEPS)
    donors = np.argsort(-rows.counts, kind="stable")[:_MOST_DONORS]
    lent = [np.tile(best.constants[donor], (rows.n_groups, 1)) for donor in donors if np.isfinite(best.squares[donor])]
    if lent:
        start = _best_of(form, rows, own, [best.constants, *lent], projected_from=1)
        if (start != best.constants).any():
            again = _Fit(form, rows, own, start).run(_ROUGHLY, _FEW_STEPS)
            better = again.squares < best.squares
            best = JointFit(
                form,
                own,
                np.where(better[:, None], again.constants, best.constants),
                np.minimum(again.squares, best.squares),
            )
    return best if np.isfinite(best.rss) else None


def fit_shared(form: GroupForm, rows: GroupedRows, own: np.ndarray, start: np.ndarray) -> JointFit | None:
    """Fit all groups with shared constants, from a fit in which more are own; None if the form is undefined there.

    Args:
        form: what is fitted.
        rows: the data.
        own: which constants are each group's own, bool of shape (k,).
        start: constants, float64 of shape (g, k).
    """
    largest = np.argsort(-rows.counts, kind="stable")[:_MOST_DONORS]
    shared = [np.median(start, axis=0), *start[largest]]
    starts = [np.where(own, start, one) for one in shared]
    first = _best_of(form, rows, own, starts)
    found = _Fit(form, rows, own, first).run()
    return found if np.isfinite(found.rss) else None


def covariances(fit: JointFit, rows: GroupedRows, variance: float) -> tuple[np.ndarray, np.ndarray]:
    """Standard errors of the constants, s² (Jᵀ J)⁻¹, infinite where the data do not determine one.

    Args:
        fit: a least-squares fit.
        rows: the data.
        variance: s², of a residual of weight 1.

    Returns:
        the shared constants' of shape (s,), and the own constants' of shape (g, m).
    """
    blocks = _Fit(fit.form, rows, fit.own, fit.constants).blocks(np.ones(len(fit.own), dtype=bool))
    inverse, lost = _inverses(blocks.a)
    solved = inverse @ blocks.b
    schur = blocks.d - np.einsum("gms,gmt->st", blocks.b, solved)
    shared, lost_shared = _inverses(schur[None])
    own = np.diagonal(inverse, axis1=1, axis2=2) + np.einsum("gms,st,gmt->gm", solved, shared[0], solved)
    with np.errstate(invalid="ignore"):
        errors = [np.sqrt(variance * np.diagonal(shared[0])), np.sqrt(variance * own)]
    scales = [blocks.scale_shared, blocks.scale_own]
    return (
        np.where(lost_shared[0], np.inf, errors[0] / scales[0]),
        np.where(lost, np.inf, errors[1] / scales[1]),
    )


def _inverses(matrices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Inverses of symmetric matrices (g, m, m) with a diagonal of about 1, and what is undetermined in them, (g, m)."""
    values, vectors = np.linalg.eigh(matrices)
    weak = values <= _DEPENDENT * values.max(-1, keepdims=True, initial=1.0)
    usable = np.where(weak, np.inf, values)
    inverse = np.einsum("gij,gj,gkj->gik", vectors, 1 / usable, vectors)
    lost = ((np.abs(vectors) > 1e-6) & weak[:, None, :]).any(-1)
    return inverse, lost


def _best_of(
    form: GroupForm, rows: GroupedRows, own: np.ndarray, starts: Sequence[np.ndarray], projected_from: int = 0
) -> np.ndarray:
    """Of some starts the best once linear constants are solved for: for each group if nothing is shared, else in all.

    Those before `projected_from` are taken as they are.
    """
    best = _Fit(form, rows, own, starts[0])
    if projected_from == 0:
        best.solve_linear()
    for start in starts[1:]:
        other = _Fit(form, rows, own, start)
        other.solve_linear()
        better = other.squares < best.squares * _BETTER
        if not own.all():
            better = np.full(rows.n_groups, bool(other.squares.sum() < best.squares.sum()))
        if better.any() or not np.isfinite(best.squares).all():
            best.move(np.where(better[:, None], other.constants, best.constants))
    return best.constants


@dataclass(frozen=True, eq=False)
class _Blocks:
    """The normal equations in units in which the diagonals are 1."""

    a: np.ndarray  # (g, m, m)
    b: np.ndarray  # (g, m, s)
    d: np.ndarray  # (s, s)
    g: np.ndarray  # (g, m)
    h: np.ndarray  # (s,)
    scale_own: np.ndarray  # (g, m)
    scale_shared: np.ndarray  # (s,)

    def step(self, damping: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The own (g, m) and the shared (s,) step; `damping` of shape (g,), the same for all unless nothing is shared."""
        damped = self.a + damping[:, None, None] * np.eye(self.a.shape[1])
        solved = np.linalg.solve(damped, np.concatenate([self.b, self.g[:, :, None]], axis=2))
        solved_b, solved_g = solved[:, :, :-1], solved[:, :, -1]
        schur = self.d + damping[0] * np.eye(len(self.d)) - np.einsum("gms,gmt->st", self.b, solved_b)
        shared = np.linalg.solve(schur, self.h - np.einsum("gms,gm->s", self.b, solved_g))
        own = solved_g - solved_b @ shared
        return own / self.scale_own, shared / self.scale_shared


class _Fit:
    """A fit on its way."""

    def __init__(self, form: GroupForm, rows: GroupedRows, own: np.ndarray, start: np.ndarray) -> None:
        self.form, self.rows, self.own = form, rows, own
        self.move(start)

    def move(self, constants: np.ndarray) -> None:
        self.constants = np.array(constants)
        self.residual, self.squares = self._at(constants)

    def _at(self, constants: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with np.errstate(all="ignore"):
            value = self.form.values(constants[self.rows.index], self.rows.x)
            residual = (self.rows.y - value) * self.rows.root
            squares = self.rows.sums(residual**2)
        return residual, np.where(np.isfinite(squares), squares, np.inf)

    def blocks(self, chosen: np.ndarray) -> _Blocks:
        """The normal equations in the chosen constants; rows where a derivative is undefined say nothing of it."""
        with np.errstate(all="ignore"):
            slopes = self.form.derivatives(self.constants[self.rows.index], self.rows.x) * self.rows.root[:, None]
            usable = np.isfinite(slopes).all(1) & np.isfinite(self.residual)
            slopes = np.where(usable[:, None], slopes, 0.0)
            residual = np.where(usable, self.residual, 0.0)
            inner, outer = slopes[:, self.own & chosen], slopes[:, ~self.own & chosen]
            sums = self.rows.sums
            norms = np.sqrt(sums(inner**2))
            scale_own = np.where((norms > 0) & np.isfinite(norms), norms, 1.0)
            norm = np.sqrt(np.square(outer).sum(0))
            scale_shared = np.where((norm > 0) & np.isfinite(norm), norm, 1.0)
            inner, outer = inner / scale_own[self.rows.index], outer / scale_shared
            return _Blocks(
                sums(inner[:, :, None] * inner[:, None, :]),
                sums(inner[:, :, None] * outer[:, None, :]),
                outer.T @ outer,
                sums(inner * residual[:, None]),
                outer.T @ residual,
                scale_own,
                scale_shared,
            )

    def solve_linear(self) -> None:
        """Set the linear constants to their best for what the others are; one step is enough."""
        if not self.form.linear.any():
            return
        before, squares = self.constants, self.squares
        self.move(np.where(self.form.linear, 0.0, before))
        if np.isfinite(self.squares).all():
            self._step_all(self.form.linear, np.full(self.rows.n_groups, 1e-14))
        if not self.squares.sum() < squares.sum():
            self.move(before)

    def _step_all(self, chosen: np.ndarray, damping: np.ndarray) -> None:
        moved = self._stepped(chosen, damping)
        if moved is not None:
            self.move(moved)

    def _stepped(self, chosen: np.ndarray, damping: np.ndarray) -> np.ndarray | None:
        try:
            own, shared = self.blocks(chosen).step(damping)
        except np.linalg.LinAlgError:
            return None
        return self._added(chosen, own, shared)

    def _added(self, chosen: np.ndarray, own: np.ndarray, shared: np.ndarray) -> np.ndarray:
        moved = self.constants.copy()
        moved[:, self.own & chosen] += own
        moved[:, ~self.own & chosen] += shared
        return moved

    def run(self, settled: float = _SETTLED, most_steps: int = _MOST_STEPS) -> JointFit:
        """Descend to the minimum, until steps change the sum of squares by no more than a share of it."""
        chosen = np.ones(len(self.own), dtype=bool)
        damping = np.full(self.rows.n_groups, 1e-3)
        quiet = np.zeros(self.rows.n_groups, dtype=np.int64)
        blocks: _Blocks | None = None
        for _ in range(most_steps if len(self.own) else 0):
            blocks = self.blocks(chosen) if blocks is None else blocks
            try:
                moved = self._added(chosen, *blocks.step(damping))
                residual, squares = self._at(moved)
            except np.linalg.LinAlgError:
                residual, squares = self.residual, np.full(self.rows.n_groups, np.inf)
                moved = self.constants
            better = squares < self.squares
            with np.errstate(invalid="ignore"):
                small = np.abs(squares - self.squares) <= settled * self.squares
            if not self.own.all():
                better[:] = squares.sum() < self.squares.sum()
                small[:] = abs(squares.sum() - self.squares.sum()) <= settled * self.squares.sum()
            if better.any():
                self.constants = np.where(better[:, None], moved, self.constants)
                self.residual = np.where(better[self.rows.index], residual, self.residual)
                self.squares = np.where(better, squares, self.squares)
                blocks = None
            damping = np.clip(np.where(better, damping / 10, damping * 10), _LEAST_DAMPING, _MOST_DAMPING)
            quiet = np.where(small | (damping >= _STUCK), quiet + 1, 0)
            if (quiet >= _QUIET_STEPS).all():
                break
        return JointFit(self.form, self.own, self.constants, self.squares)
