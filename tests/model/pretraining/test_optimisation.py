"""Every parameter is trained by exactly one optimiser; the average follows the weights."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from emlinit.model import EMLInitialiser
from emlinit.model.pretraining.optimisation import OptimiserConfig, WeightAverage, build_optimiser


@pytest.mark.parametrize("muon", [True, False])
def test_every_parameter_is_in_one_group(muon: bool, tiny: Callable[[str], EMLInitialiser]) -> None:
    model = tiny("exact").requires_grad_(True)
    optimiser = build_optimiser(model, OptimiserConfig(muon=muon))
    grouped = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    assert len(grouped) == len({id(p) for p in grouped}) == len(list(model.parameters()))
    assert set(optimiser.parts) == ({"adamw", "muon"} if muon else {"adamw"})
    decayed = {id(p) for group in optimiser.param_groups if group["weight_decay"] > 0 for p in group["params"]}
    linear = {id(layer.weight) for layer in model.modules() if isinstance(layer, nn.Linear)}
    assert decayed == linear
    if muon:
        hidden = {id(p) for group in optimiser.parts["muon"].param_groups for p in group["params"]}
        assert id(model.decoder.classify.weight) not in hidden
        assert id(model.encoder.project.weight) in hidden


def test_a_restored_optimiser_goes_on_alike(tiny: Callable[[str], EMLInitialiser]) -> None:
    models = [tiny("exact").requires_grad_(True) for _ in range(2)]
    optimisers = [build_optimiser(model, OptimiserConfig()) for model in models]

    def step(which: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for parameter in models[which].parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimisers[which].step()

    step(0, 1)
    models[1].load_state_dict(models[0].state_dict())
    optimisers[1].load_state_dict(copy.deepcopy(optimisers[0].state_dict()))
    step(0, 2)
    step(1, 2)
    pairs = zip(models[0].parameters(), models[1].parameters(), strict=True)
    assert all(torch.equal(first, second) for first, second in pairs)


def test_the_average_follows_the_weights() -> None:
    parameter = nn.Parameter(torch.zeros(3))
    average = WeightAverage([("p", parameter)], decay=0.9)
    with torch.no_grad():
        parameter.fill_(1.0)
    values = []
    for _ in range(200):
        average.update([("p", parameter)])
        values.append(float(average.average["p"][0]))
    assert values == sorted(values)
    assert 0 < values[0] < 1
    assert values[-1] == pytest.approx(1.0, abs=1e-6)
    other = WeightAverage([("p", parameter)], decay=0.9)
    other.load_state_dict(average.state_dict())
    assert torch.equal(other.average["p"], average.average["p"])
    assert other.n_updates == 200
