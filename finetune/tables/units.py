"""What a unit of measurement looks like in a cell: anything in brackets, a dash, or a product of units in use.

Without brackets only known units count: a row of words below a header is more likely text that is in the wrong place.
"""

import re

_PREFIX = r"(?:da|[yzafpnuµμmcdhkMGTPEZY])?"
_WITH_PREFIX = (
    *(
        "m",
        "g",
        "s",
        "sec",
        "A",
        "K",
        "mol",
        "cd",
        "Hz",
        "N",
        "Pa",
        "J",
        "W",
        "C",
        "V",
        "F",
        "Ω",
        "Ω",
        "ohm",
        "Ohm",
        "S",
    ),
    *(
        "Wb",
        "T",
        "H",
        "lm",
        "lx",
        "Bq",
        "Gy",
        "Sv",
        "kat",
        "l",
        "L",
        "bar",
        "eV",
        "cal",
        "Wh",
        "VA",
        "Ah",
        "B",
        "dB",
        "t",
    ),
    *("bit", "byte", "M", "pc", "rad", "sr", "yr", "a"),
)
_WITHOUT = (
    *("min", "h", "hr", "hrs", "hour", "hours", "minutes", "seconds", "d", "day", "days", "week", "weeks", "month"),
    *(
        "months",
        "year",
        "years",
        "°",
        "°C",
        "°F",
        "℃",
        "℉",
        "degC",
        "degF",
        "deg",
        "atm",
        "torr",
        "Torr",
        "mmHg",
        "inHg",
    ),
    *(
        "psi",
        "%",
        "‰",
        "ppm",
        "ppb",
        "rpm",
        "au",
        "AU",
        "ly",
        "Msun",
        "in",
        "inch",
        "ft",
        "mi",
        "mph",
        "kt",
        "kn",
        "lb",
    ),
    *("lbs", "oz", "gal", "acre", "ha", "Å", "Å", "angstrom", "px", "counts", "cts", "count", "a.u.", "arb.u."),
    *("dBm", "pH", "pct", "kph"),
)
_ANY = "|".join(re.escape(unit) for unit in sorted(_WITHOUT, key=len, reverse=True))
_PREFIXED = "|".join(re.escape(unit) for unit in sorted(_WITH_PREFIX, key=len, reverse=True))
_POWER = r"(?:(?:\^|\*\*)?\(?[+-]?\d(?:[./]\d)?\)?|[⁺⁻]?[⁰¹²³⁴-⁹]+)?"
_FACTOR = rf"\(?(?:{_ANY}|{_PREFIX}(?:{_PREFIXED})){_POWER}\)?{_POWER}"
_UNIT = re.compile(rf"(?:1\s*/\s*)?{_FACTOR}(?:\s*(?:[*·⋅×/.]|\s)\s*{_FACTOR}){{0,5}}")
_BRACKETED = re.compile(r"\[([^\[\]]*)\]|\(([^()]*)\)|\{([^{}]*)\}|<([^<>]*)>")
_NONE = frozenset(("", "-", "--", "–", "—", "1", "none", "n/a", "dimensionless"))
_LONGEST = 40


def unit_of(cell: str) -> str | None:
    """The unit that a cell without blanks around it names, empty if it says that there is none; None if it is no unit."""
    if len(cell) > _LONGEST:
        return None
    if cell.lower() in _NONE:
        return ""
    bracketed = _BRACKETED.fullmatch(cell)
    if bracketed is not None:
        inner = next(group for group in bracketed.groups() if group is not None).strip()
        return "" if inner.lower() in _NONE else inner
    return cell if _UNIT.fullmatch(cell) else None
