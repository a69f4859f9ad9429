"""The table of small functions: its counts against exact arithmetic, its trees against mpmath, its shape."""

from collections.abc import Callable
from itertools import pairwise

import mpmath
import numpy as np
import pytest
import torch
from mpmath.libmp import MPZ_ZERO
from torch import Tensor

from emlinit.generator.evaluate import evaluate
from emlinit.generator.functions.table import FunctionTable, build_table, probe_points, probe_sets, value_keys
from emlinit.generator.grammar import EML, ONE, PAD, X1, is_complete, size, subtree_lengths
from emlinit.generator.program import programs_from_tokens

Values = tuple[mpmath.mpc, ...]
Row = tuple[int, int]  # size and place within it
_ROUNDED = 0.4  # share of the digits at which exact values are compared
_EXACT = 0.8  # share of the digits below which a difference is only the working precision's


@pytest.fixture(scope="module")
def one() -> FunctionTable:
    return build_table(1, 8)


@pytest.fixture(scope="module")
def two() -> FunctionTable:
    return build_table(2, 6)


def test_counts_in_one_and_two_variables(one: FunctionTable, two: FunctionTable) -> None:
    assert one.counts[:6] == (2, 4, 16, 78, 422, 2460)
    assert two.counts[:5] == (3, 9, 54, 399, 3312)
    # A few of these many lie at the edge of a rounding that another processor may do otherwise.
    assert one.counts[6:] == pytest.approx((14961, 94179, 607906), rel=1e-3)
    assert two.counts[5:] == pytest.approx((29329, 271843), rel=1e-3)


