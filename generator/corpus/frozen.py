"""Frozen evaluation problems: random trees of exact depth 2..6, wide ones of 10 to 20 nodes in three variables, and random
formulas with constants, with their points; made once and shipped.

The first trees were drawn with arithmetic in which no node may exceed 1e100, and had to have values at one set of probe
points: a third of all trees of depth 6 was never drawn. The second ones (`GRAMMAR2_FILE`, `WIDE2_FILE`) are without that
blind spot; both are reported.

The trees never enter training: `frozen_keys` are the value keys that the stream leaves out. The formulas come from a stream
of random numbers that training cannot ask for; their constants are real numbers, so that no formula is drawn twice. The
files are Parquet tables.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import permutations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import sympy
import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from emlinit.generator.corpus.canonical import Canonicaliser
from emlinit.generator.corpus.config import StreamConfig
from emlinit.generator.corpus.drawing import EXCLUDE_FROM_SIZE, skeleton_keys, weighted_keys
from emlinit.generator.corpus.examples import Batch, random_supports
from emlinit.generator.corpus.formulas import FormulaConfig, sample_formula_programs
from emlinit.generator.corpus.skeletons import Skeleton, skeleton
from emlinit.generator.corpus.stream import ExampleStream
from emlinit.generator.corpus.trees import trees_by_depth
from emlinit.generator.errors import UserError
from emlinit.generator.evaluate import evaluate, evaluate_nodes
from emlinit.generator.formulas.decompile import to_sympy
from emlinit.generator.formulas.parse import parse_formula
from emlinit.generator.formulas.printing import formula_text
from emlinit.generator.functions.table import INVALID_KEY
from emlinit.generator.grammar import X1, depth, from_text, pad_sequences, size, to_text
from emlinit.generator.program import Programs, programs_from_tokens

DATA_DIR = Path(__file__).resolve().parent / "data"
GRAMMAR_FILE = DATA_DIR / "grammar_exact.parquet"
WIDE_FILE = DATA_DIR / "grammar_wide.parquet"
GRAMMAR2_FILE = DATA_DIR / "grammar2_exact.parquet"
WIDE2_FILE = DATA_DIR / "grammar2_wide.parquet"
FORMULAS_FILE = DATA_DIR / "formulas_weighted.parquet"
HARD_FILE = DATA_DIR / "formulas_hard.parquet"
HARD_ASIDE_FILE = DATA_DIR / "formulas_hard_aside.parquet"
"""Formulas that a search without a network did not find (see `benchmarks.laws.hard`), and more of them to check with."""
FROZEN_VARIABLES = 3
WIDE_SIZES = ((10, 12), (13, 16), (17, 20))
"""Nodes of the groups of the wide set."""
FORMULA_SIZES = ((1, 3), (4, 6), (7, 10))
"""Nodes of the groups of the frozen formulas."""
FROZEN_ONE_SHARE = 0.3
"""Share of ones among the leaves of frozen trees before they are put into canonical form."""
FROZEN_POINTS = 200
"""Points of each frozen problem; twice as many are tried."""
LEAST_VISIBLE = 20
"""Of these, the fewest at which all parts of a tree can be seen: of what is nothing beside something else the data say
nothing."""
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


@dataclass(frozen=True, eq=False)
class FrozenFormula:
    """One problem of the frozen set of formulas with constants."""

    name: str
    """Nodes and number, such as "3-07"."""
    text: str
    """The program, in prefix text form."""
    formula: str
    """The same as a formula in x1, x2, ... that `parse_formula` reads, with constants at full precision."""
    x: np.ndarray
    """Training points, float64 of shape (200, v)."""
    y: np.ndarray
    """Targets without noise, float64 of shape (200,)."""


def make_grammar_problems(per_depth: int, seed: int) -> list[FrozenProblem]:
    """Distinct canonical trees of exact depth 2..6 in 1-3 variables that they all read, real and not constant on 200
    points. `GRAMMAR2_FILE` are 100 of each depth, of seed 2."""
    maker = _Maker(seed)
    for level in range(2, 7):

        def draw(mask: Tensor, level: int = level) -> Tensor:
            return trees_by_depth(torch.full((len(mask),), level), mask, FROZEN_ONE_SHARE, maker.generator)

        def fits(tokens: Tensor, level: int = level) -> Tensor:
            return (depth(tokens) == level) & (size(tokens) <= 15)

        maker.add(per_depth, draw, fits, n_variables=None)
    return maker.problems


def make_wide_problems(per_size: int, seed: int) -> list[FrozenProblem]:
    """The same with trees of 10..20 nodes in three variables, as many of 10-12, 13-16 and 17-20 nodes. `WIDE2_FILE` are 20
    of each, of seed 2."""
    maker = _Maker(seed)
    for low, high in WIDE_SIZES:

        def draw(mask: Tensor) -> Tensor:
            level = torch.randint(4, 8, (1,), generator=maker.generator)
            return trees_by_depth(level.expand(len(mask)), mask, FROZEN_ONE_SHARE, maker.generator)

        def fits(tokens: Tensor, low: int = low, high: int = high) -> Tensor:
            return (size(tokens) >= low) & (size(tokens) <= high)

        maker.add(per_size, draw, fits, n_variables=3)
    return maker.problems


class _Maker:
    """Draws frozen problems one group after the other, no function twice."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.problems: list[FrozenProblem] = []
        self._canonicaliser = Canonicaliser(FROZEN_VARIABLES)
        self._seen: set[int] = set()

    def add(
        self,
        n: int,
        draw: Callable[[Tensor], Tensor],
        fits: Callable[[Tensor], Tensor],
        n_variables: int | None,
    ) -> None:
        """Add n problems whose canonical trees fit; trees are drawn for rows of masks of variables."""
        found = 0
        while found < n:
            if n_variables is None:
                count = torch.randint(1, FROZEN_VARIABLES + 1, (256, 1), generator=self.generator)
            else:
                count = torch.full((256, 1), n_variables)
            mask = torch.arange(FROZEN_VARIABLES) < count
            tokens, keys = self._canonicaliser(draw(mask))
            reads = torch.stack([(tokens == X1 + i).any(-1) for i in range(FROZEN_VARIABLES)], -1)
            good = fits(tokens) & (keys != INVALID_KEY) & (reads == mask).all(-1)
            tokens, count = tokens[good], count[good]
            if not len(tokens):
                continue
            keys = self._canonicaliser.root_keys(tokens)
            x = random_supports(len(tokens), 2 * FROZEN_POINTS, FROZEN_VARIABLES, self.generator, tokens.device)
            zeros = torch.zeros(tokens.shape, dtype=torch.float64)
            result = evaluate(programs_from_tokens(tokens, zeros, FROZEN_VARIABLES), x, imag=True)
            assert result.imag is not None
            usable = result.valid & (result.imag.abs() <= 1e-9 * result.value.abs()) & (result.value.abs() <= 1e8)
            visible = _visible(tokens, x)
            for row in range(len(tokens)):
                points = torch.nonzero(usable[row])[:FROZEN_POINTS, 0]
                y = result.value[row, points]
                own = set(keys[row].tolist()) - {INVALID_KEY}
                varies = len(points) == FROZEN_POINTS and float(y.std()) > 1e-4 * float(y.abs().max())
                is_determined = int(visible[row, points].sum()) >= LEAST_VISIBLE
                if found == n or not varies or not is_determined or own & self._seen:
                    continue
                self._seen |= own
                found += 1
                text, level = to_text(tokens[row], zeros[row]), int(depth(tokens[row : row + 1]))
                self.problems.append(FrozenProblem(text, level, x[row, points, : int(count[row])].numpy(), y.numpy()))


