"""Several expressions of the same symbols at once: what they have in common is computed once.

Joint fits ask for a form and for all its derivatives some thousand times, on few rows each, so that what counts is the
number of operations. The nodes of all expressions are put in one order, equal ones made one, and run from first to last.

Legend: p point.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import sympy

from emlinit.finetune.law.lowering import OPERATIONS, Node, lower


class JointEvaluation:
    """Expressions that are evaluated together; one without a NumPy counterpart is undefined everywhere."""

    def __init__(self, expressions: Sequence[sympy.Expr], symbols: Sequence[sympy.Symbol]) -> None:
        """Lower the expressions, whose free symbols are among `symbols` (column i is `symbols[i]`)."""
        self._steps: list[tuple[str, Any, tuple[int, ...]]] = []
        self._places: dict[tuple[str, Any, tuple[int, ...]], int] = {}
        self._of_node: dict[int, int] = {}
        self._kept: list[Node] = []  # alive, or their ids would be given to others
        self._results: list[int | None] = []
        for expression in expressions:
            try:
                node = lower(expression, symbols)
            except (ValueError, OverflowError):  # such as the derivative of sign(x)
                self._results.append(None)
                continue
            self._kept.append(node)
            self._results.append(self._place(node))
        self._of_node.clear()
        self._kept.clear()

    @property
    def is_complete(self) -> bool:
        """Whether every expression has a NumPy counterpart."""
        return None not in self._results

    def __call__(self, columns: np.ndarray) -> np.ndarray:
        """Values at points, float64 of shape (p, columns) to (p, expressions); NaN where one is not real or not defined."""
        values: list[Any] = []
        result = np.full((len(columns), len(self._results)), np.nan)
        with np.errstate(all="ignore"):
            for head, value, args in self._steps:
                if head == "number":
                    values.append(value)
                elif head == "variable":
                    values.append(np.ascontiguousarray(columns[:, value]))
                else:
                    values.append(OPERATIONS[head].function(*(values[arg] for arg in args)))
            for column, place in enumerate(self._results):
                if place is not None:
                    found = values[place]
                    result[:, column] = np.where(np.imag(found) == 0, np.real(found), np.nan)
        return result

    def _place(self, node: Node) -> int:
        if id(node) not in self._of_node:
            args = tuple(self._place(arg) for arg in node.args)
            value = node.value if node.head in ("number", "variable") else None
            key = (node.head, (type(value), value), args)
            if key not in self._places:
                self._places[key] = len(self._steps)
                self._steps.append((node.head, value, args))
            self._of_node[id(node)] = self._places[key]
        return self._of_node[id(node)]
