"""The suites hold the laws they name, and recovery means the identical function."""

import numpy as np
import pytest
import torch

from emlinit.benchmarks.priors import FlatPrior
from emlinit.benchmarks.trees.methods import TREE_METHODS
from emlinit.benchmarks.trees.run import recovery_table, run_tree_suite
from emlinit.benchmarks.trees.suites import TREE_SUITES, is_recovered, load_tree_suite
from emlinit.generator.errors import UserError
from emlinit.generator.grammar import depth, from_text, is_complete
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
    problems = load_tree_suite("paper")
    assert [p.name for p in problems] == list(formulas)
    assert [p.group for p in problems] == [f"depth {d}" for d in (2, 3, 4, 5, 6, 8)]
    for problem in problems:
        assert problem.x.min() == 1
        assert problem.x.max() == 3
        np.testing.assert_allclose(problem.y, formulas[problem.name](*problem.x.T), rtol=1e-9)


@pytest.mark.parametrize("suite", TREE_SUITES)
def test_every_truth_is_recovered_by_itself_and_not_by_a_near_miss(suite: str) -> None:
    for problem in load_tree_suite(suite, limit=3):
        assert is_recovered(problem, problem.truth), problem.name
        near = problem.truth.with_constants(problem.truth.weight * (1 + 1e-5), problem.truth.bias)
        assert not is_recovered(problem, near), problem.name


def test_unknown_suites_are_named() -> None:
    with pytest.raises(UserError, match="unknown suite 'nope': use one of paper"):
        load_tree_suite("nope")


def test_every_method_finds_the_smallest_tree_and_the_table_counts_it() -> None:
    problem = load_tree_suite("identities")[0]
    assert problem.name == "exp(x1)"
    outcomes = run_tree_suite([problem], TREE_METHODS, [0, 1], 20.0, "builtin:exact")
    assert [o.method for o in outcomes] == 2 * list(TREE_METHODS)
    assert all(o.recovered for o in outcomes), [o.method for o in outcomes if not o.recovered]
    assert "| exp(x1) (identities) | 2/2 |" in recovery_table(outcomes, by_problem=True)
    assert "| meeting in the middle, no network | 2/2 |" in recovery_table(outcomes, by_problem=False)


def test_processes_find_what_one_does() -> None:
    problems = load_tree_suite("identities")[1:3]
    alone = run_tree_suite(problems, ["meeting"], [0], 20.0, "builtin:exact")
    together = run_tree_suite(problems, ["meeting"], [0], 20.0, "builtin:exact", jobs=2)
    assert [(o.problem, o.recovered) for o in together] == [(o.problem, o.recovered) for o in alone]
    assert all(o.recovered for o in alone)


def test_what_the_network_is_not_asked_for_it_does_not_load() -> None:
    problem = load_tree_suite("identities")[0]
    outcomes = run_tree_suite([problem], ["meeting", "flat-sampling"], [0], 20.0, "local-dir:/nowhere")
    assert all(o.recovered for o in outcomes)
    with pytest.raises(UserError, match="no folder"):
        run_tree_suite([problem], ["meeting", "sampling"], [0], 20.0, "local-dir:/nowhere")


def test_the_flat_prior_does_not_look_at_the_data() -> None:
    x = torch.rand(30, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def drawn(y: torch.Tensor) -> torch.Tensor:
        prior = FlatPrior(torch.Generator().manual_seed(1))
        return prior.propose(x, y, 200, generator=torch.Generator().manual_seed(2)).tokens

    first = drawn(x[:, 0])
    assert torch.equal(first, drawn(-3 * x[:, 1]))
    assert len(torch.unique(first, dim=0)) == len(first) == 200
    assert bool(is_complete(first, 2).all())
    assert int(depth(first).max()) >= 4


def test_wide_problems_are_what_they_say() -> None:
    problems = load_tree_suite("wide")
    assert len(problems) == 60
    for problem in problems:
        low, high = map(int, problem.group.removesuffix(" nodes").split("-"))
        assert low <= int(problem.truth.n_nodes[0]) <= high
        assert problem.x.shape == (200, 3)


def test_a_wrong_function_is_not_recovered() -> None:
    problem = load_tree_suite("identities")[0]
    tokens, constants = from_text("eml x1 x1", 1)
    assert not is_recovered(problem, programs_from_tokens(tokens[None], constants[None], 1))
    assert not torch.isnan(torch.from_numpy(problem.y)).any()
