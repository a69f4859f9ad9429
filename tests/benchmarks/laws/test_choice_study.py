"""The study of the choice: tables are drawn as told, and what each rule picks is counted as it should be."""

import numpy as np
import pytest

from emlinit.benchmarks.laws.choice_criteria import CHOICE_CRITERIA
from emlinit.benchmarks.laws.choice_study import (
    NODE_PRICES,
    STUDY_NOISE,
    STUDY_ROWS,
    StudyTable,
    choice_tables,
    draw_table,
    fit_all,
    picked_forms,
    run_choice_study,
)
from emlinit.benchmarks.laws.quick_fits import CURVE_FORMS


def test_tables_depend_on_the_seed_alone_and_are_as_noisy_as_told() -> None:
    for seed in range(30):
        name, x, clean = draw_table(np.random.default_rng(seed), 300, 0.0)
        again, same, noisy = draw_table(np.random.default_rng(seed), 300, 0.1)
        assert name == again
        np.testing.assert_array_equal(x, same)
        assert ((x > 0) & (x <= 1)).all()
        assert CURVE_FORMS[name].drawn is not None
        size = clean.std() if np.ptp(clean) > 0 else abs(clean[0])
        assert np.std(noisy - clean) == pytest.approx(0.1 * size, rel=0.25)


def test_a_law_has_fewer_constants_than_its_table_rows() -> None:
    names = {draw_table(np.random.default_rng(seed), 4, 0.01)[0] for seed in range(200)}
    assert max(CURVE_FORMS[name].n_constants for name in names) == 3


def test_precise_tables_of_many_rows_are_told_by_every_rule() -> None:
    x = np.linspace(0.05, 1, 200)[:, None]
    y = 3 + 2 / x[:, 0] + 1e-4 * np.random.default_rng(0).standard_normal(200)
    for rule, names in picked_forms(fit_all(x, y)).items():
        assert names == ["a + b/x"] * len(NODE_PRICES), rule


def test_outcomes_compare_constants() -> None:
    def outcome(law: str, chosen: str) -> str:
        return StudyTable(6, 0.01, law, {"BIC": [chosen]}).outcome("BIC", 0)

    assert outcome("a + b/x", "a + b/x") == "right"
    assert outcome("a + b/x", "c x^-1") == outcome("a + b/x", "") == "short"
    assert outcome("a + b/x", "logistic") == "long"
    assert outcome("a + b/x", "a + b x") == "other"


def test_the_study_runs_and_is_printed() -> None:
    tables = run_choice_study(len(STUDY_ROWS), 0)
    assert tables == run_choice_study(len(STUDY_ROWS), 0)
    for table, (low, high) in zip(tables, STUDY_ROWS, strict=True):
        assert low <= table.rows <= high
        assert table.noise == STUDY_NOISE[0]
        assert table.chosen.keys() == CHOICE_CRITERIA.keys()
    printed = choice_tables(tables)
    assert all(f"| {rule} |" in printed for rule in CHOICE_CRITERIA)
    assert "| - |" in printed  # no table of these had the other levels of noise
