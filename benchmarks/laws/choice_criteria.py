"""The rules that could choose among fitted forms of law, as nats: less is better.

Each is told the same of every form, its residuals and its constants, and the study adds the price of the form's nodes.
With n points, k constants, the residuals' sum of squares R, the spread s of the targets (their standard deviation):

    before         n/2 ln(R/n) + max((k+1)/2 ln n + k ln(s/rmse), (k+1) n/(n - k - 2)), the rule of the solver up to now
    AICc           n/2 ln(R/n) + (k+1) n/(n - k - 2)                        Hurvich & Tsai 1989
    BIC            n/2 ln(R/n) + (k+1)/2 ln n                               Schwarz 1978
    NML            (n-k)/2 ln R + k/2 ln S - lnΓ((n-k)/2) - lnΓ(k/2)        Rissanen 2000, S = Σ y² - R
    unit prior     -(n-1-p)/2 ln(1+n) + (n-1)/2 ln(1 + n (1-R²))            Zellner 1986, p = k - 1, g = n
    hyper-g        the same, integrated over g with density (1+g)^(-3/2)/2  Liang et al. 2008, a = 3
    Laplace        n/2 ln R + ½ ln det(1 + w² JᵀJ/σ²), σ² = R/(n-k)         J by the logarithms of the constants, each of
                                                                            them normal with deviation w a priori
    leave-one-out  n/2 ln(PRESS/n)                                          Allen 1974
    solver         `description_length` as it is

Legend: f form.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import gammaln, logsumexp

from emlinit.finetune.fitting.prices import description_length, rounding_floor

_LOG_WIDTH = 3.0  # of a constant, a priori: a factor of twenty
_G = np.linspace(-8.0, 45.0, 400)  # ln g, on which the hyper-g prior is summed


@dataclass(frozen=True, eq=False)
class FittedForms:
    """What is known of all forms, fitted to one table."""

    y: np.ndarray
    """The targets, of shape (p,)."""
    squares: np.ndarray
    """Sums of the squared residuals, of shape (f,); infinite where a form could not be fitted."""
    leave_one_out: np.ndarray
    """Sums of the squared errors at points left out, of shape (f,)."""
    information: np.ndarray
    """Eigenvalues of JᵀJ, J by the logarithms of the constants, of shape (f, k), filled with zeros."""
    constants: np.ndarray
    """Fitted constants, int64 of shape (f,)."""

    @property
    def scale(self) -> float:
        """Root mean square of the targets."""
        return float(np.sqrt(np.mean(self.y**2)))

    @property
    def bounded(self) -> np.ndarray:
        """`squares`, at least rounding."""
        return np.asarray(self.squares + len(self.y) * rounding_floor(self.scale))


def _before(forms: FittedForms) -> np.ndarray:
    n, k = len(forms.y), forms.constants
    rmse = np.sqrt(forms.bounded / n)
    precise = 0.5 * np.log(n) * (k + 1) + k * np.log(np.maximum(forms.y.std() / rmse, 1.0))
    return np.asarray(n * np.log(rmse) + np.maximum(precise, _corrected(n, k)))


def _corrected(n: int, k: np.ndarray) -> np.ndarray:
    spare = n - k - 2
    return np.where(spare > 0, (k + 1) * n / np.maximum(spare, 1), np.inf)


def _aicc(forms: FittedForms) -> np.ndarray:
    n = len(forms.y)
    return np.asarray(0.5 * n * np.log(forms.bounded) + _corrected(n, forms.constants))


def _bic(forms: FittedForms) -> np.ndarray:
    n = len(forms.y)
    return np.asarray(0.5 * n * np.log(forms.bounded) + 0.5 * np.log(n) * (forms.constants + 1))


def _nml(forms: FittedForms) -> np.ndarray:
    n, k, squares = len(forms.y), forms.constants, forms.bounded
    explained = np.maximum(np.sum(forms.y**2) - squares, 1e-300)
    half = 0.5 * (n - k)
    return np.asarray(half * np.log(squares) + 0.5 * k * np.log(explained) - gammaln(half) - gammaln(0.5 * k))


def _unexplained(forms: FittedForms) -> np.ndarray:
    return np.asarray(np.minimum(forms.bounded / (len(forms.y) * forms.y.var()), 1.0))


def _unit_prior(forms: FittedForms) -> np.ndarray:
    n, p = len(forms.y), np.maximum(forms.constants - 1, 0)
    return np.asarray(-0.5 * (n - 1 - p) * np.log1p(n) + 0.5 * (n - 1) * np.log1p(n * _unexplained(forms)))


def _hyper_g(forms: FittedForms) -> np.ndarray:
    n, p = len(forms.y), np.maximum(forms.constants - 1, 0)
    of_g = np.log1p(np.exp(_G))
    each = (
        0.5 * (n - 1 - p[:, None]) * of_g
        - 0.5 * (n - 1) * np.log1p(np.exp(_G) * _unexplained(forms)[:, None])
        - 1.5 * of_g
        + _G
    )
    return np.where(p > 0, -logsumexp(each, axis=1) - np.log(0.5 * (_G[1] - _G[0])), 0.0)


def _laplace(forms: FittedForms) -> np.ndarray:
    n, k = len(forms.y), forms.constants
    variance = forms.bounded / np.maximum(n - k, 1)
    known = np.log1p(_LOG_WIDTH**2 * forms.information / variance[:, None]).sum(-1)
    return np.asarray(0.5 * n * np.log(forms.bounded) + 0.5 * known)


def _leave_one_out(forms: FittedForms) -> np.ndarray:
    n = len(forms.y)
    return np.asarray(0.5 * n * np.log(forms.leave_one_out + n * rounding_floor(forms.scale)))


def _solver(forms: FittedForms) -> np.ndarray:
    return description_length(
        torch.from_numpy(forms.squares / len(forms.y)),
        torch.zeros(len(forms.squares), dtype=torch.float64),
        torch.from_numpy(forms.constants),
        len(forms.y),
        forms.scale,
        spread=float(forms.y.std()),
    ).numpy()


CHOICE_CRITERIA: Mapping[str, Callable[[FittedForms], np.ndarray]] = {
    "before": _before,
    "AICc": _aicc,
    "BIC": _bic,
    "NML": _nml,
    "unit prior": _unit_prior,
    "hyper-g": _hyper_g,
    "Laplace": _laplace,
    "leave-one-out": _leave_one_out,
    "solver": _solver,
}
"""By name: nats of each form, of shape (f,), but for its nodes."""
