"""What arithmetic can see of random trees: values of three levels against the evaluator, and hardly a tree without a key."""

import pytest
import torch

from emlinit.benchmarks.trees.blind_spot import blind_spot, leveled_values
from emlinit.generator.corpus.examples import random_supports
from emlinit.generator.corpus.trees import trees_by_depth
from emlinit.generator.evaluate import evaluate
from emlinit.generator.grammar import from_text
from emlinit.generator.program import programs_from_tokens


def test_leveled_values_are_the_evaluators() -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = trees_by_depth(torch.full((500,), 6), torch.ones(500, 3, dtype=torch.bool), 0.3, generator)
    x = random_supports(500, 4, 3, generator, torch.device("cpu"))
    value, levels = leveled_values(tokens, x)
    result = evaluate(programs_from_tokens(tokens, torch.zeros(tokens.shape, dtype=torch.float64), 3), x)
    known = result.valid & value.real.isfinite()
    assert float(known.double().sum()) > 0.98 * float(result.valid.sum())
    assert int((known & (levels == 1)).sum()) > 100
    torch.testing.assert_close(value.real[known], result.value[known], rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize(
    ("text", "level", "expected"),
    [
        ("eml x1 1", 0, 20.085536923187668),
        ("eml 1 eml eml eml eml x1 1 1 1 1", 2, None),  # e - exp(exp(exp 3)), too large as it stands
        ("eml 1 eml eml 1 eml eml eml eml eml x1 1 1 1 1 1 1", 2, None),
        ("eml 1 eml eml eml x1 1 1 1", 1, 2.718281828459045 - 528491311.4854942),
    ],
)
def test_levels_are_those_of_the_largest_number_on_the_way(text: str, level: int, expected: float | None) -> None:
    value, levels = leveled_values(from_text(text)[0][None], torch.tensor([[[3.0]]], dtype=torch.float64))
    assert int(levels) == level
    if expected is None:
        assert not bool(value.real.isfinite())
    else:
        assert float(value.real) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("depth", [4, 6])
def test_hardly_a_tree_is_without_a_key(depth: int) -> None:
    counts = blind_spot(depth, 200, 3)
    assert sum(counts.by_levels) == counts.problems == 200
    assert counts.seen > 0.8 * counts.problems
    assert counts.with_key >= 0.98 * counts.seen
