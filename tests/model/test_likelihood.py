"""How likely the network holds given programs: what proposals say of themselves, and nothing for what it cannot write."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from emlinit.generator.grammar import GRAMMARS, from_text, pad_sequences
from emlinit.model import EMLInitialiser


def _data(n_points: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n_points)
    x = rng.uniform(1, 3, (n_points, 2))
    return x, np.exp(x[:, 0]) - np.log(x[:, -1])


@pytest.mark.parametrize("grammar", GRAMMARS)
def test_a_proposal_is_as_likely_as_it_says(
    grammar: str, tiny: Callable[[str], EMLInitialiser], device: torch.device
) -> None:
    x, y = _data(30)  # one bag
    model = tiny(grammar).to(device)
    found = model.propose(x, y, 40)
    log_prob = model.log_prob(found.tokens, found.constants, x, y)
    torch.testing.assert_close(log_prob, found.log_prob, rtol=0, atol=1e-3)


def test_without_values_all_values_are_one(tiny: Callable[[str], EMLInitialiser]) -> None:
    x, y = _data(30)
    model = tiny("weighted")
    positive = 10.0 ** (torch.arange(-18, 19, dtype=torch.float64) / 6)
    values = torch.cat([positive, -positive])
    tokens, constants = from_text("c:1.0")
    each = model.log_prob(tokens.repeat(len(values), 1), values[:, None], x, y)
    together = model.log_prob(tokens[None], constants[None], x, y, values=False)
    torch.testing.assert_close(each.logsumexp(0), together[0], rtol=0, atol=1e-6)
    # Of a sum, each value of the constant leaves something for the rest; a part of it is no whole sequence.
    tokens, constants = from_text("+ c:0.5 w:2.0 x1")
    many = constants.repeat(len(values), 1)
    many[:, 1] = values
    assert model.log_prob(tokens.repeat(len(values), 1), many, x, y).isfinite().all()
    assert model.log_prob(tokens[None, :2], constants[None, :2], x, y, values=False).isneginf().all()


def test_bags_are_averaged(tiny: Callable[[str], EMLInitialiser]) -> None:
    x, y = _data(200)
    model = tiny("weighted")
    tokens, constants = pad_sequences([from_text(text) for text in ("w:2.0 x1", "+ c:0.5 eml x1 x2", "x1")])
    once = model.log_prob(tokens, constants, x, y, n_bags=4)
    generator = torch.Generator().manual_seed(0)
    bags = torch.stack([torch.randperm(200, generator=generator) for _ in range(4)])[:, :64].numpy()
    each = torch.stack([model.log_prob(tokens, constants, x[bag], y[bag]) for bag in bags])
    torch.testing.assert_close(once, each.logsumexp(0) - np.log(4), rtol=0, atol=1e-4)


def test_what_cannot_be_written_has_no_chance(tiny: Callable[[str], EMLInitialiser]) -> None:
    x, y = _data(30)
    texts = ["x1", "x3", "c:1.0", "eml x1 x2"]
    tokens, constants = pad_sequences([from_text(text) for text in texts])
    assert tiny("exact").log_prob(tokens, constants, x, y).isfinite().tolist() == [True, False, False, True]
    model = tiny("weighted")
    long = from_text("+ x1 " * model.config.max_tokens + "x1")
    assert model.log_prob(long[0][None], long[1][None], x, y).isneginf().all()
    assert model.log_prob(tokens[:0], constants[:0], x, y).shape == (0,)
