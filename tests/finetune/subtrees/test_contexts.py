"""Contexts are trees with a hole, as likely as the guesses that have them; a pair of known functions fills the right one."""

import time

import pytest
import torch
from torch import Tensor

from emlinit.finetune.subtrees.contexts import HOLE, ContextMeeting, Contexts
from emlinit.finetune.subtrees.meeting import MeetingSearch
from emlinit.generator.functions.inversion import subtree_values
from emlinit.generator.functions.lookup import choose_points, compress
from emlinit.generator.functions.table import FunctionTable, build_table
from emlinit.generator.grammar import EML, ONE, PAD, from_text, is_complete, pad_sequences, subtree_lengths

LAW = "eml x1 eml eml 1 eml eml x2 eml 1 x1 eml x1 x2 1"
"""e^x1 - e + ln P, where P has four nodes and is a pair of functions of two and of one; the guesses have it wrong."""
GUESSES = ("eml x1 eml eml 1 eml x1 x2 1", "eml x1 eml x1 1", "eml x1 x2")


@pytest.fixture(scope="module")
def table() -> FunctionTable:
    return build_table(2, 3)


def _trees(*texts: str) -> Tensor:
    return pad_sequences([from_text(text, 2) for text in texts])[0]


def _data(n: int = 80) -> tuple[Tensor, Tensor, Tensor]:
    """All points, and three sets of them with the values of `LAW`."""
    x = 0.5 + 1.5 * torch.rand(n, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = subtree_values(_trees(LAW), x)[0, 0].real
    rows = choose_points(x, y)
    return x, x[rows], y[rows]


def _contexts(*texts: str, probability: list[float] | None = None) -> Contexts:
    _, x, y = _data()
    return Contexts.of_trees(_trees(*texts), torch.tensor(probability or [1.0] * len(texts)).double(), x, y)


def _written(contexts: Contexts) -> list[list[int]]:
    return [row[row != PAD].tolist() for row in contexts.tokens]


def test_each_context_is_a_guess_without_a_subtree() -> None:
    contexts = _contexts(GUESSES[0])
    tokens = _trees(GUESSES[0])[0].tolist()
    spans = subtree_lengths(_trees(GUESSES[0]))[0].tolist()
    every = [[*tokens[:i], HOLE, *tokens[i + spans[i] :]] for i in range(1, len(tokens))]
    written = _written(contexts)
    assert written
    assert all(one in every for one in written)
    assert len({tuple(one) for one in written}) == len(written)
    assert [*tokens[:2], HOLE] in written  # the right child is open
    assert bool((contexts.mass == 1.0).all())


def test_a_context_is_as_likely_as_its_guesses_together() -> None:
    contexts = _contexts(*GUESSES, probability=[0.5, 0.3, 0.1])
    masses = {tuple(one): float(mass) for one, mass in zip(_written(contexts), contexts.mass, strict=True)}
    x1, x2 = (int(_trees(name)[0, 0]) for name in ("x1", "x2"))
    assert masses[EML, x1, HOLE] == pytest.approx(0.9)
    assert masses[EML, x1, EML, HOLE, ONE] == pytest.approx(0.8)
    assert masses[EML, HOLE, x2] == pytest.approx(0.1)
    assert bool((contexts.mass.diff() <= 0).all())


def test_joining_is_making_them_together() -> None:
    together = _contexts(*GUESSES, probability=[0.5, 0.3, 0.1])
    joined = _contexts(GUESSES[0], probability=[0.5]).joined(_contexts(*GUESSES[1:], probability=[0.3, 0.1]))
    assert sorted(_written(joined)) == sorted(_written(together))
    assert torch.equal(joined.mass, together.mass)
    assert sorted(joined.keys.tolist()) == sorted(together.keys.tolist())  # whatever the padding
    assert len(set(together.keys.tolist())) == len(together)


def test_the_hole_wants_what_the_law_has_there() -> None:
    _, x, _ = _data()
    own = _contexts(LAW)
    values = subtree_values(_trees(LAW), x.flatten(0, 1))[0]
    tokens, spans = _trees(LAW)[0].tolist(), subtree_lengths(_trees(LAW))[0].tolist()
    written = _written(own)
    checked = 0
    for place in range(1, len(tokens)):
        row = [*tokens[:place], HOLE, *tokens[place + spans[place] :]]
        if row in written:
            number = written.index(row)
            distance = (compress(values[place][None]) - compress(own.wanted[number][None])).abs()
            n = distance.shape[1] // 2
            known = own.error[number] < 1e-9
            assert float(distance[0, :n][known].max()) < 1e-7
            checked += 1
    assert checked > len(tokens) // 2


def test_filled_contexts_are_whole_trees() -> None:
    contexts = _contexts(*GUESSES)
    rows = torch.arange(len(contexts))
    trees = contexts.filled(rows, _trees("eml x1 eml x2 1").expand(len(rows), -1))
    assert bool(is_complete(trees, 2).all())
    assert HOLE not in trees


def test_a_pair_of_known_functions_fills_the_right_context(table: FunctionTable) -> None:
    x, points, values = _data()
    y = subtree_values(_trees(LAW), x)[0, 0]
    meeting = MeetingSearch(table, points, values)
    contexts = ContextMeeting(meeting, points, values)
    contexts.add(_trees(GUESSES[0], GUESSES[2]), torch.tensor([-3.0, -1.0]).double())
    tried: list[Tensor] = []

    def is_law(trees: Tensor) -> bool:
        tried.append(trees)
        fits = ((subtree_values(trees, x)[:, 0] - y).abs() < 1e-8).all(-1)
        return bool(fits.any())

    assert contexts.run(is_law, 1 << 22, time.monotonic() + 60.0)
    assert tried
    meeting.close()


def test_nothing_is_met_twice_and_the_deadline_is_kept(table: FunctionTable, monkeypatch: pytest.MonkeyPatch) -> None:
    _, points, values = _data()
    meeting = MeetingSearch(table, points, values)
    contexts = ContextMeeting(meeting, points, values)
    met: list[int] = []
    real = meeting.meet_open

    def counting(wanted: Tensor, error: Tensor, size: int) -> object:
        met.append(len(wanted))
        return real(wanted, error, size)

    monkeypatch.setattr(meeting, "meet_open", counting)

    def go_on(trees: Tensor) -> bool:
        return False

    assert not contexts.run(go_on, 1 << 20, time.monotonic() + 60.0)  # no guess yet
    assert not sum(met)
    contexts.add(_trees(*GUESSES), torch.zeros(3).double())
    contexts.run(go_on, 1 << 20, time.monotonic() + 60.0)
    first = sum(met)
    assert first
    contexts.run(go_on, 1 << 20, time.monotonic() + 60.0)
    assert sum(met) == first
    contexts.add(_trees(*GUESSES), torch.zeros(3).double())  # the same guesses again
    contexts.run(go_on, 1 << 20, time.monotonic() + 60.0)
    assert sum(met) == first
    contexts.add(_trees("eml x2 eml x1 x1"), torch.zeros(1).double())
    contexts.run(go_on, 1 << 20, time.monotonic() - 1.0)
    assert sum(met) > first
    meeting.close()
