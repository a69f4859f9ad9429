"""Decoding step by step says what the whole forward pass says, and draws what it should draw."""

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from emlinit.generator.grammar import EML, ONE, PAD, X1, is_complete
from emlinit.model import EMLInitialiser
from emlinit.model.decode import Decoded, decode

CACHE_TOLERANCE = 1e-4
"""Nats between cached steps and the full pass: float32 sums of up to 24 tokens, in another order."""
TWO_VARIABLES = torch.tensor([True, True, False, False, False])


def _bags(model: EMLInitialiser, n_bags: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    x = torch.nn.functional.pad(torch.rand(n_bags, 9, 2, dtype=torch.float64, generator=generator) + 1, (0, 3))
    y = 10 * torch.randn(n_bags, 9, dtype=torch.float64, generator=generator)
    points = torch.ones(n_bags, 9, dtype=torch.bool)
    with torch.no_grad():
        return x, y, model.encoder(x, y, TWO_VARIABLES.expand(n_bags, -1), points)


def _decode(model: EMLInitialiser, latents: Tensor, n_rows: int, **options: object) -> Decoded:
    settings: dict[str, object] = {
        "method": "sample",
        "temperature": 1.0,
        "top_p": 1.0,
        "max_tokens": 12,
        "generator": torch.Generator().manual_seed(0),
    }
    return decode(model.decoder, model.vocabulary, latents, TWO_VARIABLES, n_rows, **(settings | options))  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["sample", "beam"])
@pytest.mark.parametrize("grammar", ["exact", "weighted"])
def test_cached_steps_equal_the_full_forward(grammar: str, method: str, tiny: Callable[[str], EMLInitialiser]) -> None:
    model = tiny(grammar)
    x, y, latents = _bags(model, 2)
    decoded = _decode(model, latents, 40, method=method, temperature=1.5)
    kind_of_class = model.vocabulary.kind_of_class()
    at_the_cap = 0
    for bag in range(2):
        kept = torch.isfinite(decoded.log_prob[bag])
        tokens, constants = model.vocabulary.dequantise(decoded.classes[bag, kept])
        n = len(tokens)
        assert n >= 20
        assert bool(is_complete(tokens, 2).all())
        assert len(set(map(tuple, decoded.classes[bag, kept].tolist()))) == n
        at_the_cap += int((tokens != PAD).all(-1).sum())
        with torch.no_grad():
            logits, classes, grammatical = model(
                tokens,
                constants,
                x[bag].expand(n, -1, -1),
                y[bag].expand(n, -1),
                TWO_VARIABLES.expand(n, -1),
                torch.ones(n, 9, dtype=torch.bool),
            )
        log_probs = logits.log_softmax(-1)
        assert bool(grammatical.all())
        assert torch.equal(classes, decoded.classes[bag, kept])
        total = torch.where(tokens != PAD, log_probs.gather(-1, classes[..., None])[..., 0], 0.0).double().sum(-1)
        assert float((total - decoded.log_prob[bag, kept]).abs().max()) < CACHE_TOLERANCE
        of_kind = [log_probs[..., kind_of_class == kind].exp().sum(-1) for kind in range(model.vocabulary.n_kinds)]
        torch.testing.assert_close(decoded.kind_log_probs[bag, kept].exp(), torch.stack(of_kind, dim=-1))
    # The length masks what is drawn at the cap, and must not enter the log-probabilities: the case has to occur.
    assert at_the_cap > 0 or method == "beam"


