"""The suites of formulas that a search without a network misses: what they hold, and how they were made."""

import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from emlinit.benchmarks.laws import hard
from emlinit.benchmarks.laws.hard import N_ASIDE, N_HARD, Tried, freeze, hard_candidates, is_determined, try_formulas
from emlinit.benchmarks.laws.suites import load_law_suite
from emlinit.generator.corpus.frozen import (
    HARD_ASIDE_FILE,
    HARD_FILE,
    DrawnFormula,
    load_formula_problems,
)
from emlinit.generator.corpus.skeletons import skeleton
from emlinit.generator.errors import UserError
from emlinit.generator.grammar import from_text


def test_both_suites_hold_laws_that_their_data_determine() -> None:
    shapes = []
    for suite, path, n in (("hard", HARD_FILE, N_HARD), ("hard-aside", HARD_ASIDE_FILE, N_ASIDE)):
        stored = load_formula_problems(path)
        assert len(stored) == n
        shapes += [skeleton(from_text(problem.text)[0].tolist()) for problem in stored]
        for problem, frozen in zip(load_law_suite(suite, limit=20), stored, strict=False):
            assert problem.name == frozen.name
            np.testing.assert_allclose(problem.y, frozen.y, rtol=0, atol=1e-9 * np.abs(frozen.y).max())
            nodes, _ = frozen.name.split("-")
            assert is_determined(DrawnFormula(int(nodes), frozen.text, frozen.formula, frozen.x, frozen.y))
    assert len(set(shapes)) == len(shapes)
    assert {len(problem.x[0]) for problem in load_formula_problems(HARD_FILE)} >= {1, 2, 3, 4}


def test_the_first_candidates_are_those_that_were_drawn() -> None:
    """The stream of random numbers has not changed since: the suite's names are the numbers of its candidates."""
    stored = {int(problem.name.split("-")[1]): problem for problem in load_formula_problems(HARD_FILE)}
    drawn = dict(enumerate(islice(hard_candidates(), min(stored) + 3)))
    for number in drawn.keys() & stored.keys():
        assert drawn[number].text == stored[number].text
    assert drawn.keys() & stored.keys()


def test_constants_that_hide_behind_one_another_are_not_determined() -> None:
    x = np.random.default_rng(0).uniform(0.5, 2.0, (200, 1))

    def drawn(formula: str, y: np.ndarray) -> DrawnFormula:
        return DrawnFormula(1, "x1", formula, x, y)

    assert is_determined(drawn("2.5*exp(-0.7*x1)", 2.5 * np.exp(-0.7 * x[:, 0])))
    assert not is_determined(drawn("2.5*(1.5*x1 + 0.3)**0.7", 2.5 * (1.5 * x[:, 0] + 0.3) ** 0.7))
    assert not is_determined(drawn("2.5*x1 + 1e-7*exp(0.7*x1)", 2.5 * x[:, 0]))
    assert not is_determined(drawn("x1**2", x[:, 0] ** 2))  # no constant at all


def test_what_is_missed_is_frozen_and_a_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    searched = []

    def tried(one: hard._Try, needs: object) -> Tried:
        searched.append(one.number)
        return Tried(one.number, one.number % 2 == 0, one.seconds)

    monkeypatch.setattr(hard, "_load", dict)
    monkeypatch.setattr(hard, "_tried", tried)
    monkeypatch.setattr(hard, "N_HARD", 2)
    monkeypatch.setattr(hard, "N_ASIDE", 1)
    lines = tmp_path / "tried.jsonl"
    assert len(try_formulas(3, 1.0, lines)) == 3
    found = try_formulas(6, 1.0, lines)
    assert searched == [0, 1, 2, 3, 4, 5]
    assert [json.loads(line)["number"] for line in lines.read_text().splitlines()] == searched
    with pytest.raises(UserError, match="try more"):
        freeze(found[:4], tmp_path / "a", tmp_path / "b")
    freeze(found, tmp_path / "a", tmp_path / "b")
    names = [problem.name.split("-")[1] for path in ("a", "b") for problem in load_formula_problems(tmp_path / path)]
    assert names == ["1", "3", "5"]
