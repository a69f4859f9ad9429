"""Gumbel-hard training: hard programs forward, soft gradients backward, and a memory of everything visited.

Every restart holds routing logits and visits one hard program a step. Its gradient is straight-through: the derivative
of the loss by the probability of every choice, not only of the one taken. A restart lives for a number of steps while
its temperature falls; then it begins again, from the prior or from a mutated elite. The best program is remembered when
it is seen, so the search need not converge: it stops at the first program that fits exactly.

Loss of a restart: log(1 + mse / var y) + (1 - correlation²) + entropy of its choices. The correlation sees a program
that is right up to scale and offset, which the error does not; the logarithm keeps exploding values from drowning the
rest.

Legend: r restart, p point, v input variable, s slot, t term, c choice.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from emlinit.finetune.routing.elites import EliteRepository, mutate
from emlinit.finetune.routing.network import Routed, RoutedEML, programs_from_choices
from emlinit.finetune.routing.topology import Topology
from emlinit.generator.errors import UserError
from emlinit.generator.program import Programs

# Adam's moments: shares of the new gradient and of the moment kept. A life has some twenty steps, so they forget quickly.
_FIRST_NEW, _FIRST_KEPT = 0.1, 0.9
_SECOND_NEW, _SECOND_KEPT = 0.01, 0.99
_LEAST_ROOT = 1e-3  # of gradients whose largest entry is 1


@dataclass(frozen=True)
class GumbelConfig:
    """How the routing is trained."""

    steps: int = 1000
    """Most steps."""
    seconds: float | None = None
    """Wall-clock limit; None: steps alone decide, and the same seed gives the same result."""
    lifetime: int = 20
    """Steps of a restart before it begins anew (each life between half and one and a half of it)."""
    learning_rate: float = 0.3
    """Of Adam, on the logits."""
    number_rate: float = 1.0
    """Learning rate of factors and constants over that of the logits (weighted topologies); 0 keeps them as given, for
    structure first and numbers after."""
    affine_score: bool = False
    """Whether programs are remembered by the error that is left once their value is scaled and shifted, 1 - correlation²."""
    temperature: tuple[float, float] = (1.5, 0.5)
    """Of the soft choices, at the beginning and the end of a life (geometric in between)."""
    noise: tuple[float, float] = (1.0, 0.5)
    """Scale of the Gumbel noise at the beginning and the end of a life (linear in between)."""
    correlation_weight: float = 1.0
    """Of 1 - correlation² in the loss."""
    entropy_weight: float = 0.02
    """Of the mean entropy of the choices in the loss."""
    squash: bool = False
    """Whether the error in the loss is the mean of asinh(residual / standard deviation)², point by point, in place of
    log(1 + mse / var y): a few exploding points then do not outweigh the rest."""
    invalid_loss: float = 4.0
    """Squared relative error that an invalid point counts as."""
    elite_share: float = 0.7
    """Share of new lives that begin from a mutated elite; the others begin from the prior."""
    mutation_share: float = 0.2
    """Share of an elite's slots drawn anew."""
    confidence: float = 3.0
    """Logit that an elite's choices get above the prior's."""
    redraws: int = 3
    """How often a restart draws again, with more noise, when its program was visited before (exact grammar)."""
    start_noise: float = 0.5
    """Standard deviation of the noise on the logits that a life begins with."""
    capacity: int = 128
    """Elites kept."""
    exact_tolerance: float = 1e-10
    """Relative root-mean-square error below which a program counts as exact and the search stops."""


@dataclass(frozen=True, eq=False)
class GumbelResult:
    """What the search saw."""

    programs: Programs
    """The best distinct programs, best first."""
    loss: Float64[Tensor, " e"]
    """mse / var(y) of each, or with `affine_score` 1 - correlation², an invalid point counting `invalid_loss`."""
    exact: bool
    """Whether the first one fits to `exact_tolerance`."""
    steps: int
    """Steps made."""
    n_visited: int
    """Distinct programs visited."""
    invalid_share: float
    """Share of all evaluated points that were invalid."""


def train_gumbel_hard(
    topology: Topology,
    logits: Tensor,
    x: Float64[Tensor, "p v"],
    y: Float64[Tensor, " p"],
    config: GumbelConfig | None = None,
    *,
    generator: torch.Generator,
    weight: Float64[Tensor, "r s t 2"] | None = None,
    bias: Float64[Tensor, "r s 2"] | None = None,
) -> GumbelResult:
    """Search from given routing logits, on their device.

    Args:
        topology: the allowed sources of each slot.
        logits: float64 (r, s, c) or (r, s, t, c), one prior a restart; zeros are a random start.
        x: points.
        y: targets, not constant.
        config: options.
        generator: for everything random (on the CPU).
        weight: factors to start from (weighted topologies; see `RoutedEML`).
        bias: constants of the slots to start from, likewise.

    Raises:
        UserError: a constant target, or logits that do not fit the topology.
    """
    config = config or GumbelConfig()
    scale = y.var(correction=0)
    if not bool(scale > 0):
        raise UserError("the target is constant: there is nothing to search for")
    search = _Search(Restarts(topology, logits, config, weight=weight, bias=bias), generator)
    began = time.monotonic()
    steps, invalid = 0, 0.0
    while steps < config.steps:
        steps += 1
        routed = search.draw(x)
        loss, score = losses(routed, y, scale, config)
        invalid += 1.0 - float(routed.valid.double().mean())
        search.elites.offer(routed.choice, score, search.net.weight, search.net.bias)
        exact = len(search.elites) > 0 and bool(search.elites.loss[0] < config.exact_tolerance**2)
        if exact or (config.seconds is not None and time.monotonic() - began > config.seconds):
            break
        search.step(loss)
    elites = search.elites
    return GumbelResult(
        programs_from_choices(search.topology, elites.choice, elites.weight, elites.bias),
        elites.loss,
        len(elites) > 0 and bool(elites.loss[0] < config.exact_tolerance**2),
        steps,
        elites.n_visited,
        invalid / max(steps, 1),
    )


