"""The command end to end on the examples, run as a process with the shipped checkpoints."""

import importlib.util
import json
import os
import pty
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from emlinit.model.initialiser import EMLInitialiser, InitialiserConfig

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"


def solve(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "solve.py"), *map(str, arguments)]
    done = subprocess.run(
        command,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done


def solve_json(*arguments: str | Path, cwd: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(solve(*arguments, "--json", cwd=cwd).stdout)
    return record


def columns(path: Path) -> np.ndarray:
    return np.loadtxt(path, delimiter=",", skiprows=1)


def test_kepler_gives_the_third_law_and_every_output_agrees(tmp_path: Path) -> None:
    record = solve_json(EXAMPLES / "kepler.csv", "--seconds", "20", "--out", "results", cwd=tmp_path)
    match = re.fullmatch(r"([\d.]+)\*semi_major_axis_au\*\*(?:([\d.]+)|\(3/2\))", record["formula"])
    assert match, record["formula"]
    assert float(match[1]) == pytest.approx(365.25, rel=0.01)
    assert float(match[2] or 1.5) == pytest.approx(1.5, abs=0.01)
    assert (record["rows_used"], record["rows_dropped"], record["symbols"]) == (8, 0, {})
    assert record["validation"]["r2"] > 0.999

    results = tmp_path / "results"
    assert sorted(path.name for path in results.iterdir()) == [
        "fit.png",
        "front.png",
        "law.py",
        "law.tex",
        "result.json",
    ]
    assert json.loads((results / "result.json").read_text()) == record
    spec = importlib.util.spec_from_file_location("kepler_law", results / "law.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    axis, period = columns(EXAMPLES / "kepler.csv").T
    np.testing.assert_allclose(module.law(axis), period, rtol=2e-3)
    np.testing.assert_allclose(module.law(axis), float(match[1]) * axis ** float(match[2] or 1.5), rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "grammar", "formula"), [("paper_depth4", "exact", None), ("boyle", "weighted", "volume")]
)
def test_both_grammars_are_solved_on_a_device(
    name: str, grammar: str, formula: str | None, device: torch.device, tmp_path: Path
) -> None:
    options = ("--grammar", grammar, "--seconds", "20", "--device", device.type)
    record = solve_json(EXAMPLES / f"{name}.csv", *options, cwd=tmp_path)
    assert record["validation"]["r2"] > 0.999
    assert record["grammar"] == grammar
    assert formula is None or formula in record["formula"]


def test_the_table_goes_to_stdout_and_remarks_to_stderr(tmp_path: Path) -> None:
    rows = (EXAMPLES / "boyle.csv").read_text() + "nan,30\n"
    (tmp_path / "data.csv").write_text(rows)
    done = solve("data.csv", "--grammar", "weighted", "--seconds", "8", cwd=tmp_path)
    assert "complexity" in done.stdout.splitlines()[0]
    assert "pressure_in_hg = " in done.stdout
    assert "1 row of 26 dropped" in done.stderr
    assert "seed 0" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.csv"]


def test_an_exact_law_stops_the_search_and_the_seed_repeats_it(tmp_path: Path) -> None:
    arguments = (EXAMPLES / "paper_depth4.csv", "--grammar", "exact", "--seconds", "60", "--seed", "3")
    first, second = (solve_json(*arguments, cwd=tmp_path) for _ in range(2))
    assert first["exact"]
    assert first["seconds"] < 50
    assert first["formula"] == second["formula"]
    assert first["eml"] == second["eml"]
    assert not re.search(r"\d\.\d", first["formula"])
    assert first["grammar"] == "exact"


def test_constant_target_gives_that_constant_at_once(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("a,b\n1,4.25\n2,4.25\n3,4.25\n4,4.25\n")
    record = solve_json("data.csv", "--seconds", "60", cwd=tmp_path)
    assert (float(record["formula"]), record["exact"]) == (4.25, True)
    assert record["seconds"] < 5


def test_what_fails_late_is_one_line_and_not_below_remarks(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("a,b\n1,4.25\n2,4.25\n3,4.25\n4,4.25\nnan,1\n")
    command = [sys.executable, str(ROOT / "scripts" / "solve.py"), "data.csv"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert re.fullmatch(r"error: .*No space left on device.*\n", done.stderr)


def test_a_checkpoint_may_lie_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = InitialiserConfig(d_model=16, n_heads=2, n_inducing=4, n_latents=4, n_decoder_layers=1, max_tokens=16)
    EMLInitialiser(tiny).save(tmp_path / "home" / "weights")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "data.csv").write_text("a,b\n1,4.25\n2,4.25\n3,4.25\n4,4.25\n")
    record = solve_json("data.csv", "--grammar", "exact", "--checkpoint", "local-dir:~/weights", cwd=tmp_path)
    assert float(record["formula"]) == 4.25


def test_columns_with_any_name_are_solved_by_their_symbols(tmp_path: Path) -> None:
    x = np.linspace(1.0, 3.0, 30)
    lines = "\n".join(f"{a!r};{b!r}" for a, b in zip(x.tolist(), (2.5 * x).tolist(), strict=True))
    (tmp_path / "data.csv").write_text(f'"import os; E";"lambda"\n{lines}\n')
    record = solve_json("data.csv", "--grammar", "weighted", "--seconds", "8", cwd=tmp_path)
    assert list(record["symbols"]) == ["import os; E"]
    assert record["symbols"]["import os; E"] in record["formula"]
    assert (record["target"], record["features"]) == ("lambda", ["import os; E"])


def test_more_columns_than_the_model_reads_are_chosen_from_and_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(1, 2, (60, 8))
    rows = np.column_stack([x, 3.0 * x[:, 6] + x[:, 1]])
    header = ",".join([*(f"c{i}" for i in range(8)), "t"])
    np.savetxt(tmp_path / "data.csv", rows, delimiter=",", header=header, comments="", fmt="%.17g")
    done = solve("data.csv", "--grammar", "weighted", "--seconds", "10", "--json", cwd=tmp_path)
    record = json.loads(done.stdout)
    assert len(record["features"]) <= 5
    assert {"c1", "c6"} <= set(record["features"])
    assert "c6" in done.stderr


def test_what_is_brought_is_read_and_said(tmp_path: Path) -> None:
    """Titles, units, an index, dates, percentages, a mark that begins with a minus: all in one table, through a pipe."""
    rows = [f"{i},2024-05-{1 + i:02d},{10 * i}%,7,{-999 if i == 4 else 3 * i + 2}" for i in range(20)]
    text = "\n".join(["Experiment 12", "", ",day,share,same,level", ",,,m,[cm]", *rows]) + "\n"
    command = [
        sys.executable,
        str(ROOT / "scripts" / "solve.py"),
        "-",
        "--missing",
        "-999,-99",
        "--json",
        "--seconds",
        "10",
    ]
    done = subprocess.run(command, cwd=tmp_path, input=text, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert (record["rows_used"], record["rows_dropped"]) == (19, 1)
    assert record["units"] == {"day": "days since 2024-05-01", "level": "cm", "same": "m"}
    assert record["formula"] in ("3*day + 2", "30*share + 2", "2 + 3*day", "2 + 30*share"), record["formula"]
    for said in (
        "line 1 ('Experiment 12')",
        "counts the rows: it is no variable",
        "line 4 is read as units: same in m, level in cm",
        "'day': dates are read as days since 2024-05-01",
        "'share' holds percentages",
        "'level': 1 cell marked as missing",
        "no variables: same is 7",
    ):
        assert said in done.stderr, done.stderr


@pytest.mark.parametrize("arguments", [["--missing", "-9,-99.5"], ["--missing=-9,-99.5"], ["--missing", "-9, -99.5"]])
def test_marks_may_begin_with_a_minus(arguments: list[str]) -> None:
    from emlinit.scripts.solve import parse

    assert parse(["data.csv", *arguments]).missing.replace(" ", "") == "-9,-99.5"


def noisy_table(folder: Path) -> Path:
    """Data of which no law is exact: a search goes on until its time is up."""
    rng = np.random.default_rng(0)
    x = rng.uniform(0.5, 3.0, (80, 2))
    y = 3.0 * x[:, 0] ** 1.5 + x[:, 1] + 0.1 * rng.normal(size=80)
    np.savetxt(folder / "data.csv", np.column_stack([x, y]), delimiter=",", header="a,b,c", comments="")
    return folder / "data.csv"


def at_a_terminal(table: Path, n_interrupts: int) -> tuple[int, str, str]:
    """Search with standard error at a terminal, interrupted once a law was shown: exit code, output and what was said."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "scripts" / "solve.py"), str(table), "--seconds", "200", "--plot"],
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "70"},
    )
    os.close(theirs)
    said, sent = "", 0
    with suppress(OSError):  # the terminal is gone
        while piece := os.read(ours, 1024).decode(errors="replace"):
            said += piece
            if sent < n_interrupts and ("nodes, error" in said if sent == 0 else "stopping with the best law" in said):
                process.send_signal(signal.SIGINT)
                sent += 1
    os.close(ours)
    out, _ = process.communicate(timeout=120)
    return process.returncode, out, said


def test_ctrl_c_ends_a_search_with_the_best_law_so_far(tmp_path: Path) -> None:
    code, out, said = at_a_terminal(noisy_table(tmp_path), 1)
    assert code == 0, said
    assert re.search(r"^c = .*a", out, re.MULTILINE)
    assert "o data" in out
    assert re.search(r"\d nodes, error [\d.e+]+ % of the spread of c: c = .*a", said)
    assert "stopping with the best law so far; Ctrl-C again gives it up" in said
    assert "stopped early: the best law so far" in said
    assert "error:" not in said


def test_a_second_ctrl_c_gives_the_search_up(tmp_path: Path) -> None:
    code, out, said = at_a_terminal(noisy_table(tmp_path), 2)
    assert (code, out) == (130, "")
    assert "error: interrupted, nothing was written" in said


def test_the_fit_is_drawn_below_the_table_in_the_alphabet_of_the_output(tmp_path: Path) -> None:
    arguments = (EXAMPLES / "boyle.csv", "--grammar", "weighted", "--seconds", "3", "--plot")
    out = solve(*arguments, cwd=tmp_path).stdout
    table, plot = out.split("pressure_in_hg   (o data, ")
    assert "complexity" in table.splitlines()[0]
    assert plot.count("o") > 10
    assert "volume_quarter_inches" in plot.splitlines()[-1]
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "solve.py"), *map(str, arguments)],
        capture_output=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "latin-1"},
    )
    assert b"\\u28" not in done.stdout
    assert b"(o data, . law)" in done.stdout


def test_laws_are_written_in_what_is_asked_for(tmp_path: Path) -> None:
    table = noisy_table(tmp_path)
    asked = ("--operators", "+,*", "--max-complexity", "9", "--grammar", "weighted", "--seconds", "4")
    record = solve_json(table, *asked, cwd=tmp_path)
    for entry in record["front"]:
        assert entry["complexity"] <= 9
        assert not re.search(r"/|exp|log|sin|cos|sqrt|\*\*\d*\.", entry["formula"]), entry["formula"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--operators", "+,sine"], "error: argument --operators: unknown operator 'sine': did you mean 'sin'?"),
        (["--forbid", "cosine"], "error: argument --forbid: unknown operator 'cosine': did you mean 'cos'?"),
        (["--max-complexity", "0"], "error: argument --max-complexity: '0' is no whole number from 1 on"),
        (["--plot", "--json"], "error: argument --json: not allowed with argument --plot"),
    ],
)
def test_what_cannot_be_asked_for_is_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from emlinit.scripts.solve import main

    with pytest.raises(SystemExit, match="2"):
        main(["data.csv", *arguments])
    assert capsys.readouterr().err == f"{message}\n"


def test_groups_share_a_rate_and_have_factors_of_their_own(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    factors = {"copper": 5.1, "brass": 3.3, "steel": 1.4}
    lines = ["material,x,y"]
    for name, factor in factors.items():
        lines += [
            f"{name},{x!r},{float(factor * np.exp(-0.42 * x) + 0.02 * rng.normal())!r}"
            for x in np.linspace(0.5, 6, 10).tolist()
        ]
    (tmp_path / "data.csv").write_text("\n".join([*lines, ",1,2"]) + "\n")
    record = solve_json("data.csv", "--group", "material", "--seconds", "6", "--out", "results", cwd=tmp_path)
    assert (record["rows_used"], record["rows_dropped"]) == (30, 1)
    assert record["group"]["column"] == "material"
    assert record["group"]["constants"] == ["a"]
    for name, factor in factors.items():
        told = record["group"]["own"][name]["constants"]["a"]
        assert abs(told["value"] - factor) < 4 * told["standard_error"] < 0.2
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == [
        "fit.png",
        "law.py",
        "law.tex",
        "result.json",
    ]
    shown = solve("data.csv", "--group", "material", "--seconds", "3", cwd=tmp_path)
    assert re.search(r"^ +copper +10 +[\d.]+ +[\d.]+ ± [\d.]+$", shown.stdout, re.MULTILINE)
    assert "y = a*exp(-0.4" in shown.stdout
    assert "1 row without a group in column 'material'" in shown.stderr
