"""A compiled network takes the same steps, and a machine that cannot compile is told in one line."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from emlinit.generator.errors import UserError
from emlinit.model.pretraining.config import PretrainConfig
from emlinit.model.pretraining.run import pretrain

STEPS = """
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from emlinit.generator.corpus.config import StreamConfig
from emlinit.model import InitialiserConfig
from emlinit.model.pretraining.config import PretrainConfig
from emlinit.model.pretraining.distributed import World
from emlinit.model.pretraining.run import PretrainingRun

torch.compile = partial(torch.compile, backend="aot_eager", fullgraph=True)
stream = StreamConfig(grammar="weighted", max_tokens=16, batch_size=8, pool_batches=4, max_points=12)
model = InitialiserConfig(d_model=16, n_heads=2, n_encoder_blocks=1, n_inducing=4, n_latents=2, n_decoder_layers=1)
config = PretrainConfig(
    out=Path("nowhere"), steps=10, precision="float32", held_out_batches=1, stream=stream, model=model, compile=True
)
alone = World(rank=0, size=1, device=torch.device("cpu"))
runs = [PretrainingRun(c, alone) for c in (config, replace(config, compile=False, buckets=1))]
assert runs[0].buckets == 1
for _ in range(4):
    scores = [run.train_step(next(run.stream), 0.0)[0] for run in runs]
    torch.testing.assert_close(scores[0].loss, scores[1].loss)
for first, second in zip(*(run.model.parameters() for run in runs), strict=True):
    torch.testing.assert_close(first, second, rtol=0, atol=2e-4)
print("the same")
"""


@pytest.mark.slow
def test_a_compiled_network_takes_the_same_steps() -> None:
    """Traced whole and differentiated as ever, with torch's own operations in the place of generated code, which takes
    minutes. In a process of its own: what is traced must not be checked for shapes at run time."""
    done = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True, check=False)
    assert done.stdout == "the same\n", done.stderr


def test_a_machine_that_cannot_compile_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any, **__: Any) -> Any:
        raise RuntimeError("No working C++ compiler found in the list\n  of many lines")

    monkeypatch.setattr(torch, "compile", missing)
    with pytest.raises(
        UserError, match=r"--compile cannot work here \(No working C\+\+ compiler.*\): install"
    ) as refused:
        pretrain(PretrainConfig(out=tmp_path / "run", steps=1, device="cpu", compile=True))
    assert len(str(refused.value).splitlines()) == 1
    assert not (tmp_path / "run").exists()
