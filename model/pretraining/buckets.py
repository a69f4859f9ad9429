"""Few shapes of minibatches: what is compiled or planned once a shape, and kept in memory once a shape, is made seldom.

Sizes are those of `n` a doubling: with 2 of them 8, 12, 16, 24, 32, 48, 64, ... Labels are padded up to the next one,
which changes nothing since a decoder does not look ahead; of the points the last few are left out, down to the next
one, so that all that are there count and no mask is needed: their number is random and so is their order.

Legend: b batch, p point, l token position.
"""

from dataclasses import replace

from emlinit.generator.corpus.drawing import pad_to
from emlinit.generator.corpus.examples import Batch


def bucket_at_most(n: int, per_doubling: int) -> int:
    """The largest size that is at most n, for n >= 1."""
    base: int = 1 << (n.bit_length() - 1)
    steps = min(per_doubling, base)
    return base + (n - base) * steps // base * base // steps


def bucket_at_least(n: int, per_doubling: int) -> int:
    """The smallest size that is at least n, for n >= 1."""
    below = bucket_at_most(n, per_doubling)
    if below == n:
        return n
    base: int = 1 << (below.bit_length() - 1)
    return below + base // min(per_doubling, base)


def bucketed(batch: Batch, per_doubling: int, max_tokens: int) -> Batch:
    """The minibatch in a size of which there are few; as it is if `per_doubling` is 0.

    Args:
        batch: points that count come first in every row.
        per_doubling: sizes a doubling, a power of 2.
        max_tokens: longest label, which is a size as well.
    """
    if not per_doubling:
        return batch
    n_points = bucket_at_most(batch.y.shape[1], per_doubling)
    length = min(max_tokens, bucket_at_least(batch.tokens.shape[1], per_doubling))
    return replace(
        batch,
        tokens=pad_to(batch.tokens, length),
        constants=pad_to(batch.constants, length),
        x=batch.x[:, :n_points],
        y=batch.y[:, :n_points],
        point_mask=batch.point_mask[:, :n_points],
    )


def parts_of(batch: Batch, n_rows: int) -> list[Batch]:
    """The minibatch in parts of at most `n_rows` examples; whole if that is 0."""
    if not 0 < n_rows < len(batch):
        return [batch]
    return [batch.rows(slice(first, first + n_rows)) for first in range(0, len(batch), n_rows)]
