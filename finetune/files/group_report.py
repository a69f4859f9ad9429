"""What is said about a law of several groups: the JSON record, the tables, and the files of an output folder."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from emlinit.finetune.files.output_folder import write_folder
from emlinit.finetune.files.report import finite_or_none, tex_columns, to_json
from emlinit.finetune.group_solver import GroupedSolution
from emlinit.finetune.law.standard_errors import LawConstant
from emlinit.finetune.law.symbol_names import latex_escape, latex_name
from emlinit.finetune.tables.read_table import Table

GROUP_RESULT_FILES = ("result.json", "law.tex", "law.py", "fit.png")
"""The files of a law of several groups."""
_MOST_ROWS = 40  # groups that are listed; all of them are in the record


def group_record(solution: GroupedSolution, table: Table, seed: int) -> dict[str, Any]:
    """Everything a program needs to know about a solution, ready for JSON, keys always in this order.

    `group` holds the name of the column, the values and standard errors of the shared constants in `shared`, and those of
    each group's own in `own`, by the group and the constant's name in the formula. An error is null where the data do not
    determine the constant, or fit the law to machine precision.
    """
    law = solution.law
    own = {
        group: {
            "rows": count,
            "rmse": finite_or_none(rmse),
            "constants": {
                name: {"value": value, "standard_error": finite_or_none(error)}
                for name, value, error in zip(law.own, values, errors, strict=True)
            },
        }
        for group, count, rmse, values, errors in zip(
            law.groups,
            solution.counts,
            solution.group_rmse,
            law.values.tolist(),
            law.standard_errors.tolist(),
            strict=True,
        )
    }
    chosen = next(entry for entry in solution.front if entry.law is law)
    return {
        "formula": law.formula,
        "latex": law.latex(),
        "complexity": law.complexity,
        "group": {
            "column": law.column,
            "constants": list(law.own),
            "shared": [asdict(constant) for constant in law.shared],
            "own": own,
        },
        "exact": solution.exact,
        "symbols": law.renamed,
        "train": {"r2": finite_or_none(solution.r2), "rmse": finite_or_none(solution.rmse)},
        "front": [
            {
                "complexity": entry.law.complexity,
                "constants": entry.n_constants,
                "rmse": finite_or_none(entry.rmse),
                "nats_longer": _rounded(entry.nats - chosen.nats),
                "formula": entry.law.formula,
                "own": list(entry.law.own),
            }
            for entry in solution.front
        ],
        "rows_used": len(table.y),
        "rows_dropped": table.rows_dropped,
        "seconds": round(float(solution.seconds), 3),
        "seed": seed,
        "target": table.target,
        "features": list(law.names),
        "units": table.units,
    }


def group_tables(solution: GroupedSolution, record: Mapping[str, Any]) -> str:
    """The front, the chosen law marked by `*`; below it that law, its own constants group by group, and those shared."""
    law, front = solution.law, [("", "constants", "rmse", "nats", "formula (constants to 6 digits)", "own")]
    for entry, told in zip(solution.front, record["front"], strict=True):
        longer = told["nats_longer"]
        nats = "" if entry.law is law or longer is None else f"{longer:+.1f}"
        mark = "*" if entry.law is law else ""
        own = ", ".join(entry.law.own) or "-"
        front.append((mark, str(entry.n_constants), f"{entry.rmse:.4g}", nats, entry.law.short_formula, own))
    lines = _aligned(front, "<>>><<")
    lines += ["", f"{record['target']} = {law.people_formula}"]
    if law.own:
        lines += [f"    {_listed(law.own)} for each {law.column}:", ""]
        lines += [f"    {line}" for line in _aligned(_own_rows(solution), "<>>" + "<" * len(law.own))]
        hidden = len(law.groups) - _MOST_ROWS
        lines += [f"    ... and {hidden} more (--json or --out holds all)"] if hidden > 0 else []
    if any(constant.standard_error is not None for constant in law.shared):
        lines += ["", f"    shared: {', '.join(map(str, law.shared))}"]
    units = [
        (name, table_unit) for name, table_unit in record["units"].items() if name in (record["target"], *law.names)
    ]
    lines += [f"    units: {', '.join(f'{name} in {unit}' for name, unit in units)}"] if units else []
    lines += [f"    {symbol} stands for the column '{name}'" for name, symbol in law.renamed.items()]
    return "\n".join(lines)


def _listed(own: Sequence[str]) -> str:
    return f"{own[0]} has its own value" if len(own) == 1 else f"{', '.join(own)} have their own values"


def _own_rows(solution: GroupedSolution) -> list[tuple[str, ...]]:
    law = solution.law
    rows: list[tuple[str, ...]] = [(law.column, "rows", "rmse", *law.own)]
    for place, group in enumerate(law.groups[:_MOST_ROWS]):
        values = zip(law.values[place].tolist(), law.standard_errors[place].tolist(), strict=True)
        told = [_with_error(value, error, exact=solution.exact) for value, error in values]
        rows.append((group, str(solution.counts[place]), f"{solution.group_rmse[place]:.3g}", *told))
    return rows


def _with_error(value: float, error: float, *, exact: bool) -> str:
    if exact:
        return f"{value:.12g}"
    return str(LawConstant(value, error if math.isfinite(error) else None))


def _aligned(rows: Sequence[Sequence[str]], sides: str) -> list[str]:
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return [
        "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths, strict=True)).rstrip()
        for row in rows
    ]


def write_group_outputs(
    folder: Path,
    solution: GroupedSolution,
    table: Table,
    record: Mapping[str, Any],
    *,
    when_written: Callable[[], object] = lambda: None,
) -> None:
    """Write the `GROUP_RESULT_FILES`, all of them or none, and call `when_written` once they are in place.

    Raises:
        UserError: the folder cannot be written.
    """
    from emlinit.finetune.files.figures import save_group_fit  # matplotlib is slow to import and needed only here

    law = solution.law
    x: np.ndarray = table.x[:, [table.features.index(name) for name in law.names]]
    known = any(constant.standard_error is not None for constant in law.shared)
    remark = f"shared: {', '.join(map(str, law.shared))}" if known else ""
    writers: dict[str, Callable[[Path], object]] = {
        "result.json": lambda path: path.write_text(to_json(record, indent=2) + "\n", encoding="utf-8"),
        "law.tex": lambda path: path.write_text(_tex(solution, table, remark), encoding="utf-8"),
        "law.py": lambda path: path.write_text(law.python_source(table.target, remark), encoding="utf-8"),
        "fit.png": lambda path: save_group_fit(path, law, x, table.y, table.labels, table.target, table.units),
    }
    assert tuple(writers) == GROUP_RESULT_FILES  # those whose places were checked before the search
    write_folder(folder, writers, when_written=when_written)


def _tex(solution: GroupedSolution, table: Table, remark: str) -> str:
    law = solution.law
    columns = tex_columns(table, law.names)
    said = f"% {remark}\n" if remark else ""
    equation = f"\\begin{{equation}}\n  {latex_name(table.target)} = {law.latex()}\n\\end{{equation}}\n"
    return (
        "% A law found in data by emlinit, some of its constants each group's own; needs \\usepackage{amsmath}. Columns:\n"
        f"{columns}{said}{equation}{_tex_table(solution) if law.own else ''}"
    )


def _tex_table(solution: GroupedSolution) -> str:
    law = solution.law
    head = " & ".join([latex_escape(law.column), "rows", *(f"${latex_name(name)}$" for name in law.own)])
    lines = []
    for place, group in enumerate(law.groups):
        values = zip(law.values[place].tolist(), law.standard_errors[place].tolist(), strict=True)
        told = [_with_error(value, error, exact=solution.exact).replace("±", r"$\pm$") for value, error in values]
        lines.append(" & ".join([latex_escape(group), str(solution.counts[place]), *told]) + r" \\")
    body = "\n  ".join(lines)
    return f"\\begin{{tabular}}{{lr{'l' * len(law.own)}}}\n  {head} \\\\\n  \\hline\n  {body}\n\\end{{tabular}}\n"


def _rounded(value: float) -> float | None:
    return round(value, 2) if math.isfinite(value) else None
