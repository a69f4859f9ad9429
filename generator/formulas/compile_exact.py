"""From a formula without free constants to a tree of `eml` and 1 alone.

Each operation is an instance of an identity of `exact_identities`; where an instance brings exp and ln together,
`exp(ln u)` and `ln(exp u)` are replaced by `u`. The second is right only while |Im u| < pi, so the tree is compared
with the formula at points, and built again without the replacement if they differ.
"""

import functools
import operator
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import sympy
import torch

from emlinit.generator.errors import UserError
from emlinit.generator.evaluate import evaluate
from emlinit.generator.formulas.exact_identities import EXACT_IDENTITIES
from emlinit.generator.formulas.expression import evaluate_expression
from emlinit.generator.formulas.printing import shortened
from emlinit.generator.grammar import from_text
from emlinit.generator.program import Programs, programs_from_tokens

_LARGEST_INTEGER = 100
_MAX_SIZE = 2000  # nodes; a formula that needs more has no use as a tree
_SIZE = operator.attrgetter("size")
_AGREEMENT = 1e-8  # of |y|, at the points where the tree can be evaluated
_N_POINTS = 64


@dataclass(frozen=True)
class Tree:
    """A leaf, `1` or a variable, or a node `eml`."""

    word: str
    left: "Tree | None" = None
    right: "Tree | None" = None
    size: int = 0
    """Number of eml nodes."""

    def __str__(self) -> str:
        return self.word if self.left is None else f"{self.word} {self.left} {self.right}"

    @property
    def log_argument(self) -> "Tree | None":
        """The u of a tree that is ln u = eml(1, eml(eml(1, u), 1))."""
        outer = self.right.exponent if self.right is not None and self.left == _ONE else None
        return outer.right if outer is not None and outer.left == _ONE else None

    @property
    def exponent(self) -> "Tree | None":
        """The u of a tree that is exp u = eml(u, 1)."""
        return self.left if self.right == _ONE else None


_ONE = Tree("1")


def compile_exact(expr: sympy.Expr, variables: Sequence[sympy.Symbol]) -> Programs:
    """Write a formula as a tree of the exact grammar.

    Args:
        expr: a formula in + - * / powers, exp, log and sqrt of variables, whole numbers up to 100, their ratios, e.
        variables: the symbols, in the order of the columns of x.

    Returns:
        A batch of one exact program over `len(variables)` variables.

    Raises:
        UserError: the formula holds something else, or the tree does not reproduce it.
    """
    unknown = sorted(str(symbol) for symbol in expr.free_symbols - set(variables))
    if unknown:
        raise UserError(f"unknown symbol '{unknown[0]}': expected {', '.join(map(str, variables))}")
    leaves: dict[sympy.Expr, Tree] = {symbol: Tree(f"x{number}") for number, symbol in enumerate(variables, 1)}
    for fold in (True, False):
        tree = _Compiler(dict(leaves), fold).compile(expr)
        tokens, constants = from_text(str(tree), len(variables))
        programs = programs_from_tokens(tokens[None], constants[None], len(variables))
        if _reproduces(programs, expr, variables):
            return programs
    raise UserError(f"no exact tree for '{shortened(expr)}' that holds on both signs: use the weighted grammar")


