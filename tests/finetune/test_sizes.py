"""Sizes that cannot be computed with are found, and those that can are not."""

import numpy as np
import pytest

from emlinit.finetune.sizes import LARGEST_SIZE, SMALLEST_SIZE, constant_columns, odd_size
from emlinit.finetune.solver import solve
from emlinit.generator.errors import UserError


@pytest.mark.parametrize("numbers", [[0.0, 0.0], [LARGEST_SIZE, -1.0], [5e-324, 1.0], [-SMALLEST_SIZE, 0.0]])
def test_what_can_be_squared_is_in_order(numbers: list[float]) -> None:
    assert odd_size(np.array(numbers)) is None


@pytest.mark.parametrize(
    ("numbers", "place", "said"),
    [([1.0, -1e154], 1, "-1e+154"), ([5e-324, 1e-310], 1, "nothing larger than 1e-310")],
)
def test_what_cannot_is_placed(numbers: list[float], place: int, said: str) -> None:
    odd = odd_size(np.array(numbers))
    assert odd is not None
    assert odd[:2] == (place, said)


@pytest.mark.parametrize("value", [1e155, -1.7976931348623157e308])
def test_solve_names_the_row(value: float) -> None:
    x, y = np.arange(1.0, 9.0)[:, None], np.arange(1.0, 9.0)
    y[5] = value
    with pytest.raises(UserError, match=r"y holds .* in row 5"):
        solve(x, y, seconds=1)
    with pytest.raises(UserError, match=r"column 0 of x holds .* in row 5"):
        solve(y[:, None], x[:, 0], seconds=1)


def test_columns_that_are_the_same_in_every_row_are_found() -> None:
    x = np.array([[1.0, 5.0, 2.0, -0.0], [2.0, 5.0, 2.0, 0.0]])
    assert constant_columns(x, "abcd") == [1, 2, 3]
    with pytest.raises(
        UserError, match=r"no feature varies \('b' is 5.0, 'c' is 2.0 in every row\): give a column that does"
    ):
        constant_columns(x[:, 1:3], "bc")


def test_solve_leaves_constant_columns_out_and_says_so() -> None:
    x = np.column_stack([np.full(20, 5.0), np.linspace(1, 3, 20)])
    solution = solve(x, 3 * x[:, 1], seconds=3, grammar="weighted", names=["same", "t"])
    assert solution.law.names == ("t",)
    assert "the same in every row, and so no variables: same is 5" in solution.notes
    assert not any(note.startswith("variables read") for note in solution.notes)
    with pytest.raises(UserError, match="no feature varies"):
        solve(x[:, :1], x[:, 1], seconds=3)
    assert solve(x[:, :1], x[:, 0], seconds=3).law.formula == "5"
