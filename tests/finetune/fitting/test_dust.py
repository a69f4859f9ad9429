"""Terms that nobody could see go, with the law as good as before; others stay."""

import pytest
import torch

from emlinit.finetune.fitting.dust import drop_dust
from emlinit.finetune.fitting.levenberg_marquardt import FitConfig, fit_constants
from emlinit.generator.grammar import from_text, pad_sequences
from emlinit.generator.program import Programs, programs_from_tokens

CONFIG = FitConfig(steps=3)
X = torch.linspace(0.5, 4.0, 60, dtype=torch.float64)[:, None]


def _programs(*texts: str) -> Programs:
    tokens, constants = pad_sequences([from_text(text, 1) for text in texts])
    return programs_from_tokens(tokens, constants, 1)


def _n_terms(programs: Programs) -> list[int]:
    return programs.used_terms()[:, -1].sum(-1).tolist()


def test_dust_goes_and_the_law_stays() -> None:
    y = 2.0 * X[:, 0]
    dusty = "+ w:2.0 x1 w:-6.3e-14 eml w:2.0 x1 1"  # 2 x - 6.3e-14 exp(2 x): at most 2e-10
    plain, visible = "w:2.0 x1", "+ w:2.0 x1 w:1e-6 eml w:2.0 x1 1"
    cleaned = drop_dust(_programs(dusty, plain, visible), X, y, config=CONFIG)
    assert _n_terms(cleaned) == [1, 1, 2]
    assert int(cleaned.n_nodes[0]) == 0  # nothing reads the exponential any more
    assert float(cleaned.weight[0, -1].abs().max()) == pytest.approx(2.0, rel=1e-12)


def test_a_constant_may_be_dust() -> None:
    y = 2.0 * X[:, 0]
    cleaned = drop_dust(_programs("+ c:1e-13 w:2.0 x1"), X, y, config=CONFIG)
    assert float(cleaned.bias[0, -1, 0]) == 0.0
    assert int(cleaned.n_free()[0]) == 1


def test_a_term_that_the_data_need_is_no_dust() -> None:
    """Its contribution is small, but the error without it is far larger: y is known to the last bit."""
    y = 2.0 * X[:, 0] + 9e-10 * torch.cos(9 * X[:, 0])
    needed = fit_constants(_programs("+ w:2.0 x1 w:9e-10 eml j:9.0 x1 1"), X, y).programs
    assert _n_terms(drop_dust(needed, X, y, config=CONFIG)) == [2]


def test_not_everything_goes() -> None:
    y = torch.cos(X[:, 0])
    tiny = _programs("w:1e-14 x1")
    assert _n_terms(drop_dust(tiny, X, y, config=CONFIG)) == [1]
    assert len(drop_dust(tiny, X, torch.ones(60, dtype=torch.float64), config=CONFIG)) == 1
