"""Views of a table: groups are brought onto one curve, also where they were measured at other places."""

import numpy as np
import pytest
import sympy

from emlinit.finetune.groups.group_form import GroupForm
from emlinit.finetune.groups.joint_fit import JointFit
from emlinit.finetune.groups.labels import Groups
from emlinit.finetune.groups.views import as_one_group, brought_together, views


def table(factors: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray, Groups]:
    rng = np.random.default_rng(0)
    index = np.repeat(np.arange(len(factors)), 12)
    x = rng.uniform(0.0, 2.0, (len(index), 1)) + 0.5 * index[:, None]  # each group elsewhere
    return (
        x,
        factors[index] * np.exp(-0.5 * x[:, 0]) + offsets[index],
        Groups(tuple(map(str, range(len(factors)))), index),
    )


@pytest.mark.parametrize(("factors", "offsets"), [(True, False), (False, True), (True, True)])
def test_groups_are_brought_onto_one_curve(factors: bool, offsets: bool) -> None:
    own_factors = np.array([5.0, -3.0, 1.5]) if factors else np.full(3, 2.0)
    own_offsets = np.array([1.0, -4.0, 2.0]) if offsets else np.zeros(3)
    x, y, groups = table(own_factors, own_offsets)
    brought = brought_together(x, y, groups, factors=factors, offsets=offsets)
    assert brought.rows.all()
    together = brought.y
    columns = np.column_stack([np.ones(len(x)), np.exp(-0.5 * x[:, 0])])
    residual = together - columns @ np.linalg.lstsq(columns, together, rcond=None)[0]
    # Places that only one group has been to leave some of the factor to the offset.
    assert residual.std() < (2e-2 if factors and offsets else 2e-3) * together.std()


def test_a_group_of_zeros_is_left_out_where_it_would_be_divided_by() -> None:
    x, y, groups = table(np.array([5.0, 0.0, 1.5]), np.zeros(3))
    brought = brought_together(x, y, groups, factors=True, offsets=False)
    np.testing.assert_array_equal(brought.rows, groups.index != 1)
    assert np.isfinite(brought.y).all()


def test_every_view_holds_rows_and_targets_that_vary() -> None:
    x, y, groups = table(np.array([5.0, 3.0, 1.5]), np.zeros(3))
    found = list(views(x, y, groups))
    assert {view.name for view in found} >= {"own factors", "own offsets", "group 0 alone", "all rows together"}
    for view in found:
        assert view.rows.sum() == len(view.y)
        assert np.ptp(view.y) > 0
    flat = list(views(x, np.where(groups.index == 0, 1.0, y), groups))
    assert "group 0 alone" not in {view.name for view in flat}


@pytest.mark.parametrize(
    ("factors", "offsets", "expected"),
    [
        ([2.0, 2.0, 2.0], [0.0, 0.0, 0.0], "all rows together"),
        ([5.0, -3.0, 1.5], [0.0, 0.0, 0.0], "own factors"),
        ([2.0, 2.0, 2.0], [1.0, -4.0, 2.0], "own offsets"),
        ([5.0, -3.0, 1.5], [1.0, -4.0, 2.0], "own factors and offsets"),
    ],
)
def test_the_view_that_fits_comes_first(factors: list[float], offsets: list[float], expected: str) -> None:
    x, y, groups = table(np.array(factors), np.array(offsets))
    found = list(views(x, y + 0.01 * np.random.default_rng(1).normal(size=len(y)), groups))
    assert found[0].name == expected
    assert found[0].share == max(view.share for view in found)


def test_a_law_that_is_right_makes_all_rows_those_of_one_group() -> None:
    x, y, groups = table(np.array([5.0, -3.0, 1.5]), np.array([1.0, -4.0, 2.0]))
    variable, a, c, k = sympy.symbols("x a c k", real=True)
    form = GroupForm(a * sympy.exp(-k * variable) + c, (variable,), (a, c, k), np.ones(3))
    constants = np.array([[5.0, 1.0, 0.5], [-3.0, -4.0, 0.5], [1.5, 2.0, 0.5]])
    fit = JointFit(form, np.array([True, True, False]), constants, np.zeros(3))
    noise = 0.01 * np.sin(np.arange(len(y)))
    view = as_one_group(fit, x, y + noise, groups.index)
    assert view is not None
    expected = 5 * np.exp(-0.5 * x[:, 0]) + 1 + noise * np.array([1.0, -5 / 3, 5 / 1.5])[groups.index]
    np.testing.assert_allclose(view.y, expected)
    shared = JointFit(form, np.zeros(3, dtype=bool), np.tile(constants[:1], (3, 1)), np.zeros(3))
    assert as_one_group(shared, x, y, groups.index) is None
