"""Known shapes are fitted from their grids of starts, whatever the constants, units and offsets."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from emlinit.finetune.fitting.levenberg_marquardt import FitConfig, fit_constants
from emlinit.finetune.search.shape_table import SHAPES
from emlinit.finetune.search.shapes import centres, propose_shapes
from emlinit.generator.evaluate import evaluate

CURVES: dict[str, Callable[[Tensor], Tensor]] = {
    "exponential": lambda t: 3.1 * (-0.83 * t).exp() + 0.4,
    "power": lambda t: 2.2 * t**1.37 + 5,
    "damped oscillation": lambda t: 2.3 * (-0.35 * t).exp() * (4.1 * t + 0.6).sin() + 1.1,
    "logistic": lambda t: 1.2 + 5 / (1 + (-(t - 4) / 0.8).exp()),
    "saturation": lambda t: 6.1 * t / (t + 2.7) + 0.8,
    "Hill": lambda t: 4 + 93 / (1 + (t / 5.3) ** 1.7),
    "Planck": lambda t: 2.7 * t**3 / (1.3 * t).expm1(),
    "Gaussian": lambda t: 0.7 + 4 * (-0.5 * ((t - 3.3) / 0.9).square()).exp(),
    "Lorentzian": lambda t: 2 - 1.5 / (1 + ((t - 6.1) / 0.7).square()),
    "stretched exponential": lambda t: 1 - (-((t / 3.7) ** 1.8)).exp(),
    "Gompertz": lambda t: 8 * (-(-0.9 * (t - 3)).exp()).exp(),
    "gamma curve": lambda t: 5 * t**1.3 * (-0.9 * t).exp(),
    "lognormal": lambda t: 6 * (-0.5 * ((t.log() - 1.1) / 0.45).square()).exp(),
    "power of a shifted variable": lambda t: 3 * (t + 1.7) ** 0.62 - 2,
    "Morse": lambda t: 4 * (1 - (-1.1 * (t - 2.1)).exp()).square() - 4,
    "Arrhenius": lambda t: 7 * (-3.1 / t).exp() + 1,
    "exponential of a shifted reciprocal": lambda t: 20 * (-9.0 / (t + 2.3)).exp(),
    "arctangent": lambda t: 2 * ((t - 4.4) / 0.6).atan() + 3,
    "kink": lambda t: 1.5 * t + 2 * (t - 4.3).abs() + 1,
    "symmetric kink": lambda t: 2 * (t - 4.3).abs() + 1,
    "jump": lambda t: torch.where(t > 5.2, 4.0, 1.0).double(),
}


def _error(x: Tensor, y: Tensor) -> float:
    """Least relative error of any shape, its constants fitted."""
    programs = propose_shapes(x, y)
    assert programs is not None
    fit = fit_constants(programs, x, y, config=FitConfig(steps=60))
    mse = torch.where(fit.valid_share > 0.97, fit.mse, torch.inf)
    return math.sqrt(float(mse.min())) / float(y.std(correction=0))


def test_every_shape_is_tried_here() -> None:
    assert [shape.name for shape in SHAPES] == list(CURVES)


@pytest.mark.parametrize("name", CURVES)
def test_a_shape_is_found_whatever_its_units(name: str) -> None:
    t = torch.linspace(0.3, 10.1, 90, dtype=torch.float64)
    y = CURVES[name](t)
    assert _error(t[:, None], y) < 1e-8
    assert _error(1e-3 * t[:, None], 1e4 * y) < 1e-8


@pytest.mark.parametrize("name", [shape.name for shape in SHAPES if shape.on_line])
def test_a_shape_is_found_on_a_slope(name: str) -> None:
    t = torch.linspace(0.3, 10.1, 90, dtype=torch.float64)
    assert _error(t[:, None], CURVES[name](t) + 0.2 * t) < 1e-8


@pytest.mark.parametrize("place", [0.9, 4.37, 8.61])
def test_a_narrow_peak_is_found_wherever_it_is(place: float) -> None:
    """Its width is a fiftieth of the range: a start beside it sees nothing of it."""
    t = torch.linspace(0.3, 10.1, 90, dtype=torch.float64)
    assert _error(t[:, None], 0.3 + 4 * (-0.5 * ((t - place) / 0.2).square()).exp()) < 1e-8
    assert _error(t[:, None], 0.3 - 4 / (1 + ((t - place) / 0.2).square())) < 1e-8


@pytest.mark.parametrize("name", ["logistic", "Gaussian", "damped oscillation", "kink"])
def test_a_large_offset_does_not_matter(name: str) -> None:
    t = torch.linspace(0.3, 10.1, 90, dtype=torch.float64)
    year = t[:, None] + 1990
    assert _error(year - centres(year), CURVES[name](t)) < 1e-8
    assert centres(torch.cat([year, t[:, None]], 1)).tolist() == pytest.approx([1995.2, 0.0])


def test_no_value_is_the_middle() -> None:
    year = torch.arange(1950.0, 2021.0, dtype=torch.float64)[:, None]
    assert bool((year != centres(year)).all())
    assert float(centres(year)) == pytest.approx(1985, abs=0.2)


def test_each_program_is_the_start_it_stands_for() -> None:
    t = torch.linspace(0.3, 10.1, 60, dtype=torch.float64)
    y = CURVES["logistic"](t)
    for shape in SHAPES:
        programs = propose_shapes(t[:, None], y, starts=1, shapes=[shape])
        assert programs is not None, shape.name
        value = evaluate(programs[:1], t[:, None], rtol=None)
        good = value.valid[0]
        assert good.double().mean() > 0.9, shape.name
        # Least squares: the residual of the start is at right angles to it, and the start is no worse than the mean.
        residual = (value.value[0] - y)[good]
        constant = shape.with_constant
        assert float(residual.square().mean()) <= float((y.var() if constant else y.square().mean()) * 1.01), shape.name


def test_two_variables_may_be_a_power_law_or_the_smaller_one() -> None:
    x = 1 + torch.rand(60, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert _error(x, -2.5 * x[:, 0] ** 1.31 / x[:, 1] ** 0.77) < 1e-8
    assert _error(x, torch.minimum(x[:, 0], x[:, 1])) < 1e-8
    assert _error(x, 3 * torch.maximum(x[:, 0], x[:, 1]) + 1) < 1e-8


def test_powers_that_make_a_shape_are_no_constants() -> None:
    """A noisy kink is |t - 4.3| and not its power 1.002; so the 2 and the 1/2 of sqrt(u²) are no longer free."""
    t = torch.linspace(0.3, 10.1, 90, dtype=torch.float64)
    y = CURVES["symmetric kink"](t) + 0.1 * torch.randn(
        90, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    [shape] = [shape for shape in SHAPES if shape.name == "symmetric kink"]
    programs = propose_shapes(t[:, None], y, shapes=[shape])
    assert programs is not None
    assert set(programs.n_free().tolist()) == {2, 3}  # with and without a constant


def test_columns_of_few_levels_and_constant_ones_have_no_shape() -> None:
    y = torch.arange(30, dtype=torch.float64)
    flag = (y > 11).double()[:, None]
    assert propose_shapes(flag, y) is None
    assert propose_shapes(torch.ones(30, 1, dtype=torch.float64), y) is None
    both = propose_shapes(torch.cat([flag, y[:, None] + 1], 1), y)
    assert both is not None
    reads_flag = (both.source == 1) & (both.weight != 0).any(-1)
    assert not bool(reads_flag.any())


def test_few_points_are_no_error() -> None:
    for n in range(3, 8):
        t = torch.linspace(1, 2, n, dtype=torch.float64)
        programs = propose_shapes(t[:, None], t.square())
        assert programs is None or len(programs) > 0