def losses(
    routed: Routed, y: Float64[Tensor, " p"], scale: Tensor, config: GumbelConfig
) -> tuple[Float64[Tensor, " r"], Float64[Tensor, " r"]]:
    """The loss to descend and the score to remember (mse / var y, `scale` being var y), one a restart."""
    n = routed.valid.sum(1).clamp_min(1)
    value = torch.where(routed.valid, routed.value.clamp(-1e60, 1e60), 0.0)
    target = torch.where(routed.valid, y, 0.0)
    mse = (value - target).square().sum(1) / (len(y) * scale)
    value_off = torch.where(routed.valid, value - (value.sum(1) / n)[:, None], 0.0)
    target_off = torch.where(routed.valid, target - (target.sum(1) / n)[:, None], 0.0)
    product = (value_off * target_off).sum(1)
    squares = value_off.square().sum(1) * target_off.square().sum(1)
    correlated = squares > 1e-20 * n * scale  # a constant value correlates with nothing
    correlation = torch.where(correlated, product.square() / torch.where(correlated, squares, 1.0), 0.0)
    chance = routed.probability.clamp_min(1e-12)
    entropy = -(chance * chance.log()).sum((-1, -2))
    entropy = torch.where(routed.reached, entropy, 0.0).sum(1) / routed.reached.sum(1)
    far = ((value - target) / scale.sqrt()).asinh().square().sum(1) / len(y) if config.squash else mse.log1p()
    loss = far + config.correlation_weight * (1.0 - correlation) + config.entropy_weight * entropy
    lost = (~routed.valid).double().mean(1)
    error = (1.0 - correlation).detach() if config.affine_score else mse.detach()
    return loss, error + config.invalid_loss * lost


def schedule(config: GumbelConfig, share: float | Tensor) -> tuple[float | Tensor, float | Tensor]:
    """Temperature of the soft choices and scale of the noise when this share of a life is over."""
    (hot, cold), (loud, quiet) = config.temperature, config.noise
    return hot * (cold / hot) ** share, loud + (quiet - loud) * share


def adam_step(
    parameter: Tensor, moments: tuple[Tensor, Tensor], age: Float64[Tensor, " r"], learning_rate: float | Tensor
) -> None:
    """One step of Adam in place, each restart on its own: gradients are scaled to a largest entry of 1.

    Args:
        parameter: (r, ...), with its gradient, if any.
        moments: first and second moment, like the parameter; changed in place.
        age: steps of each restart, this one included.
        learning_rate: of all restarts, or of each, of shape (r, 1, ...).
    """
    if parameter.grad is None:
        return
    first, second = moments
    gradient = parameter.grad.nan_to_num_(0.0, 0.0, 0.0)
    each = (-1, *([1] * (gradient.ndim - 1)))
    gradient = gradient / gradient.abs().flatten(1).amax(1).view(each).clamp_min(1e-12)
    age = age.view(each).to(gradient.device)
    first.lerp_(gradient, _FIRST_NEW)
    second.lerp_(gradient.square(), _SECOND_NEW)
    update = (first / (1 - _FIRST_KEPT**age)) / ((second / (1 - _SECOND_KEPT**age)).sqrt() + _LEAST_ROOT)
    parameter.data.sub_(learning_rate * update)


def lift(topology: Topology, choice: Int64[Tensor, "r s t"], config: GumbelConfig) -> Float[Tensor, "r s t c"]:
    """What a program that a life begins from adds to the prior's logits: `confidence` at each of its choices."""
    return torch.nn.functional.one_hot(choice, topology.n_choices) * config.confidence


