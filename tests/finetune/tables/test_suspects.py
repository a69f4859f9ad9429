"""Numbers that may mark missing values are named with what to do; numbers of the column are not."""

import numpy as np
import pytest

from emlinit.finetune.tables.suspects import said_of_suspects


def said(*numbers: float) -> list[str]:
    return said_of_suspects("c", np.array(numbers, dtype=np.float64), np.arange(len(numbers)) + 2)


@pytest.mark.parametrize("mark", [-9999, -999, 999, 9999, -99, 1e20, -999.99, -32768, 9.96921e36, 99999])
def test_a_mark_that_repeats_is_named(mark: float) -> None:
    shown = str(int(mark)) if mark == int(mark) and abs(mark) < 1e16 else repr(float(mark))
    notes = said(3.0, mark, 5.0, 1.0, mark, 2.5)
    assert len(notes) == 1
    assert notes[0].startswith(f"column 'c' holds {shown} 2 times, first in line 3, far from its other numbers")
    assert notes[0].endswith(f"give --missing={shown}")


def test_a_mark_that_stands_once_is_named_if_it_is_far_out() -> None:
    assert "holds -9999 in line 4, far from" in said(120, 125, -9999, 140, 160)[0]
    assert said(900, 950, 980, 999) == []
    assert said(-50, -99, 20, 30, -10) == []


def test_several_marks_are_all_named() -> None:
    notes = said(1.0, -9999, 2.0, -999, 3.0, -9999, 2.5, -999)
    assert ["-9999 2 times" in notes[0], "-999 2 times" in notes[1], len(notes)] == [True, True, 2]


@pytest.mark.parametrize(
    "numbers",
    [(1, 99, 50, 99, 70), (-99, -98, -99, -97.5), (999, 999, 999), (0, 999, 999, 999), (1, 2, 3, 1e5), (5, 5, 5)],
)
def test_numbers_of_the_column_are_no_marks(numbers: tuple[float, ...]) -> None:
    assert said(*numbers) == []


def test_a_number_a_million_times_the_others_is_named() -> None:
    assert "holds 123456789000 in line 3, more than 1,000,000 times" in said(1, 123456789000.0, 2, 3)[0]
