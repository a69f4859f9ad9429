"""Frozen evaluation problems: random trees of exact depth 2..6 with their points, made once and shipped.

They never enter training: `frozen_keys` are the value keys that the stream leaves out. The file is a `datasets` table; the
keys lie beside it in JSON, so that pretraining does not need `datasets`.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from emlinit.generator.canonical import Canonicaliser
from emlinit.generator.evaluate import evaluate
from emlinit.generator.function_table import INVALID_KEY
from emlinit.generator.grammar import X1, depth, size, to_text
from emlinit.generator.program import programs_from_tokens
from emlinit.generator.sample_trees import trees_by_depth
from emlinit.generator.stream import EXCLUDE_FROM_SIZE, Batch, ExampleStream, StreamConfig
from emlinit.generator.supports import random_supports

DATA_DIR = Path(__file__).resolve().parent / "data"
GRAMMAR_FILE = DATA_DIR / "grammar_exact.parquet"
KEYS_FILE = DATA_DIR / "frozen_keys.json"
FROZEN_VARIABLES = 3
HELD_OUT_SEED = 2**31 - 1
"""Seed of the held-out minibatches; training must use another."""


@dataclass(frozen=True, eq=False)
class FrozenProblem:
    """One problem of a frozen set."""

    text: str
    """The tree, in prefix text form."""
    depth: int
    """Depth of the tree in eml nodes."""
    x: np.ndarray
    """Training points, float64 of shape (200, v)."""
    y: np.ndarray
    """Targets, float64 of shape (200,)."""


def make_grammar_problems(per_depth: int, seed: int) -> tuple[list[FrozenProblem], Int64[Tensor, " k"]]:
    """Distinct canonical trees of exact depth 2..6 in 1-3 variables that they all read, real and not constant on 200
    points; and the value keys of those with at least `EXCLUDE_FROM_SIZE` nodes."""
    generator = torch.Generator().manual_seed(seed)
    canonicaliser = Canonicaliser(FROZEN_VARIABLES)
    problems: list[FrozenProblem] = []
    kept_keys: list[int] = []
    seen: set[int] = set()
    for level in range(2, 7):
        found = 0
        while found < per_depth:
            count = torch.randint(1, FROZEN_VARIABLES + 1, (256, 1), generator=generator)
            mask = torch.arange(FROZEN_VARIABLES) < count
            tokens, keys = canonicaliser(trees_by_depth(level, mask, 0.3, generator))
            reads = torch.stack([(tokens == X1 + i).any(-1) for i in range(FROZEN_VARIABLES)], -1)
            good = (depth(tokens) == level) & (size(tokens) <= 15) & (keys != INVALID_KEY) & (reads == mask).all(-1)
            tokens, keys, count = tokens[good], keys[good], count[good]
            x = random_supports(len(tokens), 400, FROZEN_VARIABLES, generator, tokens.device)
            zeros = torch.zeros(tokens.shape, dtype=torch.float64)
            result = evaluate(programs_from_tokens(tokens, zeros, FROZEN_VARIABLES), x, imag=True)
            assert result.imag is not None
            usable = result.valid & (result.imag.abs() <= 1e-9 * result.value.abs()) & (result.value.abs() <= 1e8)
            for row in range(len(tokens)):
                points = torch.nonzero(usable[row])[:200, 0]
                y = result.value[row, points]
                key = int(keys[row])
                varies = len(points) == 200 and float(y.std()) > 1e-4 * float(y.abs().max())
                if found == per_depth or not varies or key in seen:
                    continue
                seen.add(key)
                found += 1
                if int(size(tokens[row : row + 1])) >= EXCLUDE_FROM_SIZE:
                    kept_keys.append(key)
                text = to_text(tokens[row], zeros[row])
                problems.append(FrozenProblem(text, level, x[row, points, : int(count[row])].numpy(), y.numpy()))
    return problems, torch.tensor(sorted(kept_keys))


def write_grammar_problems(per_depth: int = 100, seed: int = 20260101) -> None:
    """Make the frozen set and write it beside this module."""
    import datasets

    problems, keys = make_grammar_problems(per_depth, seed)
    DATA_DIR.mkdir(exist_ok=True)
    rows = [{"text": p.text, "depth": p.depth, "x": p.x.tolist(), "y": p.y.tolist()} for p in problems]
    datasets.Dataset.from_list(rows).to_parquet(str(GRAMMAR_FILE))
    KEYS_FILE.write_text(json.dumps({"seed": seed, "grammar_exact": keys.tolist()}) + "\n")


def load_grammar_problems() -> list[FrozenProblem]:
    """The frozen trees of exact depth 2..6, 100 each."""
    import datasets

    table = datasets.Dataset.from_parquet(str(GRAMMAR_FILE), keep_in_memory=True)
    return [FrozenProblem(row["text"], row["depth"], np.array(row["x"]), np.array(row["y"])) for row in table]


def frozen_keys() -> Int64[Tensor, " k"]:
    """Value keys of the frozen functions that training must not see."""
    return torch.tensor(json.loads(KEYS_FILE.read_text())["grammar_exact"], dtype=torch.int64)


def held_out(config: StreamConfig) -> tuple[list[Batch], Int64[Tensor, " k"]]:
    """The held-out minibatches of a corpus, one pool of its own seed, and (exact grammar) the keys of their functions of
    `EXCLUDE_FROM_SIZE` nodes or more, to be left out of training together with `frozen_keys`."""
    batches = ExampleStream(config, seed=HELD_OUT_SEED).make_pool(0)
    if config.grammar != "exact":
        return batches, torch.empty(0, dtype=torch.int64)
    canonicaliser = Canonicaliser(config.max_variables)
    keys = [canonicaliser.node_keys(batch.tokens)[size(batch.tokens) >= EXCLUDE_FROM_SIZE][:, 0] for batch in batches]
    return batches, torch.unique(torch.cat(keys))
