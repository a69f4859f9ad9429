"""What a caller says of the errors of y."""

import numpy as np
import pytest

from emlinit.finetune.weights import misfit_of, row_weights
from emlinit.generator.errors import UserError


def test_weights_are_one_over_the_squared_errors() -> None:
    weights, sigma = row_weights(3, sigma=[0.1, 0.2, 0.4])
    assert weights is not None
    assert sigma is not None
    np.testing.assert_allclose(weights / weights[0], [1, 1 / 4, 1 / 16])
    misfit = misfit_of("squares", weights, sigma)
    assert misfit.weights is not None
    assert misfit.sigma is not None
    assert float(misfit.weights.mean()) == pytest.approx(1.0)
    np.testing.assert_allclose(misfit.sigma / np.sqrt(misfit.weights.numpy()), sigma)  # the error of a row of weight w


def test_one_error_for_all_rows_weighs_none_but_is_known() -> None:
    misfit = misfit_of("huber", *row_weights(4, sigma=0.02))
    assert misfit.weights is None
    assert misfit.sigma == pytest.approx(0.02)
    assert misfit_of("squares", *row_weights(4)).is_plain
    assert row_weights(3, sample_weight=np.array([0, 1, 2]))[1] is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sigma": [0.1, 0.0, 0.2]}, "sigma must be positive, and is 0 in row 2"),
        ({"sigma": -1.0}, "sigma must be positive, and is -1 in row 1"),
        ({"sigma": [0.1, 0.2]}, "sigma must be one number, or 3, one a row"),
        ({"sigma": "5%"}, "sigma must be one number, or 3, one a row: got '5%'"),
        ({"sigma": [0.1, np.nan, 0.2]}, "sigma holds NaN or an infinite number in row 2"),
        ({"sigma": [1e-12, 1.0, 1.0]}, "sigma spans from 1e-12 to 1"),
        ({"sample_weight": [1.0, -1.0, 1.0]}, "sample_weight must not be negative, and is -1 in row 2"),
        ({"sample_weight": [0, 0, 0]}, "sample_weight is zero in all rows"),
        ({"sample_weight": [1.0, 1.0, 1.0], "sigma": 0.1}, "give sigma or sample_weight, not both"),
    ],
)
def test_bad_errors_are_refused_in_one_line(given: dict[str, object], message: str) -> None:
    with pytest.raises(UserError) as error:
        row_weights(3, **given)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
