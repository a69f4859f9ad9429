"""A law of several groups: one formula, some of its constants each group's own.

Legend: p point, v input variable, g group, m own constant.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import sympy

from emlinit.finetune.groups.group_form import GroupForm, renamed
from emlinit.finetune.groups.labels import label_texts, quoted
from emlinit.finetune.law import lowering
from emlinit.finetune.law.python_module import grouped_python_source
from emlinit.finetune.law.standard_errors import LawConstant
from emlinit.finetune.law.symbol_names import latex_columns, latex_escape, latex_name, symbols_for
from emlinit.finetune.law.text import formula_latex, people_text, short_text
from emlinit.generator.errors import UserError
from emlinit.generator.formulas.expression import complexity
from emlinit.generator.formulas.printing import formula_text

_LETTERS = "abcdfghkmnpqrsuvw"  # what does not read as a number or as a constant of nature
_MOST_LISTED = 20  # groups in a message


@dataclass(frozen=True, eq=False)
class GroupedLaw:
    """A formula found in data of several groups, in the data's own units and column names."""

    expression: sympy.Expr
    """The formula; its free symbols are among `symbols` and `own_symbols`."""
    names: tuple[str, ...]
    """Names of the columns that it reads, at least one."""
    own: tuple[str, ...]
    """Names of the constants that each group has its own value of; none if one law holds for all groups."""
    groups: tuple[str, ...]
    """Labels of the groups, as text."""
    values: np.ndarray
    """The own constants of each group, float64 of shape (g, m)."""
    standard_errors: np.ndarray
    """Their standard errors, float64 of shape (g, m); NaN where the data do not determine one, or fit to rounding."""
    shared: tuple[LawConstant, ...]
    """The fitted numbers of the formula, which all groups share."""
    column: str = "group"
    """What the groups are called: the name of their column."""

    @cached_property
    def symbols(self) -> tuple[sympy.Symbol, ...]:
        """The symbol of each column, in order."""
        return symbols_for(self.names)

    @cached_property
    def own_symbols(self) -> tuple[sympy.Symbol, ...]:
        """The symbols of the own constants, in order."""
        return tuple(sympy.Symbol(name) for name in self.own)

    @property
    def renamed(self) -> dict[str, str]:
        """Column name to symbol name, for the columns whose name cannot stand in a formula."""
        return {name: symbol.name for name, symbol in zip(self.names, self.symbols, strict=True) if name != symbol.name}

    @cached_property
    def _operations(self) -> lowering.Node:
        return lowering.lower(self.expression, (*self.symbols, *self.own_symbols))

    def predict(self, x: np.ndarray, groups: Any = None) -> np.ndarray:
        """Value of the law, float64 of shape (p,); NaN or infinite where it is undefined.

        Args:
            x: points of shape (p, v), the columns `names`.
            groups: the label of each point's group; not needed if no constant is a group's own.

        Raises:
            UserError: no labels where they are needed, or a group that the law was not fitted to.
        """
        x = np.asarray(x, dtype=np.float64)
        if x.ndim != 2 or x.shape[1] != len(self.names):
            raise ValueError(f"x must have shape (points, {len(self.names)}), got {x.shape}")
        if not self.own:
            return lowering.evaluate_real(self._operations, x)
        return lowering.evaluate_real(self._operations, np.concatenate([x, self._own_of(groups, len(x))], axis=1))

    def _own_of(self, labels: Any, n_rows: int) -> np.ndarray:
        """The own constants of each row's group, of shape (p, m)."""
        if labels is None:
            raise UserError(
                f"the constants {', '.join(self.own)} are each group's own: give the groups of the rows ({self.column})"
            )
        texts = label_texts(labels)
        if len(texts) != n_rows:
            raise UserError(f"there are {len(texts)} group labels for {n_rows} rows: give one a row")
        places = {name: place for place, name in enumerate(self.groups)}
        unknown = next((text for text in texts if text not in places), None)
        if unknown is not None:
            listed = ", ".join(self.groups[:_MOST_LISTED]) + (", ..." if len(self.groups) > _MOST_LISTED else "")
            raise UserError(f"the law knows no group {quoted(unknown)}: it was fitted to {listed}")
        rows: np.ndarray = self.values[[places[text] for text in texts]]
        return rows

    @property
    def table(self) -> pd.DataFrame:
        """The own constants: a row a group, and two columns a constant, such as `a` and `a_error`."""
        columns = {}
        for place, name in enumerate(self.own):
            columns[name], columns[f"{name}_error"] = self.values[:, place], self.standard_errors[:, place]
        return pd.DataFrame(columns, index=pd.Index(self.groups, name=self.column))

    def sympy(self) -> sympy.Expr:
        """The formula as a sympy expression in `symbols` and `own_symbols`."""
        return self.expression

    @cached_property
    def formula(self) -> str:
        """The formula as text, shared constants at full precision."""
        return formula_text(self.expression)

    @property
    def short_formula(self) -> str:
        """The formula with shared constants cut to six digits, to look at."""
        return short_text(self.expression)

    @property
    def people_formula(self) -> str:
        """The formula with its shared constants to the digits that the data fix."""
        return people_text(self.expression, {abs(c.value): c.standard_error for c in self.shared})

    def latex(self) -> str:
        """The formula in LaTeX (amsmath); own constants have the groups' column as their index, as in a_{material}."""
        index = latex_escape(self.column).strip() or "group"
        own = {symbol: rf"{latex_name(symbol.name)}_{{\text{{{index}}}}}" for symbol in self.own_symbols}
        return formula_latex(self.expression, latex_columns(self.symbols, self.names) | own)

    def python_source(self, target: str = "y", remark: str = "") -> str:
        """A Python module with one NumPy function `law` of the columns and the group, the same operations as `predict`.

        `remark` is one line for the comment below the formula.
        """
        own = {
            group: dict(zip(self.own, values, strict=True))
            for group, values in zip(self.groups, self.values.tolist(), strict=True)
        }
        return grouped_python_source(
            self._operations, self.symbols, self.names, target, self.formula, self.own, own, remark
        )

    @cached_property
    def complexity(self) -> int:
        """Number of nodes of the formula's expression tree."""
        return int(complexity(self.expression))

    def __str__(self) -> str:
        return self.formula


