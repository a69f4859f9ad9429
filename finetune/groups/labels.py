"""Which group each row belongs to: labels as numbers, once nothing speaks against them.

Legend: p point, g group.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from emlinit.generator.errors import UserError
from emlinit.generator.formulas.printing import shortened


@dataclass(frozen=True, eq=False)
class Groups:
    """The groups of some rows."""

    names: tuple[str, ...]
    """Their labels as text, in the order in which they first appear."""
    index: np.ndarray
    """The place in `names` of each row's group, int64 of shape (p,)."""

    @property
    def counts(self) -> np.ndarray:
        """Rows of each group, int64 of shape (g,)."""
        return np.bincount(self.index, minlength=len(self.names))


def groups_of(labels: Any, n_rows: int) -> Groups:
    """Read labels, of text or numbers, one a row.

    Raises:
        UserError: not one label a row, or a missing one.
    """
    texts = label_texts(labels)
    if len(texts) != n_rows:
        raise UserError(f"there are {len(texts)} group labels for {n_rows} rows: give one a row")
    empty = next((row for row, text in enumerate(texts) if not text), None)
    if empty is not None:
        raise UserError(f"row {empty} has no group: drop the rows without one")
    names = tuple(dict.fromkeys(texts))
    places = {name: place for place, name in enumerate(names)}
    return Groups(names, np.array([places[text] for text in texts], dtype=np.int64))


def check_groups(groups: Groups, what: str = "the groups") -> None:
    """See to it that constants of their own can be told for the groups.

    Args:
        groups: those of the rows that are fitted.
        what: what the user knows them by.

    Raises:
        UserError: fewer than two groups, one with a single row, or more groups than half of the rows.
    """
    n_rows, n_groups = len(groups.index), len(groups.names)
    if n_groups < 2:
        only = f"all rows are of {quoted(groups.names[0])}" if groups.names else "there are none"
        raise UserError(f"{what} must be two or more, but {only}: leave them out")
    if 2 * n_groups > n_rows:
        raise UserError(
            f"{what} are {n_groups} in {n_rows} rows, more than half as many: a group needs several rows of its own"
        )
    single = [name for name, count in zip(groups.names, groups.counts, strict=True) if count == 1]
    if single:
        raise UserError(f"{what} have only one row of {quoted(single[0])}: leave that row out, or join the group")


def label_texts(labels: Any) -> list[str]:
    """Labels as text: whole numbers without a point, missing ones (None, NaN) empty.

    Raises:
        UserError: a single text, or a table in place of a column.
    """
    if isinstance(labels, str) or not isinstance(labels, Iterable):
        raise UserError(f"groups must be a list of labels, one a row: got {quoted(labels)}")
    values = list(labels)
    if any(isinstance(value, list | tuple | dict | np.ndarray) for value in values):
        raise UserError(f"groups must be one column of labels: got {quoted(labels)}")
    return [_text(value) for value in values]


def quoted(what: Any) -> str:
    """A label, or what was given in place of labels, in a message."""
    return f"'{shortened(' '.join(str(what).split()))}'"


def _text(value: Any) -> str:
    if value is None or value != value or type(value).__name__ in ("NAType", "NaTType"):
        return ""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return " ".join(str(value).split())
