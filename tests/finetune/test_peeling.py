"""Inversion gives the values of the open subtree, guesses land in its place, and peeling reaches what sampling missed."""

import time

import pytest
import torch

from emlinit.finetune.exact_search import relative_loss
from emlinit.finetune.peeling import PeelConfig, _embed, _invert, _State, peel
from emlinit.generator.evaluate import evaluate
from emlinit.generator.grammar import from_text, pad_sequences, to_text
from emlinit.generator.program import programs_from_tokens
from emlinit.model import EMLInitialiser, Proposals


def _points(n: int = 40) -> torch.Tensor:
    return 0.5 + 1.5 * torch.rand(n, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def _values(text: str, x: torch.Tensor) -> torch.Tensor:
    tokens, constants = from_text(text, 2)
    result = evaluate(programs_from_tokens(tokens[None], constants[None], 2), x)
    assert bool(result.valid.all())
    return result.value[0]


def _kinds(text: str) -> tuple[int, ...]:
    return tuple(from_text(text, 2)[0].tolist())


@pytest.mark.parametrize(
    ("left", "right"), [("x1", "eml x2 1"), ("1", "x2"), ("eml 1 eml x1 1", "eml x2 x1"), ("x2", "eml 1 x1")]
)
def test_each_subtree_follows_from_the_other(left: str, right: str) -> None:
    x = _points()
    y = _values(f"eml {left} {right}", x)
    for side, known, other in (("left", left, right), ("right", right, left)):
        wanted = _invert(side, _kinds(known), y, x)
        if other == "1":  # a constant is no problem for the network: it is guessed, not asked for
            assert wanted is None
        else:
            assert wanted is not None
            torch.testing.assert_close(wanted, _values(other, x), rtol=1e-9, atol=1e-12)


def test_what_cannot_be_inverted_is_refused() -> None:
    x = _points()
    assert _invert("right", _kinds("1"), -x[:, 0], x) is None  # exp(L) would be negative
    assert _invert("left", _kinds("eml eml eml x1 1 1 1"), x[:, 0], x) is None  # R overflows


def test_guesses_are_put_in_the_open_place() -> None:
    state = _State((1, *_kinds("x1"), 1), _kinds("x2"), torch.zeros(1), 2)
    guesses, _ = pad_sequences([from_text("1"), from_text("eml x1 1")])
    trees = _embed(state, guesses)
    zeros = torch.zeros(trees.shape[1], dtype=torch.float64)
    assert [to_text(tree, zeros) for tree in trees] == ["eml x1 eml 1 x2", "eml x1 eml eml x1 1 x2"]


def test_peeling_finds_a_tree_none_of_whose_guesses_was_right() -> None:
    initialiser = EMLInitialiser.load("builtin:exact")
    x = _points(100)
    text = "eml 1 eml eml 1 eml x1 x2 1"
    y = _values(text, x)
    generator = torch.Generator().manual_seed(0)
    proposals = initialiser.propose(x, y, 256, generator=generator)
    loss = relative_loss(proposals.programs, x, y)
    wrong = torch.nonzero(loss > 1e-6)[:, 0]
    first = Proposals(
        proposals.tokens[wrong],
        proposals.constants[wrong],
        proposals.log_prob[wrong],
        proposals.kind_log_probs[wrong],
        proposals.programs[wrong],
    )
    tried: list[torch.Tensor] = []

    def try_trees(trees: torch.Tensor) -> bool:
        tried.append(trees)
        zeros = torch.zeros(trees.shape, dtype=torch.float64)
        return bool((relative_loss(programs_from_tokens(trees, zeros, 2), x, y) < 1e-18).any())

    deadline = time.monotonic() + 120
    peel(
        initialiser, x, y, first, try_trees, deadline=deadline, max_states=40, generator=generator, config=PeelConfig()
    )
    assert 1 <= len(tried) <= 40
    assert try_trees(tried[-1])
