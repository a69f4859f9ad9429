"""Several views of a table of groups, in each of which the form of the law may show.

    scaled         y divided by its group's size      own factors are gone
    one group      the rows of a large group          all own constants are numbers
    standardised   y less its group's mean, divided by its standard deviation      own factors and offsets are gone
    pooled         all rows as they are               groups play no part

Legend: p point, v input variable.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from emlinit.finetune.groups.labels import Groups
from emlinit.finetune.options import MIN_ROWS

_LARGE_GROUPS = 2


@dataclass(frozen=True, eq=False)
class View:
    """Rows to search for a form in."""

    name: str
    """What is seen."""
    share: float
    """Of the time for searching; all of a table's views have 1 together, or less."""
    rows: np.ndarray
    """Which rows, bool of shape (p,)."""
    y: np.ndarray
    """The targets of these rows, float64."""


def views(y: np.ndarray, groups: Groups) -> Iterator[View]:
    """The views of a table with targets y of shape (p,), the likeliest first; those without a target that varies are left
    out."""
    everything = np.ones(len(y), dtype=bool)
    means, sizes, spreads = (_of_groups(y, groups, number) for number in (np.mean, _signed_size, np.std))
    with np.errstate(all="ignore"):
        scaled = np.where(sizes != 0, y / sizes, 0.0)
        standardised = np.where(spreads > 0, (y - means) / spreads, 0.0)
    found = [View("groups scaled", 0.25, everything, scaled)]
    largest = np.argsort(-groups.counts, kind="stable")[:_LARGE_GROUPS]
    for share, place in zip((0.2, 0.15), largest.tolist(), strict=True):
        rows = groups.index == place
        found.append(View(f"group {groups.names[place]} alone", share, rows, y[rows]))
    found.append(View("groups standardised", 0.2, everything, standardised))
    found.append(View("all rows together", 0.2, everything, y))
    for view in found:
        if view.rows.sum() >= MIN_ROWS and np.isfinite(view.y).all() and np.ptp(view.y) > 0:
            yield view


def _signed_size(values: np.ndarray) -> float:
    """Root mean square, with the sign of the mean."""
    size = float(np.sqrt(np.mean(values**2)))
    return -size if np.mean(values) < 0 else size


def _of_groups(y: np.ndarray, groups: Groups, number: object) -> np.ndarray:
    """A number of each group's targets, one a row."""
    assert callable(number)
    of_each = np.array([number(y[groups.index == place]) for place in range(len(groups.names))])
    return np.asarray(of_each[groups.index])
