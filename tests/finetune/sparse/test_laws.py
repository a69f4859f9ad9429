"""Sparse sums end to end: laws of no suite are found from their values, and awkward data neither break nor mislead it."""

import math
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from emlinit.finetune.fitting.levenberg_marquardt import FitConfig, fit_constants
from emlinit.finetune.sparse.laws import SparseConfig, propose_sparse
from emlinit.generator.evaluate import evaluate

QUICK = SparseConfig()
QUICK = replace(
    QUICK,
    monomials=replace(QUICK.monomials, terms=3, beam=6, tried=16, paired_states=2),
    simple=replace(QUICK.simple, terms=2, beam=4, tried=12, paired_states=1),
    tuned=replace(QUICK.tuned, terms=2),
    tuned_pairs=replace(QUICK.tuned_pairs, terms=2, beam=4, paired_states=1, function_pairs=20),
    long=replace(QUICK.long, terms=4, beam=6, tried=16),
)
"""For data of which it only matters that something comes out."""


def _points(n_variables: int, n: int = 120, low: float = 0.4) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return low + 3.0 * torch.rand(n, n_variables, generator=generator, dtype=torch.float64)


def _error(x: Tensor, y: Tensor, config: SparseConfig | None = None) -> float:
    """Least root mean squared error of any program, relative to the deviation of y, once its constants are fitted."""
    best = math.inf
    for programs in propose_sparse(x, y, config):
        fit = fit_constants(programs, x, y, config=FitConfig(steps=10))
        fitted = torch.where(fit.valid_share > 0.97, fit.mse, torch.inf)
        best = min(best, float(fitted.min()) ** 0.5 / float(y.std(correction=0)))
        if best < 1e-12:
            break
    return best


