"""A search is a list of stages that look at one task; what they find goes into the task's pool.

A stage is one idea of where a law may be found. It says what it is called, what it needs, when there is nothing left for
it to do, and yields candidates with their losses as it finds them; it never writes to the pool itself. A schedule does
that, keeps the time of each, and passes over a stage whose needs are not met. To add one, write a class like those in
`weighted` or `exact` and put it into their lists.

Legend: b candidate, p point, v input variable.
"""

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float64
from torch import Tensor

from emlinit.finetune.fitting.misfit import PLAIN, Misfit
from emlinit.finetune.search.candidates import CandidatePool
from emlinit.generator.functions.table import FunctionTable
from emlinit.generator.program import Programs
from emlinit.model.propose import Proposals

Need = Literal["network", "table"]


@runtime_checkable
class Sampler(Protocol):
    """What the rounds of a search ask: the initialiser, or a prior that does not look at the data."""

    def propose(
        self, x: Tensor, y: Tensor, n: int, *, generator: torch.Generator | None, temperature: float, n_bags: int
    ) -> Proposals:
        """See `EMLInitialiser.propose`."""


@dataclass(frozen=True)
class SearchConfig:
    """What the searches of both grammars share."""

    proposals: int
    """Candidates of a round."""
    bags: int = 4
    """Bags of points that a round's candidates are read from."""
    temperatures: tuple[float, ...] = (1.0, 1.0, 1.3, 1.3, 1.5)
    """Sampling temperature of the rounds; the last one stays."""
    exact_loss: float = 1e-18
    """Mean squared error relative to the variance of y up to which a candidate is exact."""

    def temperature(self, round_number: int) -> float:
        """Sampling temperature of a round (0, 1, ...)."""
        return self.temperatures[min(round_number, len(self.temperatures) - 1)]


_CPU = torch.device("cpu")


def _say_nothing(_: str) -> None:
    """The progress of a task that nobody watches."""


def _find_nothing() -> None:
    """What happens when candidates are found in a task that nobody watches."""


@dataclass(frozen=True, eq=False)
class Task:
    """One search in one grammar: the data, what may be asked, the budget, and where candidates go."""

    x: Float64[Tensor, "p v"]
    """Points that structures are searched on, in the search's units."""
    y: Float64[Tensor, " p"]
    """Targets, not constant."""
    pool: CandidatePool
    """What was found; losses are mean squared errors relative to the variance of y, both as `misfit` has them."""
    deadline: float
    """On the clock of `time.monotonic`."""
    generator: torch.Generator
    """For everything random."""
    sampler: Sampler | None = None
    """The initialiser of the grammar, or a prior in its place; None if there is none to ask."""
    table: FunctionTable | None = None
    """All small functions, to look up, in as many variables as `x` has columns; None for none."""
    device: torch.device = _CPU
    """Where many programs at once are fitted, grown and trained; everything else, `x` and `y` too, is on the CPU."""
    max_rounds: int | None = None
    """Most rounds of a stage that could go on for ever; None leaves the end to the clock. Rounds and not seconds make the
    same seed give the same law."""
    progress: Callable[[str], None] = _say_nothing
    """Takes a remark after each step."""
    misfit: Misfit = PLAIN
    """How residuals count, with the weights of these rows."""
    found: Callable[[], object] = _find_nothing
    """Called after candidates were put into the pool."""

    @cached_property
    def shuffled(self) -> Tensor:
        """All rows in random order, so that any first few are a sample; drawn on first use."""
        return torch.randperm(len(self.y), generator=self.generator)

    @cached_property
    def variance(self) -> float:
        """That of the targets, which losses are relative to."""
        return self.misfit.variance(self.y)

    def weights_for_squares(self) -> Tensor | None:
        """Weights for what knows least squares only: rows that are far off the shortest description so far count little
        if the loss is a robust one."""
        residual = self._residual()
        return self.misfit.weights if residual is None else self.misfit.fixed_weights(residual)

    def sound(self, rows: Tensor) -> Tensor:
        """Those of some rows that may be shown to what cannot weigh them (see `Misfit.sound`)."""
        residual = self._residual()
        return rows if residual is None else rows[self.misfit.sound(residual)[rows]]

    def _residual(self) -> Tensor | None:
        """Of the shortest description so far, if the loss is a robust one; NaN where it is undefined."""
        if not self.misfit.is_robust or self.pool.programs is None:
            return None
        return self.pool.residual(self.x, self.y)

    @property
    def has(self) -> frozenset[Need]:
        """What stages may need and it has."""
        things: dict[Need, object] = {"network": self.sampler, "table": self.table}
        return frozenset(need for need, thing in things.items() if thing is not None)

    @property
    def time_is_up(self) -> bool:
        """Whether the deadline has passed."""
        return time.monotonic() >= self.deadline

    @property
    def seconds_left(self) -> float:
        """Time until the deadline."""
        return max(0.0, float(self.deadline) - time.monotonic())

    def report(self, step: str) -> None:
        """Say how good the best candidate is after a step."""
        self.progress(f"{step}: best relative error {self.pool.best_loss**0.5:.2g}")


@dataclass(frozen=True, eq=False)
class Candidates:
    """Programs that a stage has found."""

    programs: Programs
    """As they are in the search's units."""
    loss: Float64[Tensor, " b"]
    """Mean squared error relative to the variance of y; infinite for those to forget."""
    network: bool | None = None
    """Whether a proposal of the network is among their ancestors; None if that is so of all that the stage finds once it
    needs the network."""
    part: str = ""
    """Which part of the stage found them, if it has several."""


@runtime_checkable
class Stage(Protocol):
    """One idea of where a law may be found."""

    @property
    def name(self) -> str:
        """What it is called in remarks and timings."""

    @property
    def needs(self) -> frozenset[Need]:
        """What the task must have for it."""

    def done(self, task: Task) -> bool:
        """Whether there is nothing left for it to do: something better was found, or the time is up."""

    def run(self, task: Task) -> Generator[Candidates]:
        """Yield candidates as they are found, until `done`. What was yielded is in the pool when the stage goes on."""


@dataclass(frozen=True)
class StageRun:
    """What one stage did."""

    name: str
    """Its name."""
    seconds: float
    """Wall-clock time."""
    steps: int
    """How often it yielded candidates."""
    best_loss: float
    """Smallest loss that it found; infinite if it found nothing."""
    gain: float
    """Nats by which the shortest description of the targets became shorter while it ran; the first one counts as none."""
    quiet: float = 0.0
    """Seconds since it last made it shorter; all of them if it never did."""
