"""Multi-head attention and the pre-norm feed-forward block that encoder and decoder share.

Scores are divided by the square root of the *head* width (the reference set transformer divides by the full width,
which makes the softmax too flat). Plain matmul and softmax: on CPUs with bfloat16 units this trains faster than the
fused CPU kernel, whose backward is slow. On CUDA the fused ones are used but for cuDNN's, which plans anew for every shape
that it has not seen: a tenth of a second in each direction, and minibatches come in hundreds of shapes. Flash attention
runs where there is no mask, so a mask is given only where something has to be hidden, and causal order is a flag.

Legend: b batch, q query, k key, d channel, h head, c channel of one head.
"""

import math

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

torch.backends.cuda.enable_cudnn_sdp(False)  # for the whole process: torch has no switch for one module


def attend(
    query: Float[Tensor, "b h q c"],
    key: Float[Tensor, "b h k c"],
    value: Float[Tensor, "b h k c"],
    visible: Bool[Tensor, "#b #h #q k"] | None = None,
    *,
    causal: bool = False,
) -> Float[Tensor, "b h q c"]:
    """Softmax attention.

    Args:
        query: what asks.
        key: what is compared with it.
        value: what is averaged.
        visible: keys that are False get no weight (each query must see at least one key); None shows all.
        causal: query number q sees keys 0..q only; there are as many keys as queries, and no `visible`.
    """
    if query.is_cuda:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=visible, is_causal=causal)
    scores = (query * (1 / math.sqrt(query.shape[-1]))) @ key.mT
    if visible is not None:
        scores = scores.masked_fill(~visible, float("-inf"))
    if causal:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(later, float("-inf"))
    return scores.softmax(-1) @ value


class Attention(nn.Module):
    """Projections around `attend`; keys and values are projected on their own so that a cache can hold them."""

    def __init__(self, d_model: int, n_heads: int) -> None:
        """`n_heads` must divide `d_model`."""
        super().__init__()
        self.n_heads = n_heads
        self.query = nn.Linear(d_model, d_model, bias=False)
        self.key_value = nn.Linear(d_model, 2 * d_model, bias=False)
        self.out = nn.Linear(d_model, d_model, bias=False)

    def keys_values(self, memory: Float[Tensor, "b k d"]) -> tuple[Tensor, Tensor]:
        """Project what is attended to; two tensors of shape (b, h, k, c)."""
        key, value = rearrange(self.key_value(memory), "b k (both h c) -> both b h k c", both=2, h=self.n_heads)
        return key, value

    def forward(
        self,
        query: Float[Tensor, "b q d"],
        key: Float[Tensor, "b h k c"],
        value: Float[Tensor, "b h k c"],
        visible: Bool[Tensor, "#b #h #q k"] | None = None,
        *,
        causal: bool = False,
    ) -> Float[Tensor, "b q d"]:
        """Attend from `query` to projected keys and values; see `attend`."""
        # "b q (h c) -> b h q c" and back, in PyTorch's own words: einops would take 3 % of the decoder's cached steps.
        n_rows, n_queries, width = query.shape
        heads = self.query(query).view(n_rows, n_queries, self.n_heads, width // self.n_heads).transpose(1, 2)
        out: Tensor = self.out(attend(heads, key, value, visible, causal=causal).transpose(1, 2).flatten(2))
        return out


class FeedForward(nn.Module):
    """Pre-norm residual block d -> `expansion` d -> d."""

    def __init__(self, d_model: int, expansion: int) -> None:
        """`expansion` is the hidden width over `d_model`."""
        super().__init__()
        self.norm = nn.LayerNorm(d_model)
        self.inner = nn.Linear(d_model, expansion * d_model)
        self.out = nn.Linear(expansion * d_model, d_model)

    def forward(self, channels: Float[Tensor, "b q d"]) -> Float[Tensor, "b q d"]:
        """Add the block's output to its input."""
        out: Tensor = self.out(torch.relu(self.inner(self.norm(channels))).square())
        return channels + out


class AttentionBlock(nn.Module):
    """The set transformer's MAB with pre-norm: attention from a set of queries to a memory, then feed-forward."""

    def __init__(self, d_model: int, n_heads: int, expansion: int) -> None:
        """See `Attention` and `FeedForward`."""
        super().__init__()
        self.query_norm = nn.LayerNorm(d_model)
        self.memory_norm = nn.LayerNorm(d_model)
        self.attention = Attention(d_model, n_heads)
        self.feed_forward = FeedForward(d_model, expansion)

    def forward(
        self,
        query: Float[Tensor, "b q d"],
        memory: Float[Tensor, "b k d"],
        visible: Bool[Tensor, "#b #h #q k"] | None = None,
    ) -> Float[Tensor, "b q d"]:
        """Let `query` read `memory`; the order of the memory does not matter."""
        key, value = self.attention.keys_values(self.memory_norm(memory))
        mixed = query + self.attention(self.query_norm(query), key, value, visible)
        return self.feed_forward(mixed)  # type: ignore[no-any-return]


def initialise(module: nn.Module, n_residual: int, generator: torch.Generator | None) -> None:
    """Set every parameter below `module` from `generator`: Glorot matrices, unit norms, residual outputs scaled down.

    Args:
        module: what to initialise, in place.
        n_residual: number of residual branches in a row; outputs of branches are scaled by its inverse square root.
        generator: source of randomness; None draws from a fresh generator of seed 0.
    """
    generator = generator or torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            leaf = name.rsplit(".", 1)[-1]
            if leaf == "bias":
                parameter.zero_()
            elif parameter.ndim == 1:
                parameter.fill_(1.0)
            elif leaf == "weight" and not name.rsplit(".", 2)[-2].startswith("embed"):
                nn.init.xavier_uniform_(parameter, generator=generator)
                if name.endswith("out.weight"):
                    parameter.mul_(n_residual**-0.5)
            else:  # embeddings and learned queries
                parameter.normal_(std=0.5, generator=generator)
