"""From data to candidate programs: bags of points are encoded, expressions are decoded for each, repetitions merged.

A bag is a random subset of the points, of about the size that pretraining showed; several bags see more of the data and
disagree where one of them was unlucky.

Legend: g bag, p point, v input variable, n proposal, l token position, k token kind.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float32, Float64, Int64
from numpy.typing import ArrayLike
from torch import Tensor

from emlinit.generator.errors import UserError
from emlinit.generator.program import Programs, programs_from_tokens
from emlinit.generator.records import first_of_each
from emlinit.model.decode import DECODING_METHODS, Decoded, decode
from emlinit.model.decoder import TreeDecoder
from emlinit.model.encoder import PointEncoder
from emlinit.model.vocabulary import Vocabulary

SPARE = 1.5
"""Candidates decoded for each one asked for, as bags repeat one another."""


@dataclass(frozen=True)
class Proposals:
    """Distinct candidates, likeliest first."""

    tokens: Int64[Tensor, "n l"]
    """Prefix token sequences, padded with `PAD`."""
    constants: Float64[Tensor, "n l"]
    """Coarse values of `c`, `w` and `j`."""
    log_prob: Float64[Tensor, " n"]
    """Log-probability under the decoder at temperature 1; the largest of those bags that proposed it."""
    kind_log_probs: Float32[Tensor, "n l k"]
    """Log-probabilities over all token kinds at each position: the routing logits of the slot that this token fills."""
    programs: Programs
    """The same candidates as programs over the variables of the data."""

    def __len__(self) -> int:
        return len(self.tokens)


def as_points(x: ArrayLike | Tensor, y: ArrayLike | Tensor, n_variables: int) -> tuple[Tensor, Tensor]:
    """Check data and convert it to float64 tensors of shapes (p, v) and (p,) on the CPU.

    Raises:
        UserError: other shapes, no point, more than `n_variables` columns, or values that are not finite.
    """
    points, targets = (_as_float64(values) for values in (x, y))
    if points.ndim != 2 or targets.ndim != 1 or len(points) != len(targets) or not len(targets):
        raise UserError(
            f"x should be (points, variables) and y (points,), got {tuple(points.shape)} and {tuple(targets.shape)}"
        )
    if not 1 <= points.shape[1] <= n_variables:
        raise UserError(f"the initialiser reads 1 to {n_variables} variables, got {points.shape[1]}: choose some")
    if not bool(torch.isfinite(points).all() & torch.isfinite(targets).all()):
        raise UserError("x and y should be finite: drop the rows with NaN or inf")
    return points, targets


def _as_float64(values: ArrayLike | Tensor) -> Tensor:
    if isinstance(values, Tensor):
        return values.detach().to("cpu", torch.float64)
    return torch.from_numpy(np.array(values, dtype=np.float64))


@torch.no_grad()
def propose(
    encoder: PointEncoder,
    decoder: TreeDecoder,
    vocabulary: Vocabulary,
    x: Float64[Tensor, "p v"],
    y: Float64[Tensor, " p"],
    n: int,
    *,
    generator: torch.Generator,
    temperature: float,
    top_p: float,
    method: str,
    max_tokens: int,
    n_bags: int,
    points_per_bag: int,
) -> Proposals:
    """See `EMLInitialiser.propose`."""
    if method not in DECODING_METHODS:
        raise UserError(f"unknown method '{method}': use one of {', '.join(DECODING_METHODS)}")
    if min(n, n_bags, points_per_bag) < 1 or not 1 <= max_tokens <= decoder.max_tokens:
        raise UserError(f"n, n_bags and points_per_bag start at 1; max_tokens is 1..{decoder.max_tokens}")
    if not (temperature > 0 and 0 < top_p <= 1):
        raise UserError(f"temperature should be above 0 and top_p in (0, 1], got {temperature} and {top_p}")
    bags = draw_bags(len(y), n_bags, points_per_bag, generator)
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    device = decoder.allowed.device
    every = torch.ones(bags.shape, dtype=torch.bool)
    latents, mask = encode_bags(encoder, vocabulary, x[bags], y[bags], every, device)
    decoded = decode(
        decoder,
        vocabulary,
        latents,
        mask,
        n if len(bags) == 1 else math.ceil(SPARE * n / len(bags)),
        method=method,
        temperature=temperature,
        top_p=top_p,
        max_tokens=max_tokens,
        generator=torch.Generator(device).manual_seed(seed),
    )
    together = Decoded(*(rearrange(part, "g w ... -> 1 (g w) ...") for part in vars(decoded).values()))
    return _proposals(together, 0, n, vocabulary, x.shape[1])


@torch.no_grad()
def propose_each(
    encoder: PointEncoder,
    decoder: TreeDecoder,
    vocabulary: Vocabulary,
    x: Float64[Tensor, "g p v"],
    y: Float64[Tensor, "g p"],
    point_mask: Bool[Tensor, "g p"],
    n: int,
    *,
    max_tokens: int,
) -> list[Proposals]:
    """See `EMLInitialiser.propose_each`."""
    device = decoder.allowed.device
    latents, mask = encode_bags(encoder, vocabulary, x, y, point_mask, device)
    decoded = decode(
        decoder, vocabulary, latents, mask, n, method="beam", temperature=1.0, top_p=1.0, max_tokens=max_tokens,
        generator=None,
    )  # fmt: skip
    return [_proposals(decoded, g, n, vocabulary, x.shape[-1]) for g in range(len(y))]


def encode_bags(
    encoder: PointEncoder, vocabulary: Vocabulary, x: Tensor, y: Tensor, point_mask: Tensor, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Latents (g, m, d) of bags x (g, p, v), y and mask (g, p), and which of the vocabulary's variables x has, bool (v,)."""
    padded = torch.nn.functional.pad(x, (0, vocabulary.n_variables - x.shape[-1])).to(device)
    mask = torch.arange(vocabulary.n_variables, device=device) < x.shape[-1]
    return encoder(padded, y.to(device), mask.expand(len(y), -1), point_mask.to(device)), mask