@pytest.mark.parametrize("grammar", ["exact", "weighted"])
def test_bags_do_not_see_each_other(grammar: str, tiny: Callable[[str], EMLInitialiser]) -> None:
    model = tiny(grammar)
    _, _, latents = _bags(model, 3)
    together = _decode(model, 3 * latents, 12, method="beam")
    for bag in range(3):
        alone = _decode(model, 3 * latents[bag : bag + 1], 12, method="beam")
        length = min(alone.classes.shape[2], together.classes.shape[2])
        assert not bool(alone.classes[0, :, length:].any() | together.classes[bag, :, length:].any())
        expected = {tuple(row[:length]) for row in alone.classes[0].tolist()}
        assert {tuple(row[:length]) for row in together.classes[bag].tolist()} == expected
        torch.testing.assert_close(together.log_prob[bag].sort().values, alone.log_prob[0].sort().values)


def _small_trees(max_nodes: int) -> list[list[int]]:
    by_size: list[list[list[int]]] = [[[ONE], [X1], [X1 + 1]]]
    for n in range(1, max_nodes + 1):
        pairs = (itertools.product(by_size[i], by_size[n - 1 - i]) for i in range(n))
        by_size.append([[EML, *left, *right] for left, right in itertools.chain(*pairs)])
    return [tree for trees in by_size for tree in trees]


def _probabilities(model: EMLInitialiser, decoded: Decoded, max_tokens: int) -> dict[tuple[int, ...], float]:
    """What sampling should draw: the decoder's probabilities, renormalised over tokens that can still be completed."""
    tokens, _ = model.vocabulary.dequantise(decoded.classes[0])
    probabilities = {}
    for row, kinds in enumerate(tokens.tolist()):
        n_open, probability = 1, 1.0
        for place, kind in enumerate(k for k in kinds if k != PAD):
            share = decoded.kind_log_probs[0, row, place].double().exp()
            if n_open + 1 > max_tokens - place - 1:
                share[EML] = 0.0
            probability *= float(share[kind] / share.sum())
            n_open += 1 if kind == EML else -1
        probabilities[tuple(k for k in kinds if k != PAD)] = probability
    return probabilities


def test_wide_decoding_finds_every_expression(tiny: Callable[[str], EMLInitialiser]) -> None:
    model = tiny("exact")
    _, _, latents = _bags(model, 1)
    every = {tuple(tree) for tree in _small_trees(2)}
    assert len(every) == 3 + 9 + 54
    for method in ("sample", "beam"):
        decoded = _decode(model, latents, 1000, method=method, max_tokens=5)
        assert bool(torch.isfinite(decoded.log_prob).all())
        probabilities = _probabilities(model, decoded, 5)
        assert set(probabilities) == every
        assert sum(probabilities.values()) == pytest.approx(1.0, abs=1e-5)


def test_samples_are_drawn_without_replacement_and_with_their_probabilities(
    tiny: Callable[[str], EMLInitialiser],
) -> None:
    model = tiny("exact")
    _, _, latents = _bags(model, 1)
    probabilities = _probabilities(model, _decode(model, latents, 100, max_tokens=5), 5)
    n_draws = 4000
    pairs = _decode(model, latents.expand(n_draws, -1, -1), 2, max_tokens=5)
    tokens, _ = model.vocabulary.dequantise(pairs.classes.flatten(0, 1))
    drawn = [tuple(k for k in row if k != PAD) for row in tokens.tolist()]
    assert all(first != second for first, second in zip(drawn[::2], drawn[1::2], strict=True))
    for tree, p in probabilities.items():
        # First, or second after any other tree.
        included = p + sum(q * p / (1 - q) for other, q in probabilities.items() if other != tree)
        error = (included * (1 - included) / n_draws) ** 0.5
        assert abs(drawn.count(tree) / n_draws - included) < 5 * error + 1e-12


def test_a_small_nucleus_is_greedy(tiny: Callable[[str], EMLInitialiser]) -> None:
    model = tiny("weighted")
    _, _, latents = _bags(model, 2)
    greedy = _decode(model, latents, 8, top_p=1e-9)
    cold = _decode(model, latents, 1, temperature=1e-4, generator=torch.Generator().manual_seed(9))
    assert greedy.classes.shape[1] == 1
    assert torch.equal(greedy.classes, cold.classes)
