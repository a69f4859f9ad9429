"""The ways of searching the exact grammar that are compared: the whole pipeline, parts of it, and its controls.

Each gets the same points and the same time. None but those marked so may use a table of all small functions.

Legend: p point, v input variable.
"""

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace

import torch

from emlinit.benchmarks.priors import FlatPrior
from emlinit.finetune.routing.gumbel import GumbelConfig, train_gumbel_hard
from emlinit.finetune.routing.topology import full_tree
from emlinit.finetune.search.exact import ExactSearchConfig, ExactTrees, Judge, relative_loss
from emlinit.finetune.search.schedule import run_in_order
from emlinit.finetune.search.stages import Task
from emlinit.finetune.subtrees.meeting import MeetingSearch
from emlinit.generator.functions.cache import load_search_table
from emlinit.generator.functions.lookup import Lookup, choose_points
from emlinit.generator.grammar import ROOT


@dataclass(frozen=True)
class TreeMethod:
    """A way of searching for exact trees, and what it needs."""

    description: str
    """What it does, in a few words."""
    search: Callable[[Task], None]
    """Searches until the task's deadline, or until nothing is left to try, and puts what it finds into the task's pool."""
    learned: bool = True
    """Whether it needs an initialiser."""


_SAMPLING = ExactSearchConfig(recombine=False, peel=False, gumbel=False)


def _search(config: ExactSearchConfig, *, flat: bool = False, table: bool = False) -> Callable[[Task], None]:
    def search(task: Task) -> None:
        sampler = FlatPrior(task.generator) if flat else task.sampler
        assert sampler is not None, "this method needs an initialiser"
        functions = load_search_table(task.x.shape[1]) if table else None
        run_in_order([ExactTrees(config)], replace(task, sampler=sampler, table=functions))

    return search


def search_random(task: Task) -> None:
    """Gumbel-hard training from zero logits, on full trees of depth 2, 3, ... in turn.

    The depth is not known, as it is not to the learned start, so every depth gets the same number of steps a round.
    """
    config, x, y = ExactSearchConfig(), task.x, task.y
    screen = task.shuffled[: config.screen_points]
    while not task.time_is_up:
        for levels in range(2, config.max_depth + 1):
            seconds = task.deadline - time.monotonic()
            if seconds <= 0:
                return
            topology = full_tree(levels, x.shape[1])
            logits = torch.zeros(config.restarts, topology.n_slots, topology.n_choices, dtype=torch.float64)
            gumbel = GumbelConfig(steps=config.gumbel_steps, seconds=seconds)
            found = train_gumbel_hard(topology, logits, x[screen], y[screen], gumbel, generator=task.generator)
            task.pool.add(found.programs, relative_loss(found.programs, x, y))
            if task.pool.best_loss <= config.exact_loss:
                return


def search_exhaustive(task: Task) -> None:
    """Look the target up among all functions of the table, which is exhaustive search by size up to the table's."""
    judge, rows, table = _judge(task), choose_points(task.x, task.y), load_search_table(task.x.shape[1])
    for point_set in rows:
        lookup = Lookup.of_table(table, task.x[point_set])
        found = lookup.find(ROOT, task.y[point_set].to(torch.complex128)[None])
        if bool(found[0] >= 0) and judge.trees(table.tokens_of(found)):
            break
    _keep(judge, task)


def search_meeting(task: Task) -> None:
    """Meet in the middle, at the root and below ever larger known parts."""
    judge, rows, table = _judge(task), choose_points(task.x, task.y), load_search_table(task.x.shape[1])
    leaves = table.tokens_of(torch.arange(table.counts[0]))
    if not judge.trees(leaves):
        with closing(MeetingSearch(table, task.x[rows], task.y[rows])) as meeting:
            meeting.run(judge.trees, task.deadline)
    _keep(judge, task)


def _judge(task: Task) -> Judge:
    return Judge(replace(task, generator=torch.Generator().manual_seed(0)), ExactSearchConfig())


def _keep(judge: Judge, task: Task) -> None:
    for found in judge.take():
        task.pool.add(found.programs, found.loss)


_GUMBEL = replace(_SAMPLING, gumbel=True)
_PEELING = replace(_SAMPLING, peel=True)
_RECOMBINED = replace(_PEELING, recombine=True)

TREE_METHODS: dict[str, TreeMethod] = {
    "random": TreeMethod("Gumbel-hard training from a random start", search_random, learned=False),
    "flat-sampling": TreeMethod("random trees of the corpus", _search(_SAMPLING, flat=True), learned=False),
    "sampling": TreeMethod("trees from the initialiser", _search(_SAMPLING)),
    "gumbel": TreeMethod("sampling + Gumbel-hard training", _search(replace(_GUMBEL, elites=False))),
    "elites": TreeMethod("sampling + Gumbel-hard training + elites", _search(_GUMBEL)),
    "flat-peeling": TreeMethod("peeling with a flat prior", _search(_PEELING, flat=True), learned=False),
    "peeling": TreeMethod("sampling + peeling", _search(_PEELING)),
    "flat-recombination": TreeMethod(
        "peeling + recombination, flat prior", _search(_RECOMBINED, flat=True), learned=False
    ),
    "recombination": TreeMethod("sampling + peeling + recombination", _search(_RECOMBINED)),
    "learned": TreeMethod("all of these together", _search(ExactSearchConfig())),
    "exhaustive": TreeMethod("exhaustive: the table of small functions", search_exhaustive, learned=False),
    "meeting": TreeMethod("meeting in the middle, no network", search_meeting, learned=False),
    "open-slots": TreeMethod(
        "meeting, and the initialiser's trees with a slot open", _search(replace(_SAMPLING, recombine=True), table=True)
    ),
    "no-learning": TreeMethod(
        "completion, whose Gumbel-hard training has learning rate 0",
        _search(ExactSearchConfig(gumbel_rate=0.0), table=True),
    ),
    "completion": TreeMethod("initialiser + completion from the table", _search(ExactSearchConfig(), table=True)),
}
"""By name, in the order of the printed table."""