def _visible(tokens: Int64[Tensor, "b l"], x: Float64[Tensor, "b p v"]) -> Bool[Tensor, "b p"]:
    """Points at which a tree's values say something of all its parts (see `evaluate_nodes`)."""
    programs = programs_from_tokens(tokens, torch.zeros(tokens.shape, dtype=torch.float64), FROZEN_VARIABLES)
    nodes = evaluate_nodes(programs, x, faithful=True)[0]
    return nodes[torch.arange(len(tokens)), programs.n_nodes - 1].isfinite()


def make_formula_problems(per_group: int) -> list[FrozenFormula]:
    """Random formulas of the weighted corpus, as many of each group of `FORMULA_SIZES`, one of each group in turn; in 1-3
    variables, and no two have the same skeleton (see `draw_formulas`)."""
    found: dict[tuple[int, int], list[FrozenFormula]] = {group: [] for group in FORMULA_SIZES}

    def group(n_nodes: int) -> list[FrozenFormula] | None:
        return next((members for (low, high), members in found.items() if low <= n_nodes <= high), None)

    def wanted(n_nodes: int) -> bool:
        members = group(n_nodes)
        return members is not None and len(members) < per_group

    for drawn in draw_formulas(1, FROZEN_VARIABLES, wanted):
        members = group(drawn.n_nodes)
        assert members is not None
        members.append(drawn.named(f"{drawn.n_nodes}-{len(members) + 1:02}"))
        if all(len(members) == per_group for members in found.values()):
            break
    return [problem for turn in zip(*found.values(), strict=True) for problem in turn]