def _proposals(decoded: Decoded, bag: int, n: int, vocabulary: Vocabulary, n_variables: int) -> Proposals:
    """The n likeliest distinct candidates of one bag."""
    classes, log_prob = decoded.classes[bag], decoded.log_prob[bag]
    chosen = _distinct_best(classes, log_prob)[:n]
    length = max(int((classes[chosen] != 0).sum(-1).max()), 1) if len(chosen) else 1
    tokens, constants = (t.cpu() for t in vocabulary.dequantise(classes[chosen, :length]))
    return Proposals(
        tokens=tokens,
        constants=constants,
        log_prob=log_prob[chosen].cpu(),
        kind_log_probs=decoded.kind_log_probs[bag, chosen, :length].cpu(),
        programs=programs_from_tokens(tokens, constants, n_variables),
    )


def draw_bags(n_points: int, n_bags: int, points_per_bag: int, generator: torch.Generator) -> Int64[Tensor, "g p"]:
    """Indices of the points of each bag, without repetition within a bag; one bag of all points where they are few."""
    if n_points <= points_per_bag:
        return torch.arange(n_points)[None]
    order = [torch.randperm(n_points, generator=generator, device=generator.device) for _ in range(n_bags)]
    return torch.stack(order)[:, :points_per_bag].cpu()


def _distinct_best(classes: Int64[Tensor, "n l"], log_prob: Float64[Tensor, " n"]) -> Int64[Tensor, " r"]:
    """Rows to keep, likeliest first: of equal sequences the likeliest, and no empty ones."""
    order = log_prob.argsort(descending=True, stable=True)
    order = order[torch.isfinite(log_prob[order])]
    return order[first_of_each(classes[order])]
