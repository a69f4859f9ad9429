"""Formulas that nobody should write, and names of variables that are none: a fixed list, and random ones by a seed."""

import random
from collections.abc import Iterator

_HUGE = "9" * 5000

ODD_FORMULAS: tuple[str, ...] = (
    # no formulas
    "", " ", "(", ")", "()", "x +", "*x", "x,", "2x", "x***2", "^", "x..y", "x\ny", "x;y", "x\0", "\u202ex", "x×y", "x−y",
    "٣*x", "x\\", "x#y", "'x'", "f'{x}'", "b'x'", "...", "None*x", "True+x", "1j*x", "class*x", "lambda*x", "yield x",
    "await x", "lambda x: x", "x if x else 1", "[x]", "{x}", "{x: x}", "x[0]", "x == 1", "x < y", "x and y", "not x",
    "~x", "x // 2", "x % 2", "x @ x", "x << 2", "(x := 3)", "[x for x in x]", "x.y", "x.__class__",
    # calls
    "__import__('os')", "__import__('os').system('touch odd')", "open('odd', 'w')", "eval('1')*x", "exec(x)", "f(x)(y)",
    "exp()", "exp(x, y)", "exp(*x)", "exp(**x)", "exp(x=1)", "factorial(10**9)", "gamma(x)", "().__class__", "exp",
    # size
    "(" * 10**5 + "x" + ")" * 10**5, "(" * 150 + "x" + ")" * 150, "(" * 500 + "x" + ")" * 500, "-" * 9000 + "x",
    "x" * 9000, "x" * 10_001, "x" + "+x" * 4000, "x" + "*x" * 150, "/".join(["x"] * 3000), "1/" * 190 + "x",
    "*".join(["(x+1)**2"] * 300), "+".join(f"a{k}" for k in range(150)), "+".join(f"x**{k}" for k in range(100)),
    "*".join(f"(x+{k})" for k in range(100)), "*".join(f"sin({k}*x)" for k in range(1, 100)),
    *(f"{name}(" * depth + "x" + ")" * depth for name in ("exp", "log", "sqrt", "abs", "square") for depth in (9, 199)),
    *(f"{name}(" * depth + "x" + ")" * depth for name in ("sin", "tan", "atanh", "cosh") for depth in (4, 50)),
    # numbers
    "1e999*x", "-1e999*x", "1e-999*x", "1e-320*x", "1.7976931348623157e308*x*10", "x*1e308*10", _HUGE, f"x*{_HUGE}",
    f"x**{'9' * 400}", f"x*{'9' * 400}", f"0x{'f' * 4000}*x", "0b101*x", "01*x", "1_000*x", "1__0*x", "9**9**9**9",
    "x*9**9**9**9",
    "2**-9**9**9*x", "x**(10**9)", "x**-1000", "x**1000", "x**999.5", "x**1e-300", "(x+y)**-1000",
    "((x**1000)**1000)**1000",
    "((2**1000*x)**1000)**1000", "(x/3)**1000", "(2*x+2)**1000", "7**1000*x", "(1/7)**1000*x", "123456789**1000*x",
    "(123456789/987654321)**1000*x", "1e30**1000*x", "1e-300**1000*x", "sqrt(2)**999*x", "(1+sqrt(2))**1000*x",
    "(pi+e)**1000+x", "2**1000*" * 50 + "x", "square(" * 30 + "2" + ")" * 30 + "*x",
    "square(" * 150 + "1.5" + ")" * 150 + "*x",
    "exp(1000)*x", "exp(10**30)*x", "exp(-1e9)*x", "exp(exp(exp(exp(9))))*x", "exp(exp(x+1000))", "cosh(1e6)+x",
    "sin(1e300)*x", "sin(10**900)*x", "asin(10**900)+x", "exp(log(10**4000))*x", "2**1000**x", "x**x**x**x",
    # no real or finite value
    "x/0", "x/(1-1)", "1/(x-x)", "0/0*x", "0*x", "x/x", "x-x", "log(0)+x", "log(x-x)", "0**-1*x", "0**x", "0**0*x",
    "tan(pi/2)*x", "atanh(1)*x", "acos(2)*x", "sqrt(-1)*x", "log(-1)+x", "x**sqrt(-1)", "(-1)**0.5*x", "(-8)**(1/3)*x",
    "(-1)**x", "sqrt(-x**2)", "log(-exp(x))", "sqrt(-1)**2*x", "acosh(-5)*x", "1/(sqrt(-1)*x)",
    # names
    "inf*x", "nan*x", "oo*x", "zoo", "I*x", "E*x", "e", "pi*e", "S*N*Q", "é*x", "ﬁ*x", "x٣", "_", "__x__", "self", "law*np",
)  # fmt: skip

ODD_VARIABLES: tuple[str, ...] = (
    "", " ", ",", "x,", ",x", "x,x", "x,ｘ", "x,y,x", "1", "x y", "x;y", "x.y", "-x", "lambda,x", "None,x", "x\n,y", "x\0",
    "'x'", "x" * 5000, "pi,x", "e,x", "x,exp", " x , y ", "ﬁ,x", ",".join(f"x{k}" for k in range(2000)),
)  # fmt: skip

_PIECES = (
    "x", "y", "pi", "e", "1", "2", "0", "-3", "0.5", "1e9", "1e-9", "1e200", "10**5", "x**2", "+", "-", "*", "/", "**",
    "^", "(", ")",
    "exp(", "log(", "sqrt(", "sin(", "tan(", "abs(", "atanh(", "square(", ",", ".", " ", "=", "j", "\\", "[", "]",
)  # fmt: skip


def _expression(rng: random.Random, depth: int) -> str:
    """A formula in which everything is well formed but, at times, what it says."""
    if depth == 0:
        return rng.choice(("x", "y", "x", "pi", "e", "0", "1", "2", "7", "0.5", "1e9", "1e-9", "1e200", "1000"))
    left, right = (_expression(rng, rng.randrange(depth)) for _ in range(2))
    if rng.random() < 0.4:
        function = rng.choice(("exp", "log", "sqrt", "sin", "cosh", "tan", "abs", "asin", "atanh", "square", "-", ""))
        return f"{function}({left})"
    return f"({left}){rng.choice(('+', '-', '*', '/', '**'))}({right})"


def random_formulas(seed: int, n: int) -> Iterator[str]:
    """Well-formed ones and heaps of pieces in turn."""
    rng = random.Random(seed)
    for number in range(n):
        if number % 2:
            yield _expression(rng, rng.randint(1, 4))
        else:
            yield "".join(rng.choice(_PIECES) for _ in range(rng.randint(1, 12)))
