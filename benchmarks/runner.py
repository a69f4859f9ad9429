"""What every benchmark does: its runs, one by one or in several processes, and its results, in files that bear a date."""

import itertools
import json
import multiprocessing
import platform
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TypeVar

import torch

from emlinit.generator.files import write_atomically

_Run = TypeVar("_Run")
_Outcome = TypeVar("_Outcome")
_Needs = TypeVar("_Needs")


def run_all(
    runs: Sequence[_Run],
    solve: Callable[[_Run, _Needs], _Outcome],
    load: Callable[[], _Needs],
    *,
    jobs: int = 1,
    progress: Callable[[_Outcome], object] = lambda _: None,
) -> list[_Outcome]:
    """Solve all runs, each on one thread.

    Args:
        runs: what there is to solve.
        solve: solves one of them, with what `load` returned.
        load: called once in each process before its first run: networks and tables are there when a clock starts, as
            a user has them from the second search on.
        jobs: processes; 1 works in this one. More of them get `runs`, `solve` and `load` pickled, so these must be
            functions of a module, or a `partial` of one.
        progress: called with each outcome as soon as it is there.

    Returns:
        The outcomes in the order of the runs.
    """
    if jobs == 1:
        torch.set_num_threads(1)
        needs, outcomes = load(), []
        for run in runs:
            outcomes.append(solve(run, needs))
            progress(outcomes[-1])
        return outcomes
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_start, initargs=(load,)) as pool:
        try:
            futures = [pool.submit(_solve, solve, run) for run in runs]
            for future in as_completed(futures):
                progress(future.result())
        except BaseException as stop:
            if isinstance(stop, KeyboardInterrupt):  # what the processes are at is of no use any more
                for process in multiprocessing.active_children():
                    process.terminate()
            pool.shutdown(cancel_futures=True)  # else the pool works off what is left before the error is seen
            raise
        return [future.result() for future in futures]


_needs: Any = None  # of a worker process


def _start(load: Callable[[], Any]) -> None:
    global _needs
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all processes: the first one ends the others
    torch.set_num_threads(1)
    _needs = load()


def _solve(solve: Callable[[_Run, Any], _Outcome], run: _Run) -> _Outcome:
    return solve(run, _needs)


def write_results(
    folder: Path, name: str, outcomes: Sequence[Any], settings: dict[str, Any], *, kind: str = "suite", **about: Any
) -> Path:
    """Write `NAME-DATE-TIME.json`, whole or not at all; returns its path.

    Args:
        folder: made if it is missing.
        name: of the suite or study, under the key `kind`.
        outcomes: dataclasses, written last; before them stands the machine.
        settings: what was asked for.
        kind: `suite` or `study`.
        about: further entries, each under its own key.
    """
    now = datetime.now(UTC)
    record = {
        kind: name,
        "date": now.isoformat(timespec="seconds"),
        "settings": settings,
        **about,
        "machine": {"processor": platform.machine(), "threads": torch.get_num_threads(), "torch": torch.__version__},
        "outcomes": [asdict(outcome) for outcome in outcomes],
    }
    path = folder / f"{name}-{now:%Y%m%d-%H%M%S}.json"
    write_atomically(path, lambda temporary: temporary.write_text(json.dumps(record, indent=1) + "\n"))
    return path


@contextmanager
def open_lines(folder: Path, name: str) -> Iterator[TextIOWrapper]:
    """A new file `NAME-DATE-TIME.jsonl` for outcomes that are written as they come; removed if it stays empty, and so is
    the folder if it was made for it."""
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    now = f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
    for number in itertools.count():
        path = folder / (f"{name}-{now}.jsonl" if not number else f"{name}-{now}-{number}.jsonl")
        with suppress(FileExistsError), path.open("x") as lines:
            try:
                yield lines
            finally:
                if not lines.tell():
                    path.unlink()
                    if made:
                        with suppress(OSError):  # somebody else has written there
                            folder.rmdir()
            return
