"""The law: one object that predicts, prints, exports and shows its EML form.

The sympy expression is primary: `predict` evaluates it, and the printed formula, the LaTeX and the Python source are
that same expression with every constant at full precision. It is read off the EML program, and a simplification is kept
only if it agrees with the program on the data to `AGREEMENT` of the scale of y; otherwise the plain transcription
stands. So all views agree to that tolerance wherever double precision can tell.

Legend: p point, v input variable.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import sympy
import torch

from emlinit.finetune.law import lowering
from emlinit.finetune.law.python_module import python_source
from emlinit.finetune.law.symbol_names import latex_columns, symbols_for
from emlinit.finetune.law.text import formula_latex, short_text
from emlinit.generator.errors import UserError
from emlinit.generator.evaluate import evaluate
from emlinit.generator.formulas.compile_weighted import compile_weighted
from emlinit.generator.formulas.decompile import NOT_OF_REALS, complexity, to_sympy
from emlinit.generator.formulas.expression import size_at_most
from emlinit.generator.formulas.known_forms import known_forms
from emlinit.generator.formulas.printing import formula_text
from emlinit.generator.grammar import to_text
from emlinit.generator.program import Programs, tokens_from_program

AGREEMENT = 1e-12
"""Largest difference between two views of a law, relative to the largest |y| on the data."""

_READING_POINTS, _MORE_POINTS = 200, 20_000
"""Points on which forms are compared while they are looked for; the one found is checked on all, and read once more on
more of them if it does not hold there."""

_LONGER, _MORE_NODES = 1.25, 5  # times the nodes of a formula, and so many: as long the form that people know may be


@dataclass(frozen=True, eq=False)
class Law:
    """A formula found in data, in the data's own units and column names."""

    program: Programs
    """The EML program, a batch of one; its variable i is column i of the data."""
    names: tuple[str, ...]
    """Column names, one a variable of the program."""
    expression: sympy.Expr
    """The formula; its free symbols are among `symbols`."""

    @classmethod
    def from_program(
        cls, program: Programs, names: Sequence[str], x: np.ndarray | None = None, *, simplify_seconds: float = 2.0
    ) -> "Law":
        """Read a program as a formula and keep the simplest form that says the same on the data.

        Args:
            program: a batch of one, in the data's own units.
            names: one column name a variable, all different.
            x: points of shape (p, v) on which the forms must agree; without them the simplified form is trusted.
            simplify_seconds: time limit, in all: after it no simplification is begun. 0 gives the plain transcription,
                which takes some 20 ms.

        Raises:
            ValueError: not exactly one program, or another number of names than variables.
        """
        if len(program) != 1 or len(names) != program.n_variables:
            raise ValueError(
                f"a law needs one program and a name for each of its variables, got {len(program)} programs, "
                f"{program.n_variables} variables and {len(names)} names"
            )
        program = program.to("cpu")
        names = tuple(names)
        plain: Law | None = None
        for seconds, most in ((simplify_seconds, _READING_POINTS), (0.0, _MORE_POINTS)):
            expression = _transcribe(program, names, x, seconds, most)
            if expression is None:
                continue
            law = cls(program, names, expression)
            if x is None or (law.is_real and law.disagreement(x) <= AGREEMENT):
                return law._as_people_write_it(x)
            plain = law if plain is None or law.is_real or not plain.is_real else plain
        if plain is None:
            raise ValueError("the program cannot be written in double precision: a constant overflows")
        return plain

    def _as_people_write_it(self, x: np.ndarray | None) -> "Law":
        """The law in a form that people know, if it has one that is about as short and says the same."""
        n_fitted, longest = len(self.expression.atoms(sympy.Float)), _LONGER * self.complexity + _MORE_NODES
        for form in known_forms(self.expression):
            is_long = complexity(form) > longest and size_at_most(form) > self.complexity
            if len(form.atoms(sympy.Float)) > n_fitted or is_long:
                continue
            law = Law(self.program, self.names, form)
            try:
                if x is None or law.disagreement(x) <= AGREEMENT:
                    return law
            except (ValueError, OverflowError):  # a number in it is beyond double precision
                continue
        return self

    def compiled(
        self, positive: Sequence[bool], x_units: Sequence[float] | None = None, y_unit: float = 1.0
    ) -> Programs | None:
        """The printed formula as a program, as `compile_weighted` writes it; None if it cannot be written.

        Args:
            positive: of each variable, whether it is positive wherever the law is used.
            x_units: what the program's variables are in, in units of the law's; those by default.
            y_unit: what its value is in.
        """
        variables = [
            sympy.Symbol(f"v{number}", positive=True) if above else sympy.Symbol(f"v{number}", real=True)
            for number, above in enumerate(positive)
        ]
        units = [1.0] * len(variables) if x_units is None else x_units
        scaled = [variable if unit == 1 else unit * variable for variable, unit in zip(variables, units, strict=True)]
        try:
            expression = self.expression.xreplace(dict(zip(self.symbols, scaled, strict=True)))
            return compile_weighted(expression if y_unit == 1 else expression / y_unit, variables)
        except (UserError, OverflowError):  # a function that has no program, or a number beyond double precision
            return None

    @cached_property
    def symbols(self) -> tuple[sympy.Symbol, ...]:
        """The symbol of each column, in order."""
        return symbols_for(self.names)

    @property
    def renamed(self) -> dict[str, str]:
        """Column name to symbol name, for the columns whose name cannot stand in a formula."""
        return {name: symbol.name for name, symbol in zip(self.names, self.symbols, strict=True) if name != symbol.name}

    @cached_property
    def _operations(self) -> lowering.Node:
        return lowering.lower(self.expression, self.symbols)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Value of the law, float64 of shape (p,), on points of shape (p, v); NaN or infinite where undefined."""
        x = np.asarray(x, dtype=np.float64)
        if x.ndim != 2 or x.shape[1] != len(self.names):
            raise ValueError(f"x must have shape (points, {len(self.names)}), got {x.shape}")
        return lowering.evaluate_real(self._operations, x)

    def disagreement(self, x: np.ndarray) -> float:
        """Largest difference between the formula and the program on points (p, v), relative to the largest |y|.

        Points at which the program is undefined do not count; infinite if only the formula is undefined.
        """
        result = evaluate(self.program, torch.from_numpy(np.ascontiguousarray(x, dtype=np.float64)), rtol=None)
        valid = result.valid[0].numpy()
        if not valid.any():
            return 0.0
        by_program, by_formula = result.value[0].numpy()[valid], self.predict(np.asarray(x))[valid]
        if not np.isfinite(by_formula).all():
            return float("inf")
        difference = np.abs(by_program - by_formula).max()
        return float(difference / max(np.abs(by_program).max(), np.finfo(np.float64).tiny))

    @cached_property
    def is_real(self) -> bool:
        """Whether the formula is one of real numbers: it needs no `I` and no `re` to say what it means."""
        return not self.expression.has(*NOT_OF_REALS)

    def sympy(self) -> sympy.Expr:
        """The formula as a sympy expression in `symbols`."""
        return self.expression

    @cached_property
    def formula(self) -> str:
        """The formula as text, constants at full precision."""
        return formula_text(self.expression)

    @property
    def short_formula(self) -> str:
        """The formula with constants cut to six digits, to look at."""
        return short_text(self.expression)

    def latex(self) -> str:
        """The formula in LaTeX (amsmath), constants at full precision, the columns by their own names."""
        return formula_latex(self.expression, latex_columns(self.symbols, self.names))

    def python_source(self, target: str = "y", remark: str = "") -> str:
        """A Python module with one NumPy function `law` of the columns, the same operations as `predict`.

        `remark` is one line for the comment below the formula.
        """
        return python_source(self._operations, self.symbols, self.names, target, self.formula, remark)

    @cached_property
    def eml(self) -> str:
        """The EML program as prefix text; `x1`, `x2`, ... are the columns in order."""
        return to_text(*tokens_from_program(self.program, 0))

    @cached_property
    def complexity(self) -> int:
        """Number of nodes of the formula's expression tree."""
        return int(complexity(self.expression))

    def __str__(self) -> str:
        return self.formula


