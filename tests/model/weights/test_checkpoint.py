"""A saved initialiser comes back bit for bit, and anything else is refused with advice."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from emlinit.generator.errors import UserError
from emlinit.model import EMLInitialiser
from emlinit.model.weights.checkpoint import CONFIG_FILE, WEIGHTS_FILE, find_checkpoint


@pytest.fixture
def folder(tmp_path: Path, tiny: Callable[[str], EMLInitialiser]) -> Path:
    tiny("weighted").save(tmp_path / "saved")
    return tmp_path / "saved"


def test_loading_gives_every_bit_back(folder: Path, tiny: Callable[[str], EMLInitialiser]) -> None:
    model = tiny("weighted")
    loaded = EMLInitialiser.load(f"local-dir:{folder}")
    assert loaded.config == model.config
    named = dict(loaded.named_parameters())
    assert all(torch.equal(named[name], parameter) for name, parameter in model.named_parameters())
    x = np.random.default_rng(0).uniform(1, 2, (20, 2))
    first, second = (m.propose(x, x[:, 0] ** 2, 16) for m in (model, loaded))
    assert torch.equal(first.tokens, second.tokens)
    assert torch.equal(first.log_prob, second.log_prob)
    assert torch.equal(first.kind_log_probs, second.kind_log_probs)


def test_a_checkpoint_is_named_by_its_source_and_hash(folder: Path, tmp_path: Path) -> None:
    loaded = EMLInitialiser.load(f"local-dir:{folder}")
    source, sha256 = loaded.source
    assert source == f"local-dir:{folder}"
    assert loaded.save(tmp_path / "again") == sha256 == json.loads((folder / CONFIG_FILE).read_text())["sha256"]
    assert (tmp_path / "again" / CONFIG_FILE).read_text() == (folder / CONFIG_FILE).read_text()
    assert sorted(path.name for path in folder.iterdir()) == [CONFIG_FILE, WEIGHTS_FILE]


@pytest.mark.parametrize("grammar", ["exact", "weighted"])
def test_the_shipped_weights_load(grammar: str) -> None:
    model = EMLInitialiser.load(f"builtin:{grammar}")
    assert model.config.grammar == grammar
    assert model.about["reached"]["examples"] > 0
    assert find_checkpoint(f"builtin:{grammar}").name == grammar


def _edit(folder: Path, **changes: object) -> None:
    config = json.loads((folder / CONFIG_FILE).read_text())
    (folder / CONFIG_FILE).write_text(json.dumps(config | changes))


def _edit_architecture(folder: Path, **changes: object) -> None:
    architecture = json.loads((folder / CONFIG_FILE).read_text())["architecture"]
    kept = {name: value for name, value in (architecture | changes).items() if value is not None}
    _edit(folder, architecture=kept)


def _truncate(folder: Path) -> None:
    weights = (folder / WEIGHTS_FILE).read_bytes()
    (folder / WEIGHTS_FILE).write_bytes(weights[: len(weights) // 2])


def _flip_a_bit(folder: Path) -> None:
    weights = bytearray((folder / WEIGHTS_FILE).read_bytes())
    weights[-3] ^= 1
    (folder / WEIGHTS_FILE).write_bytes(weights)


def _truncate_and_sign(folder: Path) -> None:
    _truncate(folder)
    _sign(folder)


def _sign(folder: Path) -> None:
    import hashlib

    _edit(folder, sha256=hashlib.sha256((folder / WEIGHTS_FILE).read_bytes()).hexdigest())


def _rename_a_tensor(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS_FILE)
    tensors["stranger"] = tensors.pop("encoder.seeds")
    save_file(tensors, folder / WEIGHTS_FILE)
    _sign(folder)


DAMAGES: list[tuple[Callable[[Path], object], str]] = [
    (shutil.rmtree, "no folder .*local-dir: needs a folder with model.safetensors and config.json"),
    (lambda folder: (folder / WEIGHTS_FILE).unlink(), "has no model.safetensors"),
    (lambda folder: (folder / CONFIG_FILE).unlink(), "has no config.json"),
    (_truncate, "truncated or changed.*get it anew"),
    (_flip_a_bit, "truncated or changed.*get it anew"),
    (_truncate_and_sign, "cannot be read.*get it anew"),
    (_rename_a_tensor, "architecture that this program cannot read.*stranger"),
    (lambda folder: (folder / CONFIG_FILE).write_text("{"), "not valid JSON"),
    (lambda folder: (folder / CONFIG_FILE).write_bytes(b"\xff\xfe{}"), "not valid JSON"),
    (lambda folder: (folder / CONFIG_FILE).write_text("[]"), "no emlinit-initialiser checkpoint: train one"),
    (lambda folder: _edit(folder, format="gpt"), "no emlinit-initialiser checkpoint: train one"),
    (lambda folder: _edit(folder, format_version=2), "format version 2, this program reads 1: update emlinit"),
    (lambda folder: _edit_architecture(folder, d_model=32), "size mismatch.*get it anew or update"),
    (lambda folder: _edit_architecture(folder, n_decoder_layers=3), "Missing key"),
    (lambda folder: _edit_architecture(folder, n_heads=3), "n_heads 3 should divide d_model 16"),
    (lambda folder: _edit_architecture(folder, n_heads=0), "n_heads should be at least 1"),
    (lambda folder: _edit_architecture(folder, n_variables=9), "n_variables should be at most 5"),
    (lambda folder: _edit_architecture(folder, grammar="loose"), "use one of exact, weighted"),
    (lambda folder: _edit_architecture(folder, d_model="16"), "'d_model' should be of type int, not '16'"),
    (lambda folder: _edit_architecture(folder, d_model=None), "fields that differ: d_model"),
    (lambda folder: _edit_architecture(folder, dropout=1), "fields that differ: dropout"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGES)
def test_damaged_and_foreign_checkpoints_are_refused(
    damage: Callable[[Path], object], message: str, folder: Path
) -> None:
    damage(folder)
    with pytest.raises(UserError, match=message):
        EMLInitialiser.load(f"local-dir:{folder}")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("owner/name", "unknown checkpoint 'owner/name': expected builtin:exact"),
        ("", "unknown checkpoint ''"),
        ("builtin", "unknown checkpoint 'builtin'"),
        ("file:/tmp", "unknown checkpoint"),
        ("local-dir:", "unknown checkpoint"),
        ("builtin:excat", "no shipped checkpoint 'builtin:excat': this installation has builtin:exact"),
        ("builtin:../../model", "no shipped checkpoint"),
        ("hf-hub:owner/name", "names no revision: write hf-hub:owner/name@REV"),
        ("hf-hub:owner/name@", "names no revision"),
        ("hf-hub:name@main", "not of the form hf-hub:OWNER/NAME@REV"),
    ],
)
def test_sources_are_explicit(source: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        EMLInitialiser.load(source)
