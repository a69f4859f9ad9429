"""How long tables of many rows or columns take, and how much memory: reading alone, and `solve` as a process.

    python scripts/bench_tables.py
    python scripts/bench_tables.py --seconds 10 --sizes 1000x3,1000000x3,500x2000

The law is 2.5 a^1.5 / b in two of the columns, the last one is the target, the others are noise. Memory is the peak of the
process, beside that of a table of eight rows: what PyTorch and sympy take by themselves.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from emlinit.generator.errors import UserError
from emlinit.scripts.arguments import Parser, seconds_argument
from emlinit.scripts.running import run

SIZES = "8x3,1000x3,10000x3,100000x3,1000000x3,500x20,500x200,500x2000"


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line of `bench_tables`."""
    parser = Parser("Time and memory of solve for tables of many rows or columns.")
    parser.add_argument("--sizes", metavar="ROWSxCOLUMNS,...", default=SIZES, help="tables to make, target included")
    parser.add_argument("--seconds", metavar="S", type=seconds_argument, default=10.0, help="time for each search")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    return run(lambda: _bench(parse(argv)))


def _bench(arguments: argparse.Namespace) -> int:
    import tempfile

    sizes = [_size(text) for text in arguments.sizes.split(",")]
    print("| rows | columns | file MB | reading s | all s | CPU s | peak MB | law |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "table.csv"
        for n_rows, n_columns in sizes:
            _write(table, n_rows, n_columns)
            reading = _read_seconds(table)
            wall, cpu, peak, law = _solve(table, arguments.seconds)
            print(
                f"| {n_rows:,} | {n_columns:,} | {table.stat().st_size / 1e6:.1f} | {reading:.2f} | {wall:.1f} | {cpu:.1f} "
                f"| {peak:.0f} | `{law}` |",
                flush=True,
            )
    return 0


def _size(text: str) -> tuple[int, int]:
    rows, x, columns = text.partition("x")
    if not (x and rows.isdecimal() and columns.isdecimal() and int(rows) >= 3 and int(columns) >= 3):
        raise UserError(f"--sizes holds '{text}': write ROWSxCOLUMNS, at least 3x3, such as {SIZES}")
    return int(rows), int(columns)


def _write(path: Path, n_rows: int, n_columns: int) -> None:
    import numpy as np

    x = np.random.default_rng(0).uniform(1, 5, (n_rows, n_columns - 1))
    a, b = x[:, (n_columns - 1) // 3], x[:, -1]
    names = [f"c{i + 1}" for i in range(n_columns - 1)] + ["y"]
    table = np.column_stack([x, 2.5 * a**1.5 / b])
    np.savetxt(path, table, fmt="%.10g", delimiter=",", header=",".join(names), comments="")


def _read_seconds(path: Path) -> float:
    from emlinit.finetune.tables.read_table import read_table

    began = time.process_time()
    read_table(path)
    return time.process_time() - began


def _solve(table: Path, seconds: float) -> tuple[float, float, float, str]:
    """Wall-clock seconds, CPU seconds, peak memory in MB, and the law."""
    import subprocess
    import tempfile

    command = [sys.executable, str(Path(__file__).with_name("solve.py")), str(table), "--seconds", f"{seconds:g}"]
    began = time.monotonic()
    with tempfile.TemporaryFile("w+", encoding="utf-8") as said:
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.monotonic() - began
        said.seek(0)
        chosen = [line for line in said if line.startswith("y = ")]
    per_mb = 2**20 if sys.platform == "darwin" else 2**10
    law = chosen[0].strip() if chosen else f"exit code {process.returncode}"
    return wall, used.ru_utime + used.ru_stime, used.ru_maxrss / per_mb, law


if __name__ == "__main__":
    sys.exit(main())
