"""Standard errors of the constants of a printed formula, as nonlinear regression defines them.

    covariance = s² (Jᵀ J)⁻¹,     s² = Σ r² / (points - constants),     J = ∂ formula / ∂ constants

Every decimal number of the formula is one constant; numbers that are equal but for their sign are the same one, such as in
238.9 - 238.9·exp(-0.00055·x), which is 238.9·(1 - exp(-0.00055·x)). Integers, fractions and π were chosen for
being simple, not fitted: they have no error, and the errors of the others hold given them, given the form of the law, and
given residuals that are independent and of one size (Bates and Watts, Nonlinear Regression Analysis, 1988, section 2).

Legend: p point, v input variable, k constant.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal

import numpy as np
import sympy

from emlinit.finetune.law import lowering
from emlinit.finetune.law.finding import EXACT_ERROR, errors_of, residuals
from emlinit.finetune.law.law import Law
from emlinit.generator.formulas.known_forms import replaced
from emlinit.generator.formulas.printing import float_text

_DEPENDENT = 1e-10  # singular values below this share of the largest (of unit columns) say that constants trade off
_TOUCHED = 1e-6  # share of a constant in such a direction from which it counts as undetermined
_CHUNK_NUMBERS = 2**20  # derivatives held at once
_STEP = 6e-6  # cube root of the rounding error: best for a central difference
_PRINTED_FLOAT = re.compile(r"(-?)\s?(?<![\w.])(\d+\.\d+(?:e[+-]?\d+)?|\d+e[+-]?\d+)")
_PLAIN_EXPONENTS = range(-4, 7)  # of the larger of value and error, where they are written without a power of ten


@dataclass(frozen=True)
class LawConstant:
    """A fitted number of a formula."""

    value: float
    """The number as the formula shows it, with the sign before it."""
    standard_error: float | None
    """Its standard error; None where the data do not determine it, or fit the law to machine precision."""

    def __str__(self) -> str:
        """Such as `365.188 ± 0.023`: the error to two digits, the value to the last of them."""
        if self.standard_error is None:
            return f"{self.value:.6g} (not determined by the data)"
        value, error = Decimal(self.value), Decimal(self.standard_error)
        if not error:
            return float_text(self.value)
        last = Decimal(f"{error:.1e}").adjusted() - 1  # place of the error's second digit, after rounding
        top = max(value.adjusted() if value else last, last + 1)
        power = 0 if top in _PLAIN_EXPONENTS else top
        texts = [_rounded(number.scaleb(-power), last - power) for number in (value, error)]
        return f"({texts[0]} ± {texts[1]})e{power}" if power else f"{texts[0]} ± {texts[1]}"


def law_constants(law: Law, x: np.ndarray, y: np.ndarray) -> tuple[LawConstant, ...]:
    """The fitted constants of a law in the order in which its formula shows them, with their standard errors.

    Args:
        law: a law whose constants are least-squares estimates on the points.
        x: points of shape (p, v), the columns of the law; those at which the law is undefined are left out.
        y: targets of shape (p,).
    """
    shown = _as_printed(law)
    errors: np.ndarray | None = None
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if shown and errors_of(residuals(law, x, y), y).relative > EXACT_ERROR:
        errors = _standard_errors(law, [abs(value) for value in shown], x, y)
    return tuple(
        LawConstant(value, None if errors is None or not np.isfinite(errors[i]) else float(errors[i]))
        for i, value in enumerate(shown)
    )


def constants_line(constants: Iterable[LawConstant]) -> str:
    """The constants and their errors on one line; empty if none has an error."""
    constants = tuple(constants)
    known = any(constant.standard_error is not None for constant in constants)
    return "constants: " + ", ".join(map(str, constants)) if known else ""


def _rounded(number: Decimal, place: int) -> str:
    return f"{number.quantize(Decimal((0, (1,), place)), ROUND_HALF_EVEN):f}"


def _as_printed(law: Law) -> list[float]:
    """The fitted constants as the formula shows them, in its order, with the sign before them.

    That need not be the sign in the expression: x to the power of -0.7 is shown as a division by x^0.7.
    """
    left = {abs(float(atom)) for atom in law.expression.atoms(sympy.Float)}
    shown = []
    for match in _PRINTED_FLOAT.finditer(law.formula):
        size = float(match[2])
        if size in left:
            left.remove(size)
            shown.append(-size if match[1] else size)
    return shown + sorted(left)


def _standard_errors(law: Law, sizes: list[float], x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Standard errors of shape (k,), infinite where the data do not determine a constant."""
    undetermined = np.full(len(sizes), np.inf)
    factor, n_points = np.zeros((0, len(sizes) + 1)), 0
    for block in _blocks(law, sizes, x, y):
        if not np.isfinite(block).all():
            return undetermined
        factor = np.asarray(np.linalg.qr(np.concatenate([factor, block]), mode="r"))
        n_points += len(block)
    freedom = n_points - len(sizes)
    if freedom <= 0:
        return undetermined
    # Householder reflections keep the columns' norms, so that everything about J and r can be read off R.
    columns, residual = factor[:, :-1], factor[:, -1]
    largest = np.abs(columns).max(0)
    scaled = columns / np.where(largest > 0, largest, 1.0)
    norms = np.linalg.norm(scaled, axis=0)
    _, values, vectors = np.linalg.svd(scaled / np.where(norms > 0, norms, 1.0), full_matrices=False)
    weak = values <= _DEPENDENT * values.max()
    touched = (np.abs(vectors[weak]) > _TOUCHED).any(0) | (norms == 0)
    spread = np.sqrt(np.square(vectors[~weak] / values[~weak, None]).sum(0))
    size = np.abs(residual).max()
    s = size * np.linalg.norm(residual / (size if size > 0 else 1.0)) / np.sqrt(freedom)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        return np.where(touched, np.inf, spread * (s / largest) / norms)


