"""Small initialisers with fresh weights, and examples to feed them."""

from collections.abc import Callable
from functools import cache

import pytest
import torch

from emlinit.generator.corpus.config import StreamConfig
from emlinit.generator.corpus.examples import Batch
from emlinit.generator.corpus.stream import ExampleStream
from emlinit.model import EMLInitialiser, InitialiserConfig


@pytest.fixture(scope="session")
def tiny() -> Callable[[str], EMLInitialiser]:
    """Make a small initialiser of a grammar, always with the same weights."""

    def make(grammar: str) -> EMLInitialiser:
        config = InitialiserConfig(
            grammar=grammar,
            d_model=16,
            n_heads=2,
            n_encoder_blocks=2,
            n_inducing=4,
            n_latents=3,
            n_decoder_layers=2,
            max_tokens=24,
        )
        return EMLInitialiser(config, torch.Generator().manual_seed(1)).eval().requires_grad_(False)

    return make


@pytest.fixture(scope="session")
def example_batch() -> Callable[[str], Batch]:
    """Make a minibatch of a grammar's corpus."""

    @cache
    def make(grammar: str) -> Batch:
        config = StreamConfig(
            grammar=grammar,
            max_variables=2,
            max_nodes=6,
            max_depth=4,
            max_tokens=24,
            max_points=12,
            batch_size=128,
            pool_batches=1,
        )
        return next(ExampleStream(config, seed=4))

    return make
