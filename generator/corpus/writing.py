"""Writing a stored corpus: random programs as a data set that `datasets` loads from a folder or from the Hub.

Written are the programs of training examples: each passed `Admission`, with the frozen and held-out functions kept out, and
had certified, varying values on some random points. They are as the corpus draws them, small ones many times.

Shard k depends on the seed, k and the options only. Shards are written one by one, each atomically, to `OUT.partial`,
which is renamed to `OUT` when the last one and the card are there: an interrupted command goes on where it was.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor
from tqdm import tqdm

from emlinit.generator.corpus.card import Figures, corpus_card
from emlinit.generator.corpus.config import CORPUS_VERSION, StreamConfig, check_ranges, programs_law, stream_ranges
from emlinit.generator.corpus.drawing import Admission, FreshPrograms, read_variables
from emlinit.generator.corpus.examples import Batch, check_yield, make_examples
from emlinit.generator.corpus.folder import CARD_NAME, COLUMNS, ORIGIN_NAME, SHARD_NAME
from emlinit.generator.corpus.frozen import HELD_OUT_SEED, training_exclusions
from emlinit.generator.errors import UserError
from emlinit.generator.files import write_atomically
from emlinit.generator.grammar import EML, MAX_VARIABLES, PAD, C, J, W

STORED_RANK = 2**31 - 1
"""Takes the place of a rank among the seeds: a number that no process has, so that no stream draws the same programs."""
ROUND = 2048
"""Programs that are tried at once."""


@dataclass(frozen=True, kw_only=True)
class WritingConfig:
    """A stored corpus that is to be made."""

    out: Path
    """Folder to make."""
    programs: int = 100_000
    """How many programs."""
    seed: int = 0
    """Decides which ones."""
    shard_size: int = 50_000
    """Programs of a file."""
    stream: StreamConfig = field(default_factory=StreamConfig)
    """The law that they are drawn from."""

    @property
    def partial(self) -> Path:
        """Where the shards lie until all are there."""
        return self.out.with_name(f"{self.out.name}.partial")

    @property
    def shards(self) -> dict[Path, int]:
        """Path of each shard in the unfinished folder -> its number of programs."""
        n_shards = -(-self.programs // self.shard_size)
        sizes = [min(self.shard_size, self.programs - k * self.shard_size) for k in range(n_shards)]
        return {self.partial / SHARD_NAME.format(k, n_shards): n_rows for k, n_rows in enumerate(sizes)}


def write_corpus(config: WritingConfig) -> Figures:
    """Make the folder, or go on with what an interrupted call has left.

    Raises:
        UserError: an option out of its range, a folder that is not empty or cannot be written, or an unfinished one that was
            begun with other options, or limits that no program keeps.
    """
    _check(config)
    try:
        missing = {path: n_rows for path, n_rows in config.shards.items() if not path.exists()}
        if missing:
            draw = _Drawing(config)  # limits that no program keeps are found here, before there is a folder
        _begin(config)
        with tqdm(total=config.programs, disable=None, unit=" programs") as bar:
            bar.update(config.programs - sum(missing.values()))
            for k, (path, n_rows) in enumerate(config.shards.items()):
                if path in missing:
                    table = draw.shard(k, n_rows, bar.update)
                    write_atomically(path, partial(pq.write_table, table, compression="zstd"))
        figures = _figures(list(config.shards))
        text = corpus_card(_origin(config), figures)
        write_atomically(config.partial / CARD_NAME, lambda path: path.write_text(text, encoding="utf-8"))
        config.partial.replace(config.out)
    except OSError as error:
        raise UserError(f"'{config.out}' cannot be written ({error.strerror or error}): name another --out") from error
    return figures


def _check(config: WritingConfig) -> None:
    ranges = {f"--{name.replace('_', '-')}": bounds for name, bounds in stream_ranges(config.stream).items()}
    check_ranges(
        {
            "--programs": (1, config.programs, 10**10),
            "--shard-size": (1, config.shard_size, 10**8),
            "--seed": (0, config.seed, HELD_OUT_SEED - 1),
            **ranges,
        }
    )
    if config.programs > 99_999 * config.shard_size:
        raise UserError(
            f"--shard-size {config.shard_size} makes too many files of {config.programs} programs: take a larger one"
        )
    if config.out.exists() and (not config.out.is_dir() or any(config.out.iterdir())):
        raise UserError(f"'{config.out}' is there already: name a new folder for --out")


def _begin(config: WritingConfig) -> None:
    """Make the unfinished folder, or make sure that the one that is there is of the same corpus."""
    text, path = json.dumps(_origin(config), indent=2) + "\n", config.partial / ORIGIN_NAME
    if not config.partial.exists():
        write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    elif not path.is_file() or path.read_text(encoding="utf-8") != text:
        raise UserError(
            f"'{config.partial}' holds the beginning of a corpus with other options: give the same ones, or remove it"
        )
    for left_over in config.partial.rglob("*.tmp"):
        left_over.unlink()


def _origin(config: WritingConfig) -> dict[str, Any]:
    """All that the programs depend on."""
    return {
        "format": "emlinit-corpus",
        "corpus_version": CORPUS_VERSION,
        "programs": config.programs,
        "seed": config.seed,
        "shard_size": config.shard_size,
        "stream": {
            name: value for name, value in programs_law(asdict(config.stream)).items() if name != "corpus_share"
        },
    }


class _Drawing:
    """Draws shards."""

    def __init__(self, config: WritingConfig) -> None:
        self._config = config
        self._source = FreshPrograms(config.stream)
        self._admission = Admission(config.stream, training_exclusions(config.stream)[1])

    def shard(self, number: int, n_rows: int, progress: Callable[[int], object]) -> pa.Table:
        """A shard as a table; `progress` takes the number of programs that came."""
        seeds = np.random.SeedSequence([self._config.seed, STORED_RANK, number]).generate_state(2, np.uint64)
        generator = torch.Generator().manual_seed(int(seeds[0] >> np.uint64(1)))
        rng = np.random.default_rng(int(seeds[1]))
        parts: list[Batch] = []
        missing, n_in_vain = n_rows, 0
        while missing > 0:
            drawn = self._admission(self._source.draw(ROUND, generator, rng))
            part = make_examples(drawn, self._config.stream, generator).rows(slice(0, missing))
            if len(part):
                parts.append(part)
            missing -= len(part)
            n_in_vain = 0 if len(part) else n_in_vain + ROUND
            check_yield(n_in_vain)
            progress(len(part))
        return _table(parts, self._config.stream.grammar)


def _table(parts: list[Batch], grammar: str) -> pa.Table:
    """The programs of some examples as the columns of a shard."""
    columns: dict[str, list[pa.Array]] = {name: [] for name in COLUMNS[grammar]}
    for part in parts:
        tokens, used = part.tokens, part.tokens != PAD
        # The irrelevant variables of a weighted problem are no part of its program: they are drawn anew with the points.
        mask = part.variable_mask if grammar == "exact" else read_variables(tokens, MAX_VARIABLES)
        columns["n_variables"].append(pa.array(mask.sum(-1).numpy().astype(np.uint8)))
        columns["tokens"].append(_lists(used, tokens[used].to(torch.uint8)))
        if grammar == "weighted":
            free = torch.isin(tokens, torch.tensor([C, W, J]))
            columns["constants"].append(_lists(free, part.constants[free]))
    schema = pa.schema(list(COLUMNS[grammar].items()))
    return pa.table({name: pa.chunked_array(arrays) for name, arrays in columns.items()}, schema=schema)


def _lists(mask: Tensor, values: Tensor) -> pa.Array:
    """Values at the places of a mask of shape (b, l), row by row, as one list a row."""
    ends = torch.nn.functional.pad(mask.sum(-1).cumsum(0), (1, 0))
    return pa.ListArray.from_arrays(pa.array(ends.numpy().astype(np.int32)), pa.array(values.numpy()))


def _figures(paths: list[Path]) -> Figures:
    """Count what was written, reading it back."""
    figures = Figures()
    hashes: list[np.ndarray] = []
    for path in paths:
        table = pq.read_table(path)
        figures.programs, figures.files = figures.programs + len(table), figures.files + 1
        figures.rows_bytes += table.nbytes
        figures.file_bytes += path.stat().st_size
        figures.by_variables.update(table["n_variables"].to_pylist())
        programs = list(_programs(table))
        figures.by_nodes.update(program.count(EML) for program, _ in programs)
        hashes.append(np.array([hash(program) for program in programs]))
    figures.distinct = len(np.unique(np.concatenate(hashes)))
    return figures


def _programs(table: pa.Table) -> Iterator[tuple[bytes, tuple[float, ...]]]:
    constants = table["constants"].to_pylist() if "constants" in table.column_names else [()] * len(table)
    for tokens, values in zip(table["tokens"].to_pylist(), constants, strict=True):
        yield bytes(tokens), tuple(values)
