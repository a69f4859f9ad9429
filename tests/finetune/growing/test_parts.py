"""The library of parts: what it takes from programs, what it keeps, and that a part built is what it was."""

import pytest
import torch

from emlinit.finetune.growing.grafting import values_of
from emlinit.finetune.growing.parts import PartLibrary, simple_parts
from emlinit.generator.evaluate import evaluate
from emlinit.generator.grammar import from_text, pad_sequences
from emlinit.generator.program import Programs, programs_from_tokens

X = torch.rand(30, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.5


def programs(*texts: str) -> Programs:
    return programs_from_tokens(*pad_sequences([from_text(text, 2) for text in texts]), 2)


def holds(library: PartLibrary, values: torch.Tensor) -> bool:
    return bool(((library.values - values).abs() < 1e-12).all(1).any())


def test_the_terms_of_all_slots_are_parts() -> None:
    library = PartLibrary(X, 500)
    library.add(programs("+ c:2.0 + w:1.7 x2 w:3.0 eml + w:-1.3 x1 w:0.77 eml 1 + c:1.0 w:1.9 x2 1"))
    inner = 1.9 * X[:, 1]
    log = torch.e - (1 + inner).log()
    for part in (1.7 * X[:, 1], -1.3 * X[:, 0], inner, 0.77 * log, 3 * (-1.3 * X[:, 0] + 0.77 * log).exp()):
        assert holds(library, part.to(torch.complex128))


def test_the_angle_of_a_slot_is_one_part_with_its_phase() -> None:
    library = PartLibrary(X, 500)
    library.add(programs("w:2.0 eml + w:-0.31 x1 + j:3.3 x2 + j:0.45 x1 j:0.7 1 1"))
    assert holds(library, 1j * (3.3 * X[:, 1] + 0.45 * X[:, 0] + 0.7))
    assert holds(library, (-0.31 * X[:, 0]).to(torch.complex128))


@pytest.mark.parametrize("factor", [1.0, -2.5])
def test_a_part_that_is_built_has_its_values(factor: float) -> None:
    library = PartLibrary(X, 500)
    library.add(
        programs("w:2.0 eml + w:-0.31 x1 + j:3.3 x2 + j:0.45 x1 j:0.7 1 1", "w:1.5 eml + w:0.4 x1 x2 + c:2.0 x2")
    )
    rows = torch.arange(len(library))
    built = library.programs(rows, torch.full((len(rows),), factor, dtype=torch.float64))
    _, slots = values_of(built, X)
    torch.testing.assert_close(slots[:, -1], factor * library.values, rtol=1e-12, atol=1e-12)
    one = built.free_weight[:, -1].any(-1).any(-1) | built.free_bias[:, -1].any(-1)
    assert bool(one.all())  # how much of it there is may be fitted


def test_simple_parts_stay_and_of_the_others_the_newest() -> None:
    n_simple = len(PartLibrary(X, 500))
    library = PartLibrary(X, n_simple + 3)
    texts = [f"w:1.0 eml w:{0.101 * (i + 1)} x1 1" for i in range(8)]
    for text in texts:
        library.add(programs(text))
        library.add(programs(text))  # once more is no further part
    assert len(library) == n_simple + 3
    values = evaluate(programs(*texts), X, rtol=None).value.to(torch.complex128)
    assert holds(library, values[-1])
    assert not holds(library, values[0])
    powers = torch.stack([X[:, 1] ** power for power in (-2, -1, -0.5, 0.5, 2, 3)]).to(torch.complex128)
    assert all(holds(library, power) for power in powers)


def test_constants_and_what_is_not_finite_are_no_parts() -> None:
    library, before = PartLibrary(X, 500), len(PartLibrary(X, 500))
    library.add(programs("w:2.0 eml 1 1", "w:1.0 eml w:900.0 x1 1", "c:3.0"))
    found = library.values[before:]
    assert bool(library.values.isfinite().all())
    assert not bool(((found - found[:, :1]).abs().amax(1) == 0).any())


def test_simple_parts_need_no_points_of_a_size() -> None:
    for scale in (1e-9, 1.0, 1e9):
        parts = simple_parts(scale * X)
        assert bool(evaluate(parts, scale * X, rtol=None).valid.all())
