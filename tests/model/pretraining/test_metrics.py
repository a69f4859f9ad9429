"""Lines of a run: appended, and given to TensorBoard through one file that is closed in the end."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

from emlinit.generator.errors import UserError
from emlinit.model.pretraining import config as pretraining_config
from emlinit.model.pretraining.config import PretrainConfig, check
from emlinit.model.pretraining.metrics import MetricsLog, drop_later_lines, read_lines


class _Writer:
    """Stands in for TensorBoard's, which is an extra."""

    opened: list["_Writer"]

    def __init__(self, folder: str) -> None:
        self.folder, self.scalars, self.closed = folder, [], False
        self.opened.append(self)

    def add_scalar(self, name: str, value: float, step: int) -> None:
        assert not self.closed
        self.scalars.append((name, value, step))

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("tensorboard", [False, True])
def test_tensorboard_has_one_file_a_run(tensorboard: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = _Writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    _Writer.opened = []
    lines = [{"step": step, "loss": 1 / (step + 2)} for step in range(3)]
    with MetricsLog(tmp_path, tensorboard) as log:
        for line in lines:
            log.append(line)
    assert [line["step"] for line in read_lines(tmp_path)] == [0, 1, 2]
    assert read_lines(tmp_path)[1]["loss"] == round(1 / 3, 6)
    assert len(_Writer.opened) == tensorboard
    for writer in _Writer.opened:
        assert (writer.folder, writer.closed) == (str(tmp_path), True)
        assert [entry for entry in writer.scalars if entry[0] == "loss"] == [("loss", 1 / (k + 2), k) for k in range(3)]


def test_a_missing_tensorboard_is_said_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretraining_config, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'emlinit\[tensorboard\]'"):
        check(PretrainConfig(out=tmp_path / "run", steps=1, tensorboard=True))


def test_lines_of_others_are_left_out(tmp_path: Path) -> None:
    others = ["[" * 100_000, "3", "{}", '{"step": "2"}', '{"step": true}', '{"step": [1]}']
    path = tmp_path / "metrics.jsonl"
    path.write_bytes("\n".join([*others, '{"step": 2}']).encode() + b"\n\xff\n")
    assert read_lines(tmp_path) == [{"step": 2}]
    drop_later_lines(tmp_path, 2)
    assert path.read_text() == '{"step": 2}\n'
    path.unlink()
    path.mkdir()
    with pytest.raises(UserError, match=r"metrics.jsonl' cannot be read \(not a regular file\)"):
        read_lines(tmp_path)
