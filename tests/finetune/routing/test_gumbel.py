"""Gumbel-hard training, elites and predicted starts: what is visited is kept, what is near is found."""

import pytest
import torch

from emlinit.finetune.routing.elites import EliteRepository, mutate
from emlinit.finetune.routing.gumbel import GumbelConfig, losses, train_gumbel_hard
from emlinit.finetune.routing.hard_route import plan_route
from emlinit.finetune.routing.network import Routed, RoutedEML, programs_from_choices, reached_slots
from emlinit.finetune.routing.start_logits import start_logits, token_slots
from emlinit.finetune.routing.topology import full_tree, program
from emlinit.generator.errors import UserError
from emlinit.generator.evaluate import evaluate
from emlinit.generator.grammar import depth, from_text, n_kinds, pad_sequences
from emlinit.generator.program import programs_from_tokens, tokens_from_program

EXPRESSIONS = [
    "eml 1 eml x2 x1",
    "eml eml 1 eml x2 x1 1",
    "x1",
    "eml 1 eml eml 1 eml x1 x2 1",
    "eml eml x1 1 eml x2 x2",
]


def points(n: int = 40) -> torch.Tensor:
    return torch.rand(n, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 + 1


def target(text: str) -> torch.Tensor:
    tokens, constants = from_text(text, 2)
    return evaluate(programs_from_tokens(tokens[None], constants[None], 2), points()).value[0]


@pytest.mark.parametrize("text", EXPRESSIONS[:2])
def test_random_start_recovers_shallow_targets_and_stops(text: str, device: torch.device) -> None:
    topology = full_tree(3, 2)
    result = train_gumbel_hard(
        topology,
        torch.zeros(64, topology.n_slots, topology.n_choices, device=device),
        points().to(device),
        target(text).to(device),
        GumbelConfig(steps=400),
        generator=torch.Generator().manual_seed(0),
    )
    assert result.exact
    assert result.steps < 400
    best = evaluate(result.programs[0], points())
    torch.testing.assert_close(best.value[0], target(text), rtol=1e-9, atol=1e-9)


def test_result_is_distinct_sorted_honest_and_repeatable() -> None:
    topology, y = full_tree(3, 2), points()[:, 0].sin()
    runs = [
        train_gumbel_hard(
            topology,
            torch.zeros(16, topology.n_slots, topology.n_choices),
            points(),
            y,
            GumbelConfig(steps=20),
            generator=torch.Generator().manual_seed(1),
        )
        for _ in range(2)
    ]
    result = runs[0]
    assert torch.equal(result.loss, runs[1].loss)
    assert torch.equal(result.programs.source, runs[1].programs.source)
    assert (result.loss.diff() >= 0).all()
    assert not result.exact
    texts = {tuple(tokens_from_program(result.programs, i)[0].tolist()) for i in range(len(result.programs))}
    assert len(texts) == len(result.programs) > 10
    assert result.n_visited >= len(texts)
    evaluation = evaluate(result.programs, points())
    whole = evaluation.valid.all(1)
    mse = (evaluation.value - y).square().mean(1) / y.var(correction=0)
    torch.testing.assert_close(result.loss[whole], mse[whole], rtol=1e-7, atol=1e-12)
    assert whole.sum() > 10


def _routed(value: torch.Tensor, probability: torch.Tensor) -> Routed:
    """What a forward pass with these values (r, p) and choice probabilities (r, s, t, c) would return."""
    r, s, t, _ = probability.shape
    return Routed(
        value=value,
        valid=torch.ones(value.shape, dtype=torch.bool),
        choice=torch.zeros(r, s, t, dtype=torch.int64),
        probability=probability,
        reached=torch.ones(r, s, dtype=torch.bool),
    )


def test_the_loss_is_the_sum_of_its_three_terms() -> None:
    generator = torch.Generator().manual_seed(3)
    y = torch.randn(50, generator=generator, dtype=torch.float64)
    value = 0.5 * y + torch.randn(4, 50, generator=generator, dtype=torch.float64)
    probability = torch.rand(4, 3, 1, 5, generator=generator, dtype=torch.float64)
    probability = probability / probability.sum(-1, keepdim=True)
    config = GumbelConfig(correlation_weight=0.7, entropy_weight=0.3)
    loss, score = losses(_routed(value, probability), y, y.var(correction=0), config)
    mse = (value - y).square().mean(1) / y.var(correction=0)
    correlation = torch.stack([torch.corrcoef(torch.stack([row, y]))[0, 1] for row in value])
    entropy = torch.distributions.Categorical(probs=probability[:, :, 0]).entropy().mean(1)
    torch.testing.assert_close(score, mse)
    torch.testing.assert_close(loss, mse.log1p() + 0.7 * (1 - correlation.square()) + 0.3 * entropy)


def test_right_up_to_scale_and_offset_is_better_than_equally_far() -> None:
    """The correlation sees what the error does not."""
    y = torch.linspace(-1.0, 1.0, 40, dtype=torch.float64)
    alternating = torch.cos(torch.arange(40, dtype=torch.float64) * torch.pi)  # of mean 0 and mean square 1
    scaled, wave = 3.0 * y, y + 2.0 * y.std(correction=0) * alternating
    chances = torch.full((2, 1, 1, 2), 0.5, dtype=torch.float64)
    loss, score = losses(_routed(torch.stack([scaled, wave]), chances), y, y.var(correction=0), GumbelConfig())
    torch.testing.assert_close(score[0], score[1])
    assert loss[0] < loss[1] - 0.5


def test_sure_choices_are_better_than_open_ones() -> None:
    """Where two restarts have the same values; what descends the loss makes them surer."""
    y = torch.linspace(-1.0, 1.0, 40, dtype=torch.float64)
    logits = torch.tensor([[[[0.5, 0.0]]], [[[3.0, 0.0]]]], dtype=torch.float64, requires_grad=True)
    loss, _ = losses(_routed(y.expand(2, -1), logits.softmax(-1)), y, y.var(correction=0), GumbelConfig())
    assert loss[1] < loss[0]
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    assert bool((gradient[..., 0] < 0).all())
    assert bool((gradient[..., 1] > 0).all())


def test_weighted_topology_trains_its_numbers() -> None:
    x = points()
    y = 2.0 * x[:, 0] + 0.5
    topology = program(2, 2, weighted=True)
    result = train_gumbel_hard(
        topology,
        torch.zeros(32, topology.n_slots, topology.n_choices),
        x,
        y,
        GumbelConfig(steps=80, learning_rate=0.1),
        generator=torch.Generator().manual_seed(2),
    )
    assert result.loss[0] < 0.05
    assert result.programs.n_free().min() > 0
    value = evaluate(result.programs[0], x).value[0]
    torch.testing.assert_close((value - y).square().mean() / y.var(correction=0), result.loss[0])


def test_predicted_logits_reproduce_the_candidate_and_search_repairs_it() -> None:
    tokens, constants = pad_sequences([from_text(text, 2) for text in EXPRESSIONS])
    log_probs = torch.full((*tokens.shape, n_kinds(2)), -4.0).scatter(2, tokens[:, :, None], -0.1)
    logits = start_logits(tokens, log_probs, 5, 2)
    net = RoutedEML(full_tree(5, 2), logits)
    expected = evaluate(programs_from_tokens(tokens, constants, 2), points())
    routed = net(points())
    torch.testing.assert_close(routed.value, expected.value, rtol=1e-9, atol=1e-9)
    slots, fits = token_slots(tokens, 5)
    assert fits.all()
    unused = torch.ones(logits.shape[:2], dtype=torch.bool)
    row, position = (slots >= 0).nonzero(as_tuple=True)
    unused[row, slots[row, position]] = False
    assert not logits[unused].any()
    # the decoder's favourite is wrong in one slot, the truth its second choice
    wrong = tokens.clone()
    wrong[3, 5] = from_text("x2", 2)[0][0]
    log_probs = torch.full((*tokens.shape, n_kinds(2)), -4.0)
    log_probs = log_probs.scatter(2, tokens[:, :, None], -1.2).scatter(2, wrong[:, :, None], -0.5)
    result = train_gumbel_hard(
        full_tree(5, 2),
        start_logits(tokens, log_probs, 5, 2)[3:4].expand(32, -1, -1),
        points(),
        target(EXPRESSIONS[3]),
        GumbelConfig(steps=60),
        generator=torch.Generator().manual_seed(3),
    )
    assert result.exact


def test_predicted_logits_refuse_what_does_not_fit() -> None:
    tokens = from_text(EXPRESSIONS[3], 2)[0][None]
    log_probs = torch.zeros(*tokens.shape, n_kinds(2))
    assert int(depth(tokens)) == 4
    assert not token_slots(tokens, 3)[1].any()
    with pytest.raises(UserError, match="deeper than 3"):
        start_logits(tokens, log_probs, 3, 2)
    with pytest.raises(UserError, match="exact grammar"):
        start_logits(from_text("w:2.0 x1", 2)[0][None], torch.zeros(1, 2, n_kinds(2)), 3, 2)


def test_elites_are_the_best_distinct_programs_and_picked_by_rank() -> None:
    topology = full_tree(3, 2)
    generator = torch.Generator().manual_seed(4)
    net = RoutedEML(topology, torch.zeros(500, topology.n_slots, topology.n_choices))
    choice = net(points(2), noise=1.0, generator=generator).choice
    loss = torch.rand(500, generator=generator, dtype=torch.float64)
    loss[7], loss[8] = torch.nan, torch.inf
    _, inverse = choice.flatten(1).unique(dim=0, return_inverse=True)
    loss = loss[inverse]  # equal structures, equal losses
    elites = EliteRepository(topology, 20)
    for rows in torch.arange(500).split(50):
        elites.offer(choice[rows], loss[rows])
    best = loss[loss.isfinite()].unique()[:20]
    torch.testing.assert_close(elites.loss, best)
    assert len(elites.choice.flatten(1).unique(dim=0)) == 20
    assert elites.n_visited == len(choice.flatten(1).unique(dim=0))
    assert elites.knows(choice).all()
    counts = elites.pick(4000, generator).bincount(minlength=20)
    assert counts[0] > 2 * counts[1] > 0
    assert counts[:4].sum() > counts[4:].sum()


def test_mutation_draws_a_fifth_of_the_slots_in_use() -> None:
    topology = full_tree(4, 2)
    generator = torch.Generator().manual_seed(5)
    choice = torch.full((2000, topology.n_slots, 1), 3).where(topology.allowed[:, 3][:, None], torch.tensor(1))
    prior = torch.zeros(2000, topology.n_slots, 1, topology.n_choices, dtype=torch.float64)
    mutant, drawn = mutate(topology, choice, prior, 0.2, generator)
    used = reached_slots(plan_route(topology, choice, candidates=False).reached)
    assert used.all()
    assert drawn.any(1).all()
    assert 0.17 < drawn.double().mean() < 0.24
    assert torch.equal(mutant[~drawn], choice[~drawn])
    assert (mutant != choice).any(2).double().mean() > 0.1
    assert topology.allowed[torch.arange(topology.n_slots)[:, None], mutant].all()
    assert int(programs_from_choices(topology, mutant).n_nodes.max()) <= topology.n_nodes


def test_constant_target_is_refused() -> None:
    topology = full_tree(2, 2)
    with pytest.raises(UserError, match="target is constant"):
        train_gumbel_hard(
            topology,
            torch.zeros(2, topology.n_slots, topology.n_choices),
            points(),
            torch.ones(40, dtype=torch.float64),
            generator=torch.Generator(),
        )
