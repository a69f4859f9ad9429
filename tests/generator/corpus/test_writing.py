"""A corpus is written whole or not at all, the same each time, and `datasets` reads it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq
import pytest
import torch
from huggingface_hub import DatasetCard

from emlinit.generator.corpus import writing
from emlinit.generator.corpus.canonical import Canonicaliser
from emlinit.generator.corpus.config import CORPUS_VERSION, StreamConfig
from emlinit.generator.corpus.drawing import EXCLUDE_FROM_SIZE
from emlinit.generator.corpus.frozen import HELD_OUT_SEED, training_exclusions
from emlinit.generator.corpus.writing import WritingConfig, write_corpus
from emlinit.generator.errors import UserError
from emlinit.generator.evaluate import evaluate
from emlinit.generator.grammar import EML, C, J, W, is_complete, size
from emlinit.generator.program import programs_from_tokens


def _files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("grammar", ["exact", "weighted"])
def test_datasets_reads_what_was_written(grammar: str, stored: Callable[[str], Path]) -> None:
    table = datasets.load_dataset(str(stored(grammar)), split="train")
    assert table.column_names == ["tokens", *(["constants"] if grammar == "weighted" else []), "n_variables"]
    assert len(table) == 300
    for row in table:
        tokens = torch.tensor([row["tokens"]])
        assert bool(is_complete(tokens, row["n_variables"]).all())
        constants = torch.zeros(tokens.shape, dtype=torch.float64)
        free = torch.isin(tokens, torch.tensor([C, W, J]))
        assert int(free.sum()) == len(row.get("constants", []))
        constants[free] = torch.tensor(row.get("constants", []), dtype=torch.float64)
        x = torch.linspace(-5, 20, 500, dtype=torch.float64)[None, :, None]
        assert bool(evaluate(programs_from_tokens(tokens, constants, 1), x).valid.any())


@pytest.mark.parametrize("grammar", ["exact", "weighted"])
def test_the_card_says_what_the_files_say(grammar: str, stored: Callable[[str], Path]) -> None:
    folder = stored(grammar)
    card = DatasetCard.load(folder / "README.md")
    assert card.data.license == "mit"
    info = card.data.to_dict()["dataset_info"]
    shards = sorted((folder / "data").iterdir())
    assert [path.name for path in shards] == [f"train-0000{k}-of-00002.parquet" for k in range(2)]
    assert [pq.read_metadata(path).num_rows for path in shards] == [200, 100]
    assert info["splits"][0]["num_examples"] == 300
    assert info["download_size"] == sum(path.stat().st_size for path in shards)
    tokens = [row for path in shards for row in pq.read_table(path)["tokens"].to_pylist()]
    for n_nodes in range(8):
        n = sum(row.count(EML) == n_nodes for row in tokens)
        assert n == 0 or f"| {n_nodes} | {n} | {n / 300:.1%} |" in card.text
    assert f"Corpus version {CORPUS_VERSION}, seed 0" in card.text
    assert f"--grammar {grammar} --programs 300 --seed 0 --shard-size 200 --max-variables 1" in card.text
    origin = json.loads((folder / "corpus.json").read_text())
    assert (origin["corpus_version"], origin["stream"]["grammar"]) == (CORPUS_VERSION, grammar)


@pytest.mark.parametrize("grammar", ["exact", "weighted"])
def test_the_same_options_give_the_same_files_however_often_one_is_interrupted(
    grammar: str,
    stored: Callable[[str], Path],
    law: Callable[..., StreamConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = WritingConfig(out=tmp_path / "corpus", programs=300, shard_size=200, stream=law(grammar))

    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(writing.pq, "write_table", interrupt)  # after the work, before the first file
        with pytest.raises(KeyboardInterrupt):
            write_corpus(config)
    assert not config.out.exists()
    with monkeypatch.context() as patch:
        drawn = writing._Drawing.shard
        patch.setattr(
            writing._Drawing, "shard", lambda self, k, n, bar: drawn(self, k, n, bar) if k == 0 else interrupt()
        )
        with pytest.raises(KeyboardInterrupt):
            write_corpus(config)
    assert not config.out.exists()
    assert sum(path.exists() for path in config.shards) == 1
    with pytest.raises(UserError, match="holds the beginning of a corpus with other options: give the same ones"):
        write_corpus(replace(config, seed=1))
    write_corpus(config)
    assert _files(config.out) == _files(stored(grammar))
    assert not config.partial.exists()
    write_corpus(replace(config, out=tmp_path / "other", seed=1))
    assert _files(tmp_path / "other")["data/train-00000-of-00002.parquet"] != _files(config.out)


def test_functions_that_are_evaluated_on_are_not_written(law: Callable[..., StreamConfig], tmp_path: Path) -> None:
    stream = law("exact", batch_size=64)
    kept_out = set(training_exclusions(stream)[1].tolist())
    write_corpus(WritingConfig(out=tmp_path / "corpus", programs=1500, stream=stream))
    rows = datasets.load_dataset(str(tmp_path / "corpus"), split="train")["tokens"]
    tokens = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
    keys = Canonicaliser(1).node_keys(tokens)[size(tokens) >= EXCLUDE_FROM_SIZE, 0].tolist()
    assert len(keys) > 200
    assert not kept_out & set(keys)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"programs": 0}, "--programs should be from 1 to"),
        ({"shard_size": 0}, "--shard-size should be from 1 to"),
        ({"programs": 10**6, "shard_size": 1}, "--shard-size 1 makes too many files of 1000000 programs"),
        ({"seed": HELD_OUT_SEED}, "--seed should be from 0 to"),
        ({"seed": -1}, "--seed should be from 0 to"),
        ({"stream": StreamConfig(max_variables=9)}, "--max-variables should be from 1 to 5, not 9"),
        ({"stream": StreamConfig(max_nodes=0)}, "--max-nodes should be from 1 to 1000, not 0"),
    ],
)
def test_what_cannot_be_made_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        write_corpus(replace(WritingConfig(out=tmp_path / "corpus"), **changes))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("grammar", ["exact", "weighted"])
@pytest.mark.parametrize("programs", [1, 7])
def test_few_small_programs_are_a_corpus(
    grammar: str, programs: int, law: Callable[..., StreamConfig], tmp_path: Path
) -> None:
    stream = law(grammar, **({"max_nodes": 1, "max_depth": 1, "max_tokens": 3} if grammar == "exact" else {}))
    figures = write_corpus(WritingConfig(out=tmp_path / "corpus", programs=programs, shard_size=3, stream=stream))
    assert (figures.programs, figures.files) == (programs, -(-programs // 3))
    assert set(figures.by_nodes) == {1} or grammar == "weighted"


def test_limits_that_no_program_keeps_are_refused_before_there_is_a_folder(
    law: Callable[..., StreamConfig], tmp_path: Path
) -> None:
    nothing = law("exact", max_nodes=1, max_depth=6, depth_growth=100.0, size_share=0.0)
    with pytest.raises(UserError, match=r"random programs can be trained on: .* raise max-nodes"):
        write_corpus(WritingConfig(out=tmp_path / "corpus", programs=1, stream=nothing))
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_not_overwritten(stored: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is there already: name a new folder for --out"):
        write_corpus(WritingConfig(out=stored("exact")))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is there already"):
        write_corpus(WritingConfig(out=tmp_path / "file"))
    with pytest.raises(UserError, match="cannot be written"):
        write_corpus(WritingConfig(out=tmp_path / "file" / "below"))
