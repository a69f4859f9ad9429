"""Values of everything in a program, and parts added to slots."""

import torch
from torch import Tensor

from emlinit.finetune.growing.grafting import grafted, values_of
from emlinit.generator.evaluate import evaluate
from emlinit.generator.grammar import from_text, pad_sequences
from emlinit.generator.program import Programs, programs_from_tokens

X = torch.rand(40, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.5
TEXTS = (
    "w:3.0 eml + w:-2.0 x1 w:1.0 eml 1 + c:1.0 w:1.5 x2 1",
    "+ c:0.3 + w:2.0 eml w:0.7 x2 1 w:-1.0 eml 1 x1",
    "w:2.0 eml + w:-0.5 x1 j:3.0 x2 1",
    "+ c:0.5 w:1.5 x2",
)
PART = "w:0.5 eml w:0.3 x1 1"


def programs(*texts: str) -> Programs:
    return programs_from_tokens(*pad_sequences([from_text(text, 2) for text in texts]), 2)


def values(of: Programs) -> Tensor:
    return evaluate(of, X, rtol=None).value


def test_the_readout_is_the_value_of_the_program() -> None:
    batch = programs(*TEXTS)
    _, slots = values_of(batch, X)
    torch.testing.assert_close(slots[:, -1].real, values(batch), rtol=1e-12, atol=1e-12)


def test_a_part_is_added_to_a_slot_and_nothing_else_changes() -> None:
    part = programs(PART)
    for text in TEXTS:
        one = programs(text)
        for slot in [*range(2 * int(one.n_nodes[0])), one.source.shape[1] - 1]:
            grown = grafted(one, torch.tensor([slot]), part)
            for point in (0, 7, 39):  # at one point it is as if the slot had another constant
                by_hand = one.with_constants(one.weight, one.bias.clone())
                by_hand.bias[0, slot, 0] += values(part)[0, point]
                torch.testing.assert_close(values(grown)[0, point], values(by_hand)[0, point], rtol=1e-12, atol=1e-12)


def test_programs_of_all_sizes_grow_at_once() -> None:
    batch = programs(*TEXTS)
    grown = grafted(batch, torch.full((4,), batch.source.shape[1] - 1), programs(PART, "w:1.5 x2", PART, PART))
    expected = values(batch) + values(programs(PART, "w:1.5 x2", PART, PART))
    torch.testing.assert_close(values(grown), expected, rtol=1e-12, atol=1e-12)
    assert int(grown.used_terms().sum(-1).max()) == grown.source.shape[2]  # no places that nobody needs
    assert bool(grown.free_weight[:, -1, :, 0].any(-1).all())
