"""Units fold back into programs exactly; rows are held out; the informative variables are found."""

import time

import numpy as np
import pytest
import torch

from emlinit.finetune.preparation import (
    MIN_ROWS_TO_HOLD_OUT,
    MOST_ROWS,
    SEARCH_ROWS,
    TRAIN_ROWS,
    choose_variables,
    in_known_units,
    in_search_units,
    prepare,
    restore_units,
    sample_of,
)
from emlinit.generator.corpus.trees import add_constants, trees_by_size
from emlinit.generator.evaluate import evaluate
from emlinit.generator.program import programs_from_tokens


def test_programs_in_search_units_are_the_same_laws_in_data_units() -> None:
    generator = torch.Generator().manual_seed(0)
    mask = torch.ones(200, 2, dtype=torch.bool)
    trees = trees_by_size(torch.randint(0, 6, (200,), generator=generator), mask, 0.3, generator)
    programs = programs_from_tokens(*add_constants(trees, mask, generator), 2)
    rng = np.random.default_rng(0)
    x = rng.uniform(1, 2, (30, 2)) * [1e-6, 1e5]
    problem = in_known_units(prepare(x, rng.uniform(1, 2, 30) * 1e-9, rng))
    assert 1 <= float(problem.x.max()) < 10
    assert 1 <= float(problem.y.max()) < 20
    inside = evaluate(programs, problem.x, rtol=None)
    restored = evaluate(restore_units(programs, problem), torch.from_numpy(x), rtol=None)
    both = inside.valid & restored.valid
    assert float(both.double().mean()) > 0.6
    close = (restored.value - problem.y_unit * inside.value).abs() <= 1e-6 * (problem.y_unit * inside.value).abs()
    assert float(close[both].double().mean()) > 0.99  # a sensitive program may amplify the rounding of the units


def test_laws_in_data_units_are_written_in_those_of_the_search_again() -> None:
    generator = torch.Generator().manual_seed(1)
    mask = torch.ones(50, 2, dtype=torch.bool)
    trees = trees_by_size(torch.randint(0, 5, (50,), generator=generator), mask, 0.3, generator)
    programs = programs_from_tokens(*add_constants(trees, mask, generator), 2)
    rng = np.random.default_rng(0)
    x = np.column_stack([rng.uniform(1, 2, 60) * 1e-6, rng.integers(0, 2, 60)])  # a flag is shifted
    problem = in_known_units(prepare(x, rng.uniform(1, 2, 60) * 1e-9, rng))
    assert problem.x_shift.tolist() != [0.0, 0.0]
    again = in_search_units(restore_units(programs, problem), problem)
    torch.testing.assert_close(again.weight, programs.weight, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(again.bias, programs.bias, rtol=1e-9, atol=1e-9)


def test_known_sizes_are_left_alone() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0.5, 5, (40, 1)), rng.uniform(-3, 3, 40)
    problem = in_known_units(prepare(x, y, rng))
    assert torch.equal(problem.x, torch.from_numpy(x))
    assert problem.y_unit == 1.0


def test_rows_are_split_without_overlap_or_not_at_all() -> None:
    rng = np.random.default_rng(0)
    many = prepare(rng.uniform(size=(50, 1)), rng.uniform(size=50), rng)
    assert sorted(torch.cat([many.train, many.validation]).tolist()) == list(range(50))
    assert len(many.validation) == 10
    assert torch.equal(many.search, many.train)
    few = MIN_ROWS_TO_HOLD_OUT - 1
    small = prepare(rng.uniform(size=(few, 1)), rng.uniform(size=few), rng)
    assert torch.equal(small.train, small.validation)
    assert len(small.train) == few


