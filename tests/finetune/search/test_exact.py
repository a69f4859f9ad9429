"""Small laws are found, with a table and without, by each part of the search; and a fit is doubted only for so long."""

import time
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from emlinit.finetune.search.candidates import CandidatePool
from emlinit.finetune.search.exact import ExactSearchConfig, ExactTrees, Judge, relative_loss
from emlinit.finetune.search.schedule import run_in_order
from emlinit.finetune.search.stages import Task
from emlinit.finetune.subtrees.meeting import MeetingSearch
from emlinit.generator.evaluate import evaluate
from emlinit.generator.formulas.exact_identities import EXACT_IDENTITIES
from emlinit.generator.functions.table import FunctionTable, build_table
from emlinit.generator.grammar import from_text, n_kinds, pad_sequences, to_text
from emlinit.generator.program import Programs, programs_from_tokens, tokens_from_program
from emlinit.model import EMLInitialiser, Proposals


@pytest.fixture(scope="module")
def initialiser() -> EMLInitialiser:
    return EMLInitialiser.load("builtin:exact")


@pytest.fixture(scope="module")
def table() -> FunctionTable:
    return build_table(2, 3)


def _points(n: int = 100) -> Tensor:
    return 0.5 + 2.0 * torch.rand(n, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def _programs(*texts: str) -> Programs:
    tokens, constants = pad_sequences([from_text(text, 2) for text in texts])
    return programs_from_tokens(tokens, constants, 2)


def _values(text: str, x: Tensor) -> Tensor:
    result = evaluate(_programs(text), x)
    assert bool(result.valid.all())
    return result.value[0]


class _Fixed:
    """A sampler that always makes the same guesses, and counts how often it is asked."""

    def __init__(self, *guesses: str) -> None:
        tokens, constants = pad_sequences([from_text(text, 2) for text in guesses])
        log_prob = torch.full((len(guesses),), -1.0, dtype=torch.float64)
        kinds = torch.full((*tokens.shape, n_kinds(2)), -2.0).scatter(2, tokens[..., None], -0.5)
        self.proposals = Proposals(tokens, constants, log_prob, kinds, programs_from_tokens(tokens, constants, 2))
        self.rounds = self.peeled = 0

    def propose(
        self, x: Tensor, y: Tensor, n: int, *, generator: torch.Generator | None, temperature: float, n_bags: int
    ) -> Proposals:
        self.rounds += 1
        return self.proposals

    def propose_each(
        self, x: Tensor, y: Tensor, point_mask: Tensor, n: int, *, max_tokens: int | None = None
    ) -> list[Proposals]:
        self.peeled += len(x)
        return [self.proposals] * len(x)


def _search(
    sampler: _Fixed | EMLInitialiser,
    y: Tensor,
    *,
    seconds: float = 60.0,
    table: FunctionTable | None = None,
    config: ExactSearchConfig | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> CandidatePool:
    task = Task(
        _points(len(y)),
        y,
        CandidatePool(100),
        deadline=time.monotonic() + seconds,
        generator=torch.Generator().manual_seed(0),
        sampler=sampler,
        table=table,
        progress=progress,
    )
    run_in_order([ExactTrees(config or ExactSearchConfig())], task)
    return task.pool


def _best(pool: CandidatePool) -> str:
    assert pool.programs is not None
    return to_text(*tokens_from_program(pool.programs, int(pool.best(1)[0])))


def _is_law(pool: CandidatePool, text: str) -> bool:
    """Whether the best candidate is the same function elsewhere too."""
    x = 0.3 + 1.1 * _points(200)
    truth, found = evaluate(_programs(text), x), evaluate(_programs(_best(pool)), x, rtol=None)
    known = truth.valid[0]
    assert int(known.sum()) > 100
    return bool(torch.allclose(found.value[0, known], truth.value[0, known], rtol=1e-7, atol=1e-9))


@pytest.mark.parametrize(
    "text", ["eml 1 eml x2 x1", "eml eml x1 eml 1 x2 eml eml x1 1 eml x2 1", EXACT_IDENTITIES["x1*x2"]]
)
def test_the_table_finds_small_laws_before_the_network_is_asked(text: str, table: FunctionTable) -> None:
    sampler = _Fixed("1")
    pool = _search(sampler, _values(text, _points()), table=table, config=ExactSearchConfig(meeting_seconds=60.0))
    assert _is_law(pool, text)
    assert sampler.rounds == 0


@pytest.mark.parametrize("text", ["eml 1 eml x2 x1", "eml eml 1 eml x2 x1 1", "eml 1 eml eml 1 eml x1 x2 1"])
def test_the_network_finds_small_laws_without_a_table(text: str, initialiser: EMLInitialiser) -> None:
    x = _points()
    y = evaluate(_programs(text), x, rtol=None).value[0]
    began = time.monotonic()
    pool = _search(initialiser, y)
    assert _is_law(pool, text)
    assert time.monotonic() - began < 50


@pytest.mark.parametrize(
    ("part", "guesses"),
    [
        ("recombine", ("eml eml x1 eml 1 x2 eml eml x1 x2 eml 1 1", "eml eml 1 eml x2 x1 eml x1 eml x1 x2")),
        ("peel", ("eml eml x1 eml 1 x2 x1", "eml x2 eml x1 eml x1 x2", "eml x1 eml x1 x2", "eml x1 x2")),
        ("gumbel", tuple(f"eml eml x1 eml 1 x2 eml {a} eml {b} x2" for a in ("x2", "1") for b in ("x1", "x2", "1"))),
    ],
)
def test_each_part_alone_finds_what_the_guesses_miss(part: str, guesses: tuple[str, ...]) -> None:
    law = "eml eml x1 eml 1 x2 eml x1 eml x1 x2"
    assert law not in guesses
    y = _values(law, _points())
    none = ExactSearchConfig(recombine=False, peel=False, gumbel=False)
    sampler = _Fixed(*guesses)
    without = _search(sampler, y, seconds=0.3, config=none)
    assert without.best_loss > 1e-10
    assert sampler.rounds > 0
    assert sampler.peeled == 0
    remarks: list[str] = []
    pool = _search(_Fixed(*guesses), y, config=replace(none, **{part: True}), progress=remarks.append)
    assert _is_law(pool, law)
    assert all(remark.startswith("round ") for remark in remarks)


def test_there_is_an_answer_however_short_the_time(table: FunctionTable) -> None:
    sampler = _Fixed("eml x1 x2")
    pool = _search(sampler, _points()[:, 0] + 0.01 * _points()[:, 1].sin(), seconds=0.0, table=table)
    assert _best(pool) == "x1"
    assert sampler.rounds == 0


def test_the_deadline_is_kept(table: FunctionTable) -> None:
    y = _points()[:, 0].sin() + _points()[:, 1].cos()
    for seconds, meeting_seconds in ((0.4, 60.0), (2.0, 0.2)):  # in the meeting before the first round, and after it
        sampler, began = _Fixed("eml x1 x2", "eml eml x1 x2 eml x2 x1"), time.monotonic()
        config = ExactSearchConfig(meeting_seconds=meeting_seconds)
        assert _search(sampler, y, seconds=seconds, table=table, config=config).best_loss > 1e-6
        assert seconds <= time.monotonic() - began < seconds + 4
        assert (sampler.rounds > 0) == (meeting_seconds < seconds)


def test_no_meeting_is_given_more_than_the_time_left(table: FunctionTable, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    def run(self: MeetingSearch, try_trees: Callable[[Tensor], bool], deadline: float) -> bool:
        asked.append(deadline)
        return False

    monkeypatch.setattr(MeetingSearch, "run", run)
    config, began = ExactSearchConfig(meeting_seconds=9.0, peel=False, gumbel=False), time.monotonic()
    _search(_Fixed("eml x1 x2"), _points()[:, 0].sin(), seconds=0.5, table=table, config=config)
    assert len(asked) > 1
    assert began + 0.4 < asked[0] < began + 3
    assert max(asked) == asked[0]


def _judge(y: Tensor, config: ExactSearchConfig, deadline: float) -> Judge:
    generator = torch.Generator().manual_seed(0)
    return Judge(Task(_points(), y, CandidatePool(100), deadline=deadline, generator=generator), config)


def test_a_nearly_identical_function_is_doubted_for_a_while() -> None:
    x, tokens = _points(), from_text("eml x1 x2", 2)[0][None]
    exact = _values("eml x1 x2", x)
    noise = torch.randn(len(x), generator=torch.Generator().manual_seed(1), dtype=torch.float64) * exact.std()

    def judge(y: Tensor, *, doubt_seconds: float) -> Judge:
        return _judge(y, ExactSearchConfig(doubt_seconds=doubt_seconds), time.monotonic() + 60)

    certain = judge(exact, doubt_seconds=60.0)
    assert certain.trees(tokens)
    wrong = judge(exact + 1e-5 * noise, doubt_seconds=0.0)
    assert not wrong.trees(tokens)
    assert 1e-12 < wrong.best_loss < 1e-8
    doubtful = judge(exact + 1e-10 * noise, doubt_seconds=0.3)
    before, began = doubtful.deadline, time.monotonic()
    assert not doubtful.trees(tokens)
    assert doubtful.config.certain_loss < doubtful.best_loss < doubtful.config.exact_loss
    assert doubtful.deadline < min(began + 1.0, before)
    deadline = doubtful.deadline
    assert not doubtful.trees(tokens)  # seeing it again gives no more time
    assert doubtful.deadline == deadline
    time.sleep(max(deadline - time.monotonic(), 0.0))
    assert doubtful.over()
    assert doubtful.trees(tokens[:0])


def test_a_search_with_a_doubtful_fit_ends_early(table: FunctionTable) -> None:
    x = _points()
    y = _values("eml x1 x2", x)
    y = y + 1e-10 * y.std() * torch.randn(len(x), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    began = time.monotonic()
    pool = _search(_Fixed("eml x2 x1"), y, table=table, config=ExactSearchConfig(doubt_seconds=0.5))
    assert 0.4 < time.monotonic() - began < 10
    assert _is_law(pool, "eml x1 x2")


def test_trees_are_screened_on_some_rows_and_confirmed_on_all() -> None:
    x = _points()
    y = _values("eml x1 x2", x)
    judge = _judge(y, ExactSearchConfig(screen_points=10), 1e9)
    assert len(judge.screen) == 10
    judge.y = y.clone()
    outside = torch.ones(len(x), dtype=torch.bool)
    outside[judge.screen] = False
    judge.y[outside] += 1.0
    assert not judge.trees(from_text("eml x1 x2", 2)[0][None])
    assert judge.best_loss > 0.1


def test_undefined_trees_have_no_loss() -> None:
    x = _points(20)
    y = x[:, 0]
    loss = relative_loss(_programs("x1", "x2", "eml x1 eml 1 eml eml 1 1 1"), x, y)  # the last takes ln 0
    assert loss[0] == 0
    torch.testing.assert_close(loss[1], (x[:, 1] - y).square().mean() / y.var(correction=0))
    assert loss[2] == torch.inf


def test_the_same_seed_gives_the_same_law(initialiser: EMLInitialiser) -> None:
    y = _values("eml eml x1 eml 1 x2 eml x1 eml x1 x2", _points())
    pools = []
    for global_seed in (1, 2):  # which must not matter
        torch.manual_seed(global_seed)
        pools.append(_search(initialiser, y))
    first, second = pools
    assert first.best_loss < 1e-18
    assert _best(first) == _best(second)
    assert torch.equal(first.loss, second.loss)
    assert first.programs is not None
    assert second.programs is not None
    assert torch.equal(first.programs.source, second.programs.source)
