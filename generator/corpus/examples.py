"""Training examples: programs with points and targets, and minibatches of them.

The points lie as users' tables have them: ranges, spacing and clusters. What cannot be computed reliably never becomes an
example: the points are those of the certified mask of `evaluate`, and a program is dropped that has too few of them or
hardly varies over them.

Legend: b batch, p point, v input variable, l token position.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from emlinit.generator.corpus.config import StreamConfig
from emlinit.generator.corpus.drawing import Drawn, pad_to
from emlinit.generator.errors import UserError
from emlinit.generator.evaluate import evaluate
from emlinit.generator.grammar import MAX_VARIABLES, PAD
from emlinit.generator.program import programs_from_tokens
from emlinit.generator.records import Records

LARGEST_IMAGINARY = 1e-9
"""Exact grammar: largest imaginary part of a target, in absolute values of its real part."""
LEAST_SPREAD, LEAST_RELATIVE_SPREAD = 1e-6, 1e-4
"""Smallest standard deviation of y: on its own, and in largest absolute values of y."""
WEIGHTED_RMS = (1e-3, 1e4)
"""Weighted grammar: root mean square of y, which users' tables are scaled to."""


MOST_IN_VAIN = 50_000
"""Programs that are drawn in a row without one example before the corpus is held to be empty."""


@dataclass(frozen=True, eq=False)
class Batch(Records):
    """One minibatch."""

    tokens: Int64[Tensor, "b l"]
    """Label: prefix tokens, padded with `PAD`."""
    constants: Float64[Tensor, "b l"]
    """Label: values of `c`, `w`, `j`."""
    x: Float64[Tensor, "b p v"]
    """Points; absent variables are 0. v = MAX_VARIABLES."""
    variable_mask: Bool[Tensor, "b v"]
    """Which variables the problem has."""
    y: Float64[Tensor, "b p"]
    """Targets."""
    point_mask: Bool[Tensor, "b p"]
    """Which points count."""

    def rows(self, index: Tensor | slice) -> "Batch":
        """Some examples, without the padding that they do not need."""
        some = super().rows(index)
        length = max(int((some.tokens != PAD).sum(-1).max()), 1) if len(some) else 1
        return replace(some, tokens=some.tokens[:, :length], constants=some.constants[:, :length])

    def __len__(self) -> int:
        return len(self.tokens)

    @classmethod
    def cat(cls, parts: Sequence["Batch"]) -> "Batch":
        """Join batches with the same number of points."""
        length = max(part.tokens.shape[1] for part in parts)
        padded = [
            replace(part, tokens=pad_to(part.tokens, length), constants=pad_to(part.constants, length))
            for part in parts
        ]
        return super().cat(padded)


def make_examples(drawn: Drawn, config: StreamConfig, generator: torch.Generator) -> Batch:
    """Give each program `config.max_points` points and targets, with noise on some of the weighted ones; drop the programs
    for which that cannot be done honestly.

    Args:
        drawn: the programs.
        config: grammar and limits.
        generator: source of points and noise, on the device of the programs.
    """
    n_rows, n_points = len(drawn), config.max_points
    mask = drawn.variable_mask
    x = random_supports(n_rows, 2 * n_points, config.max_variables, generator, drawn.tokens.device)
    x = x.masked_fill(~mask[:, None], 0.0)
    programs = programs_from_tokens(drawn.tokens, drawn.constants, config.max_variables)
    result = evaluate(programs, x, imag=config.grammar == "exact")
    usable = result.valid & (result.value.abs() <= config.largest_y)
    if result.imag is not None:
        usable &= result.imag.abs() <= LARGEST_IMAGINARY * result.value.abs()
    # The first usable points of each row, in their random order.
    first = torch.sort((~usable).byte(), dim=1, stable=True).indices[:, :n_points]
    y = result.value.gather(1, first)
    x = x.gather(1, first[..., None].expand(-1, -1, config.max_variables))
    spread = y.std(-1) if n_rows else y.new_empty(0)  # of nothing torch warns
    keep = (usable.sum(-1) >= n_points) & (spread > LEAST_RELATIVE_SPREAD * y.abs().amax(-1)) & (spread > LEAST_SPREAD)
    if config.grammar == "weighted":
        scale = y.square().mean(-1).sqrt()
        keep &= (scale > WEIGHTED_RMS[0]) & (scale < WEIGHTED_RMS[1])
        y = y + _noise(spread, n_points, config, generator)
    absent = MAX_VARIABLES - config.max_variables
    return Batch(
        drawn.tokens[keep],
        drawn.constants[keep],
        torch.nn.functional.pad(x[keep], (0, absent)),
        torch.nn.functional.pad(mask[keep], (0, absent)),
        y[keep],
        torch.ones_like(y[keep], dtype=torch.bool),
    )


