"""The usual operations written as trees of `eml` and 1 alone.

Found by exhaustive search, in double precision, over all functions of up to 9 nodes in one variable and 7 in two, and
by meeting in the middle: for every l of the table, r = exp(exp(l) - target) was looked up. So those of up to 9 nodes
are the smallest there are without infinities. `x1` and `x2` stand for any real-valued trees. The identities hold for
real arguments of either sign, except where a logarithm of 0 comes up on the way: at x1 = 0 for most.
"""

EXACT_IDENTITIES: dict[str, str] = {
    "exp(x1)": "eml x1 1",
    "e": "eml 1 1",
    "e - x1": "eml 1 eml x1 1",
    "log(x1)": "eml 1 eml eml 1 x1 1",
    "0": "eml 1 eml eml 1 1 1",
    "x1 - log(x2)": "eml eml 1 eml eml 1 x1 1 x2",
    "1 - x1": "eml eml 1 eml eml 1 1 1 eml x1 1",
    "x1 - 1": "eml eml 1 eml eml 1 x1 1 eml 1 1",
    "x1 - x2": "eml eml 1 eml eml 1 x1 1 eml x2 1",
    "-log(x1)": "eml eml 1 eml eml 1 eml 1 x1 1 eml eml 1 1 1",
    "log(x1) + log(x2)": "eml 1 eml eml eml 1 eml eml 1 eml 1 x1 1 x2 1",
    "-1": "eml eml 1 eml eml 1 eml 1 eml 1 1 1 eml eml 1 1 1",
    "-x1": "eml eml 1 eml eml 1 eml 1 eml x1 1 1 eml eml 1 1 1",
    "1/x1": "eml eml eml 1 eml eml 1 eml 1 x1 1 eml eml 1 1 1 1",
    "x1**2": "eml eml 1 eml eml eml 1 eml eml 1 eml 1 x1 1 x1 1 1",
    "x1*x2": "eml eml 1 eml eml eml 1 eml eml 1 eml 1 x1 1 x2 1 1",
    "x1/x2": "eml eml eml 1 eml eml 1 eml x2 x2 1 eml eml x2 x1 1 1",
    "2": "eml 1 eml eml eml 1 eml eml 1 eml 1 eml 1 1 1 eml 1 1 1",
    "2*x1": "eml 1 eml eml eml 1 eml eml 1 eml 1 eml x1 1 1 eml x1 1 1",
    "x1 + 1": "eml 1 eml eml eml 1 eml eml 1 eml 1 eml x1 1 1 eml 1 1 1",
    "x1 + x2": "eml 1 eml eml eml 1 eml eml 1 eml 1 eml x1 1 1 eml x2 1 1",
    "x1**x2": "eml eml eml 1 eml eml eml 1 eml eml 1 eml 1 x2 1 eml 1 eml eml 1 x1 1 1 1 1",
    "sqrt(x1)": "eml eml eml eml 1 eml eml 1 eml 1 eml eml 1 eml 1 eml eml 1 x1 1 1 1 "
    "eml 1 eml eml eml 1 eml eml 1 eml 1 eml 1 1 1 eml 1 1 1 1 1",
}
"""Formula -> tree in prefix form, small ones first."""
