"""What the stages of the search in the weighted grammar share: how the search spends its time, and fitting on a sample.

Legend: b candidate, p point, v input variable.
"""

from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from emlinit.finetune.fitting.levenberg_marquardt import Fit, FitConfig, fit_constants
from emlinit.finetune.growing.grow import GrowingConfig
from emlinit.finetune.routing.gumbel import GumbelConfig
from emlinit.finetune.search.affine import AffineLookupConfig
from emlinit.finetune.search.stages import Candidates, SearchConfig, Task
from emlinit.finetune.sparse.laws import SparseConfig
from emlinit.generator.program import Programs

_ROWS_TO_SPARE_ONE = 10


@dataclass(frozen=True)
class TrainingConfig:
    """How much Gumbel-hard training there is, each time that it has its turn."""

    restarts: int = 64
    """Restarts on a CPU; 0 for no training."""
    restarts_on_accelerator: int = 4096
    """Restarts where they are trained all at once."""
    programs: int = 32
    """Most proposals that they start from, and most of the best programs so far."""
    nodes: int = 10
    """Most nodes of these."""
    terms: int = 3
    """Most terms of their slots."""
    spare: int = 2
    """Nodes of the topology beside theirs."""
    points: int = 64
    """Most rows that structures are judged at."""
    gumbel: GumbelConfig = field(
        default_factory=lambda: GumbelConfig(steps=20, lifetime=10, number_rate=0.0, affine_score=True)
    )
    """How they are trained; steps and not seconds, so that the same seed gives the same law."""

    def restarts_on(self, device: torch.device) -> int:
        """Restarts on a device."""
        return self.restarts if device.type == "cpu" else self.restarts_on_accelerator


@dataclass(frozen=True)
class WeightedSearchConfig(SearchConfig):
    """How the search spends its time."""

    proposals: int = 192
    """Candidates of a round."""
    screen_points: int = 128
    """Rows of the first fit."""
    refit: int = 24
    """Candidates of a round that are fitted again, longer and on up to `fit_points` rows."""
    fit_points: int = 2000
    """Most rows of a fit; the final fit of the solver takes all."""
    patience: int = 6
    """Rounds without a better candidate after which the search ends; 0 for no round at all."""
    min_valid_share: float = 0.97
    """A candidate must be defined on this share of the rows, or on all but one."""
    lookup: bool = True
    """Whether a table of functions, if there is one, is searched for laws before the first round."""
    lookup_config: AffineLookupConfig = field(default_factory=AffineLookupConfig)
    """How much is looked up."""
    sparse: bool = True
    """Whether sparse sums of simple functions are searched before the first round."""
    sparse_config: SparseConfig = field(default_factory=SparseConfig)
    """How much of them is searched."""
    surely_exact_loss: float = 1e-27
    """Loss at which the sparse search stops; sums of many terms come near `exact_loss` without being the law."""
    shapes: bool = True
    """Whether known shapes of one variable are tried, after sums of monomials."""
    shapes_refit: int = 16
    """Shapes that are fitted again, on up to `fit_points` rows."""
    growths: int = 3
    """How often the best programs grow after a round, by parts of its proposals; 0 for never."""
    growing: GrowingConfig = field(default_factory=GrowingConfig)
    """How they do."""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    """How Gumbel-hard training goes that starts from proposals and from the best programs."""
    judge: bool = True
    """Whether the network is asked what the forms of the laws found cost, for the choice among those that are not exact."""
    lookup_refit: int = 16
    """Candidates of the lookup that are fitted again."""


@dataclass(frozen=True)
class WeightedStage:
    """What the stages share: the configuration, and fitting on a sample of the task's rows."""

    config: WeightedSearchConfig
    on_device: ClassVar[bool] = False
    """Whether it fits on the task's device: what fits many programs at once does."""

    def device(self, task: Task) -> torch.device:
        """Where it works."""
        return task.device if self.on_device else torch.device("cpu")

    def done(self, task: Task) -> bool:
        """Whether a law is exact beyond doubt, since long sums come near to that, or the time is up."""
        return task.time_is_up or task.pool.holds_law or task.pool.best_loss <= self.config.surely_exact_loss

    def fit(
        self,
        task: Task,
        programs: Programs,
        n_rows: int,
        config: FitConfig,
        generator: torch.Generator | None = None,
        shift: Tensor | float = 0.0,
    ) -> Candidates:
        """Programs with their constants fitted to the first `n_rows` shuffled rows, from which `shift` is subtracted."""
        rows = task.shuffled[:n_rows]
        config = replace(config, until=task.deadline)
        x, y = (task.x[rows] - shift).to(self.device(task)), task.y[rows].to(self.device(task))
        misfit = task.misfit.rows(rows).to(x.device)
        fit = fit_constants(
            programs.to(x.device), x, y, weights=misfit.weights, loss=misfit.loss, config=config, generator=generator
        )
        loss = self._relative_loss(fit, task.variance, len(rows)).cpu()
        fitted = fit.programs.to("cpu")
        return Candidates(fitted, task.pool.judged(fitted, loss))

    def _relative_loss(self, fit: Fit, variance: float, n_rows: int) -> Tensor:
        # One row may be where the program, not the law, has no value: |x - 4| is made with the logarithm of x - 4.
        least = self.config.min_valid_share
        if n_rows >= _ROWS_TO_SPARE_ONE:
            least = min(least, 1 - 1.01 / n_rows)
        return torch.where(fit.valid_share >= least, fit.mse / variance, torch.inf)
