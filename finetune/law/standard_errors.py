"""Standard errors of the constants of a printed formula and of its values, as nonlinear regression defines them.

    covariance C = s² (Jᵀ W J)⁻¹,     s² = Σ w r² / (points - constants),     J = ∂ formula / ∂ constants
    C = (Jᵀ S⁻¹ J)⁻¹  where the standard deviations of y are known, S their squares
    of the formula's value at a point, with g = ∂ formula / ∂ constants there: sqrt(gᵀ C g);  of a measurement there:
    sqrt(gᵀ C g + s²)

Every decimal number of the formula is one constant; numbers that are equal but for their sign are the same one, such as in
238.9 - 238.9·exp(-0.00055·x), which is 238.9·(1 - exp(-0.00055·x)). Integers, fractions and π were chosen for
being simple, not fitted: they have no error, and the errors of the others hold given them, given the form of the law, and
given residuals that are independent and of one size, or of the size told (Bates and Watts, Nonlinear Regression Analysis,
1988, sections 1.3 and 2.3).

C is kept as a root H with C = HᵀH, so that gᵀ C g = |H g|²: constants that nearly trade off have large entries in C that
would cancel. A value may be determined where constants are not: only what g has in the directions that the data say
nothing of counts.

Legend: p point, v input variable, k constant.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Decimal

import numpy as np
import sympy

from emlinit.finetune.law import lowering
from emlinit.finetune.law.finding import EXACT_ERROR, errors_of, residuals
from emlinit.finetune.law.law import Law
from emlinit.finetune.law.python_module import errors_source
from emlinit.generator.errors import UserError
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


@dataclass(frozen=True, eq=False)
class LawErrors:
    """A law's constants, their covariance, and how well the law's values are known."""

    law: Law
    """The law."""
    constants: tuple[LawConstant, ...]
    """Its fitted constants in the order of its formula."""
    covariance: np.ndarray
    """Of the constants, float64 of shape (k, k): where the data do not determine a constant its variance is infinite and
    its other entries are NaN; all NaN for an exact law, whose errors are rounding."""
    deviation: float
    """Standard deviation of a measurement of mean weight about the law, in units of y: s, or `sigma` if it is one for all
    rows; NaN if it is not known, 0 for an exact law."""
    freedom: int
    """Points less constants."""
    is_exact: bool
    """Whether the law fits the data to machine precision: then its values have no error."""
    _root: np.ndarray | None = field(repr=False)
    """H of shape (rank, k), of the constants without their signs; None where nothing is known."""
    _unseen: np.ndarray = field(repr=False)
    """Directions of the constants that the data say nothing of, of shape (k - rank, k), in units of `_scale`."""
    _scale: np.ndarray = field(repr=False)
    """Norms of the columns of J, of shape (k,)."""
    _slopes: tuple["_Derivative", ...] = field(default=(), repr=False)
    """The derivatives by the constants without their signs; empty where nothing is known."""

    def of_value(self, x: np.ndarray) -> np.ndarray:
        """Standard error of the law's value, float64 of shape (p,), in units of y.

        Args:
            x: points of shape (p, v), the columns of the law.

        Returns:
            NaN where the data do not determine the value, or the law has no derivative; 0 for an exact law and for one
            without fitted constants.
        """
        return np.asarray(np.linalg.norm(self.moves(x), axis=1))

    def moves(self, x: np.ndarray) -> np.ndarray:
        """H g for each of the points x, of shape (p, rank): their products with one another are the covariances of the
        law's values there, in units of y squared; NaN and 0 as for `of_value`."""
        x = np.asarray(x, dtype=np.float64)
        if self.is_exact or not self.constants:
            return np.zeros((len(x), 1))
        if self._root is None:
            return np.full((len(x), 1), np.nan)
        result = np.empty((len(x), len(self._root)))
        step = max(1, _CHUNK_NUMBERS // len(self.constants))
        for start in range(0, len(x), step):
            with np.errstate(all="ignore"):
                slopes = np.column_stack([slope(x[start : start + step]) for slope in self._slopes])
                scaled = slopes / np.where(self._scale > 0, self._scale, 1.0)
                lost = np.abs(scaled @ self._unseen.T).max(1, initial=0.0) > _TOUCHED * np.linalg.norm(scaled, axis=1)
                result[start : start + step] = slopes @ self._root.T
                result[start : start + step][lost | ~np.isfinite(slopes).all(1)] = np.nan
        return result

    def of_measurement(self, x: np.ndarray) -> np.ndarray:
        """Standard deviation of a new measurement of mean weight about the law's value, of shape (p,), in units of y; NaN
        as above, and where `deviation` is."""
        return np.asarray(np.hypot(self.of_value(x), self.deviation))

    def python_source(self, target: str = "y", remark: str = "") -> str:
        """The Python module of the law, with its constants, their errors and covariance, and `standard_error` of its
        values where all constants are determined; parameters as those of `Law.python_source`."""
        source = self.law.python_source(target, remark)
        if self.is_exact or not self.constants:
            return source
        root = self._root if np.isfinite(self.covariance).all() else None
        slopes = [slope.operations for slope in self._slopes]
        return source + errors_source(
            [constant.value for constant in self.constants],
            [constant.standard_error for constant in self.constants],
            self.covariance,
            root,
            None if None in slopes else [slope for slope in slopes if slope is not None],
            self.law.symbols,
        )


def law_errors(
    law: Law,
    x: np.ndarray,
    y: np.ndarray,
    *,
    sigma: np.ndarray | None = None,
    weights: np.ndarray | None = None,
) -> LawErrors:
    """The fitted constants of a law with their covariance.

    Args:
        law: a law whose constants are (weighted) least-squares estimates on the points.
        x: points of shape (p, v), the columns of the law; those at which the law is undefined are left out.
        y: targets of shape (p,).
        sigma: standard deviations of the targets, positive, of shape (p,), in units of y: the covariance is that which
            they say, whatever the residuals are.
        weights: relative weights, not negative, of shape (p,), 1 for all by default: the variance of a target is s²/w.
            They are divided by their mean over the points that count; those of weight 0 do not. With `sigma`, too, the
            variance of a target is sigma²/w.

    Raises:
        UserError: sigma or weights of another shape or out of their range.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    shown, residual = _as_printed(law), residuals(law, x, y)
    used = np.isfinite(residual)
    counted = np.ones(len(y), dtype=bool)
    if weights is not None:
        weights = _checked(weights, y, "weights", least="not negative")
        counted = weights > 0
        if not counted.any():
            raise UserError("all weights are 0: give some rows a positive one")
        used &= counted
        weights = weights / weights[used if used.any() else counted].mean()
    precision = np.ones(len(y)) if weights is None else np.sqrt(weights)
    if sigma is not None:
        sigma = _checked(sigma, y, "sigma", least="positive")
        precision = precision / sigma
    freedom, n_constants = int(used.sum()) - len(shown), len(shown)
    exact = sigma is None and errors_of(residual[counted], y[counted]).relative <= EXACT_ERROR
    unknown = np.full((n_constants, n_constants), np.nan)
    np.fill_diagonal(unknown, np.inf)
    nothing = np.zeros((0, n_constants)), np.ones(n_constants)
    if exact:
        constants = tuple(LawConstant(value, None) for value in shown)
        return LawErrors(law, constants, np.full_like(unknown, np.nan), 0.0, freedom, True, None, *nothing)
    if sigma is not None:
        size, deviation = 1.0, float(sigma[0]) if np.ptp(sigma) == 0 else np.nan
    else:
        size = deviation = _deviation(residual[used], precision[used], freedom)
    slopes = tuple(_Derivative(law, abs(value)) for value in shown)
    found = _root_of(slopes, x[used], precision[used], size)
    if found is None or not len(found[0]):  # no constant moves the law
        constants = tuple(LawConstant(value, None) for value in shown)
        return LawErrors(law, constants, unknown, deviation, freedom, False, None, *nothing)
    root, unseen, scale = found
    touched = (np.abs(unseen) > _TOUCHED).any(0) | (scale == 0)
    signs = np.sign(shown)
    covariance = root.T @ root * np.outer(signs, signs)
    covariance[touched] = covariance[:, touched] = np.nan
    covariance[touched, touched] = np.inf
    errors = np.linalg.norm(root, axis=0)
    constants = tuple(
        LawConstant(value, None if lost or not np.isfinite(error) else float(error))
        for value, error, lost in zip(shown, errors, touched, strict=True)
    )
    return LawErrors(law, constants, covariance, deviation, freedom, False, root, unseen, scale, slopes)


def with_numbers(law: Law, numbers: Mapping[float, sympy.Expr]) -> sympy.Expr:
    """The formula with something else in place of some of its fitted constants, each by its size, that is without its
    sign."""
    there: dict[sympy.Basic, sympy.Expr] = {}
    for size, number in numbers.items():
        there |= {sympy.Float(size): number, sympy.Float(-size): -number}
    return replaced(law.expression, there)


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


def _checked(values: np.ndarray, y: np.ndarray, name: str, *, least: str) -> np.ndarray:
    """Finite float64 of the shape of y, none below 0 and none 0 if they have to be positive."""
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.shape != y.shape:
        raise UserError(f"{name} must have shape {y.shape}, one a row, got {numbers.shape}")
    wrong = ~np.isfinite(numbers) | (numbers < 0) | ((numbers == 0) if least == "positive" else False)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise UserError(f"{name} must be finite and {least}: it is {numbers[row]:g} in row {row + 1}")
    return numbers


def _deviation(residual: np.ndarray, precision: np.ndarray, freedom: int) -> float:
    """sqrt(Σ w r² / freedom), NaN without any; whatever the unit of y."""
    size = float(np.abs(residual).max(initial=0.0)) or 1.0
    return (
        size * float(np.linalg.norm(precision * (residual / size))) / float(np.sqrt(freedom)) if freedom > 0 else np.nan
    )


def _root_of(
    slopes: Sequence["_Derivative"], x: np.ndarray, precision: np.ndarray, size: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """H of shape (rank, k), such that HᵀH is the covariance of the sizes of the constants in the directions that the data
    tell of; the other directions; the norms of the derivatives. None where these are undefined or `size` is.

    Args:
        slopes: the derivatives by them.
        x: points of shape (p, v).
        precision: 1 / standard deviation of the targets, in units of 1 / `size`.
        size: see above.
    """
    if not np.isfinite(size):
        return None
    n_constants = len(slopes)
    factor = np.zeros((0, n_constants))
    for block in _blocks(slopes, x, precision):
        if not np.isfinite(block).all():
            return None
        factor = np.asarray(np.linalg.qr(np.concatenate([factor, block]), mode="r"))
    # Householder reflections keep the columns' norms, so that everything about J can be read off R.
    columns = np.concatenate([factor, np.zeros((max(0, n_constants - len(factor)), n_constants))])
    largest = np.abs(columns).max(0, initial=0.0)
    scaled = columns / np.where(largest > 0, largest, 1.0)
    norms = np.linalg.norm(scaled, axis=0)
    _, values, vectors = np.linalg.svd(scaled / np.where(norms > 0, norms, 1.0), full_matrices=False)
    weak = values <= _DEPENDENT * values.max(initial=0.0)
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.where(norms > 0, size / np.where(largest > 0, largest, 1.0) / np.where(norms > 0, norms, 1.0), 0.0)
        return vectors[~weak] / values[~weak, None] * lengths, vectors[weak], largest * norms


def _blocks(slopes: Sequence["_Derivative"], x: np.ndarray, precision: np.ndarray) -> Iterator[np.ndarray]:
    """∂ formula / ∂ constants, each row times its precision, some rows at a time."""
    step = max(1, _CHUNK_NUMBERS // (len(slopes) + 1))
    for start in range(0, len(x) if slopes else 0, step):
        points = x[start : start + step]
        yield np.column_stack([slope(points) for slope in slopes]) * precision[start : start + step, None]


class _Derivative:
    """The derivative of a formula by one of its constants.

    Where the symbolic one is undefined, such as that of x^p at x = 0, it is a central difference.
    """

    def __init__(self, law: Law, size: float) -> None:
        atom, parameter = sympy.Float(size), sympy.Dummy("c", real=True)

        derivative = with_numbers(law, {size: parameter}).diff(parameter).xreplace({parameter: atom})
        try:
            self.operations: lowering.Node | None = lowering.lower(derivative, law.symbols)
        except (ValueError, OverflowError):  # such as the derivative of sign(x), or a number that overflows
            self.operations = None
        self.step = _STEP * size
        moved = [with_numbers(law, {size: sympy.Float(size + h)}) for h in (self.step, -self.step)]
        self.moved = [lowering.lower(expression, law.symbols) for expression in moved]

    def __call__(self, x: np.ndarray) -> np.ndarray:
        result = np.full(len(x), np.nan) if self.operations is None else lowering.evaluate_real(self.operations, x)
        undefined = ~np.isfinite(result)
        if undefined.any():
            above, below = (lowering.evaluate_real(operations, x[undefined]) for operations in self.moved)
            result[undefined] = (above - below) / (2 * self.step)
        return result
