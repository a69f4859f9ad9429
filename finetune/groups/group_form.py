"""A form whose constants may differ from row to row: its values, and its derivatives by them.

Legend: p point, v input variable, k constant.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import sympy

from emlinit.finetune.groups.evaluation import JointEvaluation
from emlinit.finetune.law.form import Form
from emlinit.finetune.law.shape import told_nodes
from emlinit.generator.formulas.known_forms import replaced
from emlinit.generator.formulas.printing import formula_text

_STEP = 6e-6  # cube root of the rounding error: best for a central difference


@dataclass(frozen=True, eq=False)
class GroupForm:
    """A formula with symbols in place of the constants that are fitted."""

    expression: sympy.Expr
    """The formula; its free symbols are among the two below."""
    variables: tuple[sympy.Symbol, ...]
    """One a column of x, real."""
    constants: tuple[sympy.Symbol, ...]
    """What is fitted, real."""
    start: np.ndarray
    """The numbers that it was found with, float64 of shape (k,)."""

    @cached_property
    def linear(self) -> np.ndarray:
        """Whether the form is linear in a constant and in those marked before it together, of shape (k,)."""
        return Form(self.expression, self.variables, self.constants).linear

    @cached_property
    def nodes(self) -> int:
        """Nodes that it takes to say the form (see `law.shape.told_nodes`)."""
        return told_nodes(self.with_numbers(self.generic))

    @property
    def generic(self) -> np.ndarray:
        """Numbers of no special kind near the start: a factor of 1 would vanish from the formula, 2 is a whole exponent."""
        return np.where(self.start == np.round(self.start), self.start * 1.0625 + 0.03125, self.start)

    @cached_property
    def said(self) -> str:
        """The formula as text, its constants numbered as they appear, without their signs: the same for forms that are."""
        found = [node for node in sympy.preorder_traversal(self.expression) if node in self.constants]
        there = {constant: sympy.Symbol(f"_{place}") for place, constant in enumerate(dict.fromkeys(found))}
        return re.sub(r"[+-] ?(?=_\d)", "", formula_text(replaced(self.expression, there)))

    def with_numbers(self, values: np.ndarray) -> sympy.Expr:
        """The formula with numbers, of shape (k,), for its constants; NaN leaves the symbol."""
        there = {
            constant: sympy.Float(value)
            for constant, value in zip(self.constants, values.tolist(), strict=True)
            if np.isfinite(value)
        }
        return put_numbers(self.expression, there)

    def values(self, constants: np.ndarray, x: np.ndarray) -> np.ndarray:
        """The form at points x of shape (p, v) with the constants of each, of shape (p, k).

        Returns:
            float64 of shape (p,), NaN where it is not real.
        """
        found: np.ndarray = self._value(np.concatenate([x, constants], axis=1))[:, 0]
        return found

    def derivatives(self, constants: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Derivatives by the constants, of shape (p, k); where the symbolic one is undefined, a central difference."""
        result = self._slopes(np.concatenate([x, constants], axis=1))
        for k in np.flatnonzero(~np.isfinite(result).all(0)):
            undefined = ~np.isfinite(result[:, k])
            there, at = x[undefined], constants[undefined]
            step = np.zeros_like(at)
            step[:, k] = _STEP * np.maximum(np.abs(at[:, k]), _STEP)
            moved = self.values(at + step, there) - self.values(at - step, there)
            result[undefined, k] = moved / (2 * step[:, k])
        return result

    @property
    def can_be_computed(self) -> bool:
        """Whether NumPy has what the form needs."""
        return self._value.is_complete

    @cached_property
    def _value(self) -> JointEvaluation:
        return JointEvaluation([self.expression], (*self.variables, *self.constants))

    @cached_property
    def _slopes(self) -> JointEvaluation:
        slopes = [self.expression.diff(constant) for constant in self.constants]
        return JointEvaluation(slopes, (*self.variables, *self.constants))


def renamed(expression: sympy.Expr, symbols: Mapping[sympy.Symbol, sympy.Expr]) -> sympy.Expr:
    """The formula with other symbols, or signs before them; what is not evaluated in it stays so."""
    return replaced(expression, dict(symbols))


def put_numbers(expression: sympy.Expr, there: dict[sympy.Symbol, sympy.Expr]) -> sympy.Expr:
    """The formula with numbers; one before a bracket is not multiplied into it, as sympy would."""
    if expression in there:
        return there[expression]
    if not expression.free_symbols & there.keys():
        return expression
    args = [put_numbers(arg, there) for arg in expression.args]
    if expression.is_Mul:
        number = sympy.Mul(*(arg for arg in args if arg.is_Number))
        rest = [arg for arg in args if not arg.is_Number]
        if len(rest) == 1 and rest[0].is_Add and number != 1:
            return sympy.Mul(number, rest[0], evaluate=False)
    return replaced(expression, dict(zip(expression.args, args, strict=True)))
