"""The record, the table and the files of a solution, made from a law that needs no search."""

import json
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emlinit.finetune.diagnostics.extrapolation import Extrapolation
from emlinit.finetune.diagnostics.noise import Noise, NoiseBesideLaw, Outliers
from emlinit.finetune.files.figures import save_fit
from emlinit.finetune.files.output_folder import RESULT_FILES, check_output_folder
from emlinit.finetune.files.report import describe, front_table, remarks, result_record, to_json, write_outputs
from emlinit.finetune.law.finding import Finding
from emlinit.finetune.law.law import Law
from emlinit.finetune.law.standard_errors import law_errors
from emlinit.finetune.solver import Solution
from emlinit.finetune.tables.read_table import Table
from emlinit.generator.grammar import from_text
from emlinit.generator.program import programs_from_tokens

NAMES = ("$mass (kg)", "v")
KEYS = [
    *(
        "formula",
        "latex",
        "eml",
        "grammar",
        "complexity",
        "constants",
        "covariance",
        "degrees_of_freedom",
        "exact",
        "symbols",
        "train",
        "validation",
        "noise",
        "chi2_per_dof",
        "extrapolation",
        "no_extrapolation",
        "outlying_rows",
        "front",
        "nearly_equal",
    ),
    *(
        "rows_used",
        "rows_dropped",
        "seconds",
        "seed",
        "checkpoint",
        "target",
        "features",
        "units",
        "found_by",
        "stages",
    ),
]


def law(text: str, x: np.ndarray) -> Law:
    tokens, constants = from_text(text, 2)
    return Law.from_program(programs_from_tokens(tokens[None], constants[None], 2), NAMES, x, simplify_seconds=0.0)


@pytest.fixture
def solved() -> tuple[Solution, Table]:
    x = np.random.default_rng(0).uniform(1, 2, (12, 2))
    simple, best = law("w:1.5 x1", x), law("+ c:0.123456789012345 + w:1.5 x1 w:-2e-07 x2", x)
    y = best.predict(x)
    front = [Finding.of(law, x, y, grammar="weighted") for law in (simple, best)]
    figures = {"r2": float("nan"), "rmse": 0.0}
    solution = Solution(
        best, front, True, "weighted", {"r2": 1.0, "rmse": 0.0}, figures, 1.23456, ("builtin:weighted", "ab")
    )
    return solution, Table(x, y, NAMES, "energy", 2, ())


def test_the_record_is_strict_json_with_its_keys_in_order(solved: tuple[Solution, Table]) -> None:
    solution, table = solved
    record = json.loads(to_json(result_record(solution, table, 7)), parse_constant=pytest.fail)
    assert list(record) == KEYS
    assert record["formula"] == "1.5*mass_kg - 2e-07*v + 0.123456789012345"
    assert record["symbols"] == {"$mass (kg)": "mass_kg"}
    assert record["validation"] == {"r2": None, "rmse": 0.0}
    assert [list(entry) for entry in record["front"]] == [
        ["complexity", "rmse", "nats_longer", "weight", "formula"]
    ] * 2
    assert sum(entry["weight"] for entry in record["front"]) == pytest.approx(1.0)
    assert record["front"][1]["formula"] == record["formula"]
    assert (record["rows_used"], record["rows_dropped"], record["seed"]) == (12, 2, 7)
    assert record["checkpoint"] == {"source": "builtin:weighted", "sha256": "ab"}
    from_hub = result_record(replace(solution, revision="c0ffee"), table, 7)
    assert from_hub["checkpoint"] == {"source": "builtin:weighted", "sha256": "ab", "revision": "c0ffee"}
    assert record["exact"] is True
    assert [entry["value"] for entry in record["constants"]] == [1.5, -2e-07, 0.123456789012345]
    assert [entry["standard_error"] for entry in record["constants"]] == [None] * 3  # the law is exact
    assert record["covariance"] == [[None] * 3] * 3
    assert record["degrees_of_freedom"] == 9
    assert record["noise"] is record["chi2_per_dof"] is record["extrapolation"] is record["no_extrapolation"] is None
    assert record["outlying_rows"] == []


def test_the_table_marks_the_chosen_law_and_gives_it_in_full(solved: tuple[Solution, Table]) -> None:
    solution, table = solved
    lines = front_table(solution, result_record(solution, table, 0)).splitlines()
    assert [line.startswith("*") for line in lines[:3]] == [False, False, True]
    assert "0.123457" in lines[2]
    assert lines[4] == "energy = 1.5*mass_kg - 2e-07*v + 0.123456789012345"
    assert lines[5] == "    mass_kg stands for the column '$mass (kg)'"


def test_units_stand_beside_the_law_and_in_the_record(solved: tuple[Solution, Table]) -> None:
    solution, table = solved
    assert result_record(solution, table, 0)["units"] == {}
    dated = replace(table, units={"v": "days since 2024-05-01", "energy": "J"})
    record = result_record(solution, dated, 0)
    assert record["units"] == dated.units
    assert "    units: energy in J, v in days since 2024-05-01" in front_table(solution, record).splitlines()
    assert describe(dated) == "read 12 rows: energy (J) as a function of $mass (kg), v (days since 2024-05-01)"


