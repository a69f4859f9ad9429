"""What a run starts from: fresh weights, or a checkpoint's with the stages of pretraining that they have behind them."""

import dataclasses
from typing import Any

import torch

from emlinit.generator.errors import UserError
from emlinit.model.initialiser import EMLInitialiser
from emlinit.model.pretraining.config import PretrainConfig


def first_model(config: PretrainConfig) -> tuple[EMLInitialiser, list[dict[str, Any]]]:
    """The model that a run starts from, and the pretraining stages that its weights have behind them, oldest first.

    Raises:
        UserError: the checkpoint to start from cannot be read or is not for this corpus.
    """
    if config.init_from is None:
        stream = config.stream
        architecture = dataclasses.replace(config.model, grammar=stream.grammar, max_tokens=stream.max_tokens)
        return EMLInitialiser(architecture, torch.Generator().manual_seed(config.seed)), []
    model = EMLInitialiser.load(config.init_from)
    for name in ("grammar", "max_tokens"):
        wanted, has = getattr(config.stream, name), getattr(model.config, name)
        if wanted != has:
            option = f"--stream.{name.replace('_', '-')}"
            raise UserError(
                f"'{config.init_from}' was trained with {option} {has}: a run that starts from it needs the same"
            )
    last = {name: model.about[name] for name in ("pretraining", "reached", "corpus") if name in model.about}
    return model, [*model.about.get("stages_before", []), {**last, "sha256": model.source[1]}]
