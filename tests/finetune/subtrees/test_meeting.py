"""Meetings find all pairs, states are what is left of a tree, and a search can be stopped and gone on with."""

import time

import pytest
import torch
from torch import Tensor

from emlinit.finetune.subtrees.meeting import MeetingSearch, OpenTrees, meet, pairs
from emlinit.generator.evaluate import evaluate
from emlinit.generator.formulas.exact_identities import EXACT_IDENTITIES
from emlinit.generator.functions.inversion import is_finite, lost_digits, subtree_values
from emlinit.generator.functions.lookup import TOLERANCE, Lookup, choose_points, compress
from emlinit.generator.functions.table import FunctionTable, build_table
from emlinit.generator.grammar import EML, LEFT, PAD, ROOT, from_text, is_complete, subtree_lengths
from emlinit.generator.node import log_branch_cut
from emlinit.generator.program import programs_from_tokens


@pytest.fixture(scope="module")
def table() -> FunctionTable:
    return build_table(2, 3)


def _points(n: int = 80) -> Tensor:
    return 0.5 + 2.5 * torch.rand(n, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def _values(tokens: Tensor, x: Tensor) -> Tensor:
    """Of shape (b, p), NaN where a tree is not defined."""
    zeros = torch.zeros(tokens.shape, dtype=torch.float64)
    result = evaluate(programs_from_tokens(tokens, zeros, 2), x, rtol=None)
    return result.value.masked_fill(~result.valid, torch.nan)


def _law(text: str, x: Tensor) -> Tensor:
    return _values(from_text(text, 2)[0][None], x)[0]


def _search(table: FunctionTable, x: Tensor, y: Tensor) -> MeetingSearch:
    rows = choose_points(x, y)
    return MeetingSearch(table, x[rows], y[rows])


class _Finder:
    """Keeps what is tried and stops at a tree that fits."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y
        self.tried: list[list[list[int]]] = []

    def __call__(self, trees: Tensor) -> bool:
        assert bool(is_complete(trees, 2).all())
        self.tried.append([tree[tree != PAD].tolist() for tree in trees])
        return bool(((_values(trees, self.x) - self.y).abs() <= 1e-9 * (1 + self.y.abs())).all(-1).any())


def test_meetings_are_those_of_all_pairs() -> None:
    table, x = build_table(2, 2), _points()[:4]
    lookup = Lookup.of_table(table, x)
    n = len(lookup)
    value = (lookup.exp[:, None] - lookup.log[None]).flatten(0, 1)
    wanted = value[is_finite(value, 1e6).all(-1)][::37]
    wanted = torch.cat([wanted, wanted + 0.123, torch.full((1, 4), complex("nan"))])
    states, left, right = meet(lookup, wanted)
    found = set(zip(states.tolist(), left.tolist(), right.tolist(), strict=True))
    assert len(found) == len(states)
    exp_left = compress((wanted[:, None] + lookup.log).flatten(0, 1))
    distance = (exp_left[:, None] - compress(lookup.exp)).abs().amax(-1).nan_to_num(torch.inf).view(len(wanted), n, n)
    every = {(s, ll, r) for s, r, ll in torch.nonzero(distance < TOLERANCE).tolist()}
    assert found <= every
    assert {(s, r) for s, _, r in found} == {(s, r) for s, _, r in every}  # of equal exponentials one is returned
    assert len(found) >= len(wanted) // 2
    assert {s for s, _, _ in found} >= set(range(len(wanted) // 2))
    nothing = meet(lookup, wanted[:0])
    assert [len(part) for part in nothing] == [0, 0, 0]


def test_pairs_are_written_as_lists_are(table: FunctionTable) -> None:
    lookup = Lookup.of_table(table, _points()[:4])
    left, right = torch.randint(0, len(table), (2, 300), generator=torch.Generator().manual_seed(0))
    written = pairs(lookup, left, right)
    for row, first, second in zip(written.tolist(), table.tokens_of(left), table.tokens_of(right), strict=True):
        expected = [EML, *first[first != PAD].tolist(), *second[second != PAD].tolist()]
        assert row == expected + [PAD] * (len(row) - len(expected))
    assert len(pairs(lookup, left[:0], right[:0])) == 0


@pytest.mark.parametrize(
    ("text", "most_nodes"),
    [
        ("eml eml x1 eml 1 x2 eml eml x1 1 x2", 5),  # both children of the root are in the table
        ("eml x1 eml eml eml 1 x2 x1 eml eml x2 x1 eml 1 1", 8),  # one is not
        (EXACT_IDENTITIES["x1*x2"], 8),  # of eight nodes and complex on the way
    ],
)
def test_laws_beyond_the_table_are_found(text: str, most_nodes: int, table: FunctionTable) -> None:
    x = _points()
    finder = _Finder(x, _law(text, x))
    search = _search(table, x, finder.y)
    assert search.run(finder, time.monotonic() + 60)
    assert not search.run(lambda _: False, 0.0)  # may be asked again
    fitting = [tree for tree in finder.tried[-1] if not _misfit(tree, finder)]
    assert fitting
    assert min(map(len, fitting)) <= 2 * most_nodes + 1
    tried = [tuple(tree) for trees in finder.tried for tree in trees]
    assert len(set(tried)) > 0.5 * len(tried)


def _misfit(tree: list[int], finder: _Finder) -> bool:
    return not bool(torch.allclose(_values(torch.tensor([tree]), finder.x)[0], finder.y, rtol=1e-8, atol=1e-8))


def test_a_state_is_what_the_rest_of_its_tree_leaves_open(table: FunctionTable) -> None:
    """Put a tree in the open place, take its values for the wanted ones: the whole tree has the values of y."""
    x = _points()
    y = _law("eml eml 1 eml x1 x2 eml x2 x1", x)
    rows = choose_points(x, y)
    search, points = MeetingSearch(table, x[rows], y[rows]), x[rows].flatten(0, 1)
    target = y[rows].flatten().to(torch.complex128)
    pattern = pairs(Lookup.of_table(table, points), torch.tensor([400]), torch.tensor([333]))[0].tolist()
    pattern = [kind for kind in pattern if kind != PAD]
    checked, moderate = 0, {}
    for cost in range(3):
        states = search.states(cost)
        assert bool((states.parent_cost < cost).all())
        # Going back, digits are lost again where anything on the way was next to 0 or very large.
        size = states.wanted.abs()
        moderate[cost] = (size > 1e-4) & (size < 1e4)
        for s, (before, parent) in enumerate(zip(states.parent_cost.tolist(), states.parent.tolist(), strict=True)):
            if before >= 0:
                moderate[cost][s] &= moderate[before][parent]
        for s in range(0, len(states), max(len(states) // 40, 1)):
            (tree,) = search.trees(cost, torch.tensor([s]), torch.tensor([400]), torch.tensor([333])).tolist()
            assert (len(tree) - len(pattern)) // 2 == cost  # a peeled function of n nodes costs n + 1
            value = _value_with(tree, pattern, states.wanted[s], points)
            known = (lost_digits(states.wanted[s], states.error[s]) < 1e-10) & moderate[cost][s]
            torch.testing.assert_close(value[known], target[known], rtol=1e-4, atol=1e-4)
            checked += int(known.sum())
    assert checked > 200


def _value_with(tree: list[int], pattern: list[int], values: Tensor, x: Tensor) -> Tensor:
    """The value of a tree in which a subtree has other values than its own, by recursion."""
    if tree == pattern:
        return values
    if tree[0] != EML:
        return subtree_values(torch.tensor([tree]), x)[0, 0]
    middle = 1 + int(subtree_lengths(torch.tensor([tree[1:]]))[0, 0])
    left, right = (_value_with(part, pattern, values, x) for part in (tree[1:middle], tree[middle:]))
    return left.exp() - log_branch_cut(right)


def test_the_true_rest_is_among_the_states(table: FunctionTable) -> None:
    x = _points()
    rest = "eml x2 eml 1 x1"
    y = _law(f"eml x1 eml x2 {rest}", x)
    search = _search(table, x, y)
    states = search.states(2)  # x1 and then x2 are peeled
    wanted = subtree_values(from_text(rest, 2)[0][None], x[choose_points(x, y)].flatten(0, 1))[0, 0]
    distance = (compress(states.wanted) - compress(wanted[None])).abs().amax(-1).nan_to_num(torch.inf)
    assert float(distance.min()) < 1e-8
    which, lost = states.best_set(3)
    assert float(lost.max()) < TOLERANCE
    assert set(which.tolist()) <= {0, 1, 2}


def test_what_fits_one_set_of_points_only_is_not_tried(table: FunctionTable) -> None:
    x = _points()
    law = "eml eml x1 eml 1 x2 eml eml x1 1 x2"
    y = _law(law, x)
    rows = choose_points(x, y)
    best = int(MeetingSearch(table, x[rows], y[rows]).states(0).best_set(3)[0])
    for same in (True, False):
        targets, finder = y[rows], _Finder(x, y)
        if not same:
            targets[[k for k in range(3) if k != best]] *= 1.1
        search = MeetingSearch(table, x[rows], targets)
        assert search.states(0).best_set(3)[0].tolist() == [best]
        assert search.run(finder, time.monotonic() + (60.0 if same else 0.3)) == same


def test_the_root_is_open_first() -> None:
    y = torch.tensor([1.0, -2.0], dtype=torch.float64)
    root = OpenTrees.root(y)
    assert len(root) == 1
    assert root.side.tolist() == [ROOT]
    assert root.parent_cost.tolist() == [-1]
    assert torch.equal(root.wanted, y[None].to(torch.complex128))
    both = OpenTrees.cat([root, root])
    assert len(both) == 2
    assert len(both.rows(torch.tensor([1]))) == 1
    assert LEFT not in both.side


def test_a_search_goes_on_where_it_stopped() -> None:
    table, x, n = build_table(2, 2), _points(), 3

    def tried(search: MeetingSearch, deadline: float, stops: tuple[int, ...]) -> list[list[list[int]]]:
        """The first n batches of trees; a run ends after these numbers of them, or at its deadline."""
        batches: list[list[list[int]]] = []

        def take(trees: Tensor) -> bool:
            batches.append(trees.tolist())
            return len(batches) in stops

        while len(batches) < n:
            search.run(take, deadline)
        return batches

    y = x[:, 0] * x[:, 1]
    whole = tried(_search(table, x, y), time.monotonic() + 60, (n,))
    assert sum(map(len, whole)) > 10 * n
    assert tried(_search(table, x, y), time.monotonic() + 60, (1, n)) == whole
    assert tried(_search(table, x, y), 0.0, (n,)) == whole  # one step a run


def test_the_deadline_ends_a_search(table: FunctionTable) -> None:
    x = _points()
    y = x[:, 0].sin() + x[:, 1].cos()
    search = _search(table, x, y)
    began = time.monotonic()
    assert not search.run(lambda _: False, began + 0.5)
    assert 0.5 <= time.monotonic() - began < 5
    assert search.run(lambda _: True, time.monotonic() + 60)
