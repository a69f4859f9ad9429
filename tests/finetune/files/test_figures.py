"""What the pictures show: their axes, the law, the formulas on the front."""

import itertools
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from emlinit.finetune.files.figures import save_fit, save_front
from emlinit.finetune.law.law import Law
from emlinit.finetune.law.standard_errors import law_errors
from emlinit.generator.grammar import from_text
from emlinit.generator.program import programs_from_tokens

DOSES = np.repeat([0.0, 0.1, 0.3, 1, 3, 10, 30, 100, 300], 3)[:, None]


def _law(text: str, names: tuple[str, ...]) -> Law:
    tokens, constants = from_text(text, len(names))
    program = programs_from_tokens(tokens[None], constants[None], len(names))
    return Law.from_program(program, names, simplify_seconds=0.0)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved."""
    figures: list[Figure] = []
    save = Figure.savefig

    def keep(figure: Figure, *arguments: Any, **named: Any) -> None:
        figures.append(figure)
        save(figure, *arguments, **named)

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


def test_doses_with_zeros_stand_apart_and_the_axis_says_how(tmp_path: Path, drawn: list[Figure]) -> None:
    law = _law("+ c:0.5 w:2.0 eml w:-0.01 x1 1", ("dose",))
    save_fit(tmp_path / "fit.png", law, DOSES, law.predict(DOSES), "response")
    above, below = drawn[0].axes
    assert (below.get_xscale(), above.get_yscale()) == ("symlog", "linear")
    assert below.get_xlabel() == "dose (linear below 0.1)"
    doses = np.unique(DOSES)
    places = below.transAxes.inverted().transform(below.transData.transform(np.column_stack([doses, 0 * doses])))[:, 0]
    assert places[0] > 0
    assert places[-1] < 1
    assert np.diff(places).min() > 0.05
    curve = next(line for line in above.lines if line.get_label() == "law").get_xdata()
    assert (min(curve), max(curve)) == pytest.approx((0.0, 300.0))
    assert len(matplotlib.image.imread(tmp_path / "fit.png")) > 400


def test_the_fit_names_the_law_with_its_signs_as_they_stand(tmp_path: Path, drawn: list[Figure]) -> None:
    law = _law("+ c:0.123456789012 + w:1.512345678 x1 w:-2e-07 x1", ("$mass $",))
    x = np.linspace(1, 2, 9)[:, None]
    save_fit(tmp_path / "fit.png", law, x, law.predict(x), "$y")
    title = drawn[0].get_suptitle()
    assert title.startswith("$y = ")
    assert law.short_formula in title.replace("\n", " ")


def test_axes_name_the_units_that_are_known(tmp_path: Path, drawn: list[Figure]) -> None:
    law = _law("w:1.5 x1", ("t",))
    x = np.linspace(1, 2, 9)[:, None]
    save_fit(tmp_path / "fit.png", law, x, law.predict(x), "U", {"t": "s", "U": "$mV"})
    above, below = drawn[0].axes
    assert (below.get_xlabel(), above.get_ylabel()) == ("t in s", "U in $mV")


def _noisy_line() -> tuple[Law, np.ndarray, np.ndarray]:
    law = _law("+ c:2.03 w:1.52 x1", ("t",))
    x = np.linspace(0, 10, 30)[:, None]
    return law, x, law.predict(x) + 0.5 * np.random.default_rng(0).normal(size=30)


def _band(axes: Axes, place: int) -> np.ndarray:
    """Height of a filled band, from its corners, at each of their places."""
    corners = np.asarray([c for c in axes.collections if isinstance(c, PolyCollection)][place].get_paths()[0].vertices)
    return np.array([[at, np.ptp(corners[corners[:, 0] == at, 1])] for at in np.unique(corners[:, 0])[1:-1]])


def test_the_bands_are_two_standard_errors_to_either_side(tmp_path: Path, drawn: list[Figure]) -> None:
    law, x, y = _noisy_line()
    errors = law_errors(law, x, y)
    save_fit(tmp_path / "fit.png", law, x, y, "y", errors=errors, inside=((1.0, 9.0),))
    for axes in drawn[0].axes:
        for place, spread in enumerate((errors.of_measurement, errors.of_value)):
            at, height = _band(axes, place).T
            np.testing.assert_allclose(height, 4 * spread(at[:, None]), rtol=1e-6)
        shaded = [(patch.get_x(), patch.get_width()) for patch in axes.patches if isinstance(patch, Rectangle)]
        assert shaded == [(0.0, 1.0), (9.0, 1.0)]
    labels = [text.get_text() for text in drawn[0].axes[0].get_legend().get_texts()]  # type: ignore[union-attr]
    assert labels == [
        "data",
        "law",
        "± 2 deviations of a new measurement",
        "± 2 standard errors of the law",
        "outer rows, once held out",
    ]


def test_known_deviations_are_error_bars_and_bands_do_not_flatten_the_data(tmp_path: Path, drawn: list[Figure]) -> None:
    law, x, y = _noisy_line()
    sigma = np.linspace(0.1, 1, 30)
    save_fit(tmp_path / "fit.png", law, x, y, "y", sigma=sigma, errors=law_errors(law, x, y, sigma=sigma))
    for axes in drawn[0].axes:
        (bars,) = [c for c in axes.collections if isinstance(c, LineCollection)]
        lengths = [np.ptp(np.asarray(segment)[:, 1]) for segment in bars.get_segments()]
        np.testing.assert_allclose(lengths, 2 * sigma)
        assert len([c for c in axes.collections if isinstance(c, PolyCollection)]) == 1  # no band of measurements
    plain_low, plain_high = drawn[0].axes[0].get_ylim()
    wild = law_errors(law, x, y, sigma=100 * sigma)
    save_fit(tmp_path / "fit.png", law, x, y, "y", errors=wild)
    low, high = drawn[1].axes[0].get_ylim()
    assert high - low < 2 * (plain_high - plain_low)


def test_several_variables_and_exact_laws_have_no_bands(tmp_path: Path, drawn: list[Figure]) -> None:
    law = _law("+ w:1.52 x1 w:0.73 x2", ("a", "b"))
    x = np.random.default_rng(0).uniform(0, 1, (30, 2))
    y = law.predict(x) + 0.1 * np.random.default_rng(1).normal(size=30)
    save_fit(tmp_path / "fit.png", law, x, y, "y", sigma=np.full(30, 0.1), errors=law_errors(law, x, y))
    line, x, _ = _noisy_line()
    save_fit(tmp_path / "fit.png", line, x, line.predict(x), "y", errors=law_errors(line, x, line.predict(x)))
    for figure in drawn:
        assert not any(isinstance(c, PolyCollection) for axes in figure.axes for c in axes.collections)


def test_a_logarithmic_axis_takes_a_band_where_it_is_positive(tmp_path: Path, drawn: list[Figure]) -> None:
    law = _law("w:1.52 eml w:1.81 eml x1 1 1", ("t",))
    x = np.linspace(0, 2, 40)[:, None]
    y = law.predict(x) * (1 + 0.1 * np.random.default_rng(0).normal(size=40))
    assert y.max() > 1e3 * y.min()
    save_fit(tmp_path / "fit.png", law, x, y, "y", errors=law_errors(law, x, y))
    above = drawn[0].axes[0]
    assert above.get_yscale() == "log"
    assert above.get_ylim()[0] > 0.1 * y.min()


def test_a_long_law_is_wrapped_and_fits_into_the_picture(tmp_path: Path, drawn: list[Figure]) -> None:
    terms = " ".join(f"+ w:{i}.23456 eml w:-0.{i} x1 1" for i in range(1, 30))
    law = _law(f"{terms} c:1.5", ("concentration",))
    x = np.linspace(1, 2, 9)[:, None]
    save_fit(tmp_path / "fit.png", law, x, law.predict(x), "response")
    figure = drawn[0]
    assert figure.get_suptitle().count("\n") == 3
    assert figure.get_suptitle().endswith(" ...")
    assert figure._suptitle is not None  # type: ignore[attr-defined]
    box = figure._suptitle.get_window_extent()  # type: ignore[attr-defined]
    assert 0 <= box.x0 < box.x1 <= figure.bbox.width
    assert box.y0 > figure.axes[0].get_window_extent().y1


def test_the_front_has_whole_numbers_and_formulas_that_do_not_lie_on_one_another(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    complexity = [1, 3, 4, 6, 7, 9, 11, 13, 17, 18, 21, 25]
    rmse = [10.0, 9.8, 9.7, 5.0, 4.9, 1.0, 0.9, 0.89, 0.1, 0.09, 0.088, 0.0]
    formulas = ["1.23", "$x$", *["0.123456*x*exp(-1.23*t) + 3.4567*sin(2.3*x + 1)"] * 10]
    save_front(tmp_path / "front.png", complexity, rmse, 8, formulas)
    (axes,) = drawn[0].axes
    drawn[0].canvas.draw()  # at the resolution that extents are asked for in
    texts = [text for text in axes.texts if text.get_text()]
    assert len(texts) == 12
    assert max(len(text.get_text()) for text in texts) == 40
    assert "$x$" in [text.get_text() for text in texts]
    boxes = [Text.get_window_extent(text) for text in texts]  # without the lines to the points
    for one, other in itertools.combinations(boxes, 2):
        assert not one.shrunk(0.95, 0.9).overlaps(other)
    assert max(box.x1 for box in boxes) <= drawn[0].bbox.width
    ticks = axes.get_xticks()
    assert (ticks == ticks.round()).all()


def test_a_front_of_one_law_is_drawn(tmp_path: Path, drawn: list[Figure]) -> None:
    save_front(tmp_path / "front.png", [3], [0.0], 0, ["2*x"])
    ticks = drawn[0].axes[0].get_xticks()
    assert (ticks == ticks.round()).all()
