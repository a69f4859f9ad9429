"""What the network says of examples, from wherever their programs come, depends on the examples alone."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import datasets.config
import pytest
import torch
from torch import Tensor

from emlinit.generator.corpus import writing
from emlinit.generator.corpus.config import StreamConfig
from emlinit.generator.corpus.examples import Batch
from emlinit.generator.corpus.stream import ExampleStream
from emlinit.generator.corpus.writing import WritingConfig, write_corpus
from emlinit.generator.grammar import PAD
from emlinit.model.initialiser import EMLInitialiser, InitialiserConfig

SMALL = {"max_variables": 2, "max_nodes": 7, "max_depth": 4, "max_tokens": 24, "max_points": 12, "min_points": 8}
SOURCES = {
    "fresh": {},
    "workers": {"workers": 1},
    "stored": {"corpus": "corpus"},
    "both": {"corpus": "corpus", "corpus_share": 0.5, "workers": 1},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Stored corpora of both grammars, and a cache of `datasets` for them."""
    folder = tmp_path_factory.mktemp("corpora")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "cache")
        patch.setattr(writing, "ROUND", 64)
        for grammar in ("exact", "weighted"):
            stream = StreamConfig(grammar=grammar, batch_size=8, pool_batches=1, **SMALL)
            write_corpus(WritingConfig(out=folder / grammar, programs=40, stream=stream))
        yield folder


@pytest.fixture(params=[(grammar, source) for grammar in ("exact", "weighted") for source in SOURCES])
def batch(request: pytest.FixtureRequest, folder: Path) -> Batch:
    grammar, source = request.param
    config = StreamConfig(grammar=grammar, batch_size=12, pool_batches=1, **{**SMALL, **SOURCES[source]})
    if config.corpus:
        config = replace(config, corpus=str(folder / grammar))
    stream = ExampleStream(config, seed=1)
    try:
        return next(stream)
    finally:
        stream.close()


@pytest.fixture
def log_probs(batch: Batch) -> Callable[[Batch], Tensor]:
    """Log-probability of each token, by a tiny network with random weights; 0 at padding."""
    grammar = "weighted" if bool(batch.constants.any()) else "exact"
    config = InitialiserConfig(grammar=grammar, d_model=16, n_heads=2, max_tokens=40)
    network = EMLInitialiser(config, torch.Generator().manual_seed(0)).eval()

    @torch.no_grad()
    def scored(batch: Batch) -> Tensor:
        points = (batch.x, batch.y, batch.variable_mask, batch.point_mask)
        values, classes, _ = network(batch.tokens, batch.constants, *points)
        return torch.where(batch.tokens == PAD, 0.0, values.gather(-1, classes[..., None])[..., 0])

    return scored


def test_neither_the_order_of_points_nor_padding_nor_other_rows_matter(
    batch: Batch, log_probs: Callable[[Batch], Tensor]
) -> None:
    expected = log_probs(batch)
    length = batch.tokens.shape[1]
    assert bool(torch.isfinite(expected).all())
    assert len(batch) == 12
    order = torch.randperm(batch.x.shape[1], generator=torch.Generator().manual_seed(0))
    permuted = replace(batch, x=batch.x[:, order], y=batch.y[:, order])
    torch.testing.assert_close(log_probs(permuted), expected, rtol=1e-4, atol=1e-4)
    pad = torch.nn.functional.pad
    padded = replace(
        batch,
        tokens=pad(batch.tokens, (0, 5)),
        constants=pad(batch.constants, (0, 5)),
        x=pad(batch.x, (0, 0, 0, 3), value=7.0),
        y=pad(batch.y, (0, 3), value=7.0),
        point_mask=pad(batch.point_mask, (0, 3)),
    )
    torch.testing.assert_close(log_probs(padded)[:, :length], expected, rtol=1e-4, atol=1e-4)
    alone = [pad(log_probs(batch.rows(slice(k, k + 1))), (0, length))[:, :length] for k in range(len(batch))]
    torch.testing.assert_close(torch.cat(alone), expected, rtol=1e-4, atol=1e-4)
    other = replace(batch, y=batch.y.flip(0))
    assert not torch.allclose(log_probs(other), expected, atol=1e-3)  # it does look at the data
