"""Open slots: a slot lacks nothing where the program is right, and itself where it is spoilt."""

import pytest
import sympy
import torch
from torch import Tensor

from emlinit.finetune.growing.openings import slot_deficits
from emlinit.generator.evaluate import evaluate
from emlinit.generator.formulas.compile_weighted import compile_weighted
from emlinit.generator.grammar import from_text
from emlinit.generator.program import Programs, programs_from_tokens

SYMBOLS = sympy.symbols("x1 x2", positive=True)
FORMULAS = (
    "3*exp(-2*x1)/(1 + x1**2) + 0.5*log(x1 + 1.5)",
    "x1*exp(0.7*x2)",
    "sqrt(x1 + 2*x2)",
    "x1/(x2 + 0.4*x1**2)",
    "log(x1*x2 + 3)*x2",
)
X = torch.rand(40, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.5


def program(text: str) -> Programs:
    return compile_weighted(sympy.parse_expr(text, local_dict=dict(zip(("x1", "x2"), SYMBOLS, strict=True))), SYMBOLS)


def values(programs: Programs) -> Tensor:
    return evaluate(programs, X, rtol=None).value


def test_a_right_program_lacks_nothing() -> None:
    batch = Programs.cat([program(text) for text in FORMULAS])
    for row in range(len(batch)):
        lack, known = slot_deficits(batch[row], X, values(batch[row])[0])
        assert bool(known.all(-1).any())
        torch.testing.assert_close(lack, torch.zeros_like(lack), rtol=0, atol=1e-9)


@pytest.mark.parametrize("formula", FORMULAS)
def test_what_is_lacking_makes_the_program_right(formula: str) -> None:
    right = program(formula)
    y = values(right)[0]
    slots = slot_deficits(right, X, y)[1][0].all(-1).nonzero()[:, 0].tolist()
    assert slots
    for slot in slots:
        spoilt = right.with_constants(right.weight, right.bias.clone())
        spoilt.bias[0, slot, 0] += 0.01
        lack, known = slot_deficits(spoilt, X, y)
        there = known[0, slot]
        torch.testing.assert_close(
            lack[0, slot, there], torch.full_like(lack[0, slot, there], -0.01), rtol=1e-6, atol=1e-8
        )


def test_a_node_that_is_read_twice_opens_nothing_below_it() -> None:
    shared = program("exp(x1)*x2 + exp(x1)**2")
    y = values(shared)[0]
    _, known = slot_deficits(shared, X, y + 0.1)
    leaves, source = shared.n_variables + 1, shared.source[0]
    readers = torch.bincount(
        source[shared.used_terms()[0] & (source >= leaves)] - leaves, minlength=int(shared.n_nodes)
    )
    for node in (readers > 1).nonzero()[:, 0].tolist():
        assert not bool(known[0, 2 * node : 2 * node + 2].any())


def test_the_readout_and_unused_slots_are_not_open() -> None:
    line = programs_from_tokens(*(t[None] for t in from_text("+ c:0.25 w:0.5 x1", 2)), 2)
    batch = Programs.cat([line, program("exp(x1)*x2")])
    lack, known = slot_deficits(batch, X, X[:, 0])
    assert not bool(known[0].any())
    assert not bool(known[:, -1].any())
    assert not bool(lack[~known].any())
