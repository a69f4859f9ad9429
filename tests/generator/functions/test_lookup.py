"""What a lookup holds is found by its values, its exponential and its logarithm, and nothing else is."""

import pytest
import torch
from torch import Tensor

from emlinit.generator.corpus.trees import trees_by_size
from emlinit.generator.functions.inversion import is_finite, subtree_values
from emlinit.generator.functions.lookup import N_POINTS, SAME, TOLERANCE, Lookup, choose_points, compress, table_values
from emlinit.generator.functions.table import FunctionTable, build_table
from emlinit.generator.grammar import LEFT, PAD, RIGHT, ROOT, X1, size, subtree_lengths
from emlinit.generator.node import log_branch_cut

SIDES = (ROOT, LEFT, RIGHT)


@pytest.fixture(scope="module")
def table() -> FunctionTable:
    return build_table(2, 3)


def _points(low: float, n: int = N_POINTS) -> Tensor:
    return low + 2.5 * torch.rand(n, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def _trees(n: int, seed: int, variables: tuple[bool, bool] = (True, True)) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.randint(0, 9, (n,), generator=generator)
    return trees_by_size(sizes, torch.tensor(variables).expand(n, -1), 0.4, generator)


def _stored(lookup: Lookup, side: int) -> Tensor:
    return {ROOT: lookup.value, LEFT: lookup.exp, RIGHT: lookup.log}[side]


def _nearest(stored: Tensor, target: Tensor) -> Tensor:
    """Distance to the nearest finite function, one by one."""
    every = compress(stored[is_finite(stored).all(-1)])
    return torch.stack([(every - one).abs().amax(-1).min() for one in compress(target)])


def _decompress(points: Tensor) -> Tensor:
    half = points.shape[1] // 2
    return torch.complex(torch.sinh(points[:, :half]), torch.sinh(points[:, half:]))


def _pairwise(value: Tensor) -> Tensor:
    points = compress(value)
    return (points[:, None] - points).abs().amax(-1)


@pytest.mark.parametrize(("low", "some_overflow"), [(0.5, False), (-2.0, False), (4.0, True)])
@pytest.mark.parametrize("side", SIDES)
def test_every_finite_function_is_found_and_no_other(
    side: int, low: float, some_overflow: bool, table: FunctionTable
) -> None:
    lookup = Lookup.of_table(table, _points(low))
    stored = _stored(lookup, side)
    finite = is_finite(stored).all(-1)
    assert int(finite.sum()) > 100
    assert not (some_overflow and bool(finite.all()))
    found = lookup.find(side, stored)
    assert torch.equal(found >= 0, finite)
    torch.testing.assert_close(stored[found[finite]], stored[finite], rtol=1e-9, atol=1e-9)  # perhaps an equal one
    assert some_overflow or int((found == torch.arange(len(lookup)))[finite].sum()) > 0.9 * int(finite.sum())
    for bad in (complex("nan"), complex("inf"), complex(1.0, float("-inf"))):
        target = stored.clone()
        target[:, 1] = bad
        assert bool((lookup.find(side, target) == -1).all())


@pytest.mark.parametrize("side", SIDES)
def test_the_tolerance_decides(side: int, table: FunctionTable) -> None:
    lookup = Lookup.of_table(table, _points(0.5))
    stored = _stored(lookup, side)
    stored = stored[is_finite(stored, 1e6).all(-1)]  # of larger ones the last digits are coarser than the tolerance
    assert len(stored) > 200
    generator = torch.Generator().manual_seed(0)
    points = compress(stored)
    signs = 2.0 * torch.randint(0, 2, points.shape, generator=generator) - 1
    near = lookup.find(side, _decompress(points + 0.9 * TOLERANCE * signs))
    assert int((near >= 0).sum()) > 0.97 * len(near)  # the others lie in crowds
    one = torch.nn.functional.one_hot(torch.randint(0, points.shape[1], (len(points),), generator=generator))
    one = torch.nn.functional.pad(one, (0, points.shape[1] - one.shape[1]))
    target = _decompress(points + 1.2 * TOLERANCE * one)
    far = lookup.find(side, target)
    assert bool((_nearest(stored, target)[far >= 0] < TOLERANCE).all())  # there another function is near
    assert int((far >= 0).sum()) < 0.1 * len(far)


def _crowd(distance: float) -> Lookup:
    """Different functions with nearly the same projection."""
    step = distance * torch.arange(100, dtype=torch.float64)
    value = (step[:, None] * torch.tensor([1.0, -0.75, 0.0, 0.0])).to(torch.complex128)
    return Lookup(value, log_branch_cut(value), lambda rows: rows[:, None], torch.zeros(100, dtype=torch.int64))


def test_each_of_a_crowd_is_found_and_kept() -> None:
    crowd = _crowd(2 * TOLERANCE)
    assert torch.equal(crowd.find(ROOT, crowd.value), torch.arange(100))
    crowd = _crowd(2 * SAME)
    joined = crowd.joined(crowd, 10**6)
    assert torch.equal(joined.tokens_of(torch.arange(len(joined)))[:, 0], torch.arange(100))


@pytest.mark.parametrize("side", SIDES)
def test_nothing_is_found_for_generic_values(side: int, table: FunctionTable) -> None:
    lookup = Lookup.of_table(table, _points(0.5))
    noise = torch.randn(2, 20_000, N_POINTS, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert bool((lookup.find(side, torch.complex(noise[0], noise[1])) == -1).all())
    assert bool((lookup.find(side, torch.complex(noise[0], torch.zeros(1, 1).double())) == -1).all())


def test_each_query_is_answered_for_itself(table: FunctionTable) -> None:
    lookup = Lookup.of_table(table, _points(0.5))
    target = lookup.value[::3].clone()
    target[::2] += 0.01
    order = torch.randperm(len(target), generator=torch.Generator().manual_seed(0))
    found = lookup.find(ROOT, target)
    assert int((found >= 0).sum()) > 50 < int((found < 0).sum())
    assert torch.equal(lookup.find(ROOT, target[order]), found[order])
    assert torch.equal(torch.cat([lookup.find(ROOT, row[None]) for row in target]), found)
    assert lookup.find(ROOT, target[:0]).shape == (0,)


def test_functions_that_agree_at_the_points_are_found_by_the_smallest(table: FunctionTable) -> None:
    x = _points(0.5)
    x[:, 1] = 1.0  # the second variable and the constant are one
    lookup = Lookup.of_table(table, x)
    found = lookup.find(ROOT, lookup.value)
    known = found >= 0
    assert int(known.sum()) > 300
    assert len(found[known].unique()) < 0.5 * int(known.sum())
    exact = (lookup.value[found] == lookup.value).all(-1) & known
    assert bool((lookup.sizes[found] <= lookup.sizes)[exact].all())
    assert found[:3].tolist() == [0, 1, 0]


def test_where_nothing_is_defined_nothing_is_found(table: FunctionTable) -> None:
    undefined = torch.full((5, 3), complex("nan"), dtype=torch.complex128)
    lookup = Lookup(undefined, log_branch_cut(undefined), table.tokens_of, torch.zeros(5, dtype=torch.int64))
    assert lookup.find(ROOT, torch.zeros(2, 3, dtype=torch.complex128)).tolist() == [-1, -1]
    assert lookup.find(LEFT, undefined).tolist() == [-1] * 5


@pytest.mark.parametrize("low", [0.5, -2.0])
def test_table_values_are_those_of_the_trees(low: float, table: FunctionTable) -> None:
    x = _points(low)
    values = table_values(table, x, len(table))
    trees = subtree_values(table.tokens_of(torch.arange(len(table))), x)[:, 0]
    both = is_finite(values, 1e90) & is_finite(trees, 1e90)
    assert float(both.double().mean()) > 0.9
    torch.testing.assert_close(values[both], trees[both], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("max_size", [0, 1, 2, 3, 9])
def test_a_part_of_the_table_is_its_small_functions(max_size: int, table: FunctionTable) -> None:
    whole, part = Lookup.of_table(table, _points(0.5)), Lookup.of_table(table, _points(0.5), max_size)
    assert len(part) == sum(table.counts[: max_size + 1])
    assert torch.equal(
        part.value.view(torch.float64).nan_to_num(), whole.value[: len(part)].view(torch.float64).nan_to_num()
    )
    assert torch.equal(part.sizes, table.sizes[: len(part)])
    assert int(part.sizes.max()) == min(max_size, 3)


@pytest.mark.parametrize("variables", [(True, True), (True, False)])
def test_parts_are_all_distinct_subtrees_smallest_first(variables: tuple[bool, bool]) -> None:
    x, tokens = _points(0.5), _trees(800, 1, variables)
    parts = Lookup.of_trees(tokens, x)
    rows = torch.arange(len(parts))
    own = parts.tokens_of(rows)
    assert torch.equal(size(own), parts.sizes)
    assert bool((parts.sizes.diff() >= 0).all())
    assert torch.equal(subtree_values(own, x)[:, 0], parts.value)
    every, spans = subtree_values(tokens, x), subtree_lengths(tokens)
    used = (tokens != PAD) & is_finite(every).all(-1)
    found = parts.find(ROOT, every[used])
    assert int(used.sum()) > 5 * len(parts) > 500
    assert bool((found >= 0).all())
    assert bool((parts.sizes[found] <= (spans[used] - 1) // 2).all())
    apart = _pairwise(parts.value) + torch.eye(len(parts))
    assert float(apart.min()) > SAME


def test_no_tree_has_no_parts() -> None:
    empty = torch.zeros(0, 1, dtype=torch.int64)
    parts = Lookup.of_trees(empty, _points(0.5))
    assert len(parts) == 0
    assert parts.find(ROOT, torch.zeros(1, N_POINTS, dtype=torch.complex128)).tolist() == [-1]
    assert len(parts.joined(parts, 5)) == 0


def test_joined_parts_are_the_parts_of_both() -> None:
    x, first, second = _points(0.5), _trees(100, 1), _trees(100, 2)
    a, b = Lookup.of_trees(first, x), Lookup.of_trees(second, x)
    width = max(first.shape[1], second.shape[1])
    pad = torch.nn.functional.pad
    both = torch.cat([pad(first, (0, width - first.shape[1])), pad(second, (0, width - second.shape[1]))])
    at_once, joined = Lookup.of_trees(both, x), a.joined(b, 10**6)
    assert len(a) < len(joined) < len(a) + len(b)
    assert len(joined) == len(at_once)
    there = joined.find(ROOT, at_once.value)
    assert torch.equal(there.sort().values, torch.arange(len(joined)))
    assert torch.equal(joined.sizes[there], at_once.sizes)
    assert torch.equal(subtree_values(joined.tokens_of(there), x)[:, 0], joined.value[there])
    few = a.joined(b, 40)
    assert len(few) == 40
    assert torch.equal(few.sizes, joined.sizes[:40])


def test_of_equal_functions_the_smallest_is_kept() -> None:
    value = torch.tensor([[1.0, 2.0, 3.0, 4.0]], dtype=torch.complex128)
    rounded = value * (1 - 1e-15 * torch.arange(1, 11)[:, None])
    plain = Lookup(
        value, log_branch_cut(value), lambda rows: torch.full((len(rows), 1), X1), torch.zeros(1, dtype=torch.int64)
    )
    large = Lookup(
        rounded, log_branch_cut(rounded), lambda rows: torch.full((len(rows), 3), X1), torch.ones(10, dtype=torch.int64)
    )
    for joined in (plain.joined(large, 99), large.joined(plain, 99)):
        assert joined.sizes.tolist() == [0]
        assert torch.equal(joined.value, value)


def test_points_are_rows_of_all_and_of_either_end() -> None:
    x = _points(-2.0, 120)
    y = x[:, 0].exp() - x[:, 1]
    rows = choose_points(x, y)
    assert rows.shape == (3, N_POINTS)
    assert all(len(set(chosen)) == N_POINTS for chosen in rows.tolist())
    rank = y.argsort().argsort()
    assert bool((rank[rows[1]] >= 80).all())
    assert bool((rank[rows[2]] < 40).all())
    for chosen in rows:
        columns = torch.cat([x[chosen], torch.zeros(N_POINTS, 1), torch.ones(N_POINTS, 1)], 1)
        gaps = (columns[:, :, None] - columns[:, None, :]).abs() + 9 * torch.eye(4)
        assert float(gaps.min()) > 0.02
        assert float(torch.pdist(x[chosen]).min()) > 0.1


@pytest.mark.parametrize(("n", "v"), [(3, 1), (1, 1), (4, 2), (10, 5), (24, 1)])
def test_few_points_will_do(n: int, v: int) -> None:
    generator = torch.Generator().manual_seed(n)
    x = torch.randn(n, v, generator=generator, dtype=torch.float64)
    rows = choose_points(x, torch.randn(n, generator=generator, dtype=torch.float64))
    assert rows.shape == (3, min(n, N_POINTS))
    assert all(len(set(chosen)) == len(chosen) and set(chosen) <= set(range(n)) for chosen in rows.tolist())


@pytest.mark.parametrize("kind", ["constant", "one", "twice", "rows"])
def test_points_lie_apart_although_columns_or_rows_agree(kind: str) -> None:
    x = _points(0.5, 120)
    if kind == "rows":
        x[1::2] = x[::2]
    else:
        x[:, 1] = {"constant": torch.tensor(2.3), "one": torch.tensor(1.0), "twice": x[:, 0]}[kind]
    for chosen in choose_points(x, x[:, 0]):
        assert len(set(chosen.tolist())) == N_POINTS
        assert float(torch.pdist(x[chosen]).min()) > 0.02
