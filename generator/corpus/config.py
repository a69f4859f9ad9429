"""What the corpus is made of: the knobs, and the version that pins everything that is no knob.

The law of a random program is a few shares that a run may choose - the fields of `StreamConfig`, written into its
configuration - and a few dozen numbers that nobody turns: the tables of `formulas`, the constants and odds of `trees`,
the forms of `canonical`, the ranges of the points in `examples`, the shares and bounds named at the top of `drawing`,
`rounds` and `examples`.
`CORPUS_VERSION` stands for all of the latter together.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from emlinit.generator.errors import UserError
from emlinit.generator.grammar import MAX_VARIABLES

CORPUS_VERSION = 4
"""Raise it with any change after which the same configuration and seed give other examples, or the same in another order:
a number or a table, the order of the draws, what is rejected, what is held to be canonical. It is written into the
configuration of every run and checkpoint and into the card of every stored corpus; a run is resumed only under the version
that it began with. What predates the constant has no version and counts as 1. Frozen sets and stored corpora keep the
programs that they hold, whatever the version."""


@dataclass(frozen=True, kw_only=True)
class StreamConfig:
    """What the corpus is made of."""

    grammar: Literal["exact", "weighted"] = "exact"
    """Which grammar the labels are written in."""
    corpus: str = ""
    """Stored corpus whose programs are trained on, over and over in random order: a folder (made by scripts/make_corpus.py)
    or a data set of the Hugging Face Hub, as hf-hub:OWNER/NAME@REV. Points are drawn afresh each time. Without it every
    program is drawn afresh, too."""
    corpus_share: float = 1.0
    """Share of the examples whose programs come from the stored corpus, if there is one; the rest are drawn afresh."""
    max_variables: int = 3
    """Most variables of a problem, 1..5."""
    max_nodes: int = 15
    """Most eml nodes of a label."""
    max_depth: int = 6
    """Deepest label, in eml nodes."""
    depth_growth: float = 1.7
    """Exact grammar: trees of each depth are drawn this many times as often as those one level shallower. Deep trees are
    rejected more often (their values overflow), and there is more to learn from them."""
    size_share: float = 1 / 6
    """Exact grammar: share of the trees that are drawn uniformly by size, the rest being drawn by depth."""
    one_share: float = 0.3
    """Exact grammar: share of the constant 1 among the leaves that are drawn."""
    max_tokens: int = 64
    """Longest label, in tokens."""
    min_points: int = 8
    """Fewest points of a minibatch."""
    max_points: int = 96
    """Most points of a minibatch."""
    batch_size: int = 128
    """Examples of a minibatch."""
    pool_batches: int = 16
    """Minibatches that are made, sorted by length and shuffled together."""
    workers: int = 0
    """Worker processes that draw fresh programs while the run trains, 0 for none: which programs does not depend on it.
    Points and values are made by the run, on its device."""
    formula_share: float = 0.7
    """Weighted grammar: share of compiled random formulas; the rest are random weighted trees."""
    irrelevant_share: float = 0.08
    """Weighted grammar: chance of each variable that a formula does not read to be in its table all the same."""
    noise_share: float = 0.3
    """Weighted grammar: share of examples with noise on y."""
    least_noise: float = 1e-3
    """Weighted grammar: smallest standard deviation of that noise, in standard deviations of y."""
    most_noise: float = 0.1
    """Weighted grammar: largest one; what lies between is log-uniform."""
    largest_y: float = 1e8
    """Examples with a larger |y| are dropped."""


def stream_ranges(config: StreamConfig) -> dict[str, tuple[int | float, ...]]:
    """Field -> least value that makes sense, value given, largest."""
    shares = ("corpus_share", "size_share", "formula_share", "irrelevant_share", "noise_share")
    return {
        "max_variables": (1, config.max_variables, MAX_VARIABLES),
        "max_nodes": (1, config.max_nodes, 1000),  # from here on what is asked for is a mistake, and fills the memory
        "max_depth": (1, config.max_depth, 1000),
        "max_tokens": (3, config.max_tokens, 4096),
        "min_points": (2, config.min_points, config.max_points),
        "batch_size": (1, config.batch_size, 2**20),
        "pool_batches": (1, config.pool_batches, 2**16),
        "workers": (0, config.workers, 1024),
        "depth_growth": (0.01, config.depth_growth, 100),
        "one_share": (0, config.one_share, 0.99),  # of ones alone only constants are made
        "largest_y": (1, config.largest_y, math.inf),
        "most_noise": (0, config.most_noise, 1e6),
        "least_noise": (1e-12, config.least_noise, config.most_noise),
        **{name: (0, getattr(config, name), 1) for name in shares},
    }


def programs_law(stream: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a `StreamConfig` that decide which examples there are: not the place of the stored corpus, whose hash
    says which one it is, and not who draws the programs."""
    return {name: value for name, value in stream.items() if name not in ("corpus", "workers")}


def check_ranges(ranges: Mapping[str, tuple[int | float, ...]]) -> None:
    """Refuse options that are out of their range.

    Args:
        ranges: option -> least value, value given, largest value.

    Raises:
        UserError: says which option and what it should be.
    """
    for option, (low, value, high) in ranges.items():
        if not low <= value <= high:
            wanted = f"at least {low}" if high == math.inf else f"from {low} to {high}"
            raise UserError(f"{option} should be {wanted}, not {value}")
