"""Odd numbers give a law that can be written down in every form, or one line that names the cell."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
from odd_inputs.odd_numbers import odd_numbers

from emlinit.scripts import solve

SECONDS = 0.3


@pytest.mark.parametrize("seed", [0, 1])
def test_odd_numbers_are_fitted_or_refused_in_one_line(
    seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    n_fitted = 0
    for number, (what, table) in enumerate(odd_numbers(seed, 24)):
        path, out = tmp_path / "table.csv", tmp_path / f"out{number}"
        names = [f"x{i + 1}" for i in range(table.shape[1] - 1)] + ["y"]
        path.write_text("\n".join(",".join(row) for row in [names, *([repr(v) for v in r] for r in table.tolist())]))
        grammar = ("auto", "weighted", "auto", "exact")[number % 4]
        arguments = [str(path), "--seconds", str(SECONDS), "--json", "--grammar", grammar, "--out", str(out)]
        begin = time.monotonic()
        code = solve.main(arguments if number % 3 == 0 else arguments[:-2])
        seconds = time.monotonic() - begin
        said = capsys.readouterr()
        assert seconds < SECONDS + 15, what  # loading the checkpoints and drawing included
        if code == 2:
            assert not said.out, what
            assert len(said.err.splitlines()) == 1, f"{what}: {said.err}"
            assert "column" in said.err or "no feature varies" in said.err, f"{what}: {said.err}"
            refusals = ("cannot be fitted", "finite number", "no feature varies")
            assert any(refusal in said.err for refusal in refusals), f"{what}: {said.err}"
            assert not out.exists(), what
            continue
        assert code == 0, what
        n_fitted += 1
        record = json.loads(said.out, parse_constant=pytest.fail)
        assert record["rows_used"] == np.isfinite(table).all(axis=1).sum(), what
        assert record["formula"], what
        assert record["train"]["rmse"] is not None, what
    assert n_fitted > 7
