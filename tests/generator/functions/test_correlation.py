"""Functions and pairs of a table that combine to data, against plain loops and known answers."""

import numpy as np
import pytest
import torch

from emlinit.generator.evaluate import evaluate
from emlinit.generator.functions.correlation import StandardisedTable
from emlinit.generator.functions.lookup import table_values
from emlinit.generator.functions.table import FunctionTable, build_table
from emlinit.generator.program import programs_from_tokens


@pytest.fixture(scope="module")
def table() -> FunctionTable:
    return build_table(2, 3)


@pytest.fixture(scope="module")
def x() -> torch.Tensor:
    return 0.5 + 1.5 * torch.rand(96, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def functions(table: FunctionTable, x: torch.Tensor) -> StandardisedTable:
    return StandardisedTable(table, x)


def _values(table: FunctionTable, rows: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Float64 values of some rows, by the evaluator of programs."""
    tokens = table.tokens_of(rows)
    programs = programs_from_tokens(tokens, torch.zeros(tokens.shape, dtype=torch.float64), x.shape[1])
    return evaluate(programs, x, rtol=None).value


def test_an_affine_image_of_every_function_is_found_with_its_slope_and_intercept(
    table: FunctionTable, x: torch.Tensor, functions: StandardisedTable
) -> None:
    assert len(functions) > 100
    value = _values(table, functions.rows, x)
    slope = torch.where(torch.arange(len(value)) % 2 == 0, -2.5, 0.3).double()
    intercept = torch.arange(len(value)).double() % 7 - 3.0
    intercept = intercept * value.abs().amax(1) * slope.abs()
    hits = functions.best(slope[:, None] * value + intercept[:, None], 2)
    own = hits.row[:, :, 0] == functions.rows[:, None]
    found = own.any(1)
    assert found.all()
    hit = own.double().argmax(1, keepdim=True)
    for got, wanted in ((hits.slope[..., 0], slope), (hits.intercept, intercept)):
        got = got.gather(1, hit)[:, 0]
        size = wanted.abs() + (slope * value.abs().amax(1).clamp_min(1.0)).abs() * 1e-3
        conditioned = value.std(1) > 1e-4 * value.abs().amax(1)
        assert conditioned.double().mean() > 0.9
        assert ((got - wanted).abs() <= 1e-8 * size)[conditioned].all()
    assert (hits.correlation.gather(1, hit) > 1 - 1e-9).all()


def test_the_matrix_product_equals_a_plain_loop(table: FunctionTable, x: torch.Tensor) -> None:
    functions = StandardisedTable(table, x)
    targets = torch.randn(3, len(x), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    kept, r = functions.correlations(targets)
    assert kept.tolist() == [0, 1, 2]
    value = _values(table, functions.rows, x).numpy()
    expected = np.array([[np.corrcoef(target, one)[0, 1] for one in value] for target in targets.numpy()])
    np.testing.assert_allclose(r.numpy(), expected, atol=1e-12)
    hits = functions.best(targets, 5)
    for target in range(3):
        best = np.sort(np.abs(expected[target]))[::-1][:5]
        np.testing.assert_allclose(hits.correlation[target].numpy(), best, atol=1e-12)
        a, b = np.polyfit(_values(table, hits.row[target, :1, 0], x)[0].numpy(), targets[target].numpy(), 1)
        assert float(hits.slope[target, 0, 0]) == pytest.approx(a, rel=1e-8)
        assert float(hits.intercept[target, 0]) == pytest.approx(b, rel=1e-8)


def test_functions_that_are_complex_undefined_or_constant_are_left_out(table: FunctionTable) -> None:
    x = torch.linspace(-2.0, 2.0, 41, dtype=torch.float64)[:, None].repeat(1, 2) + torch.tensor([0.013, 0.4])
    functions = StandardisedTable(table, x)
    value = table_values(table, x, len(table))
    real = (value.imag.abs().amax(1) <= 1e-9 * value.real.abs().amax(1)) & (value.real.abs().amax(1) < 1e100)
    varies = value.real.std(1) > 1e-8 * value.real.abs().amax(1)
    assert 20 < int((real & varies).sum()) < len(table) / 2
    assert (real & varies)[functions.rows].all()
    assert 0 not in functions.rows  # the constant 1
    assert bool(functions.vectors.isfinite().all())


def test_of_affine_images_of_one_another_the_smallest_is_kept(table: FunctionTable, x: torch.Tensor) -> None:
    functions = StandardisedTable(table, x)
    value = table_values(table, x, len(table))
    is_real = value.imag.abs().amax(1) <= 1e-9 * value.real.abs().amax(1)
    unit = value.real - value.real.mean(1, keepdim=True)
    unit = unit / unit.norm(dim=1, keepdim=True)
    kept = unit[functions.rows]
    products = kept @ kept.T
    first, second = torch.nonzero((products.abs() > 1 - 1e-10).triu(1), as_tuple=True)
    distance = (kept[first] - products[first, second].sign()[:, None] * kept[second]).norm(dim=1)
    assert (distance > 1e-9).all()
    dropped = torch.ones(len(table), dtype=torch.bool)
    dropped[functions.rows] = False
    varies = value.real.std(1) > 2e-7 * value.real.abs().amax(1)
    dropped = torch.nonzero(dropped & is_real & varies & unit.isfinite().all(1))[:, 0]
    assert len(dropped) > 50
    near = (unit[dropped] @ kept.T).abs()
    assert (near.amax(1) > 1 - 1e-12).all()
    smallest = functions.rows[(near > 1 - 1e-12).double().argmax(1)]
    assert (smallest < dropped).all()


def test_pairs_equal_a_plain_loop_of_least_squares(x: torch.Tensor) -> None:
    table = build_table(2, 2)
    functions = StandardisedTable(table, x)
    target = torch.randn(len(x), dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    value = _values(table, functions.rows, x)
    centred = target - target.mean()
    best: dict[int, float] = {}
    for i in range(len(value)):
        for j in range(i + 1, len(value)):
            if 1 - np.corrcoef(value[i], value[j])[0, 1] ** 2 <= 1e-4:
                continue
            columns = torch.stack([value[i], value[j], torch.ones(len(x), dtype=torch.float64)], 1)
            residual = target - columns @ torch.linalg.lstsq(columns, target[:, None]).solution[:, 0]
            share = 1 - float(residual.square().sum() / centred.square().sum())
            best[i] = max(best.get(i, 0.0), share)
    expected = np.sqrt(sorted(best.values(), reverse=True)[:4])
    hits = functions.best_pairs(target[None], 4)
    np.testing.assert_allclose(hits.correlation[0].numpy(), expected, rtol=1e-9)
    fit = (hits.slope[0, :, :, None] * _values(table, hits.row[0].flatten(), x).view(4, 2, -1)).sum(1)
    residual = target - fit - hits.intercept[0, :, None]
    torch.testing.assert_close(hits.lowest[0], (target - residual).amin(1), rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(hits.highest[0], (target - residual).amax(1), rtol=1e-8, atol=1e-8)
    explained = 1 - residual.square().sum(1) / centred.square().sum()
    np.testing.assert_allclose(explained.sqrt().numpy(), hits.correlation[0].numpy(), rtol=1e-8)


def test_a_sum_of_two_functions_is_found(table: FunctionTable, x: torch.Tensor) -> None:
    functions = StandardisedTable(table, x)
    y = 1.7 * x[:, 0].log() - 0.4 * x[:, 1].exp() + 3.0
    hits = functions.best_pairs(y[None], 3)
    assert float(hits.correlation[0, 0]) > 1 - 1e-12
    rebuilt = (hits.slope[0, 0, :, None] * _values(table, hits.row[0, 0], x)).sum(0) + hits.intercept[0, 0]
    torch.testing.assert_close(rebuilt, y, rtol=0.0, atol=1e-9)


def test_noise_lowers_the_correlation_and_keeps_the_function(
    table: FunctionTable, x: torch.Tensor, functions: StandardisedTable
) -> None:
    generator = torch.Generator().manual_seed(3)
    y = 4.0 * (-x[:, 0]).exp() + 1.0  # e^e / e^x is a function of size 3
    noisy = y + 0.05 * y.std() * torch.randn(len(y), dtype=torch.float64, generator=generator)
    clean_hit = functions.best(y[None], 1)
    assert float(clean_hit.correlation[0, 0]) > 1 - 1e-12
    hits = functions.best(noisy[None], 12, per_size=4)
    assert int(clean_hit.row) in hits.row
    assert 0.99 < float(hits.correlation[0, 0]) < 1 - 1e-4


def test_every_size_has_its_hits(functions: StandardisedTable, x: torch.Tensor, table: FunctionTable) -> None:
    y = torch.randn(1, len(x), dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    hits = functions.best(y, 12, per_size=2)
    sizes = table.sizes[hits.row[0, :, 0]]
    assert [int((sizes == size).sum()) >= 2 for size in range(4)] == [True] * 4
    assert (hits.correlation[0, 1:] <= hits.correlation[0, :-1]).all()


def test_degenerate_input(functions: StandardisedTable, table: FunctionTable, x: torch.Tensor) -> None:
    constant = torch.full((1, len(x)), 2.0, dtype=torch.float64)
    for hits in (functions.best(constant, 3), functions.best_pairs(constant, 3)):
        assert (hits.row == -1).all()
    mixed = torch.cat([constant, x.T[:1]])
    hits = functions.best(mixed, 3)
    assert (hits.row[0] == -1).all()
    assert int(hits.row[1, 0]) == 1
    with pytest.raises(ValueError, match="need 2 points and 2 columns"):
        StandardisedTable(table, x[:, :1])
    with pytest.raises(ValueError, match="need 2 points"):
        StandardisedTable(table, x[:1])


def test_only_whole_sizes_within_the_limit(table: FunctionTable, x: torch.Tensor) -> None:
    small = StandardisedTable(table, x, max_functions=sum(table.counts[:3]))
    assert int(small.sizes.max()) == 2
    assert StandardisedTable(table, x, max_functions=1).rows.tolist() == [1, 2]
