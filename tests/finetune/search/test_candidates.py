"""The pool keeps the best candidates and the front, and drops repetitions."""

import torch

from emlinit.finetune.fitting.prices import description_cost
from emlinit.finetune.search.candidates import CAPACITY, CandidatePool
from emlinit.generator.grammar import from_text, pad_sequences
from emlinit.generator.program import Programs, programs_from_tokens


def _programs(*texts: str) -> Programs:
    return programs_from_tokens(*pad_sequences([from_text(text) for text in texts]), 2)


def test_cost_counts_nodes_terms_and_constants() -> None:
    programs = _programs("x1", "eml 1 x1", "+ c:0.5 w:2.0 eml 1 x1")
    assert description_cost(programs).tolist() == [1, 4, 6]


def test_front_is_cheapest_first_and_improves() -> None:
    pool = CandidatePool(100)
    pool.add(_programs("x1", "eml 1 x1", "eml x1 eml 1 x2"), torch.tensor([1.0, 2.0, 0.1], dtype=torch.float64))
    pool.add(_programs("x2", "eml x1 x2"), torch.tensor([torch.inf, 0.5], dtype=torch.float64))
    assert len(pool) == 4
    front = pool.front()
    assert pool.cost[front].tolist() == [1, 4, 7]
    assert pool.loss[front].tolist() == [1.0, 0.5, 0.1]
    assert pool.best_loss == 0.1
    assert pool.best(1).tolist() == [int(pool.loss.argmin())]


def test_repetitions_and_the_hopeless_are_forgotten() -> None:
    pool = CandidatePool(100)
    programs = _programs("x1", "x1", "eml 1 x1")
    pool.add(programs, torch.tensor([1.0, 1.0, 3.0], dtype=torch.float64))
    assert len(pool) == 2
    many = programs_from_tokens(*(t[None].expand(500, -1) for t in from_text("eml 1 x1")), 2)
    pool.add(many, torch.linspace(10, 20, 500, dtype=torch.float64))
    assert CAPACITY <= len(pool) <= CAPACITY + 2
    assert pool.best_loss == 1.0


def test_a_short_description_stays_among_many_better_fits() -> None:
    pool = CandidatePool(100)
    short, long = "+ c:0.5 w:2.0 x1", "+ c:0.5 + w:2.0 x1 w:3.0 x2"
    loss = 1.0e-4
    pool.add(_programs(short), torch.tensor([loss], dtype=torch.float64))
    # Cheaper than it and a little better, without a constant: it is not on the front.
    pool.add(_programs("x1"), torch.tensor([0.99 * loss], dtype=torch.float64))
    many = programs_from_tokens(*(t[None].expand(500, -1) for t in from_text(long)), 2)
    pool.add(many, torch.linspace(0.95, 0.96, 500, dtype=torch.float64) * loss)
    assert pool.programs is not None
    row = pool.loss.tolist().index(loss)
    assert row not in pool.front().tolist()
    assert row not in pool.best(CAPACITY).tolist()
    assert row in pool.shortest(2).tolist()


def test_programs_with_an_ingredient_that_is_shut_out_are_not_taken() -> None:
    pool = CandidatePool(100, without=frozenset({"exp"}))
    programs, loss = _programs("x1", "eml x1 1", "eml 1 x1"), torch.tensor([1.0, 0.1, 0.5], dtype=torch.float64)
    assert pool.judged(programs, loss).tolist() == [1.0, torch.inf, 0.5]
    pool.add(programs, loss)
    assert pool.best_loss == 0.5
    assert len(pool) == 2
    assert CandidatePool(100).judged(programs, loss) is loss


def test_the_shortest_may_be_those_that_do_not_cost_too_much() -> None:
    pool = CandidatePool(100)
    pool.add(_programs("x1", "eml 1 x1", "eml x1 eml 1 x2"), torch.tensor([1.0, 0.5, 1e-9], dtype=torch.float64))
    assert pool.cost[pool.shortest(3)].tolist()[0] == 7
    assert max(pool.cost[pool.shortest(3, 4)].tolist()) == 4
    assert len(pool.shortest(3, 0)) == 0


def test_a_law_that_came_from_several_starts_is_counted_once() -> None:
    pool = CandidatePool(100)
    again = _programs(*(f"w:{0.5 + 1e-6 * start} eml 1 x1" for start in range(5)), "w:0.5 x1")
    pool.add(again, torch.tensor([0.1, 0.1 + 1e-9, 0.1 + 2e-9, 0.1 + 3e-9, 0.1 + 4e-9, 0.5], dtype=torch.float64))
    assert len(pool) == 6
    assert pool.loss[pool.shortest(3)].tolist() == [0.1, 0.5]
    exact = CandidatePool(100)
    exact.add(_programs("w:0.5 x1", "w:0.5 x2"), torch.tensor([1e-31, 2e-31], dtype=torch.float64))
    assert len(exact.shortest(3)) == 2  # which of them is the law is seen when they are read


def test_the_best_with_each_number_of_constants() -> None:
    pool = CandidatePool(100)
    programs = _programs("w:0.5 x1", "w:0.7 eml 1 x1", "+ c:0.5 w:2.0 x1", "+ c:0.5 w:2.0 eml 1 w:3.0 x1", "x1")
    pool.add(programs, torch.tensor([0.5, 0.4, 0.3, 0.2, 0.9], dtype=torch.float64))
    assert pool.loss[pool.best_with_each_number_of_constants(4, 100)].tolist() == [0.4, 0.3, 0.2]
    assert pool.loss[pool.best_with_each_number_of_constants(1, 2)].tolist() == [0.5]
