"""A law as a Python module: plain NumPy functions of the columns, with nothing to install but NumPy."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
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
    lines = [
        *_head("", target, formula, remark, dict(zip(arguments, names, strict=True))),
        "",
        f"def law({', '.join(arguments)}):",
        '    """Value of the law for numbers or arrays of one shape; NaN or infinite where it is undefined."""',
        *(f"    {name} = np.asarray({name}, dtype=float)" for name in arguments),
        '    with np.errstate(all="ignore"):',
        *(f"        {statement}" for statement in statements),
        f"        return np.real(value + np.zeros({_shape(arguments)}))",
        "",
    ]
    return "\n".join(lines)


def errors_source(
    constants: Sequence[float],
    errors: Sequence[float | None],
    covariance: np.ndarray,
    root: np.ndarray | None,
    slopes: Sequence[Node] | None,
    symbols: Sequence[sympy.Symbol],
) -> str:
    """What follows `python_source`: the fitted constants, their errors and covariance, and the error of the law's value.

    Args:
        constants: in the order of the formula.
        errors: their standard errors, None where not determined.
        covariance: of the constants, of shape (k, k).
        root: H of shape (rank, k), such that |H g| is the standard error of a value whose derivatives by the constants
            are g; without it, or without derivatives, there is no function.
        slopes: g, one a constant.
        symbols: the arguments of the law.
    """
    lines = [
        "",
        "",
        "# Fitted constants in the order of the formula, their standard errors and their covariance; nan and inf where the",
        "# data do not determine them.",
        f"CONSTANTS = {_array(np.array(constants))}",
        f"STANDARD_ERRORS = {_array(np.array([np.nan if error is None else error for error in errors]))}",
        f"COVARIANCE = {_array(covariance)}",
    ]
    if root is None or slopes is None:
        return "\n".join([*lines, ""])
    arguments = [symbol.name for symbol in symbols]
    matrix, rows = _unused("ROOT", arguments), _unused("slopes", arguments)
    lines += [
        f"{matrix} = {_array(root)}",
        "",
        "",
        f"def standard_error({', '.join(arguments)}):",
        '    """Standard error of the value of the law, from the errors of its constants.',
        "",
        "    A new measurement has its own noise beside, to be added in squares. NaN where a derivative is undefined.",
        '    """',
        *(f"    {name} = np.asarray({name}, dtype=float)" for name in arguments),
        f"    {rows} = []",
        '    with np.errstate(all="ignore"):',
    ]
    for slope in slopes:
        lines += [f"        {statement}" for statement in _statements(slope, [*arguments, matrix, rows])]
        lines += [f"        {rows}.append(np.real(value + np.zeros({_shape(arguments)})))"]
    lines += [f"        return np.sqrt(np.sum(np.square(np.tensordot({matrix}, np.stack({rows}), 1)), 0))", ""]
    return "\n".join(lines)


def _array(numbers: np.ndarray) -> str:
    """Source of an array, at full precision."""
    text = repr(numbers.tolist()).replace("nan", "np.nan").replace("inf", "np.inf")
    return f"np.array({text})"


def grouped_python_source(
    operations: Node,
    symbols: Sequence[sympy.Symbol],
    names: Sequence[str],
    target: str,
    formula: str,
    own: Sequence[str],
    values: Mapping[str, Mapping[str, float]],
    remark: str = "",
) -> str:
    """Source of the module of a law whose constants `own` have a value for each group: `values` by group and constant.

    The operations read the columns first and then those constants. Labels are quoted, and are never part of the code.
    """
    if not own:
        return python_source(operations, symbols, names, target, formula, remark)
    arguments = [symbol.name for symbol in symbols]
    group, table, one = (_unused(name, (*arguments, *own)) for name in ("group", "OWN", "one"))
    statements = _statements(operations, [*arguments, *own])
    shapes = ", ".join(f"np.shape({name})" for name in (*arguments, group))
    lines = [
        *_head(
            ": one formula, some of its constants each group's own",
            target,
            formula,
            remark,
            dict(zip(arguments, names, strict=True)),
        ),
        f"{table} = {{",
        *(f"    {label!a}: {dict(numbers)!r}," for label, numbers in values.items()),
        "}",
        "",
        "",
        f"def law({', '.join((*arguments, group))}):",
        '    """Value of the law for numbers or arrays of one shape, and the label of a group or of the group of each;',
        '    NaN or infinite where it is undefined."""',
        *(f"    {name} = np.asarray({name}, dtype=float)" for name in arguments),
        f"    {group} = np.asarray({group})",
        *(
            f"    {name} = np.array([{table}[str({one})][{name!r}] for {one} in {group}.ravel()]).reshape({group}.shape)"
            for name in own
        ),
        '    with np.errstate(all="ignore"):',
        *(f"        {statement}" for statement in statements),
        f"        return np.real(value + np.zeros(np.broadcast_shapes({shapes})))",
        "",
    ]
    return "\n".join(lines)


def _head(kind: str, target: str, formula: str, remark: str, columns: Mapping[str, str]) -> list[str]:
    """The first lines of a module: what it is, and the column behind each argument."""
    return [
        f"# A law found in data by emlinit{kind}.",
        f"#     {target!a} = {ascii(formula)[1:-1]}",
        *([f"#     {remark}"] if remark else []),
        "# Columns:",
        *(f"#     {argument}: {column!a}" for argument, column in columns.items()),
        "",
        "import numpy as np",
        "",
    ]


def _unused(name: str, taken: Sequence[str]) -> str:
    while name in taken:
        name += "_"
    return name


def _shape(arguments: Sequence[str]) -> str:
    return f"np.broadcast_shapes({', '.join(f'np.shape({name})' for name in arguments)})" if arguments else "()"


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