def _blocks(law: Law, sizes: list[float], x: np.ndarray, y: np.ndarray) -> Iterator[np.ndarray]:
    """[∂ formula / ∂ constants, residual] on the points at which the law is defined, some rows at a time."""
    derivatives = [_Derivative(law, size) for size in sizes]
    step = max(1, _CHUNK_NUMBERS // (len(sizes) + 1))
    for start in range(0, len(y), step):
        points = x[start : start + step]
        residual = y[start : start + step] - law.predict(points)
        defined = np.isfinite(residual)
        yield np.column_stack([*(derivative(points[defined]) for derivative in derivatives), residual[defined]])


class _Derivative:
    """The derivative of a formula by one of its constants.

    Where the symbolic one is undefined, such as that of x^p at x = 0, it is a central difference.
    """

    def __init__(self, law: Law, size: float) -> None:
        atom, parameter = sympy.Float(size), sympy.Dummy("c", real=True)

        def with_constant(number: sympy.Expr) -> sympy.Expr:
            return replaced(law.expression, {atom: number, -atom: -number})

        derivative = with_constant(parameter).diff(parameter).xreplace({parameter: atom})
        try:
            self.operations: lowering.Node | None = lowering.lower(derivative, law.symbols)
        except (ValueError, OverflowError):  # such as the derivative of sign(x), or a number that overflows
            self.operations = None
        self.step = _STEP * size
        moved = [with_constant(sympy.Float(size + h)) for h in (self.step, -self.step)]
        self.moved = [lowering.lower(expression, law.symbols) for expression in moved]

    def __call__(self, x: np.ndarray) -> np.ndarray:
        result = np.full(len(x), np.nan) if self.operations is None else lowering.evaluate_real(self.operations, x)
        undefined = ~np.isfinite(result)
        if undefined.any():
            above, below = (lowering.evaluate_real(operations, x[undefined]) for operations in self.moved)
            result[undefined] = (above - below) / (2 * self.step)
        return result