def random_supports(
    n_rows: int,
    n_points: int,
    n_variables: int,
    generator: torch.Generator,
    device: torch.device,
    *,
    positive: float = 0.7,
) -> Float64[Tensor, "b p v"]:
    """Random points; every row and variable has its own range.

    A range is positive with probability `positive`, else of mixed sign. Its width is log-uniform over a factor of 40, its
    lower end anywhere from near zero to several widths. Points are uniform, log-uniform (positive ranges only), evenly
    spaced, or gathered in up to four clusters.
    """
    shape = (n_rows, n_variables, 1)

    def uniform(low: float, high: float, full: tuple[int, ...] = shape) -> Tensor:
        draw = torch.rand(full, generator=generator, device=device, dtype=torch.float64)
        return low + (high - low) * draw

    width = torch.exp(uniform(-1.2, 2.5))
    is_positive = uniform(0.0, 1.0) < positive
    low = torch.where(is_positive, torch.exp(uniform(-3.0, 1.2)), -width * uniform(0.1, 1.0))
    high = low + width
    unit = uniform(0.0, 1.0, (n_rows, n_variables, n_points))
    kind = uniform(0.0, 1.0)[..., 0]
    is_even, is_gathered = (kind >= 0.65) & (kind < 0.8), kind >= 0.8
    # An even spacing in more than one variable is a line unless each variable has its own order.
    order = torch.rand(int(is_even.sum()), n_points, generator=generator, device=device).argsort(-1)
    unit[is_even] = torch.linspace(0, 1, n_points, device=device, dtype=torch.float64)[order]
    n_gathered = int(is_gathered.sum())
    centre = uniform(0.0, 1.0, (n_gathered, 4))
    member = torch.randint(0, 4, (n_gathered, n_points), generator=generator, device=device)
    unit[is_gathered] = (centre.gather(1, member) + 0.1 * (unit[is_gathered] - 0.5)).clamp(0, 1)
    flat = low + (high - low) * unit
    log = torch.exp(low.abs().log() + (high.abs() / low.abs()).log() * unit)
    use_log = is_positive & (uniform(0.0, 1.0) < 0.2)
    return torch.where(use_log, log, flat).transpose(1, 2).contiguous()


def check_yield(n_in_vain: int) -> None:
    """Give up on a corpus that has no examples, as far as can be seen.

    Args:
        n_in_vain: programs drawn since the last one that became an example.

    Raises:
        UserError: there were `MOST_IN_VAIN` of them.
    """
    if n_in_vain >= MOST_IN_VAIN:
        raise UserError(
            f"none of {n_in_vain} random programs can be trained on: they are beyond the limits, have too large values or "
            "hardly vary; raise max-nodes, max-tokens or largest-y, or lower max-depth or one-share"
        )


def _noise(
    spread: Float64[Tensor, " b"], n_points: int, config: StreamConfig, generator: torch.Generator
) -> Float64[Tensor, "b p"]:
    """Gaussian noise for rows of this standard deviation: a level a row, log-uniform, and none for most rows."""
    low, high = math.log(config.least_noise), math.log(config.most_noise / config.least_noise)
    shape, device = (len(spread), 1), spread.device
    level = torch.exp(low + high * torch.rand(shape, generator=generator, device=device))
    level *= torch.rand(shape, generator=generator, device=device) < config.noise_share
    noise = torch.randn(len(spread), n_points, generator=generator, dtype=torch.float64, device=device)
    return level * spread[:, None] * noise
