"""The stream is repeatable, resumable, honest about its labels, and never shows a frozen function."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from emlinit.generator.corpus.canonical import Canonicaliser
from emlinit.generator.corpus.config import StreamConfig
from emlinit.generator.corpus.drawing import EXCLUDE_FROM_SIZE
from emlinit.generator.corpus.examples import Batch
from emlinit.generator.corpus.frozen import WIDE_SIZES, frozen_keys, held_out, load_grammar_problems, load_wide_problems
from emlinit.generator.corpus.stream import ExampleStream
from emlinit.generator.evaluate import evaluate
from emlinit.generator.grammar import ONE, PAD, X1, depth, from_text, is_complete, pad_sequences, size
from emlinit.generator.program import programs_from_tokens

SMALL = {
    grammar: StreamConfig(
        grammar=grammar,
        max_variables=3 if grammar == "exact" else 5,
        max_points=16,
        max_depth=4,
        batch_size=64,
        pool_batches=2,
        noise_share=0.0,
    )
    for grammar in ("exact", "weighted")
}


def _equal(first: Batch, second: Batch) -> bool:
    return all(torch.equal(getattr(first, name), getattr(second, name)) for name in vars(first))


@pytest.mark.parametrize("grammar", ["exact", "weighted"])
def test_labels_reproduce_their_targets(grammar: str) -> None:
    for batch in ExampleStream(SMALL[grammar], seed=3).make_pool(0):
        assert bool(is_complete(batch.tokens, 5).all())
        result = evaluate(programs_from_tokens(batch.tokens, batch.constants, 5), batch.x)
        assert bool(result.valid.all())
        torch.testing.assert_close(result.value, batch.y, rtol=1e-9, atol=0)
        assert bool(torch.isfinite(batch.y).all())
        assert bool((batch.x[~batch.variable_mask[:, None].expand_as(batch.x)] == 0).all())


@pytest.mark.parametrize("grammar", ["exact", "weighted"])
def test_a_resumed_stream_goes_on_where_it_stopped(grammar: str) -> None:
    config = SMALL[grammar]
    whole = ExampleStream(config, seed=5)
    expected = [next(whole) for _ in range(4)]
    first = ExampleStream(config, seed=5)
    for _ in range(3):
        next(first)
    second = ExampleStream(config, seed=5)
    second.load_state_dict(first.state_dict())
    assert all(_equal(next(second), batch) for batch in expected[3:])
    other_rank = ExampleStream(config, seed=5, rank=1)
    assert not _equal(next(other_rank), expected[0])


def test_exact_labels_keep_the_limits() -> None:
    config = StreamConfig(max_points=12, batch_size=128, pool_batches=4)
    tokens = [batch.tokens for batch in ExampleStream(config, seed=1).make_pool(0)]
    assert max(int(size(t).max()) for t in tokens) <= config.max_nodes
    assert max(int(depth(t).max()) for t in tokens) == config.max_depth
    assert not any(bool((t[:, 0] == PAD).any()) for t in tokens)


def _noise(config: StreamConfig) -> torch.Tensor:
    """Standard deviation of what the targets have beside their labels' values, as a share of theirs; by example."""
    levels = []
    for batch in ExampleStream(config, seed=4).make_pool(0):
        value = evaluate(programs_from_tokens(batch.tokens, batch.constants, 5), batch.x).value
        levels.append((batch.y - value).std(-1) / value.std(-1))
    return torch.cat(levels)


def test_noise_has_the_share_and_the_levels_of_the_configuration() -> None:
    config = replace(SMALL["weighted"], noise_share=1.0, min_points=16)
    every = _noise(config)
    assert bool((every > 0.5 * config.least_noise).all())
    assert bool((every < 2 * config.most_noise).all())
    assert 0.006 < float(every.log().mean().exp()) < 0.016  # log-uniform from 0.001 to 0.1
    assert int((_noise(replace(config, noise_share=0.0)) > 1e-8).sum()) == 0
    some = _noise(replace(config, noise_share=StreamConfig.noise_share)) > 1e-8
    assert 0.15 < float(some.double().mean()) < 0.45  # 128 examples, 0.3 of them: three standard deviations and more


def test_the_leaves_are_ones_and_variables_in_their_shares() -> None:
    config = StreamConfig(max_points=12, batch_size=128, pool_batches=4)
    tokens = torch.cat([batch.tokens.flatten() for batch in ExampleStream(config, seed=1).make_pool(0)])
    ones, variables = int((tokens == ONE).sum()), int((tokens >= X1).sum())
    assert 0.25 < ones / (ones + variables) < 0.4  # 0.3 as drawn, 0.32 in canonical labels


def test_frozen_functions_never_appear() -> None:
    config = SMALL["exact"]
    canonicaliser = Canonicaliser(config.max_variables)
    batches, keys = held_out(config)
    assert len(batches) == config.pool_batches
    assert len(keys) > 10
    # With nothing excluded, the pool made from the held-out seed holds those functions: the filter has work to do.
    filtered = ExampleStream(config, seed=2**31 - 1, excluded_keys=torch.cat([keys, frozen_keys()])).make_pool(0)
    for batch in filtered:
        large = size(batch.tokens) >= EXCLUDE_FROM_SIZE
        found = canonicaliser.node_keys(batch.tokens)[large, 0]
        assert not bool(torch.isin(found, torch.cat([keys, frozen_keys()])).any())


def test_frozen_sets_are_read_without_the_library_of_data_sets() -> None:
    code = (
        "import sys; from emlinit.generator.corpus import frozen as f;"
        "print(len(f.load_grammar_problems()), len(f.load_wide_problems()), len(f.load_formula_problems()),"
        "'datasets' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["500", "60", "60", "False"]


def test_frozen_problems_are_what_they_claim() -> None:
    grammar, wide = load_grammar_problems(), load_wide_problems()
    problems = grammar + wide
    tokens, constants = pad_sequences([from_text(problem.text) for problem in problems])
    assert torch.bincount(depth(tokens[: len(grammar)])).tolist() == [0, 0, 100, 100, 100, 100, 100]
    sizes = size(tokens[len(grammar) :])
    assert [int(((sizes >= low) & (sizes <= high)).sum()) for low, high in WIDE_SIZES] == [20, 20, 20]
    canonicaliser = Canonicaliser(3)
    large = size(tokens) >= EXCLUDE_FROM_SIZE
    assert set(canonicaliser.node_keys(tokens)[large, 0].tolist()) == set(frozen_keys().tolist())
    for row in range(0, len(problems), 13):
        problem = problems[row]
        v = problem.x.shape[1]
        program = programs_from_tokens(tokens[row : row + 1], constants[row : row + 1], v)
        result = evaluate(program, torch.from_numpy(problem.x))
        assert bool(result.valid.all())
        torch.testing.assert_close(result.value[0], torch.from_numpy(problem.y), rtol=1e-9, atol=0)
