"""The folder of a stored corpus: its form, and opening it, doubts cleared that can be cleared without reading it all.

    README.md                              the card, as the Hub expects one
    corpus.json                            how it was made
    data/train-00000-of-00002.parquet      programs, with the columns

        tokens        list of uint8     prefix tokens, numbered as in `grammar`
        constants     list of float64   values of the tokens c, w and j, in order (weighted grammar only)
        n_variables   uint8             variables of the problem, x1..xn; the program need not read all of them

Only the Parquet files matter to a reader; any that `datasets` finds and that have these columns will do.
"""

import hashlib
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from emlinit.generator.corpus.config import StreamConfig
from emlinit.generator.errors import UserError
from emlinit.generator.grammar import EML, MAX_VARIABLES, ONE, X1, n_kinds

COLUMNS = {
    "exact": {"tokens": pa.list_(pa.uint8()), "n_variables": pa.uint8()},
    "weighted": {"tokens": pa.list_(pa.uint8()), "constants": pa.list_(pa.float64()), "n_variables": pa.uint8()},
}
"""Grammar -> the columns of its corpora; which grammar a corpus is of is told by whether there are constants."""
LIMITS = ("max_variables", "max_nodes", "max_depth", "max_tokens")
"""Fields of `StreamConfig` that make-corpus has options for."""
CARD_NAME, ORIGIN_NAME, SHARD_NAME = "README.md", "corpus.json", "data/train-{:05}-of-{:05}.parquet"
_SHARD = re.compile(r"-(\d+)-of-(\d+)\.parquet$")
_SIZE_CATEGORIES = ((1e3, "n<1K"), (1e4, "1K<n<10K"), (1e5, "10K<n<100K"), (1e6, "100K<n<1M"), (1e7, "1M<n<10M"))


@dataclass
class Figures:
    """What the programs of a corpus are in numbers."""

    programs: int = 0
    """Programs in all."""
    distinct: int = 0
    """Of them, different ones."""
    files: int = 0
    """Parquet files."""
    rows_bytes: int = 0
    """Bytes of the rows in memory."""
    file_bytes: int = 0
    """Bytes of the Parquet files."""
    by_nodes: Counter[int] = field(default_factory=Counter)
    """Eml nodes -> how many programs."""
    by_variables: Counter[int] = field(default_factory=Counter)
    """Variables of the problem -> how many programs."""


def card_text(origin: Mapping[str, Any], figures: Figures) -> str:
    """The card of a corpus, with the metadata by which the Hub and `datasets` know it.

    Args:
        origin: what `corpus.json` says.
        figures: what came of it.
    """
    stream = origin["stream"]
    grammar = stream["grammar"]
    category = next((name for most, name in _SIZE_CATEGORIES if figures.programs < most), "10M<n<100M")
    kinds = {"tokens": "sequence: uint8", "constants": "sequence: float64", "n_variables": "dtype: uint8"}
    features = "".join(f"  - name: {name}\n    {kinds[name]}\n" for name in COLUMNS[grammar])
    names = {1: "`eml`", 2: "`+`", 3: "`1`", 4: "`c`", 5: "`w`", 6: "`j`"}
    return f"""---
license: mit
pretty_name: emlinit corpus, {grammar} grammar
tags:
- symbolic-regression
- eml
- synthetic
size_categories:
- {category}
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*.parquet
dataset_info:
  features:
{features}  splits:
  - name: train
    num_bytes: {figures.rows_bytes}
    num_examples: {figures.programs}
  download_size: {figures.file_bytes}
  dataset_size: {figures.rows_bytes}
---

# emlinit corpus, {grammar} grammar

{figures.programs:,} random programs of the one operator `eml(l, r) = exp(l) - ln(r)`, {figures.distinct:,} of them distinct,
to pretrain networks for symbolic regression on. Programs, not data: points, targets and noise are to be drawn afresh.

```python
import datasets

datasets.load_dataset("PATH/OF/THIS/FOLDER", split="train")
```

```
emlinit pretrain --stream.grammar {grammar} --stream.corpus PATH/OF/THIS/FOLDER --minutes 60 --out runs/{grammar}
```

## Columns

- `tokens`: the program in prefix order. {", ".join(f"{kind} {names[kind]}" for kind in _kinds(grammar) if kind < X1)},
  {X1} to {n_kinds(MAX_VARIABLES) - 1} the variables `x1` to `x{MAX_VARIABLES}`.{_CONSTANTS_TOLD if grammar == "weighted" else ""}
- `n_variables`: the problem has the variables x1..xn; its program need not read all of them.

## How it was made

```
{_command(origin)}
```

Corpus version {origin["corpus_version"]}, seed {origin["seed"]}; all options are in `{ORIGIN_NAME}`.

{_DRAWN[grammar]}

Up to {stream["max_variables"]} variables, {stream["max_nodes"]} eml nodes and {stream["max_tokens"]} tokens. Every program
had certified, varying, real values on {stream["max_points"]} random points. Programs are as they were drawn, small ones many
times. Functions of the frozen evaluation sets and of the held-out minibatches are kept out by value.

{_shares("eml nodes", figures.by_nodes, figures.programs)}

{_shares("variables", figures.by_variables, figures.programs)}

{figures.files} files, {figures.file_bytes / 1e6:.1f} MB. Licence: MIT.
"""


