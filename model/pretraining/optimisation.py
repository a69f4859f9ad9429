"""Optimisers and weight average of the pretraining loop.

Muon matters here: on the exact corpus AdamW sits for tens of thousands of examples at the loss of a network that does not
look at the data (numbers in docs/log.md).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from emlinit.model.pretraining.muon import BatchedMuon, fastest_dtype


@dataclass(frozen=True)
class OptimiserConfig:
    """Muon and AdamW, learning rate, gradient clipping, and an exponential average of the weights."""

    learning_rate: float = 2e-3
    """Learning rate after the warmup, until the cool-down."""
    final_learning_rate: float = 1e-5
    """Learning rate at the end of the cool-down."""
    warmup_steps: int = 300
    """Steps of linear warmup."""
    muon: bool = True
    """Muon (orthogonalised momentum, K. Jordan 2024) for the matrices of hidden layers, AdamW for everything else; False
    uses AdamW throughout."""
    beta1: float = 0.9
    """Decay of AdamW's first moment."""
    beta2: float = 0.98
    """Decay of AdamW's second moment."""
    weight_decay: float = 0.03
    """Decoupled weight decay, on matrices only (not on embeddings, norms and biases)."""
    max_gradient_norm: float = 1.0
    """Gradients are scaled down to this global norm."""
    z_loss: float = 0.0
    """Weight of the mean square of the logits' log-normaliser, which keeps logits from growing where they are many and
    halved in precision; 1e-4 is usual. Off: a log-normaliser of 8 in the shipped weights costs no precision."""
    ema_decay: float = 0.999
    """Decay of the average of the weights that is exported; 0 exports the last weights."""


class Optimisers:
    """Several optimisers, over different parameters, that step together."""

    def __init__(self, parts: dict[str, torch.optim.Optimizer]) -> None:
        self.parts = parts

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of all parts."""
        return [group for part in self.parts.values() for group in part.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear all gradients."""
        for part in self.parts.values():
            part.zero_grad(set_to_none=set_to_none)

    def step(self) -> None:
        """One step of every part."""
        for part in self.parts.values():
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """The state of each part by name."""
        return {name: part.state_dict() for name, part in self.parts.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave; every part must be in it."""
        for name, part in self.parts.items():
            part.load_state_dict(state[name])


def build_optimiser(model: nn.Module, config: OptimiserConfig) -> Optimisers:
    """Muon over the matrices of hidden linear layers, AdamW over the first and last layers, embeddings, norms and biases;
    only matrices of linear layers decay."""
    linear = {name: layer.weight for name, layer in model.named_modules() if isinstance(layer, nn.Linear)}
    ends = ("lift", "classify", "embed_path")  # what meets raw features or logits is no hidden layer
    hidden = [weight for name, weight in linear.items() if config.muon and not name.endswith(ends)]
    matrices = {id(weight) for weight in linear.values()}
    inside = {id(weight) for weight in hidden}
    others = [p for p in model.parameters() if p.requires_grad and id(p) not in inside]
    groups = [
        {"params": [p for p in others if id(p) in matrices], "weight_decay": config.weight_decay},
        {"params": [p for p in others if id(p) not in matrices], "weight_decay": 0.0},
    ]
    rate = config.learning_rate
    parts: dict[str, torch.optim.Optimizer] = {
        "adamw": torch.optim.AdamW(groups, lr=rate, betas=(config.beta1, config.beta2), fused=True)
    }
    if hidden:  # its steps are scaled to AdamW's size, so that one learning rate serves both
        parts["muon"] = BatchedMuon(hidden, rate, config.weight_decay, fastest_dtype(hidden[0].device))
    return Optimisers(parts)


class WeightAverage:
    """Exponential moving average of parameters, with a shorter memory during the first steps."""

    def __init__(self, parameters: Iterable[tuple[str, nn.Parameter]], decay: float) -> None:
        """Start at the present values of the named parameters."""
        self.decay = decay
        self.n_updates = 0
        self.average = {name: parameter.detach().clone() for name, parameter in parameters}

    @torch.no_grad()
    def update(self, parameters: Iterable[tuple[str, nn.Parameter]]) -> None:
        """Move towards the present values."""
        self.n_updates += 1
        decay = min(self.decay, self.n_updates / (self.n_updates + 10))
        named = dict(parameters)
        torch._foreach_lerp_([self.average[name] for name in named], list(named.values()), 1 - decay)

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` needs."""
        return {"n_updates": self.n_updates, "average": self.average}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved average."""
        self.n_updates = int(state["n_updates"])
        saved: dict[str, Tensor] = state["average"]
        for name, value in self.average.items():
            value.copy_(saved[name])
