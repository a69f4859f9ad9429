"""Laws with constants that a table of small functions gives away at once: g(y) = a f(x) + b for a function f of it.

For several invertible g the functions that correlate best with g(y) are looked up (`generator.correlation`), one by one
and in pairs, and each hit is written as a weighted program whose value is y:

    g(y)          y                  program, u standing for + c:b w:a f
    y             u                  + c:b w:a f
    ln y          exp u              w:e^b eml w:a f 1
    y^q           u^p, p = 1/q       w:|a|^p e^(e p) eml w:-p eml 1 + c:b/|a| ±f 1
    exp(y / s)    s ln u             + c:s(e + ln |a|) w:-s eml 1 + c:b/|a| ±f

(ln u = e - eml(1, u), ±f is f or w:-1 f, and a pair has a second term w:a' g beside f.) A hit that is no exact match is a
start: in its *loosened* copy everything that the trees of f and g read, but for the constant 1, has a free factor, at
first 1, so that a fit can move from there. Where all variables are positive, y = k x1^p1 x2^p2 ... is added, by a
regression of ln y.

Legend: p point, v input variable, h hit, n term of a hit, l token position.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from emlinit.generator.evaluate import evaluate
from emlinit.generator.functions.correlation import LinearHits, StandardisedTable
from emlinit.generator.functions.table import FunctionTable
from emlinit.generator.grammar import EML, ONE, PAD, PLUS, X1, C, W, from_text, pad_sequences
from emlinit.generator.node import CEILING
from emlinit.generator.program import Programs, programs_from_tokens
from emlinit.generator.records import first_of_each

_POWERS = (2.0, -2.0, 0.5, -0.5)  # q for targets of one sign; -1 is tried for those of both, too
_SCALES = (-1.0, 1.0)  # s, in standard deviations of y
_MARGIN = 0.03  # of the range of u: how far a shifted u stays from 0

Sequences = tuple[Int64[Tensor, "h l"], Float64[Tensor, "h l"]]
"""Tokens and constants; here a `PAD` may stand anywhere and means that nothing stands there."""


@dataclass(frozen=True)
class AffineLookupConfig:
    """How much is looked up."""

    points: int = 128
    """Rows at which the table is evaluated."""
    max_functions: int = 50_000
    """Functions that are looked at, the smallest of the table."""
    functions: int = 10
    """Functions that each g(y) gives."""
    per_size: int = 2
    """Functions of each size that are among them in any case."""
    pairs: int = 6
    """Pairs that each g(y) gives."""
    unchanged: int = 3
    """The best functions and the best pairs of each g(y) are proposed as they are, too, not only loosened."""


@dataclass(frozen=True, eq=False)
class TransformedTarget:
    """g, by the table above, and g(y)."""

    kind: str
    """`affine`, `exp`, `power` or `ln`: what y is of u."""
    value: Float64[Tensor, " p"]
    """g(y)."""
    parameter: float = 1.0
    """p of `power`, s of `ln`."""
    sign: float = 1.0
    """-1 for y = -exp u and y = -u^p."""
    offset: float = 0.0
    """y = s ln u + offset."""


def propose_affine(
    table: FunctionTable, x: Float64[Tensor, "p v"], y: Float64[Tensor, " p"], config: AffineLookupConfig | None = None
) -> Programs:
    """Programs that a table suggests for data, with constants by least squares in g(y), those that start nearest first;
    of one structure there is one. Some 0.3 s for 23,000 functions.

    Args:
        table: in as many variables as `x` has columns, or fewer (the first ones).
        x: points, finite.
        y: targets, finite. The first `config.points` of both are used.
        config: how much is looked up.

    Raises:
        ValueError: fewer than two points, or fewer columns than the table has variables.
    """
    config = config or AffineLookupConfig()
    x, y = x[: config.points], y[: config.points]
    functions = StandardisedTable(table, x, config.max_functions)
    transforms = transforms_of(y)
    targets = torch.stack([transform.value for transform in transforms])
    parts = [_power_law(x, y)]
    for hits in (
        functions.best(targets, config.functions, per_size=config.per_size),
        functions.best_pairs(targets, config.pairs),
    ):
        for which, transform in enumerate(transforms):
            parts.append(hit_sequences(table, transform, hits, which, config.unchanged, loose=False))
            parts.append(hit_sequences(table, transform, hits, which, loose=True))
    sequences = [from_text(f"c:{float(y.mean())!r}")]  # if there is nothing else
    sequences += [pair for part in parts for pair in zip(*part, strict=True)]
    tokens, constants = _close_up(*pad_sequences(sequences))
    fine = (constants.abs() < CEILING[torch.float64]).all(1)  # False for NaN
    programs = programs_from_tokens(tokens[fine], constants[fine], x.shape[1])
    start = evaluate(programs, x, rtol=None)
    error = torch.where(start.valid, (start.value - y).abs(), float(y.abs().max())).square().mean(1)
    order = error.argsort(stable=True)
    return programs[order[first_of_each(tokens[fine][order])]]


def transforms_of(y: Float64[Tensor, " p"]) -> list[TransformedTarget]:
    """The g that are defined and finite on all targets, y itself first."""
    found = [TransformedTarget("affine", y)]
    sign = 1.0 if bool((y > 0).all()) else -1.0
    if bool((sign * y > 0).all()):
        found.append(TransformedTarget("exp", (sign * y).log(), sign=sign))
        found += [TransformedTarget("power", (sign * y) ** q, 1.0 / q, sign) for q in _POWERS]
    if bool((y != 0).all()):
        found.append(TransformedTarget("power", 1.0 / y, -1.0))
    centre = float(y.mean())
    for scale in (s * float(y.std(correction=0)) for s in _SCALES):
        if scale:
            found.append(TransformedTarget("ln", ((y - centre) / scale).exp(), scale, offset=centre))
    return [transform for transform in found if bool(transform.value.isfinite().all())]


def hit_sequences(
    table: FunctionTable,
    transform: TransformedTarget,
    hits: LinearHits,
    which: int,
    limit: int | None = None,
    *,
    loose: bool,
) -> Sequences:
    """The hits of target number `which`, at most `limit`, as programs for y; with `loose` below the readout, too."""
    found = torch.nonzero(hits.row[which, :, 0] >= 0)[:limit, 0]
    slope, intercept = hits.slope[which, found], hits.intercept[which, found]
    trees = [_tree(table.tokens_of(rows), loose) for rows in hits.row[which, found].T]
    n = len(found)

    def column(kind: int | Tensor, constant: float | Tensor = 0.0) -> Sequences:
        return torch.as_tensor(kind).expand(n)[:, None], torch.as_tensor(constant).double().expand(n)[:, None]

    def terms(factors: Tensor) -> list[Sequences]:
        """Factor times tree of each term; a first factor of 1 is not written."""
        parts: list[Sequences] = []
        for place, tree in enumerate(trees):
            is_last, factor = place == len(trees) - 1, factors[:, place]
            bare = (factor == 1) & (place == 0) & (transform.kind in ("power", "ln"))
            parts += [] if is_last else [column(PLUS)]
            parts += [column(torch.where(bare, PAD, W), torch.where(bare, 0.0, factor)), tree]
        return parts

    size, p = slope[:, 0].abs(), transform.parameter
    if transform.kind == "ln" or (transform.kind == "power" and p != -1):
        # A fit does not get out of a logarithm that is singular amid the points: start where there is none.
        lowest, highest = hits.lowest[which, found], hits.highest[which, found]
        intercept = intercept + torch.where(lowest <= 0, _MARGIN * (highest - lowest) - lowest, 0.0)
    scaled = [column(PLUS), column(C, intercept / size), *terms(slope / size[:, None])]  # u / |a|
    if transform.kind == "affine":
        parts = [column(PLUS), column(C, intercept), *terms(slope)]
    elif transform.kind == "exp":
        parts = [column(W, transform.sign * intercept.exp()), column(EML), *terms(slope), column(ONE)]
    elif transform.kind == "power":
        factor = transform.sign * size**p * math.exp(math.e * p)
        parts = [column(W, factor), column(EML), column(W, -p), column(EML), column(ONE), *scaled, column(ONE)]
    else:
        shift = transform.offset + p * (math.e + size.log())
        parts = [column(PLUS), column(C, shift), column(W, -p), column(EML), column(ONE), *scaled]
    if loose and transform.kind in ("exp", "power"):
        parts = [column(PLUS), column(C), *parts]
    return torch.cat([kinds for kinds, _ in parts], 1), torch.cat([constants for _, constants in parts], 1)


def _tree(tokens: Tensor, loose: bool) -> Sequences:
    """A tree, `loose`: with a free factor 1 on each variable and node below its root."""
    free = ((tokens >= X1) | (tokens == EML)) & loose
    free[:, 0] = False
    kinds = torch.stack([torch.where(free, W, PAD), tokens], -1).flatten(1)
    return kinds, torch.stack([free.double(), torch.zeros_like(free).double()], -1).flatten(1)


def _power_law(x: Tensor, y: Tensor) -> Sequences:
    """k x1^p1 x2^p2 ..., as it is and with a constant added, by least squares of ln |y| on eml(1, x) = e - ln x."""
    sign = 1.0 if bool((y > 0).all()) else -1.0
    if not (bool((x > 0).all()) and bool((sign * y > 0).all())):
        return torch.zeros(0, 1, dtype=torch.int64), torch.zeros(0, 1, dtype=torch.float64)
    columns = torch.cat([torch.ones(len(x), 1, dtype=torch.float64), math.e - x.log()], 1)
    solution = torch.linalg.lstsq(columns, (sign * y).log()[:, None], driver="gelsd").solution[:, 0].tolist()
    terms = [f"w:{power!r} eml 1 x{i + 1}" for i, power in enumerate(solution[1:])]
    law = f"w:{sign * math.exp(min(solution[0], 200.0))!r} eml " + " ".join(["+ " + t for t in terms[:-1]] + terms[-1:])
    return pad_sequences([from_text(f"{law} 1"), from_text(f"+ c:0.0 {law} 1")])


def _close_up(tokens: Tensor, constants: Tensor) -> Sequences:
    """Sequences without gaps: the padding moved to the end."""
    order = (tokens == PAD).to(torch.uint8).argsort(dim=1, stable=True)
    width = int((tokens != PAD).sum(1).max())
    return tokens.gather(1, order)[:, :width], constants.gather(1, order)[:, :width]