@dataclass(frozen=True, eq=False)
class DrawnFormula:
    """A random formula with its points, fit for a frozen set."""

    n_nodes: int
    """Its eml nodes."""
    text: str
    """The program, in prefix text form."""
    formula: str
    """The same as a formula."""
    x: np.ndarray
    """Points, float64 of shape (200, v)."""
    y: np.ndarray
    """Targets, float64 of shape (200,)."""

    def named(self, name: str) -> FrozenFormula:
        """As a member of a frozen set."""
        return FrozenFormula(name, self.text, self.formula, self.x, self.y)


def draw_formulas(
    rank: int, max_variables: int, wanted: Callable[[int], bool] = lambda n_nodes: True
) -> Iterator[DrawnFormula]:
    """Random formulas of the weighted corpus without end, no skeleton twice.

    They have at least one constant that is no small integer, are certified at 200 points, vary there and are no lines.

    Args:
        rank: number of the stream of random numbers, of a seed that training must not use; each frozen set has its own.
        max_variables: most variables that they read.
        wanted: whether a formula of so many nodes is wanted just then.
    """
    rng = np.random.default_rng([HELD_OUT_SEED, rank, 0])
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    seen: set[Skeleton] = set()
    while True:
        kinds, values = sample_formula_programs(256, rng, FormulaConfig(max_variables=max_variables))
        tokens, constants = torch.from_numpy(kinds), torch.from_numpy(values)
        programs = programs_from_tokens(tokens, constants, max_variables)
        x = random_supports(len(tokens), 2 * FROZEN_POINTS, max_variables, generator, tokens.device)
        result = evaluate(programs, x)
        for row, n_nodes in enumerate(size(tokens).tolist()):
            shape = skeleton(tokens[row].tolist())
            points = torch.nonzero(result.valid[row])[:FROZEN_POINTS, 0]
            if not wanted(n_nodes) or shape in seen or len(points) < FROZEN_POINTS:
                continue
            n_variables = int(tokens[row].max()) - X1 + 1
            data, y = x[row, points, :n_variables].numpy(), result.value[row, points].numpy()
            formula = _formula(programs_from_tokens(tokens[row, None], constants[row, None], n_variables), data, y)
            if formula is not None:
                seen.add(shape)
                yield DrawnFormula(n_nodes, to_text(tokens[row], constants[row]), formula, data, y)


def _formula(program: Programs, x: np.ndarray, y: np.ndarray) -> str | None:
    """The program as text that reads back to the same values; None if it is unfit for the frozen set."""
    line = np.column_stack([np.ones(len(x)), x])
    rest = y - line @ np.linalg.lstsq(line, y, rcond=None)[0]
    largest = np.abs(y).max()
    if y.std() < 1e-2 or largest > 1e6 or y.std() < 1e-2 * largest or rest.std() < 1e-2 * y.std():
        return None
    symbols = [sympy.Symbol(f"x{number}", real=True) for number in range(1, x.shape[1] + 1)]
    expr = to_sympy(program, 0, symbols, points=x, simplify_seconds=5.0)
    if not expr.atoms(sympy.Float) or expr.has(sympy.I, sympy.Function("re")) or expr.free_symbols != set(symbols):
        return None
    text = formula_text(expr)
    try:
        value = real_values(parse_formula(text, symbols), symbols, x)
    except UserError:  # a function that formulas from outside may not have
        return None
    return text if bool((np.abs(value - y) <= 1e-9 * largest).all()) else None


def real_values(formula: sympy.Expr, symbols: Sequence[sympy.Symbol], x: np.ndarray) -> np.ndarray:
    """Values of a formula at x of shape (p, v), in double precision and real arithmetic throughout; nan or infinite where
    that is undefined."""
    with np.errstate(all="ignore"):
        value = sympy.lambdify(list(symbols), formula, "numpy")(*x.T)
    return np.broadcast_to(np.asarray(value, dtype=np.float64), len(x)).copy()


def write_formula_problems(path: Path, problems: list[FrozenFormula]) -> None:
    """Write a new frozen set of formulas; what is frozen is never made again.

    Raises:
        FileExistsError: there is such a set.
    """
    if path.exists():
        raise FileExistsError(f"'{path}' is frozen: make a new set under another name")
    rows = [{**asdict(p), "x": p.x.tolist(), "y": p.y.tolist()} for p in problems]
    pq.write_table(pa.Table.from_pylist(rows), path)


def load_formula_problems(path: Path = FORMULAS_FILE) -> list[FrozenFormula]:
    """A frozen set of formulas; by default the one with 20 of each of `FORMULA_SIZES`, one of each in turn."""
    rows = pq.read_table(path).to_pylist()
    return [FrozenFormula(**{**row, "x": np.array(row["x"]), "y": np.array(row["y"])}) for row in rows]


