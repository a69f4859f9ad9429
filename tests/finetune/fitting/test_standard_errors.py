"""Standard errors: they match the textbook in the linear case and the scatter of repeated fits in the other."""

import torch

from emlinit.finetune.fitting.levenberg_marquardt import fit_constants
from emlinit.finetune.fitting.standard_errors import standard_errors
from emlinit.generator.grammar import from_text
from emlinit.generator.program import Programs, programs_from_tokens


def program(text: str) -> Programs:
    tokens, constants = from_text(text, 1)
    return programs_from_tokens(tokens[None], constants[None], 1)


def test_straight_line_matches_the_closed_form() -> None:
    x = torch.linspace(0.0, 1.0, 30, dtype=torch.float64)
    y = 2.0 * x + 1.0 + 0.1 * torch.randn(30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    fit = fit_constants(program("+ c:0.0 w:1.0 x1"), x[:, None], y)
    weight_error, bias_error = standard_errors(fit.programs, x[:, None], y)
    variance = fit.mse[0] * 30 / 28
    spread = (x - x.mean()).square().sum()
    torch.testing.assert_close(weight_error[0, -1, 0, 0], (variance / spread).sqrt())
    torch.testing.assert_close(bias_error[0, -1, 0], (variance * (1 / 30 + x.mean() ** 2 / spread)).sqrt())


def test_errors_match_the_scatter_of_repeated_fits() -> None:
    x = torch.linspace(0.0, 4.0, 50, dtype=torch.float64)
    noise = 0.02 * torch.randn(400, 50, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y = 2.5 * torch.exp(-0.7 * x) + 0.3 + noise
    starts = program("+ c:0.3 w:2.5 eml w:-0.7 x1 1")[torch.zeros(400, dtype=torch.int64)]
    fit = fit_constants(starts, x[:, None], y)
    weight_error, bias_error = standard_errors(fit.programs, x[:, None], y)
    for fitted, error in ((fit.programs.weight, weight_error), (fit.programs.bias, bias_error)):
        used = error[0] > 0
        assert used.any()
        ratio = error.mean(0)[used] / fitted.std(0)[used]
        assert ((ratio > 0.85) & (ratio < 1.15)).all()


def test_undetermined_constants_have_infinite_errors_and_fixed_ones_none() -> None:
    x = torch.linspace(0.0, 4.0, 50, dtype=torch.float64)[:, None]
    both = program("w:1.0 eml + c:0.5 w:-0.7 x1 1")  # c and the readout's w trade off, the rate does not
    weight_error, bias_error = standard_errors(both, x, x[:, 0])
    assert bias_error[0, 0, 0] == torch.inf
    assert weight_error[0, -1, 0, 0] == torch.inf
    assert 0 < weight_error[0, 0, 0, 0] < torch.inf
    exact_weight, exact_bias = standard_errors(program("eml x1 1"), x, x[:, 0])
    assert not exact_weight.any()
    assert not exact_bias.any()
