"""sympy's functions in NumPy: the one table that evaluation and printed source are made from.

A function is NumPy's own, or made of one by a reciprocal: cot z = 1 / tan z, acot z = arctan(1 / z).
"""

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np


@dataclass(frozen=True)
class NumpyFunction:
    """A function by its name in NumPy; calling it and its source are the same operations."""

    name: str
    """Name in NumPy, such as `arcsin` or `emath.log`."""
    n_arguments: int = 1
    """How many arguments it takes."""
    reciprocal_result: bool = False
    """Whether 1 is divided by the result."""
    reciprocal_argument: bool = False
    """Whether 1 is divided by the argument."""
    of_reals: bool = False
    """Whether only real arguments mean something."""
    real_result: bool = False
    """Whether the result is real whatever the arguments are."""
    leaves_reals: bool = False
    """Whether the result for real arguments may be complex; `np.emath` has the function for those, under the same name."""

    @property
    def function(self) -> Callable[..., Any]:
        """The function itself, of arrays or numbers."""
        function: Callable[..., Any] = attrgetter(self.name)(np)
        if self.reciprocal_result:
            return lambda z: 1 / function(z)
        if self.reciprocal_argument:
            return lambda z: function(1 / z)
        return function

    @property
    def source(self) -> str:
        """The same as Python source, with {} for each argument."""
        arguments = "1/({})" if self.reciprocal_argument else ", ".join(["{}"] * self.n_arguments)
        return f"{'1/' if self.reciprocal_result else ''}np.{self.name}({arguments})"


NUMPY_FUNCTIONS = {
    "exp": NumpyFunction("exp"),
    "log": NumpyFunction("log", leaves_reals=True),
    "sin": NumpyFunction("sin"),
    "cos": NumpyFunction("cos"),
    "tan": NumpyFunction("tan"),
    "cot": NumpyFunction("tan", reciprocal_result=True),
    "sec": NumpyFunction("cos", reciprocal_result=True),
    "csc": NumpyFunction("sin", reciprocal_result=True),
    "asin": NumpyFunction("arcsin", leaves_reals=True),
    "acos": NumpyFunction("arccos", leaves_reals=True),
    "atan": NumpyFunction("arctan"),
    "acot": NumpyFunction("arctan", reciprocal_argument=True),
    "sinh": NumpyFunction("sinh"),
    "cosh": NumpyFunction("cosh"),
    "tanh": NumpyFunction("tanh"),
    "coth": NumpyFunction("tanh", reciprocal_result=True),
    "sech": NumpyFunction("cosh", reciprocal_result=True),
    "csch": NumpyFunction("sinh", reciprocal_result=True),
    "asinh": NumpyFunction("arcsinh"),
    "acosh": NumpyFunction("arccosh", leaves_reals=True),
    "atanh": NumpyFunction("arctanh", leaves_reals=True),
    "Abs": NumpyFunction("abs", real_result=True),
    "sign": NumpyFunction("sign", of_reals=True),
    "re": NumpyFunction("real", real_result=True),
    "im": NumpyFunction("imag", real_result=True),
    "arg": NumpyFunction("angle", real_result=True),
    "conjugate": NumpyFunction("conjugate"),
    "atan2": NumpyFunction("arctan2", n_arguments=2, of_reals=True, real_result=True),
}
"""By the name of sympy's class. `np.emath` has no arccosh: who starts from real numbers makes them complex first."""
