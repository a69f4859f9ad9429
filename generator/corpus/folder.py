"""The folder of a stored corpus: its form, and opening it, doubts cleared that can be cleared without reading it all.

    README.md                              the card, as the Hub expects one
    corpus.json                            how it was made
    data/train-00000-of-00002.parquet      programs, with the columns

        tokens        list of uint8     prefix tokens, numbered as in `grammar`
        constants     list of float64   values of the tokens c, w and j, in order (weighted grammar only)
        n_variables   uint8             variables of the problem, x1..xn; the program need not read all of them

Only the Parquet files matter to a reader; any that `datasets` finds and that have these columns will do. A data set of the
Hugging Face Hub, `hf-hub:OWNER/NAME@REV`, is such a folder once it is downloaded to the cache of `huggingface_hub`.
"""

import hashlib
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from emlinit.generator.errors import UserError
from emlinit.generator.grammar import EML, MAX_VARIABLES, ONE, X1, n_kinds

COLUMNS = {
    "exact": {"tokens": pa.list_(pa.uint8()), "n_variables": pa.uint8()},
    "weighted": {"tokens": pa.list_(pa.uint8()), "constants": pa.list_(pa.float64()), "n_variables": pa.uint8()},
}
"""Grammar -> the columns of its corpora; which grammar a corpus is of is told by whether there are constants."""
CARD_NAME, ORIGIN_NAME, SHARD_NAME = "README.md", "corpus.json", "data/train-{:05}-of-{:05}.parquet"
HUB = "hf-hub:"
"""What the name of a data set of the Hub begins with; anything else is a folder."""
_SHARD = re.compile(r"-(\d+)-of-(\d+)\.parquet$")


def token_kinds(grammar: str) -> list[int]:
    """Token kinds of a grammar."""
    kinds = range(1, n_kinds(MAX_VARIABLES))
    return list(kinds) if grammar == "weighted" else [kind for kind in kinds if kind in (EML, ONE) or kind >= X1]


def open_corpus(place: str, grammar: str) -> tuple[Any, str]:
    """Open a stored corpus of a grammar.

    Args:
        place: its folder, or `hf-hub:OWNER/NAME@REV`.
        grammar: `exact` or `weighted`.

    Returns:
        The training split as a memory-mapped `datasets.Dataset` that gives Arrow tables, and the sha256 of its files.

    Raises:
        UserError: what is missing or wrong with the folder or the data set, and what to do.
    """
    folder = str(_downloaded(place)) if place.startswith(HUB) else place
    if not Path(folder).is_dir():
        raise UserError(
            f"no folder '{place}' with a corpus: make one with scripts/make_corpus.py --out '{place}', or write "
            f"{HUB}OWNER/NAME@REV for a data set of the Hub"
        )
    import datasets  # slow to import, and needed only here

    try:
        with _quiet(datasets):
            builder = datasets.load_dataset_builder(folder)
            files = [Path(name) for name in (builder.config.data_files or {}).get("train", ())]
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as problem:
        raise UserError(f"no corpus in '{place}' ({_short(problem)}): it should hold Parquet files") from problem
    files = sorted(path for path in files if path.suffix == ".parquet")
    if not files:
        raise UserError(f"no corpus in '{place}': it has no training split of Parquet files")
    _check_files(place, files, grammar)
    try:
        with _quiet(datasets):
            table = datasets.load_dataset(folder, split="train")
    except (OSError, ValueError, pa.ArrowException, datasets.exceptions.DatasetsError) as problem:
        raise UserError(f"the corpus in '{place}' is damaged ({_short(problem)}): make or copy it again") from problem
    table = table.select_columns(list(COLUMNS[grammar])).with_format("arrow")
    _check_values(place, table, grammar)
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return table, digest.hexdigest()


def _downloaded(place: str) -> Path:
    """The folder of the cache with the files of `hf-hub:OWNER/NAME@REV`, downloaded if they are not there.

    Raises:
        UserError: not of that form, no such data set or revision, no permission, or no answer.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    repository, _, revision = place.removeprefix(HUB).partition("@")
    if not revision:
        raise UserError(f"'{place}' names no revision: write {HUB}{repository}@REV with a commit hash or tag")
    try:
        return Path(
            snapshot_download(
                repository, repo_type="dataset", revision=revision, allow_patterns=["*.parquet", CARD_NAME, ORIGIN_NAME]
            )
        )
    except HFValidationError as problem:
        raise UserError(f"'{place}' is not of the form {HUB}OWNER/NAME@REV: {_short(problem)}") from problem
    except GatedRepoError as problem:
        raise UserError(f"the data set '{repository}' is gated: ask for access on its page, and log in") from problem
    except RepositoryNotFoundError as problem:
        raise UserError(
            f"the Hub has no data set '{repository}', or it is private: check the name, or log in with 'hf auth login'"
        ) from problem
    except RevisionNotFoundError as problem:
        raise UserError(f"the data set '{repository}' has no revision '{revision}': name one that it has") from problem
    except LocalEntryNotFoundError as problem:
        raise UserError(
            f"no answer from the Hub ({_short(problem.__cause__ or problem)}), and '{repository}' at '{revision}' is not in "
            "the cache: check the network"
        ) from problem
    except Exception as problem:  # the client raises those of the libraries below it, too
        raise UserError(f"'{place}' cannot be downloaded ({_short(problem)}): try again later") from problem


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
    allowed = token_kinds(grammar)
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
    """The beginning of a message that may be long."""
    return shorten(str(problem).rstrip(".:") or type(problem).__name__, 120)
