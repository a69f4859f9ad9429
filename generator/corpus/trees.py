"""Random trees as token sequences: by size (uniform over shapes), by depth, and weighted (constants in the slots).

Shapes of a given size are drawn uniformly by the cycle lemma: of the rotations of a random word with n `eml` and n + 1
leaves exactly one is a prefix expression (Dvoretzky & Motzkin 1947; Łukasiewicz words). Everything is batched.

Legend: b batch, l token position (m after constants are added), v input variable.
"""

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from emlinit.generator.grammar import EML, ONE, PAD, PLUS, X1, C, W

OTHER_CHILD_LEAF = 0.55
"""In trees drawn by depth: probability that the child off the longest path is a leaf."""


def trees_by_size(
    size: Int64[Tensor, " b"], variable_mask: Bool[Tensor, "b v"], one_share: float, generator: torch.Generator
) -> Int64[Tensor, "b l"]:
    """Exact trees with `size` eml nodes each, uniform over shapes; leaves as `random_leaves` draws them."""
    length = 2 * size + 1
    longest = int(length.max()) if len(size) else 1
    place = torch.arange(longest, device=size.device)
    inside = place < length[:, None]
    # A random order of the word, padding last: the first `size` of the ranks are eml, the others leaves.
    noise = torch.rand(len(size), longest, generator=generator, device=size.device).masked_fill(~inside, 2.0)
    order = noise.argsort(-1)
    is_eml = torch.zeros_like(inside).scatter(1, order, place < size[:, None]) & inside
    height = torch.cumsum(torch.where(is_eml, 1, -1), -1).masked_fill(~inside, longest)
    # After the first minimum of the walk the word, read cyclically, is a prefix expression.
    start = height.argmin(-1) + 1
    rotated = (place + start[:, None]) % length[:, None]
    is_eml = is_eml.gather(1, rotated)
    leaves = random_leaves(variable_mask, longest, one_share, generator)
    return torch.where(inside, torch.where(is_eml, EML, leaves), PAD)


def trees_by_depth(
    depth: int, variable_mask: Bool[Tensor, "b v"], one_share: float, generator: torch.Generator
) -> Int64[Tensor, "b l"]:
    """Exact trees of exactly `depth`: one child, on a random side, continues the longest path; the other is a leaf with
    probability `OTHER_CHILD_LEAF`, else of a smaller random depth."""
    n_rows, device = len(variable_mask), variable_mask.device
    if depth == 0 or not n_rows:
        return random_leaves(variable_mask, 1, one_share, generator)
    deep = trees_by_depth(depth - 1, variable_mask, one_share, generator)
    draw = torch.rand(n_rows, generator=generator, device=device)
    spread = torch.randint(1, max(depth, 2), (n_rows,), generator=generator, device=device)
    other_depth = torch.where((draw < OTHER_CHILD_LEAF) | (depth == 1), 0, spread)
    other = torch.full((n_rows, 1), PAD, dtype=torch.int64, device=device)
    for level in range(depth):
        rows = torch.nonzero(other_depth == level)[:, 0]
        if len(rows):
            part = trees_by_depth(level, variable_mask[rows], one_share, generator)
            if part.shape[1] > other.shape[1]:
                other = torch.nn.functional.pad(other, (0, part.shape[1] - other.shape[1]), value=PAD)
            other[rows, : part.shape[1]] = part
    swap = torch.rand(n_rows, generator=generator, device=device)[:, None] < 0.5
    width = max(deep.shape[1], other.shape[1])
    deep, other = (torch.nn.functional.pad(t, (0, width - t.shape[1]), value=PAD) for t in (deep, other))
    first, second = torch.where(swap, other, deep), torch.where(swap, deep, other)
    place = torch.arange(2 * width + 1, device=device)[None]
    split = 1 + (first != PAD).sum(-1, keepdim=True)
    from_first = torch.cat([first, torch.full_like(first[:, :1], PAD)], 1).gather(
        1, (place - 1).clamp(0, width).expand(n_rows, -1)
    )
    from_second = torch.cat([second, torch.full_like(second[:, :1], PAD)], 1).gather(1, (place - split).clamp(0, width))
    tokens = torch.where(place < split, from_first, from_second)
    tokens[:, 0] = EML
    return tokens[:, : int((tokens != PAD).sum(-1).max())]


