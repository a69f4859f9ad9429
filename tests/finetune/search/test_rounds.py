"""The rounds of the network: what they ask, that programs grow by the parts of proposals, and that they can go on."""

import time
from dataclasses import replace

import torch
from torch import Tensor

from emlinit.finetune.search.candidates import CandidatePool
from emlinit.finetune.search.rounds import NetworkRounds
from emlinit.finetune.search.schedule import run_in_order
from emlinit.finetune.search.stages import Task
from emlinit.finetune.search.weighted_stage import WeightedSearchConfig
from emlinit.generator.grammar import from_text, pad_sequences
from emlinit.generator.program import programs_from_tokens
from emlinit.model.propose import Proposals

X = 0.5 + 1.5 * torch.rand(120, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
Y = 1.3 * X[:, 0] ** 1.5 * (-2.1 * X[:, 1]).exp() + 0.7 * (4.0 * X[:, 0]).cos()


class _Says:
    """A sampler with fixed answers, one list of programs a round."""

    def __init__(self, *rounds: tuple[str, ...]) -> None:
        self.rounds, self.temperatures = list(rounds), list[float]()

    def propose(self, x: Tensor, y: Tensor, n: int, *, generator: object, temperature: float, n_bags: int) -> Proposals:
        self.temperatures.append(temperature)
        texts = self.rounds[min(len(self.temperatures), len(self.rounds)) - 1]
        tokens, constants = pad_sequences([from_text(text, 2) for text in texts])
        routing = torch.zeros(*tokens.shape, 1)
        log_prob = torch.zeros(len(tokens), dtype=torch.float64)
        return Proposals(tokens, constants, log_prob, routing, programs_from_tokens(tokens, constants, 2))


HALVES = ("w:1.0 eml + w:-1.0 eml 1 x1 w:-1.5 x2 1", "w:1.0 eml j:3.8 x1 1")
"""Each has one of the two terms of the law."""


def _task(sampler: _Says, **changes: object) -> Task:
    generator = torch.Generator().manual_seed(1)
    task = Task(X, Y, CandidatePool(len(Y)), time.monotonic() + 60, generator, sampler=sampler, max_rounds=1)
    return replace(task, **changes)  # type: ignore[arg-type]


def test_what_proposals_have_right_in_part_becomes_the_law() -> None:
    task = _task(_Says(HALVES))
    (run,) = run_in_order([NetworkRounds(WeightedSearchConfig())], task)
    assert task.pool.best_loss < 1e-20
    assert task.pool.holds_law
    assert run.steps <= 4
    without = _task(_Says(HALVES))
    run_in_order([NetworkRounds(WeightedSearchConfig(growths=0))], without)
    assert without.pool.best_loss > 1e-3


def test_programs_that_others_found_grow_too() -> None:
    task = _task(_Says(HALVES[1:]))
    tokens, constants = (part[None] for part in from_text(HALVES[0], 2))
    task.pool.add(programs_from_tokens(tokens, constants, 2), torch.tensor([0.5], dtype=torch.float64))
    run_in_order([NetworkRounds(WeightedSearchConfig())], task)
    assert task.pool.best_loss < 1e-20


def test_rounds_get_warmer_and_go_on_where_they_were() -> None:
    sampler = _Says(("x1",))
    stage = NetworkRounds(WeightedSearchConfig(growths=0, temperatures=(1.0, 1.5)))
    task = _task(sampler, max_rounds=2)
    run_in_order([stage], task)
    run_in_order([stage], replace(task, max_rounds=3))
    assert sampler.temperatures == [1.0, 1.5, 1.5]
    run_in_order([stage], replace(task, max_rounds=3))
    assert len(sampler.temperatures) == 3


def test_rounds_that_bring_nothing_end_them() -> None:
    sampler = _Says(("x1",))
    run_in_order([NetworkRounds(WeightedSearchConfig(patience=2, growths=0))], _task(sampler, max_rounds=None))
    assert len(sampler.temperatures) == 3  # the first one brought something
    nobody = _Says()
    run_in_order([NetworkRounds(WeightedSearchConfig(patience=0))], _task(nobody, max_rounds=None))
    assert nobody.temperatures == []


def test_a_series_that_fits_to_rounding_does_not_keep_the_network_from_being_asked() -> None:
    task = _task(_Says(HALVES))
    tokens, constants = (
        part[None] for part in from_text(" ".join(f"+ w:0.{i} eml w:0.{i} x1 1" for i in range(1, 9)) + " c:1.0", 2)
    )
    task.pool.add(programs_from_tokens(tokens, constants, 2), torch.tensor([1e-28], dtype=torch.float64))
    assert not task.pool.holds_law
    run_in_order([NetworkRounds(WeightedSearchConfig())], task)
    assert task.pool.holds_law