def _transcribe(
    program: Programs, names: tuple[str, ...], x: np.ndarray | None, simplify_seconds: float, most_points: int
) -> sympy.Expr | None:
    """The program as an expression in the plain symbols of `symbols_for`; None if a number in it overflows."""
    symbols = symbols_for(names)
    real = [sympy.Symbol(symbol.name, real=True) for symbol in symbols]
    # At most so many points, spread over the rows.
    points = None if x is None else np.asarray(x, dtype=np.float64)[:: -(-len(x) // most_points)]
    try:
        expression = to_sympy(program, 0, real, points=points, simplify_seconds=simplify_seconds)
        is_real = x is None or _is_real(expression, real, x)
        doubles = {number: sympy.Float(float(number)) for number in expression.atoms(sympy.Float)}
        while isinstance(expression, sympy.re):  # of symbols that may be complex sympy would write re and im throughout
            expression, is_real = expression.args[0], False
        expression = expression.xreplace({**doubles, **dict(zip(real, symbols, strict=True))})
        if not is_real:
            expression = sympy.re(expression, evaluate=False)
        lowering.lower(expression, symbols)
    except (ValueError, OverflowError):
        return None
    return expression


def _is_real(expression: sympy.Expr, symbols: Sequence[sympy.Symbol], x: np.ndarray) -> bool:
    """Whether the formula is real on points (p, v), but for rounding; else it must say `re` to be the law."""
    try:
        value = lowering.evaluate_complex(lowering.lower(expression, symbols), np.asarray(x, dtype=np.float64))
    except (ValueError, OverflowError):
        return True
    value = value[np.isfinite(value)]
    return not len(value) or bool(np.abs(value.imag).max() <= AGREEMENT * np.abs(value).max())
