"""Several peaks on a background are found together, on any units, and nothing is made of what has none."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from emlinit.finetune.fitting.levenberg_marquardt import FitConfig, fit_constants
from emlinit.finetune.law.law import Law
from emlinit.finetune.search.peaks import propose_peaks

X = torch.linspace(0.0, 10.0, 200, dtype=torch.float64)


def _bell(middle: float, width: float) -> Tensor:
    return (-0.5 * ((X - middle) / width).square()).exp()


def _line(middle: float, width: float) -> Tensor:
    return 1 / (1 + ((X - middle) / width).square())


SPECTRA: dict[str, Callable[[], Tensor]] = {
    "two apart": lambda: 4 * _bell(3, 0.5) + 2 * _bell(7, 0.8) + 0.3,
    "two near, on a slope": lambda: 4 * _bell(4, 0.5) + 2 * _bell(5.1, 0.4) + 0.3 * X + 1,
    "two Lorentzians": lambda: 4 * _line(3, 0.5) + 2 * _line(4, 0.3) + 0.5,
    "a dip beside a peak": lambda: 3 * _bell(2.7, 0.6) - 2 * _bell(6.3, 0.4) + 1,
    "three": lambda: 3 * _bell(2, 0.3) + 4 * _bell(4, 0.5) + 2 * _bell(5.1, 0.4) + 1,
    "four": lambda: 3 * _bell(2, 0.3) + 4 * _bell(4, 0.5) + 2 * _bell(5.1, 0.4) + _bell(8, 0.9) + 1 - 0.1 * X,
}


def _error(x: Tensor, y: Tensor) -> float:
    programs = propose_peaks(x[:, None], y)
    assert programs is not None
    fit = fit_constants(programs, x[:, None], y, config=FitConfig(steps=60))
    return math.sqrt(float(fit.mse[fit.valid_share > 0.97].min())) / float(y.std(correction=0))


@pytest.mark.parametrize("name", SPECTRA)
def test_peaks_are_found_together(name: str) -> None:
    y = SPECTRA[name]()
    assert _error(X, y) < 1e-8
    assert _error(1e3 * (X - 2), 1e-5 * y) < 1e-8


@pytest.mark.parametrize("place", [30.0, 656.3])
def test_narrow_peaks_far_from_zero_can_be_read(place: float) -> None:
    """exp of the exponent's constant, multiplied out, would be 0 in double precision."""
    x = torch.linspace(place - 10, place + 10, 200, dtype=torch.float64)
    y = (
        3.1 * (-0.5 * ((x - place + 3) / 0.4).square()).exp()
        + 2 * (-0.5 * ((x - place - 2) / 0.6).square()).exp()
        + 1.7
    )
    programs = propose_peaks(x[:, None], y)
    assert programs is not None
    fit = fit_constants(programs, x[:, None], y, config=FitConfig(steps=60))
    best = int(torch.where(fit.valid_share > 0.97, fit.mse, torch.inf).argmin())
    law = Law.from_program(fit.programs[best], ["x"], x[:, None].numpy())
    assert law.is_real
    assert float(abs(law.predict(x[:, None].numpy()) - y.numpy()).max()) < 1e-8


def test_what_has_no_peaks() -> None:
    several = torch.stack([X, X.flip(0)], 1)
    assert propose_peaks(several, SPECTRA["three"]()) is None
    assert propose_peaks(torch.ones_like(X)[:, None], SPECTRA["three"]()) is None
    for n in range(3, 8):
        assert propose_peaks(X[:n, None], SPECTRA["three"]()[:n]) is None
    few = torch.arange(200, dtype=torch.float64).remainder(6)
    assert propose_peaks(few[:, None], SPECTRA["three"]()) is None
    assert propose_peaks(1e-170 * X[:, None], SPECTRA["three"]()) is None  # widths whose squares are 0