def test_all_files_are_written(solved: tuple[Solution, Table], tmp_path: Path) -> None:
    solution, table = solved
    record = result_record(solution, table, 0)
    folder = tmp_path / "new" / "results"
    check_output_folder(folder)
    assert not folder.exists()
    write_outputs(folder, solution, table, record)
    assert {path.name for path in folder.iterdir()} == set(RESULT_FILES)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    assert json.loads((folder / "result.json").read_text()) == record
    for name in ("fit.png", "front.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
        assert (folder / name).stat().st_size > 5000
    tex = (folder / "law.tex").read_text()
    assert r"\mathrm{energy} = 1.5 \text{\$mass (kg)}" in tex
    assert tex.count("{") == tex.count("}")


def test_constants_stand_beside_the_law_with_their_errors(solved: tuple[Solution, Table], tmp_path: Path) -> None:
    solution, table = solved
    noisy = replace(table, y=table.y + 1e-3 * np.random.default_rng(0).normal(size=len(table.y)))
    record = result_record(solution, noisy, 0)
    errors = [entry["standard_error"] for entry in record["constants"]]
    assert all(1e-4 < error < 1e-2 for error in errors)
    line = front_table(solution, record).splitlines()[5]
    assert re.fullmatch(r"    constants: 1\.\d+ ± 0\.\d+, -?0\.\d+ ± 0\.\d+, 0\.\d+ ± 0\.\d+", line), line
    write_outputs(tmp_path, solution, noisy, record)
    assert f"# {line.strip()}".replace("# ", "#     ") in (tmp_path / "law.py").read_text(encoding="utf-8")
    assert line.strip().replace("constants", "% Constants") in (tmp_path / "law.tex").read_text(encoding="utf-8")


def test_the_covariance_and_the_errors_of_values_go_into_the_files(
    solved: tuple[Solution, Table], tmp_path: Path
) -> None:
    solution, table = solved
    noisy = replace(table, y=table.y + 1e-3 * np.random.default_rng(0).normal(size=len(table.y)))
    record = json.loads(to_json(result_record(solution, noisy, 0)), parse_constant=pytest.fail)
    errors = law_errors(solution.law, noisy.x, noisy.y)
    assert record["covariance"] == errors.covariance.tolist()
    write_outputs(tmp_path, solution, noisy, record)
    module: dict[str, Any] = {}
    exec((tmp_path / "law.py").read_text(encoding="utf-8"), module)
    np.testing.assert_allclose(module["standard_error"](*noisy.x.T), errors.of_value(noisy.x), rtol=1e-12)
    np.testing.assert_allclose(module["law"](*noisy.x.T), solution.law.predict(noisy.x), rtol=1e-14)


def test_noise_the_rim_and_rows_apart_are_told(solved: tuple[Solution, Table]) -> None:
    solution, table = solved
    rim = Extrapolation(4, float("nan"), float("inf"), 0.5, float("inf"), 0.0, True, ((1.0, 2.0),) * 2)
    outliers = Outliers((0, 3), 0.9)
    doubted = replace(
        solution,
        noise=NoiseBesideLaw(Noise(0.5, "replicates", 4.0), 0.6, 1.25, 0.4),
        extrapolation=rim,
        outliers=outliers,
        notes=("first", rim.remark(), outliers.remark()),
    )
    gaps = replace(table, row_numbers=np.arange(3, 15))
    record = json.loads(to_json(result_record(doubted, gaps, 0)), parse_constant=pytest.fail)
    assert record["noise"] == {
        "value": 0.5,
        "method": "replicates",
        "freedom": 4.0,
        "law_leaves": 0.6,
        "lack_of_fit": {"f": 1.25, "p": 0.4},
    }
    assert record["extrapolation"] == {
        "rows": 4,
        "r2": None,
        "rmse": None,
        "inside_rmse": 0.5,
        "mean_z2": None,
        "p": 0.0,
        "fails": True,
    }
    assert record["outlying_rows"] == [3, 6]
    assert f"    {doubted.noise}" in front_table(doubted, record).splitlines()
    assert remarks(doubted, table) == list(doubted.notes)
    assert remarks(doubted, gaps) == ["first", rim.remark(), outliers.remark(range(3, 15))]
    assert result_record(doubted, table, 0)["outlying_rows"] == [1, 4]
    none = result_record(replace(solution, no_extrapolation="the law is exact"), table, 0)
    assert none["no_extrapolation"] == "the law is exact"


def test_known_deviations_give_chi_squared_and_absolute_errors(solved: tuple[Solution, Table]) -> None:
    solution, table = solved
    sigma = np.linspace(1e-3, 3e-3, 12)
    noise = sigma * np.random.default_rng(0).normal(size=12)
    noisy = replace(table, y=table.y + noise)
    record = result_record(replace(solution, sigma=sigma), noisy, 0)
    chi2 = float(np.sum((noise / sigma) ** 2)) / 9
    assert record["chi2_per_dof"] == pytest.approx(chi2, rel=1e-9)
    line = f"    chi2/dof {chi2:.3g} with 9 degrees of freedom"
    assert line in front_table(solution, record).splitlines()
    twice = result_record(replace(solution, sigma=2 * sigma), noisy, 0)
    np.testing.assert_allclose(twice["covariance"], 4 * np.array(record["covariance"]))


def test_a_million_rows_are_drawn_as_few_and_wide_ranges_on_logarithmic_axes(tmp_path: Path) -> None:
    x = 10 ** np.random.default_rng(0).uniform(-6, 6, (1_000_000, 2))
    wide = law("w:1.5 x1", x[:10])
    began = time.process_time()
    save_fit(tmp_path / "fit.png", wide, x, wide.predict(x), "$y")
    assert time.process_time() - began < 5
    assert (tmp_path / "fit.png").stat().st_size > 5000
