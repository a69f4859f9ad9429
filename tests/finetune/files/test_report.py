"""The record, the table and the files of a solution, made from a law that needs no search."""

import json
import re
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from emlinit.finetune.files.figures import save_fit
from emlinit.finetune.files.output_folder import RESULT_FILES, check_output_folder
from emlinit.finetune.files.report import describe, front_table, result_record, to_json, write_outputs
from emlinit.finetune.law.finding import Finding
from emlinit.finetune.law.law import Law
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
        "exact",
        "symbols",
        "train",
        "validation",
        "front",
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
    assert [list(entry) for entry in record["front"]] == [["complexity", "rmse", "nats_longer", "formula"]] * 2
    assert record["front"][1]["formula"] == record["formula"]
    assert (record["rows_used"], record["rows_dropped"], record["seed"]) == (12, 2, 7)
    assert record["checkpoint"] == {"source": "builtin:weighted", "sha256": "ab"}
    from_hub = result_record(replace(solution, revision="c0ffee"), table, 7)
    assert from_hub["checkpoint"] == {"source": "builtin:weighted", "sha256": "ab", "revision": "c0ffee"}
    assert record["exact"] is True
    assert [entry["value"] for entry in record["constants"]] == [1.5, -2e-07, 0.123456789012345]
    assert [entry["standard_error"] for entry in record["constants"]] == [None] * 3  # the law is exact


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


def test_a_million_rows_are_drawn_as_few_and_wide_ranges_on_logarithmic_axes(tmp_path: Path) -> None:
    x = 10 ** np.random.default_rng(0).uniform(-6, 6, (1_000_000, 2))
    wide = law("w:1.5 x1", x[:10])
    began = time.process_time()
    save_fit(tmp_path / "fit.png", wide, x, wide.predict(x), "$y")
    assert time.process_time() - began < 5
    assert (tmp_path / "fit.png").stat().st_size > 5000
