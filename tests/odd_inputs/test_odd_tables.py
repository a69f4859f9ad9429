"""An odd table gives exactly its numbers, with what was guessed said, or one line that names the fault."""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from odd_inputs.odd_tables import KINDS, OddTable, odd_tables

from emlinit.finetune.tables.read_table import read_table
from emlinit.generator.errors import UserError

SOLVE = Path(__file__).resolve().parents[2] / "scripts" / "solve.py"
N = 10 * len(KINDS)


@pytest.mark.parametrize("seed", [0, 1])
def test_odd_tables_are_read_right_or_refused_in_one_line(seed: int, tmp_path: Path) -> None:
    path, n_read = tmp_path / "table.csv", 0
    for odd in odd_tables(seed, N):
        path.write_bytes(odd.data)
        begin = time.monotonic()
        try:
            table = read_table(path)
        except UserError as problem:
            said = str(problem)
            assert odd.refused is not None, f"{odd.kind}: {said}"
            assert odd.refused in said, f"{odd.kind}: {said}"
            assert len(said.splitlines()) == 1, odd.kind
        except BaseException as problem:
            raise AssertionError(f"{odd.kind}: {problem!r}") from problem
        else:
            n_read += 1
            assert odd.refused is None, f"{odd.kind} was accepted in silence"
            assert (*table.features, table.target) == odd.names, odd.kind
            whole = odd.values[np.isfinite(odd.values).all(axis=1)]
            np.testing.assert_array_equal(np.column_stack([table.x, table.y]), whole, odd.kind)
            assert table.rows_dropped == len(odd.values) - len(whole), odd.kind
            assert odd.said is None or any(odd.said in note for note in table.notes), f"{odd.kind}: {table.notes}"
            assert all(len(note.splitlines()) == 1 for note in table.notes), odd.kind
        assert time.monotonic() - begin < 5, odd.kind
    assert N / 4 < n_read < 3 * N / 4


def test_a_process_refuses_odd_tables_in_one_line_and_writes_nothing(tmp_path: Path) -> None:
    refused = [odd for odd in odd_tables(2, len(KINDS)) if odd.refused is not None]

    def refuse(numbered: tuple[int, OddTable]) -> str | None:
        number, odd = numbered
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "table.csv").write_bytes(odd.data)
        command = [sys.executable, "-B", str(SOLVE), "table.csv", "--out", "results", "--json"]
        done = subprocess.run(command, cwd=folder, capture_output=True, timeout=60, check=False)
        lines = done.stderr.decode().splitlines()
        good = done.returncode == 2 and not done.stdout and len(lines) == 1 and lines[0].startswith("error: ")
        written = sorted(path.name for path in folder.iterdir()) != ["table.csv"]
        return None if good and not written and len(lines[0]) < 1000 else f"{odd.kind}: {done}"

    with ThreadPoolExecutor(2) as pool:
        assert [fault for fault in pool.map(refuse, enumerate(refused)) if fault is not None] == []
