"""Simple numbers near a constant and what each costs to write down, in nats.

The fractions of numbers up to 4 are what laws are made of; p/q costs about ln(1 + p) + ln q. All others cost what an
arbitrary integer does in the universal code of the integers (Rissanen 1983), log*(n) = ln n + ln ln n + ... in nats: a
fraction its numerator and its denominator, a decimal number its digits as an integer and its places, a multiple of π or
e the name as well. A free constant known to ±σ costs ln(1 + |value| / σ): the digits that the data fix. As log*(n) is
clearly above ln n, a large integer is not taken only because it lies within the error, as one always does where σ > 1/2:
the data must fix digits beyond it. So noiseless data may buy any simple value that fits, and noisy data
only ones that are simpler than the digits they replace.
"""

import math

from emlinit.finetune.fitting.prices import integer_cost

_DENOMINATORS = (1, 2, 3, 4, 5, 6, 8)
_PLACES = (1, 2, 3)
_USUAL = 4  # largest numerator and denominator of the fractions that laws are made of
_UNITS = ((math.pi, (1, 2, 3, 4, 6)), (math.e, (1, 2)))
_MULTIPLES = (1, 2, 3, 4, 8)  # of these units that laws have: 7 pi is 22 by chance
_LARGEST_NUMERATOR = 10_000


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
            usual = abs(p) <= _USUAL and q <= _USUAL
            named = math.log1p(abs(p)) + math.log(q) + (0.5 if q == 1 else 1.0)
            offer(p / q, named if usual else integer_cost(abs(p)) + (0.0 if q == 1 else integer_cost(q)))
    for places in _PLACES:
        p = round(value * 10**places)
        if 0 < abs(p) <= _LARGEST_NUMERATOR and p % 10:
            offer(p / 10**places, integer_cost(abs(p)) + integer_cost(places))
    for unit, denominators in _UNITS:
        for q in denominators:
            p = round(value / unit * q)
            if abs(p) in _MULTIPLES and math.gcd(p, q) == 1:
                offer(p * unit / q, math.log1p(abs(p)) + math.log(q) + 3.0)
    return sorted(found.items(), key=lambda item: item[1])
