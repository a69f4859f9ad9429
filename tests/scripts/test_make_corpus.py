"""The corpus on the command line: written, read back by `datasets`, trained on; bad input is one line."""

import json
from pathlib import Path

import datasets
import pytest

from emlinit.scripts import make_corpus, pretrain

TINY = [
    "--model.d-model",
    "16",
    "--model.n-heads",
    "2",
    "--model.n-encoder-blocks",
    "1",
    "--model.n-decoder-layers",
    "1",
]


@pytest.mark.parametrize("grammar", ["exact", "weighted"])
def test_a_corpus_is_written_read_back_and_trained_on(
    grammar: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    out = tmp_path / "corpus"
    arguments = [
        "--grammar",
        grammar,
        "--programs",
        "300",
        "--shard-size",
        "200",
        "--out",
        str(out),
        "--max-nodes",
        "7",
    ]
    assert make_corpus.main(arguments) == 0
    assert capsys.readouterr().out.startswith("300 programs, ")
    assert not (tmp_path / "corpus.partial").exists()
    rows = datasets.load_dataset(str(out), split="train")
    assert len(rows) == 300
    assert ("constants" in rows.column_names) == (grammar == "weighted")
    card = (out / "README.md").read_text()
    assert "license: mit" in card.split("---")[1]
    assert "300 random programs" in card
    run = [
        "--out",
        str(tmp_path / "run"),
        "--steps",
        "3",
        "--device",
        "cpu",
        "--threads",
        "1",
        "--precision",
        "float32",
        *TINY,
    ]
    stream = [
        "--stream.grammar",
        grammar,
        "--stream.corpus",
        str(out),
        "--stream.batch-size",
        "16",
        "--stream.max-nodes",
        "7",
    ]
    assert pretrain.main([*run, *stream, "--stream.pool-batches", "2", "--held-out-batches", "1"]) == 0
    assert "held_out_loss" in json.loads(capsys.readouterr().out)
    assert json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])["step"] == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--programs", "0"], "--programs should be from 1"),
        (["--shard-size", "-1"], "--shard-size should be from 1"),
        (["--max-variables", "9"], "--max-variables should be from 1 to 5"),
        (["--out", "."], "is there already"),
    ],
)
def test_what_cannot_be_made_is_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").touch()
    assert make_corpus.main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