_DRAWN = {
    "exact": (
        "Random trees, some uniform by size and most by depth, in canonical form: subtrees that equal a smaller known tree\n"
        "are replaced by it."
    ),
    "weighted": (
        "Random ordinary formulas (sums of products of powers, exponentials, logarithms, oscillations and saturating\n"
        "functions; random operator trees) written as programs, and random trees with constants in their slots."
    ),
}
_CONSTANTS_TOLD = """
- `constants`: the values of the tokens `c` (a constant), `w` (a real factor) and `j` (an imaginary factor), in order."""


def _command(origin: Mapping[str, Any]) -> str:
    """The command that makes the same corpus."""
    stream = origin["stream"]
    options = {"grammar": stream["grammar"], **{name: origin[name] for name in ("programs", "seed", "shard_size")}}
    options |= {name: stream[name] for name in LIMITS if stream[name] != getattr(StreamConfig, name)}
    words = [f"--{name.replace('_', '-')} {value}" for name, value in options.items()]
    return " ".join(["emlinit make-corpus --out FOLDER", *words])


def _shares(what: str, counts: Counter[int], total: int) -> str:
    rows = [f"| {count} | {n:,} | {n / total:.1%} |" for count, n in sorted(counts.items())]
    return "\n".join([f"| {what} | programs | share |", "| ---: | ---: | ---: |", *rows])


def _kinds(grammar: str) -> list[int]:
    """Token kinds of a grammar."""
    return [EML, ONE, *range(X1, n_kinds(MAX_VARIABLES))] if grammar == "exact" else [*range(1, n_kinds(MAX_VARIABLES))]


def open_corpus(folder: str, grammar: str) -> tuple[Any, str]:
    """Open a stored corpus of a grammar.

    Returns:
        The training split as a memory-mapped `datasets.Dataset` that gives Arrow tables, and the sha256 of its files.

    Raises:
        UserError: what is missing or wrong with the folder, and what to do.
    """
    if not Path(folder).is_dir():
        raise UserError(f"no folder '{folder}' with a corpus: make one with scripts/make_corpus.py --out '{folder}'")
    import datasets  # slow to import, and needed only here

    try:
        with _quiet(datasets):
            builder = datasets.load_dataset_builder(folder)
            files = [Path(name) for name in (builder.config.data_files or {}).get("train", ())]
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as problem:
        raise UserError(f"no corpus in '{folder}' ({_short(problem)}): it should hold Parquet files") from problem
    files = sorted(path for path in files if path.suffix == ".parquet")
    if not files:
        raise UserError(f"no corpus in '{folder}': it has no training split of Parquet files")
    _check_files(folder, files, grammar)
    try:
        with _quiet(datasets):
            table = datasets.load_dataset(folder, split="train")
    except (OSError, ValueError, pa.ArrowException, datasets.exceptions.DatasetsError) as problem:
        raise UserError(f"the corpus in '{folder}' is damaged ({_short(problem)}): make or copy it again") from problem
    table = table.select_columns(list(COLUMNS[grammar])).with_format("arrow")
    _check_values(folder, table, grammar)
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return table, digest.hexdigest()


