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
    depth: Int64[Tensor, " b"], variable_mask: Bool[Tensor, "b v"], one_share: float, generator: torch.Generator
) -> Int64[Tensor, "b l"]:
    """Exact trees of exactly `depth`: one child, on a random side, continues the longest path; the other is a leaf with
    probability `OTHER_CHILD_LEAF`, else of a smaller random depth, uniform.

    Grown from the root, all trees of the batch level by level: `pending` holds, row after row in prefix order, the depths of
    the subtrees that are not written yet and -1 for each `eml` that is. A step writes the root of every pending subtree.
    """
    n_rows, device = len(depth), depth.device
    row = torch.arange(n_rows, device=device)
    pending = depth
    for _ in range(int(depth.max()) if n_rows else 0):
        grows = pending > 0
        above = pending[grows]
        draw = torch.rand(2, len(above), generator=generator, device=device, dtype=torch.float64)
        spread = 1 + ((draw[0] - OTHER_CHILD_LEAF) / (1 - OTHER_CHILD_LEAF) * (above - 1)).long()
        other = torch.where((draw[0] < OTHER_CHILD_LEAF) | (above == 1), 0, spread)
        swap = draw[1] < 0.5
        # An element that grows becomes three: the operator and its operands.
        end = (1 + 2 * grows.long()).cumsum(0)
        origin = torch.repeat_interleave(end - torch.nn.functional.pad(end[:-1], (1, 0)))
        row, pending = row[origin], pending[origin]
        place = end[grows]
        pending[place - 3] = -1
        pending[place - 2] = torch.where(swap, other, above - 1)
        pending[place - 1] = torch.where(swap, above - 1, other)
    length = torch.bincount(row, minlength=n_rows)
    longest = int(length.max()) if n_rows else 1
    place = torch.arange(longest, device=device)
    inside = place < length[:, None]
    is_eml = torch.zeros_like(inside).masked_scatter(inside, pending < 0)
    leaves = random_leaves(variable_mask, longest, one_share, generator)
    return torch.where(inside, torch.where(is_eml, EML, leaves), PAD)


def random_leaves(
    variable_mask: Bool[Tensor, "b v"], length: int, one_share: float, generator: torch.Generator
) -> Int64[Tensor, "b l"]:
    """Leaves: the constant 1 with probability `one_share`, else one of the row's variables (it has one at least), all
    alike."""
    n_rows, device = len(variable_mask), variable_mask.device
    draw = torch.rand(n_rows, length, generator=generator, device=device)
    count = variable_mask.sum(-1, keepdim=True)
    # What is left of the draw above `one_share` is uniform, too.
    number = ((draw - one_share) / (1 - one_share) * count).long().clamp_min(0)
    present = (~variable_mask).byte().argsort(dim=-1, stable=True)
    variable = present.gather(1, torch.minimum(number, count - 1).clamp_min(0))
    return torch.where(draw < one_share, ONE, X1 + variable)


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
