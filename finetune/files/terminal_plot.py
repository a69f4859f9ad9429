"""The fit as text: data and law over the variable if there is one, else what was measured over what the law says.

The law is drawn in braille characters, each of two by four dots, or as full stops where the terminal has none; data are
marked by `o`. Own code, as it is shorter than what would hold against the changes of a plotting library.
"""

import numpy as np

from emlinit.finetune.files.scales import Scale
from emlinit.finetune.law.law import Law

_DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])  # of a braille character, by row and column
_BRAILLE = 0x2800
_CURVE_POINTS = 2000
_MARGIN = 11  # columns for the numbers on the left
_LEAST_WIDTH, _MOST_WIDTH = 30, 100


def terminal_plot(
    law: Law, x: np.ndarray, y: np.ndarray, target: str, *, width: int = 80, height: int = 16, plain: bool = False
) -> str:
    """A plot of data and law in lines of at most `width` characters.

    Args:
        law: the law.
        x: points of shape (p, v), the columns of the law.
        y: measured values of shape (p,).
        target: column name of `y`.
        width: of the terminal, in characters.
        height: lines of the canvas.
        plain: whether to do with ASCII.
    """
    canvas_width = min(max(width, _LEAST_WIDTH), _MOST_WIDTH) - _MARGIN - 1
    vertical = Scale.of_target(y)
    if x.shape[1] == 1:
        name, across = law.names[0], x[:, 0]
        horizontal = Scale.of(across)
        line = horizontal.spread(across.min(), across.max(), _CURVE_POINTS)
        drawn = law.predict(line[:, None])
    else:
        name, across, horizontal = f"{target} by the law", law.predict(x), vertical
        known = np.concatenate([y, across])
        known = known[np.isfinite(vertical.place(known))]  # a law may be below zero where no y is
        line = drawn = vertical.spread(known.min(), known.max(), _CURVE_POINTS)
    to_column = _Places(horizontal, line, canvas_width)
    to_row = _Places(vertical, y if x.shape[1] == 1 else line, height)
    law_mark = "." if plain else chr(_BRAILLE + 0x24)
    cells = [[" "] * canvas_width for _ in range(height)]
    _draw(cells, to_column(line), to_row(drawn), plain)
    for column, row in zip(to_column(across), to_row(y), strict=True):
        if 0 <= column < canvas_width and 0 <= row < height:  # not NaN
            cells[height - 1 - int(row)][int(column)] = "o"
    corner, bar, floor = ("+", "|", "-") if plain else ("└", "│", "─")
    low, high = (_number(end) for end in (to_row.low, to_row.high))
    numbers = [high, *[""] * (height - 2), low]
    ends = [_number(end) for end in (to_column.low, to_column.high)]
    title = f"{_said(target, vertical)}   (o data, {law_mark} law)"
    lines = [
        title,
        *(f"{number:>{_MARGIN - 1}} {bar}{''.join(row)}" for number, row in zip(numbers, cells, strict=True)),
        f"{'':{_MARGIN}}{corner}{floor * (canvas_width - 1)}",
        f"{'':{_MARGIN}}{ends[0]}{ends[1]:>{canvas_width - len(ends[0])}}",
        f"{'':{_MARGIN}}{_said(name, horizontal):^{canvas_width}}",
    ]
    return "\n".join(text.rstrip()[: _MARGIN + 1 + canvas_width] for text in lines)


class _Places:
    """Numbers as places on an axis of some cells, with fractions."""

    def __init__(self, scale: Scale, numbers: np.ndarray, n_cells: int) -> None:
        finite = numbers[np.isfinite(numbers)]
        self.low, self.high, self.scale = float(finite.min()), float(finite.max()), scale
        self.begin, end = scale.place(np.array([self.low, self.high]))
        self.unit = (end - self.begin or 1.0) / (n_cells - 1e-6)

    def __call__(self, numbers: np.ndarray) -> np.ndarray:
        return np.asarray((self.scale.place(numbers) - self.begin) / self.unit)


def _draw(cells: list[list[str]], column: np.ndarray, row: np.ndarray, plain: bool) -> None:
    """The law's line, from the places of its points."""
    height, width = len(cells), len(cells[0])
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)  # not NaN
    dots = np.zeros((height, width), dtype=np.int64)
    for across, up in zip(column[inside], row[inside], strict=True):
        down = height - up
        dot = _DOTS[min(int(down % 1 * 4), 3), int(across % 1 * 2)]
        dots[min(int(down), height - 1), int(across)] |= dot
    for place in np.argwhere(dots):
        cells[place[0]][place[1]] = "." if plain else chr(_BRAILLE + int(dots[tuple(place)]))


def _number(value: float) -> str:
    return f"{value:.4g}"


def _said(name: str, scale: Scale) -> str:
    """The name of an axis that is not linear says so."""
    if not scale.logarithmic:
        return name
    below = f", linear below {scale.linear_below:g}" if scale.linear_below else ""
    return f"{name} (logarithmic{below})"