def _check_files(folder: str, files: Sequence[Path], grammar: str) -> None:
    """Refuse what the footers of the files already tell: cut off, other columns, other grammar, no rows, a shard missing."""
    n_rows = 0
    for path in files:
        try:
            file = pq.ParquetFile(path)
            n_rows, schema = n_rows + file.metadata.num_rows, file.schema_arrow
        except (OSError, pa.ArrowException) as problem:
            raise UserError(f"'{path}' is cut off or no Parquet file ({_short(problem)}): copy it again") from problem
        names = set(schema.names)
        for other in COLUMNS.keys() - {grammar}:
            if names >= set(COLUMNS[other]) and ("constants" in names) == (other == "weighted"):
                raise UserError(f"the corpus in '{folder}' is of the {other} grammar, not of the {grammar} one")
        for name, wanted in COLUMNS[grammar].items():
            if name not in names:
                raise UserError(
                    f"'{path}' has the columns {', '.join(schema.names)}: a corpus of the {grammar} grammar has "
                    f"{', '.join(COLUMNS[grammar])}"
                )
            if not _is_like(schema.field(name).type, wanted):
                raise UserError(f"column '{name}' of '{path}' is of type {schema.field(name).type}, not {wanted}")
        shard = _SHARD.search(path.name)
        if shard and int(shard[2]) != len(files):
            raise UserError(f"the corpus in '{folder}' has {len(files)} of {int(shard[2])} files: copy the others, too")
    if not n_rows:
        raise UserError(f"the corpus in '{folder}' is empty")


def _is_like(given: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether a column of a type can be read as what is wanted: other tools choose other widths of whole numbers."""
    if pa.types.is_list(wanted):
        return (pa.types.is_list(given) or pa.types.is_large_list(given)) and _is_like(
            given.value_type, wanted.value_type
        )
    return bool(pa.types.is_integer(given) if pa.types.is_integer(wanted) else given.equals(wanted))


def _check_values(folder: str, table: Any, grammar: str) -> None:
    """Refuse tokens that the grammar does not have; the form of each program is checked as it is read."""
    column = table.data.column("tokens")
    allowed = _kinds(grammar)
    for chunk in column.chunks:
        found = pc.unique(chunk.flatten()).to_pylist()
        wrong = sorted(set(found) - set(allowed), key=str)
        if chunk.null_count or wrong:
            what = f"token {wrong[0]}" if wrong else "a missing program"
            raise UserError(
                f"the corpus in '{folder}' holds {what}, which the {grammar} grammar does not have (tokens "
                f"{', '.join(map(str, allowed))})"
            )
    n_variables = pc.min_max(table.data.column("n_variables")).as_py()
    if (
        table.data.column("n_variables").null_count
        or not 1 <= n_variables["min"] <= n_variables["max"] <= MAX_VARIABLES
    ):
        raise UserError(f"the corpus in '{folder}' has programs of other than 1 to {MAX_VARIABLES} variables")


@contextmanager
def _quiet(datasets: Any) -> Iterator[None]:
    """Keep the progress bars of `datasets` to terminals."""
    change = not sys.stderr.isatty() and not datasets.are_progress_bars_disabled()
    if change:
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        if change:
            datasets.enable_progress_bars()


def _short(problem: BaseException) -> str:
    """The first sentence of a message that may be long."""
    return " ".join(str(problem).split())[:120]
