"""Shared constants become simple numbers, such as an exponent of 2, where the data do not object.

    1 + ln(1 + |c|/σ)  of a free constant    against    the price of the simple number + Δrss / (2 s²)

after the other constants have been fitted again. Own constants stay as they are: that one group's is simple by chance
says nothing of the law.

Legend: k constant.
"""

import numpy as np
import sympy

from emlinit.finetune.fitting.prices import free_cost
from emlinit.finetune.fitting.simple_values import simple_values
from emlinit.finetune.groups.group_form import GroupForm, put_numbers
from emlinit.finetune.groups.joint_fit import GroupedRows, JointFit, covariances, fit_shared
from emlinit.generator.formulas.decompile import tidy_numbers

_FARTHEST = 3.0  # standard errors
_MOST_OFFERS = 4
_ROUNDING = 1e-13  # of the target's size: the least error of a fit


def residual_variance(fit: JointFit, rows: GroupedRows) -> float:
    """s², the variance of a residual of weight 1, not below that of rounding; NaN for as many rows as constants."""
    floor = len(rows.y) * float(np.mean(rows.y**2)) * _ROUNDING**2
    freedom = len(rows.y) - fit.n_constants
    return max(fit.rss, floor) / freedom if freedom > 0 else float("nan")


def rounded(fit: JointFit, rows: GroupedRows) -> JointFit:
    """The fit with simple numbers in its form in place of shared constants, as many as pay."""
    while not fit.own.all():
        better = _best_move(fit, rows)
        if better is None:
            break
        fit = better
    return fit


def _best_move(fit: JointFit, rows: GroupedRows) -> JointFit | None:
    variance = residual_variance(fit, rows)
    if not np.isfinite(variance):
        return None
    errors, _ = covariances(fit, rows, variance)
    best, gain = None, 0.0
    for k, error in zip(np.flatnonzero(~fit.own).tolist(), errors.tolist(), strict=True):
        value = float(fit.constants[0, k])
        if not error > 0:
            continue
        for number, cost in simple_values(value, error, largest_z=_FARTHEST)[:_MOST_OFFERS]:
            if number == 0 and abs(value) > _FARTHEST * error:
                continue
            fixed = _with_number(fit.form, k, number)
            if fixed is None:
                continue
            left = np.delete(fit.constants, k, axis=1)
            again = fit_shared(fixed, rows, np.delete(fit.own, k), left)
            if again is None:
                continue
            saved = free_cost(value, error) - cost - max(again.rss - fit.rss, 0.0) / (2 * variance)
            if saved > gain:
                best, gain = again, saved
    return best


def _with_number(form: GroupForm, k: int, number: float) -> GroupForm | None:
    """The form with a number for one of its constants; None if that would take others with it, or leave none."""
    constant = form.constants[k]
    is_exponent = any(constant in power.exp.free_symbols for power in form.expression.atoms(sympy.Pow))
    is_half = is_exponent and (2 * number).is_integer()  # sqrt(x) and not x**0.5
    written = sympy.Rational(number) if is_half else tidy_numbers(sympy.Float(number))
    expression = put_numbers(form.expression, {constant: written})
    constants = tuple(constant for constant in form.constants if constant is not form.constants[k])
    if not constants or not {*constants} <= expression.free_symbols:
        return None
    return GroupForm(expression, form.variables, constants, np.delete(form.start, k))
