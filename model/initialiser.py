"""The initialiser: data points in, candidate EML programs and their routing logits out.

    EMLInitialiser.load("builtin:exact").propose(x, y, n=64)

Legend: b batch, p point, v input variable, l token position, m latent, d channel, k class.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Float32, Float64, Int64
from numpy.typing import ArrayLike
from torch import Tensor, nn

from emlinit.generator.errors import UserError
from emlinit.generator.foreign import shown
from emlinit.generator.grammar import GRAMMARS, MAX_VARIABLES, PAD
from emlinit.model.attention import initialise
from emlinit.model.blueprint import shapes_of
from emlinit.model.decoder import TreeDecoder
from emlinit.model.encoder import PointEncoder
from emlinit.model.likelihood import log_probabilities
from emlinit.model.propose import Proposals, as_points, propose, propose_each
from emlinit.model.tree_cursor import walk
from emlinit.model.vocabulary import Vocabulary
from emlinit.model.weights.checkpoint import StoredWeights, architecture_from_json, read_checkpoint
from emlinit.model.weights.saving import save_weights

LARGEST_ARCHITECTURE = {
    "n_variables": MAX_VARIABLES,
    "d_model": 4096,
    "n_heads": 256,
    "n_encoder_blocks": 64,
    "n_inducing": 4096,
    "encoder_expansion": 64,
    "n_latents": 4096,
    "n_latent_blocks": 64,
    "n_decoder_layers": 64,
    "decoder_expansion": 64,
    "max_tokens": 4096,
}
"""Largest value of each number of an architecture: far beyond what trains, and so little that a wrong one does no harm."""


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

    def __post_init__(self) -> None:
        """Refuse what cannot be built.

        Raises:
            UserError: names the field.
        """
        if self.grammar not in GRAMMARS:
            raise UserError(f"unknown grammar {shown(self.grammar)}: use one of {', '.join(GRAMMARS)}")
        for name, largest in LARGEST_ARCHITECTURE.items():
            value = getattr(self, name)
            if value < 1:
                raise UserError(f"{name} should be at least 1, not {value}")
            if value > largest:
                raise UserError(f"{name} should be at most {largest}, not {value}")
        if self.d_model % self.n_heads:
            raise UserError(f"n_heads {self.n_heads} should divide d_model {self.d_model}")


class EMLInitialiser(nn.Module):
    """Set-transformer encoder and grammar-constrained tree decoder."""

    def __init__(self, config: InitialiserConfig, generator: torch.Generator | None = None) -> None:
        """Build with fresh weights drawn from `generator` (seed 0 when None); the global random state is left alone."""
        super().__init__()
        self.config = config
        self.source = ("fresh weights", "")
        """Where the weights come from and the sha256 of their file."""
        self.revision: str | None = None
        """Commit hash of a checkpoint from the Hub, which `source` may name by a tag or a branch."""
        self.about: dict[str, Any] = {}
        """What the checkpoint says besides the architecture: how it was pretrained and what it reached."""
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

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.decoder.allowed.device

    def forward(
        self,
        tokens: Int64[Tensor, "b l"],
        constants: Float64[Tensor, "b l"],
        x: Float[Tensor, "b p v"],
        y: Float[Tensor, "b p"],
        variable_mask: Bool[Tensor, "b v"],
        point_mask: Bool[Tensor, "b p"] | None,
    ) -> tuple[Float32[Tensor, "b l k"], Int64[Tensor, "b l"], Bool[Tensor, " b"]]:
        """Teacher-forced logits; see `PointEncoder` for `point_mask`.

        Returns:
            logits of every class at every token (float32, -inf where the grammar forbids), the target classes, and which
            examples are grammatical (the others must not be scored: their targets have -inf).
        """
        classes = self.vocabulary.quantise(tokens, constants)
        slots = walk(tokens)
        legal = self.decoder.legal(slots.expected, variable_mask)
        grammatical = legal.gather(-1, classes[..., None])[..., 0].all(-1)
        latents = self.encoder(x, y, variable_mask, point_mask)
        logits = self.decoder(classes, slots, latents).to(torch.float32)
        return logits.masked_fill(~legal, float("-inf")), classes, grammatical

    def propose(
        self,
        x: ArrayLike | Tensor,
        y: ArrayLike | Tensor,
        n: int,
        *,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
        top_p: float = 1.0,
        method: str = "sample",
        max_tokens: int | None = None,
        n_bags: int = 4,
        points_per_bag: int = 64,
    ) -> Proposals:
        """Candidate programs for data.

        Args:
            x: points, shape (p, v) with v from 1 to `config.n_variables`; finite.
            y: targets, shape (p,); finite.
            n: most candidates; fewer come back when bags propose the same ones.
            generator: source of randomness, on any device; None starts a fresh one of seed 0.
            temperature: divides the logits that candidates are drawn from; above 1 for more variety.
            top_p: nucleus; 1 draws from all tokens.
            method: `sample` (without replacement) or `beam` (the most probable of each bag).
            max_tokens: longest candidate in tokens, up to `config.max_tokens` (None).
            n_bags: random subsets of the points, each of which proposes its share of n.
            points_per_bag: points of a subset; all data make one bag when they are not more than this.

        Returns:
            distinct grammatical candidates, likeliest first, on the CPU.

        Raises:
            UserError: data or options other than described here.
        """
        points, targets = as_points(x, y, self.config.n_variables)
        self.eval()
        return propose(
            self.encoder,
            self.decoder,
            self.vocabulary,
            points,
            targets,
            n,
            generator=generator or torch.Generator().manual_seed(0),
            temperature=temperature,
            top_p=top_p,
            method=method,
            max_tokens=self.config.max_tokens if max_tokens is None else max_tokens,
            n_bags=n_bags,
            points_per_bag=points_per_bag,
        )

    def propose_each(
        self,
        x: Float64[Tensor, "g p v"],
        y: Float64[Tensor, "g p"],
        point_mask: Bool[Tensor, "g p"],
        n: int,
        *,
        max_tokens: int | None = None,
    ) -> list[Proposals]:
        """The likeliest programs (beam search) for several problems of the same variables, in one batch.

        Args:
            x: points of each problem; finite.
            y: targets; finite.
            point_mask: which points count, at least one of each problem; all of them are read, so give about as many as
                pretraining showed.
            n: most candidates of each.
            max_tokens: longest candidate, up to `config.max_tokens` (None).
        """
        self.eval()
        longest = self.config.max_tokens if max_tokens is None else max_tokens
        return propose_each(self.encoder, self.decoder, self.vocabulary, x, y, point_mask, n, max_tokens=longest)

    def log_prob(
        self,
        tokens: Int64[Tensor, "n l"],
        constants: Float64[Tensor, "n l"],
        x: ArrayLike | Tensor,
        y: ArrayLike | Tensor,
        *,
        generator: torch.Generator | None = None,
        values: bool = True,
        n_bags: int = 4,
        points_per_bag: int = 64,
    ) -> Float64[Tensor, " n"]:
        """How likely the network holds given programs to be, the data given.

        Args:
            tokens: prefix sequences, padded with `PAD`.
            constants: values of `c`, `w` and `j`.
            x: points, shape (p, v) with v from 1 to `config.n_variables`; finite.
            y: targets, shape (p,); finite.
            generator: for the bags; None starts a fresh one of seed 0.
            values: whether the coarse values of the constants count, or their kinds alone.
            n_bags: random subsets of the points; probabilities are means over them.
            points_per_bag: points of a subset.

        Returns:
            Log-probability of each sequence, in nats; -infinity for those that the network cannot write: of another grammar,
            in other variables or longer than `config.max_tokens`.

        Raises:
            UserError: data other than described here.
        """
        points, targets = as_points(x, y, self.config.n_variables)
        self.eval()
        return log_probabilities(
            self.encoder,
            self.decoder,
            self.vocabulary,
            tokens,
            constants,
            points,
            targets,
            generator=generator or torch.Generator().manual_seed(0),
            n_bags=n_bags,
            points_per_bag=points_per_bag,
            values=values,
        )

    def save(self, folder: Path | str) -> str:
        """Write weights and configuration to `folder`, to be loaded from `local-dir:FOLDER`; returns the sha256.

        Raises:
            UserError: the folder cannot be written, or a weight is not finite; nothing was written.
        """
        return save_weights(Path(folder), dict(self.named_parameters()), asdict(self.config), self.about)

    @classmethod
    def load(cls, source: str, device: torch.device | str = "cpu") -> "EMLInitialiser":
        """Read a checkpoint: `builtin:exact`, `builtin:weighted`, `local-dir:PATH` or `hf-hub:OWNER/NAME@REV`.

        Raises:
            UserError: missing, unreadable, truncated, changed, or of another architecture.
        """
        stored = load_weights(source)
        model = cls(architecture_from_json(InitialiserConfig, stored.architecture))
        model.load_state_dict(stored.tensors, strict=True)
        model.source = (source, stored.sha256)
        model.revision = stored.revision
        known = ("pretraining", "reached", "corpus", "stages_before")
        model.about = {name: value for name, value in stored.about.items() if name in known}
        return model.to(device).eval()


def load_weights(source: str) -> StoredWeights:
    """The checked content of a checkpoint, no network built; see `EMLInitialiser.load` for the forms of `source`.

    Raises:
        UserError: missing, unreadable, truncated, changed, or of another architecture.
    """
    return read_checkpoint(source, _parameter_shapes)


def _parameter_shapes(architecture: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    config = architecture_from_json(InitialiserConfig, architecture)
    return shapes_of(lambda: EMLInitialiser(config))


@dataclass(frozen=True)
class Scores:
    """What one teacher-forced batch says: counts, which can be added, and two means over its tokens."""

    loss: Tensor
    """Mean negative log-probability of a token (nats), differentiable."""
    objective: Tensor
    """What is trained on: the loss and, if wanted, a pull of the logits towards being normalised."""
    n_tokens: Tensor
    """Tokens scored."""
    n_right: Tensor
    """Tokens whose most probable class is the right one."""
    n_sequences: Tensor
    """Sequences scored."""
    n_sequences_right: Tensor
    """Sequences right in every token."""

    def __add__(self, other: "Scores") -> "Scores":
        """Those of two parts of a batch, whose means are given as their shares of the whole's."""
        return Scores(**{name: value + getattr(other, name) for name, value in vars(self).items()})


def score(
    logits: Float32[Tensor, "b l k"],
    classes: Int64[Tensor, "b l"],
    tokens: Int64[Tensor, "b l"],
    grammatical: Bool[Tensor, " b"],
    z_loss: float = 0.0,
) -> Scores:
    """Loss and accuracies over the tokens of grammatical examples; the objective adds `z_loss` times the mean square of
    the logits' log-normaliser (Chowdhery et al., arXiv 2204.02311)."""
    used = (tokens != PAD) & grammatical[:, None]
    chosen = logits.log_softmax(-1).gather(-1, classes[..., None])[..., 0]
    n_tokens = used.sum()
    loss = -torch.where(used, chosen, 0.0).sum() / n_tokens.clamp_min(1)
    objective = loss
    if z_loss:
        squared = torch.where(used, logits.logsumexp(-1).square(), 0.0)
        objective = loss + z_loss * squared.sum() / n_tokens.clamp_min(1)
    right = logits.detach().argmax(-1) == classes
    return Scores(
        loss=loss,
        objective=objective,
        n_tokens=n_tokens,
        n_right=(right & used).sum(),
        n_sequences=grammatical.sum(),
        n_sequences_right=((right | ~used).all(-1) & grammatical).sum(),
    )
