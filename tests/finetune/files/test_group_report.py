"""The record, the tables and the files of a law of several groups, made from a law that needs no search."""

import json
from dataclasses import replace
from pathlib import Path

import matplotlib.image
import numpy as np
import sympy

from emlinit.finetune.files.figures import save_group_fit
from emlinit.finetune.files.group_report import GROUP_RESULT_FILES, group_record, group_tables, write_group_outputs
from emlinit.finetune.files.report import to_json
from emlinit.finetune.group_solver import GroupedEntry, GroupedSolution
from emlinit.finetune.groups.grouped_law import GroupedLaw
from emlinit.finetune.law.standard_errors import LawConstant
from emlinit.finetune.tables.read_table import Table

GROUPS = ("copper", "$2 & more_", "_hidden")


def law(*, own: bool = True) -> GroupedLaw:
    a, x = sympy.Symbol("a") if own else sympy.Float(5.1), sympy.Symbol("x")
    values = np.array([[5.1], [3.3], [1.4]]) if own else np.zeros((3, 0))
    errors = np.array([[0.02], [0.02], [np.nan]]) if own else np.zeros((3, 0))
    shared = (LawConstant(0.42, 0.002),) if own else (LawConstant(5.1, 0.02), LawConstant(0.42, 0.002))
    return GroupedLaw(
        a * sympy.exp(-0.42 * x), ("x",), ("a",) if own else (), GROUPS, values, errors, shared, "material"
    )


def solution(found: GroupedLaw) -> GroupedSolution:
    front = [GroupedEntry(law(own=False), 5, 2, 0.6, -1.0), GroupedEntry(found, 5, 4, 0.02, -90.7)]
    return GroupedSolution(found, front, False, 0.02, 0.999, (3, 3, 3), (0.01, 0.02, 0.03), 1.5, ())


def table() -> Table:
    labels = np.repeat(GROUPS, 3)
    x = np.tile([[1.0], [2.0], [3.0]], (3, 1))
    return Table(
        x, law().predict(x, labels), ("x",), "y", 2, (), 1, {"y": "V"}, group="material", labels=tuple(labels.tolist())
    )


def test_the_record_holds_the_groups() -> None:
    found = solution(law())
    record = json.loads(to_json(group_record(found, table(), 0)))
    assert record["group"]["column"] == "material"
    assert record["group"]["constants"] == ["a"]
    assert record["group"]["shared"] == [{"value": 0.42, "standard_error": 0.002}]
    assert list(record["group"]["own"]) == list(GROUPS)
    assert record["group"]["own"]["copper"] == {
        "rows": 3,
        "rmse": 0.01,
        "constants": {"a": {"value": 5.1, "standard_error": 0.02}},
    }
    assert record["group"]["own"]["_hidden"]["constants"]["a"]["standard_error"] is None
    assert [entry["nats_longer"] for entry in record["front"]] == [89.7, 0.0]
    assert (record["formula"], record["rows_dropped"]) == ("a*exp(-0.42*x)", 2)


def test_the_tables_show_formula_groups_and_errors() -> None:
    found = solution(law())
    lines = group_tables(found, group_record(found, table(), 0)).splitlines()
    assert "y = a*exp(-0.42*x)" in lines
    assert any(line.split() == ["copper", "3", "0.01", "5.100", "±", "0.020"] for line in lines)
    assert any(line.startswith("*") and line.endswith("a") for line in lines)
    assert "    shared: 0.4200 ± 0.0020" in lines
    assert "    units: y in V" in lines


def test_a_plain_law_has_no_table_of_groups() -> None:
    plain = law(own=False)
    found = replace(solution(law()), law=plain, front=[GroupedEntry(plain, 5, 2, 0.6, -1.0)])
    text = group_tables(found, group_record(found, table(), 0))
    assert "copper" not in text
    assert "own value" not in text


def test_of_many_groups_some_are_shown() -> None:
    many = tuple(f"g{number}" for number in range(60))
    found = replace(law(), groups=many, values=np.ones((60, 1)), standard_errors=np.ones((60, 1)))
    told = replace(solution(found), counts=(2,) * 60, group_rmse=(0.1,) * 60)
    text = group_tables(told, group_record(told, table(), 0))
    assert "g39" in text
    assert "g40" not in text
    assert "... and 20 more" in text


def test_all_files_are_written_and_agree(tmp_path: Path) -> None:
    found, data = solution(law()), table()
    record = group_record(found, data, 0)
    write_group_outputs(tmp_path / "out", found, data, record)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(GROUP_RESULT_FILES)
    assert json.loads((tmp_path / "out" / "result.json").read_text()) == record
    scope: dict[str, object] = {}
    exec((tmp_path / "out" / "law.py").read_text(encoding="utf-8"), scope)
    function = scope["law"]
    assert callable(function)
    np.testing.assert_allclose(function(data.x[:, 0], np.array(data.labels)), data.y)
    tex = (tmp_path / "out" / "law.tex").read_text(encoding="utf-8")
    assert r"y = a_{\text{material}} e^{- 0.42 x}" in tex
    assert r"\$2 \& more\_ & 3 & 3.300 $\pm$ 0.020 \\" in tex


def colours_of(path: Path) -> set[str]:
    pixels = (matplotlib.image.imread(path)[:, :, :3] * 255).round().astype(int).reshape(-1, 3)
    found, counts = np.unique(pixels, axis=0, return_counts=True)
    return {f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in found[counts > 20].tolist()}


def test_each_group_has_its_colour(tmp_path: Path) -> None:
    data, path = table(), tmp_path / "fit.png"
    save_group_fit(path, law(), data.x, data.y, data.labels, "y", data.units)
    assert colours_of(path) >= {"#1f77b4", "#ff7f0e", "#2ca02c"}


def test_a_plain_law_is_one_curve(tmp_path: Path) -> None:
    data, path = table(), tmp_path / "fit.png"
    save_group_fit(path, law(own=False), data.x, data.y, data.labels, "y", data.units)
    assert "#c8553d" in colours_of(path)
    assert "#1f77b4" not in colours_of(path)
