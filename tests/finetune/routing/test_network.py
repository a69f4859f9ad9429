"""The routed network: it is the evaluator forward, the exact derivative backward, and nothing invalid gets through."""

import pytest
import torch

from emlinit.finetune.routing.network import RoutedEML, programs_from_choices
from emlinit.finetune.routing.topology import Topology, full_tree, heap_slots, layered, program
from emlinit.generator.errors import UserError
from emlinit.generator.evaluate import evaluate, evaluate_nodes
from emlinit.generator.jacobian import value_and_jacobian
from emlinit.generator.program import Programs

TOPOLOGIES = {
    "full_tree": full_tree(4, 2),
    "layered": layered([3, 3, 2], 2),
    "program": program(5, 2),
    "weighted": program(4, 2, weighted=True, n_terms=2),
}


def network(topology: Topology, restarts: int, seed: int = 0, device: torch.device | str = "cpu") -> RoutedEML:
    generator = torch.Generator().manual_seed(seed)
    shape = (restarts, topology.n_slots, topology.n_terms, topology.n_choices)
    logits = torch.randn(shape, generator=generator, dtype=torch.float64) + (topology.sources > 2)[:, None]
    net = RoutedEML(topology, logits.to(device))
    if net.weight is not None and net.bias is not None:
        net.weight.data.copy_(0.5 * torch.randn(net.weight.shape, generator=generator, dtype=torch.float64))
        net.bias.data.copy_(0.5 * torch.randn(net.bias.shape, generator=generator, dtype=torch.float64))
    return net


def points(n: int = 20) -> torch.Tensor:
    return torch.rand(n, 2, generator=torch.Generator().manual_seed(9), dtype=torch.float64) * 2 + 0.5


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_forward_is_the_evaluator_on_the_hard_programs(name: str, device: torch.device) -> None:
    net, x = network(TOPOLOGIES[name], 200, device=device), points().to(device)
    routed = net(x, noise=1.0, generator=torch.Generator().manual_seed(1))
    programs = net.programs(routed.choice)
    certified = evaluate(programs, x)
    assert certified.valid.double().mean() > 0.8
    assert routed.valid[certified.valid].all()
    torch.testing.assert_close(routed.value[certified.valid], certified.value[certified.valid], rtol=1e-9, atol=1e-9)
    assert not routed.value[~routed.valid].any()
    assert len(programs.n_nodes.unique()) > 2
    if not TOPOLOGIES[name].weighted:
        assert programs.is_exact().all()


