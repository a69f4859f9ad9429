"""The basin study: runs are independent, the truth is found, shares and intervals are right."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from emlinit.benchmarks.basin import independent_runs
from emlinit.benchmarks.basin import study as basin
from emlinit.benchmarks.basin.independent_runs import train_independent
from emlinit.benchmarks.basin.report import PAPER_RUNS, basin_table, summarise, wilson, write_basin_results
from emlinit.benchmarks.basin.study import (
    LEARNED,
    RANDOM,
    BasinConfig,
    basin_problems,
    basin_study,
    sample_proposals,
    starts,
    study_tree,
)
from emlinit.benchmarks.trees.suites import TreeProblem
from emlinit.finetune.routing.gumbel import GumbelConfig
from emlinit.finetune.routing.topology import full_tree, program
from emlinit.generator.errors import UserError
from emlinit.model.initialiser import EMLInitialiser, InitialiserConfig
from emlinit.scripts import basin_study as script

TRAINING = GumbelConfig(steps=20, lifetime=6, squash=True)
SMALL = BasinConfig(depths=(2,), trees=2, runs=3, noise_levels=(0.0, 2.0), training=TRAINING)
UNTRAINED = InitialiserConfig(d_model=16, n_heads=2, n_inducing=2, n_latents=2, n_decoder_layers=1)


@pytest.fixture(scope="module")
def problems() -> dict[int, TreeProblem]:
    return {int(p.group[-1]): p for p in basin_problems(BasinConfig(trees=1))}


def test_a_run_does_not_depend_on_the_others(problems: dict[int, TreeProblem]) -> None:
    problem = problems[3]
    x, y = torch.from_numpy(problem.x), torch.from_numpy(problem.y)
    topology = full_tree(3, x.shape[1])
    logits = torch.randn(6, topology.n_slots, topology.n_choices, dtype=torch.float64, generator=_generator())
    together = train_independent(topology, logits, x, y, TRAINING, seeds=range(6))
    backwards = train_independent(topology, logits.flip(0), x, y, TRAINING, seeds=range(5, -1, -1))
    for run in (0, 4):
        alone = train_independent(topology, logits[run : run + 1], x, y, TRAINING, seeds=[run])
        for mine, with_others, last in (
            (alone.end, together.end, backwards.end),
            (alone.best, together.best, backwards.best),
        ):
            assert torch.equal(mine.choice[0], with_others.choice[run])
            assert torch.equal(mine.choice[0], last.choice[5 - run])
    assert len(together.best.choice.unique(dim=0)) > 1  # equal logits apart, runs differ
    other = train_independent(topology, logits, x, y, TRAINING, seeds=range(10, 16))
    assert not torch.equal(other.best.choice, together.best.choice)


def test_no_program_is_visited_twice_as_long_as_draws_are_left(
    problems: dict[int, TreeProblem], monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = problems[3]
    x, y = torch.from_numpy(problem.x), torch.from_numpy(problem.y)
    topology = full_tree(3, x.shape[1])
    logits = torch.zeros(3, topology.n_slots, topology.n_choices, dtype=torch.float64)
    visited = []
    remember = independent_runs._Runs.remember

    def spy(self: independent_runs._Runs, visit: independent_runs.VisitedPrograms) -> None:
        visited.append(visit.choice)
        remember(self, visit)

    monkeypatch.setattr(independent_runs._Runs, "remember", spy)
    result = train_independent(topology, logits, x, y, replace(TRAINING, redraws=40), seeds=range(3))
    each = torch.stack(visited[:-1], 1)  # without the last mode
    assert each.shape[1] == TRAINING.steps + 1
    for run in range(3):
        assert len(each[run].unique(dim=0)) == TRAINING.steps + 1
    assert torch.equal(result.start.choice, torch.zeros_like(result.start.choice))  # the mode of zeros is the tree `1`
    assert (result.best.loss <= result.start.loss).all()
    assert (result.best.loss <= result.end.loss).all()


def test_without_gradient_and_lives_the_logits_stay(problems: dict[int, TreeProblem]) -> None:
    problem = problems[3]
    x, y = torch.from_numpy(problem.x), torch.from_numpy(problem.y)
    topology = full_tree(3, x.shape[1])
    logits = torch.randn(8, topology.n_slots, topology.n_choices, dtype=torch.float64, generator=_generator())
    one_life = replace(TRAINING, lifetime=1000)
    rate = torch.tensor([0.0, 0.3] * 4, dtype=torch.float64)
    result = train_independent(topology, logits, x, y, one_life, seeds=range(8), learning_rate=rate)
    same = (result.start.choice == result.end.choice).flatten(1).all(1)
    assert same[::2].all()
    assert not same[1::2].all()


@pytest.mark.parametrize("level", [2, 3, 4])
def test_the_true_tree_is_found_and_kept_in_every_run(problems: dict[int, TreeProblem], level: int) -> None:
    config = replace(SMALL, runs=6, noise_levels=(0.0,))
    _, truth = study_tree(problems[level], starts(problems[level], None, config), config)
    assert truth.start == "truth ± 0"
    assert truth.runs == truth.started == truth.visited == truth.control_visited == 6
    assert truth.drawn == 0


def test_a_study_repeats_itself_and_its_counts_are_ordered() -> None:
    problems, initialiser = basin_problems(SMALL), EMLInitialiser(UNTRAINED)
    ticks: list[int] = []
    outcomes = basin_study(problems, initialiser, SMALL, lambda: ticks.append(1))
    assert len(ticks) == len(problems) == 2
    assert [o.start for o in outcomes[:5]] == [RANDOM, LEARNED, "likeliest", "truth ± 0", "truth ± 2"]
    assert outcomes[5:10] == basin_study(problems[1:2], initialiser, SMALL)
    for outcome in outcomes:
        assert outcome.runs == 3
        assert outcome.started <= outcome.visited
        assert outcome.ended <= outcome.visited
    rows = summarise(outcomes)
    assert [row.runs for row in rows] == [6] * 5
    assert sum(row.visited for row in rows) == sum(o.visited for o in outcomes) > 6


def test_proposals_are_independent_draws(problems: dict[int, TreeProblem]) -> None:
    initialiser = EMLInitialiser(UNTRAINED)
    x, y = torch.from_numpy(problems[2].x), torch.from_numpy(problems[2].y)
    tokens, kinds = sample_proposals(initialiser, x, y, 200, generator=_generator())
    assert len(tokens) == len(kinds) == 200
    assert 1 < len(tokens.unique(dim=0)) < 200  # with repetition
    first = kinds[:, 0].exp()
    assert torch.allclose(first.sum(1), torch.ones(200), atol=1e-5)
    drawn = tokens[:, :1] == torch.arange(kinds.shape[2])
    assert torch.allclose(drawn.double().mean(0), first.double().mean(0), atol=0.12)  # as often as the decoder says
    few, _ = sample_proposals(initialiser, x[:10], y[:10], 5, generator=_generator())
    assert len(few) == 5


def test_proposals_that_do_not_fit_leave_a_flat_start(
    problems: dict[int, TreeProblem], monkeypatch: pytest.MonkeyPatch
) -> None:
    initialiser = EMLInitialiser(UNTRAINED)
    assert any(bool(start.logits.any()) for start in list(starts(problems[3], initialiser, SMALL))[1:3])
    monkeypatch.setattr(basin, "depth", lambda tokens: torch.full((len(tokens),), 9))
    flat = list(starts(problems[3], initialiser, SMALL))[1:3]
    assert not any(bool(start.logits.any() or start.drawn.any()) for start in flat)
    assert {start.logits.shape[0] for start in flat} == {SMALL.runs}


def test_no_runs_no_outcomes_and_no_crash(tmp_path: Path) -> None:
    for config in (replace(SMALL, runs=0), replace(SMALL, trees=0)):
        outcomes = basin_study(basin_problems(config), None, config)
        assert outcomes == []
        assert len(basin_table(summarise(outcomes)).splitlines()) == 2
    path = write_basin_results(tmp_path, [], SMALL, ("none", ""))
    assert json.loads(path.read_text())["outcomes"] == []


def test_wilson_interval() -> None:
    # Newcombe (1998), table I: the score method without continuity correction
    for (successes, runs), expected in {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0.0, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }.items():
        assert wilson(successes, runs) == pytest.approx(expected, abs=6e-5)
    assert wilson(0, 0) == (0.0, 1.0)
    for successes, runs in PAPER_RUNS.values():
        low, high = wilson(successes, runs)
        assert 0 <= low <= successes / runs <= high <= 1


def test_what_cannot_be_studied_is_refused() -> None:
    with pytest.raises(UserError, match="identities"):
        basin_problems(BasinConfig(suite="identities"))
    with pytest.raises(UserError, match=r"2\.\.6"):
        basin_problems(BasinConfig(depths=(2, 9)))
    with pytest.raises(UserError, match="runs is -1"):
        BasinConfig(runs=-1)
    with pytest.raises(UserError, match="standard deviations"):
        BasinConfig(noise_levels=(-1.0,))
    topology = program(2, 1, weighted=True)
    x = torch.rand(5, 1, dtype=torch.float64)
    logits = torch.zeros(1, topology.n_slots, topology.n_choices, dtype=torch.float64)
    with pytest.raises(UserError, match="without weights"):
        train_independent(topology, logits, x, x[:, 0], TRAINING, seeds=[0])
    with pytest.raises(UserError, match="constant"):
        train_independent(full_tree(2, 1), logits, x, torch.ones(5, dtype=torch.float64), TRAINING, seeds=[0])


def test_the_script_writes_a_file_and_draws_it_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    EMLInitialiser(UNTRAINED).save(tmp_path / "weights")
    figure = tmp_path / "new" / "basin.png"
    arguments = ["--trees", "1", "--runs", "3", "--steps", "5", "--depths", "2", "3", "--noise", "0.5", "--seed", "3"]
    places = ["--checkpoint", f"local-dir:{tmp_path / 'weights'}", "--out", str(tmp_path), "--figure", str(figure)]
    assert script.main([*arguments, *places]) == 0
    shown = capsys.readouterr()
    (results,) = tmp_path.glob("basin-*.json")
    record = json.loads(results.read_text())
    assert record["settings"]["training"]["steps"] == 5
    assert len(record["outcomes"]) == 8
    assert record["checkpoint"]["sha256"]
    assert shown.out.count("truth ± 0.5") == 2
    size = figure.stat().st_size
    figure.unlink()
    assert script.main(["--figure-from", str(results), "--figure", str(figure)]) == 0
    assert figure.stat().st_size == size
    assert capsys.readouterr().out == shown.out
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize("text", ["", "[]", '{"outcomes": [{"tree": "a"}]}', None])
def test_the_script_refuses_other_files(text: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "other.json"
    if text is not None:
        path.write_text(text)
    assert script.main(["--figure-from", str(path), "--figure", str(tmp_path / "basin.png")]) == 2
    assert capsys.readouterr().err.startswith(f"error: '{path}' ")
    assert not (tmp_path / "basin.png").exists()


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