@pytest.mark.parametrize(("n_variables", "max_size"), [(1, 0), (1, 6), (2, 4), (5, 3)])
def test_rows_are_trees_of_rows_before_them(n_variables: int, max_size: int) -> None:
    table = build_table(n_variables, max_size)
    rows = torch.arange(len(table))
    tokens = table.tokens_of(rows)
    assert tokens.shape == (sum(table.counts), 2 * max_size + 1)
    assert tokens[: n_variables + 1, 0].tolist() == [ONE, *range(X1, X1 + n_variables)]
    assert bool(is_complete(tokens, n_variables).all())
    assert torch.equal(size(tokens), table.sizes)
    assert len(tokens.unique(dim=0)) == len(tokens)
    assert tuple(torch.bincount(table.sizes).tolist()) == table.counts
    for k, level in enumerate(table.level_slices()):
        assert torch.equal(torch.nonzero(table.sizes == k)[:, 0], rows[level])
    leaf = rows <= n_variables
    left, right = table.left.long(), table.right.long()
    assert bool(((left == -1) == leaf).all())
    assert bool(((right == -1) == leaf).all())
    left, right, inner = left[~leaf], right[~leaf], tokens[~leaf]
    assert torch.equal(table.sizes[left] + table.sizes[right] + 1, table.sizes[~leaf])
    for row in range(0, len(inner), max(len(inner) // 300, 1)):
        parts = [part[part != PAD] for part in (tokens[left[row]], tokens[right[row]])]
        assert torch.equal(inner[row][inner[row] != PAD], torch.cat([torch.tensor([EML]), *parts]))
    assert torch.equal(subtree_lengths(tokens)[:, 0], 2 * table.sizes + 1)


def test_find_gives_the_row_of_every_key(two: FunctionTable) -> None:
    assert bool((two.keys.diff() > 0).all())
    assert torch.equal(two.order.unique(), torch.arange(len(two)))
    assert torch.equal(two.find(two.keys), two.order)
    probes = probe_points(2)
    leaves = torch.cat([torch.ones(1, 3), probes.T])
    assert two.find(value_keys(leaves, torch.zeros_like(leaves))).tolist() == [0, 1, 2]
    unknown = value_keys(probes[:, :1].T.sin(), torch.zeros(1, 3, dtype=torch.float64))
    assert two.find(torch.cat([unknown, torch.tensor([-1, 2**62])])).tolist() == [-1] * 3


def test_a_key_is_not_split_by_rounding() -> None:
    with mpmath.workdps(40):
        value = float(mpmath.exp(mpmath.log(mpmath.mpf(1) / 3)))
    near = torch.tensor([[1.0], [1 - 1e-16], [1 + 3e-16], [value], [1 / 3]], dtype=torch.float64)
    keys = value_keys(near, torch.zeros_like(near))
    assert keys[0] == keys[1] == keys[2] != keys[3]
    assert keys[3] == keys[4]


def _plain_table(n_variables: int, max_size: int, probes: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and tokens by the definition: all pairs of all sizes, one after another, the first of each key kept."""
    leaves = torch.cat([torch.ones(1, len(probes)), probes.T]).to(torch.complex128)
    levels = [list(zip(leaves, ([ONE], *([X1 + i] for i in range(n_variables))), strict=True))]
    known = {int(value_keys(v.real, v.imag)): t for v, t in levels[0]}
    for n in range(1, max_size + 1):
        level = []
        for k in range(n):
            for left, left_tokens in levels[k]:
                for right, right_tokens in levels[n - 1 - k]:
                    exp, log = left.exp(), torch.complex(right.real + 0.0, right.imag + 0.0).log()
                    value, larger = exp - log, torch.maximum(exp.abs(), log.abs())
                    value = torch.where(value.abs() <= 1e-12 * larger, 0.0, value)
                    unsure = (value != 0) & (value.abs() < 1e-5 * larger) | ~(larger < 1e100)
                    parts = [torch.maximum(z.real.abs(), z.imag.abs()) for z in (exp, log)]
                    unsure |= torch.minimum(*parts) < torch.where(log == 0, 0.0, 1e-8 * torch.maximum(*parts))
                    argument = torch.maximum(left.real.abs(), left.imag.abs())
                    unsure |= (argument < 1e-8) & (argument != 0)
                    key = int(value_keys(value.real.contiguous(), value.imag.contiguous()))
                    if not bool(unsure.any()) and key != -1 and key not in known:
                        known[key] = [EML, *left_tokens, *right_tokens]
                        level.append((value, known[key]))
        levels.append(level)
    tokens = [known[key] + [PAD] * (2 * max_size + 1 - len(known[key])) for key in sorted(known)]
    return torch.tensor(sorted(known)), torch.tensor(tokens)


@pytest.mark.parametrize(("n_variables", "max_size"), [(1, 4), (2, 3)])
def test_agrees_with_the_plain_enumeration(n_variables: int, max_size: int) -> None:
    table = build_table(n_variables, max_size, probe_points(n_variables))
    keys, tokens = _plain_table(n_variables, max_size, probe_points(n_variables))
    assert torch.equal(table.keys, keys)
    assert torch.equal(table.tokens_of(table.order), tokens)


@pytest.mark.parametrize("block_pairs", [1, 50])
def test_blocks_do_not_matter(block_pairs: int) -> None:
    whole, blocks = build_table(2, 3), build_table(2, 3, block_pairs=block_pairs)
    for name in ("keys", "order", "left", "right", "tokens"):
        assert torch.equal(getattr(whole, name), getattr(blocks, name))


def test_progress_rises_to_one() -> None:
    shares: list[float] = []
    build_table(1, 7, block_pairs=1000, progress=shares.append)
    assert len(shares) > 50
    assert shares == sorted(shares)
    assert 0 < shares[0] < 0.1
    assert shares[-1] == 1
    assert max(after - before for before, after in pairwise(shares)) < 0.2


@pytest.mark.parametrize(("n_variables", "max_size"), [(0, 3), (6, 3), (1, -1)])
def test_wrong_input_is_refused(n_variables: int, max_size: int) -> None:
    with pytest.raises(ValueError, match=r"use 1\.\.5 and 0 or more"):
        build_table(n_variables, max_size)


def _exp_and_log(value: Values) -> tuple[Values, Values]:
    tiny = mpmath.mpf(10) ** -int(mpmath.mp.dps * _EXACT)
    out = []
    for z in value:
        # An imaginary part that only the working precision makes would choose the side of the cut.
        cut = mpmath.mpc(z.real) if abs(z.imag) <= tiny * abs(z.real) else z
        out.append((mpmath.exp(z) if z.real < 300 else mpmath.inf, mpmath.log(cut) if z != 0 else mpmath.inf))
    return tuple(exp for exp, _ in out), tuple(log for _, log in out)


def _difference(exp: Values, log: Values, ceiling: float) -> Values | None:
    """`exp - log` at all points, 0 where only the working precision is left; None where it is undefined or too large."""
    tiny = mpmath.mpf(10) ** -int(mpmath.mp.dps * _EXACT)
    out = []
    for e, g in zip(exp, log, strict=True):
        larger = max(abs(e), abs(g))
        if larger > ceiling:
            return None
        out.append(mpmath.mpc(0) if abs(e - g) <= tiny * larger else e - g)
    return tuple(out)


def _exact_key(value: Values) -> tuple[object, ...]:
    bits = int(mpmath.mp.prec * _ROUNDED)

    def rounded(part: mpmath.mpf, top: int) -> int:
        return int(mpmath.nint(mpmath.ldexp(part, bits - top))) if part._mpf_[1] != MPZ_ZERO else 0

    key: list[object] = []
    for z in value:
        z = z * mpmath.mpf("0.7390851332151607")
        top = max((mpmath.frexp(part)[1] for part in (z.real, z.imag) if part != 0), default=0)
        key += [rounded(z.real, top), rounded(z.imag, top), top]
    return tuple(key)


def _exact(probes: Tensor, max_size: int, ceiling: float) -> tuple[list[list[Values]], list[list[tuple[Row, Row]]]]:
    """Values and children of all distinct functions of each size, in the order of the table, in mpmath's arithmetic."""
    leaves: list[Values] = [tuple(mpmath.mpc(1) for _ in probes)]
    leaves += [tuple(mpmath.mpc(x) for x in column) for column in probes.T.tolist()]
    values, children = [leaves], [[((-1, -1), (-1, -1))] * len(leaves)]
    known = {_exact_key(value) for value in leaves}
    parts = [[_exp_and_log(value) for value in leaves]]
    for n in range(1, max_size + 1):
        level: list[tuple[Values, tuple[Row, Row]]] = []
        for k in range(n):
            for i, (exp, _) in enumerate(parts[k]):
                for j, (_, log) in enumerate(parts[n - 1 - k]):
                    value = _difference(exp, log, ceiling)
                    if value is not None and (key := _exact_key(value)) not in known:
                        known.add(key)
                        level.append((value, ((k, i), (n - 1 - k, j))))
        values.append([value for value, _ in level])
        children.append([pair for _, pair in level])
        parts.append([_exp_and_log(value) for value in values[-1]] if n < max_size else [])
    return values, children


def _exact_texts(children: list[list[tuple[Row, Row]]], names: list[str]) -> list[list[str]]:
    texts = [names]
    for level in children[1:]:
        texts.append([f"eml {texts[k][i]} {texts[m][j]}" for (k, i), (m, j) in level])
    return texts


def _texts(table: FunctionTable) -> list[str]:
    names = {EML: "eml", ONE: "1", **{X1 + i: f"x{i + 1}" for i in range(table.n_variables)}}
    return [" ".join(names[t] for t in row if t != PAD) for row in table.tokens.tolist()]


@pytest.mark.parametrize(
    ("n_variables", "max_size", "missing"),
    [
        (
            1,
            5,
            {
                # Differences near 1e-7 of numbers near 15, e^e - ln(e^e^e - ln x), and what is as near to something else.
                "eml eml 1 1 eml eml eml 1 1 1 x1",
                *(f"eml eml {a} eml eml eml 1 1 {b} x1 x1" for a in ("1", "x1") for b in ("1", "x1")),
                # exp(exp(e - e^x) + ...), of which at one point or another of each set one part swallows the other.
                *(
                    f"eml eml eml eml 1 eml x1 1 {a} {b} {c}"
                    for a, b, c in map(str.split, ("1 1 x1", "x1 1 1", "x1 1 x1", "x1 x1 x1", "1 x1 x1"))
                ),
            },
        ),
        (2, 4, set()),
    ],
)
def test_the_table_has_what_exact_arithmetic_finds(n_variables: int, max_size: int, missing: set[str]) -> None:
    table = build_table(n_variables, max_size)
    with mpmath.workdps(300):  # an exponential may have an imaginary argument of a hundred digits
        _, children = _exact(probe_points(n_variables), max_size, 1e100)
    exact = {text for level in _exact_texts(children, ["1", "x1", "x2"][: n_variables + 1]) for text in level}
    texts = set(_texts(table))
    assert exact - texts == missing
    assert len(texts - exact) > 0.2 * len(exact)  # what is too large at these points


@pytest.mark.parametrize(("n_variables", "max_size"), [(1, 5), (3, 3)])
def test_no_function_is_there_twice(n_variables: int, max_size: int) -> None:
    """In exact arithmetic, at the points where least overflows."""
    table, points = build_table(n_variables, max_size), probe_sets(n_variables)[1]
    rows = list(range(len(table)))
    with mpmath.workdps(600):  # where e^300 swallows a logarithm, digits are left
        at_points = [_row_values(table, rows, point) for point in points.tolist()]
        keys = [_exact_key(tuple(v[row] for v in at_points)) for row in rows if all(row in v for v in at_points)]
    assert len(keys) > 0.9 * len(table)
    assert len(set(keys)) == len(keys)


def _coarse(values: list[list[Values]], skipped: Callable[[int, int], bool], tolerance: float) -> list[int]:
    """Functions of each size that are left when some are skipped and those nearer than a relative tolerance are one."""
    kept = np.zeros((0, len(values[0][0])), dtype=complex)
    counts = []
    for n, level in enumerate(values):
        before = len(kept)
        for i, value in enumerate(level):
            number = np.array([complex(z) for z in value])
            near = (np.abs(kept - number) <= tolerance * np.abs(number)).all(1).any()
            if not near and not skipped(n, i):
                kept = np.concatenate([kept, number[None]])
        counts.append(len(kept) - before)
    return counts


@pytest.mark.parametrize(
    ("n_variables", "exact", "published"), [(1, [4, 16, 66, 306], [4, 16, 65, 304]), (2, [9, 54, 327], [9, 54, 326])]
)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_published_counts_lack_zero_and_tell_less_apart(
    n_variables: int, exact: list[int], published: list[int], seed: int
) -> None:
    inside = np.random.default_rng(seed).uniform(0.6, 2.8, (3, n_variables))
    ends = np.random.default_rng(seed + 10).uniform([[0.5], [2.8]], [[0.6], [2.88]], (2, n_variables))
    with mpmath.workdps(50):
        values, children = _exact(torch.from_numpy(np.concatenate([inside, ends])), len(exact), 1e8)
    assert [len(level) for level in values[1:]] == exact
    (zero,) = (i for i, value in enumerate(values[3]) if all(z == 0 for z in value))
    from_zero = {i for i, pair in enumerate(children[-1]) if (3, zero) in pair} if len(exact) == 4 else set()
    assert _coarse(values, lambda n, i: (n, i) == (3, zero) or (n == 4 and i in from_zero), 4e-8)[1:] == published
    if n_variables == 1:
        (text,) = (_exact_texts(children, ["1", "x1"])[4][i] for i in from_zero)
        assert text == "eml eml 1 eml eml 1 1 1 x1"  # 1 - ln x


def test_what_cancels_is_left_out_where_it_cannot_be_computed() -> None:
    probes = np.concatenate([np.random.default_rng(0).uniform(0.6, 2.8, (3, 1)), [[0.55], [2.85]]])
    table = build_table(1, 4, torch.from_numpy(probes), ceiling=1e8)
    assert table.counts == (2, 4, 16, 65, 298)
    with mpmath.workdps(50):
        _, children = _exact(torch.from_numpy(probes), 4, 1e8)
    exact = {text for level in _exact_texts(children, ["1", "x1"]) for text in level}
    f = "eml x1 eml eml x1 1 x1"
    gone = {f, f"eml 1 {f}", f"eml x1 {f}", f"eml {f} 1", f"eml {f} x1"}
    gone |= {f"eml x1 eml eml x1 1 {a}" for a in ("eml 1 1", "eml 1 x1", "eml x1 1", "eml x1 x1")}
    assert exact - set(_texts(table)) == gone


def _row_values(table: FunctionTable, rows: list[int], point: list[float]) -> dict[int, mpmath.mpc]:
    """Values at one point of some rows and of all below them, through the children."""
    needed = set(rows)
    for row in sorted(needed, reverse=True):
        stack = [row]
        while stack:
            parent = stack.pop()
            for child in (int(table.left[parent]), int(table.right[parent])):
                if child >= 0 and child not in needed:
                    needed.add(child)
                    stack.append(child)
    values: dict[int, mpmath.mpc | None] = {}
    parts: dict[int, tuple[Values, Values]] = {}
    for row in sorted(needed):
        left, right = int(table.left[row]), int(table.right[row])
        if left < 0:
            values[row] = mpmath.mpc([1, *point][row])
            continue
        pair = [values[left], values[right]]
        for child, value in zip((left, right), pair, strict=True):
            if child not in parts and value is not None:
                parts[child] = _exp_and_log((value,))
        result = _difference(parts[left][0], parts[right][1], 1e100) if None not in pair else None
        values[row] = None if result is None else result[0]
    return {row: values[row] for row in rows if values[row] is not None}


def test_trees_and_children_give_the_same_values_on_fresh_points(one: FunctionTable, two: FunctionTable) -> None:
    generator = torch.Generator().manual_seed(0)
    for table in (one, two):
        rows = torch.randperm(len(table), generator=generator)[:5000].sort().values
        x = 1.15 + 0.75 * torch.rand(1, table.n_variables, generator=generator, dtype=torch.float64)
        tokens = table.tokens_of(rows)
        programs = programs_from_tokens(tokens, torch.zeros(tokens.shape, dtype=torch.float64), table.n_variables)
        result = evaluate(programs, x)
        with mpmath.workdps(50):
            expected = _row_values(table, rows.tolist(), x[0].tolist())
        worst, compared = 0.0, 0
        for row, value, valid in zip(
            rows.tolist(), result.value[:, 0].tolist(), result.valid[:, 0].tolist(), strict=True
        ):
            if valid and row in expected:  # not what was too large on the way
                compared += 1
                worst = max(worst, abs(float(expected[row].real) - value) / abs(value))
        assert worst < 1e-10
        assert compared > 0.7 * len(rows)
