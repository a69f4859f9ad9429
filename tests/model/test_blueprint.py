"""Names and shapes are those of the built network, whose size costs nothing."""

import time

import pytest
import torch

from emlinit.model import EMLInitialiser, InitialiserConfig
from emlinit.model.blueprint import shapes_of

CONFIGS = [
    InitialiserConfig(),
    InitialiserConfig(
        grammar="weighted", n_variables=2, d_model=12, n_heads=3, n_inducing=2, n_latents=5, max_tokens=7
    ),
    InitialiserConfig(d_model=8, n_heads=1, n_encoder_blocks=1, n_latent_blocks=3, n_decoder_layers=2),
    InitialiserConfig(d_model=8, n_heads=2, encoder_expansion=3, decoder_expansion=1),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_the_shapes_are_those_of_the_network(config: InitialiserConfig) -> None:
    built = EMLInitialiser(config)
    expected = {name: tuple(parameter.shape) for name, parameter in built.named_parameters()}
    assert shapes_of(lambda: EMLInitialiser(config)) == expected
    assert all(not parameter.is_meta and parameter.requires_grad for parameter in EMLInitialiser(config).parameters())


def test_a_giant_takes_no_time_and_leaves_the_random_state_alone() -> None:
    giant = InitialiserConfig(
        d_model=4096, n_heads=256, n_encoder_blocks=64, n_inducing=4096, n_latent_blocks=64, n_decoder_layers=64
    )
    before = torch.get_rng_state()
    began = time.monotonic()
    shapes = shapes_of(lambda: EMLInitialiser(giant))
    assert time.monotonic() - began < 20
    assert shapes["decoder.layers.63.feed_forward.out.weight"][0] == 4096
    assert torch.equal(torch.get_rng_state(), before)
