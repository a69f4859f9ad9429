"""Named sizes of the initialiser: what to train with the time there is.

`small` is the shipped architecture. The larger ones have a deep encoder and a light decoder, since the encoder runs
once a bag and the decoder once for every token of every candidate; and heads of 64 channels, with which attention fills
an accelerator.
"""

from emlinit.model.initialiser import InitialiserConfig

MODEL_SIZES = {
    "small": InitialiserConfig(),
    "base": InitialiserConfig(
        d_model=256,
        n_heads=4,
        n_encoder_blocks=4,
        n_inducing=48,
        n_latents=24,
        n_latent_blocks=3,
        n_decoder_layers=3,
    ),
    "large": InitialiserConfig(
        d_model=384,
        n_heads=6,
        n_encoder_blocks=6,
        n_inducing=64,
        n_latents=32,
        n_latent_blocks=4,
        n_decoder_layers=4,
    ),
}
"""About 3, 10 and 30 million parameters."""
MOST_POINTS = {"small": 96, "base": 256, "large": 256}
"""Most points of a bag that each is made for."""
