"""Laws are searched for, scored and counted; what is written is what is read again."""

import io
import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from emlinit.benchmarks.laws.methods import LAW_METHODS, LawMethod, load_for_methods
from emlinit.benchmarks.laws.run import (
    LawOutcome,
    LawSettings,
    formula_lines,
    read_outcomes,
    run_law_suites,
    score_tables,
)
from emlinit.benchmarks.priors import FormulaPrior
from emlinit.benchmarks.runner import open_lines, write_results
from emlinit.generator.errors import UserError
from emlinit.generator.grammar import PAD, X1, is_complete

OUTCOME = LawOutcome("nguyen", 0.0, "nguyen-1", "operon", 0, False, True, True, True, 0.5, 9, 1.5, 2.0, 1.9, "x1")


@pytest.fixture
def oracle(monkeypatch: pytest.MonkeyPatch) -> None:
    """A method that knows the first law and fails on the second."""

    def find(problem, seconds, seed, initialisers):  # type: ignore[no-untyped-def]
        if problem.name == "nguyen-1":
            return problem.formula
        raise UserError("nothing found")

    monkeypatch.setitem(LAW_METHODS, "oracle", LawMethod("the oracle", find))


def test_outcomes_are_written_at_once_and_counted(oracle: None, tmp_path: Path) -> None:
    settings = LawSettings(("nguyen",), ("oracle",), noise=(0.0, 0.1), limit=2)
    seen: list[tuple[str, int]] = []
    with open_lines(tmp_path, "laws") as lines:
        name = Path(lines.name)

        def watch(outcome: LawOutcome, total: int) -> None:
            written = [json.loads(line) for line in name.read_text().splitlines()]
            assert written[-1] == asdict(outcome)
            seen.append((outcome.problem, total))

        outcomes = run_law_suites(settings, lines, progress=watch)
    assert seen == 2 * [("nguyen-1", 4), ("nguyen-2", 4)]
    assert [o.right_form for o in outcomes] == [True, False, True, False]
    assert outcomes[1].failure == "nothing found"
    assert outcomes[1].r2 is None
    text = score_tables(outcomes)
    assert "nguyen, noise 0:" in text
    assert "| the oracle | 1/2 | 1/2 | 1/2 | - | 1.00 |" in text
    assert "nguyen, noise 0.1:" in text
    assert "| the oracle | 1/2 | 1/2 | - | 1.00 |" in text
    assert "nguyen nguyen-1 noise 0 seed 0 oracle" in formula_lines(outcomes)
    assert "nothing found" in formula_lines(outcomes)
    # finished and unfinished files are read alike
    path = write_results(tmp_path, "laws", outcomes, {"seconds": "1"})
    assert read_outcomes([path]) == outcomes
    assert read_outcomes([name]) == outcomes
    assert read_outcomes([path, name]) == outcomes


def test_of_results_from_several_files_the_later_stays(tmp_path: Path) -> None:
    other = replace(OUTCOME, method="gplearn", exact=True)
    again = replace(OUTCOME, right_form=False)
    for name, lines in (("a.jsonl", [OUTCOME, other]), ("b.jsonl", [again])):
        (tmp_path / name).write_text("".join(json.dumps(asdict(o)) + "\n" for o in lines))
    assert read_outcomes([tmp_path / "a.jsonl", tmp_path / "b.jsonl"]) == [again, other]
    (tmp_path / "c.jsonl").write_text(json.dumps(asdict(OUTCOME)) + '\n{"suite": "ng')  # killed while it wrote
    assert read_outcomes([tmp_path / "c.jsonl"]) == [OUTCOME]
    (tmp_path / "d.json").write_text('{"outcomes": [{"problem": "p"}]}')
    for bad in ("d.json", "nowhere.json"):
        with pytest.raises(UserError, match="holds no outcomes of laws"):
            read_outcomes([tmp_path / bad])


def test_the_solver_its_parts_and_the_control_are_run_and_scored() -> None:
    methods = ("emlinit", "no-network", "network", "prior")
    outcomes = run_law_suites(LawSettings(("nguyen",), methods, seconds=2.0, limit=1), io.StringIO())
    assert [(o.problem, o.method) for o in outcomes] == [("nguyen-1", name) for name in methods]
    for outcome in outcomes:
        assert outcome.formula
        assert outcome.r2 is not None
        assert outcome.r2 > 0.9
        assert outcome.complexity > 0
        assert outcome.seconds > 0
        assert outcome.cpu_seconds > 0


def test_a_missing_rival_is_said_before_anything_is_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LAW_METHODS, "absent", LawMethod("absent", LAW_METHODS["operon"].find, module="no_such_rival"))
    lines = io.StringIO()
    with pytest.raises(UserError, match="no_such_rival cannot be imported"):
        run_law_suites(LawSettings(("nguyen",), ("no-network", "absent"), limit=1), lines)
    assert not lines.getvalue()
    with pytest.raises(UserError, match="unknown method 'nope'"):
        load_for_methods(["nope"], [1])


def test_the_prior_draws_any_columns_and_does_not_look() -> None:
    x = torch.rand(20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def draw(y: torch.Tensor) -> torch.Tensor:
        generator = torch.Generator().manual_seed(1)
        proposals = FormulaPrior().propose(x, y, 200, generator=generator)
        assert len(proposals) == len(proposals.programs) == 200
        assert proposals.programs.n_variables == 3
        return proposals.tokens

    tokens = draw(x[:, 0])
    assert torch.equal(tokens, draw(x[:, 1].neg()))
    assert bool(is_complete(tokens, 3).all())
    read = torch.stack([(tokens == X1 + column).any(1) for column in range(3)], 1)
    assert not bool((tokens >= X1 + 3).any())
    alone = read[read.sum(1) == 1].double().mean(0)
    assert bool((alone > 0.1).all()), "formulas of one variable read each column"
    assert PAD == 0
