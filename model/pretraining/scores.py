"""Scoring minibatches: in which precision, and the held-out figures of weights that are not the network's own."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from emlinit.generator.corpus.examples import Batch
from emlinit.model.initialiser import Scores, score


class Scorer:
    """Scores minibatches in the precision of a run."""

    def __init__(self, precision: str, device: torch.device, z_loss: float = 0.0) -> None:
        """Args:
        precision: `auto`, `bfloat16` or `float32`.
        device: where networks and minibatches are.
        z_loss: see `score`.
        """
        self._device, self._z_loss = device, z_loss
        self.bfloat16 = wants_bfloat16(precision, device)
        """Whether matrix products are in bfloat16."""

    def __call__(self, model: Callable[..., tuple[Tensor, Tensor, Tensor]], batch: Batch) -> Scores:
        """Loss and accuracies of one minibatch, given what an `EMLInitialiser` computes of it."""
        point_mask = None if bool(batch.point_mask.all()) else batch.point_mask
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self.bfloat16):
            logits, classes, grammatical = model(
                batch.tokens, batch.constants, batch.x, batch.y, batch.variable_mask, point_mask
            )
        return score(logits, classes, batch.tokens, grammatical, self._z_loss)

    @torch.no_grad()
    def held_out(self, model: nn.Module, weights: Mapping[str, Tensor], batches: Sequence[Batch]) -> dict[str, float]:
        """Loss and accuracies over minibatches that are not trained on, with `weights` in the place of the network's
        parameters, which stay as they are."""
        was_training = model.training
        model.eval()

        def with_weights(*arguments: Tensor | None) -> Any:
            return functional_call(model, dict(weights), arguments)

        total = torch.zeros(5, dtype=torch.float64)
        for batch in batches:
            s = self(with_weights, batch)
            counts = [s.loss * s.n_tokens, s.n_tokens, s.n_right, s.n_sequences, s.n_sequences_right]
            total += torch.stack([torch.as_tensor(c, dtype=torch.float64, device="cpu") for c in counts])
        model.train(was_training)
        loss, n_tokens, right, n_sequences, sequences_right = total.tolist()
        return {
            "held_out_loss": loss / max(n_tokens, 1),
            "held_out_sequence_loss": loss / max(n_sequences, 1),
            "held_out_token_accuracy": right / max(n_tokens, 1),
            "held_out_sequence_accuracy": sequences_right / max(n_sequences, 1),
        }


def wants_bfloat16(precision: str, device: torch.device) -> bool:
    """Whether to multiply in bfloat16: where asked, and by default where the hardware does so fast."""
    if precision == "auto":
        return (
            torch.cuda.is_bf16_supported(including_emulation=False)
            if device.type == "cuda"
            else _cpu_multiplies_bfloat16()
        )
    return precision == "bfloat16"


def _cpu_multiplies_bfloat16() -> bool:
    checks = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(bool(check()) for check in checks if check is not None)
