"""Other programs for symbolic regression, each behind the same call: points and seconds in, one formula out.

    operon    pyoperon, genetic programming in C++ with its own fitting of constants
    gplearn   gplearn, genetic programming in Python

Their seconds are of the process's own time, so that a busy machine does not cost them: on an idle one it is that of the
clock. Both get one thread and the operators + - * / exp log sqrt square sin cos, operon also powers. They come with
`pip install "emlinit[bench]"`.

Legend: p point, v input variable.
"""

import importlib
import math
import operator
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import sympy

from emlinit.benchmarks.laws.refit import values_or_nan
from emlinit.generator.errors import UserError
from emlinit.generator.formulas.parse import parse_formula

_DECIMALS = 45  # of operon's constants, which it holds in single precision
_SINGLE_PRECISION = 1e-12  # of the variance: a mean squared error that single precision does not tell from 0
_OPERON_SYMBOLS = "add,sub,mul,div,exp,log,sqrt,square,pow,sin,cos,constant,variable"
_WORTH_STARTING = 0.5  # seconds: operon stops after whole ones
_NO_TIME_LEFT = 1.2  # times the longest generation so far


def require(module: str) -> Any:
    """A module of a rival.

    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise UserError(f'{package} cannot be imported ({error}): pip install "emlinit[bench]"') from None


def fit_operon(x: np.ndarray, y: np.ndarray, seconds: float, seed: int) -> str | None:
    """The formula of pyoperon in x1, x2, ...; None if it found none.

    Two objectives, R2 and length, so that it keeps a Pareto front; ten steps of Levenberg-Marquardt for each new
    candidate, inherited. Of the front the shortest is taken that is exact to single precision, else the one with the
    best Bayesian information criterion. Its linear scaling always adds an intercept, which is dropped where that
    criterion is better without.

    Raises:
        UserError: pyoperon is not installed.
    """
    model = require("pyoperon.sklearn").SymbolicRegressor(
        allowed_symbols=_OPERON_SYMBOLS,
        objectives=["r2", "length"],
        optimizer_iterations=10,
        max_length=50,
        population_size=1000,
        generations=10**9,
        max_evaluations=10**12,
        epsilon=0.0,
        n_threads=1,
        warm_start=True,
    )
    began, left, part = time.process_time(), seconds, 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        while part == 0 or left > _WORTH_STARTING:  # it stops by the clock: on a busy machine it goes on from there
            model.set_params(max_time=max(1, round(left)), random_state=1000 * seed + part + 1)
            model.fit(x, y)
            left, part = began + seconds - time.process_time(), part + 1
    front = [entry for entry in model.pareto_front_ if math.isfinite(entry["mean_squared_error"])]
    if not front:
        return None
    exact = [entry for entry in front if entry["mean_squared_error"] <= _SINGLE_PRECISION * y.var()]
    if exact:
        best = min(exact, key=lambda entry: entry["length"])
    else:
        best = min(front, key=lambda entry: entry["bayesian_information_criterion"])
    names = [f"x{i + 1}" for i in range(x.shape[1])]
    text = model.get_model_string(best["tree"], _DECIMALS, names=names)
    return _without_intercept(text.replace("^", "**"), x, y)


def _without_intercept(text: str, x: np.ndarray, y: np.ndarray) -> str:
    """`(a + u)` becomes `(b*u)`, b by least squares, where the Bayesian information criterion is better then."""
    symbols = [sympy.Symbol(f"x{i + 1}", real=True) for i in range(x.shape[1])]
    try:
        formula = parse_formula(text, symbols)
    except UserError:
        return text
    intercept, rest = formula.as_coeff_Add()
    if intercept == 0 or not rest.free_symbols:
        return text
    values = values_or_nan(rest, symbols, x)
    with np.errstate(all="ignore"):
        factor = float(values @ y / (values @ values))
        losses = [np.square(form - y).mean() for form in (values + float(intercept), factor * values)]
    if not np.isfinite(losses).all() or not losses[1] <= losses[0] * len(y) ** (1 / len(y)):
        return text
    return f"{factor!r}*({rest})"


def fit_gplearn(x: np.ndarray, y: np.ndarray, seconds: float, seed: int) -> str | None:
    """The formula of gplearn in x1, x2, ...: the best program of all its generations, as many as there is time for.

    The parsimony pressure is 0.001 of the standard deviation of y a node. Protected operations are written as what they
    are but near 0, such as sqrt(|u|).

    Raises:
        UserError: gplearn is not installed.
    """
    gplearn, began = require("gplearn.genetic"), time.process_time()
    make = require("gplearn.functions").make_function
    # Its functions have to be finite at 0 and -1, and here for any argument.
    added = {"exp": lambda u: np.exp(np.minimum(u, 100.0)), "square": np.square}
    functions = [make(function=function, name=name, arity=1, wrap=False) for name, function in added.items()]
    model = gplearn.SymbolicRegressor(
        population_size=500,
        generations=1,
        tournament_size=20,
        stopping_criteria=1e-10 * float(y.std()),
        const_range=(-5.0, 5.0),
        function_set=("add", "sub", "mul", "div", "sqrt", "log", "sin", "cos", *functions),
        metric="rmse",
        parsimony_coefficient=0.001 * float(y.std()),
        p_crossover=0.7,
        p_subtree_mutation=0.1,
        p_hoist_mutation=0.05,
        p_point_mutation=0.1,
        warm_start=True,
        low_memory=True,
        n_jobs=1,
        random_state=seed,
    )
    best, longest = None, 0.0
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        while time.process_time() - began + _NO_TIME_LEFT * longest < seconds:
            start = time.process_time()
            model.fit(x, y)
            longest = max(longest, time.process_time() - start)
            program = model._program
            if best is None or program.raw_fitness_ < best.raw_fitness_:
                best = program
            if best.raw_fitness_ <= model.stopping_criteria:
                break
            model.set_params(generations=model.generations + 1)
    return None if best is None else infix(best.program)


_OPERATIONS: dict[str, tuple[str, Callable[..., float]]] = {
    "add": ("({} + {})", operator.add),
    "sub": ("({} - {})", operator.sub),
    "mul": ("({} * {})", operator.mul),
    "div": ("({} / {})", operator.truediv),
    "sqrt": ("sqrt(abs({}))", lambda u: math.sqrt(abs(u))),
    "log": ("log(abs({}))", lambda u: math.log(abs(u))),
    "exp": ("exp({})", math.exp),
    "square": ("({})**2", lambda u: u * u),
    "sin": ("sin({})", math.sin),
    "cos": ("cos({})", math.cos),
}


def infix(program: Sequence[Any]) -> str | None:
    """A program of gplearn - functions with `name` and `arity`, floats, and ints for the columns, in prefix order - as
    a formula. Parts without a variable are worked out; None where one of them overflows or is not defined."""
    stack: list[str | float] = []
    for word in reversed(program):
        if isinstance(word, int | np.integer):
            stack.append(f"x{int(word) + 1}")
        elif isinstance(word, float | np.floating):
            stack.append(float(word))
        else:
            args = [stack.pop() for _ in range(word.arity)]
            template, function = _OPERATIONS[word.name]
            if all(isinstance(arg, float) for arg in args):
                try:
                    stack.append(float(function(*args)))
                except (ArithmeticError, ValueError):
                    return None
            else:
                stack.append(template.format(*(f"({arg!r})" if isinstance(arg, float) else arg for arg in args)))
    return str(stack.pop())
