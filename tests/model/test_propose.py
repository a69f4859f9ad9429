"""Proposals are distinct, grammatical, sorted, repeatable, and over the variables of the data."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch

from emlinit.generator.errors import UserError
from emlinit.generator.grammar import GRAMMARS, MAX_VARIABLES, PAD, is_complete, to_text
from emlinit.generator.program import programs_from_tokens
from emlinit.model import EMLInitialiser, Proposals
from emlinit.model.propose import draw_bags


def _data(n_points: int, n_variables: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n_points)
    x = rng.uniform(1, 3, (n_points, n_variables))
    return x, np.exp(x[:, 0]) - np.log(x[:, -1])


def _same(first: Proposals, second: Proposals) -> bool:
    names = ("tokens", "constants", "log_prob", "kind_log_probs")
    return all(torch.equal(getattr(first, name), getattr(second, name)) for name in names)


@pytest.mark.parametrize("method", ["sample", "beam"])
@pytest.mark.parametrize("grammar", GRAMMARS)
@pytest.mark.parametrize(("n_points", "n_variables"), [(3, 1), (150, 2), (70, MAX_VARIABLES)])
def test_proposals_are_sound(
    grammar: str,
    method: str,
    n_points: int,
    n_variables: int,
    tiny: Callable[[str], EMLInitialiser],
    device: torch.device,
) -> None:
    x, y = _data(n_points, n_variables)
    model = tiny(grammar).to(device)
    found = model.propose(x, y, 50, method=method, temperature=1.4)
    assert 15 <= len(found) <= 50
    assert bool(is_complete(found.tokens, n_variables).all())
    assert len({to_text(*row) for row in zip(found.tokens, found.constants, strict=True)}) == len(found)
    assert bool((found.log_prob.diff() <= 0).all())
    assert bool((found.log_prob < 0).all())
    assert found.tokens.shape[1] == int((found.tokens != PAD).sum(-1).max()) <= model.config.max_tokens
    if grammar == "exact":
        assert not bool(found.constants.any())
        assert bool(found.programs.is_exact().all())
    assert found.programs.n_variables == n_variables
    again = programs_from_tokens(found.tokens, found.constants, n_variables)
    assert torch.equal(found.programs.source, again.source)
    assert torch.equal(found.programs.weight, again.weight)
    chosen = found.kind_log_probs.gather(-1, found.tokens[..., None])[..., 0]
    assert found.kind_log_probs.dtype == torch.float32
    assert bool(torch.isfinite(chosen).all())
    torch.testing.assert_close(found.kind_log_probs.exp().sum(-1), torch.ones(found.tokens.shape))
    if grammar == "exact":  # no constants: the chosen kinds are all there is to say
        torch.testing.assert_close(chosen.double().sum(-1), found.log_prob, rtol=0, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("grammar", GRAMMARS)
def test_a_gpu_finds_what_the_cpu_finds(grammar: str, tiny: Callable[[str], EMLInitialiser]) -> None:
    x, y = _data(70, 2)
    here, there = (tiny(grammar).to(device).propose(x, y, 20, method="beam") for device in ("cpu", "cuda"))
    texts = [{to_text(*row) for row in zip(found.tokens, found.constants, strict=True)} for found in (here, there)]
    assert len(texts[0] & texts[1]) >= 18  # the last of a beam may change places
    torch.testing.assert_close(here.log_prob[:10], there.log_prob[:10], rtol=0, atol=1e-3)


@pytest.mark.parametrize("grammar", GRAMMARS)
def test_the_generator_decides_everything(grammar: str, tiny: Callable[[str], EMLInitialiser]) -> None:
    x, y = _data(100, 2)
    model = tiny(grammar)

    def ask(seed: int) -> Proposals:
        return model.propose(x, y, 24, generator=torch.Generator().manual_seed(seed))

    state = torch.get_rng_state()
    assert _same(ask(5), ask(5))
    assert not _same(ask(5), ask(6))
    assert _same(model.propose(x, y, 24), ask(0))
    assert torch.equal(torch.get_rng_state(), state)
    generator = torch.Generator().manual_seed(5)
    first, second = (model.propose(x, y, 24, generator=generator) for _ in range(2))
    assert _same(first, ask(5))
    assert not _same(first, second)


def test_every_kind_of_table_is_read_alike(tiny: Callable[[str], EMLInitialiser]) -> None:
    x, y = _data(30, 2)
    model = tiny("weighted")
    expected = model.propose(x, y, 16)
    assert _same(model.propose(pd.DataFrame(x), pd.Series(y), 16), expected)
    assert _same(model.propose(x.tolist(), y.tolist(), 16), expected)
    assert _same(model.propose(torch.as_tensor(x), torch.as_tensor(y), 16), expected)


def _problems(n_problems: int, n_points: int, n_variables: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Different data with a mask that keeps 3 points or more of each."""
    generator = torch.Generator().manual_seed(n_points)
    x = 1 + 2 * torch.rand(n_problems, n_points, n_variables, generator=generator, dtype=torch.float64)
    y = torch.stack([(k + 1) * points[:, 0].exp() - points[:, -1].log() ** k for k, points in enumerate(x)])
    kept = torch.rand(n_problems, n_points, generator=generator) < 0.6
    kept[:, :3] = True
    return x, y, kept


