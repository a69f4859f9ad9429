"""The card of a stored corpus: what it holds, how it was made, and the metadata by which the Hub and `datasets` know it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from emlinit.generator.corpus.config import StreamConfig
from emlinit.generator.corpus.folder import COLUMNS, ORIGIN_NAME, token_kinds
from emlinit.generator.grammar import EML, MAX_VARIABLES, ONE, PLUS, X1, C, J, W, n_kinds

LIMITS = ("max_variables", "max_nodes", "max_depth", "max_tokens")
"""Fields of `StreamConfig` that make-corpus has options for."""
_SIZE_CATEGORIES = ((1e3, "n<1K"), (1e4, "1K<n<10K"), (1e5, "10K<n<100K"), (1e6, "100K<n<1M"), (1e7, "1M<n<10M"))
_NAMES = {EML: "eml", PLUS: "+", ONE: "1", C: "c", W: "w", J: "j"}
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
_CONSTANTS_TOLD = {
    "exact": "",
    "weighted": (
        "- `constants`: the values of the tokens `c` (a constant), `w` (a real factor) and `j` (an imaginary factor),\n"
        "  in order.\n"
    ),
}


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


def corpus_card(origin: Mapping[str, Any], figures: Figures) -> str:
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
    named = ", ".join(f"{kind} `{name}`" for kind, name in _NAMES.items() if kind in token_kinds(grammar))
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

- `tokens`: the program in prefix order. {named},
  {X1} to {n_kinds(MAX_VARIABLES) - 1} the variables `x1` to `x{MAX_VARIABLES}`.
{_CONSTANTS_TOLD[grammar]}- `n_variables`: the problem has the variables x1..xn; its program need not read all of them.

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
