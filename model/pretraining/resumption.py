"""What a saved training state has to be before a run goes on from it.

A state file may be of another program, or of this one and changed since. Copying a tensor of another shape may broadcast,
one of another type is cast, and a moment of another shape is found out by the optimiser's next step: so a state is compared
with the one that the run itself would save.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from emlinit.generator.foreign import shown

_COUNTERS = ("step", "examples", "skipped", "seconds")
_MOMENTS = {"adamw": {"step", "exp_avg", "exp_avg_sq"}, "muon": {"momentum_buffer"}}


def check_resumable(state: Mapping[str, Any], own: Mapping[str, Any], n_ranks: int, pool_batches: int) -> None:
    """Compare a state that was read with one that a fresh run of the same configuration would save.

    Args:
        state: as read; its configuration and number of processes are checked elsewhere.
        own: the run's own state.
        n_ranks: processes of the run.
        pool_batches: minibatches of a pool of the stream.

    Raises:
        ValueError: says in one line what is wrong.
    """
    counters = state.get("counters")
    if not isinstance(counters, list) or len(counters) != len(_COUNTERS):
        raise ValueError("it has no counters")
    for name, value in zip(_COUNTERS, counters, strict=True):
        _check_count(name, value, (int, float) if name == "seconds" else (int,))
    if type(state.get("cooling", False)) is not bool:
        raise ValueError(f"cooling is {shown(state['cooling'])}")
    _check_tensors("model", state.get("model"), own["model"])
    average = _mapping("average", state.get("average"))
    _check_count("n_updates", average.get("n_updates"))
    _check_tensors("average", average.get("average"), own["average"]["average"])
    streams = state.get("streams")
    if not isinstance(streams, list) or len(streams) != n_ranks:
        raise ValueError(f"it has not the streams of {n_ranks} processes")
    for stream in streams:
        place = _mapping("stream", stream)
        for name in own["streams"][0].keys() - {"corpus"}:
            _check_count(f"{name} of a stream", place.get(name))
        if place["position"] >= pool_batches:
            raise ValueError(f"position of a stream is {place['position']}, beyond its {pool_batches} minibatches")
    optimiser = _mapping("optimiser", state.get("optimiser"))
    if optimiser.keys() != own["optimiser"].keys():
        raise ValueError(f"its optimisers are {shown(list(optimiser))}, not {list(own['optimiser'])}")


def moments_to_load(saved: Any, own: Mapping[str, Any], parameters: Sequence[Tensor], name: str) -> dict[str, Any]:
    """What one optimiser goes on from: the moments that were saved, and options as the configuration has them.

    Args:
        saved: state of the optimiser, as read.
        own: its state in the run.
        parameters: what it steps, in its order.
        name: `adamw` or `muon`.

    Raises:
        ValueError: the moments are not of these parameters; the message is one line.
    """
    groups = _mapping(name, saved).get("param_groups")
    numbers = [group.get("params") for group in groups if isinstance(group, dict)] if isinstance(groups, list) else []
    if numbers != [group["params"] for group in own["param_groups"]]:
        raise ValueError(f"{name} is of other parameters")
    moments = _mapping(f"state of {name}", saved.get("state"))
    for number, entries in moments.items():
        if type(number) is not int or not 0 <= number < len(parameters):
            raise ValueError(f"{name} has moments of {shown(number)}, which is no parameter")
        parameter = parameters[number]
        wanted = {
            moment: torch.zeros(()) if moment == "step" else parameter.detach() for moment in _MOMENTS.get(name, set())
        }
        _check_tensors(f"{name}, parameter {number}", entries, wanted)
    return {"state": moments, "param_groups": own["param_groups"]}


def _check_tensors(what: str, found: Any, wanted: Mapping[str, Tensor]) -> None:
    tensors = _mapping(what, found)
    if tensors.keys() != wanted.keys():
        raise ValueError(f"{what} has other tensors: {shown(sorted(map(str, tensors.keys() ^ wanted.keys()))[:3])}")
    for name, expected in wanted.items():
        tensor = tensors[name]
        if not isinstance(tensor, Tensor) or tensor.shape != expected.shape or tensor.dtype != expected.dtype:
            kind = f"{tensor.dtype}, {list(tensor.shape)}" if isinstance(tensor, Tensor) else shown(tensor)
            raise ValueError(f"{name} of {what} is {kind}, not {expected.dtype}, {list(expected.shape)}")
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{name} of {what} has NaN or infinite values")


def _check_count(name: str, value: Any, kinds: tuple[type, ...] = (int,)) -> None:
    if type(value) not in kinds or not math.isfinite(value) or value < 0:
        raise ValueError(f"{name} is {shown(value)}")


def _mapping(what: str, value: Any) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"it has no {what}")
    return value
