"""The stages of the search in the weighted grammar: structures from somewhere, constants by batched Levenberg-Marquardt.

First come the simplest laws, sparse sums of simple functions and what a table of small functions suggests: none of them
needs the network. Then its rounds. Each stage stands aside once a law is exact or the time is up.

Legend: b candidate, p point, v input variable.
"""

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from emlinit.finetune.fitting.levenberg_marquardt import Fit, FitConfig, fit_constants
from emlinit.finetune.search.affine import AffineLookupConfig, propose_affine
from emlinit.finetune.search.candidates import CandidatePool
from emlinit.finetune.search.shapes import SHAPES, Shape, centres, propose_shapes
from emlinit.finetune.search.stages import Candidates, Need, SearchConfig, Stage, Task
from emlinit.finetune.sparse.laws import SparseConfig, propose_sparse
from emlinit.generator.grammar import from_text, pad_sequences
from emlinit.generator.program import Programs, programs_from_tokens
from emlinit.generator.tidy import shift_variables

_NEARLY_EXACT = 1e-8  # loss of a sum that a few more steps may make exact
_ROWS_TO_SPARE_ONE = 10
_STALE = 0.99  # of the best loss: a round that does not get below it has brought nothing new
_FULL_FIT = FitConfig(steps=40)  # of a few good structures
_TOUCH_UP = FitConfig(steps=3)  # of sums that are fitted for y already, or nearly so, for another g(y)
_POLISH = FitConfig(steps=10)  # of what a few steps more may make exact
_SHAPE_FIT = FitConfig(steps=40)  # of every shape, on few rows
_LOOKUP_SCREEN = FitConfig(steps=8)  # of a thousand suggestions, on few rows
_ROUND_SCREEN = FitConfig(steps=12, restarts=2, survivors=1, screen_steps=5)  # of all proposals of a round, on few rows
_ROUND_FIT = FitConfig(steps=40, restarts=3, survivors=2)  # of the best of them


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
    lookup_refit: int = 16
    """Candidates of the lookup that are fitted again."""


def simple_laws(n_variables: int) -> Programs:
    """What is always tried: a constant, a line in all variables, and in each one proportionality, a line, a power law."""
    texts = ["c:1.0", "+ c:0.5 " + "".join(f"+ w:1.0 x{i} " for i in range(1, n_variables)) + f"w:1.0 x{n_variables}"]
    for i in range(1, n_variables + 1):
        texts += [f"w:1.0 x{i}", f"+ c:0.5 w:1.0 x{i}", *(f"w:1.0 eml w:{p} eml 1 x{i} 1" for p in (-1.0, 1.0))]
    tokens, constants = pad_sequences([from_text(text) for text in dict.fromkeys(texts)])
    return programs_from_tokens(tokens, constants, n_variables)


@dataclass(frozen=True)
class _WeightedStage:
    """What the stages share: the configuration, and fitting on a sample of the task's rows."""

    config: WeightedSearchConfig

    def done(self, task: Task) -> bool:
        """Whether a law is exact, or the time is up."""
        return task.time_is_up or task.pool.holds_law or task.pool.best_loss <= self.config.exact_loss

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
        fit = fit_constants(programs, task.x[rows] - shift, task.y[rows], config=config, generator=generator)
        loss = self._relative_loss(fit, float(task.y.var(correction=0)), len(rows))
        return Candidates(fit.programs, task.pool.judged(fit.programs, loss))

    def _relative_loss(self, fit: Fit, variance: float, n_rows: int) -> Tensor:
        # One row may be where the program, not the law, has no value: |x - 4| is made with the logarithm of x - 4.
        least = self.config.min_valid_share
        if n_rows >= _ROWS_TO_SPARE_ONE:
            least = min(least, 1 - 1.01 / n_rows)
        return torch.where(fit.valid_share >= least, fit.mse / variance, torch.inf)


class SimplestLaws(_WeightedStage):
    """What is always tried, so that there is an answer however short the time (see `simple_laws`)."""

    name = "simplest laws"
    needs: frozenset[Need] = frozenset()

    def done(self, task: Task) -> bool:
        """Never: it takes no time."""
        return False

    def run(self, task: Task) -> Generator[Candidates]:
        """Fit them once."""
        yield self.fit(task, simple_laws(task.x.shape[1]), self.config.fit_points, _FULL_FIT)


class KnownShapes(_WeightedStage):
    """Sigmoids, bells, damped oscillations and other shapes of one variable (see `shapes`)."""

    name = "known shapes"
    needs: frozenset[Need] = frozenset()

    def run(self, task: Task) -> Generator[Candidates]:
        """Fit every shape from its best starts on few rows, and on more what is good for its cost, then what is good at
        all. Variables far from 0 are centred for it: a rate and the place that it counts from would be one constant."""
        shift = centres(task.x)
        if not bool(shift.any()):
            yield from self._fitted(task, SHAPES, shift)
        else:
            yield from self._fitted(task, [shape for shape in SHAPES if not shape.positive], shift)
            yield from self._fitted(task, [shape for shape in SHAPES if shape.positive], torch.zeros_like(shift))
        task.report(self.name)

    def _fitted(self, task: Task, shapes: Sequence[Shape], shift: Tensor) -> Generator[Candidates]:
        few = task.shuffled[: self.config.screen_points]
        programs = propose_shapes(task.x[few] - shift, task.y[few], shapes=shapes)
        if programs is None or task.time_is_up:
            return
        screened = CandidatePool(len(few))
        found = self.fit(task, programs, self.config.screen_points, _SHAPE_FIT, shift=shift)
        screened.add(found.programs, found.loss)
        if screened.programs is not None:
            order = torch.cat([screened.shortest(len(screened)), screened.best(len(screened))]).tolist()
            chosen = torch.tensor(list(dict.fromkeys(order))[: self.config.shapes_refit])
            best = self.fit(task, screened.programs[chosen], self.config.fit_points, _POLISH, shift=shift)
            yield Candidates(shift_variables(best.programs, shift), best.loss)


