"""EMLRegressor: the solver behind scikit-learn's interface.

model = EMLRegressor(seconds=20, grammar="auto", random_state=0).fit(X, y)
model.predict(X); model.sympy(); model.latex(); model.equations_
"""

from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
import sympy
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from emlinit.finetune.frames import checked_features, checked_target
from emlinit.finetune.group_solver import GroupedSolution, solve_groups
from emlinit.finetune.groups.grouped_law import GroupedLaw
from emlinit.finetune.initialisers import load_initialisers, resolve_device
from emlinit.finetune.law.law import Law
from emlinit.finetune.law.standard_errors import law_errors
from emlinit.finetune.options import (
    GRAMMAR_CHOICES,
    LOSSES,
    MAX_COMPLEXITY,
    MIN_ROWS,
    checked_choice,
    checked_seconds,
    checked_seed,
    in_one_line,
)
from emlinit.finetune.solver import Solution, solve
from emlinit.generator.errors import UserError


class EMLRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Find a formula `y = f(X)` by symbolic regression with EML trees.

    Parameters
    ----------
    seconds : float, default=20
        Time for the search; it stops earlier when a formula fits to machine precision.
    grammar : {"auto", "exact", "weighted"}, default="auto"
        "exact" has no free constants, "weighted" fits them, "auto" tries both.
    checkpoint : str or None, default=None
        Learned start: `builtin:exact`, `builtin:weighted`, `local-dir:PATH` or `hf-hub:OWNER/NAME@REV`; None means the
        shipped ones.
    device : {"auto", "cpu", "cuda"}, default="auto"
        Where the network runs.
    random_state : int, RandomState instance or None, default=None
        Source of all randomness of `fit`; an int makes it repeatable.
    operators : str, list of str or None, default=None
        What the formula may be written in, such as "+,*,/,exp" or a list of such names (see `finetune.options.OPERATORS`);
        None means everything. "+" stands for "-", too, and x**2 is x*x.
    forbid : str, list of str or None, default=None
        What it may not be written in, given likewise.
    max_complexity : int, default=30
        Most nodes of its expression tree: operators, functions, variables and constants; a number counts as one, however
        it is written.
    integer_exponents : bool, default=False
        Whether powers of what varies must have whole exponents.
    loss : {"squares", "huber", "l1"}, default="squares"
        What residuals count as; with "huber" or "l1" rows that are far off count little.

    With `fit(X, y, groups=labels)` the rows belong to groups (experiments, materials, subjects): one law is found, some of
    whose constants are each group's own. Then `law_` is a GroupedLaw, whose `table` holds the own constants, `solution_` a
    GroupedSolution, and `predict` needs the groups, too.

    Attributes
    ----------
    law_ : Law
        The chosen law, with `predict`, `sympy()`, `latex()`, `python_source()`, `formula` and `eml`.
    equations_ : pandas.DataFrame
        The Pareto front: columns `complexity`, `rmse`, `formula`, `sympy`, `law` and `chosen`.
    constants_ : tuple of LawConstant
        The fitted constants of the chosen law in the order of its formula, each with `value` and `standard_error` (None
        where the data do not determine it, or fit the law to machine precision).
    solution_ : Solution
        All that the solver returned.
    n_features_in_, feature_names_in_
        As in every scikit-learn estimator; features without names are called `x1`, `x2`, ...
    """

    law_: Law | GroupedLaw
    solution_: Solution | GroupedSolution

    def __init__(
        self,
        *,
        seconds: Any = 20,  # scikit-learn's rule: the constructor takes anything, `fit` says what is wrong
        grammar: Any = "auto",
        checkpoint: Any = None,
        device: Any = "auto",
        random_state: Any = None,
        operators: Any = None,
        forbid: Any = None,
        max_complexity: Any = MAX_COMPLEXITY,
        integer_exponents: Any = False,
        loss: Any = LOSSES[0],
    ) -> None:
        self.seconds = seconds
        self.grammar = grammar
        self.checkpoint = checkpoint
        self.device = device
        self.random_state = random_state
        self.operators = operators
        self.forbid = forbid
        self.max_complexity = max_complexity
        self.integer_exponents = integer_exponents
        self.loss = loss

    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, sigma: Any = None, groups: Any = None
    ) -> "EMLRegressor":
        """Search for the law; `X` has shape (samples, features), `y` (samples,), both finite numbers or booleans.

        Parameters
        ----------
        X : features.
        y : target.
        sample_weight : weights of shape (samples,), not negative, or None
            Only their ratios count.
        sigma : standard deviations of y, one number or of shape (samples,), positive, or None
            In place of weights: rows weigh as 1/sigma², and the errors of the constants follow from it.
        groups : labels of shape (samples,), text or numbers, or None
            The group of each row, at least two rows a group; some constants of the law are then each group's own.

        Raises:
            UserError: text, dates, missing values or two columns of one name in a DataFrame, no feature that varies, a
                parameter out of its range, an error that is not positive, a negative weight, or groups of which no
                constants of their own can be told.
        """
        X, y = checked_features(X), checked_target(y)
        X, y = validate_data(self, X, y, y_numeric=True, dtype=np.float64, ensure_min_samples=MIN_ROWS)
        seconds, seed = checked_seconds(self.seconds), self._seed()
        grammar = self.grammar if groups is None else self._grammar_of_groups()
        initialisers = load_initialisers(self.checkpoint, grammar, resolve_device(self.device))
        search: dict[str, Any] = {
            "seconds": seconds,
            "initialisers": initialisers,
            "seed": seed,
            "names": self._names(),
            "operators": self.operators,
            "forbid": self.forbid,
            "max_complexity": self.max_complexity,
            "integer_exponents": self.integer_exponents,
            "sigma": sigma,
            "sample_weight": sample_weight,
            "loss": self.loss,
        }
        if groups is not None:
            return self._fit_groups(X, y.astype(np.float64), groups, search)
        self.solution_ = solve(X, y.astype(np.float64), grammar=grammar, **search)
        self.law_ = self.solution_.law
        columns = [self._names().index(name) for name in self.law_.names]
        self._errors = law_errors(
            self.law_, X[:, columns], y, sigma=self.solution_.sigma, weights=self.solution_.weights
        )
        self.constants_ = self._errors.constants
        self.equations_ = pd.DataFrame(
            [
                {
                    "complexity": entry.complexity,
                    "rmse": entry.rmse,
                    "formula": entry.law.formula,
                    "sympy": entry.law.expression,
                    "law": entry.law,
                    "chosen": entry.law is self.law_,
                }
                for entry in self.solution_.front
            ],
            columns=["complexity", "rmse", "formula", "sympy", "law", "chosen"],
        )
        return self

    def _fit_groups(self, X: np.ndarray, y: np.ndarray, groups: Any, options: dict[str, Any]) -> "EMLRegressor":
        found = solve_groups(X, y, groups, **options)
        self.solution_, self.law_, self.constants_ = found, found.law, found.law.shared
        self.equations_ = pd.DataFrame(
            [
                {
                    "complexity": entry.law.complexity,
                    "rmse": entry.rmse,
                    "formula": entry.law.formula,
                    "sympy": entry.law.expression,
                    "law": entry.law,
                    "chosen": entry.law is self.law_,
                }
                for entry in found.front
            ],
            columns=["complexity", "rmse", "formula", "sympy", "law", "chosen"],
        )
        return self

    def _grammar_of_groups(self) -> str:
        if checked_choice(self.grammar, "grammar", GRAMMAR_CHOICES) == "exact":
            raise UserError("the exact grammar has no constants that a group could have of its own: leave groups out")
        return "weighted"

    def predict(self, X: Any, return_std: bool = False, *, groups: Any = None) -> Any:
        """Value of the law, of shape (samples,); NaN or infinite where it is undefined.

        Parameters
        ----------
        X : features of shape (samples, features), as in the fit.
        return_std : bool, default=False
            Whether to give its standard error, too, from those of the constants, as (values, errors): of the law's value
            and not of a measurement, given the form of the law. 0 for an exact law, NaN where the data do not determine
            the value.
        groups : labels of shape (samples,), or None
            The group of each row, where constants are the groups' own.

        Raises:
            UserError: no groups where they are needed, one that was not among those of the fit, or standard errors of a
                law of groups.
        """
        check_is_fitted(self)
        X = validate_data(self, checked_features(X), dtype=np.float64, reset=False)
        names = self._names()
        x = X[:, [names.index(name) for name in self.law_.names]]
        if isinstance(self.law_, GroupedLaw):
            if return_std:
                raise UserError("a law of groups gives no standard errors of its values: leave return_std out")
            return self.law_.predict(x, groups)
        return (self.law_.predict(x), self._errors.of_value(x)) if return_std else self.law_.predict(x)

    def sympy(self) -> sympy.Expr:
        """The law as a sympy expression."""
        check_is_fitted(self)
        return self.law_.sympy()

    def latex(self) -> str:
        """The law in LaTeX."""
        check_is_fitted(self)
        return self.law_.latex()

    def _names(self) -> list[str]:
        if hasattr(self, "feature_names_in_"):
            return [str(name) for name in self.feature_names_in_]
        return [f"x{i + 1}" for i in range(self.n_features_in_)]

    def _seed(self) -> int:
        if isinstance(self.random_state, Integral):
            return checked_seed(self.random_state, "random_state")
        try:
            source = check_random_state(self.random_state)
        except ValueError:
            raise UserError(
                f"random_state must be a whole number, a RandomState or None, got {in_one_line(self.random_state)}"
            ) from None
        return int(source.randint(2**31 - 1))
