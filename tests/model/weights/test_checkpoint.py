"""A saved initialiser comes back bit for bit, and anything else is refused with advice."""

import errno
import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from emlinit.generator.errors import UserError
from emlinit.model import EMLInitialiser
from emlinit.model.weights.checkpoint import (
    CONFIG_FILE,
    MOST_CONFIG_BYTES,
    WEIGHTS_FILE,
    architecture_sha256,
    find_checkpoint,
)


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
    config = json.loads((folder / CONFIG_FILE).read_text())
    kept = {name: value for name, value in (config["architecture"] | changes).items() if value is not None}
    _edit(folder, architecture=kept, architecture_sha256=architecture_sha256(kept, config["sha256"]))


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
    sha256 = hashlib.sha256((folder / WEIGHTS_FILE).read_bytes()).hexdigest()
    architecture = json.loads((folder / CONFIG_FILE).read_text())["architecture"]
    _edit(folder, sha256=sha256, architecture_sha256=architecture_sha256(architecture, sha256))


def _rename_a_tensor(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS_FILE)
    tensors["stranger"] = tensors.pop("encoder.seeds")
    save_file(tensors, folder / WEIGHTS_FILE)
    _sign(folder)


def _change_seeds(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], None]:
    """One tensor changed, in a file with the right hash."""

    def damage(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS_FILE)
        tensors["encoder.seeds"] = change(tensors["encoder.seeds"]).contiguous()
        save_file(tensors, folder / WEIGHTS_FILE)
        _sign(folder)

    return damage


def _text(old: str, new: str) -> Callable[[Path], None]:
    """One place of the configuration changed."""

    def damage(folder: Path) -> None:
        text = (folder / CONFIG_FILE).read_text()
        assert old in text
        (folder / CONFIG_FILE).write_text(text.replace(old, new, 1))

    return damage


