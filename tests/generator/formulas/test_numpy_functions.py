"""The table of sympy's functions in NumPy: each entry computes what sympy means, and its source what it computes."""

import numpy as np
import pytest
import sympy

from emlinit.generator.formulas.numpy_functions import NUMPY_FUNCTIONS

POINTS = {True: (0.7, -0.3, 1.9), False: (0.7 + 0.2j, -0.3 - 1.1j, 1.9 + 0.4j, 0.5 + 0j)}
"""Real points (True), and complex ones off the cuts."""


@pytest.mark.parametrize("name", NUMPY_FUNCTIONS)
def test_an_entry_is_the_function_of_that_name(name: str) -> None:
    function = NUMPY_FUNCTIONS[name]
    points = POINTS[function.of_reals]
    for k in range(len(points)):
        arguments = [points[(k + i) % len(points)] for i in range(function.n_arguments)]
        exact = complex(getattr(sympy, name)(*map(sympy.sympify, arguments)).evalf(20))
        value = function.function(*map(np.asarray, arguments))
        np.testing.assert_allclose(value, exact, rtol=1e-13)
        assert not function.real_result or np.isrealobj(value)


@pytest.mark.parametrize("name", NUMPY_FUNCTIONS)
def test_the_source_says_what_is_computed(name: str) -> None:
    function = NUMPY_FUNCTIONS[name]
    arguments = [np.asarray(POINTS[function.of_reals])] * function.n_arguments
    source = function.source.format(*["z"] * function.n_arguments)
    np.testing.assert_array_equal(eval(source, {"np": np, "z": arguments[0]}), function.function(*arguments))


@pytest.mark.parametrize("name", [name for name, function in NUMPY_FUNCTIONS.items() if not function.leaves_reals])
def test_real_arguments_have_real_values_unless_the_table_says_otherwise(name: str) -> None:
    function = NUMPY_FUNCTIONS[name]
    arguments = [np.linspace(-5.0, 5.0, 40)] * function.n_arguments
    assert np.isfinite(function.function(*arguments)).all()
