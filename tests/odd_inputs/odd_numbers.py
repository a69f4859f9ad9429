"""A seeded generator of tables whose text is in order and whose numbers are odd: huge, tiny, constant, repeated."""

from collections.abc import Callable, Iterator

import numpy as np

_SIZES = (-320.0, -307.0, -101.0, -100.0, -99.0, -50.0, -20.0, 0.0, 20.0, 50.0, 99.0, 100.0, 101.0, 154.0, 308.0)


def odd_numbers(seed: int, n: int) -> Iterator[tuple[str, np.ndarray]]:
    """`n` tables, each with a description; float64 of shape (rows, columns), the target last."""
    rng = np.random.default_rng(seed)
    for number in range(n):
        n_rows, n_variables = int(rng.choice([3, 4, 5, 8, 17, 30])), int(rng.integers(1, 4))
        x = rng.uniform(-1, 1, (n_rows, n_variables))
        kind, change = list(_KINDS.items())[number % len(_KINDS)]
        target, law = list(_TARGETS.items())[int(rng.integers(len(_TARGETS)))]
        with np.errstate(all="ignore"):
            y = law(x, rng)
            x, y = change(x, y, rng)
        yield f"{kind}, y is {target}, {n_rows} rows", np.column_stack([x, y])


_Change = Callable[[np.ndarray, np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]]


def _one(column: np.ndarray, rng: np.random.Generator, value: float) -> np.ndarray:
    column = column.copy()
    column[rng.integers(len(column))] = value
    return column


def _size(rng: np.random.Generator) -> float:
    return float(rng.choice([-1.0, 1.0]) * 10.0 ** rng.choice(_SIZES))


def _with_column(x: np.ndarray, column: np.ndarray) -> np.ndarray:
    return np.column_stack([column, x[:, 1:]])


_KINDS: dict[str, _Change] = {
    "x of a size": lambda x, y, rng: (x * _size(rng), y),
    "y of a size": lambda x, y, rng: (x, y * _size(rng)),
    "both of a size": lambda x, y, rng: (x * _size(rng), y * _size(rng)),
    "one odd x": lambda x, y, rng: (_with_column(x, _one(x[:, 0], rng, _size(rng))), y),
    "one odd y": lambda x, y, rng: (x, _one(y, rng, _size(rng))),
    "x of all sizes": lambda x, y, rng: (np.sign(x) * 10.0 ** (100 * rng.uniform(-1, 1, x.shape)), y),
    "y of all sizes": lambda x, y, rng: (x, np.sign(y) * 10.0 ** (100 * rng.uniform(-1, 1, y.shape))),
    "constant y": lambda x, y, rng: (x, np.full_like(y, _size(rng))),
    "nearly constant y": lambda x, y, rng: (x, 1.0 + 1e-15 * np.round(y)),
    "constant x": lambda x, y, rng: (np.full_like(x, 0.3), y),
    "whole numbers": lambda x, y, rng: (np.round(3 * x), np.round(3 * y)),
    "two values": lambda x, y, rng: (np.sign(x), np.sign(y)),
    "all rows alike but one": lambda x, y, rng: (np.vstack([x[:1], np.repeat(x[1:2], len(x) - 1, axis=0)]), y),
    "repeated column": lambda x, y, rng: (np.column_stack([x, x]), y),
    "a large offset": lambda x, y, rng: (x + 1e9, y - 1e9),
    "zeros": lambda x, y, rng: (np.where(rng.random(x.shape) < 0.5, 0.0, x), y),
    "negative zeros": lambda x, y, rng: (np.where(rng.random(x.shape) < 0.5, -0.0, x), np.where(y < 0, -0.0, y)),
    "nothing but zeros": lambda x, y, rng: (0 * x, 0 * y),
}
_TARGETS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "noise": lambda x, rng: rng.normal(size=len(x)),
    "3x": lambda x, rng: 3 * x[:, 0],
    "x squared": lambda x, rng: x[:, 0] ** 2,
    "1/x": lambda x, rng: 1 / x[:, 0],
    "exp x": lambda x, rng: np.exp(x[:, 0]),
    "the sum of all": lambda x, rng: x.sum(axis=1),
}
