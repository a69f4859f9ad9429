"""The named sizes have the numbers of parameters that they are named for, and heads of a width that fills an accelerator."""

import math

import pytest

from emlinit.model import EMLInitialiser, InitialiserConfig
from emlinit.model.blueprint import shapes_of
from emlinit.model.sizes import MODEL_SIZES, MOST_POINTS


@pytest.mark.parametrize(("name", "millions"), [("small", 3), ("base", 10), ("large", 30)])
def test_sizes_are_as_named(name: str, millions: int) -> None:
    config = MODEL_SIZES[name]
    shapes = shapes_of(lambda: EMLInitialiser(config))
    n = {
        part: sum(math.prod(shape) for key, shape in shapes.items() if key.startswith(part)) for part in ("", "encoder")
    }
    assert n[""] / 1e6 == pytest.approx(millions, rel=0.12)
    if name == "small":
        assert config == InitialiserConfig()  # of the shipped checkpoints
    else:
        assert config.d_model // config.n_heads == 64
        assert n["encoder"] > 2 * (n[""] - n["encoder"])


def test_every_size_says_its_points() -> None:
    assert MOST_POINTS.keys() == MODEL_SIZES.keys()
