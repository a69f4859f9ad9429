"""Training states keep every bit and are replaced whole or not at all."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from emlinit.generator.errors import UserError
from emlinit.model.pretraining.state import load_state, save_state, write_atomically


def test_nested_states_come_back(tmp_path: Path) -> None:
    state = {
        "step": 3,
        "seconds": 0.1 + 0.2,
        "none": None,
        "flag": True,
        "text": '½ ["tensor", 0]',
        "bytes": b"\x00\xff",
        "array": np.arange(6, dtype=np.uint32).reshape(2, 3),
        "nested": [{"weights": torch.tensor([0.1, float("nan"), -0.0])}, [], {}],
        "moments": {0: {"step": torch.tensor(3.0), "exp_avg": torch.zeros(2, 3, dtype=torch.bfloat16)}},
        "random": torch.Generator().manual_seed(3).get_state(),
    }
    save_state(state, tmp_path / "state")
    loaded = load_state(tmp_path / "state")
    for name in ("step", "seconds", "none", "flag", "text", "bytes"):
        assert loaded[name] == state[name]
        assert type(loaded[name]) is type(state[name])
    np.testing.assert_array_equal(loaded["array"], np.arange(6, dtype=np.uint32).reshape(2, 3), strict=True)
    expected = torch.tensor([0.1, float("nan"), -0.0]).view(torch.int32)
    assert torch.equal(loaded["nested"][0]["weights"].view(torch.int32), expected)
    assert loaded["nested"][1:] == [[], {}]
    assert loaded["moments"][0]["exp_avg"].dtype == torch.bfloat16
    assert torch.equal(loaded["random"], torch.Generator().manual_seed(3).get_state())


def test_what_cannot_be_stored_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"cannot hold a Path|cannot hold a PosixPath"):
        save_state({"out": tmp_path}, tmp_path / "state")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"not a state", None])
def test_damaged_states_are_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "state"
    save_state({"weights": torch.ones(100)}, path)
    path.write_bytes(path.read_bytes()[:-50] if content is None else content)
    with pytest.raises(UserError, match=r"damaged or no training state.*remove it to start over"):
        load_state(path)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "[" * 100_000,
        "3 4",
        '["dict"]',
        '["dict", 3]',
        '["dict", [[["list", []], 1]]]',
        '["dict", [["a"]]]',
        '["tensor", "7"]',
        '["tensor", []]',
        '["array", 1]',
        '["array", "00"]',
        '["bytes", 3]',
        '["bytes", "x"]',
        '[["list"], 3]',
        '["list", [NaN]]',
        f'["list", [{"9" * 5000}]]',
    ],
)
def test_states_of_other_programs_are_refused(text: str | None, tmp_path: Path) -> None:
    metadata = {"format": "pt"} if text is None else {"state": text}
    save_file({"0": torch.ones(2)}, tmp_path / "state", metadata=metadata)
    with pytest.raises(UserError, match=r"damaged or no training state.*remove it to start over") as refused:
        load_state(tmp_path / "state")
    assert len(str(refused.value).splitlines()) == 1


def test_a_pipe_or_a_folder_is_no_state(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("folder", "pipe"):
        with pytest.raises(UserError, match="no training state at"):
            load_state(tmp_path / name)


def test_a_full_disk_leaves_the_state_of_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_state({"step": 1}, tmp_path / "state")

    def full(_tensors: object, path: Path, **_: object) -> None:
        path.write_bytes(b"half")
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("emlinit.model.pretraining.state.save_file", full)
    with pytest.raises(UserError, match=r"can be written to .*No space left on device.*: make room"):
        save_state({"step": 2}, tmp_path / "state")
    assert load_state(tmp_path / "state") == {"step": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_a_missing_state_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no training state at .*start a new run"):
        load_state(tmp_path / "state")


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    write_atomically(path, lambda temporary: temporary.write_text("old"))

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert [item.name for item in path.parent.iterdir()] == ["file"]
