"""A law as a Python module: one plain NumPy function of the columns, with nothing to install but NumPy."""

from collections import Counter
from collections.abc import Callable, Sequence

import sympy

from emlinit.finetune.law.lowering import OPERATIONS, TIGHTEST, Node


def python_source(
    operations: Node,
    symbols: Sequence[sympy.Symbol],
    names: Sequence[str],
    target: str,
    formula: str,
    remark: str = "",
) -> str:
    """Source of the module; column names appear in comments only, quoted, and are never part of the code.

    `remark` is one line of ours below the formula.
    """
    arguments = [symbol.name for symbol in symbols]
    statements = _statements(operations, arguments)
    shape = f"np.broadcast_shapes({', '.join(f'np.shape({name})' for name in arguments)})" if arguments else "()"
    lines = [
        "# A law found in data by emlinit.",
        f"#     {target!a} = {ascii(formula)[1:-1]}",
        *([f"#     {remark}"] if remark else []),
        "# Columns:",
        *(f"#     {name}: {column!a}" for name, column in zip(arguments, names, strict=True)),
        "",
        "import numpy as np",
        "",
        "",
        f"def law({', '.join(arguments)}):",
        '    """Value of the law for numbers or arrays of one shape; NaN or infinite where it is undefined."""',
        *(f"    {name} = np.asarray({name}, dtype=float)" for name in arguments),
        '    with np.errstate(all="ignore"):',
        *(f"        {statement}" for statement in statements),
        f"        return np.real(value + np.zeros({shape}))",
        "",
    ]
    return "\n".join(lines)


def _statements(node: Node, names: Sequence[str]) -> list[str]:
    """Assignments of Python source that end in `value = ...`; the variables are called `names`."""
    uses: Counter[int] = Counter()

    def count(at: Node) -> None:
        uses[id(at)] += 1
        if uses[id(at)] == 1:
            for arg in at.args:
                count(arg)

    count(node)
    lines: list[str] = []
    known: dict[int, str] = {}
    prefix = "t"
    while any(name.startswith(prefix) and name[len(prefix) :].isdecimal() for name in names):
        prefix += "_"

    def write(at: Node, outer: int = 0) -> str:
        if id(at) in known:
            return known[id(at)]
        text, precedence = _written(at, names, write)
        if uses[id(at)] > 1 and at.args and len(text) > 12:
            known[id(at)] = f"{prefix}{len(known) + 1}"
            lines.append(f"{known[id(at)]} = {text}")
            return known[id(at)]
        return text if precedence >= outer else f"({text})"

    last = write(node)
    return [*lines, f"value = {last}"]


def _written(at: Node, names: Sequence[str], write: Callable[..., str]) -> tuple[str, int]:
    """Source of one node and how tightly it binds."""
    if at.head == "number":
        return at.text, OPERATIONS["neg"].binds if at.text.startswith("-") else TIGHTEST
    if at.head == "variable":
        return names[at.value], TIGHTEST
    operation = OPERATIONS[at.head]
    outer = operation.operands_bind or (0,) * len(at.args)
    return operation.source.format(*map(write, at.args, outer)), operation.binds
