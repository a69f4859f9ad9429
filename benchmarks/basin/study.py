"""The basin: how often one run of Gumbel-hard training finds the identical function, by the logits that it starts from.

    random       zero logits
    learned      the logits of one proposal of the initialiser, drawn anew for every run
    likeliest    the logits of its likeliest proposal, the same for every run
    truth ± σ    the logits of the true tree with Gaussian noise of standard deviation σ

Runs are independent (see `independent_runs`), and a proposal counts as drawn by one sample from the decoder, so that a
share of runs is the probability of one run. Nothing is selected by its fit before or between runs. All starts train the
same network, the full tree of the true depth, on the same points; proposals deeper than that are passed over. Every run
has a control with the same seed whose learning rate is 0: noise and memory without the gradient.

Legend: r run, p point, v input variable, l token position, s slot, c choice.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from emlinit.benchmarks.basin.independent_runs import VisitedPrograms, train_independent
from emlinit.benchmarks.trees.suites import TreeProblem, is_recovered, load_tree_suite
from emlinit.finetune.routing.gumbel import GumbelConfig
from emlinit.finetune.routing.network import programs_from_choices
from emlinit.finetune.routing.start_logits import start_logits
from emlinit.finetune.routing.topology import Topology, full_tree
from emlinit.generator.errors import UserError
from emlinit.generator.grammar import depth, n_kinds
from emlinit.generator.program import Programs, programs_from_tokens, tokens_from_program
from emlinit.model.decode import decode
from emlinit.model.initialiser import EMLInitialiser
from emlinit.model.propose import draw_bags, encode_bags

RANDOM, LEARNED, LIKELIEST = "random", "learned", "likeliest"
_DRAWS_A_RUN = 3
"""Proposals drawn for each run, as some do not fit into the tree."""
_BEAM = 12
"""Proposals among which the likeliest that fits is taken."""
_BAG = 64
"""Points that the initialiser reads for one proposal."""


@dataclass(frozen=True)
class BasinConfig:
    """Size of the study and how its runs train."""

    suite: str = "grammar"
    """`grammar`: frozen random trees; `paper`: the depth targets of arXiv 2603.21852, one a depth."""
    depths: tuple[int, ...] = (2, 3, 4, 5, 6)
    """Depths of the trees."""
    trees: int = 30
    """Most trees of each depth."""
    runs: int = 16
    """Runs of each tree and start."""
    points: int = 64
    """Training points."""
    noise_levels: tuple[float, ...] = (1.0, 2.0, 3.0)
    """Standard deviations of the noise on the true tree's logits."""
    truth_logit: float = 3.0
    """Logit of the true choices above the others."""
    confidence: float = 1.0
    """Factor on the decoder's log-probabilities (see `start_logits`)."""
    emphasis: float = 0.0
    """Logit added to the choices of the proposal itself."""
    seed: int = 0
    """Of everything random."""
    training: GumbelConfig = field(
        default_factory=lambda: GumbelConfig(
            steps=100, lifetime=10, mutation_share=0.1, squash=True, correlation_weight=0.0, entropy_weight=0.0
        )
    )
    """How a run trains: short lives without the loss's correlation and entropy terms."""

    def __post_init__(self) -> None:
        """Refuse what cannot be run.

        Raises:
            UserError: names the field.
        """
        for name in ("trees", "runs", "points"):
            if getattr(self, name) < 0 or (name == "points" and self.points < 2):
                raise UserError(f"{name} is {getattr(self, name)}: give 0 or more (points: at least 2)")
        if any(level < 0 for level in self.noise_levels):
            raise UserError(f"noise levels are standard deviations, got {self.noise_levels}: give 0 or more")


@dataclass(frozen=True)
class BasinOutcome:
    """Runs of one tree from one start, and how many of them were at the identical function."""

    tree: str
    """Name of the problem in its suite."""
    depth: int
    """Depth of the true tree."""
    start: str
    """Name of the start, such as "learned" or "truth ± 2"."""
    runs: int
    """Runs made of this tree from this start; the counts below are shares of them."""
    drawn: int
    """Runs whose proposal was it already, before any training (0 where nothing is proposed)."""
    started: int
    """Runs whose first logits had it as their mode."""
    ended: int
    """Runs whose last logits had it as their mode."""
    visited: int
    """Runs whose best program was it."""
    control_ended: int
    """`ended` at learning rate 0."""
    control_visited: int
    """`visited` at learning rate 0."""


