"""Printed numbers read back as the same doubles."""

import numpy as np
import sympy

from emlinit.generator.formulas.printing import float_text, formula_text, shortened


def test_a_printed_number_reads_back_as_itself() -> None:
    rng = np.random.default_rng(0)
    for number in [*(rng.normal(size=200) * 10.0 ** rng.integers(-300, 300, 200)), 0.1, 1e22, 5e-324, -0.0]:
        assert float(float_text(number)) == number
    assert float_text(np.float64(0.1)) == "0.1"  # and no name of a type


def test_a_formula_keeps_all_digits() -> None:
    x = sympy.Symbol("x")
    assert formula_text(sympy.Float(0.1 + 0.2) * x) == "0.30000000000000004*x"


def test_what_is_shortened_is_short_whatever_it_is() -> None:
    assert shortened("x" * 60) == "x" * 60
    assert shortened("x" * 61) == "x" * 57 + "..."
    assert shortened(sympy.Integer(10) ** 5000) == "..."  # Python refuses to print it
    assert shortened(1.5) == "1.5"
