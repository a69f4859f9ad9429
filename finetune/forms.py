"""fit_form: the user knows the form of the law and asks for its constants.

fit = fit_form("b1*(1 - exp(-b2*x))", X, y)
fit.constants, fit.standard_errors, fit.predict(X)
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd

from emlinit.finetune.frames import checked_features, checked_target
from emlinit.finetune.law.form import Form, best_fit, parsed_form
from emlinit.finetune.options import checked_seconds, checked_seed, in_one_line
from emlinit.generator.errors import UserError


@dataclass(frozen=True, eq=False)
class FittedForm:
    """A law of a given form with its constants fitted by least squares."""

    form: str
    """The form as it was given."""
    formula: str
    """The same with the fitted numbers, at full precision."""
    constants: dict[str, float]
    """Fitted value of each constant, in alphabetical order."""
    standard_errors: dict[str, float]
    """Standard error of each constant; infinite where the data do not determine it."""
    residual_deviation: float
    """Standard deviation of the residuals, sqrt(Σ r² / (rows - constants)); NaN for as many rows as constants."""
    r2: float
    """1 - Σ r² / Σ (y - mean)²; NaN where y does not vary."""
    covariance: np.ndarray
    """Covariance of the constants, float64 of shape (k, k), in their order."""
    parsed: Form
    """The form as it is evaluated."""

    def predict(self, X: Any) -> np.ndarray:
        """Value of the law, float64 of shape (rows,); NaN or infinite where it is not a real number.

        Args:
            X: a DataFrame with the columns that the form names, or an array of shape (rows, columns) as in the fit; one of
                shape (rows,) is a single column.

        Raises:
            UserError: a column is missing, there are too few or too many, or they hold no finite numbers.
        """
        names = [symbol.name for symbol in self.parsed.variables]
        frame = _frame(X)
        if isinstance(X, pd.DataFrame | pd.Series):
            missing = [name for name in names if name not in frame and self._reads(name)]
            if missing:
                raise UserError(f"X has no column '{missing[0]}': it has {in_one_line(list(frame.columns))}")
            frame = frame.reindex(columns=names, fill_value=0.0)
        elif frame.shape[1] != len(names):
            raise UserError(f"X has {frame.shape[1]} columns: the form was fitted to {len(names)}")
        constants = np.array(list(self.constants.values()))
        values: np.ndarray = self.parsed.values(constants[None], _numbers(frame, "X"))[0]
        return values

    def _reads(self, name: str) -> bool:
        return any(symbol.name == name for symbol in self.parsed.expression.free_symbols)


def fit_form(form: Any, X: Any, y: Any, *, start: Any = None, seconds: float | int = 10.0, seed: int = 0) -> FittedForm:
    """Fit the constants of a law whose form is known, by nonlinear least squares.

    Constants in which the form is linear are solved for exactly; the others are looked for from many starts, unless they
    have one. The form is read, never run as code: + - * / and powers, brackets, numbers, pi, e, functions of one argument.

    Args:
        form: such as "b1*(1 - exp(-b2*x))". Names of columns are variables, every other name is a constant.
        X: finite numbers of shape (rows, columns): a DataFrame, whose columns go by their names, or an array, whose columns
            are x1, x2, ...; a single column is called x, too, and may have shape (rows,).
        y: finite numbers of shape (rows,).
        start: where to begin, a dict of numbers by the names of constants; constants that are not there have no start. With
            one for all constants in which the form is not linear, a minimum near it is taken.
        seconds: time to look for a start, at most; the search ends earlier when many rounds found nothing better.
        seed: of the starts; the search is repeatable if it ends before its time is over.

    Raises:
        UserError: the form cannot be read, has no constants or an unknown function; fewer rows than constants; text, dates,
            NaN or infinite numbers; a start for a constant that is not there; no start at which the form is defined, or a
            fit that does not converge.
    """
    if not isinstance(form, str):
        raise UserError(f"the form must be a text such as 'a*exp(-b*x)', got {in_one_line(form)}")
    most_seconds, rng = checked_seconds(seconds), np.random.default_rng(checked_seed(seed))
    frame, target = _frame(X), np.ravel(_numbers(checked_target(y), "y"))
    columns = _columns(frame, form, named=isinstance(X, pd.DataFrame | pd.Series))
    parsed = parsed_form(form, columns)
    if len(frame) != len(target):
        raise UserError(f"X has {len(frame)} rows and y has {len(target)}: give one y a row")
    names = [symbol.name for symbol in parsed.constants]
    if len(target) < len(names):
        raise UserError(f"{len(target)} rows are too few for {len(names)} constants: give at least as many rows")
    x = _numbers(frame, "X")
    fit = best_fit(parsed, x, target, _starts(start, names), seconds=most_seconds, rng=rng)
    if fit is None:
        raise UserError(
            f"'{form}' is not a real number at all rows for any start: give another start, or leave rows out"
        )
    if not fit.converged:
        raise UserError(
            f"the fit of '{form}' did not converge: give a start that is nearer, or a form of fewer constants"
        )
    covariance = parsed.covariance(fit.constants, x, fit.rss)
    freedom, spread = len(target) - len(names), float(np.square(target - target.mean()).sum())
    return FittedForm(
        form=form,
        formula=parsed.formula(fit.constants),
        constants=dict(zip(names, fit.constants.tolist(), strict=True)),
        standard_errors=dict(zip(names, np.sqrt(np.diag(covariance)).tolist(), strict=True)),
        residual_deviation=float(np.sqrt(fit.rss / freedom)) if freedom else float("nan"),
        r2=1 - fit.rss / spread if spread else float("nan"),
        covariance=covariance,
        parsed=parsed,
    )


def _frame(X: Any) -> pd.DataFrame:
    """The features as a table, once nothing speaks against them."""
    if isinstance(X, pd.Series):
        X = X.to_frame("x" if X.name is None else X.name)
    if not isinstance(X, pd.DataFrame):
        try:
            X = np.asarray(checked_features(X))
        except ValueError as error:
            raise UserError(f"X must be a table of numbers: {in_one_line(str(error))}") from None
        if X.ndim not in (1, 2):
            raise UserError(f"X has {X.ndim} dimensions: give an array of shape (rows, columns)")
        X = pd.DataFrame(X.reshape(len(X), -1) if len(X) else X.reshape(0, 1))
    if not len(X) or not X.shape[1]:
        raise UserError(f"X has {len(X)} rows and {X.shape[1]} columns: give at least one of each")
    table: pd.DataFrame = checked_features(X)
    return table


def _columns(frame: pd.DataFrame, form: str, *, named: bool) -> list[str]:
    """What the columns are called in the form."""
    if named and all(isinstance(name, str) for name in frame.columns):
        return list(frame.columns)
    n_columns = frame.shape[1]
    used = set(re.findall(r"\bx\d*\b", form))
    columns = ["x"] if n_columns == 1 and "x" in used else [f"x{number + 1}" for number in range(n_columns)]
    unknown = sorted(used - {*columns})
    if unknown:
        raise UserError(f"X has no column '{unknown[0]}': its columns are {', '.join(columns)}")
    return columns


def _starts(start: Any, names: list[str]) -> np.ndarray:
    if start is None:
        return np.full(len(names), np.nan)
    if not isinstance(start, Mapping):
        raise UserError(f"start must be a dict such as {{'{names[0]}': 1.0}}, got {in_one_line(start)}")
    for name, value in start.items():
        if name not in names:
            raise UserError(f"start holds {in_one_line(name)}: the constants of the form are {', '.join(names)}")
        if not isinstance(value, Real) or not np.isfinite(float(value)):
            raise UserError(f"the start of '{name}' must be a finite number, got {in_one_line(value)}")
    return np.array([float(start.get(name, np.nan)) for name in names])


def _numbers(values: Any, what: str) -> np.ndarray:
    """Finite float64."""
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise UserError(f"{what} must hold numbers only: leave out or recode what is none") from None
    finite = np.isfinite(numbers) if numbers.ndim == 1 else np.isfinite(numbers).all(tuple(range(1, numbers.ndim)))
    if numbers.ndim and not finite.all():
        row = int(np.argmin(finite))
        raise UserError(f"{what} holds NaN or an infinite number in row {row}: drop such rows first")
    return numbers