@dataclass(frozen=True, eq=False)
class Start:
    """Where the runs of a tree begin."""

    name: str
    """Such as "random" or "truth ± 2"."""
    logits: Float64[Tensor, "r s c"]
    """The first logits of each run."""
    drawn: Bool[Tensor, " r"]
    """Whether the proposal behind the logits is the identical function."""


def basin_problems(config: BasinConfig) -> list[TreeProblem]:
    """The trees of the study, by depth.

    Raises:
        UserError: a suite without trees of those depths.
    """
    if config.suite not in ("grammar", "paper"):
        raise UserError(f"the suite '{config.suite}' has no trees of known depth: use grammar or paper")
    problems = load_tree_suite(config.suite, config.trees)
    chosen = [p for d in config.depths for p in [q for q in problems if _depth(q) == d][: config.trees]]
    if config.trees and {_depth(p) for p in chosen} != set(config.depths):
        raise UserError(f"the suite '{config.suite}' has trees of depth 2..6 only, asked for {config.depths}")
    return chosen


def basin_study(
    problems: Iterable[TreeProblem],
    initialiser: EMLInitialiser | None,
    config: BasinConfig,
    progress: Callable[[], object] = lambda: None,
) -> list[BasinOutcome]:
    """Run the study on some trees; without an initialiser there are no learned starts.

    `progress` is called after each tree. The same seed gives the same outcomes, whatever the other trees.
    """
    outcomes = []
    for problem in problems:
        if config.runs:
            outcomes += study_tree(problem, starts(problem, initialiser, config), config)
        progress()
    return outcomes


def study_tree(problem: TreeProblem, starts: Iterable[Start], config: BasinConfig) -> list[BasinOutcome]:
    """Train all starts of a tree, and their controls, in one batch."""
    starts = list(starts)
    topology = full_tree(_depth(problem), problem.x.shape[1])
    x, y = torch.from_numpy(problem.x), torch.from_numpy(problem.y)
    chosen = torch.randperm(len(y), generator=_generator(config, problem, "points"))[: config.points]
    logits = torch.cat([start.logits for start in starts])
    seeds = [
        int(seed)
        for start in starts
        for seed in _sequence(config, problem, start.name).generate_state(len(start.logits), np.uint64) >> np.uint64(1)
    ]
    rate = torch.full((len(logits),), config.training.learning_rate, dtype=torch.float64)
    result = train_independent(
        topology,
        torch.cat([logits, logits]),
        x[chosen],
        y[chosen],
        config.training,
        seeds=seeds * 2,
        learning_rate=torch.cat([rate, torch.zeros_like(rate)]),
    )
    tolerance = config.training.exact_tolerance**2
    found = [_identical(problem, topology, visit, tolerance) for visit in (result.start, result.end, result.best)]
    outcomes = []
    begin = 0
    for start in starts:
        n = len(start.logits)
        rows, control = slice(begin, begin + n), slice(len(logits) + begin, len(logits) + begin + n)
        started, ended, visited = (int(which[rows].sum()) for which in found)
        _, control_ended, control_visited = (int(which[control].sum()) for which in found)
        outcomes.append(
            BasinOutcome(
                tree=problem.name,
                depth=_depth(problem),
                start=start.name,
                runs=n,
                drawn=int(start.drawn.sum()),
                started=started,
                ended=ended,
                visited=visited,
                control_ended=control_ended,
                control_visited=control_visited,
            )
        )
        begin += n
    return outcomes


