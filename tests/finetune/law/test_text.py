"""A formula for people: constants to the digits that the data fix, the form as it is."""

import pytest
import sympy

from emlinit.finetune.law.text import people_text, short_text
from emlinit.generator.formulas.known_forms import known_forms

X = sympy.Symbol("x")


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (365.0350976917337, 0.018, "365.035*x"),
        (365.0350976917337, 0.000018, "365.035098*x"),  # the second digit of the error is the sixth decimal
        (365.0350976917337, 12.0, "365.035*x"),  # never fewer than six digits
        (0.123456789012345, 1e-9, "0.1234567890*x"),
        (0.123456789012345, None, "0.123456789012345*x"),
        (1.23456789e-7, 1e-12, "1.234568e-07*x"),
    ],
)
def test_constants_are_cut_where_the_data_end(value: float, error: float | None, text: str) -> None:
    found = people_text(value * X, {value: error})
    assert found == text or found.removesuffix("*x") == str(float(text.removesuffix("*x")))


def test_short_texts_keep_the_form() -> None:
    logistic = known_forms(sympy.parse_expr("5.5/(1 + 148.4131591*exp(-1.2512345678*x))", local_dict={"x": X}))[0]
    assert short_text(logistic) == "5.5/(1 + exp(-1.25123*(x - 3.99605)))"
    assert people_text(logistic, {1.2512345678: 0.01}).startswith("5.5/(1 + exp(-1.25123*(x - 3.996")
