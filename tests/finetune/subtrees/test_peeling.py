"""Inversion gives the values of the open subtree, guesses land in its place, and peeling reaches what sampling missed."""

import math
import time

import pytest
import torch
from torch import Tensor

from emlinit.finetune.search.exact import relative_loss
from emlinit.finetune.subtrees.matching import Matcher
from emlinit.finetune.subtrees.peeling import PeelConfig, Peeling, _embed, _invert, _OpenTree
from emlinit.generator.functions.inversion import EPS, LARGEST, lost_digits, subtree_values
from emlinit.generator.grammar import LEFT, RIGHT, from_text, is_complete, n_kinds, pad_sequences, to_text
from emlinit.generator.program import programs_from_tokens
from emlinit.model import EMLInitialiser, Proposals

LAW = "eml x1 eml eml x2 1 eml eml 1 x1 eml x2 x1"
COMPLEX = "eml 1 eml eml 1 eml x2 eml eml x1 1 1 1"  # the logarithm of exp(x2) - exp(x1), which has either sign


def _points(n: int = 40) -> Tensor:
    return 0.5 + 1.5 * torch.rand(n, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def _values(text: str, x: Tensor) -> Tensor:
    """Complex, of shape (p,)."""
    return subtree_values(from_text(text, 2)[0][None], x)[0, 0]


def _kinds(text: str) -> tuple[int, ...]:
    return tuple(from_text(text, 2)[0].tolist())


def _proposals(guesses: dict[str, float]) -> Proposals:
    """Guesses of these probabilities."""
    tokens, constants = pad_sequences([from_text(text, 2) for text in guesses])
    log_prob = torch.tensor(list(guesses.values()), dtype=torch.float64).log()
    kinds = torch.zeros(*tokens.shape, n_kinds(2))
    return Proposals(tokens, constants, log_prob, kinds, programs_from_tokens(tokens, constants, 2))


class _Prior:
    """Makes the same guesses whatever the data, and remembers what it was asked."""

    def __init__(self, guesses: dict[str, float]) -> None:
        self.guesses = guesses
        self.asked: list[tuple[Tensor, Tensor]] = []
        self.calls = 0

    def propose_each(
        self, x: Tensor, y: Tensor, point_mask: Tensor, n: int, *, max_tokens: int | None = None
    ) -> list[Proposals]:
        assert x.shape[:2] == y.shape == point_mask.shape
        assert bool(torch.isfinite(y).all())
        assert bool(point_mask.any(-1).all())
        self.calls += 1
        self.asked += [(points[mask], values[mask]) for points, values, mask in zip(x, y, point_mask, strict=True)]
        return [_proposals(self.guesses)] * len(x)


class _Finder:
    """Keeps what is tried and stops at a tree that fits."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y
        self.tried: list[str] = []

    def __call__(self, trees: Tensor) -> bool:
        assert bool(is_complete(trees, 2).all())
        zeros = torch.zeros(trees.shape, dtype=torch.float64)
        self.tried += [to_text(*row) for row in zip(trees, zeros, strict=True)]
        return bool((relative_loss(programs_from_tokens(trees, zeros, 2), self.x, self.y) < 1e-18).any())


def _peeling(prior: _Prior, x: Tensor, y: Tensor, config: PeelConfig | None = None) -> Peeling:
    matcher = Matcher(x, y, recombine=False)  # nothing else helps
    return Peeling(prior, x, y, matcher, generator=torch.Generator().manual_seed(0), config=config)


def _forever() -> float:
    return time.monotonic() + 120


@pytest.mark.parametrize(
    ("left", "right"),
    [("x1", "eml x2 1"), ("1", "x2"), ("eml 1 eml x1 1", "eml x2 x1"), ("x2", "eml 1 x1"), (COMPLEX, "x2")],
)
def test_each_subtree_follows_from_the_other(left: str, right: str) -> None:
    x = _points()
    y = _values(f"eml {left} {right}", x)
    error = EPS * y.abs()
    wanted, lost = _invert([(LEFT, _kinds(left)), (RIGHT, _kinds(right))], y, error, x)
    torch.testing.assert_close(wanted[0], _values(right, x), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(wanted[1].exp(), _values(left, x).exp(), rtol=1e-9, atol=1e-9)
    assert bool((wanted[1].imag.abs() > 1).any()) == (left == COMPLEX)
    assert bool((wanted[1].imag < 1e-9).all())  # of +-pi the lower one
    assert float(lost.max()) < 1e-12
    assert float(lost.min()) > 0


def test_what_cannot_be_inverted_is_not_known() -> None:
    x = _points()
    y = x[:, 0].to(torch.complex128)
    tower = x[:, 0].exp().exp()
    overflows = tower > 710
    assert bool(overflows.any() & ~overflows.all())
    # y = exp(L) - ln(R): of exp(tower) the logarithm is enough, of exp(exp(tower)) it is too large as well.
    (wanted,), (error,) = _invert([(RIGHT, _kinds("eml eml eml x1 1 1 1"))], y, EPS * y.abs(), x)
    torch.testing.assert_close(wanted.real, (y.real + tower).log(), rtol=1e-12, atol=0)
    assert bool(torch.isfinite(lost_digits(wanted[None], error[None])).all())
    (wanted,), (error,) = _invert([(RIGHT, _kinds("eml eml eml eml x1 1 1 1 1"))], y, EPS * y.abs(), x)
    lost = lost_digits(wanted[None], error[None])[0]
    assert bool(torch.isinf(lost[overflows]).all())
    assert bool(torch.isfinite(lost[tower < math.log(LARGEST)]).all())
    (wanted,), (error,) = _invert([(LEFT, _kinds("1"))], y - 4j, EPS * y.abs(), x)  # Im ln R would be 4
    assert bool(torch.isinf(error).all())
    assert bool(torch.isfinite(wanted.abs()).all())


def test_guesses_are_put_in_the_open_place() -> None:
    nothing = torch.zeros(1, dtype=torch.float64)
    state = _OpenTree((1, *_kinds("x1"), 1), _kinds("x2"), nothing.to(torch.complex128), nothing, torch.arange(1), 2)
    guesses, _ = pad_sequences([from_text("1"), from_text("eml x1 1")])
    trees = _embed(state, guesses)
    zeros = torch.zeros(trees.shape[1], dtype=torch.float64)
    assert [to_text(tree, zeros) for tree in trees] == ["eml x1 eml 1 x2", "eml x1 eml eml x1 1 x2"]


def test_a_state_is_read_where_it_is_real() -> None:
    x = _points(100)
    y = x[:, 0] - 1.25 - x[:, 1].log()  # with R = x2, exp(L) has either sign
    real = x[:, 0] > 1.25
    assert 40 < int(real.sum()) < 60
    prior = _Prior({"x1": 1.0})
    peeling = _peeling(prior, x, y, PeelConfig(points=100))
    peeling.add(_proposals({"eml 1 x2": 1.0, "eml x1 eml 1 x1": 0.005}))  # the second is too improbable
    assert not peeling.run(_Finder(x, y), max_states=100, deadline=_forever())
    by_number = sorted(prior.asked, key=lambda asked: len(asked[0]))
    assert [len(points) for points, _ in by_number] == [int(real.sum()), len(x)]
    points, values = by_number[0]
    torch.testing.assert_close(values, (points[:, 0] - 1.25).log())
    points, values = by_number[1]  # with L = 1
    torch.testing.assert_close(values, (math.e - (points[:, 0] - 1.25) + points[:, 1].log()).exp())


def test_a_state_that_is_hardly_ever_real_is_not_read() -> None:
    x = _points(100)
    y = x[:, 0] - x[:, 0].sort().values[-5] - x[:, 1].log()  # positive at four points
    prior = _Prior({"x1": 1.0})
    peeling = _peeling(prior, x, y)
    peeling.add(_proposals({"eml 1 x2": 1.0}))
    peeling.run(_Finder(x, y), max_states=100, deadline=_forever())
    assert len(prior.asked) == 1  # R only


def test_the_likeliest_decision_comes_first_and_none_twice() -> None:
    x = _points()
    y = _values("eml eml x1 x2 eml x2 1", x).real
    prior = _Prior({"x1": 1.0})
    peeling = _peeling(prior, x, y, PeelConfig(batch=1))
    # x1 is decided with 0.3 + 0.2, x2 with 0.4, each as the left child; the right ones have 0.4, 0.3 and 0.2
    peeling.add(_proposals({"eml x2 eml x1 1": 0.4, "eml x1 eml 1 1": 0.3, "eml x1 eml x1 x1": 0.2, "1": 0.1}))
    peeling.add(_proposals({"eml x2 eml x1 1": 0.4, "eml x1 eml 1 1": 0.6}))
    finder = _Finder(x, y)
    assert not peeling.run(finder, max_states=1, deadline=_forever())
    assert finder.tried == ["eml x1 x1"]
    assert not peeling.run(finder, max_states=100, deadline=_forever())
    assert len(finder.tried) == len(set(finder.tried)) == prior.calls == 5
    assert set(finder.tried[1:3]) <= {"eml x2 x1", "eml x1 eml x1 1", "eml x1 eml 1 1"}


def test_decisions_multiply_their_probabilities() -> None:
    x = _points()
    y = _values("eml eml x1 x2 eml x2 1", x).real
    large = "eml 1 eml 1 eml 1 1"
    prior, finder = _Prior({f"eml x2 {large}": 0.5, "1": 0.5}), _Finder(x, y)
    peeling = _peeling(prior, x, y, PeelConfig(batch=1, max_known=2))
    peeling.add(_proposals({f"eml x1 {large}": 0.6, f"eml x2 {large}": 0.4}))
    assert not peeling.run(finder, max_states=3, deadline=_forever())
    starts = [tried.split()[1:4] for tried in finder.tried[1::2]]
    assert starts == [["x1", "1"], ["x2", "1"], ["x1", "eml", "x2"]]  # 0.6, then 0.4, then 0.6 * 0.5


def test_options_bound_the_search() -> None:
    x = _points()
    y = _values("eml x1 eml x2 eml x1 x2", x).real
    guesses = {"eml x1 x2": 0.6, "eml eml x1 1 x2": 0.3, "eml 1 eml x2 x1": 0.1}

    def asked(config: PeelConfig, *, max_states: int = 10**6, deadline: float | None = None) -> _Prior:
        prior = _Prior(guesses)
        peeling = _peeling(prior, x, y, config)
        peeling.add(_proposals(guesses))
        peeling.run(_Finder(x, y), max_states=max_states, deadline=_forever() if deadline is None else deadline)
        return prior

    assert len(asked(PeelConfig(max_peels=0)).asked) == 0
    one, two = (len(asked(PeelConfig(max_peels=n)).asked) for n in (1, 2))
    assert 1 < one < two
    assert len(asked(PeelConfig(max_peels=1, min_share=0.5)).asked) < one
    assert len(asked(PeelConfig(max_peels=1, max_known=0)).asked) < one
    assert len(asked(PeelConfig(batch=2), max_states=4).asked) == 4
    assert asked(PeelConfig(batch=2), max_states=4).calls == 2
    assert asked(PeelConfig(), deadline=0.0).calls == 0


def test_a_law_is_peeled_until_what_is_left_is_guessed() -> None:
    x = _points(100)
    y = _values(LAW, x)
    assert float(y.imag.abs().max()) == 0
    # None is the law, and the right children of three are too large to be decided.
    large = "eml 1 eml 1 eml 1 1"
    guesses = {f"eml x1 {large}": 0.3, f"eml eml x2 1 {large}": 0.3, f"eml eml 1 x1 {large}": 0.3, "eml x2 x1": 0.1}
    prior, finder = _Prior(guesses), _Finder(x, y.real)
    assert not finder(_proposals(guesses).tokens)
    peeling = _peeling(prior, x, y.real, PeelConfig(max_known=2))
    peeling.add(_proposals(guesses))
    assert peeling.run(finder, max_states=2000, deadline=_forever())
    assert LAW in finder.tried
    assert not peeling.run(lambda _: False, max_states=0, deadline=_forever())


def test_what_is_known_closes_a_state() -> None:
    x = _points(100)
    y = _values(LAW, x).real
    prior, finder = _Prior({"1": 1.0}), _Finder(x, y)
    matcher = Matcher(x, y)
    matcher.learn(pad_sequences([from_text("eml eml x2 1 eml eml 1 x1 eml x2 x1")])[0])
    peeling = Peeling(prior, x, y, matcher, generator=torch.Generator().manual_seed(0))
    peeling.add(_proposals({"eml x1 1": 1.0}))
    assert peeling.run(finder, max_states=100, deadline=_forever())


def test_peeling_with_the_shipped_network_finds_what_sampling_missed() -> None:
    initialiser = EMLInitialiser.load("builtin:exact")
    x = _points(100)
    y = _values("eml 1 eml eml 1 eml x1 x2 1", x).real
    proposals = initialiser.propose(x, y, 128, generator=torch.Generator().manual_seed(0))
    loss = relative_loss(proposals.programs, x, y)
    wrong = torch.nonzero(loss > 1e-6)[:, 0]
    first = Proposals(
        proposals.tokens[wrong],
        proposals.constants[wrong],
        proposals.log_prob[wrong],
        proposals.kind_log_probs[wrong],
        proposals.programs[wrong],
    )
    assert len(first) > 50
    matcher, finder = Matcher(x, y, recombine=False), _Finder(x, y)
    assert not finder(first.tokens)
    peeling = Peeling(initialiser, x, y, matcher, generator=torch.Generator().manual_seed(0))
    peeling.add(first)
    assert peeling.run(finder, max_states=300, deadline=_forever())