def written_law(
    form: GroupForm,
    own: np.ndarray,
    constants: np.ndarray,
    names: Sequence[str],
    groups: Sequence[str],
    errors: tuple[np.ndarray, np.ndarray],
    column: str,
) -> GroupedLaw:
    """A fit as a law.

    Args:
        form: its form, whose variables are the columns.
        own: which constants are each group's own, bool of shape (k,).
        constants: float64 of shape (g, k).
        names: of all columns.
        groups: labels of the groups.
        errors: standard errors of the shared constants, (s,), and of the own ones, (g, m); not finite where there is none.
        column: what the groups are called.
    """
    used = [place for place, variable in enumerate(form.variables) if variable in form.expression.free_symbols] or [0]
    read = tuple(names[place] for place in used)
    symbols = symbols_for(read)
    numbers = np.where(own, np.nan, constants[0])
    expression = renamed(
        form.with_numbers(numbers), dict(zip([form.variables[place] for place in used], symbols, strict=True))
    )
    letters = _free_letters({symbol.name for symbol in symbols} | {*read}, int(own.sum()))
    places = np.flatnonzero(own)
    # Letters in the order in which the formula shows them.
    marked = [sympy.Symbol(f"own{chr(0xE000 + number)}") for number in range(len(places))]
    text = formula_text(renamed(expression, dict(zip([form.constants[k] for k in places], marked, strict=True))))
    order = sorted(range(len(places)), key=lambda number: text.find(marked[number].name))
    values = constants[:, places[order]] if len(places) else np.zeros((len(groups), 0))
    for place, (number, letter) in enumerate(zip(order, letters, strict=True)):
        constant, symbol = form.constants[places[number]], sympy.Symbol(letter)
        plain, turned = (renamed(expression, {constant: sign * symbol}) for sign in (1, -1))
        shorter = formula_text(turned).count("-") < formula_text(plain).count("-")
        if (values[:, place] < 0).all() or (shorter and (values[:, place] < 0).any()):  # -a + x, some a negative: a + x
            expression, values[:, place] = turned, -values[:, place]
        else:
            expression = plain
    shared_errors, own_errors = errors
    return GroupedLaw(
        expression=expression,
        names=read,
        own=tuple(letters),
        groups=tuple(groups),
        values=values,
        standard_errors=np.where(np.isfinite(own_errors), own_errors, np.nan)[:, order],
        shared=tuple(
            LawConstant(value, error if np.isfinite(error) else None)
            for value, error in zip(constants[0, ~own].tolist(), shared_errors.tolist(), strict=True)
        ),
        column=column,
    )


def _free_letters(taken: set[str], n: int) -> list[str]:
    folded = {name.casefold() for name in taken}
    letters = [letter for letter in _LETTERS if letter not in folded]
    numbered = [f"c{number}" for number in range(1, n + len(folded) + 1) if f"c{number}" not in folded]
    return (letters if len(letters) >= n else numbered)[:n]
