"""Causal transformer that writes an expression in prefix order, reading the encoder's latents.

Step l sees the classes before it and the *slot* it is about to fill: nonterminal, depth, side, kind of the parent,
number of the term in the slot's sum, and the left/right path from the root (a tree position, cf. Shiv & Quirk,
NeurIPS 2019).
Classes that the grammar does not allow there, and variables that the data does not have, get -inf.

Legend: b batch, l token position, v input variable, m latent, d channel, k class; in a step g bag, w its row, n any row.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from emlinit.generator.grammar import X1
from emlinit.model.attention import Attention, FeedForward
from emlinit.model.tree_cursor import (
    MAX_DEPTH,
    MAX_TERM,
    N_EXPECTED,
    PATH_LEVELS,
    SlotView,
    allowed_classes,
)
from emlinit.model.vocabulary import Vocabulary


@dataclass
class Cache:
    """What a step needs to know of the steps before it; lists have one entry a layer."""

    keys: list[Tensor]
    """Keys of the positions decoded so far, (n_rows, h, length, c)."""
    values: list[Tensor]
    """Values of the same positions, (n_rows, h, length, c)."""
    cross: list[tuple[Tensor, Tensor]]
    """Projected latents, (n_bags, h, m, c); every bag has the same number of rows, one bag's after the other's."""

    def select(self, rows: Int64[Tensor, " r"]) -> None:
        """Keep (or repeat) the given rows."""
        self.keys = [key[rows] for key in self.keys]
        self.values = [value[rows] for value in self.values]


class DecoderLayer(nn.Module):
    """Self-attention, cross-attention to the latents, feed-forward; pre-norm."""

    def __init__(self, d_model: int, n_heads: int, expansion: int) -> None:
        """See `Attention` and `FeedForward`."""
        super().__init__()
        self.self_norm = nn.LayerNorm(d_model)
        self.self_attention = Attention(d_model, n_heads)
        self.cross_norm = nn.LayerNorm(d_model)
        self.cross_attention = Attention(d_model, n_heads)
        self.feed_forward = FeedForward(d_model, expansion)

    def forward(self, channels: Float[Tensor, "b l d"], latents: Float[Tensor, "b m d"]) -> Float[Tensor, "b l d"]:
        """All positions at once, for training."""
        normed = self.self_norm(channels)
        key, value = self.self_attention.keys_values(normed)
        channels = channels + self.self_attention(normed, key, value, causal=True)
        key, value = self.cross_attention.keys_values(latents)
        channels = channels + self.cross_attention(self.cross_norm(channels), key, value)
        return self.feed_forward(channels)  # type: ignore[no-any-return]


class TreeDecoder(nn.Module):
    """Next-class log-probabilities of each slot, constrained by the grammar."""

    allowed: Tensor
    class_variable: Tensor
    path_powers: Tensor

    def __init__(
        self,
        grammar: str,
        vocabulary: Vocabulary,
        d_model: int,
        n_heads: int,
        *,
        expansion: int,
        n_layers: int,
        max_tokens: int,
    ) -> None:
        """Build a decoder for sequences of up to `max_tokens` tokens."""
        super().__init__()
        self.max_tokens = max_tokens
        self.embed_class = nn.Embedding(vocabulary.n_classes, d_model)  # PAD's row serves as the start symbol
        self.embed_position = nn.Embedding(max_tokens, d_model)
        self.embed_expected = nn.Embedding(N_EXPECTED, d_model)
        self.embed_depth = nn.Embedding(MAX_DEPTH + 1, d_model)
        self.embed_side = nn.Embedding(3, d_model)
        self.embed_parent = nn.Embedding(vocabulary.n_kinds, d_model)
        self.embed_term = nn.Embedding(MAX_TERM + 1, d_model)
        self.embed_path = nn.Linear(2 * PATH_LEVELS, d_model, bias=False)
        self.layers = nn.ModuleList(DecoderLayer(d_model, n_heads, expansion) for _ in range(n_layers))
        self.norm = nn.LayerNorm(d_model)
        self.classify = nn.Linear(d_model, vocabulary.n_classes)
        self.register_buffer("allowed", allowed_classes(grammar, vocabulary), persistent=False)
        self.register_buffer("path_powers", 3 ** torch.arange(PATH_LEVELS), persistent=False)
        kind = vocabulary.kind_of_class()
        self.register_buffer("class_variable", torch.where(kind >= X1, kind - X1 + 1, 0), persistent=False)

    def legal(self, expected: Int64[Tensor, "*bl"], variable_mask: Bool[Tensor, "b v"]) -> Bool[Tensor, "*bl k"]:
        """Which classes may come: those of the grammar, and of the variables only the present ones."""
        always = torch.ones_like(variable_mask[:, :1])
        present = torch.cat([always, variable_mask], dim=-1)[:, self.class_variable]
        if expected.ndim == 2:
            present = rearrange(present, "b k -> b 1 k")
        return self.allowed[expected] & present

    def forward(
        self,
        classes: Int64[Tensor, "b l"],
        slots: SlotView,
        latents: Float[Tensor, "b m d"],
    ) -> Float[Tensor, "b l k"]:
        """Logits of every position given the classes before it (teacher forcing), grammar not yet applied."""
        length = classes.shape[1]
        before = torch.nn.functional.pad(classes[:, :-1], (1, 0))
        position = torch.arange(length, device=classes.device)
        channels = self._embed(before, position, slots)
        for layer in self.layers:
            channels = layer(channels, latents)
        return self.classify(self.norm(channels))  # type: ignore[no-any-return]

    def start(self, latents: Float[Tensor, "g m d"]) -> Cache:
        """An empty cache for one row a bag."""
        layers = list(self.decoder_layers())
        empty = latents.new_zeros(len(latents), layers[0].self_attention.n_heads, 0, 0)
        cross = [layer.cross_attention.keys_values(latents) for layer in layers]
        return Cache(keys=[empty] * len(layers), values=[empty] * len(layers), cross=cross)

    def step(self, before: Int64[Tensor, " n"], slots: SlotView, cache: Cache) -> Float[Tensor, "n k"]:
        """Logits of the next class of each row, grammar not yet applied; the cache grows by one position.

        Args:
            before: class chosen last (0 at the start).
            slots: the slot that each row fills next.
            cache: of these rows; n is a multiple of its number of bags.
        """
        n_bags = len(cache.cross[0][0])
        length = cache.keys[0].shape[2]
        channels = self._embed(before, torch.tensor(length, device=before.device), slots)[:, None]
        for number, layer in enumerate(self.decoder_layers()):
            normed = layer.self_norm(channels)
            key, value = layer.self_attention.keys_values(normed)
            if length:
                key = torch.cat([cache.keys[number], key], dim=2)
                value = torch.cat([cache.values[number], value], dim=2)
            cache.keys[number], cache.values[number] = key, value
            channels = channels + layer.self_attention(normed, key, value)
            # "(g w) 1 d -> g w d" and back, without einops for its speed
            query = layer.cross_norm(channels).view(n_bags, -1, channels.shape[-1])
            channels = channels + layer.cross_attention(query, *cache.cross[number]).view_as(channels)
            channels = layer.feed_forward(channels)
        return self.classify(self.norm(channels[:, 0]))  # type: ignore[no-any-return]

    def decoder_layers(self) -> Iterator[DecoderLayer]:
        """The layers, with their type."""
        for layer in self.layers:
            assert isinstance(layer, DecoderLayer)
            yield layer

    def _embed(self, before: Tensor, position: Tensor, slots: SlotView) -> Tensor:
        digits = (slots.path[..., None] // self.path_powers) % 3
        path = torch.cat([digits == 1, digits == 2], dim=-1).to(self.embed_path.weight.dtype)
        embedded: Tensor = (
            self.embed_class(before)
            + self.embed_position(position)
            + self.embed_expected(slots.expected)
            + self.embed_depth(slots.depth.clamp_max(MAX_DEPTH))
            + self.embed_side(slots.side)
            + self.embed_parent(slots.parent)
            + self.embed_term(slots.term.clamp_max(MAX_TERM))
            + self.embed_path(path)
        )
        return embedded