def starts(problem: TreeProblem, initialiser: EMLInitialiser | None, config: BasinConfig) -> Iterator[Start]:
    """The starts of a tree, each with `config.runs` runs."""
    levels, n, v = _depth(problem), config.runs, problem.x.shape[1]
    topology = full_tree(levels, v)
    zeros = torch.zeros(n, topology.n_slots, topology.n_choices, dtype=torch.float64)
    nothing = torch.zeros(n, dtype=torch.bool)
    yield Start(RANDOM, zeros, nothing)
    if initialiser is not None:
        x, y = torch.from_numpy(problem.x), torch.from_numpy(problem.y)
        for name in (LEARNED, LIKELIEST):
            generator = _generator(config, problem, name)
            if name == LEARNED:
                tokens, kinds = sample_proposals(initialiser, x, y, n * _DRAWS_A_RUN, generator=generator)
                programs = programs_from_tokens(tokens, torch.zeros(tokens.shape, dtype=torch.float64), v)
            else:
                best = initialiser.propose(x, y, _BEAM, method="beam", generator=generator)
                tokens, kinds, programs = best.tokens, best.kind_log_probs, best.programs
            fits = (depth(tokens) <= levels).nonzero()[:, 0]
            fits = fits[:n] if name == LEARNED else fits[:1].repeat(n)
            logits, drawn = zeros.clone(), nothing.clone()  # where no proposal fits, the start stays flat
            logits[: len(fits)] = start_logits(
                tokens[fits], kinds[fits], levels, v, confidence=config.confidence, emphasis=config.emphasis
            )
            drawn[: len(fits)] = _recovered(problem, programs[fits])
            yield Start(name, logits, drawn)
    truth = tokens_from_program(problem.truth, 0)[0][None]
    flat = torch.zeros(*truth.shape, n_kinds(v))
    logits = start_logits(truth, flat, levels, v, emphasis=config.truth_logit)
    for level in config.noise_levels:
        name = truth_name(level)
        noise = torch.randn(zeros.shape, generator=_generator(config, problem, name), dtype=torch.float64)
        yield Start(name, logits + level * noise, nothing)


def truth_name(level: float) -> str:
    """Name of the start at the true tree's logits with noise."""
    return f"truth ± {level:g}"


@torch.no_grad()
def sample_proposals(
    initialiser: EMLInitialiser,
    x: Float64[Tensor, "p v"],
    y: Float64[Tensor, " p"],
    n: int,
    *,
    generator: torch.Generator,
) -> tuple[Int64[Tensor, "r l"], Float[Tensor, "r l k"]]:
    """Independent draws from the initialiser, each from a bag of points of its own, with the log-probabilities of all
    token kinds. `EMLInitialiser.propose` draws without repetition and sorts: no probability of one draw."""
    bags = draw_bags(len(y), n, _BAG, generator)
    bags = bags.expand(n, -1)  # few points make one bag only
    vocabulary = initialiser.vocabulary
    device = next(initialiser.parameters()).device
    every = torch.ones(bags.shape, dtype=torch.bool)
    latents, mask = encode_bags(initialiser.eval().encoder, vocabulary, x[bags], y[bags], every, device)
    decoded = decode(
        initialiser.decoder,
        vocabulary,
        latents,
        mask,
        1,  # of one row, sampling without repetition is sampling
        method="sample",
        temperature=1.0,
        top_p=1.0,
        max_tokens=initialiser.config.max_tokens,
        generator=torch.Generator(device).manual_seed(int(torch.randint(2**62, (), generator=generator))),
    )
    tokens, _ = vocabulary.dequantise(decoded.classes[:, 0])
    return tokens.cpu(), decoded.kind_log_probs[:, 0].cpu()


def _identical(
    problem: TreeProblem, topology: Topology, visit: VisitedPrograms, tolerance: float
) -> Bool[Tensor, " r"]:
    """Which runs are at the identical function: an exact fit, confirmed on fresh points."""
    found = torch.zeros(len(visit.loss), dtype=torch.bool)
    rows = (visit.loss < tolerance).nonzero()[:, 0]
    if len(rows):
        structures, which = torch.unique(visit.choice[rows], dim=0, return_inverse=True)
        found[rows] = _recovered(problem, programs_from_choices(topology, structures))[which]
    return found


def _recovered(problem: TreeProblem, programs: Programs) -> Bool[Tensor, " r"]:
    return torch.tensor([is_recovered(problem, programs[i : i + 1]) for i in range(len(programs))], dtype=torch.bool)


def _depth(problem: TreeProblem) -> int:
    return int(problem.group.removeprefix("depth ")) if problem.group.startswith("depth ") else -1


def _sequence(config: BasinConfig, problem: TreeProblem, use: str) -> np.random.SeedSequence:
    """Seeds that depend on the study, the tree and what they are for, and on nothing else."""
    return np.random.SeedSequence([config.seed, *f"{problem.name}/{use}".encode()])


def _generator(config: BasinConfig, problem: TreeProblem, use: str) -> torch.Generator:
    return torch.Generator().manual_seed(int(_sequence(config, problem, use).generate_state(1)[0]))
