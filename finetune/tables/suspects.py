"""Numbers of a column that may stand for a missing one, such as -9999: they are named, and what to do is said.

They are not left out unasked: -99 may be a temperature. What is named is a number that people use as a mark and that lies
further from all others of its column than those lie apart, or one that is a million times larger than any other.
"""

from collections.abc import Iterator

import numpy as np

_MARKS = (
    *(99.0, 999.0, 9999.0, 99999.0, 999999.0, 99.99, 999.9, 999.99, 9999.9, 9999.99, 8888.0, 88888.0, 7777.0),
    *(32768.0, 32767.0, 65535.0, 2147483647.0, 2147483648.0, 1e10, 1e20, 1e30, 1e31, 1e35, 1e36, 1e37, 1e99),
    *(9.96921e36, 9.969209968386869e36, 3.4028234663852886e38, 3.4e38),
)
_FAR_OUT = 1e6  # times the next largest number from which a number may be a mark for a missing one
_APART_ALONE = 3.0  # times the range of the others that a mark which stands once must lie away from them

_APART_BY_SIZE = 0.1  # times the largest of the others, that it must lie away from them


def said_of_suspects(name: str, numbers: np.ndarray, lines: np.ndarray) -> list[str]:
    """Remarks on numbers of a finite column of shape (p,) that may stand for missing ones; `lines` are the file's."""
    notes = []
    for place, times in _marks(numbers):
        shown = _shown(float(numbers[place]))
        where = f"in line {lines[place]}" if times == 1 else f"{times} times, first in line {lines[place]}"
        notes.append(
            f"column '{name}' holds {shown} {where}, far from its other numbers: if it marks missing values, give "
            f"--missing={shown}"
        )
    if notes:
        return notes
    sizes = np.abs(numbers)
    place = int(sizes.argmax())
    others = sizes[numbers != numbers[place]]
    if not len(others) or not 0 < others.max() * _FAR_OUT < sizes[place]:
        return []
    shown = _shown(float(numbers[place]))
    return [
        f"column '{name}' holds {shown} in line {lines[place]}, more than {_FAR_OUT:,.0f} times any other of its numbers: "
        f"leave the cell empty, or give --missing={shown}, if it marks a missing value"
    ]


def _shown(number: float) -> str:
    return str(int(number)) if number.is_integer() and abs(number) < 1e16 else repr(number)


def _marks(numbers: np.ndarray) -> Iterator[tuple[int, int]]:
    """First place and number of times of each mark at the ends of the column, from the outermost inwards."""
    low, high = float(numbers.min()), float(numbers.max())
    if not any(abs(end) in _MARKS for end in (low, high)):  # most columns
        return
    left = numbers
    while True:
        ends = [end for end in (float(left.min()), float(left.max())) if abs(end) in _MARKS]
        for mark in sorted(ends, key=abs, reverse=True):
            others = left[left != mark]
            times = len(left) - len(others)
            if len(others) < 2 or times > len(others):
                continue
            gap = float(np.abs(others - mark).min())
            apart = float(np.ptp(others)) * (1.0 if times > 1 else _APART_ALONE)
            if gap > max(apart, _APART_BY_SIZE * float(np.abs(others).max())):
                yield int(np.argmax(numbers == mark)), times
                left = others
                break
        else:
            return
