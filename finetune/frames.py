"""What a DataFrame, a Series or an array may hold to be fitted, said in one line before scikit-learn sees it.

Booleans are 0 and 1. Dates are refused and not counted in nanoseconds since 1970, as NumPy would; so is text.
"""

from datetime import date
from typing import Any

import numpy as np
import pandas as pd

from emlinit.finetune.options import in_one_line
from emlinit.generator.errors import UserError

_DATES = "give days or seconds since the first of them, such as (t - t.min()).dt.total_seconds()"
_OBJECTS: dict[str, type] = {"dates": date, "text": str}  # what else is no number is left to scikit-learn
_ADVICE = {
    "text": "give it as numbers (pandas.to_numeric, or 0 and 1 for each word), or leave it out",
    "dates": _DATES,
    "durations": "give them as numbers, such as t.dt.total_seconds()",
    "complex numbers": "give the real and the imaginary parts as columns",
}


def checked_features(x: Any) -> Any:
    """The same features, once nothing speaks against them.

    Raises:
        UserError: text, dates, missing values or two columns of one name in a DataFrame; an array of text or dates.
    """
    if not isinstance(x, pd.DataFrame):
        _check_array(x, "X")
        return x
    twice = x.columns[x.columns.duplicated()]
    if len(twice):
        raise UserError(f"X has more than one column named {in_one_line(twice[0])}: give every column its own name")
    n_texts = sum(isinstance(name, str) for name in x.columns)
    if 0 < n_texts < x.shape[1]:
        raise UserError("the columns of X have names that are texts and others: X.columns = X.columns.astype(str)")
    for name in x.columns:
        _check_series(x[name], f"column {in_one_line(name)} of X")
    return x


def checked_target(y: Any) -> Any:
    """The same target, once nothing speaks against it.

    Raises:
        UserError: text, dates or missing values.
    """
    if isinstance(y, pd.Series):
        _check_series(y, "y")
    elif isinstance(y, pd.DataFrame):
        for name in y.columns[:1]:
            _check_series(y[name], "y")
    else:
        _check_array(y, "y")
    return y


def _check_series(values: Any, what: str) -> None:
    kind = _kind(values)
    if kind is not None:
        shown = _OBJECTS[kind] if values.dtype == object else object
        there = values.notna()
        place = next((n for n, value in enumerate(values) if isinstance(value, shown) and there.iloc[n]), 0)
        raise UserError(f"{what} holds {kind} ({in_one_line(values.iloc[place])} in row {place}): {_ADVICE[kind]}")
    missing = np.asarray(values.isna())
    if missing.any():
        raise UserError(
            f"{what} holds NaN in row {int(missing.argmax())}: drop the rows with missing values first (dropna)"
        )


def _kind(values: Any) -> str | None:
    """What a column holds, if it is nothing to fit."""
    types = pd.api.types
    if types.is_bool_dtype(values.dtype):
        return None
    if types.is_complex_dtype(values.dtype):
        return "complex numbers"
    if types.is_numeric_dtype(values.dtype):
        return None
    if types.is_datetime64_any_dtype(values.dtype) or isinstance(values.dtype, pd.PeriodDtype):
        return "dates"
    if types.is_timedelta64_dtype(values.dtype):
        return "durations"
    if isinstance(values.dtype, pd.CategoricalDtype):
        return _kind(values.cat.categories)
    if values.dtype == object:
        return next((kind for kind, one in _OBJECTS.items() if any(isinstance(value, one) for value in values)), None)
    return "text"


def _check_array(values: Any, what: str) -> None:
    dtype = getattr(values, "dtype", None)
    kind = {"M": "dates", "m": "durations", "U": "text", "S": "text"}.get(getattr(dtype, "kind", ""))
    if kind is not None:
        raise UserError(f"{what} holds {kind}: {_ADVICE[kind]}")
