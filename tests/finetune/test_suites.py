"""The suites hold the laws they name, and recovery means the identical function."""

from pathlib import Path

import numpy as np
import pytest
import torch

from emlinit.finetune.evaluation import Outcome, run_suite, table, write_results
from emlinit.finetune.suites import SUITES, is_recovered, load_suite
from emlinit.generator.errors import UserError
from emlinit.generator.grammar import from_text
from emlinit.generator.program import programs_from_tokens


def test_the_papers_targets_are_its_formulas() -> None:
    e = np.e
    formulas = {
        "e-ln(e^y-ln x)": lambda x, y: e - np.log(np.exp(y) - np.log(x)),
        "e^e/(e^y-ln x)": lambda x, y: e**e / (np.exp(y) - np.log(x)),
        "ln(e^x-ln y)": lambda x, y: np.log(np.exp(x) - np.log(y)),
        "ln(e-ln(e^x-ln y))": lambda x, y: np.log(np.abs(e - np.log(np.exp(x) - np.log(y)))),
        "e-y*e^(e-e^x)": lambda x, y: e - y * np.exp(e - np.exp(x)),
        "x*y": lambda x, y: x * y,
    }
    problems = load_suite("paper")
    assert [p.name for p in problems] == list(formulas)
    assert [p.group for p in problems] == [f"depth {d}" for d in (2, 3, 4, 5, 6, 8)]
    for problem in problems:
        assert problem.x.min() == 1
        assert problem.x.max() == 3
        np.testing.assert_allclose(problem.y, formulas[problem.name](*problem.x.T), rtol=1e-9)


@pytest.mark.parametrize("suite", SUITES)
def test_every_truth_is_recovered_by_itself_and_not_by_a_near_miss(suite: str) -> None:
    for problem in load_suite(suite, limit=3):
        assert is_recovered(problem, problem.truth), problem.name
        near = problem.truth.with_constants(problem.truth.weight * (1 + 1e-5), problem.truth.bias)
        assert not is_recovered(problem, near), problem.name


def test_unknown_suites_are_named() -> None:
    with pytest.raises(UserError, match="unknown suite 'nope': use one of paper"):
        load_suite("nope")


def test_a_random_start_finds_the_smallest_tree_and_the_table_counts_it() -> None:
    problem = load_suite("identities")[0]
    assert problem.name == "exp(x1)"
    outcomes = run_suite([problem], ["random"], [0, 1], 20.0, None)
    assert [o.recovered for o in outcomes] == [True, True]
    assert "| exp(x1) (identities) | 2/2 |" in table(outcomes, each=True)


def test_results_are_written_whole(tmp_path: Path) -> None:
    folder = tmp_path / "results"
    outcome = Outcome("p", "g", "random", 0, False, 1.5, None)
    path = write_results(folder, "paper", [outcome], {"seconds": "10"})
    assert path.name.startswith("paper-")
    assert '"loss": null' in path.read_text()
    assert [p.name for p in folder.iterdir()] == [path.name]


def test_a_wrong_function_is_not_recovered() -> None:
    problem = load_suite("identities")[0]
    tokens, constants = from_text("eml x1 x1", 1)
    assert not is_recovered(problem, programs_from_tokens(tokens[None], constants[None], 1))
    assert not torch.isnan(torch.from_numpy(problem.y)).any()
