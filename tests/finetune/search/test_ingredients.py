"""What a program is made of, told from its structure, against the formula that it was compiled from."""

import pytest
import sympy
import torch

from emlinit.finetune.search.ingredients import INGREDIENTS, holds, holds_none_of
from emlinit.generator.formulas.compile_weighted import compile_weighted
from emlinit.generator.program import Programs

X, Y = sympy.symbols("x y", positive=True)
FORMULAS = {
    2.5 * X + 3 * Y - 1: set(),
    X**2 * Y: set(),
    X**3 / Y: {"inverse"},
    1.5 * sympy.exp(-0.3 * X): {"exp"},
    sympy.sqrt(X + 2 * Y): {"root"},
    X**-1.7: {"root", "inverse"},
    2 * sympy.cos(3 * X + 1) + Y: {"wave"},
    X * sympy.sin(2 * X): {"wave"},
    sympy.exp(-X) * sympy.cos(2 * Y): {"wave", "exp"},
    sympy.log(X + 1): {"ln"},
    sympy.exp(0.5 * sympy.log(X) ** 2): {"ln", "exp"},
    X / (1.5 + X): {"inverse"},
    sympy.atan(X): {"ln"},
    X**1.98: set(),  # may be snapped to a square
    X**Y: {"ln", "exp"},
}


@pytest.mark.parametrize("formula", FORMULAS, ids=str)
def test_a_program_is_made_of_what_its_formula_is(formula: sympy.Expr) -> None:
    found = holds(compile_weighted(formula, (X, Y)))
    assert {name for name, has in found.items() if bool(has)} == FORMULAS[formula]


def test_a_batch_is_a_loop_and_the_programs_without_are_picked() -> None:
    programs = Programs.cat([compile_weighted(formula, (X, Y)) for formula in FORMULAS])
    batch = holds(programs)
    assert tuple(batch) == INGREDIENTS
    for row in range(len(programs)):
        single = holds(programs[row])
        assert {name: bool(has[row]) for name, has in batch.items()} == {
            name: bool(has) for name, has in single.items()
        }
    none_of = holds_none_of(programs, {"wave", "exp"})
    assert torch.equal(none_of, ~(batch["wave"] | batch["exp"]))
    assert holds_none_of(programs, frozenset()).all()
