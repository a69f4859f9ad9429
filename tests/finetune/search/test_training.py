"""Gumbel-hard training of laws with constants starts from the latest proposals and from the best programs, and finds what
differs from them in a slot."""

import time
from dataclasses import replace

import torch

from emlinit.finetune.search.candidates import CandidatePool
from emlinit.finetune.search.rounds import NetworkRounds
from emlinit.finetune.search.schedule import run_in_order
from emlinit.finetune.search.stages import Task
from emlinit.finetune.search.training import WeightedTraining
from emlinit.finetune.search.weighted_stage import TrainingConfig, WeightedSearchConfig
from emlinit.generator.grammar import from_text, n_kinds, pad_sequences
from emlinit.generator.program import programs_from_tokens
from emlinit.model.propose import Proposals

X = 0.5 + 1.5 * torch.rand(80, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
Y = 1.3 * (-0.8 * X[:, 0]).exp() * X[:, 1] + 0.4
NEAR = "+ c:0.5 w:1.0 eml + w:-1.0 x1 w:-1.0 eml 1 x1 1"  # reads x1 where x2 belongs


def _proposals(*texts: str) -> Proposals:
    tokens, constants = pad_sequences([from_text(text, 2) for text in texts])
    kinds = torch.full((*tokens.shape, n_kinds(2)), -2.0).scatter(2, tokens[..., None], -0.5)
    log_prob = torch.zeros(len(tokens), dtype=torch.float64)
    return Proposals(tokens, constants, log_prob, kinds, programs_from_tokens(tokens, constants, 2))


class _Nobody:
    """A sampler that is not asked."""

    def propose(self, *_: object, **__: object) -> Proposals:
        raise AssertionError


def _stage(*texts: str, **changes: object) -> WeightedTraining:
    config = WeightedSearchConfig(training=replace(TrainingConfig(), **changes))  # type: ignore[arg-type]
    rounds = NetworkRounds(config)
    rounds.so_far.proposals = _proposals(*texts) if texts else None
    return WeightedTraining(config, rounds)


def _task(seconds: float = 20.0, device: torch.device | None = None) -> Task:
    generator = torch.Generator().manual_seed(1)
    return Task(
        X, Y, CandidatePool(len(Y)), time.monotonic() + seconds, generator, sampler=_Nobody(),
        device=device or torch.device("cpu"),
    )  # fmt: skip


def test_a_law_that_differs_from_a_proposal_in_a_slot_is_found(device: torch.device) -> None:
    task = _task(device=device)
    (run,) = run_in_order([_stage(NEAR, restarts_on_accelerator=64)], task)
    assert task.pool.holds_law
    assert task.pool.origins(task.pool.best(1)) == [("Gumbel-hard training", True)]
    assert run.steps >= 1


def test_it_starts_from_the_best_programs_too() -> None:
    task = _task()
    tokens, constants = (part[None] for part in from_text(NEAR, 2))
    task.pool.add(programs_from_tokens(tokens, constants, 2), torch.tensor([0.5], dtype=torch.float64))
    run_in_order([_stage("x1")], task)
    assert task.pool.holds_law


def test_without_proposals_it_waits() -> None:
    stage, task = _stage(), _task()
    assert stage.done(task)
    stage.rounds.so_far.proposals = _proposals(NEAR)
    assert not stage.done(task)


def test_what_is_too_large_is_not_trained() -> None:
    task = _task()
    assert run_in_order([_stage(NEAR, nodes=1)], task)[0].steps == 0


def test_it_ends_in_time() -> None:
    began = time.monotonic()
    task = _task(1.0)
    run_in_order([_stage("+ c:0.5 w:1.0 eml + w:-1.0 x1 w:-1.0 eml 1 x2 1", "x1")], task)
    assert time.monotonic() - began < 2.5
