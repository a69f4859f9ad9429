"""The stages of the search in the weighted grammar that need no network: the simplest laws, sparse sums of simple functions,
known shapes, and what a table of small functions suggests.

Structures come from somewhere, their constants by batched Levenberg-Marquardt. Each stage stands aside once a law is exact
or the time is up. The rounds of the network are in `rounds`.

Legend: b candidate, p point, v input variable.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from emlinit.finetune.fitting.levenberg_marquardt import FitConfig
from emlinit.finetune.search.affine import propose_affine
from emlinit.finetune.search.candidates import CandidatePool, distinct_rows
from emlinit.finetune.search.peaks import propose_peaks
from emlinit.finetune.search.shape_table import SHAPES, Shape
from emlinit.finetune.search.shapes import centres, power_laws, propose_shapes
from emlinit.finetune.search.stages import Candidates, Need, Stage, Task
from emlinit.finetune.search.weighted_stage import WeightedSearchConfig, WeightedStage
from emlinit.finetune.sparse.laws import ALL_SUMS, propose_sparse
from emlinit.generator.grammar import from_text, pad_sequences
from emlinit.generator.program import Programs, programs_from_tokens
from emlinit.generator.tidy import shift_variables

_NEARLY_EXACT = 1e-8  # loss of a sum that a few more steps may make exact
_FULL_FIT = FitConfig(steps=40)  # of a few good structures
_TOUCH_UP = FitConfig(steps=3)  # of sums that are fitted for y already, or nearly so, for another g(y)
_POLISH = FitConfig(steps=10)  # of what a few steps more may make exact
_SHAPE_FIT = FitConfig(steps=40)  # of every shape, on few rows
_LOOKUP_SCREEN = FitConfig(steps=8)  # of a thousand suggestions, on few rows


def simple_laws(n_variables: int) -> Programs:
    """What is always tried: a constant, a line in all variables, and in each one proportionality, a line, a power law."""
    texts = ["c:1.0", "+ c:0.5 " + "".join(f"+ w:1.0 x{i} " for i in range(1, n_variables)) + f"w:1.0 x{n_variables}"]
    for i in range(1, n_variables + 1):
        texts += [f"w:1.0 x{i}", f"+ c:0.5 w:1.0 x{i}", *(f"w:1.0 eml w:{p} eml 1 x{i} 1" for p in (-1.0, 1.0))]
    tokens, constants = pad_sequences([from_text(text) for text in dict.fromkeys(texts)])
    return programs_from_tokens(tokens, constants, n_variables)


class SimplestLaws(WeightedStage):
    """What is always tried, so that there is an answer however short the time (see `simple_laws`)."""

    name = "simplest laws"
    needs: frozenset[Need] = frozenset()

    def done(self, task: Task) -> bool:
        """Never: it takes no time."""
        return False

    def run(self, task: Task) -> Generator[Candidates]:
        """Fit them once."""
        yield self.fit(task, simple_laws(task.x.shape[1]), self.config.fit_points, _FULL_FIT)


class KnownShapes(WeightedStage):
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
        few = task.sound(task.shuffled)[: self.config.screen_points]
        weights = task.misfit.rows(few).weights
        proposed = [propose_shapes(task.x[few] - shift, task.y[few], weights, shapes=shapes)]
        if any(not shape.positive for shape in shapes):
            proposed.append(propose_peaks(task.x[few] - shift, task.y[few]))
        parts = [programs for programs in proposed if programs is not None]
        if not parts or task.time_is_up:
            return
        programs = Programs.cat(parts)
        screened = CandidatePool(len(few))
        found = self.fit(task, programs, self.config.screen_points, _SHAPE_FIT, shift=shift)
        screened.add(found.programs, found.loss)
        if screened.programs is not None:
            order = (screened.shortest(len(screened)), screened.best(len(screened)))
            chosen = distinct_rows(order, self.config.shapes_refit)
            best = self.fit(task, screened.programs[chosen], self.config.fit_points, _POLISH, shift=shift)
            yield Candidates(shift_variables(best.programs, shift), best.loss)


@dataclass(frozen=True)
class SparseSearch(WeightedStage):
    """Sparse sums of simple functions through invertible transforms of y (see `sparse.laws`)."""

    after_monomials: KnownShapes | None = None
    """Has its turn when sums of monomials have been tried: a parabola is no power of a shifted variable."""
    name: ClassVar[str] = "sparse sums"
    needs: ClassVar[frozenset[Need]] = frozenset()

    def run(self, task: Task) -> Generator[Candidates]:
        """Fit the sums to y itself, family after family, and once more those that are nearly exact."""
        n_rows, rows = self.config.fit_points, task.shuffled
        if self.after_monomials is not None:  # power laws take no time, and sums of five variables much
            few = task.sound(rows)[: self.config.screen_points]
            powers = power_laws(task.x[few], task.y[few])
            if powers:
                yield self.fit(task, Programs.cat(powers), n_rows, _SHAPE_FIT)
        weights = task.weights_for_squares()
        sums = propose_sparse(
            task.x[rows],
            task.y[rows],
            self.config.sparse_config,
            weights=None if weights is None else weights[rows],
            deadline=task.deadline,
        )
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


class AffineLookup(WeightedStage):
    """Laws whose g(y) is a line in one or two functions of a table (see `affine`)."""

    name = "lookup"
    needs: frozenset[Need] = frozenset({"table"})

    def run(self, task: Task) -> Generator[Candidates]:
        """Fit what the table suggests on few rows, and on more what is good for its cost, then what is good at all.

        Nothing here is random, so the rounds that follow are the same with and without a table.
        """
        assert task.table is not None
        rows = task.sound(task.shuffled)[: self.config.fit_points]
        programs = propose_affine(task.table, task.x[rows], task.y[rows], self.config.lookup_config)
        if len(programs) and not task.time_is_up:
            screened = CandidatePool(len(rows))
            found = self.fit(task, programs, min(self.config.screen_points, self.config.fit_points), _LOOKUP_SCREEN)
            screened.add(found.programs, found.loss)
            if screened.programs is not None and not task.time_is_up:
                order = (screened.front(), screened.best(len(screened)))
                chosen = distinct_rows(order, self.config.lookup_refit)
                yield self.fit(task, screened.programs[chosen], self.config.fit_points, _FULL_FIT)
        task.report(self.name)


def stages_without_network(config: WeightedSearchConfig, families: tuple[str, ...] = ALL_SUMS) -> list[Stage]:
    """The stages of the weighted grammar that need no network, in their order, with some families of sparse sums."""
    stages: list[Stage] = [SimplestLaws(config)]
    shapes = KnownShapes(config) if config.shapes else None
    if config.sparse:
        sums = replace(config, sparse_config=replace(config.sparse_config, families=families))
        stages.append(SparseSearch(sums, shapes))
    elif shapes is not None:
        stages.append(shapes)
    if config.lookup:
        stages.append(AffineLookup(config))
    return stages