@dataclass(frozen=True)
class SparseSearch(_WeightedStage):
    """Sparse sums of simple functions through invertible transforms of y (see `sparse.laws`)."""

    after_monomials: KnownShapes | None = None
    """Has its turn when sums of monomials have been tried: a parabola is no power of a shifted variable."""
    name: ClassVar[str] = "sparse sums"
    needs: ClassVar[frozenset[Need]] = frozenset()

    def done(self, task: Task) -> bool:
        """Whether a law is exact beyond doubt, since long sums come near to that, or the time is up."""
        return task.time_is_up or task.pool.holds_law or task.pool.best_loss <= self.config.surely_exact_loss

    def run(self, task: Task) -> Generator[Candidates]:
        """Fit the sums to y itself, family after family, and once more those that are nearly exact."""
        n_rows, few = self.config.fit_points, task.shuffled[: self.config.sparse_config.points]
        sums = propose_sparse(task.x[few], task.y[few], self.config.sparse_config, deadline=task.deadline)
        for number, programs in enumerate(sums):
            fitted = self.fit(task, programs, n_rows, _TOUCH_UP)
            yield fitted
            near = (fitted.loss < _NEARLY_EXACT).nonzero()[:, 0]
            if len(near):
                yield self.fit(task, fitted.programs[near], n_rows, _POLISH)
            task.report(self.name)
            if self.done(task):
                return
            if number == 0 and self.after_monomials is not None:
                yield from self.after_monomials.run(task)
                if self.done(task):
                    return


class AffineLookup(_WeightedStage):
    """Laws whose g(y) is a line in one or two functions of a table (see `affine`)."""

    name = "lookup"
    needs: frozenset[Need] = frozenset({"table"})

    def run(self, task: Task) -> Generator[Candidates]:
        """Fit what the table suggests on few rows, and on more what is good for its cost, then what is good at all.

        Nothing here is random, so the rounds that follow are the same with and without a table.
        """
        assert task.table is not None
        rows = task.shuffled[: self.config.fit_points]
        programs = propose_affine(task.table, task.x[rows], task.y[rows], self.config.lookup_config)
        if len(programs) and not task.time_is_up:
            screened = CandidatePool(len(rows))
            found = self.fit(task, programs, min(self.config.screen_points, self.config.fit_points), _LOOKUP_SCREEN)
            screened.add(found.programs, found.loss)
            if screened.programs is not None and not task.time_is_up:
                order = torch.cat([screened.front(), screened.best(len(screened))]).tolist()
                chosen = torch.tensor(list(dict.fromkeys(order))[: self.config.lookup_refit])
                yield self.fit(task, screened.programs[chosen], self.config.fit_points, _FULL_FIT)
        task.report(self.name)


class NetworkRounds(_WeightedStage):
    """Candidates of the initialiser, warmer each round, until several rounds in a row bring nothing new."""

    name = "network"
    needs: frozenset[Need] = frozenset({"network"})

    def run(self, task: Task) -> Generator[Candidates]:
        """A round proposes from fresh bags of points, fits all constants at once on a sample of the rows, and the most
        promising again on more of them. None begins that would end after the deadline if it took as long as the longest."""
        assert task.sampler is not None
        config, stale, number, longest = self.config, 0, 0, 0.0
        while (
            (task.max_rounds is None or number < task.max_rounds)
            and time.monotonic() + longest < task.deadline
            and stale < config.patience
            and task.pool.best_loss > config.exact_loss
        ):
            began, before = time.monotonic(), task.pool.best_loss
            proposals = task.sampler.propose(
                task.x,
                task.y,
                config.proposals,
                generator=task.generator,
                temperature=config.temperature(number),
                n_bags=config.bags,
            )
            quick = self.fit(task, proposals.programs, config.screen_points, _ROUND_SCREEN, task.generator)
            best = quick.loss.argsort(stable=True)[: config.refit]
            best = best[torch.isfinite(quick.loss[best])]
            chosen = quick.programs[best]
            if len(chosen):
                yield self.fit(task, chosen, config.fit_points, _ROUND_FIT, task.generator)
            else:
                yield Candidates(chosen, quick.loss[best])
            stale = 0 if task.pool.best_loss < _STALE * before else stale + 1
            number += 1
            longest = max(longest, time.monotonic() - began)
            task.report(f"round {number}")


def weighted_stages(config: WeightedSearchConfig) -> list[Stage]:
    """The stages of the weighted grammar in their order; a task without a sampler has no rounds."""
    stages: list[Stage] = [SimplestLaws(config)]
    shapes = KnownShapes(config) if config.shapes else None
    if config.sparse:
        stages.append(SparseSearch(config, shapes))
    elif shapes is not None:
        stages.append(shapes)
    if config.lookup:
        stages.append(AffineLookup(config))
    return [*stages, NetworkRounds(config)]
