"""Distinct complete expressions from the decoder: beam search and its random sister, sampling without replacement.

Both keep the best rows of each bag at every step; beam search ranks by log-probability, stochastic beam search (Kool,
van Hoof & Welling, ICML 2019, arXiv 1903.06059) by log-probability plus Gumbel noise that is kept consistent from
parent to child, which makes the survivors an exact sample without replacement. Independent sampling would spend most of
its rows on repetitions. Tokens that could not be completed within the length are masked, so every row ends as a whole
tree; the mask shapes what is drawn, never the log-probabilities that are reported: those are the decoder's own.

Rows of a bag are kept unfinished first, and the network runs on those only.

Legend: g bag, w row of a bag, l token position, m latent, d channel, v input variable, k class, n token kind, r row of the
cache (g w).
"""

from dataclasses import dataclass

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Float32, Float64, Int64
from torch import Tensor

from emlinit.generator.grammar import PAD, slots_opened
from emlinit.model.decoder import TreeDecoder
from emlinit.model.tree_cursor import TreeCursor
from emlinit.model.vocabulary import Vocabulary

DECODING_METHODS = ("sample", "beam")
"""Ways to choose the expressions: drawn without replacement, or the most probable."""


@dataclass(frozen=True)
class Decoded:
    """Distinct expressions of each bag, in no particular order."""

    classes: Int64[Tensor, "g w l"]
    """Class ids, padded with 0."""
    log_prob: Float64[Tensor, "g w"]
    """Log-probability of each expression under the decoder at temperature 1, -inf where a row is empty."""
    kind_log_probs: Float32[Tensor, "g w l n"]
    """Log-probabilities of all token kinds at each position, given the tokens before it; `PAD` for sure after the end."""


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
) -> Decoded:
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
    """
    device, n_bags = latents.device, len(latents)
    present = torch.cat([variable_mask.new_ones(1), variable_mask])[decoder.class_variable]
    usable = torch.nonzero(decoder.allowed.any(0) & present)[:, 0]  # PAD first; the exact grammar has few classes
    forbidden, n_classes = ~decoder.allowed[:, usable], len(usable)
    kind = vocabulary.kind_of_class().to(device)[usable]
    to_kind = torch.nn.functional.one_hot(kind, vocabulary.n_kinds).to(torch.float64)
    opens = slots_opened(kind)

    cursor = TreeCursor(n_bags, max_tokens + 1, device)
    cache = decoder.start(latents)
    log_prob = torch.zeros(n_bags, 1, dtype=torch.float64, device=device)
    drawn = log_prob.clone()  # log-probability under temperature, nucleus and the length
    rank = log_prob.clone()  # what rows compete by
    before = torch.zeros(n_bags, dtype=torch.int64, device=device)
    steps: list[tuple[Tensor, Tensor, Tensor]] = []
    n_live = 1  # the first rows of each bag are the unfinished ones
    for position in range(max_tokens):
        view = cursor.view()
        logits = decoder.step(before, view, cache)[:, usable].to(torch.float64)
        step = logits.masked_fill(forbidden[view.expected], -torch.inf).log_softmax(-1)
        completable = cursor.n_open[:, None] + opens <= max_tokens - position - 1
        drawn_step = (step / temperature).masked_fill(~completable, -torch.inf).log_softmax(-1)
        if top_p < 1:
            drawn_step = _nucleus(drawn_step, top_p)
        child_drawn = drawn[:, :n_live, None] + rearrange(drawn_step, "(g w) k -> g w k", g=n_bags)
        child_log_prob = log_prob[:, :n_live, None] + rearrange(step, "(g w) k -> g w k", g=n_bags)
        child_rank = child_drawn if method == "beam" else _perturb(child_drawn, rank[:, :n_live], generator)
        child_rank = torch.where(torch.isfinite(child_drawn), child_rank, -torch.inf)

        def extend(children: Tensor, rows: Tensor) -> Tensor:  # finished rows are their own only child
            return torch.cat([children.flatten(1), rows[:, n_live:]], dim=1)  # noqa: B023 (used at once)

        child_rank = extend(child_rank, rank)
        n_alive = int(torch.isfinite(child_rank).sum(-1).max())
        rank, chosen = child_rank.topk(min(n_rows, n_alive), dim=-1)
        drawn = extend(child_drawn, drawn).gather(1, chosen)
        log_prob = extend(child_log_prob, log_prob).gather(1, chosen)
        was_live = chosen < n_live * n_classes
        parent = torch.where(was_live, chosen // n_classes, chosen - n_live * (n_classes - 1))
        own_class = torch.where(was_live & torch.isfinite(rank), chosen % n_classes, 0)
        n_open = rearrange(cursor.n_open, "(g w) -> g w", g=n_bags).gather(1, parent.clamp_max(n_live - 1))
        n_open = n_open + opens[own_class]
        unfinished = was_live & torch.isfinite(rank) & (n_open > 0)

        order = (~unfinished).to(torch.int8).argsort(dim=-1, stable=True)
        rank, drawn, log_prob, parent, own_class = (
            values.gather(1, order) for values in (rank, drawn, log_prob, parent, own_class)
        )
        kind_log_probs = rearrange((step.exp() @ to_kind).log(), "(g w) n -> g w n", g=n_bags)
        steps.append((parent, usable[own_class], kind_log_probs))
        n_before, n_live = n_live, int(unfinished.sum(-1).max())
        if n_live == 0:
            break
        going_on = parent[:, :n_live].clamp_max(n_before - 1)
        rows = (going_on + n_before * torch.arange(n_bags, device=device)[:, None]).flatten()
        cursor.select(rows)
        cursor.advance(kind[own_class[:, :n_live]].flatten())
        cursor.n_open *= unfinished.gather(1, order)[:, :n_live].flatten()  # bags with fewer run finished rows along
        cache.select(rows)
        before = usable[own_class[:, :n_live]].flatten()
    return _trace_back(steps, log_prob.masked_fill(torch.isneginf(rank), -torch.inf))


def _trace_back(steps: list[tuple[Tensor, Tensor, Tensor]], log_prob: Tensor) -> Decoded:
    """Follow each row to its first token; a step is (parent row, class, kind log-probabilities of the live parents)."""
    row = repeat(torch.arange(log_prob.shape[1], device=log_prob.device), "w -> g w", g=len(log_prob))
    classes, kinds = [], []
    for parent, own_class, kind_log_probs in reversed(steps):
        classes.append(own_class.gather(1, row))
        row = parent.gather(1, row)
        n_live, n_kinds = kind_log_probs.shape[1:]
        ended = torch.full((len(row), 1, n_kinds), -torch.inf, dtype=torch.float64, device=row.device)
        ended[..., PAD] = 0.0
        places = repeat(row.clamp_max(n_live), "g w -> g w n", n=n_kinds)
        kinds.append(torch.cat([kind_log_probs, ended], dim=1).gather(1, places).to(torch.float32))
    return Decoded(torch.stack(classes[::-1], dim=-1), log_prob, torch.stack(kinds[::-1], dim=2))


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


def _nucleus(log_prob: Float64[Tensor, "r k"], top_p: float) -> Float64[Tensor, "r k"]:
    """Keep the smallest set of most probable classes that reaches `top_p`, renormalised."""
    ordered, order = log_prob.sort(dim=-1, descending=True)
    before = ordered.exp().cumsum(-1) - ordered.exp()
    kept = torch.where(before < top_p, ordered, -torch.inf)
    return torch.empty_like(kept).scatter_(-1, order, kept).log_softmax(-1)
