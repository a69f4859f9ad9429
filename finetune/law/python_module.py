"""A law as a Python module: one plain NumPy function of the columns, with nothing to install but NumPy."""

from collections.abc import Sequence

import sympy

from emlinit.finetune.law import lowering as export_numpy


def python_source(
    operations: export_numpy.Node,
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
    statements = export_numpy.source(operations, arguments)
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
