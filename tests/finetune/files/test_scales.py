"""Which numbers get a logarithmic axis, and where they stand on it."""

import numpy as np
import pytest

from emlinit.finetune.files.scales import Scale

DOSES = np.repeat([0.1, 0.3, 1, 3, 10, 30, 100, 300], 3)


@pytest.mark.parametrize(
    ("numbers", "scale"),
    [
        (DOSES, Scale(True)),
        (np.append(DOSES, [0.0, 0.0]), Scale(True, 0.1)),
        (np.append(np.geomspace(0.1, 300, 30), [1e-9]), Scale(True, 0.1)),  # a small value takes no decades
        (10 ** np.random.default_rng(0).uniform(-6, 6, 500), Scale(True)),
        (np.linspace(0.001, 100, 200), Scale()),  # a wide ratio, but spaced evenly
        (np.linspace(0, 100, 200), Scale()),
        (np.append(DOSES, [-1.0]), Scale()),
        (np.array([1.0, 1e6]), Scale()),
        (np.array([0.387, 0.723, 1.0, 1.52, 5.2, 9.58, 19.2, 30.1]), Scale()),
        (np.array([5.0]), Scale()),
    ],
)
def test_what_spans_decades_is_drawn_on_a_logarithmic_axis(numbers: np.ndarray, scale: Scale) -> None:
    assert Scale.of(numbers) == scale


@pytest.mark.parametrize("scale", [Scale(), Scale(True), Scale(True, 2.0)])
def test_spread_points_stand_equally_far_apart_and_reach_both_ends(scale: Scale) -> None:
    low = 0.0 if scale.linear_below else 0.5
    points = scale.spread(low, 200.0, 80)
    assert points[0] == low
    assert points[-1] == pytest.approx(200.0)
    steps = np.diff(scale.place(points))
    assert (steps > 0).all()
    if not scale.linear_below:
        assert np.ptp(steps) < 1e-12 * 200


def test_places_are_decades_but_for_the_linear_part() -> None:
    scale = Scale(True, 0.1)
    np.testing.assert_allclose(scale.place(np.array([0.0, 0.05, 0.1, 1.0, 100.0])), [-0.5, -0.25, 0.0, 1.0, 3.0])
    assert np.isnan(scale.place(np.array([-1.0])))


def test_a_target_is_stretched_only_if_it_cannot_be_seen_otherwise() -> None:
    periods = np.array([88, 225, 365, 687, 4333, 10759, 30685, 60189.0])
    assert Scale.of(periods) == Scale(True)
    assert Scale.of_target(periods) == Scale()
    assert Scale.of_target(10 ** np.random.default_rng(0).uniform(-6, 6, 500)) == Scale(True)
