"""A law of several groups: prediction, table and exports are one law."""

import numpy as np
import pandas as pd
import pytest
import sympy

from emlinit.finetune.groups.group_form import GroupForm
from emlinit.finetune.groups.grouped_law import GroupedLaw, written_law
from emlinit.generator.errors import UserError

X, Z, A, K = sympy.symbols("x z a k", real=True)
VALUES = np.array([[5.1, 0.42], [3.3, 0.42], [1.4, 0.42]])
GROUPS = ("copper", 'it\'s "brass"', "1")


def law(
    names: tuple[str, ...] = ("z", "x"), own: tuple[bool, bool] = (True, False), values: np.ndarray = VALUES
) -> GroupedLaw:
    form = GroupForm(A * sympy.exp(-K * X), (Z, X), (A, K), np.array([1.0, 1.0]))
    n_own = sum(own)
    errors = np.full(2 - n_own, 0.01), np.full((3, n_own), 0.02)
    return written_law(form, np.array(own), values, names, GROUPS, errors, "material")


def test_predictions_use_the_constants_of_each_group() -> None:
    found = law()
    assert (found.names, found.own, found.formula) == (("x",), ("a",), "a*exp(-0.42*x)")
    points = np.array([[1.0], [2.0], [3.0]])
    expected = [1.4 * np.exp(-0.42), 5.1 * np.exp(-0.84), 3.3 * np.exp(-1.26)]
    np.testing.assert_allclose(found.predict(points, [1, "copper", 'it\'s "brass"']), expected)
    np.testing.assert_allclose(found.predict(points[:1], pd.Series([1.0])), expected[:1])
    assert found.table.loc["copper"].tolist() == [5.1, 0.02]


def test_the_python_source_is_the_same_law() -> None:
    found = law()
    scope: dict[str, object] = {}
    exec(found.python_source("y"), scope)
    function = scope["law"]
    assert callable(function)
    points = np.linspace(0, 3, 6)
    labels = [*GROUPS, *GROUPS]
    np.testing.assert_array_equal(function(points, labels), found.predict(points[:, None], labels))
    np.testing.assert_array_equal(function(points, "copper"), found.predict(points[:, None], ["copper"] * 6))
    np.testing.assert_array_equal(function(2.0, 1), found.predict(np.array([[2.0]]), ["1"])[0])
    with pytest.raises(KeyError):
        function(2.0, "gold")


@pytest.mark.parametrize("name", ["a", "group", "OWN", "one", "A", "a b"])
def test_names_of_constants_collide_with_no_column(name: str) -> None:
    found = law(("z", name))
    assert found.own[0] not in {name, *(symbol.name for symbol in found.symbols)}
    scope: dict[str, object] = {}
    exec(found.python_source("y"), scope)
    function = scope["law"]
    assert callable(function)
    np.testing.assert_allclose(function(2.0, "copper"), 5.1 * np.exp(-0.84))


def test_signs_are_those_that_people_write() -> None:
    turned = VALUES * np.array([1.0, -1.0])
    found = law(own=(True, True), values=turned)
    assert found.formula == "a*exp(b*x)" or (found.formula == "a*exp(-b*x)" and (found.values[:, 1] > 0).all())
    np.testing.assert_allclose(found.predict(np.array([[2.0]]), ["copper"]), [5.1 * np.exp(0.84)])


def test_a_law_of_shared_constants_needs_no_groups() -> None:
    found = law(own=(False, False), values=np.tile(VALUES[0], (3, 1)))
    assert found.own == ()
    np.testing.assert_allclose(found.predict(np.array([[2.0]])), [5.1 * np.exp(-0.84)])
    scope: dict[str, object] = {}
    exec(found.python_source("y"), scope)
    function = scope["law"]
    assert callable(function)
    np.testing.assert_allclose(function(2.0), 5.1 * np.exp(-0.84))
    assert [constant.value for constant in found.shared] == [5.1, 0.42]


def test_latex_names_the_groups() -> None:
    assert law().latex() == r"a_{\text{material}} e^{- 0.42 x}"


def test_groups_that_are_not_known_or_not_given_are_refused_in_one_line() -> None:
    points = np.ones((2, 1))
    with pytest.raises(UserError, match=r"knows no group 'gold': it was fitted to copper, .*, 1$"):
        law().predict(points, ["copper", "gold"])
    with pytest.raises(UserError, match=r"give the groups of the rows \(material\)"):
        law().predict(points)
    with pytest.raises(UserError, match="1 group labels for 2 rows"):
        law().predict(points, ["copper"])
    with pytest.raises(ValueError, match="must have shape"):
        law().predict(np.ones((2, 2)), ["copper", "copper"])
