"""The forms that a law suggests: its fitted numbers become constants, and a factor and an offset may join it.

A law that was found in one group, or in rows that were divided by their group's size, shows only which form the law of
all groups has. What it lacks there, a factor that was 1 or an offset that was 0, other groups may need.

    f(x; c)        c f,    f + c,    c f + d         its decimal numbers are constants
    f(x; c, p)     the same                          and its whole numbers and fractions, such as exponents, too
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import sympy

from emlinit.finetune.groups.group_form import GroupForm
from emlinit.finetune.law.language import Language
from emlinit.generator.formulas.known_forms import replaced
from emlinit.generator.formulas.parse import names_in, parse_formula

_MOST_CONSTANTS = 6
_FEW_COLUMNS, _FIRST_SHAPES = 2, 4
_SHAPES = (
    "a + b*x",
    "a*x**p",
    "a*exp(-k*x)",
    "a + b*ln(x)",
    "a*x/(m + x)",  # Michaelis and Menten
    "a*(1 - exp(-k*x))",
    "a/(1 + exp(-k*(x - m)))",  # logistic
    "a*x**n/(m**n + x**n)",  # Hill
    "a*exp(-(x - m)**2/(2*s**2))",  # Gaussian
    "a*sin(k*x + b)",
)
"""What is most often written down of a single column x, in constants whose names say where to begin."""


def plain_forms(
    columns: Sequence[sympy.Symbol],
    variables: Sequence[sympy.Symbol],
    language: Language,
    places: Mapping[int, tuple[float, float]],
) -> Iterator[GroupForm]:
    """What is tried without a search: a constant, and what is most often written down of a single column.

    Args:
        columns: the symbols of all columns.
        variables: real symbols in their place.
        language: what a law may be written in.
        places: by the place of each column that varies, the mean and the standard deviation of what stands in it.
    """
    constant = sympy.Dummy("a", real=True)
    yield GroupForm(constant, tuple(variables), (constant,), np.array([0.5]))
    shapes = _SHAPES if len(places) <= _FEW_COLUMNS else _SHAPES[:_FIRST_SHAPES]
    for shape in shapes:
        for place, (mean, spread) in places.items():
            begin = {"a": 0.53, "b": 0.71, "p": 1.51, "n": 2.03, "k": 1 / spread, "m": mean, "s": spread}
            there = {name: sympy.Symbol(name, real=True) for name in begin if name in names_in(shape)}
            x = sympy.Symbol("x", real=True)
            form = parse_formula(shape, [x, *there.values()])
            dummies = {symbol: sympy.Dummy(name, real=True) for name, symbol in there.items()}
            form = form.xreplace({x: columns[place], **dummies})
            start = [begin[name] for name in there]
            yield from _admitted(form, [*dummies.values()], start, columns, variables, language)


def variants(
    expression: sympy.Expr,
    columns: Sequence[sympy.Symbol],
    variables: Sequence[sympy.Symbol],
    language: Language,
) -> Iterator[GroupForm]:
    """Forms of at most six constants that a law suggests, nearest to it first.

    Args:
        expression: the law's formula.
        columns: the symbols of the columns as the formula has them.
        variables: real symbols in their place.
        language: what a law may be written in.
    """
    decimal = {abs(float(number)) for number in expression.atoms(sympy.Float)}
    fractions = {n for n in expression.atoms(sympy.Rational) if abs(n) != 1 and not n.is_zero}
    for freed in (set(), fractions) if fractions else (set(),):
        if len(decimal) + len(freed) > _MOST_CONSTANTS:
            continue
        base = _freed(expression, sorted(decimal), sorted(freed, key=float))
        yield from _admitted(*base, columns, variables, language)


def _admitted(
    form: sympy.Expr,
    constants: list[sympy.Symbol],
    start: list[float],
    columns: Sequence[sympy.Symbol],
    variables: Sequence[sympy.Symbol],
    language: Language,
) -> Iterator[GroupForm]:
    """The form, also with a factor and an offset, as far as it may be written and can be computed."""
    for joined, numbers, begin in _joined(form, constants, start):
        written = replaced(joined, dict(zip(columns, variables, strict=True)))
        found = GroupForm(written, tuple(variables), tuple(numbers), np.array(begin, dtype=np.float64))
        law = replaced(found.with_numbers(found.generic), dict(zip(variables, columns, strict=True)))
        if len(numbers) <= _MOST_CONSTANTS and language.admits(law) and _can_be_computed(found):
            yield found


def _freed(
    expression: sympy.Expr, decimal: Sequence[float], fractions: Sequence[sympy.Rational]
) -> tuple[sympy.Expr, list[sympy.Symbol], list[float]]:
    start = [*decimal, *map(float, fractions)]
    constants = [sympy.Dummy(f"c{number}", real=True) for number in range(len(start))]
    there: dict[sympy.Basic, sympy.Expr] = {}
    for size, constant in zip(decimal, constants, strict=False):
        there |= {sympy.Float(size): constant, sympy.Float(-size): -constant}
    there |= dict(zip(fractions, constants[len(decimal) :], strict=True))
    return replaced(expression, there), constants, start


def _joined(
    form: sympy.Expr, constants: list[sympy.Symbol], start: list[float]
) -> Iterator[tuple[sympy.Expr, list[sympy.Symbol], list[float]]]:
    """The form alone, and with a factor and an offset where it has none."""
    factor, offset = sympy.Dummy("factor", real=True), sympy.Dummy("offset", real=True)
    terms = sympy.Add.make_args(form)
    numbers = {*constants}
    has_factor = all(numbers & {*sympy.Mul.make_args(term)} for term in terms)
    has_offset = any(not term.free_symbols - numbers for term in terms)
    yield form, constants, start
    if not has_factor:
        yield factor * form, [*constants, factor], [*start, 1.0]
    if not has_offset:
        yield form + offset, [*constants, offset], [*start, 0.0]
        if not has_factor:
            yield factor * form + offset, [*constants, factor, offset], [*start, 1.0, 0.0]


def _can_be_computed(form: GroupForm) -> bool:
    """Whether it has constants, all of them in the formula, and NumPy has what it needs."""
    if not form.constants or not {*form.constants} <= form.expression.free_symbols:
        return False
    return form.can_be_computed
