"""Which learned starts a run uses: the shipped checkpoints, or one that the user names."""

from functools import lru_cache
from typing import Any

import torch

from emlinit.finetune.options import DEVICES, GRAMMAR_CHOICES, checked_choice, in_one_line
from emlinit.generator.errors import UserError
from emlinit.generator.grammar import GRAMMARS
from emlinit.model.initialiser import EMLInitialiser


def resolve_device(device: Any) -> torch.device:
    """`auto` is the first CUDA device if there is one, else the CPU.

    Raises:
        UserError: an unknown device, or CUDA where there is none.
    """
    if checked_choice(device, "device", DEVICES) == "cuda" and not torch.cuda.is_available():
        raise UserError("no CUDA device is available here: use --device cpu or auto")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


def searched_grammars(choice: str) -> tuple[str, ...]:
    """The grammars that a choice among `GRAMMAR_CHOICES` stands for."""
    return GRAMMARS if choice == "auto" else (choice,)


def load_initialisers(checkpoint: Any, grammar: Any, device: torch.device) -> dict[str, EMLInitialiser]:
    """The initialiser of each grammar that will be tried; what the user gave may be of any type.

    Args:
        checkpoint: a checkpoint source, used for its own grammar; None means the shipped ones.
        grammar: "auto", "exact" or "weighted".
        device: where the initialisers live.

    Raises:
        UserError: an unknown grammar, a checkpoint that cannot be loaded, or one of another grammar than asked for.
    """
    wanted = searched_grammars(checked_choice(grammar, "grammar", GRAMMAR_CHOICES))
    if checkpoint is not None and not isinstance(checkpoint, str):
        raise UserError(f"checkpoint must be text such as builtin:exact, or None: got {in_one_line(checkpoint)}")
    given: dict[str, EMLInitialiser] = {}
    if checkpoint is not None:
        model = _load(checkpoint, str(device))
        if model.config.grammar not in wanted:
            raise UserError(
                f"checkpoint '{checkpoint}' is for the {model.config.grammar} grammar, not for {grammar}: "
                f"use --grammar {model.config.grammar} or --checkpoint builtin:{grammar}"
            )
        given[model.config.grammar] = model
    return {name: given.get(name) or _load(f"builtin:{name}", str(device)) for name in wanted}


@lru_cache(maxsize=4)
def _load(source: str, device: str) -> EMLInitialiser:
    return EMLInitialiser.load(source, device)