def _agree(first: Proposals, second: Proposals) -> None:
    """The same candidates, in the same order, with the same probabilities to rounding."""
    assert torch.equal(first.tokens, second.tokens)
    torch.testing.assert_close(first.log_prob, second.log_prob, rtol=0, atol=1e-5)
    torch.testing.assert_close(first.kind_log_probs.exp(), second.kind_log_probs.exp(), rtol=0, atol=1e-5)
    assert torch.equal(first.constants, second.constants)
    assert torch.equal(first.programs.source, second.programs.source)


@pytest.mark.parametrize(("grammar", "n_variables"), [("exact", 2), ("exact", 1), ("weighted", 2)])
def test_several_problems_at_once_are_each_for_itself(
    grammar: str, n_variables: int, tiny: Callable[[str], EMLInitialiser]
) -> None:
    model, (x, y, kept) = tiny(grammar), _problems(4, 20, n_variables)
    state = torch.get_rng_state()
    together = model.propose_each(x, y, kept, 12, max_tokens=15)
    assert torch.equal(torch.get_rng_state(), state)
    assert len(together) == 4
    likeliest = torch.stack([found.log_prob[0] for found in together])
    assert float(torch.pdist(likeliest[:, None]).min()) > 1e-4  # the answers depend on the data
    for k, found in enumerate(together):
        assert 2 <= len(found) <= 12
        assert found.tokens.shape[1] <= 15
        assert bool(is_complete(found.tokens, n_variables).all())
        assert bool((found.log_prob.diff() <= 0).all())
        (alone,) = model.propose_each(x[k : k + 1], y[k : k + 1], kept[k : k + 1], 12, max_tokens=15)
        _agree(alone, found)
        _agree(model.propose(x[k, kept[k]], y[k, kept[k]], 12, method="beam", max_tokens=15), found)


def test_points_that_are_masked_are_not_read(tiny: Callable[[str], EMLInitialiser]) -> None:
    model, (x, y, kept) = tiny("exact"), _problems(3, 20, 2)
    first = model.propose_each(x, y, kept, 8)
    other_x, other_y = torch.where(kept[..., None], x, 7.0), torch.where(kept, y, -1e6)
    pad = torch.nn.functional.pad
    padded = model.propose_each(pad(other_x, (0, 0, 0, 9)), pad(other_y, (0, 9)), pad(kept, (0, 9)), 8)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    permuted = model.propose_each(x[:, order], y[:, order], kept[:, order], 8)
    for found, again, shuffled in zip(first, padded, permuted, strict=True):
        _agree(again, found)
        _agree(shuffled, found)
    changed = model.propose_each(x, torch.where(kept, -y, y), kept, 8)
    assert all(abs(float(a.log_prob[0] - b.log_prob[0])) > 1e-4 for a, b in zip(changed, first, strict=True))


def test_few_points_make_one_bag_and_many_make_several() -> None:
    generator = torch.Generator().manual_seed(0)
    assert draw_bags(9, 4, 9, generator).tolist() == [list(range(9))]
    bags = draw_bags(200, 4, 64, generator)
    assert bags.shape == (4, 64)
    assert all(len(set(bag)) == 64 and max(bag) < 200 for bag in bags.tolist())
    assert len({tuple(bag) for bag in bags.tolist()}) == 4


def test_longest_and_fewest(tiny: Callable[[str], EMLInitialiser]) -> None:
    x, y = _data(10, 1)
    short = tiny("exact").propose(x, y, 100, max_tokens=3)
    assert {to_text(*row) for row in zip(short.tokens, short.constants, strict=True)} == {
        "1",
        "x1",
        "eml 1 1",
        "eml 1 x1",
        "eml x1 1",
        "eml x1 x1",
    }
    assert len(tiny("exact").propose(x, y, 1)) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.ones((4, 6)), "y": np.ones(4)}, "1 to 5 variables, got 6"),
        ({"x": np.ones((4, 0)), "y": np.ones(4)}, "1 to 5 variables, got 0"),
        ({"x": np.ones(4)}, r"x should be \(points, variables\)"),
        ({"y": np.ones(3)}, r"got \(10, 2\) and \(3,\)"),
        ({"x": np.ones((0, 2)), "y": np.ones(0)}, r"got \(0, 2\)"),
        ({"y": np.full(10, np.nan)}, "drop the rows with NaN or inf"),
        ({"n": 0}, "start at 1"),
        ({"max_tokens": 25}, "max_tokens is 1..24"),
        ({"temperature": 0.0}, "temperature should be above 0"),
        ({"top_p": 1.5}, "top_p"),
        ({"method": "greedy"}, "use one of sample, beam"),
    ],
)
def test_bad_questions_are_refused(
    change: dict[str, object], message: str, tiny: Callable[[str], EMLInitialiser]
) -> None:
    x, y = _data(10, 2)
    with pytest.raises(UserError, match=message):
        tiny("exact").propose(**({"x": x, "y": y, "n": 4} | change))  # type: ignore[arg-type]
