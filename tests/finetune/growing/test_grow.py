"""Growing: a law that lacks one part gets it, wherever the part is missing."""

import pytest
import torch
from torch import Tensor

from emlinit.finetune.fitting.levenberg_marquardt import FitConfig, fit_constants
from emlinit.finetune.growing.grow import grow
from emlinit.finetune.growing.parts import PartLibrary
from emlinit.generator.evaluate import evaluate
from emlinit.generator.grammar import from_text, pad_sequences
from emlinit.generator.program import Programs, programs_from_tokens

X = torch.rand(80, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.5
A, B = X.T


def programs(*texts: str) -> Programs:
    return programs_from_tokens(*pad_sequences([from_text(text, 2) for text in texts]), 2)


def best_grown(base: str, y: Tensor, *others: str, n: int = 60) -> float:
    """Relative loss of the best that comes of a base, fitted, with the parts of some others at hand."""
    library = PartLibrary(X, 500)
    library.add(programs(*others) if others else programs("x1"))
    fitted = fit_constants(programs(base), X, y, config=FitConfig(steps=20)).programs
    grown = grow(fitted, library, y, n)
    assert grown is not None
    assert len(grown) <= n
    return float((fit_constants(grown, X, y, config=FitConfig(steps=15)).mse / y.var()).min())


def test_a_term_of_a_sum_is_added() -> None:
    y = 1.5 * A + 0.7 * (-3.0 * B).exp()
    assert best_grown("+ c:0.5 w:1.0 x1", y, "w:1.0 eml w:-2.5 x2 1") < 1e-20


def test_a_factor_is_multiplied_onto_a_term() -> None:
    y = 2.0 * A**1.5 * (3.0 * B).cos()
    assert best_grown("w:1.0 eml w:-1.0 eml 1 x1 1", y, "w:1.0 eml j:2.8 x2 1") < 1e-20


def test_a_factor_is_exchanged_for_another() -> None:
    y = 2.0 * (-1.5 * A).exp() * (5.0 * B).cos()
    assert best_grown("w:1.0 eml + w:-1.5 x1 w:0.3 x2 1", y, "w:1.0 eml j:5.1 x2 1") < 1e-20


def test_a_slot_that_is_opened_tells_its_part_exactly() -> None:
    """No constant is right but the exponent, and the part is none that is there: inversion finds its multiple."""
    y = 0.72 * A**-2 * (-3.9 * B.sqrt()).exp()
    assert best_grown("w:1.0 eml w:2.0 eml 1 x1 1", y, n=12) < 1e-20


def test_what_a_function_is_applied_to_grows() -> None:
    y = (1.0 + 0.8 * A + 2.0 * B**2).log()
    assert best_grown("+ c:1.0 w:-1.0 eml 1 + c:1.0 w:0.5 x1", y) < 1e-20


@pytest.mark.parametrize(
    "texts", [("x1",), ("w:1.0 x1", "+ c:1.0 w:2.0 eml w:0.3 x2 1", "w:1.0 eml + w:0.2 x1 j:2.0 x2 1")]
)
def test_it_is_the_same_in_any_company(texts: tuple[str, ...]) -> None:
    """Each base gives as many, the same ones as alone."""
    y = A + B.sin()
    library = PartLibrary(X, 300)
    together = grow(programs(*texts), library, y, 20 * len(texts))
    assert together is not None
    values = evaluate(together, X, rtol=None).value
    for text in texts:
        alone = grow(programs(text), library, y, 8)
        assert alone is not None
        for value in evaluate(alone, X, rtol=None).value:
            assert bool(((values - value).abs().amax(1) < 1e-9 * (1 + value.abs().max())).any())


def test_a_base_without_a_value_gives_nothing_that_is_not_finite() -> None:
    grown = grow(programs("w:1.0 eml w:900.0 x1 1", "w:1.0 x1"), PartLibrary(X, 300), A + B, 30)
    assert grown is not None
    assert bool(grown.weight.isfinite().all() & grown.bias.isfinite().all())