def random_leaves(
    variable_mask: Bool[Tensor, "b v"], length: int, one_share: float, generator: torch.Generator
) -> Int64[Tensor, "b l"]:
    """Leaves: the constant 1 with probability `one_share`, else one of the row's variables, all alike."""
    n_rows, device = len(variable_mask), variable_mask.device
    chance = variable_mask.double() + 1e-12
    variable = torch.multinomial(chance, length, replacement=True, generator=generator)
    is_one = torch.rand(n_rows, length, generator=generator, device=device) < one_share
    return torch.where(is_one, ONE, X1 + variable)


def add_constants(
    tokens: Int64[Tensor, "b l"],
    variable_mask: Bool[Tensor, "b v"],
    generator: torch.Generator,
    *,
    constant_share: float = 0.25,
    factor_share: float = 0.35,
    extra_share: float = 0.06,
) -> tuple[Int64[Tensor, "b m"], Float64[Tensor, "b m"]]:
    """Weighted trees from exact ones: slots gain a constant, a factor, and now and then a linear term in a variable.

    A slot that held 1 may hold a constant instead. The result is in slot normal form: `+ c + w x_k w source`.
    """
    n_rows, length = tokens.shape
    device = tokens.device

    def chance(share: float) -> Tensor:
        return torch.rand(n_rows, length, generator=generator, device=device) < share

    is_source = (tokens == EML) | (tokens >= X1)
    to_constant = (tokens == ONE) & chance(constant_share)
    with_constant = is_source & chance(constant_share)
    with_factor = is_source & chance(factor_share)
    extra = random_leaves(variable_mask, length, 0.0, generator)
    with_extra = (tokens == EML) & chance(extra_share)
    width = 2 * with_constant.long() + 3 * with_extra.long() + with_factor.long() + (tokens != PAD).long()
    end = torch.cumsum(width, -1)
    longest = int(end[:, -1].max()) if n_rows else 0
    out = torch.full((n_rows, longest), PAD, dtype=torch.int64, device=device)
    cursor = end - width

    def put(where: Tensor, kind: Tensor | int) -> None:
        row, position = torch.nonzero(where, as_tuple=True)
        out[row, cursor[row, position]] = kind[row, position] if isinstance(kind, Tensor) else kind
        cursor.add_(where.long())

    for where, kinds in ((with_constant, (PLUS, C)), (with_extra, (PLUS, W, extra)), (with_factor, (W,))):
        for kind in kinds:
            put(where, kind)
    put(tokens != PAD, torch.where(to_constant, C, tokens))
    constants = random_constants(out.shape, generator, device)
    return out, torch.where((out == C) | (out == W), constants, 0.0)


def random_constants(
    shape: torch.Size | tuple[int, ...], generator: torch.Generator, device: torch.device
) -> Float64[Tensor, "..."]:
    """Constants as laws have them: log-normal around 1 (a factor of 4 at one standard deviation), either sign, a third of
    them a small multiple of 1/2."""
    magnitude = torch.exp(1.4 * torch.randn(shape, generator=generator, device=device, dtype=torch.float64))
    nice = (2 * magnitude).round().clamp_min(1.0) / 2
    is_nice = torch.rand(shape, generator=generator, device=device) < 1 / 3
    sign = torch.where(torch.rand(shape, generator=generator, device=device) < 0.4, -1.0, 1.0)
    return torch.where(is_nice, nice, magnitude).clamp(1e-3, 1e3) * sign
