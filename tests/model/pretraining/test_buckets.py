"""Minibatches of few shapes: labels padded, points left out, nothing else changed."""

from collections.abc import Callable

import pytest
import torch

from emlinit.generator.corpus.examples import Batch
from emlinit.generator.grammar import PAD
from emlinit.model import EMLInitialiser
from emlinit.model.pretraining.buckets import bucket_at_least, bucket_at_most, bucketed, parts_of
from emlinit.model.pretraining.scores import Scorer


@pytest.mark.parametrize(
    ("per_doubling", "sizes"),
    [
        (1, [1, 2, 4, 8, 16, 32, 64]),
        (2, [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64]),
        (4, [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64]),
    ],
)
def test_sizes_are_few_and_near(per_doubling: int, sizes: list[int]) -> None:
    for n in range(1, 65):
        assert bucket_at_most(n, per_doubling) == max(size for size in sizes if size <= n)
        assert bucket_at_least(n, per_doubling) == min(size for size in sizes if size >= n)


def test_labels_are_padded_and_points_left_out(
    tiny: Callable[[str], EMLInitialiser], example_batch: Callable[[str], Batch]
) -> None:
    batch = example_batch("weighted").rows(slice(60, 100))  # 12 points
    few = bucketed(batch, 1, 24)
    length = batch.tokens.shape[1]
    assert few.y.shape == few.point_mask.shape == few.x.shape[:2] == (40, 8)
    assert torch.equal(few.x, batch.x[:, :8])
    assert length < few.tokens.shape[1] in (8, 16, 24)
    assert torch.equal(few.tokens[:, :length], batch.tokens)
    assert bool((few.tokens[:, length:] == PAD).all())
    assert bucketed(batch, 0, 24) is batch
    # Padding of labels is not seen: the same 8 points give the same scores.
    score = Scorer("float32", torch.device("cpu"))
    unpadded = Batch(batch.tokens, batch.constants, few.x, batch.variable_mask, few.y, few.point_mask)
    torch.testing.assert_close(score(tiny("weighted"), few).loss, score(tiny("weighted"), unpadded).loss)


def test_parts_make_the_whole(example_batch: Callable[[str], Batch]) -> None:
    batch = example_batch("exact").rows(slice(0, 50))
    parts = parts_of(batch, 16)
    assert [len(part) for part in parts] == [16, 16, 16, 2]
    assert torch.equal(torch.cat([part.y for part in parts]), batch.y)
    assert all(parts_of(batch, n) == [batch] for n in (0, 50, 64))