def _instead(name: str, make: Callable[[Path], object]) -> Callable[[Path], None]:
    """Something else in the place of a file."""

    def damage(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return damage


def _header(data: bytes) -> Callable[[Path], None]:
    """A file of weights with the right hash that begins with other bytes than a header."""

    def damage(folder: Path) -> None:
        (folder / WEIGHTS_FILE).write_bytes(data)
        _sign(folder)

    return damage


def _sparse(folder: Path) -> None:
    with (folder / WEIGHTS_FILE).open("r+b") as file:
        file.truncate(1 << 40)


DAMAGES: list[tuple[Callable[[Path], object], str]] = [
    (shutil.rmtree, "no folder .*local-dir: needs a folder with model.safetensors and config.json"),
    (lambda folder: (folder / WEIGHTS_FILE).unlink(), "has no model.safetensors"),
    (lambda folder: (folder / CONFIG_FILE).unlink(), "has no config.json"),
    (_truncate, "truncated or changed.*get it anew"),
    (_flip_a_bit, "truncated or changed.*get it anew"),
    (_truncate_and_sign, "cannot be read.*get it anew"),
    (_sparse, "model.safetensors has 1,099,511,627,776 bytes, its architecture at most"),
    (_header(b""), "its header is cut off or too long"),
    (_header(b"\xff" * 64), "its header is cut off or too long"),
    (_header(b"\x02\0\0\0\0\0\0\0[]"), "its header is no JSON object"),
    (_header(b"\x0a\0\0\0\0\0\0\0" + b'{"a":true}'), "its header says True of 'a'"),
    (_change_seeds(lambda t: t.to(torch.int8)), "encoder.seeds is of type 'I8', not F32"),
    (_change_seeds(lambda t: t > 0), "encoder.seeds is of type 'BOOL', not F32"),
    (_change_seeds(lambda t: t.double()), "encoder.seeds is of type 'F64', not F32"),
    (_change_seeds(lambda t: t[:1]), r"encoder.seeds is of shape '?\[1, 16\]'?, not \[3, 16\]"),
    (_change_seeds(lambda t: t * torch.nan), "not all finite .encoder.seeds has NaN or infinite values.: get other"),
    (_change_seeds(lambda t: t / 0), "not all finite .encoder.seeds"),
    (_instead(CONFIG_FILE, Path.mkdir), "has no config.json"),
    (_instead(WEIGHTS_FILE, Path.mkdir), "has no model.safetensors"),
    (_instead(CONFIG_FILE, os.mkfifo), "has no config.json"),
    (_instead(WEIGHTS_FILE, os.mkfifo), "has no model.safetensors"),
    (_instead(CONFIG_FILE, lambda path: path.symlink_to("/dev/zero")), "has no config.json"),
    (_instead(WEIGHTS_FILE, lambda path: path.symlink_to("/dev/zero")), "has no model.safetensors"),
    (_instead(WEIGHTS_FILE, lambda path: path.symlink_to(path.name)), "cannot be looked at .*name another place"),
    (lambda folder: (folder / CONFIG_FILE).write_text(" " * (MOST_CONFIG_BYTES + 1)), "cannot be read .larger than"),
    (lambda folder: (folder / CONFIG_FILE).write_text("[" * 100_000), "not valid JSON .nested too deeply"),
    (_text('"n_heads": 2', '"n_heads": 4'), r"is changed \(architecture_sha256 differs\): get it anew"),
    (_text('"weighted"', '"exact"'), r"is changed \(architecture_sha256 differs\)"),
    (_text('"n_heads": 2', '"n_heads": 2, "n_heads": 4'), "not valid JSON .'n_heads' is there twice"),
    (_text('"n_heads": 2', f'"n_heads": {2**63}'), "not valid JSON .the integer 9223372036854775808 is beyond 64 bits"),
    (_text('"n_heads": 2', f'"n_heads": {"9" * 5000}'), "not valid JSON .the integer 9+... is beyond 64 bits"),
    (_text('"n_heads": 2', '"n_heads": NaN'), "not valid JSON .the number NaN is not finite"),
    (_text('"n_heads": 2', '"n_heads": 1e999'), "not valid JSON .the number 1e999 is not finite"),
    (_text('"n_heads": 2', '"n_heads": "\\ud800"'), "not valid JSON .*surrogates not allowed"),
    (lambda folder: _edit(folder, format_version=True), "format version True, this program reads 1"),
    (lambda folder: _edit(folder, format_version=1.0), "format version 1.0, this program reads 1"),
    (lambda folder: _edit(folder, sha256=None), "has no sha256 of the weights"),
    (lambda folder: _edit(folder, architecture_sha256=[]), "architecture_sha256 differs"),
    (lambda folder: _edit(folder, pretraining=[]), r"pretraining should be an object, not \[\]"),
    (lambda folder: _edit(folder, reached={"step": -1}), "reached.'step' should be a number of at least 0, not -1"),
    (lambda folder: _edit(folder, reached={"minutes": "3"}), "reached.'minutes' should be a number .*not '3'"),
    (lambda folder: _edit(folder, stages_before=3), "stages_before should be a list of objects"),
    (lambda folder: _edit(folder, stages_before=[3]), "stages_before should be a list of objects"),
    (lambda folder: _edit(folder, stages_before=[{"corpus": 1}]), "corpus should be an object, not 1"),
    (lambda folder: _edit(folder, stages_before=[{}] * 1001), "1001 entries, more than 1000"),
    (lambda folder: _edit_architecture(folder, n_encoder_blocks=10_000), "n_encoder_blocks should be at most 64"),
    (lambda folder: _edit_architecture(folder, d_model=2**62), "d_model should be at most 4096"),
    (lambda folder: _edit_architecture(folder, d_model=4096, n_decoder_layers=64), "its weights would take"),
    (lambda folder: _edit_architecture(folder, n_heads=True), "'n_heads' should be of type int, not True"),
    (_rename_a_tensor, "architecture that this program cannot read.*stranger"),
    (lambda folder: (folder / CONFIG_FILE).write_text("{"), "not valid JSON"),
    (lambda folder: (folder / CONFIG_FILE).write_bytes(b"\xff\xfe{}"), "not valid JSON"),
    (lambda folder: (folder / CONFIG_FILE).write_text("[]"), "no emlinit-initialiser checkpoint: train one"),
    (lambda folder: _edit(folder, format="gpt"), "no emlinit-initialiser checkpoint: train one"),
    (lambda folder: _edit(folder, format_version=2), "format version 2, this program reads 1: update emlinit"),
    (lambda folder: _edit_architecture(folder, d_model=32), r"is of shape .* not \[.*get it anew or update"),
    (lambda folder: _edit_architecture(folder, n_decoder_layers=3), r"decoder.layers.2.* missing"),
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
    with pytest.raises(UserError, match=message) as refused:
        EMLInitialiser.load(f"local-dir:{folder}")
    assert len(str(refused.value).splitlines()) == 1
    assert len(str(refused.value)) < 600


def test_an_architecture_is_refused_before_it_is_built(folder: Path) -> None:
    """The largest one allowed, whose blocks alone would take 3 GB, is told apart by its names."""
    _edit_architecture(folder, n_encoder_blocks=64, d_model=512, n_heads=8)
    began = time.monotonic()
    with pytest.raises(UserError, match="missing"):
        EMLInitialiser.load(f"local-dir:{folder}")
    assert time.monotonic() - began < 20


def test_a_file_without_permission_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with monkeypatch.context() as patch:
        patch.setattr("emlinit.generator.foreign.os.open", refuse)
        with pytest.raises(UserError, match=r"config.json of .* cannot be read \(Permission denied\): mend that"):
            EMLInitialiser.load(f"local-dir:{folder}")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", refuse)
        with pytest.raises(UserError, match=r"cannot be looked at \(Permission denied\): name another place"):
            EMLInitialiser.load(f"local-dir:{folder}")


def test_a_checkpoint_of_before_loads_and_the_log_says_how_to_mend_it(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = EMLInitialiser.load(f"local-dir:{folder}")
    assert not caplog.records
    config = json.loads((folder / CONFIG_FILE).read_text())
    del config["architecture_sha256"]
    (folder / CONFIG_FILE).write_text(json.dumps(config))
    loaded = EMLInitialiser.load(f"local-dir:{folder}")
    assert (loaded.config, loaded.source) == (expected.config, expected.source)
    (said,) = (record.getMessage() for record in caplog.records)
    assert "no architecture_sha256" in said
    assert "'emlinit publish' writes a copy that has it" in said


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_full_disk_leaves_the_checkpoint_of_before(
    folder: Path, tiny: Callable[[str], EMLInitialiser], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _files(folder)
    for method in ("write_bytes", "write_text"):

        def full(self: Path, data: bytes | str, **_: object) -> None:
            self.touch()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patch:
            patch.setattr(Path, method, full)
            with pytest.raises(UserError, match=r"can be written to .*No space left on device.*: make room or name"):
                tiny("exact").save(folder)
        assert _files(folder) == before


@pytest.mark.parametrize("name", ["below a file/inside", "x" * 300, "nul\0"])
def test_a_folder_that_cannot_be_is_one_line(name: str, tiny: Callable[[str], EMLInitialiser], tmp_path: Path) -> None:
    (tmp_path / "below a file").write_text("mine")
    with pytest.raises(UserError, match="no checkpoint can be written to") as refused:
        tiny("exact").save(tmp_path / name)
    assert len(str(refused.value).splitlines()) == 1
    with pytest.raises(UserError, match=r"cannot be looked at|no folder"):
        EMLInitialiser.load(f"local-dir:{tmp_path / name}")
    assert _files(tmp_path) == {"below a file": b"mine"}


def test_what_is_not_finite_is_not_saved(tiny: Callable[[str], EMLInitialiser], tmp_path: Path) -> None:
    model = tiny("exact")
    model.about = {"reached": {"step": 1, "held_out_loss": math.nan}}
    model.save(tmp_path / "figures")
    assert EMLInitialiser.load(f"local-dir:{tmp_path / 'figures'}").about["reached"]["held_out_loss"] is None
    model.encoder.seeds[0, 0] = math.inf
    with pytest.raises(UserError, match=r"not all finite \(encoder.seeds .*: train with a lower learning rate"):
        model.save(tmp_path / "weights")
    assert not (tmp_path / "weights").exists()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("owner/name", "unknown checkpoint 'owner/name': expected builtin:exact"),
        ("", "unknown checkpoint ''"),
        ("builtin", "unknown checkpoint 'builtin'"),
        ("file:/tmp", "unknown checkpoint"),
        ("local-dir:", "unknown checkpoint"),
        ("local-dir:~nobody-of-this-name/x", "write out its path"),
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
