"""The initialiser: data points in, candidate EML programs and their routing logits out.

Legend: b batch, p point, v input variable, l token position, m latent, d channel, k class.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float32, Float64, Int64
from torch import Tensor, nn

from emlinit.generator.grammar import MAX_VARIABLES, PAD
from emlinit.model.attention import initialise
from emlinit.model.decoder import TreeDecoder
from emlinit.model.encoder import PointEncoder
from emlinit.model.tree_cursor import walk
from emlinit.model.vocabulary import Vocabulary


@dataclass(frozen=True)
class InitialiserConfig:
    """Architecture; saved beside the weights and enough to build the module again."""

    grammar: str = "exact"
    """`exact` or `weighted`: which classes the decoder may use."""
    n_variables: int = MAX_VARIABLES
    """Input columns besides y; fewer may be present."""
    d_model: int = 160
    """Width of encoder and decoder."""
    n_heads: int = 5
    """Attention heads; must divide d_model."""
    n_encoder_blocks: int = 2
    """Induced set attention blocks."""
    n_inducing: int = 32
    """Inducing points of each block."""
    encoder_expansion: int = 2
    """Hidden width of the encoder's feed-forward parts over d_model (they run on every point)."""
    n_latents: int = 16
    """Vectors that the decoder reads."""
    n_latent_blocks: int = 1
    """Self-attention blocks over the latents."""
    n_decoder_layers: int = 4
    """Decoder layers."""
    decoder_expansion: int = 4
    """Hidden width of the decoder's feed-forward parts over d_model."""
    max_tokens: int = 64
    """Longest sequence in tokens."""


class EMLInitialiser(nn.Module):
    """Set-transformer encoder and grammar-constrained tree decoder."""

    def __init__(self, config: InitialiserConfig, generator: torch.Generator | None = None) -> None:
        """Build with fresh weights drawn from `generator` (seed 0 when None); the global random state is left alone."""
        super().__init__()
        self.config = config
        self.vocabulary = Vocabulary(config.n_variables)
        with torch.random.fork_rng(devices=[]):  # torch's layers draw default weights, replaced below
            self.encoder = PointEncoder(
                config.n_variables,
                config.d_model,
                config.n_heads,
                expansion=config.encoder_expansion,
                n_blocks=config.n_encoder_blocks,
                n_inducing=config.n_inducing,
                n_latents=config.n_latents,
                n_latent_blocks=config.n_latent_blocks,
            )
            self.decoder = TreeDecoder(
                config.grammar,
                self.vocabulary,
                config.d_model,
                config.n_heads,
                expansion=config.decoder_expansion,
                n_layers=config.n_decoder_layers,
                max_tokens=config.max_tokens,
            )
        initialise(self.encoder, 2 * (2 * config.n_encoder_blocks + config.n_latent_blocks), generator)
        initialise(self.decoder, 3 * config.n_decoder_layers, generator)

    def forward(
        self,
        tokens: Int64[Tensor, "b l"],
        constants: Float64[Tensor, "b l"],
        x: Float[Tensor, "b p v"],
        y: Float[Tensor, "b p"],
        variable_mask: Bool[Tensor, "b v"],
        point_mask: Bool[Tensor, "b p"],
    ) -> tuple[Float32[Tensor, "b l k"], Int64[Tensor, "b l"], Bool[Tensor, " b"]]:
        """Teacher-forced log-probabilities.

        Returns:
            log-probabilities of every class at every token (float32, -inf where the grammar forbids), the target
            classes, and which examples are grammatical (the others must not be scored: their targets have -inf).
        """
        classes = self.vocabulary.quantise(tokens, constants)
        slots = walk(tokens)
        legal = self.decoder.legal(slots.expected, variable_mask)
        grammatical = legal.gather(-1, classes[..., None])[..., 0].all(-1)
        latents = self.encoder(x, y, variable_mask, point_mask)
        logits = self.decoder(classes, slots, latents).to(torch.float32)
        return logits.masked_fill(~legal, float("-inf")).log_softmax(-1), classes, grammatical


@dataclass(frozen=True)
class Scores:
    """What one teacher-forced batch says: sums, so that batches and ranks can be added."""

    loss: Tensor
    """Mean negative log-probability of a token (nats), differentiable."""
    n_tokens: Tensor
    """Tokens scored."""
    n_right: Tensor
    """Tokens whose most probable class is the right one."""
    n_sequences: Tensor
    """Sequences scored."""
    n_sequences_right: Tensor
    """Sequences right in every token."""


def score(
    log_probs: Float32[Tensor, "b l k"],
    classes: Int64[Tensor, "b l"],
    tokens: Int64[Tensor, "b l"],
    grammatical: Bool[Tensor, " b"],
) -> Scores:
    """Loss and accuracies over the tokens of grammatical examples."""
    used = (tokens != PAD) & grammatical[:, None]
    chosen = log_probs.gather(-1, classes[..., None])[..., 0]
    n_tokens = used.sum()
    loss = -torch.where(used, chosen, 0.0).sum() / n_tokens.clamp_min(1)
    right = log_probs.detach().argmax(-1) == classes
    return Scores(
        loss=loss,
        n_tokens=n_tokens,
        n_right=(right & used).sum(),
        n_sequences=grammatical.sum(),
        n_sequences_right=((right | ~used).all(-1) & grammatical).sum(),
    )
