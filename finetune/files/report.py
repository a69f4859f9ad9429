"""What is said about a solution: the JSON record, the table of the Pareto front, and the files of an output folder."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from emlinit.finetune.files.output_folder import RESULT_FILES, write_folder
from emlinit.finetune.law.choice import description_lengths
from emlinit.finetune.law.standard_errors import LawConstant, LawErrors, constants_line, law_errors
from emlinit.finetune.law.symbol_names import latex_escape, latex_name
from emlinit.finetune.law.text import people_text
from emlinit.finetune.solver import Solution
from emlinit.finetune.tables.read_table import Table

_MOST_NAMES = 20  # columns that are listed


def result_record(solution: Solution, table: Table, seed: int) -> dict[str, Any]:
    """Everything a program needs to know about a solution, ready for JSON, keys always in this order.

    `constants` holds the fitted numbers of the formula in its order; an error is null where the data do not determine the
    number, or fit the law to machine precision (see `law.standard_errors`), and so it is in their `covariance`. `noise` is
    null for an exact law and where it cannot be told, `chi2_per_dof` unless the standard deviations of the targets are
    known; `no_extrapolation` says why `extrapolation` is null. `outlying_rows` are counted in the file, from 1. `units`
    holds those of columns that have one. `found_by` is the stage of the search that found the law, `stages` what was
    searched, for how long and how well. The checkpoint has a name only if one of its proposals is an ancestor of the law.
    """
    law, errors, told = solution.law, _errors(solution, table), _front_and_rivals(solution)
    source, sha256 = solution.checkpoint if solution.checkpoint is not None else (None, None)
    checkpoint = {"source": source, "sha256": sha256}
    if solution.revision is not None:
        checkpoint["revision"] = solution.revision
    return {
        "formula": law.formula,
        "latex": law.latex(),
        "eml": law.eml,
        "grammar": solution.grammar,
        "complexity": law.complexity,
        "constants": [asdict(constant) for constant in errors.constants],
        "covariance": [[finite_or_none(entry) for entry in row] for row in errors.covariance],
        "degrees_of_freedom": errors.freedom,
        "exact": bool(solution.exact),
        "symbols": law.renamed,
        "train": _metrics(solution.train),
        "validation": _metrics(solution.validation),
        **_checks(solution, table, errors),
        "front": told[: len(solution.front)],
        "nearly_equal": told[len(solution.front) :],
        "rows_used": len(table.y),
        "rows_dropped": table.rows_dropped,
        "seconds": round(float(solution.seconds), 3),
        "seed": seed,
        "checkpoint": checkpoint,
        "target": table.target,
        "features": list(law.names),
        "units": table.units,
        "found_by": solution.stage or None,
        "stages": list(solution.stages),
    }


def to_json(record: Mapping[str, Any], *, indent: int | None = None) -> str:
    """Strict JSON in ASCII on one line (or indented); never NaN or infinity."""
    return json.dumps(record, allow_nan=False, indent=indent)


def front_table(solution: Solution, record: Mapping[str, Any]) -> str:
    """The Pareto front, the chosen law marked by `*`, and by how many nats the data are longer to say with the others; below
    it that law to the digits that the data fix, and its constants with their errors.

    Full precision is in the record, and in the files of an output folder.
    """
    rows = [("", "complexity", "rmse", "nats", "formula (constants to 6 digits)")]
    for entry, told in zip(solution.front, record["front"], strict=True):
        is_chosen, longer = entry.law is solution.law, told["nats_longer"]
        nats = "" if is_chosen or longer is None else f"{longer:+.1f}"
        mark = "*" if is_chosen else ""
        rows.append((mark, str(entry.complexity), f"{entry.rmse:.4g}", nats, entry.law.short_formula))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        f"{mark:{widths[0]}} {complexity:>{widths[1]}}  {rmse:>{widths[2]}}  {nats:>{widths[3]}}  {formula}"
        for mark, complexity, rmse, nats, formula in rows
    ]
    for number, (entry, told) in enumerate(zip(solution.rivals, record["nearly_equal"], strict=True)):
        nats = "" if told["nats_longer"] is None else f" ({told['nats_longer']:+.1f} nats)"
        lines += [] if number else ["", "nearly as likely:"]
        lines += [f"    {entry.law.short_formula}{nats}"]
    errors = {abs(constant["value"]): constant["standard_error"] for constant in record["constants"]}
    lines += ["", f"{record['target']} = {people_text(solution.law.expression, errors)}"]
    constants = _constants(record)
    lines += [f"    {constants}"] if constants else []
    lines += [f"    {solution.noise}"] if solution.noise is not None else []
    if record["chi2_per_dof"] is not None:
        freedom = record["degrees_of_freedom"]
        lines += [f"    chi2/dof {record['chi2_per_dof']:.3g} with {freedom} degrees of freedom"]
    units = [f"{name} in {unit}" for name, unit in _units_of_law(record)]
    lines += [f"    units: {', '.join(units)}"] if units else []
    lines += [f"    {symbol} stands for the column '{name}'" for name, symbol in solution.law.renamed.items()]
    return "\n".join(lines)


def remarks(solution: Solution, table: Table) -> list[str]:
    """The notes of a solution, with rows as they are counted in the file."""
    outliers = solution.outliers
    if outliers is None or table.row_numbers is None:
        return list(solution.notes)
    counted = outliers.remark(), outliers.remark(table.row_numbers.tolist())
    return [counted[1] if note == counted[0] else note for note in solution.notes]


def _checks(solution: Solution, table: Table, errors: LawErrors) -> dict[str, Any]:
    """What the record says of noise, of the rim and of rows apart."""
    beside, rim, outliers = solution.noise, solution.extrapolation, solution.outliers
    chi2 = None
    if solution.sigma is not None and errors.freedom > 0:
        with np.errstate(all="ignore"):
            misses = (solution.law.predict(_columns(solution, table)) - table.y) / solution.sigma
        weights = 1.0 if solution.weights is None else solution.weights / solution.weights.mean()
        chi2 = finite_or_none(float(np.sum(weights * misses**2)) / errors.freedom)
    numbers = range(1, len(table.y) + 1) if table.row_numbers is None else table.row_numbers.tolist()
    return {
        "noise": None
        if beside is None
        else {
            **asdict(beside.noise),
            "law_leaves": beside.law_leaves,
            "lack_of_fit": None if beside.f is None else {"f": finite_or_none(beside.f), "p": beside.p},
        },
        "chi2_per_dof": chi2,
        "extrapolation": None
        if rim is None
        else {
            "rows": rim.rows,
            **{name: finite_or_none(getattr(rim, name)) for name in ("r2", "rmse", "inside_rmse", "mean_z2", "p")},
            "fails": rim.fails,
        },
        "no_extrapolation": solution.no_extrapolation or None,
        "outlying_rows": [] if outliers is None else [numbers[row] for row in outliers.rows],
    }


def _front_and_rivals(solution: Solution) -> list[dict[str, Any]]:
    """What the record says of the laws of the front and of those that are nearly as likely. `nats_longer` is by how much the
    description of the data with a law is longer than with the chosen one: by k nats, and it is e^k times less likely (null
    where it has no length); `weight` is its probability among all of them."""
    laws = [*solution.front, *solution.rivals]
    lengths = description_lengths(laws)
    chosen = next((i for i, entry in enumerate(solution.front) if entry.law is solution.law), 0)
    longer = [finite_or_none(length - lengths[chosen]) for length in lengths]
    odds = [0.0 if nats is None else math.exp(min(-nats, 700.0)) for nats in longer]
    return [
        {
            "complexity": int(entry.complexity),
            "rmse": finite_or_none(entry.rmse),
            "nats_longer": None if nats is None else round(nats, 2),
            "weight": odd / sum(odds) if sum(odds) else None,
            "formula": entry.law.formula,
        }
        for entry, nats, odd in zip(laws, longer, odds, strict=True)
    ]


def write_outputs(
    folder: Path,
    solution: Solution,
    table: Table,
    record: Mapping[str, Any],
    *,
    when_written: Callable[[], object] = lambda: None,
) -> None:
    """Write the `RESULT_FILES`, all of them or none, and call `when_written` once they are in place.

    Raises:
        UserError: the folder cannot be written.
    """
    from emlinit.finetune.files.figures import save_fit, save_front  # matplotlib is slow to import and needed only here

    law, errors, columns = solution.law, _errors(solution, table), _columns(solution, table)
    constants = _constants(record)
    rim = None if solution.extrapolation is None else solution.extrapolation.inside
    chosen = [index for index, entry in enumerate(solution.front) if entry.law is law]
    writers: dict[str, Callable[[Path], object]] = {
        "result.json": lambda path: path.write_text(to_json(record, indent=2) + "\n", encoding="utf-8"),
        "law.tex": lambda path: path.write_text(_tex(solution, table, constants), encoding="utf-8"),
        "law.py": lambda path: path.write_text(errors.python_source(table.target, constants), encoding="utf-8"),
        "fit.png": lambda path: save_fit(
            path, law, columns, table.y, table.target, table.units, sigma=solution.sigma, errors=errors, inside=rim
        ),
        "front.png": lambda path: save_front(
            path,
            [entry.complexity for entry in solution.front],
            [entry.rmse for entry in solution.front],
            chosen[0] if chosen else -1,
            [entry.law.short_formula for entry in solution.front],
        ),
    }
    assert tuple(writers) == RESULT_FILES  # those whose places were checked before the search
    write_folder(folder, writers, when_written=when_written)


def _tex(solution: Solution, table: Table, constants: str) -> str:
    law, target, columns = solution.law, table.target, tex_columns(table, solution.law.names)
    remark = f"% {constants[0].upper()}{constants[1:]}\n" if constants else ""
    return (
        "% A law found in data by emlinit; needs \\usepackage{amsmath}. Columns:\n"
        f"{columns}{remark}\\begin{{equation}}\n  {latex_name(target)} = {law.latex()}\n\\end{{equation}}\n"
    )


def tex_columns(table: Table, names: Sequence[str]) -> str:
    """A comment line for each of some columns: how it is written in the formula, what it is called, and its unit."""
    units = {name: f", in {latex_escape(unit)}" for name, unit in table.units.items()}
    return "".join(f"%   {latex_name(name)}: {latex_escape(name)}{units.get(name, '')}\n" for name in names)


def _units_of_law(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The columns that the law may read, and its target, with their units as far as they are known."""
    names = (record["target"], *record["features"])
    return [(name, record["units"][name]) for name in names if name in record["units"]]


def _columns(solution: Solution, table: Table) -> np.ndarray:
    return table.x[:, [table.features.index(name) for name in solution.law.names]]


def _errors(solution: Solution, table: Table) -> LawErrors:
    """Of the law beside all rows of the table."""
    return law_errors(solution.law, _columns(solution, table), table.y, sigma=solution.sigma, weights=solution.weights)


def _constants(record: Mapping[str, Any]) -> str:
    return constants_line(LawConstant(**constant) for constant in record["constants"])


def _metrics(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: finite_or_none(values[name]) for name in ("r2", "rmse")}


def finite_or_none(value: float) -> float | None:
    """The number, or None (JSON's null) where it is undefined, such as R2 of a constant target."""
    number = float(value)
    return number if math.isfinite(number) else None


def describe(table: Table) -> str:
    """One line on what was read."""
    target, *features = (
        f"{name} ({table.units[name]})" if name in table.units else name
        for name in (table.target, *table.features[:_MOST_NAMES])
    )
    shown = ", ".join(features) + (", ..." if len(table.features) > _MOST_NAMES else "")
    under = "" if table.header_line is None else f" under the header in line {table.header_line}"
    return f"read {len(table.y)} rows{under}: {target} as a function of {shown}"