def test_of_many_rows_samples_are_fitted_and_searched() -> None:
    rng = np.random.default_rng(0)
    grid = np.linspace(1, 2, 3 * TRAIN_ROWS)
    problem = prepare(grid[:, None], grid, rng)
    rows = [set(part.tolist()) for part in (problem.search, problem.train, problem.validation)]
    assert [len(part) for part in rows] == [SEARCH_ROWS, TRAIN_ROWS, TRAIN_ROWS // 5]
    assert rows[0] <= rows[1]
    assert not rows[1] & rows[2]
    for part in (problem.search, problem.train, problem.validation):  # from the whole table, not its head
        assert float(problem.x[part].mean()) == pytest.approx(1.5, abs=0.03)


def _search_rows(*columns: np.ndarray) -> np.ndarray:
    x = np.stack(columns, 1).astype(float)
    problem = prepare(x, np.arange(len(x), dtype=float), np.random.default_rng(0))
    assert set(problem.search.tolist()) <= set(problem.train.tolist())
    assert len(problem.train) + (len(problem.validation) if len(x) >= MIN_ROWS_TO_HOLD_OUT else 0) == len(x)
    return x[problem.search.numpy()]


def test_of_very_many_rows_a_sample_is_looked_at_in_which_y_still_varies() -> None:
    n = MOST_ROWS + 1000
    x, y = np.arange(2.0 * n).reshape(n, 2), np.zeros(n)
    y[7] = 1.0
    rows = sample_of(y, np.random.default_rng(0))
    some_x, some_y = x[rows], y[rows]
    assert MOST_ROWS - 2 <= len(some_y) <= MOST_ROWS
    assert np.ptp(some_y) == 1.0
    assert len(np.unique(some_x[:, 0])) == len(some_y)
    assert (np.diff(some_x[:, 0]) > 0).all()
    assert len(y[:100][sample_of(y[:100], np.random.default_rng(0))]) == 100


def test_choosing_among_very_many_columns_ends_with_the_time() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(1, 5, (300, 3000))
    y = x[:, 7] ** 2 / x[:, 2000] + (x[:, 2999] - 3) ** 2
    begin = time.monotonic()
    chosen = choose_variables(x, y, until=begin)
    assert time.monotonic() - begin < 20  # all trees on all columns take half a minute
    assert {7, 2000, 2999} <= set(chosen)


def test_rows_with_zeros_are_fitted_but_structures_are_searched_without_them() -> None:
    first, second = (axis.ravel() for axis in np.meshgrid(np.arange(6), np.arange(6)))
    found = _search_rows(first, second)
    assert (found != 0).all()
    assert len(found) > 10


def test_zeros_stay_where_the_target_would_become_constant() -> None:
    x = np.arange(50.0)
    problem = prepare(x[:, None], (x > 0).astype(float), np.random.default_rng(0))
    assert len(torch.unique(problem.y[problem.train])) == len(torch.unique(problem.y[problem.search]))


def test_zeros_stay_where_too_little_would_be_left() -> None:
    level = np.arange(40) % 2
    assert set(_search_rows(level, np.arange(1, 41))[:, 0]) == {0.0, 1.0}  # of two values none may go
    assert set(_search_rows(np.arange(40) % 3, np.arange(1, 41))[:, 0]) == {0.0, 1.0, 2.0}
    mostly = np.where(np.arange(40) % 4 == 0, np.arange(40), 0)
    assert (_search_rows(mostly, np.arange(1, 41))[:, 0] == 0).any()
    # A column whose zeros cannot be spared does not keep those of another.
    found = _search_rows(level, np.arange(40))
    assert set(found[:, 0]) == {0.0, 1.0}
    assert (found[:, 1] != 0).all()


def test_the_variables_that_matter_are_chosen() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(0.5, 3, (300, 12))
    x[:, 4] = 7.0
    chosen = choose_variables(x, np.exp(x[:, 3]) / x[:, 9])
    assert {3, 9} <= set(chosen)
    assert len(chosen) == 5
    assert 4 not in chosen
    assert choose_variables(x[:, :5], x[:, 0]) == (0, 1, 2, 3)
    assert choose_variables(np.ones((10, 3)), np.arange(10.0)) == (0,)
