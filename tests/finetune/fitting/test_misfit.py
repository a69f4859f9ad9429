"""How residuals count: weights, known errors, robust losses."""

import numpy as np
import pytest
import torch
from scipy.optimize import least_squares, linprog

from emlinit.finetune.fitting.levenberg_marquardt import FitConfig, fit_constants
from emlinit.finetune.fitting.misfit import Misfit, robust_scale, robust_weights
from emlinit.generator.grammar import from_text
from emlinit.generator.program import Programs, programs_from_tokens

ROBUST = ("huber", "l1")


def _program(text: str) -> Programs:
    tokens, constants = from_text(text)
    return programs_from_tokens(tokens[None], constants[None], 1)


def _all(e: torch.Tensor) -> torch.Tensor:
    return torch.ones_like(e, dtype=torch.bool)


def _line_with_outliers() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    x = np.linspace(1, 20, 24)
    y = 3.2 + 1.75 * x + 0.3 * rng.standard_normal(24)
    y[[5, 17]] += [14.0, -11.0]
    return x, y


def test_the_robust_scale_is_the_standard_deviation_of_normal_errors_whatever_a_tenth_of_them_is() -> None:
    e = 3.0 * torch.randn(4, 20_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(robust_scale(e, _all(e)), torch.full((4,), 3.0, dtype=torch.float64), atol=0.1, rtol=0.0)
    far = {}
    for size in (1e2, 1e9):
        e[:, :2000] = size
        far[size] = robust_scale(e, _all(e))
        assert bool((far[size] < 3.7).all())
    torch.testing.assert_close(far[1e2], far[1e9])


def test_the_robust_scale_grows_with_the_residuals_and_leaves_out_what_is_not_valid() -> None:
    e = torch.randn(3, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    valid = _all(e)
    valid[:, 30:] = False
    torch.testing.assert_close(robust_scale(1e-6 * e, valid), 1e-6 * robust_scale(e[:, :30], _all(e)[:, :30]))
    mostly_zero = torch.cat([torch.zeros(1, 9, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)], 1)
    assert float(robust_scale(mostly_zero, _all(mostly_zero))) < 1e-12


@pytest.mark.parametrize("loss", ROBUST)
def test_the_weights_of_a_robust_loss_are_its_slope(loss: str) -> None:
    generator = torch.Generator().manual_seed(2)
    e = torch.randn(30, dtype=torch.float64, generator=generator)
    e[:3] *= 40
    step = 1e-6 * torch.randn(30, dtype=torch.float64, generator=generator)
    before, up, down = (robust_weights(one, _all(e), loss) for one in (e, e + step, e - step))
    expected = (2 * before.weights * e * step).mean()
    assert float((up.objective - down.objective) / 2) == pytest.approx(float(expected), rel=1e-3)


def test_huber_is_scipys_with_the_scale_that_is_found() -> None:
    x, y = _line_with_outliers()
    fit = fit_constants(
        _program("+ c:0.0 w:1.0 x1"),
        torch.from_numpy(x)[:, None],
        torch.from_numpy(y),
        loss="huber",
        config=FitConfig(steps=60),
    )
    scale = float(fit.mse.sqrt())
    expected = least_squares(lambda c: (y - c[0] - c[1] * x) / scale, [3.0, 1.7], loss="huber", f_scale=1.345).x
    found = [float(fit.programs.bias[0, -1, 0]), float(fit.programs.weight[0, -1, 0, 0])]
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert 0.15 < scale < 0.5


def test_l1_is_nearly_the_least_sum_of_sizes() -> None:
    x, y = _line_with_outliers()
    fit = fit_constants(
        _program("+ c:0.0 w:1.0 x1"),
        torch.from_numpy(x)[:, None],
        torch.from_numpy(y),
        loss="l1",
        config=FitConfig(steps=200),
    )
    design = np.column_stack([np.ones(24), x])
    both = np.hstack([np.vstack([design, -design]), np.vstack([-np.eye(24), -np.eye(24)])])
    best = linprog(
        [0, 0, *np.ones(24)], both, np.concatenate([y, -y]), bounds=[(None, None)] * 2 + [(0, None)] * 24
    ).fun
    a, b = float(fit.programs.bias[0, -1, 0]), float(fit.programs.weight[0, -1, 0, 0])
    assert np.abs(y - a - b * x).sum() <= 1.002 * best


@pytest.mark.parametrize("loss", ROBUST)
def test_a_law_that_is_not_linear_is_fitted_past_its_outliers(loss: str) -> None:
    x = torch.linspace(0.5, 6.0, 30, dtype=torch.float64)
    y = 5.0 * torch.exp(-0.4 * x)
    y = y + 0.01 * torch.randn(30, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y[[4, 20]] += torch.tensor([3.0, -2.0], dtype=torch.float64)
    start = _program("w:1.0 eml w:-1.0 x1 1")
    fit = fit_constants(start, x[:, None], y, loss=loss, config=FitConfig(steps=60))
    rate = float(fit.programs.weight[0, 0, 0, 0])
    assert rate == pytest.approx(-0.4, abs=0.01)
    assert float(fit.mse.sqrt()) < 0.02


@pytest.mark.parametrize("loss", ROBUST)
def test_least_squares_with_the_fixed_weights_stays_where_the_robust_fit_is(loss: str) -> None:
    x, y = (torch.from_numpy(column) for column in _line_with_outliers())
    fit = fit_constants(_program("+ c:0.0 w:1.0 x1"), x[:, None], y, loss=loss, config=FitConfig(steps=200))
    residual = y - fit.programs.bias[0, -1, 0] - fit.programs.weight[0, -1, 0, 0] * x
    weights = Misfit(loss).fixed_weights(residual)
    assert weights is not None
    again = fit_constants(fit.programs, x[:, None], y, weights=weights)
    torch.testing.assert_close(again.programs.bias, fit.programs.bias, rtol=1e-3, atol=0.0)
    assert float(weights.mean()) == pytest.approx(1.0)


def test_a_weight_of_two_is_the_row_twice() -> None:
    y, r = torch.tensor([1.0, 2.0, 5.0]).double(), torch.tensor([0.1, -0.2, 0.4]).double()
    weighted = Misfit("squares", torch.tensor([1.0, 2.0, 1.0]).double())
    twice = torch.tensor([0, 1, 1, 2])
    torch.testing.assert_close(weighted.mse(r), Misfit().mse(r[twice]))
    assert weighted.variance(y) == pytest.approx(Misfit().variance(y[twice]))


def test_nothing_is_gained_by_fitting_better_than_the_errors_allow() -> None:
    misfit = Misfit("squares", None, 0.5)
    mse = torch.tensor([1e-12, 0.0025, 0.24, 0.25, 1.0], dtype=torch.float64)
    described = misfit.described(mse)
    torch.testing.assert_close(described[3:], mse[3:])
    assert 0.5 * 100 * float((described[2] / described[0]).log()) < 50  # of 100 rows: half a nat each, and no more
    assert bool((described[1:] > described[:-1]).all())
    torch.testing.assert_close(Misfit().described(mse), mse)


def test_rows_far_off_are_not_sound() -> None:
    e = torch.randn(40, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).clamp(-2, 2)
    e[[3, 8]] = torch.tensor([30.0, -50.0], dtype=torch.float64)
    assert (~Misfit("huber").sound(e)).nonzero()[:, 0].tolist() == [3, 8]
    assert bool(Misfit().sound(e).all())
