"""Where training starts: the most likely program of a start is the program it was laid from, and computes the same."""

import pytest
import torch

from emlinit.finetune.routing.network import RoutedEML, programs_from_choices
from emlinit.finetune.routing.program_starts import ProgramStarts, program_starts, without_spare
from emlinit.generator.errors import UserError
from emlinit.generator.evaluate import evaluate
from emlinit.generator.grammar import EML, from_text, n_kinds, pad_sequences
from emlinit.generator.program import Programs, programs_from_tokens

TEXTS = (
    "x1",
    "+ c:0.5 w:2.0 x2",
    "w:3.0 eml w:-0.7 x1 1",
    "+ c:0.5 + w:1.5 x1 w:-0.4 eml + w:-0.5 eml 1 x2 j:1.5 x1 1",
    "eml x1 eml x2 + c:1.0 x1",
    "w:1.0 eml j:2.0 x1 1",
)
X = 0.5 + torch.rand(20, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def _tokens() -> tuple[torch.Tensor, torch.Tensor]:
    return pad_sequences([from_text(text, 2) for text in TEXTS])


def _programs() -> Programs:
    return programs_from_tokens(*_tokens(), 2)


def _likeliest(starts: ProgramStarts) -> Programs:
    logits = starts.logits.masked_fill(~starts.topology.allowed[:, None], -torch.inf)
    return programs_from_choices(starts.topology, logits.argmax(-1), starts.weight, starts.bias)


@pytest.mark.parametrize("asked", [False, True])
def test_the_likeliest_program_of_a_start_is_the_one_it_was_laid_from(asked: bool, device: torch.device) -> None:
    tokens, _ = _tokens()
    kinds = torch.full((*tokens.shape, n_kinds(2)), -3.0).scatter(2, tokens[..., None], -0.2)
    programs = _programs().to(device)
    starts = program_starts(programs, (tokens, kinds) if asked else None, n_nodes=6, n_terms=4)
    laid = _likeliest(starts)
    before, after = evaluate(programs, X.to(device)), evaluate(laid, X.to(device))
    assert bool(after.valid.all())
    torch.testing.assert_close(after.value, before.value, rtol=1e-10, atol=1e-10)
    tidy = without_spare(laid)
    assert tidy.n_nodes.tolist() == programs.n_nodes.tolist()
    assert tidy.n_free().tolist() == programs.n_free().tolist()  # what could not be fitted still cannot
    torch.testing.assert_close(evaluate(tidy, X.to(device)).value, before.value, rtol=1e-10, atol=1e-10)


def test_the_routed_network_computes_the_same() -> None:
    starts = program_starts(_programs(), n_nodes=6, n_terms=4)
    net = RoutedEML(starts.topology, starts.logits, weight=starts.weight, bias=starts.bias)
    routed = net(X)
    torch.testing.assert_close(routed.value.detach(), evaluate(_programs(), X).value, rtol=1e-9, atol=1e-9)


def test_a_term_doubts_where_the_decoder_did() -> None:
    """Of c·exp(x1) the decoder held x2 to be nearly as likely as x1."""
    tokens, constants = (part[None] for part in from_text("w:3.0 eml x1 1", 2))
    kinds = torch.full((*tokens.shape, n_kinds(2)), -9.0).scatter(2, tokens[..., None], -0.7)
    x1, x2 = tokens.max(), tokens.max() + 1
    place = int((tokens[0] == x1).nonzero())
    kinds[0, place, x2] = -0.8
    programs = programs_from_tokens(tokens, constants, 2)
    starts = program_starts(programs, (tokens, kinds), n_nodes=3, n_terms=2, emphasis=0.0)
    left = 2 * 2  # the only node is the last of three
    one, first, second = starts.logits[0, left, 0, :3].tolist()
    assert first - second == pytest.approx(0.1, abs=1e-6)
    assert one < second
    assert starts.logits[0, left, 1].argmax() == 0  # no second term
    assert int((tokens == EML).sum()) == 1


def test_a_program_that_is_too_large_is_refused() -> None:
    with pytest.raises(UserError, match="do not fit"):
        program_starts(_programs(), n_nodes=1, n_terms=4)
    with pytest.raises(UserError, match="do not fit"):
        program_starts(_programs(), n_nodes=6, n_terms=1)
