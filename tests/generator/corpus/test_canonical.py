"""Labels without synonyms."""

import pytest
import torch

from emlinit.generator.corpus.canonical import Canonicaliser
from emlinit.generator.corpus.trees import trees_by_size
from emlinit.generator.evaluate import evaluate
from emlinit.generator.grammar import from_text, is_complete, pad_sequences, size, to_text
from emlinit.generator.program import programs_from_tokens


@pytest.fixture(scope="module")
def canonicaliser() -> Canonicaliser:
    return Canonicaliser(3, table_size=4)


@pytest.mark.parametrize(
    ("synonym", "canonical"),
    [
        ("eml eml 1 eml eml 1 x2 1 1", "x2"),  # exp(ln x)
        ("eml 1 eml eml 1 eml x2 1 1", "x2"),  # ln(exp x)
        ("eml x1 eml 1 eml eml 1 eml x1 1 1", "eml x1 x1"),
        ("eml eml eml 1 eml eml 1 x3 1 1 x2", "eml x3 x2"),
    ],
)
def test_synonyms_are_rewritten(canonicaliser: Canonicaliser, synonym: str, canonical: str) -> None:
    tokens, constants = from_text(synonym)
    rewritten, _ = canonicaliser(tokens[None])
    assert to_text(rewritten[0], torch.zeros(rewritten.shape[1], dtype=torch.float64)) == canonical
    assert not bool(constants.any())


def test_rewriting_never_changes_a_function_nor_makes_it_larger(canonicaliser: Canonicaliser) -> None:
    generator = torch.Generator().manual_seed(0)
    sizes = torch.randint(1, 13, (2000,), generator=generator)
    tokens = trees_by_size(sizes, torch.ones(2000, 3, dtype=torch.bool), 0.7, generator)
    rewritten, _ = canonicaliser(tokens)
    assert bool(is_complete(rewritten, 3).all())
    assert bool((size(rewritten) <= size(tokens)).all())
    assert int((size(rewritten) < size(tokens)).sum()) > 50
    x = 0.7 + torch.rand(6, 3, generator=generator, dtype=torch.float64)
    before, after = (
        evaluate(programs_from_tokens(t, torch.zeros(t.shape, dtype=torch.float64), 3), x) for t in (tokens, rewritten)
    )
    both = before.valid & after.valid
    assert float(both.double().mean()) > 0.4
    torch.testing.assert_close(before.value[both], after.value[both], rtol=1e-8, atol=1e-12)


def test_equal_functions_share_a_key(canonicaliser: Canonicaliser) -> None:
    texts = ["eml 1 eml eml 1 eml x1 x2 1", "eml 1 eml eml 1 eml x1 eml eml 1 eml eml 1 x2 1 1 1", "eml x1 x2"]
    tokens, _ = pad_sequences([from_text(text) for text in texts])
    _, keys = canonicaliser(tokens)
    assert keys[0] == keys[1] != keys[2]
