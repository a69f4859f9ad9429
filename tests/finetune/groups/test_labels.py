"""Labels of groups as numbers, and what is said of labels that are none."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from emlinit.finetune.groups.labels import check_groups, groups_of, label_texts
from emlinit.generator.errors import UserError


def test_groups_are_in_the_order_in_which_they_appear() -> None:
    groups = groups_of(["b", "a", "b", " a ", "c\n c", "c c"], 6)
    assert groups.names == ("b", "a", "c c")
    np.testing.assert_array_equal(groups.index, [0, 1, 0, 1, 2, 2])
    np.testing.assert_array_equal(groups.counts, [2, 2, 2])


@pytest.mark.parametrize(
    "labels", [np.array([1, 2, 1]), [1.0, 2.0, 1.0], ["1", "2", "1"], pd.Series([1, 2, 1]), pd.Categorical([1, 2, 1])]
)
def test_the_same_labels_in_any_type_are_the_same_groups(labels: Any) -> None:
    assert label_texts(labels) == ["1", "2", "1"]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a", "b"], "there are 2 group labels for 3 rows"),
        (["a", None, "b"], "row 1 has no group"),
        ([1.0, 2.0, float("nan")], "row 2 has no group"),
        (pd.Series(["a", pd.NA, "b"]), "row 1 has no group"),
        ("abc", "groups must be a list of labels"),
        (3, "groups must be a list of labels"),
        (np.zeros((3, 2)), "groups must be one column of labels"),
    ],
)
def test_labels_that_cannot_be_read_are_refused(labels: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        groups_of(labels, 3)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("aaaa", "must be two or more, but all rows are of 'a'"),
        ("aaaabbc", "have only one row of 'c'"),
        ("abcab", "are 3 in 5 rows, more than half as many"),
    ],
)
def test_groups_that_tell_nothing_are_refused(labels: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_groups(groups_of(list(labels), len(labels)))


def test_two_groups_of_two_rows_are_enough() -> None:
    check_groups(groups_of(list("abab"), 4))