def write_frozen_problems(path: Path, problems: list[FrozenProblem]) -> None:
    """Write a new frozen set; what is frozen is never made again.

    Raises:
        FileExistsError: there is such a set.
    """
    if path.exists():
        raise FileExistsError(f"'{path}' is frozen: make a new set under another name")
    rows = [{"text": p.text, "depth": p.depth, "x": p.x.tolist(), "y": p.y.tolist()} for p in problems]
    pq.write_table(pa.Table.from_pylist(rows), path)


def load_grammar_problems(path: Path = GRAMMAR_FILE) -> list[FrozenProblem]:
    """The frozen trees of exact depth 2..6, 100 each; also those of `GRAMMAR2_FILE`."""
    return _load(path)


def load_wide_problems(path: Path = WIDE_FILE) -> list[FrozenProblem]:
    """The frozen trees of 10 to 20 nodes in three variables, 20 of each of `WIDE_SIZES`; also those of `WIDE2_FILE`."""
    return _load(path)


def _load(path: Path) -> list[FrozenProblem]:
    rows = pq.read_table(path).to_pylist()
    return [FrozenProblem(row["text"], row["depth"], np.array(row["x"]), np.array(row["y"])) for row in rows]


@cache
def frozen_keys() -> Int64[Tensor, " k"]:
    """All keys of the frozen trees of `EXCLUDE_FROM_SIZE` nodes or more, which training must not see."""
    problems = [problem for path in (GRAMMAR_FILE, WIDE_FILE, GRAMMAR2_FILE, WIDE2_FILE) for problem in _load(path)]
    tokens, _ = pad_sequences([from_text(problem.text) for problem in problems])
    keys = Canonicaliser(FROZEN_VARIABLES).root_keys(tokens[size(tokens) >= EXCLUDE_FROM_SIZE])
    distinct: Tensor = torch.unique(keys[keys != INVALID_KEY])
    return distinct


def held_out(config: StreamConfig) -> tuple[list[Batch], Int64[Tensor, " k"]]:
    """The held-out minibatches of a corpus, one pool of its own seed, and (exact grammar) the keys of their functions of
    `EXCLUDE_FROM_SIZE` nodes or more, to be left out of training together with `frozen_keys`."""
    batches = ExampleStream(replace(config, corpus="", workers=0), seed=HELD_OUT_SEED).make_pool(0)
    if config.grammar != "exact":
        return batches, torch.empty(0, dtype=torch.int64)
    canonicaliser = Canonicaliser(config.max_variables)
    large = [batch.tokens[size(batch.tokens) >= EXCLUDE_FROM_SIZE] for batch in batches]
    keys = torch.cat([canonicaliser.root_keys(tokens).flatten() for tokens in large])
    return batches, torch.unique(keys[keys != INVALID_KEY])


def training_exclusions(config: StreamConfig) -> tuple[list[Batch], Int64[Tensor, " k"]]:
    """The held-out minibatches of a corpus, and the keys of all functions that training on it must not see: theirs (of
    `EXCLUDE_FROM_SIZE` nodes or more) and those of the frozen sets, for `Admission`. Of the hard formulas the skeletons are
    left out as well, whatever their constants and the names of their variables."""
    batches, keys = held_out(config)
    if config.grammar == "exact":
        return batches, torch.cat([keys, frozen_keys()])
    large = [batch.rows(size(batch.tokens) >= EXCLUDE_FROM_SIZE) for batch in batches]
    programs = [(batch.tokens, batch.constants) for batch in large if len(batch)]
    hard = [from_text(p.text) for path in (HARD_FILE, HARD_ASIDE_FILE) for p in load_formula_problems(path)]
    programs.append(pad_sequences([*(from_text(problem.text) for problem in load_formula_problems()), *hard]))
    shapes, _ = pad_sequences([(renamed, values) for tokens, values in hard for renamed in _in_any_names(tokens)])
    keys = torch.cat([*(weighted_keys(tokens, constants) for tokens, constants in programs), skeleton_keys(shapes)])
    return batches, torch.unique(keys[keys != INVALID_KEY])


def _in_any_names(tokens: Int64[Tensor, " l"]) -> list[Int64[Tensor, " l"]]:
    """One token sequence with its variables in every order."""
    n = int(tokens.max()) - X1 + 1
    other = tokens.clamp_min(X1) - X1
    return [torch.where(tokens >= X1, torch.tensor(order)[other] + X1, tokens) for order in permutations(range(n))]
