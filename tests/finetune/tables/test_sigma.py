"""Errors of the target in a table."""

from pathlib import Path

import numpy as np
import pytest

from emlinit.finetune.tables.read_table import Table, read_table
from emlinit.generator.errors import UserError

TEXT = "x,y,dy\n1,2,0.1\n2,-4,0.2\n3,6,0.1\n4,8,0.3\n"


def _read(tmp_path: Path, sigma: str, text: str = TEXT, **options: object) -> Table:
    path = tmp_path / "t.csv"
    path.write_text(text)
    return read_table(path, sigma=sigma, **options)


def test_a_column_of_errors_is_neither_target_nor_feature(tmp_path: Path) -> None:
    table = _read(tmp_path, "dy")
    assert (table.features, table.target) == (("x",), "y")
    np.testing.assert_array_equal(table.sigma, [0.1, 0.2, 0.1, 0.3])
    np.testing.assert_array_equal(table.y, [2, -4, 6, 8])


def test_one_error_for_all_and_a_share_of_each_value(tmp_path: Path) -> None:
    np.testing.assert_array_equal(_read(tmp_path, "0.02", target="y").sigma, np.full(4, 0.02))
    np.testing.assert_allclose(_read(tmp_path, "5 %", target="y").sigma, [0.1, 0.2, 0.3, 0.4])


def test_a_column_goes_before_a_number_of_that_name(tmp_path: Path) -> None:
    text = "x,y,1\n1,2,0.1\n2,3,0.2\n3,4,0.3\n"
    np.testing.assert_array_equal(_read(tmp_path, "1", text).sigma, [0.1, 0.2, 0.3])


def test_rows_without_an_error_are_dropped(tmp_path: Path) -> None:
    table = _read(tmp_path, "dy", TEXT + "5,10,\n")
    assert table.rows_dropped == 1
    assert table.sigma is not None
    assert len(table.sigma) == len(table.y) == 4


@pytest.mark.parametrize(
    ("sigma", "options", "message"),
    [
        ("dz", {}, "--sigma 'dz' is no column and no positive number"),
        ("0", {}, "--sigma '0' is no column and no positive number"),
        ("-5%", {}, "--sigma '-5%' is no column and no positive number"),
        ("nan", {}, "--sigma 'nan' is no column and no positive number"),
        ("dy", {"target": "dy"}, "column 'dy' holds the errors of the target and cannot be the target too"),
        ("dy", {"features": ["x", "dy"]}, "column 'dy' holds the errors of the target and cannot be a feature too"),
    ],
)
def test_bad_use_is_one_line(tmp_path: Path, sigma: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError) as error:
        _read(tmp_path, sigma, **options)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_an_error_of_0_names_its_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="column 'dy' holds the error 0 in line 4"):
        _read(tmp_path, "dy", TEXT.replace("3,6,0.1", "3,6,0"))
    with pytest.raises(UserError, match="--sigma 5% of the target in line 3, which is 0, is no error"):
        _read(tmp_path, "5%", TEXT.replace("-4", "0"), target="y")
