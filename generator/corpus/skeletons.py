"""What is left of a weighted program when the values of its constants are forgotten.

Two programs have the same skeleton if their token sequences are equal up to the values of `c`, `w` and `j`, the names of
the variables and the order of the terms of a sum. A factor that is exactly 1 has no token, so that x1*x2 and 3*x1*x2
differ; with `free_factors` the real factors are forgotten too, and they are the same. A power is a factor inside an
exponential: x1**2 and x1**3 are always the same.
"""

from collections.abc import Sequence
from itertools import permutations

from emlinit.generator.grammar import EML, PAD, PLUS, X1, J, W

Skeleton = tuple[int, ...]


def skeleton(tokens: Sequence[int], *, free_factors: bool = False) -> Skeleton:
    """The skeleton of one token sequence in slot normal form, padding allowed: the smallest of the sequences that the
    variables' names and the order of terms make of it."""
    kinds = [kind for kind in tokens if kind != PAD and not (free_factors and kind == W)]
    used = sorted({kind for kind in kinds if kind >= X1})
    names = range(X1, X1 + len(used))
    return min(_sorted(kinds, 0, dict(zip(used, order, strict=True)))[0] for order in permutations(names))


def _sorted(kinds: list[int], place: int, names: dict[int, int]) -> tuple[Skeleton, int]:
    """The slot that starts at a place, its terms sorted, and where the next one starts."""
    terms: list[Skeleton] = []
    more = True
    while more:  # a sum is nested to the right
        more = kinds[place] == PLUS
        term, place = _term(kinds, place + more, names)
        terms.append(term)
    terms.sort(key=lambda term: (len(term), term))
    return tuple(kind for n, term in enumerate(terms) for kind in ((PLUS,) if n < len(terms) - 1 else ()) + term), place


def _term(kinds: list[int], place: int, names: dict[int, int]) -> tuple[Skeleton, int]:
    kind = kinds[place]
    if kind in (W, J):
        inner, place = _term(kinds, place + 1, names)
        return (kind, *inner), place
    if kind == EML:
        left, place = _sorted(kinds, place + 1, names)
        right, place = _sorted(kinds, place, names)
        return (kind, *left, *right), place
    return (names.get(kind, kind),), place + 1