@pytest.mark.parametrize("name", ["full_tree", "layered", "program"])
def test_backward_is_the_derivative_of_the_mixture(name: str) -> None:
    topology, x = TOPOLOGIES[name], points(7)
    net = network(topology, 40)
    routed = net(x, temperature=0.7)
    upstream = torch.randn(routed.value.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    (net.logits.grad,) = torch.autograd.grad((routed.value * upstream).sum(), net.logits)
    # every slot as the sum of all its choices, the hard one with weight 1 and the others with weight 0
    logits = net.logits.detach()[:, :, 0].masked_fill(~topology.allowed, -torch.inf)
    hard = torch.nn.functional.one_hot(logits.argmax(-1), topology.n_choices).double()
    mixture = Programs(
        topology.sources.expand(40, -1, -1),
        torch.stack([hard, torch.zeros_like(hard)], -1),
        torch.zeros(40, topology.n_slots, 2, dtype=torch.float64),
        torch.full((40,), topology.n_nodes),
        2,
        topology.allowed[:, :, None].expand(40, -1, -1, 2),
        torch.zeros(40, topology.n_slots, 2, dtype=torch.bool),
    )
    jacobian = value_and_jacobian(mixture, x)
    whole = jacobian.valid.all(1) & routed.valid.all(1)
    by_choice = torch.einsum("rp,rpsc->rsc", upstream, jacobian.d_weight[..., 0])
    soft = (logits / 0.7).softmax(-1)
    expected = soft * (by_choice - (soft * by_choice).sum(-1, keepdim=True)) / 0.7
    expected = torch.where(routed.reached[:, :, None], expected, 0.0)
    assert whole.sum() > 20
    scale = expected[whole].abs().amax((1, 2), keepdim=True)
    assert ((net.logits.grad[:, :, 0][whole] - expected[whole]).abs() <= 1e-9 * scale + 1e-12).all()
    assert (scale > 0).double().mean() > 0.5


def test_gradients_of_weights_and_biases_match_the_jacobian(device: torch.device) -> None:
    net, x = network(TOPOLOGIES["weighted"], 12, device=device), points(7).to(device)
    routed = net(x)
    assert net.weight is not None
    assert net.bias is not None
    by_weight, by_bias = torch.autograd.grad(routed.value.sum(), (net.weight, net.bias))
    for r in range(12):
        choice = routed.choice[r : r + 1]
        one = programs_from_choices(net.topology, choice, net.weight.detach()[r : r + 1], net.bias.detach()[r : r + 1])
        jacobian = value_and_jacobian(one, x)
        if not bool(jacobian.valid.all() & routed.valid[r].all()):
            continue
        slots = routed.reached[r]
        torch.testing.assert_close(by_weight[r][slots], jacobian.d_weight.sum(1)[0], rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(by_bias[r][slots], jacobian.d_bias.sum(1)[0], rtol=1e-8, atol=1e-8)
    assert routed.valid.all(1).sum() > 6


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_gradients_match_the_jacobian_where_nodes_overflow(name: str, device: torch.device) -> None:
    """A node beyond 1e100 whose logarithm is taken has a value and derivatives like any other."""
    net, x = network(TOPOLOGIES[name], 3000, seed=5, device=device), 4 * points(5).to(device)
    routed = net(x, noise=1.0, generator=torch.Generator().manual_seed(6))
    programs = net.programs(routed.choice)
    missing = torch.arange(programs.max_nodes, device=device) >= programs.n_nodes[:, None]
    huge = (evaluate_nodes(programs, x)[0].isnan() & ~missing[..., None]).any(1)
    result = evaluate(programs, x)
    known = huge & result.valid & routed.valid
    assert int(known.sum()) > 10
    torch.testing.assert_close(routed.value[known], result.value[known], rtol=1e-9, atol=1e-12)
    if net.weight is None or net.bias is None:
        return
    rows = (huge & result.valid & routed.valid).any(1).nonzero()[:, 0][:40].tolist()
    n_compared = 0
    for row in rows:
        point = int(known[row].nonzero()[0, 0])
        by_weight, by_bias = torch.autograd.grad(
            routed.value[row, point], (net.weight, net.bias), retain_graph=True, allow_unused=True
        )
        one = programs_from_choices(
            net.topology,
            routed.choice[row : row + 1],
            net.weight.detach()[row : row + 1],
            net.bias.detach()[row : row + 1],
        )
        jacobian = value_and_jacobian(one, x[point : point + 1])
        if not bool(jacobian.valid.all()):
            continue
        n_compared += 1
        slots = routed.reached[row]
        torch.testing.assert_close(by_weight[row][slots], jacobian.d_weight[0, 0], rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(by_bias[row][slots], jacobian.d_bias[0, 0], rtol=1e-6, atol=1e-9)
    assert n_compared > 5


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_invalid_points_poison_neither_values_nor_gradients(name: str) -> None:
    net = network(TOPOLOGIES[name], 300, seed=3)
    x = torch.cat([points(4), torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 0.0], [700.0, -700.0]]).double()])
    routed = net(x, noise=1.0, generator=torch.Generator().manual_seed(4))
    routed.value.sum().backward()
    assert 0 < (~routed.valid).sum() < routed.valid.numel()
    assert routed.value.isfinite().all()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in net.parameters())


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_either_zero_is_on_the_upper_side_of_the_cut(zero: float) -> None:
    """i (e - ln(-2)) has the real part π, whether the imaginary part of -2 is 0 or -0."""
    topology = program(1, 1, weighted=True)
    take = torch.tensor([[[5.0, 0.0, 0.0], [0.0, 5.0, 0.0], [0.0, 0.0, 5.0]]], dtype=torch.float64)  # 1, x1, the node
    weight = torch.tensor([[[[1.0, 0.0]], [[-2.0, zero]], [[0.0, 1.0]]]], dtype=torch.float64)
    bias = torch.tensor([[[0.0, 0.0], [0.0, zero], [0.0, 0.0]]], dtype=torch.float64)
    routed = RoutedEML(topology, take, weight=weight, bias=bias)(torch.ones(1, 1, dtype=torch.float64))
    torch.testing.assert_close(routed.value, torch.full((1, 1), torch.pi, dtype=torch.float64))


def test_batch_of_restarts_equals_loop() -> None:
    topology, x = TOPOLOGIES["program"], points()
    net = network(topology, 10)
    together = net(x)
    for r in range(10):
        alone = RoutedEML(topology, net.logits.detach()[r : r + 1])(x)
        torch.testing.assert_close(together.value[r], alone.value[0], rtol=1e-13, atol=0.0)


def test_known_programs_are_drawn_again() -> None:
    net, x = network(full_tree(3, 2), 50), points(3)
    likeliest = net(x).choice

    def seen(choice: torch.Tensor) -> torch.Tensor:
        return (choice[:, None] == likeliest[None]).flatten(2).all(2).any(1)

    plain = net(x, noise=0.3, generator=torch.Generator().manual_seed(5)).choice
    fresh = net(x, noise=0.3, generator=torch.Generator().manual_seed(5), seen=seen, redraws=8).choice
    assert seen(plain).sum() > 5
    assert seen(fresh).sum() < 0.5 * seen(plain).sum()
    unknown = ~seen(plain)
    assert torch.equal(fresh[unknown], plain[unknown])


def test_full_tree_has_the_papers_slots_and_heap_positions() -> None:
    for depth in range(1, 6):
        topology = full_tree(depth, 1)
        assert topology.n_nodes == 2**depth - 1
        assert int(topology.allowed[:-1].sum()) == 5 * 2**depth - 6  # logits of the master formula
        root = heap_slots(depth, torch.tensor([0, 0]), torch.tensor([0, 1]))
        assert root.tolist() == [topology.n_slots - 3, topology.n_slots - 2]


def test_topologies_are_evaluated_in_order() -> None:
    for topology in TOPOLOGIES.values():
        for first, end in topology.levels:
            sources = topology.sources[2 * first : 2 * end][topology.allowed[2 * first : 2 * end]]
            assert sources.max() < topology.n_variables + 1 + first or first == 0
        assert [end for _, end in topology.levels[:-1]] == [first for first, _ in topology.levels[1:]]
        assert topology.levels[-1][1] == topology.n_nodes


def test_bad_arguments_say_what_to_do() -> None:
    with pytest.raises(UserError, match="logits have shape"):
        RoutedEML(full_tree(2, 1), torch.zeros(1, 3, 3))
    with pytest.raises(UserError, match="needs weighted=True"):
        program(3, 1, n_terms=2)
    with pytest.raises(UserError, match="depth is 0"):
        full_tree(0, 1)
