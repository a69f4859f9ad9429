"""Set transformer over data points (Lee et al., ICML 2019, arXiv 1810.00825): linear in the number of points.

Points are embedded one by one, mixed by induced set attention blocks (ISAB: a few learned inducing points read the set,
then every point reads them back), pooled by learned seeds (PMA) to a fixed number of latents, and mixed once more.
The result depends neither on the order of the points nor on padding.

Legend: b batch, p point, v input variable, i inducing point, m latent, d channel.
"""

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float
from torch import Tensor, nn

from emlinit.model.attention import AttentionBlock
from emlinit.model.encoding import n_point_features, point_features


class InducedBlock(nn.Module):
    """ISAB: all-to-all mixing of a set through `n_inducing` learned points."""

    def __init__(self, d_model: int, n_heads: int, expansion: int, n_inducing: int) -> None:
        """See `AttentionBlock`; the cost is linear in the set's size times `n_inducing`."""
        super().__init__()
        self.inducing = nn.Parameter(torch.empty(n_inducing, d_model))
        self.gather = AttentionBlock(d_model, n_heads, expansion)
        self.spread = AttentionBlock(d_model, n_heads, expansion)

    def forward(
        self, points: Float[Tensor, "b p d"], visible: Bool[Tensor, "b 1 1 p"] | None
    ) -> Float[Tensor, "b p d"]:
        """Mix the visible points; padded rows come out as garbage that nothing may read."""
        summary = self.gather(repeat(self.inducing, "i d -> b i d", b=len(points)), points, visible)
        return self.spread(points, summary)  # type: ignore[no-any-return]


class PointEncoder(nn.Module):
    """Data points -> latents that describe the function behind them."""

    def __init__(
        self,
        n_variables: int,
        d_model: int,
        n_heads: int,
        *,
        expansion: int,
        n_blocks: int,
        n_inducing: int,
        n_latents: int,
        n_latent_blocks: int,
    ) -> None:
        """Build `n_blocks` ISABs and `n_latent_blocks` self-attention blocks over `n_latents` latents."""
        super().__init__()
        self.lift = nn.Linear(n_point_features(n_variables), 2 * d_model)
        self.project = nn.Linear(2 * d_model, d_model)
        self.blocks = nn.ModuleList(InducedBlock(d_model, n_heads, expansion, n_inducing) for _ in range(n_blocks))
        self.seeds = nn.Parameter(torch.empty(n_latents, d_model))
        self.pool = AttentionBlock(d_model, n_heads, expansion)
        self.latent_blocks = nn.ModuleList(AttentionBlock(d_model, n_heads, 4) for _ in range(n_latent_blocks))
        self.norm = nn.LayerNorm(d_model)

    def forward(
        self,
        x: Float[Tensor, "b p v"],
        y: Float[Tensor, "b p"],
        variable_mask: Bool[Tensor, "b v"],
        point_mask: Bool[Tensor, "b p"] | None,
    ) -> Float[Tensor, "b m d"]:
        """Encode bags of points; those False in `point_mask` have no influence (one must be True). None counts all of
        them, which is the same as a mask of True and faster."""
        visible = None
        if point_mask is not None:
            y = torch.where(point_mask, y, 0.0)
            x = torch.where(rearrange(point_mask, "b p -> b p 1"), x, 0.0)
            visible = rearrange(point_mask, "b p -> b 1 1 p")
        features = point_features(x, y, variable_mask)
        points = self.project(torch.relu(self.lift(features)).square())
        for block in self.blocks:
            points = block(points, visible)
        latents = self.pool(repeat(self.seeds, "m d -> b m d", b=len(points)), points, visible)
        for block in self.latent_blocks:
            latents = block(latents, latents)
        return self.norm(latents)  # type: ignore[no-any-return]
