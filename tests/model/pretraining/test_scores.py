"""Held-out figures are those of the weights that were given, and the network keeps its own."""

from collections.abc import Callable

import pytest
import torch

from emlinit.generator.corpus.examples import Batch
from emlinit.model import EMLInitialiser
from emlinit.model.pretraining.scores import Scorer


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_other_weights_are_measured_as_if_they_were_the_networks_own(
    precision: str, tiny: Callable[[str], EMLInitialiser], example_batch: Callable[[str], Batch]
) -> None:
    model, batch, score = tiny("exact"), example_batch("exact"), Scorer(precision, torch.device("cpu"))
    own = {name: parameter.clone() for name, parameter in model.named_parameters()}
    weights = {name: 1.1 * value + 0.01 for name, value in own.items()}
    batches = [batch.rows(slice(0, 50)), batch.rows(slice(50, 128))]
    measured = score.held_out(model.train(), weights, batches)
    assert model.training
    model.eval()
    assert all(torch.equal(parameter, own[name]) for name, parameter in model.named_parameters())
    assert measured != score.held_out(model, own, batches)
    model.load_state_dict(weights)  # the other way: copied in
    scores = [score(model, part) for part in batches]
    n_tokens = sum(int(s.n_tokens) for s in scores)
    assert measured["held_out_loss"] == sum((s.loss * s.n_tokens).double() for s in scores) / n_tokens
    assert measured["held_out_token_accuracy"] == sum(int(s.n_right) for s in scores) / n_tokens
    assert measured["held_out_sequence_accuracy"] == sum(int(s.n_sequences_right) for s in scores) / 128
