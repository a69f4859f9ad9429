"""Column names as symbols: every column gets a name that is safe in a formula, in Python source and in LaTeX.

A column whose name is a Python identifier keeps it. Any other name, and an identifier that already means something
where a formula is pasted (a Python keyword or builtin, a name of sympy such as `E`, `N` or `beta`, the `np` of the
exported function), gets the nearest free identifier. Names are only ever rewritten, never evaluated.
"""

import builtins
import keyword
import re
import unicodedata
from collections.abc import Sequence

import sympy
from sympy.core.alphabets import greeks

_TAKEN = frozenset({*keyword.kwlist, *dir(builtins), *dir(sympy), "np", "law", "value"})
_CAPITALS = {"Gamma", "Delta", "Theta", "Lambda", "Xi", "Pi", "Sigma", "Upsilon", "Phi", "Psi", "Omega"}
_READ_OTHERWISE = {"e", "i", "pi", "Pi", "Sigma"}
"""What reads in print as a constant (which a formula may hold beside the column), a product or a sum."""
_GREEK = (frozenset(greeks) | {"lambda"} | _CAPITALS) - {"lamda", "omicron"} - _READ_OTHERWISE
_LATEX_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{character: "\\" + character for character in "{}$&#%_"},
}


def symbols_for(names: Sequence[str]) -> tuple[sympy.Symbol, ...]:
    """One symbol a column, all different, without assumptions (so that `Symbol(name)` of a user is the same symbol)."""
    kept = [name if _is_free(name) else None for name in names]
    used = {name for name in kept if name is not None}
    chosen = []
    for position, (name, own) in enumerate(zip(names, kept, strict=True), start=1):
        if own is None:
            own = _nearest(name, position, used)
            used.add(own)
        chosen.append(sympy.Symbol(own))
    return tuple(chosen)


def _is_free(name: str) -> bool:
    # Python reads an identifier in its NFKC form: another spelling of it would be another name on paper only.
    special = name.startswith("__") and name.endswith("__")  # attributes that every module has
    return name.isidentifier() and not special and name not in _TAKEN and unicodedata.normalize("NFKC", name) == name


def _nearest(name: str, position: int, used: set[str]) -> str:
    stem = re.sub(r"\W+", "_", unicodedata.normalize("NFKC", name)).strip("_") or f"x{position}"
    if not stem.isidentifier():
        stem = f"x_{stem}" if f"x_{stem}".isidentifier() else f"x{position}"
    candidate, count = stem, 1
    while candidate in used or not _is_free(candidate):
        candidate = f"{stem}_" if count == 1 else f"{stem}_{count}"
        count += 1
    return candidate


def latex_columns(symbols: Sequence[sympy.Symbol], names: Sequence[str]) -> dict[sympy.Symbol, str]:
    """The columns of a formula in LaTeX, by their own names."""
    return {
        symbol: latex_name(name if latex_escape(name).strip() else symbol.name)  # a blank one would not be seen
        for symbol, name in zip(symbols, names, strict=True)
    }


def latex_name(name: str) -> str:
    """A column name in LaTeX's mathematics: `x1` as `x_{1}`, `beta` as `\\beta`, words upright, specials escaped.

    What would read as something else in print is upright, too: a column `pi` beside the constant `\\pi`.
    """
    if name in _GREEK:
        return f"\\{name}"
    if re.fullmatch(r"[A-Za-z]", name) and name not in _READ_OTHERWISE:
        return name
    if match := re.fullmatch(r"([A-Za-z])([0-9]+)", name):
        return f"{match[1]}_{{{match[2]}}}"
    if unicodedata.normalize("NFKC", name).strip() == "π":  # even upright it is the constant
        name = f"column {name}"
    upright = "mathrm" if name.isidentifier() and name.isascii() else "text"
    return f"\\{upright}{{{latex_escape(name)}}}"


def latex_escape(text: str) -> str:
    """Text with LaTeX's special characters escaped and control characters (line ends too) as blanks."""
    return "".join(_LATEX_SPECIAL.get(c, c if c.isprintable() else " ") for c in text)