def _noise(n: int) -> Tensor:
    return torch.rand(n, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


LAWS: dict[str, tuple[int, Callable[..., Tensor]]] = {
    "2 x1 exp(-0.3 x2) + 1": (2, lambda a, b: 2 * a * (-0.3 * b).exp() + 1),
    "x1/(1 + 2 x2)": (2, lambda a, b: a / (1 + 2 * b)),
    "sqrt(x1^2 + x2^2)": (2, lambda a, b: (a**2 + b**2).sqrt()),
    "exp(-x1^2/3)/x2": (2, lambda a, b: (-(a**2) / 3).exp() / b),
    "ln(x1 + 2 x2)": (2, lambda a, b: (a + 2 * b).log()),
    "5 x1/(2.3 + x1) - x2": (2, lambda a, b: 5 * a / (2.3 + a) - b),
    "x1 x2/(x1 + 3 x2)": (2, lambda a, b: a * b / (a + 3 * b)),
    "cos(2.37 x1) + 0.4 x2": (2, lambda a, b: (2.37 * a).cos() + 0.4 * b),
    "-1.5 x1^3 x2^-2": (2, lambda a, b: -1.5 * a**3 / b**2),
    "(x1 + 0.2 x1 x3)^2": (3, lambda a, b, c: (a + 0.2 * a * c) ** 2),
    "3 exp(-1.7 x1) + 1.2 exp(-0.17 x1)": (1, lambda a: 3 * (-1.7 * a).exp() + 1.2 * (-0.17 * a).exp()),
    "2 exp(-0.8 x1) + 1.7 ln(x2 + 0.4) + 0.3": (2, lambda a, b: 2 * (-0.8 * a).exp() + 1.7 * (b + 0.4).log() + 0.3),
    "exp(3 - 2.5/(x1 + 5.3))": (1, lambda a: (3 - 2.5 / (a + 5.3)).exp()),
    "4/x1^12 - 4/x1^6": (1, lambda a: 4 / a**12 - 4 / a**6),
    "3 exp(-1.2 x1) + 0.2": (1, lambda a: 3 * (-1.2 * a).exp() + 0.2),
}


@pytest.mark.parametrize("name", list(LAWS))
def test_a_law_is_found(name: str) -> None:
    n_variables, law = LAWS[name]
    x = _points(n_variables)
    assert _error(x, law(*x.unbind(1))) < 1e-11


def test_two_oscillations_are_two_nodes_with_a_frequency_each() -> None:
    t = torch.linspace(0.1, 10, 100, dtype=torch.float64)
    y = 3 * (2.2 * t + 1).sin() - 1.2 * (0.7 * t + 0.3).sin() + 0.1
    exact = []
    for programs in propose_sparse(t[:, None], y):
        fit = fit_constants(programs, t[:, None], y, config=FitConfig(steps=10))
        exact += [
            (int(nodes), int(free))
            for nodes, free in zip(programs.n_nodes[fit.mse < 1e-20], programs.n_free()[fit.mse < 1e-20], strict=True)
        ]
        if exact:
            break
    assert min(exact) == (2, 7)  # two amplitudes, frequencies and phases, and the constant


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_the_unit_of_the_target_does_not_matter(scale: float) -> None:
    x = _points(2)
    y = scale * (x[:, 0] / (1 + 2 * x[:, 1]) + x[:, 0] ** 2)
    assert _error(x, y) < 1e-12
    assert _error(x, scale * _noise(len(x)), QUICK) > 0.1  # nothing passes for exact


def test_points_of_either_sign() -> None:
    x = _points(2, low=-1.5)
    assert _error(x, 2 * x[:, 0] ** 3 - 0.7 * x[:, 0] * x[:, 1] + 1) < 1e-12


def test_columns_that_are_constant_or_hold_zeros() -> None:
    x = _points(3)
    x[:, 1] = 2.0
    x[:3, 2] = 0.0  # where a power of it is no eml expression
    assert _error(x, x[:, 0] * (1 + x[:, 2] ** 2)) < 1e-12
    x[:, 0] = 0.0
    assert _error(x, 3 * x[:, 2] ** 2 + x[:, 2]) < 1e-12


def test_a_law_of_few_points_is_found_and_noise_is_none() -> None:
    x = _points(2, 12)
    assert _error(x, 2 * x[:, 0] / x[:, 1]) < 1e-12
    x = _points(2, 30)
    assert _error(x, _noise(30)) > 0.1


@pytest.mark.parametrize(
    "n",
    [
        3,
        6,
        12,
    ],
)
def test_few_points_are_proposed_something_but_not_interpolated(n: int) -> None:
    x, y = _points(2, n), _noise(n)
    found = list(propose_sparse(x, y, QUICK))
    assert found
    for programs in found:
        assert bool(evaluate(programs, x, rtol=None).valid.any())
    if n > 8:
        assert _error(x, y) > 1e-4


def test_nothing_is_proposed_after_the_deadline() -> None:
    x = _points(2)
    assert list(propose_sparse(x, x[:, 0] * x[:, 1], deadline=time.monotonic() - 1.0)) == []


def test_an_oscillation_of_many_periods_is_found() -> None:
    t = torch.linspace(0.0, 100.0, 1000, dtype=torch.float64)[:, None]
    t = t[torch.randperm(1000, generator=torch.Generator().manual_seed(0))]
    assert _error(t, 2 * (3.0 * t[:, 0] + 0.5).sin() + 1) < 1e-9
    assert _error(t, 0.02 * t[:, 0] + (2.3 * t[:, 0]).cos()) < 1e-9


def test_a_plane_wave_and_a_chirp_are_found() -> None:
    x = _points(2, 300)
    assert _error(x, x[:, 0] * (5.3 * x[:, 0] - 7.1 * x[:, 1] + 0.4).sin() + 1) < 1e-9
    t = _points(1, 300)
    assert _error(t, 2 * (3.7 * t[:, 0] + 4.2 * t[:, 0] ** 2).cos()) < 1e-9


def test_a_trend_under_noise_does_not_bend() -> None:
    generator = torch.Generator().manual_seed(0)
    t = 100 * torch.rand(150, generator=generator, dtype=torch.float64)
    noise = 0.02 * torch.randn(150, generator=generator, dtype=torch.float64)
    y = 0.02 * t + 1.3 * (1.232 * t).sin() + noise
    (programs,) = propose_sparse(t[:, None], y, replace(SparseConfig(), families=("tuned",)))
    lines = (programs.source[:, -1] == 1) & programs.used_terms()[:, -1]
    assert bool((lines.any(1) & (programs.n_nodes == 1)).any())  # a line and one oscillation


def test_only_the_first_points_are_pursued() -> None:
    x = _points(1, 60)
    y = x[:, 0] ** 2
    y[40:] = 0.0
    config = replace(QUICK, points=40)
    programs = next(propose_sparse(x, y, config))
    value = evaluate(programs, x[:40]).value
    assert float((value - y[:40]).abs().amax(1).min()) < 1e-11
