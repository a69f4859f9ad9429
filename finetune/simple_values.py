"""Simple numbers near a constant and what each costs to write down, in nats.

The costs are those of a plain prefix code: an integer n costs about ln(1 + |n|), a fraction its numerator and its
denominator, a multiple of π or e the name as well. A free constant known to ±σ costs ln(1 + |value| / σ): the digits that
the data fix. So noiseless data may buy any simple value that fits, and noisy data only ones that are simpler than the
digits they replace.
"""

import math

_DENOMINATORS = (1, 2, 3, 4, 5, 6, 8, 10, 100, 1000)
_UNITS = ((math.pi, (1, 2, 3, 4, 6)), (math.e, (1, 2)))
_LARGEST_NUMERATOR = 10_000


def free_cost(value: float, error: float) -> float:
    """Nats that a free constant costs, `error` being its standard error (infinite: the data do not determine it)."""
    return 1.0 + (math.log1p(abs(value) / error) if error > 0 else math.inf)


def simple_values(value: float, error: float, *, largest_z: float = 6.0) -> list[tuple[float, float]]:
    """Simple numbers within `largest_z` standard errors of `value`, with their cost, cheapest first; 0 is always one.

    For an undetermined constant (infinite error) only 0 and ±1 are offered.
    """
    found = {0.0: 0.0}

    def offer(number: float, cost: float) -> None:
        near = abs(number - value) <= largest_z * error if math.isfinite(error) else abs(number) == 1.0
        if near and cost < found.get(number, math.inf):
            found[number] = cost

    if not math.isfinite(value):
        return [(0.0, 0.0)]
    for q in _DENOMINATORS:
        p = round(value * q)
        if 0 < abs(p) <= _LARGEST_NUMERATOR and math.gcd(p, q) == 1:
            offer(p / q, math.log1p(abs(p)) + math.log(q) + (0.5 if q == 1 else 1.0))
    for unit, denominators in _UNITS:
        for q in denominators:
            p = round(value / unit * q)
            if 0 < abs(p) <= 12 and math.gcd(p, q) == 1:
                offer(p * unit / q, math.log1p(abs(p)) + math.log(q) + 3.0)
    return sorted(found.items(), key=lambda item: item[1])