@dataclass(frozen=True)
class _Compiler:
    """Compiles one formula; `done` remembers what has been compiled, and begins with the variables."""

    done: dict[sympy.Expr, Tree]
    fold: bool

    def compile(self, expr: sympy.Expr) -> Tree:
        if expr not in self.done:
            self.done[expr] = self._new(expr)
        return self.done[expr]

    def _new(self, expr: sympy.Expr) -> Tree:
        if expr.is_Integer:
            return self._integer(int(expr))
        if expr.is_Rational:
            return self._quotient(sympy.Integer(expr.p), sympy.Integer(expr.q))
        if expr == sympy.E:
            return self.use("e")
        if expr.is_Add:
            return self._sum(expr)
        if expr.is_Mul:
            return self._quotient(*expr.as_numer_denom()) if expr.as_numer_denom()[1] != 1 else self._product(expr)
        if isinstance(expr, sympy.exp):
            return self.use("exp(x1)", self.compile(expr.args[0]))
        if isinstance(expr, sympy.log):
            return self.use("log(x1)", self.compile(expr.args[0]))
        if expr.is_Pow:
            return self._power(expr.base, expr.exp)
        raise UserError(
            f"'{shortened(expr)}' has no exact tree: use + - * / ** exp log sqrt, the variables, whole numbers and e"
        )

    # ---- instances of identities

    def use(self, name: str, *arguments: Tree) -> Tree:
        """The tree of an identity with trees in the places of x1 and x2."""

        def build(pattern: Tree) -> Tree:
            if pattern.left is not None and pattern.right is not None:
                return self.node(build(pattern.left), build(pattern.right))
            return pattern if pattern == _ONE else arguments[int(pattern.word[1:]) - 1]

        return build(_pattern(name))

    def node(self, left: Tree, right: Tree) -> Tree:
        tree = Tree("eml", left, right, 1 + left.size + right.size)
        if tree.size > _MAX_SIZE:
            raise UserError(f"the formula needs more than {_MAX_SIZE} eml nodes: use the weighted grammar")
        if self.fold:
            argument, exponent = tree.log_argument, tree.exponent
            if argument is not None and argument.exponent is not None:  # ln(exp u)
                return argument.exponent
            if exponent is not None and exponent.log_argument is not None:  # exp(ln u)
                return exponent.log_argument
        return tree

    # ---- operations

    def _integer(self, value: int) -> Tree:
        if value == 1:
            return _ONE
        if value == 0:
            return self.use("0")
        if value < 0:
            return self.use("-x1", self.compile(sympy.Integer(-value)))
        if value > _LARGEST_INTEGER:
            raise UserError(f"{shortened(value)} is too large for the exact grammar (at most {_LARGEST_INTEGER})")
        ways = [self.use("x1 + 1", self.compile(sympy.Integer(value - 1)))]
        for factor in range(2, int(value**0.5) + 1):
            if value % factor == 0:
                a, b = self.compile(sympy.Integer(factor)), self.compile(sympy.Integer(value // factor))
                ways.append(self.use("x1**2", a) if a == b else self.use("x1*x2", a, b))
        if value % 2 == 0:
            ways.append(self.use("2*x1", self.compile(sympy.Integer(value // 2))))
        return min(ways, key=_SIZE)

    def _sum(self, expr: sympy.Expr) -> Tree:
        positive = [term for term in expr.args if not term.could_extract_minus_sign()]
        negative = [-term for term in expr.args if term.could_extract_minus_sign()]
        if not positive:
            return self.use("-x1", self._total([self.compile(term) for term in negative]))
        tree = self._total([self.compile(term) for term in positive])
        for term in sorted((self.compile(term) for term in negative), key=_SIZE):
            tree = self.use("x1 - x2", tree, term)
        return tree

    def _total(self, trees: list[Tree]) -> Tree:
        return functools.reduce(lambda a, b: self.use("x1 + x2", a, b), sorted(trees, key=_SIZE))

    def _product(self, expr: sympy.Expr) -> Tree:
        if expr.could_extract_minus_sign():
            return self.use("-x1", self.compile(-expr))
        factors = sorted((self.compile(factor) for factor in expr.args), key=_SIZE)
        ways = [functools.reduce(lambda a, b: self.use("x1*x2", a, b), factors)]
        if expr.args[0] == 2:
            ways.append(self.use("2*x1", self.compile(expr / 2)))
        return min(ways, key=_SIZE)

    def _quotient(self, above: sympy.Expr, below: sympy.Expr) -> Tree:
        if above.could_extract_minus_sign():
            return self.use("-x1", self._quotient(-above, below))
        over = self.compile(below)
        if above == 1:
            return self.use("1/x1", over)
        top = self.compile(above)
        once = self.use("exp(x1)", self.use("x1 - log(x2)", self.use("log(x1)", top), over))
        thrice = self.use("x1/x2", top, over)
        # Of equal ones the second: the first goes through ln(ln x1), which is undefined at x1 = 1.
        return min(thrice, once, key=_SIZE)

    def _power(self, base: sympy.Expr, exponent: sympy.Expr) -> Tree:
        if exponent.could_extract_minus_sign():
            return self.use("1/x1", self.compile(sympy.Pow(base, -exponent)))
        ways: list[Tree] = []
        if exponent.is_Integer and exponent <= _LARGEST_INTEGER:
            n = int(exponent)
            half = self.compile(sympy.Pow(base, n // 2))
            square = self.use("x1**2", half)
            ways.append(square if n % 2 == 0 else self.use("x1*x2", square, self.compile(base)))
        logarithm = self.use("log(x1)", self.compile(base))
        if exponent.is_Rational and not exponent.is_Integer:
            whole, below = self.compile(sympy.Integer(exponent.p)), self.compile(sympy.Integer(exponent.q))
            above = logarithm if exponent.p == 1 else self.use("x1*x2", whole, logarithm)
            ratio = self.use("exp(x1)", self.use("x1 - log(x2)", self.use("log(x1)", above), below))
            ways.append(self.use("exp(x1)", ratio))
        ways.append(self.use("exp(x1)", self.use("x1*x2", self.compile(exponent), logarithm)))
        return min(ways, key=_SIZE)


@functools.cache
def _pattern(name: str) -> Tree:
    words = iter(EXACT_IDENTITIES[name].split())

    def read() -> Tree:
        word = next(words)
        if word != "eml":
            return Tree(word)
        left, right = read(), read()
        return Tree(word, left, right, 1 + left.size + right.size)

    return read()


def _reproduces(programs: Programs, expr: sympy.Expr, variables: Sequence[sympy.Symbol]) -> bool:
    """Whether the tree equals the formula wherever the formula is real, at points of both signs."""
    roots = np.sqrt([sympy.prime(place + 1) for place in range(max(len(variables), 1))]).astype(float)
    points = 0.1 + 2.9 * np.modf(np.arange(1, _N_POINTS + 1)[:, None] * roots)[0]
    points[1::2] -= 3.0
    points = points[:, : len(variables)]
    wanted = evaluate_expression(expr, variables, points)
    result = evaluate(programs, torch.from_numpy(points), rtol=None)
    usable = np.isfinite(wanted) & (np.abs(wanted.imag) <= 1e-12 * np.abs(wanted)) & result.valid[0].numpy()
    error = np.abs(result.value[0].numpy() - wanted.real)[usable]
    return bool(usable.any() and (error <= _AGREEMENT * (1 + np.abs(wanted.real[usable]))).all())
