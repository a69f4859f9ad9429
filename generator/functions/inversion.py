"""What an open slot must hold: the known rest of a tree, solved for one of its subtrees.

    y = exp(L) - ln(R)   gives   exp(L) = y + ln(R)   and   ln(R) = exp(L) - y

A tree with one unknown subtree therefore determines the values of that subtree. Going down from the root, the right child
is unique: the principal logarithm is one-to-one, and where exp(L) - y has an imaginary part outside (-pi, pi] there is no
R at all. The left child is known up to multiples of 2 pi i; its exponential is unique, so that is what is looked up, and a
branch is chosen only to go on below it.

Everything is complex and batched: every subtree of every tree is opened at once.

Legend: b tree, l token position, m point, v input variable.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Complex128, Float64, Int64
from torch import Tensor

from emlinit.generator.grammar import EML, LEFT, ONE, PAD, RIGHT, ROOT, X1, subtree_lengths
from emlinit.generator.node import LARGEST_UNSURE, exp_branch_cut, log_branch_cut, log_of_node, solve_left, solve_right

EPS = 2.2e-16
"""Relative rounding error that inversion starts from."""
LARGEST = 1e12
"""Wanted values above are not followed."""


@dataclass(frozen=True, eq=False)
class OpenSlots:
    """For every subtree of every tree, what it would have to be, were it open and the rest right."""

    side: Int64[Tensor, "b l"]
    """`ROOT`, `LEFT` or `RIGHT`."""
    target: Complex128[Tensor, "b l m"]
    """At the root y itself, at a left child exp(L), at a right child ln(R)."""
    wanted: Complex128[Tensor, "b l m"]
    """The values that the subtree must have; at left children the branch nearest to what the tree has there."""
    error: Float64[Tensor, "b l m"]
    """Absolute errors of `wanted` to first order, where `y` is known but for rounding; infinite where nothing is known."""
    possible: Bool[Tensor, "b l"]
    """Whether the target exists and is finite at all points; False at padding. Where exp(L) is 0 `wanted` is infinite, and
    where exp(L) overflows, below a right child of which only the logarithm is a double, `wanted` is L all the same."""


def subtree_values(tokens: Int64[Tensor, "b l"], x: Float64[Tensor, "m v"]) -> Complex128[Tensor, "b l m"]:
    """The values of `subtree_values_and_logs`."""
    return subtree_values_and_logs(tokens, x)[0]


def subtree_values_and_logs(
    tokens: Int64[Tensor, "b l"], x: Float64[Tensor, "m v"]
) -> tuple[Complex128[Tensor, "b l m"], Complex128[Tensor, "b l m"]]:
    """Values of the subtree that starts at each position of exact-grammar trees, and their principal logarithms, which are
    right also where no double holds the value; NaN at padding."""
    n_rows, length = tokens.shape
    spans = subtree_lengths(tokens)
    value, log = (torch.full((n_rows, length + 1, len(x)), complex("nan"), dtype=torch.complex128) for _ in range(2))
    leaves = torch.cat([torch.ones(1, len(x), dtype=torch.float64), x.T]).to(torch.complex128)  # 1, then the variables
    leaf = torch.where(tokens == ONE, 0, tokens - X1 + 1)
    is_leaf = (tokens == ONE) | (tokens >= X1)
    value[:, :length][is_leaf] = leaves[leaf[is_leaf]]
    log[:, :length][is_leaf] = log_branch_cut(leaves)[leaf[is_leaf]]
    for position in range(length - 2, -1, -1):  # children stand to the right of their parent
        rows = torch.nonzero(tokens[:, position] == EML)[:, 0]
        if len(rows):
            left, log_right = value[rows, position + 1], log[rows, position + 1 + spans[rows, position + 1]]
            value[rows, position] = exp_branch_cut(left) - log_right
            log[rows, position] = log_of_node(value[rows, position], left, log_right)
    return value[:, :length], log[:, :length]


def open_slots(
    tokens: Int64[Tensor, "b l"], x: Float64[Tensor, "m v"], y: Complex128[Tensor, " m"] | Complex128[Tensor, "b m"]
) -> OpenSlots:
    """Solve each tree of a batch, y = tree(x), for each of its subtrees in turn.

    Args:
        tokens: exact-grammar trees, padded.
        x: points.
        y: values that the trees should have, one set for all or one a tree.
    """
    spans = subtree_lengths(tokens)
    values, logs = subtree_values_and_logs(tokens, x)
    target = torch.full_like(values, complex("nan"))
    side = torch.full_like(tokens, ROOT)
    target[:, 0] = y
    wanted = target.clone()
    error = torch.full_like(values.real, torch.inf)
    error[:, 0] = EPS * target[:, 0].abs()
    # The logarithms of right children are known also where these overflow; a left child below one is known by them.
    log, log_error = target.clone(), error.clone()
    for position in range(tokens.shape[1] - 1):
        rows = torch.nonzero(tokens[:, position] == EML)[:, 0]
        if not len(rows):
            continue
        left = position + 1
        right = left + spans[rows, left]
        here, lost = wanted[rows, position], error[rows, position]
        log_known, exp_known = logs[rows, right], exp_branch_cut(values[rows, left])
        exp_left, log_right = solve_left(here, log_known), solve_right(here, exp_known)
        side[rows, left], side[rows, right] = LEFT, RIGHT
        target[rows, left], target[rows, right] = exp_left, log_right
        wanted[rows, left] = nearest_branch(log_branch_cut(exp_left), values[rows, left])
        wanted[rows, right] = exp_branch_cut(target[rows, right])
        error[rows, left] = _left_error(lost, log_known, exp_left)
        error[rows, right] = _right_error(lost, exp_known, wanted[rows, right])
        log[rows, right], log_error[rows, right] = log_right, lost + EPS * exp_known.abs() + EPS
        overflows = torch.isinf(here.real) & (side[rows, position] == RIGHT)[:, None]
        held = nearest_branch(log[rows, position], values[rows, left])
        wanted[rows, left] = torch.where(overflows, held, wanted[rows, left])
        error[rows, left] = torch.where(overflows, log_error[rows, position], error[rows, left])
    possible = (tokens != PAD) & is_finite(target).all(-1)
    return OpenSlots(side, target, wanted, error, possible)


def nearest_branch(log_value: Complex128[Tensor, "*n"], near: Complex128[Tensor, "*n"]) -> Complex128[Tensor, "*n"]:
    """The logarithm whose imaginary part is nearest to that of `near`.

    Where `near` is real and the number negative both +pi and -pi are as near; then -pi is taken: a tree
    exp(l) - ln(r) of real l and negative r has it.
    """
    turns = ((near.imag - log_value.imag - 1e-6) / (2 * math.pi)).round()
    turns = torch.where(torch.isfinite(turns), turns, 0.0)
    return torch.complex(log_value.real, log_value.imag + 2 * math.pi * turns)


def is_finite(z: Complex128[Tensor, "*n"], largest: float = 1e100) -> Bool[Tensor, "*n"]:
    """Whether both parts are finite and below `largest`."""
    return (z.real.abs() < largest) & (z.imag.abs() < largest)


def left_wanted(
    wanted: Complex128[Tensor, "*#n"], error: Float64[Tensor, "*#n"], log_right: Complex128[Tensor, "*#n"]
) -> tuple[Complex128[Tensor, "*#n"], Float64[Tensor, "*#n"]]:
    """L = ln(wanted + ln R) on the principal branch, and its absolute error to first order."""
    exp_left = solve_left(wanted, log_right)
    return log_branch_cut(exp_left), _left_error(error, log_right, exp_left)


def right_wanted(
    wanted: Complex128[Tensor, "*#n"], error: Float64[Tensor, "*#n"], exp_left: Complex128[Tensor, "*#n"]
) -> tuple[Complex128[Tensor, "*#n"], Float64[Tensor, "*#n"]]:
    """R = exp(exp(L) - wanted), NaN where there is none, and its absolute error to first order; infinite where that says
    nothing, as ln(R) is not known even to `LARGEST_UNSURE`: an R that underflows would pass for an exact 0."""
    right = exp_branch_cut(solve_right(wanted, exp_left))
    return right, _right_error(error, exp_left, right)


def _left_error(
    error: Float64[Tensor, "*#n"], log_right: Complex128[Tensor, "*#n"], exp_left: Complex128[Tensor, "*#n"]
) -> Float64[Tensor, "*#n"]:
    return (error + EPS * log_right.abs()) / exp_left.abs() + EPS


def _right_error(
    error: Float64[Tensor, "*#n"], exp_left: Complex128[Tensor, "*#n"], right: Complex128[Tensor, "*#n"]
) -> Float64[Tensor, "*#n"]:
    lost = error + EPS * exp_left.abs() + EPS
    return torch.where(lost < LARGEST_UNSURE, right.abs() * lost, torch.inf)


def lost_digits(wanted: Complex128[Tensor, "*n"], error: Float64[Tensor, "*n"]) -> Float64[Tensor, "*n"]:
    """Error on the scale on which values are compared: relative for large ones, absolute for small ones; infinite where
    the values are not finite."""
    lost = error / torch.sqrt(1 + wanted.abs().clamp_max(1e150).square())
    return torch.where(is_finite(wanted, LARGEST) & torch.isfinite(lost), lost, torch.inf)
