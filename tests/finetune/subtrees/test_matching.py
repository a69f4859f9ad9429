"""What is known closes an open subtree: parts of other trees, functions of a table, at points where digits are left."""

import pytest
import torch
from torch import Tensor

from emlinit.finetune.subtrees import matching
from emlinit.finetune.subtrees.matching import Matcher
from emlinit.generator.evaluate import evaluate
from emlinit.generator.functions.inversion import EPS
from emlinit.generator.functions.table import FunctionTable, build_table
from emlinit.generator.grammar import PAD, from_text, is_complete, pad_sequences
from emlinit.generator.program import programs_from_tokens

LEFT_HALF, RIGHT_HALF = "eml eml x1 eml x2 1 x2", "eml x1 eml 1 eml x2 eml x1 x1"
LAW = f"eml 1 eml {LEFT_HALF} {RIGHT_HALF}"
CANDIDATES = (f"eml 1 eml {LEFT_HALF} x2", f"eml x2 eml {RIGHT_HALF} x1")


@pytest.fixture(scope="module")
def table() -> FunctionTable:
    return build_table(2, 3)


def _points() -> Tensor:
    return 0.5 + torch.rand(60, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def _tokens(*texts: str) -> Tensor:
    return pad_sequences([from_text(text, 2) for text in texts])[0]


def _values(tokens: Tensor, x: Tensor) -> Tensor:
    zeros = torch.zeros(tokens.shape, dtype=torch.float64)
    result = evaluate(programs_from_tokens(tokens, zeros, 2), x, rtol=None)
    return result.value.masked_fill(~result.valid, torch.nan)


def _ask(matcher: Matcher, y: Tensor, tokens: Tensor, error: Tensor | None = None) -> list[list[int]]:
    """The trees without padding."""
    found = matcher.candidates(y.to(torch.complex128), EPS * y.abs() if error is None else error, tokens)
    assert all(bool(is_complete(trees, 2).all()) for trees in found)
    return [tree[tree != PAD].tolist() for trees in found for tree in trees]


def _fit(trees: list[list[int]], x: Tensor, y: Tensor) -> int:
    """How many have the values y at all points."""
    values = [_values(torch.tensor([tree]), x)[0] for tree in trees]
    return sum(bool(((value - y).abs() <= 1e-8 * (1 + y.abs())).all()) for value in values)


def test_two_candidates_right_in_one_half_each_give_the_law() -> None:
    x, tokens = _points(), _tokens(*CANDIDATES)
    y = _values(_tokens(LAW), x)[0]
    assert bool(torch.isfinite(y).all())
    matcher = Matcher(x, y)
    assert _ask(matcher, y, tokens) == []  # nothing is known yet
    matcher.learn(tokens[:1])
    assert _fit(_ask(matcher, y, tokens), x, y) == 0
    matcher.learn(tokens[1:])
    found = _ask(matcher, y, tokens)
    assert _tokens(LAW)[0].tolist() in found
    assert _fit(found, x, y) > 0


def test_parts_learned_one_after_another_meet_at_the_root() -> None:
    x = _points()
    y = _values(_tokens(f"eml {LEFT_HALF} {RIGHT_HALF}"), x)[0]
    matcher = Matcher(x, y)
    matcher.learn(_tokens(LEFT_HALF))
    matcher.learn(_tokens(RIGHT_HALF))
    assert _fit(_ask(matcher, y, _tokens("1")), x, y) > 0


def test_without_parts_and_table_nothing_is_known(table: FunctionTable) -> None:
    x, tokens = _points(), _tokens(*CANDIDATES)
    y = _values(_tokens(LAW), x)[0]
    matcher = Matcher(x, y, recombine=False)
    matcher.learn(tokens)
    assert _ask(matcher, y, tokens) == []
    assert matcher.table(0) is None
    # The right half is too large for this table, but 1, and the halves of the half, are in it.
    with_table = Matcher(x, y, table=table, recombine=False)
    with_table.learn(tokens)
    spoilt = _tokens(f"eml 1 eml {LEFT_HALF} eml x1 eml 1 x1")
    assert _fit(_ask(with_table, y, tokens), x, y) == 0
    assert _fit(_ask(with_table, y, spoilt), x, y) > 0


def test_the_table_meets_itself_at_the_root(table: FunctionTable) -> None:
    x = _points()
    y = _values(_tokens("eml eml x1 eml x2 x1 eml eml x2 1 eml x2 x1"), x)[0]
    assert _fit(_ask(Matcher(x, y, table=table), y, _tokens("1")), x, y) > 0


def test_points_are_chosen_where_digits_are_left() -> None:
    x, tokens = _points(), _tokens(*CANDIDATES)
    y = _values(_tokens(LAW), x)[0]
    matcher = Matcher(x, y)
    matcher.learn(tokens)
    assert not torch.equal(matcher.rows[0], matcher.rows[1])
    for kept in (0, 1):
        error, wrong = torch.full_like(y, torch.inf), y + 1.0
        error[matcher.rows[kept]], wrong[matcher.rows[kept]] = EPS, y[matcher.rows[kept]]
        assert _fit(_ask(matcher, wrong, tokens, error), x, y) > 0
    assert _ask(matcher, y, tokens, torch.full_like(y, torch.inf)) == []


def test_what_is_looked_up_often_is_a_part_of_the_table(table: FunctionTable, monkeypatch: pytest.MonkeyPatch) -> None:
    x = _points()
    whole = Matcher(x, x[:, 0], table=table).table(2)
    assert whole is not None
    assert [len(part) for part in whole] == [len(table)] * 2
    monkeypatch.setattr(matching, "COMPLETION_ROWS", sum(table.counts[:3]))
    monkeypatch.setattr(matching, "MEETING_ROWS", sum(table.counts[:3]) - 1)
    parts = Matcher(x, x[:, 0], table=table).table(0)
    assert parts is not None
    assert [len(part) for part in parts] == [sum(table.counts[:3]), sum(table.counts[:2])]


def test_few_rows_will_do() -> None:
    x = _points()[:3, :1]
    y = x[:, 0].exp()
    matcher = Matcher(x, y)
    matcher.learn(_tokens("x1", "1"))
    assert _ask(matcher, y, _tokens("eml x1 x1")) != []
