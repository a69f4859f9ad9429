"""What a decoder holds of given programs: their log-probabilities, given data, whoever wrote them.

Of a token with a constant two things may be asked: how likely its class is, the coarse value included, or how likely its
kind alone, whatever the value.

Legend: n program, g bag, p point, v input variable, l token position, k class.
"""

import math

import torch
from einops import repeat
from jaxtyping import Float64, Int64
from torch import Tensor

from emlinit.generator.grammar import PAD, is_complete
from emlinit.model.decoder import TreeDecoder
from emlinit.model.encoder import PointEncoder
from emlinit.model.propose import draw_bags, encode_bags
from emlinit.model.tree_cursor import walk
from emlinit.model.vocabulary import Vocabulary


@torch.no_grad()
def log_probabilities(
    encoder: PointEncoder,
    decoder: TreeDecoder,
    vocabulary: Vocabulary,
    tokens: Int64[Tensor, "n l"],
    constants: Float64[Tensor, "n l"],
    x: Float64[Tensor, "p v"],
    y: Float64[Tensor, " p"],
    *,
    generator: torch.Generator,
    n_bags: int,
    points_per_bag: int,
    values: bool,
) -> Float64[Tensor, " n"]:
    """See `EMLInitialiser.log_prob`."""
    result = torch.full((len(tokens),), -torch.inf, dtype=torch.float64)
    length = (tokens != PAD).sum(-1)
    rows = (is_complete(tokens, x.shape[1]) & (length <= decoder.max_tokens)).nonzero()[:, 0]
    if not len(rows):
        return result
    device = decoder.allowed.device
    longest = int(length[rows].max())
    tokens, constants = tokens[rows, :longest].to(device), constants[rows, :longest].to(device)
    bags = draw_bags(len(y), n_bags, points_per_bag, generator)
    every = torch.ones(bags.shape, dtype=torch.bool)
    latents, present = encode_bags(encoder, vocabulary, x[bags], y[bags], every, device)
    classes, slots = vocabulary.quantise(tokens, constants), walk(tokens)
    legal = decoder.legal(slots.expected, present.expand(len(rows), -1))
    kind = vocabulary.kind_of_class().to(device)
    chosen = torch.arange(vocabulary.n_classes, device=device) == classes[..., None]
    chosen = chosen if values else kind == tokens[..., None]
    of_bags = []
    for bag in latents:
        logits = decoder(classes, slots, repeat(bag, "m d -> n m d", n=len(rows))).double()
        logits = logits.masked_fill(~legal, -torch.inf)
        log_prob = logits.masked_fill(~chosen, -torch.inf).logsumexp(-1) - logits.logsumexp(-1)
        of_bags.append(torch.where(tokens != PAD, log_prob, 0.0).sum(-1))
    result[rows] = (torch.stack(of_bags).logsumexp(0) - math.log(len(of_bags))).cpu()
    return result
