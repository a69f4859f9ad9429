"""Distinct complete expressions from the decoder: beam search and its random sister, sampling without replacement.

Both keep the best rows of each bag at every step; beam search ranks by log-probability, stochastic beam search (Kool,
van Hoof & Welling, ICML 2019, arXiv 1903.06059) by log-probability plus Gumbel noise that is kept consistent from
parent to child, which makes the survivors an exact sample without replacement. Independent sampling would spend most of
its rows on repetitions. Tokens that could not be completed within the length are masked, so every row ends as a whole
tree.

Legend: g bag, w row of a bag, l token position, m latent, d channel, v input variable, k class.
"""

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from emlinit.generator.grammar import EML, PAD, PLUS, J, W
from emlinit.model.decoder import TreeDecoder
from emlinit.model.tree_cursor import TreeCursor
from emlinit.model.vocabulary import Vocabulary

METHODS = ("sample", "beam")


@torch.no_grad()
def decode(
    decoder: TreeDecoder,
    vocabulary: Vocabulary,
    latents: Float[Tensor, "g m d"],
    variable_mask: Bool[Tensor, " v"],
    n_rows: int,
    *,
    method: str,
    temperature: float,
    top_p: float,
    max_tokens: int,
    generator: torch.Generator | None,
) -> tuple[Int64[Tensor, "g w l"], Float64[Tensor, "g w"]]:
    """Write up to `n_rows` distinct expressions for each bag.

    Args:
        decoder: the decoder.
        vocabulary: its classes.
        latents: encoded bags.
        variable_mask: which variables the data has.
        n_rows: most expressions of a bag.
        method: `sample` (without replacement) or `beam` (the most probable; `generator` is not used).
        temperature: divides the logits that rows are drawn from; above 1 for more variety.
        top_p: nucleus: at each step only the most probable classes that together reach this share are drawn.
        max_tokens: longest expression, 1..`decoder.max_tokens`.
        generator: source of randomness, on the latents' device.

    Returns:
        class ids, padded with 0, and the log-probability of each expression under the decoder at temperature 1
        (-inf: the row is empty).
    """
    device = latents.device
    n_bags = len(latents)
    kind = vocabulary.kind_of_class().to(device)
    opens = torch.where((kind == EML) | (kind == PLUS), 1, -1)
    opens[(kind == PAD) | (kind == W) | (kind == J)] = 0
    cursor = TreeCursor(n_bags, max_tokens + 1, device)
    cache = decoder.start(latents)
    classes = torch.zeros(n_bags, 1, 0, dtype=torch.int64, device=device)
    log_prob = torch.zeros(n_bags, 1, dtype=torch.float64, device=device)
    drawn = log_prob.clone()  # log-probability under temperature and nucleus
    rank = log_prob.clone()  # what rows compete by
    before = torch.zeros(n_bags, dtype=torch.int64, device=device)
    for position in range(max_tokens):
        view = cursor.view()
        logits = decoder.step(before, view, cache).to(torch.float64)
        legal = decoder.legal(view.expected, variable_mask.expand(len(before), -1))
        legal &= cursor.n_open[:, None] + opens <= max_tokens - position - 1
        logits = logits.masked_fill(~legal, -torch.inf).view(n_bags, -1, len(kind))
        step_log_prob = logits.log_softmax(-1)
        drawn_step = step_log_prob if temperature == 1 else (logits / temperature).log_softmax(-1)
        if top_p < 1:
            drawn_step = _nucleus(drawn_step, top_p)
        child_drawn = drawn[..., None] + drawn_step
        child_rank = child_drawn if method == "beam" else _perturb(child_drawn, rank, generator)
        alive = torch.isfinite(child_drawn)
        child_rank = torch.where(alive, child_rank, -torch.inf).flatten(1)
        width = min(n_rows, int(alive.flatten(1).sum(-1).max()))
        rank, chosen = child_rank.topk(width, dim=-1)
        parent, before_rows = chosen // len(kind), chosen % len(kind)
        drawn = child_drawn.flatten(1).gather(1, chosen).masked_fill(torch.isneginf(rank), -torch.inf)
        log_prob = (log_prob[..., None] + step_log_prob).flatten(1).gather(1, chosen)
        earlier = classes.gather(1, parent[..., None].expand(-1, -1, position))
        classes = torch.cat([earlier, before_rows[..., None]], dim=-1)
        before = before_rows.flatten()
        n_before = logits.shape[1]
        rows = (parent + n_before * torch.arange(n_bags, device=device)[:, None]).flatten()
        cursor.select(rows)
        cursor.advance(kind[before])
        cache.select(rows)
        if not bool(((cursor.n_open.view(n_bags, -1) > 0) & torch.isfinite(drawn)).any()):
            break
    return classes, log_prob.masked_fill(torch.isneginf(drawn), -torch.inf)


def _perturb(
    child: Float64[Tensor, "g w k"], parent_rank: Float64[Tensor, "g w"], generator: torch.Generator | None
) -> Float64[Tensor, "g w k"]:
    """Gumbel-perturbed log-probabilities of children, conditioned on their maximum being the parent's."""
    uniform = torch.rand(child.shape, dtype=torch.float64, device=child.device, generator=generator)
    noisy = child - torch.log(-torch.log(uniform.clamp(1e-300, 1 - 1e-16)))
    parent = parent_rank[..., None]
    below = noisy - noisy.amax(-1, keepdim=True)  # <= 0, -inf where the child is impossible
    log1mexp = torch.where(below > -0.693, torch.log(-torch.expm1(below)), torch.log1p(-torch.exp(below)))
    shift = parent - noisy + log1mexp
    return parent - torch.relu(shift) - torch.log1p(torch.exp(-shift.abs()))


def _nucleus(log_prob: Float64[Tensor, "g w k"], top_p: float) -> Float64[Tensor, "g w k"]:
    """Keep the smallest set of most probable classes that reaches `top_p`, renormalised."""
    ordered, order = log_prob.sort(dim=-1, descending=True)
    before = ordered.exp().cumsum(-1) - ordered.exp()
    kept = torch.where(before < top_p, ordered, -torch.inf)
    return torch.empty_like(kept).scatter_(-1, order, kept).log_softmax(-1)
