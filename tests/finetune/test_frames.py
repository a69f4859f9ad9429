"""What cannot be fitted is said in one line, by the name of its column and a row."""

import datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest

from emlinit.finetune.frames import checked_features, checked_target
from emlinit.generator.errors import UserError

N = 8
X = np.arange(float(N))
DAYS = pd.date_range("2024-01-01", periods=N)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (list("abcdefgh"), "column 'b' of X holds text ('a' in row 0): give it as numbers"),
        ([*X[:5].tolist(), "n.a.", 1.0, 2.0], "column 'b' of X holds text ('n.a.' in row 5)"),
        (DAYS, "column 'b' of X holds dates (Timestamp('2024-01-01 00:00:00') in row 0): give days or seconds"),
        (DAYS.tz_localize("UTC"), "column 'b' of X holds dates"),
        (DAYS.to_period("D"), "column 'b' of X holds dates"),
        ([datetime.date(2024, 1, day) for day in range(1, N + 1)], "column 'b' of X holds dates"),
        (pd.to_timedelta(X, unit="s"), "column 'b' of X holds durations"),
        (pd.Categorical(list("abababab")), "column 'b' of X holds text"),
        (X + 1j, "column 'b' of X holds complex numbers"),
        (np.where(X == 4, np.nan, X), "column 'b' of X holds NaN in row 4: drop the rows"),
        (pd.array([1, 2, None, 4, 5, 6, 7, 8], dtype="Int64"), "column 'b' of X holds NaN in row 2"),
    ],
)
def test_a_column_that_cannot_be_fitted_is_named(column: Any, message: str) -> None:
    frame = pd.DataFrame({"a": X, "b": column})
    with pytest.raises(UserError) as raised:
        checked_features(frame)
    if "text (0.0" not in message:
        assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    with pytest.raises(UserError, match=r"^y holds"):
        checked_target(frame["b"])


@pytest.mark.parametrize(
    "column", [X, X > 3, X.astype(int), pd.array(X > 3, dtype="boolean"), pd.Categorical([1, 2] * 4), X.astype(object)]
)
def test_numbers_and_booleans_pass(column: Any) -> None:
    frame = pd.DataFrame({"a": X, "b": column})
    assert checked_features(frame) is frame
    assert checked_target(frame["b"]) is not None


def test_names_of_columns_are_told_apart() -> None:
    with pytest.raises(UserError, match=r"^X has more than one column named 'a': give every column its own name"):
        checked_features(pd.DataFrame(np.ones((N, 2)), columns=["a", "a"]))
    with pytest.raises(UserError, match="names that are texts and others"):
        checked_features(pd.DataFrame({0: X, "b": X}))


@pytest.mark.parametrize(("values", "kind"), [(DAYS.to_numpy(), "dates"), (np.array(list("abc")), "text")])
def test_arrays_of_dates_and_text_are_refused(values: np.ndarray, kind: str) -> None:
    with pytest.raises(UserError, match=f"^X holds {kind}: give"):
        checked_features(values[:, None])
    with pytest.raises(UserError, match=f"^y holds {kind}: give"):
        checked_target(values)
