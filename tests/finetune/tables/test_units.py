"""A unit is told from a word."""

import pytest

from emlinit.finetune.tables.units import unit_of


@pytest.mark.parametrize(
    ("cell", "unit"),
    [
        ("[s]", "s"),
        ("(m)", "m"),
        ("{any thing}", "any thing"),
        *((unit, unit) for unit in ("kg/m^3", "m/s", "m s-1", "m·s⁻²", "°C", "%", "µV", "kWh", "mmHg", "mol/L", "1/s")),
        *((unit, unit) for unit in ("W/(m^2)", "kg m**2", "MHz", "hPa", "degC", "ppm", "s^(-1)", "cm^2", "N·m")),
        *((none, "") for none in ("", "-", "--", "[-]", "()", "1", "dimensionless")),
    ],
)
def test_units(cell: str, unit: str) -> None:
    assert unit_of(cell) == unit


@pytest.mark.parametrize(
    "cell", ["two", "bad", "x1", "Mercury", "n", "#3", "12", "3.5", "s; rm", "m" * 50, "True", "[s", "a b"]
)
def test_words_and_numbers_are_no_units(cell: str) -> None:
    assert unit_of(cell) is None
