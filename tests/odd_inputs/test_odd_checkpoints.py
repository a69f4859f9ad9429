"""An odd checkpoint is refused in one line, or it is the one that it was made of, bit for bit."""

import time
from pathlib import Path

import pytest
import torch
from odd_inputs.odd_checkpoints import TINY, odd_checkpoints

from emlinit.generator.errors import UserError
from emlinit.model import EMLInitialiser

N = 270


@pytest.mark.parametrize("seed", [0, 1])
def test_odd_checkpoints_are_refused_in_one_line_or_right(seed: int, tmp_path: Path) -> None:
    began, n_right, plain = time.monotonic(), 0, {}
    for what, folder in odd_checkpoints(tmp_path, seed, N):
        if not plain:
            plain = dict(EMLInitialiser.load(f"local-dir:{tmp_path / 'plain'}").named_parameters())
        started = time.monotonic()
        try:
            model = EMLInitialiser.load(f"local-dir:{folder}")
        except UserError as refused:
            said = str(refused)
            assert len(said.splitlines()) == 1, what
            assert len(said) < 1000, what
        except BaseException as problem:
            raise AssertionError(f"{what}: {problem!r}") from problem
        else:
            n_right += 1
            named = dict(model.named_parameters())
            assert model.config == TINY, what
            assert named.keys() == plain.keys(), what
            assert all(torch.equal(named[name], tensor) for name, tensor in plain.items()), what
        assert time.monotonic() - started < 5, what
    assert 0 < n_right < N / 3  # what is said of the run may change, and links to the right files
    assert time.monotonic() - began < 60
    assert [path.name for path in tmp_path.iterdir()] == ["plain"]
