"""Random ordinary formulas, written as weighted eml programs: the prior of what scientists write.

A random grammar, no list of known laws. A formula is a sum of terms, a term is a coefficient times a product of
factors, and a factor is a power of a variable, an exponential, an oscillation, a power or logarithm of a shorter sum, a
saturating function and so on; a smaller share are random operator trees in the manner of Lample and Charton
(arXiv 1912.01412). Constants are often small integers, halves or pi, and else spread over orders of magnitude.

The formulas are built by `builder` directly; nothing here knows what data they will be evaluated on. Variables are
counted as positive when logarithms are simplified: the tokens are the truth, and ln(x**2) and 2 ln(x) are one formula.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from jaxtyping import Float64, Int64

from emlinit.generator.builder import Builder
from emlinit.generator.grammar import MAX_VARIABLES, PAD, X1
from emlinit.generator.slots import Slot


@dataclass(frozen=True)
class FormulaConfig:
    """What random formulas look like."""

    max_variables: int = MAX_VARIABLES
    """Most variables in a formula, 1..5."""
    max_nodes: int = 10
    """Most eml nodes in a formula, repeated ones counted as often as they are written."""
    max_tokens: int = 64
    """Longest token sequence."""
    largest_constant: float = 1e6
    """Formulas whose program has a constant of larger modulus, or of modulus below the reciprocal, are drawn again."""
    operator_tree_share: float = 0.2
    """Share of formulas that are random operator trees instead of sums of products."""
    linear_share: float = 0.3
    """Share of formulas without any eml node, a line or plane, that are kept."""
    variable_weights: tuple[float, ...] = (0.3, 0.28, 0.21, 0.13, 0.08)
    """Relative frequency of aiming at 1, 2, ... variables; a formula may end up reading fewer."""


T = TypeVar("T")


class _Dice:
    """Cheap scalar draws from one generator, taken in blocks."""

    def __init__(self, rng: np.random.Generator):
        self._rng = rng
        self._uniform: list[float] = []
        self._normal: list[float] = []

    def uniform(self) -> float:
        if not self._uniform:
            self._uniform = self._rng.random(4096).tolist()
        return self._uniform.pop()

    def normal(self) -> float:
        if not self._normal:
            self._normal = self._rng.standard_normal(4096).tolist()
        return self._normal.pop()

    def chance(self, probability: float) -> bool:
        return self.uniform() < probability

    def below(self, n: int) -> int:
        return int(self.uniform() * n)


class _Table(Generic[T]):
    """Values with relative frequencies."""

    def __init__(self, entries: Mapping[T, float | int]):
        total = sum(entries.values())
        self._values = list(entries)
        self._bounds = [float(b) for b in np.cumsum([w / total for w in entries.values()])]

    def draw(self, dice: _Dice) -> T:
        u = dice.uniform()
        for value, bound in zip(self._values, self._bounds, strict=True):
            if u < bound:
                return value
        return self._values[-1]


_NICE = _Table({1.0: 4, 2.0: 6, 3.0: 3, 4.0: 2, 5.0: 1.5, 6.0: 1, 8.0: 0.7, 10.0: 1.2, 100.0: 0.4, 0.5: 5, 0.25: 1,
                0.1: 1, 0.2: 0.5, 1.5: 1.5, 2.5: 0.7, 1 / 3: 0.7, math.pi: 1.5, 2 * math.pi: 1})  # fmt: skip
# nan stands for any real exponent
_POWERS = _Table({1.0: 42, 2.0: 20, 3.0: 5, 4.0: 1.5, -1.0: 11, -2.0: 6, -3.0: 1, 0.5: 6, -0.5: 2, 1.5: 2, -1.5: 1,
                  2.5: 0.5, 1 / 3: 0.7, 2 / 3: 0.7, math.nan: 6})  # fmt: skip
_SUM_POWERS = _Table({-1.0: 40, -2.0: 10, 0.5: 20, -0.5: 10, 2.0: 12, 1.5: 3, 3.0: 2, -1.5: 2, math.nan: 4})
_N_TERMS = _Table({1: 60, 2: 28, 3: 10, 4: 2})
_N_FACTORS = _Table({1: 58, 2: 29, 3: 10, 4: 3})


class _Formula:
    """One random formula: a builder, the variables drawn so far, and a budget of nesting."""

    def __init__(self, dice: _Dice, n_variables: int):
        self.dice = dice
        self.builder = Builder(n_variables, positive=range(1, n_variables + 1))
        self.n_variables = n_variables
        self.n_used = 0

    # ---- leaves

    def variable(self) -> Slot:
        """A variable, rather a new one; numbers are given out in the order of first use, so that x1..xk are in use."""
        if self.n_used == 0 or (self.n_used < self.n_variables and self.dice.chance(0.8)):
            self.n_used += 1
            return self.builder.variable(self.n_used)
        return self.builder.variable(self.dice.below(self.n_used) + 1)

    def magnitude(self, decades: float = 0.8) -> float:
        """A positive constant: nice, or log-normal with this spread."""
        if self.dice.chance(0.45):
            return _NICE.draw(self.dice)
        return float(10 ** (decades * self.dice.normal()))

    def constant(self, decades: float = 0.8, negative: float = 0.3) -> float:
        value = self.magnitude(decades)
        return -value if self.dice.chance(negative) else value

    def exponent(self, table: _Table[float]) -> float:
        value = table.draw(self.dice)
        return value if not math.isnan(value) else round(3 * self.dice.normal(), 2 - self.dice.below(2)) / 2 or 1.0

    # ---- sums of products

    def sum(self, nesting: int) -> Slot:
        """A sum of terms, with a constant more often than not where it would otherwise be a single factor."""
        n_terms = _N_TERMS.draw(self.dice)
        parts = [self.term(nesting) for _ in range(n_terms)]
        if self.dice.chance(0.35):
            parts.append(self.builder.constant(self.constant()))
        return self.builder.add(*parts)

    def short_sum(self, nesting: int) -> Slot:
        """What stands in brackets: one or two terms and mostly a constant."""
        parts = [self.term(nesting, short=True)]
        if self.dice.chance(0.35):
            parts.append(self.term(nesting, short=True))
        if len(parts) == 1 or self.dice.chance(0.3):
            one = self.dice.chance(0.45)
            parts.append(self.builder.constant(1.0 if one else self.constant(0.5)))
        return self.builder.add(*parts)

    def term(self, nesting: int, short: bool = False) -> Slot:
        value = self.factor(nesting)
        n_more = 0 if short and self.dice.chance(0.6) else _N_FACTORS.draw(self.dice) - 1
        if self.n_used < self.n_variables and self.dice.chance(0.2 if short else 0.5):
            n_more += 1
        for _ in range(n_more):
            value = self.builder.mul(value, self.factor(nesting))
        if self.dice.chance(0.55 if short else 0.75):
            value = self.builder.scale(value, self.constant())
        return value

    def factor(self, nesting: int) -> Slot:
        if nesting == 0 or self.dice.chance(0.55):
            return self.builder.power(self.variable(), self.exponent(_POWERS))
        return _FACTORS.draw(self.dice)(self, nesting - 1)

    # ---- arguments of functions

    def linear(self, decades: float = 0.5, offset: float = 0.2, negative: float = 0.3) -> Slot:
        """Rate times variable, sometimes with an offset or a second variable."""
        value = self.builder.scale(self.variable(), self.constant(decades, negative))
        if self.dice.chance(0.12):
            other = self.builder.scale(self.variable(), self.constant(decades, negative))
            total = self.builder.add(value, other)
            value = value if total.is_constant else total
        if self.dice.chance(offset):
            value = self.builder.add(value, self.builder.constant(self.constant(0.4)))
        return value

    def argument(self, nesting: int, negative: float = 0.3) -> Slot:
        """What a function is applied to: a rate times a variable, a monomial, or a short sum."""
        u = self.dice.uniform()
        if u < 0.62 or nesting == 0:
            return self.linear(negative=negative)
        if u < 0.87:
            product = self.builder.mul(
                self.builder.power(self.variable(), self.exponent(_POWERS)),
                self.builder.power(self.variable(), self.exponent(_POWERS)),
            )
            return self.builder.scale(product, self.constant(0.5, negative))
        return self.builder.scale(self.short_sum(nesting - 1), self.constant(0.3, negative))

    # ---- factors other than powers of a variable

    def exponential(self, nesting: int) -> Slot:
        return self.builder.exp(self.argument(nesting, negative=0.75))

    def bell(self, nesting: int) -> Slot:
        """exp(-(x - a)**2 / b)."""
        centred = self.variable()
        if self.dice.chance(0.6):
            centred = self.builder.add(centred, self.builder.constant(self.constant(0.4, 0.7)))
        return self.builder.exp(self.builder.scale(self.builder.power(centred, 2.0), -self.magnitude(0.5)))

    def oscillation(self, nesting: int) -> Slot:
        angle = self.argument(nesting, negative=0.1)
        return self.builder.sin(angle) if self.dice.chance(0.55) else self.builder.cos(angle)

    def damped(self, nesting: int) -> Slot:
        """Exponential times oscillation of the same variable."""
        variable = self.variable()
        angle = self.builder.scale(variable, self.magnitude(0.5))
        if self.dice.chance(0.5):
            angle = self.builder.add(angle, self.builder.constant(self.constant(0.3)))
        decay = self.builder.exp(self.builder.scale(variable, -self.magnitude(0.6)))
        return self.builder.mul(decay, self.builder.sin(angle) if self.dice.chance(0.5) else self.builder.cos(angle))

    def power_of_sum(self, nesting: int) -> Slot:
        return self.builder.power(self.short_sum(nesting), self.exponent(_SUM_POWERS))

    def root_of_squares(self, nesting: int) -> Slot:
        """sqrt or reciprocal of a sum of two squares, or of a square and a constant."""
        first = self.builder.scale(self.builder.power(self.variable(), 2.0), self.magnitude(0.4))
        second = self.builder.power(self.variable(), 2.0)
        if self.dice.chance(0.5):
            second = self.builder.constant(self.constant(0.5, 0.2))
        power = (0.5, -0.5, -1.0, -1.5)[self.dice.below(4)]
        return self.builder.power(self.builder.add(first, second), power)

    def logarithm(self, nesting: int) -> Slot:
        if self.dice.chance(0.5):
            return self.builder.ln(self.short_sum(nesting))
        return self.builder.ln(self.argument(nesting, negative=0.0))

    def saturation(self, nesting: int) -> Slot:
        """Logistic, Michaelis-Menten or Hill, 1 - exp."""
        builder, u = self.builder, self.dice.uniform()
        if u < 0.4:
            rate = builder.exp(self.linear(negative=0.8))
            return builder.reciprocal(builder.add(builder.scale(rate, self.magnitude(0.5)), builder.constant(1.0)))
        if u < 0.75:
            power = 1.0 if self.dice.chance(0.6) else self.exponent(_POWERS)
            variable = self.variable()
            below = builder.add(builder.power(variable, power), builder.constant(self.magnitude(0.6)))
            return builder.divide(builder.power(variable, power), below)
        decay = builder.exp(builder.scale(self.variable(), -self.magnitude(0.5)))
        return builder.add(builder.constant(1.0), builder.negative(decay))

    def special(self, nesting: int) -> Slot:
        functions = (self.builder.tanh, self.builder.atan, self.builder.tan, self.builder.sinh, self.builder.cosh)
        function = (*functions, self.builder.tanh, self.builder.asin)[self.dice.below(7)]
        return function(self.linear(0.4))

    def variable_exponent(self, nesting: int) -> Slot:
        """Constant or variable to the power of a rate times a variable."""
        base = self.builder.constant(self.magnitude(0.3)) if self.dice.chance(0.4) else self.variable()
        if base.is_one:
            base = self.builder.constant(2.0)
        return self.builder.general_power(base, self.linear(0.2, offset=0.3))

    # ---- random operator trees

    def tree(self, n_operators: int) -> Slot:
        """A random tree of unary and binary operators; a leaf is a variable or a constant."""
        builder, dice = self.builder, self.dice
        if n_operators == 0:
            if dice.chance(0.25):
                return builder.constant(self.constant())
            return self.variable()
        if dice.chance(0.35):
            inner = self.tree(n_operators - 1)
            return _UNARY.draw(dice)(builder, inner)
        n_left = dice.below(n_operators)
        left, right = self.tree(n_left), self.tree(n_operators - 1 - n_left)
        return _BINARY.draw(dice)(builder, left, right)


_FACTORS: _Table[Callable[[_Formula, int], Slot]] = _Table({
    _Formula.exponential: 22, _Formula.bell: 6, _Formula.oscillation: 20, _Formula.damped: 6,
    _Formula.power_of_sum: 20, _Formula.root_of_squares: 6, _Formula.logarithm: 10, _Formula.saturation: 10,
    _Formula.special: 4, _Formula.variable_exponent: 2,
})  # fmt: skip

_UNARY: _Table[Callable[[Builder, Slot], Slot]] = _Table({
    Builder.exp: 4, Builder.ln: 3, Builder.sqrt: 4, Builder.sin: 4, Builder.cos: 4, Builder.reciprocal: 3,
    Builder.negative: 3, Builder.tanh: 1, Builder.atan: 0.7, lambda b, u: b.power(u, 2.0): 4,
})  # fmt: skip

_BINARY: _Table[Callable[[Builder, Slot, Slot], Slot]] = _Table({
    Builder.add: 4, lambda b, u, v: b.add(u, b.negative(v)): 3, Builder.mul: 5, Builder.divide: 3,
    Builder.general_power: 0.4,
})  # fmt: skip


def _draw(dice: _Dice, aims: _Table[int], config: FormulaConfig) -> tuple[tuple[int, ...], tuple[float, ...]] | None:
    """One formula, or None where it is constant, too large or out of range."""
    formula = _Formula(dice, aims.draw(dice))
    try:
        if dice.chance(config.operator_tree_share):
            value = formula.tree(1 + dice.below(6))
            if dice.chance(0.4):
                value = formula.builder.scale(value, formula.constant())
            if dice.chance(0.3):
                value = formula.builder.add(value, formula.builder.constant(formula.constant()))
        else:
            value = formula.sum(nesting=1 + dice.below(2))
        slot = formula.builder.readout(value)
    except ArithmeticError:
        return None
    tokens, constants = slot.spelling()
    if slot.is_constant or len(tokens) > config.max_tokens or slot.size() > config.max_nodes:
        return None
    if slot.size() == 0 and not dice.chance(config.linear_share):
        return None
    used = {kind for kind in tokens if kind >= X1}
    if max(used) >= X1 + len(used):  # one cancelled, and those in use are no longer the first
        return None
    largest, smallest = config.largest_constant, 1 / config.largest_constant
    if any(value != 0 and not smallest <= abs(value) <= largest for value in constants):
        return None
    return tokens, constants


def sample_formula_programs(
    n: int, rng: np.random.Generator, config: FormulaConfig | None = None
) -> tuple[Int64[np.ndarray, "n l"], Float64[np.ndarray, "n l"]]:
    """Draw `n` random formulas as weighted token sequences in slot normal form.

    The variables of a formula that reads k of them are x1..xk. Same generator state, same formulas.

    Args:
        n: number of formulas.
        rng: source of randomness.
        config: what the formulas look like.

    Returns:
        `tokens` int64 (n, l) and `constants` float64 (n, l), padded with `PAD` and 0 to the longest of the batch,
        `l <= config.max_tokens`.
    """
    config = config or FormulaConfig()
    dice = _Dice(rng)
    weights = config.variable_weights[: config.max_variables]
    aims = _Table({count + 1: weight for count, weight in enumerate(weights)})
    drawn: list[tuple[tuple[int, ...], tuple[float, ...]]] = []
    while len(drawn) < n:
        formula = _draw(dice, aims, config)
        if formula is not None:
            drawn.append(formula)
    length = max((len(tokens) for tokens, _ in drawn), default=1)
    all_tokens = np.full((n, length), PAD, dtype=np.int64)
    all_constants = np.zeros((n, length))
    for row, (tokens, constants) in enumerate(drawn):
        all_tokens[row, : len(tokens)] = tokens
        all_constants[row, : len(tokens)] = constants
    return all_tokens, all_constants