class Restarts:
    """Restarts in training: their network, their ages and Adam's moments.

    What is remembered, and what is random in the beginning of a life, belongs to whoever trains them.
    """

    def __init__(
        self,
        topology: Topology,
        logits: Tensor,
        config: GumbelConfig,
        *,
        weight: Float64[Tensor, "r s t 2"] | None = None,
        bias: Float64[Tensor, "r s 2"] | None = None,
    ) -> None:
        """At age 0, at the given logits without noise, in a life of one step: `begin` gives the length."""
        self.config = config
        self.net = RoutedEML(topology, logits, weight=weight, bias=bias)
        self.prior: Float64[Tensor, "r s t c"] = self.net.logits.detach().clone()
        """The logits that were given."""
        self.age: Float64[Tensor, " r"] = torch.zeros(len(logits), dtype=torch.float64)
        """Steps of the present life."""
        self.life: Float64[Tensor, " r"] = torch.ones(len(logits), dtype=torch.float64)
        """Steps at which it ends."""
        self._fresh = [parameter.detach().clone() for parameter in self.net.parameters()]
        self._moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in self.net.parameters()]

    def draw(
        self,
        x: Float64[Tensor, "p v"],
        *,
        generator: torch.Generator | None = None,
        unit_noise: Callable[[Tensor], Tensor] | None = None,
        seen: Callable[[Tensor], Tensor] | None = None,
    ) -> Routed:
        """One hard program a restart, at its own temperature and noise; see `RoutedEML.forward`."""
        share = (self.age / self.life).clamp_max(1.0).view(-1, 1, 1, 1).to(x.device)
        temperature, noise = schedule(self.config, share)
        routed: Routed = self.net(
            x,
            temperature=temperature,
            noise=noise,
            generator=generator,
            unit_noise=unit_noise,
            seen=seen,
            redraws=self.config.redraws,
        )
        return routed

    def step(self, loss: Float64[Tensor, " r"], learning_rate: float | Tensor) -> Int64[Tensor, " k"]:
        """One step of Adam; returns the restarts whose life is over (see `adam_step` for the learning rate)."""
        self.net.zero_grad(set_to_none=True)
        torch.autograd.backward(loss.sum())
        self.age += 1
        for parameter, moments in zip(self.net.parameters(), self._moments, strict=True):
            rate = 1.0 if parameter is self.net.logits else self.config.number_rate
            if rate:
                adam_step(parameter, moments, self.age, rate * learning_rate)
        return (self.age >= self.life).nonzero()[:, 0]

    def begin(
        self, rows: Int64[Tensor, " k"], logits: Float64[Tensor, "k s t c"], length: Float64[Tensor, " k"]
    ) -> None:
        """New lives, from weights as they were at first.

        Args:
            rows: the restarts.
            logits: what they begin at.
            length: of each life, over the mean length: uniform between 0.5 and 1.5.
        """
        for parameter, fresh in zip(self.net.parameters(), self._fresh, strict=True):
            parameter.data[rows] = fresh[rows]
        self.net.logits.data[rows] = logits
        self.age[rows] = 0.0
        self.life[rows] = (self.config.lifetime * length).round().clamp_min(1.0)
        for first, second in self._moments:
            first[rows], second[rows] = 0.0, 0.0


class _Search:
    """Restarts that share one generator and the elites that new lives begin from."""

    def __init__(self, restarts: Restarts, generator: torch.Generator) -> None:
        self.restarts, self.config, self.generator, self.net = restarts, restarts.config, generator, restarts.net
        self.topology = self.net.topology.to("cpu")
        self.elites = EliteRepository(self.topology, self.config.capacity)
        self.seen = None if self.topology.weighted else self.elites.knows
        self._begin(torch.arange(len(restarts.prior)))

    def draw(self, x: Float64[Tensor, "p v"]) -> Routed:
        """One hard program a restart."""
        return self.restarts.draw(x, generator=self.generator, seen=self.seen)

    def step(self, loss: Float64[Tensor, " r"]) -> None:
        """One step of Adam, then a new life for the restarts at their end."""
        ended = self.restarts.step(loss, self.config.learning_rate)
        if len(ended):
            self._begin(ended)

    def _begin(self, rows: Int64[Tensor, " k"]) -> None:
        config, generator = self.config, self.generator
        logits = self.restarts.prior[rows]
        from_elite = torch.rand(len(rows), generator=generator) < config.elite_share
        picked = drawn = None
        if len(self.elites) and bool(from_elite.any()):
            picked = self.elites.pick(int(from_elite.sum()), generator)
            prior = logits[from_elite].cpu()
            choice, drawn = mutate(self.topology, self.elites.choice[picked], prior, config.mutation_share, generator)
            logits[from_elite] += lift(self.topology, choice, config).to(logits.device)
        noise = torch.randn(logits.shape, generator=generator, dtype=torch.float64)
        logits += config.start_noise * noise.to(logits.device)
        self.restarts.begin(rows, logits, 0.5 + torch.rand(len(rows), generator=generator).double())
        if picked is not None and drawn is not None:
            self._keep_numbers(rows[from_elite], picked, drawn)

    def _keep_numbers(self, rows: Int64[Tensor, " k"], picked: Int64[Tensor, " k"], drawn: Bool[Tensor, "k s"]) -> None:
        """The weights and constants of the elites picked, at the slots that were not drawn anew."""
        for numbers, kept in ((self.net.weight, self.elites.weight), (self.net.bias, self.elites.bias)):
            if numbers is not None and kept is not None:
                old = numbers.data[rows].cpu()
                mask = drawn.view(*drawn.shape, *([1] * (old.ndim - 2)))
                numbers.data[rows] = torch.where(mask, old, kept[picked]).to(numbers.device)
