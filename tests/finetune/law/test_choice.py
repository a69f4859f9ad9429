"""The choice among laws: the exact one ends the front, noise is not fitted, and nothing absurd is shown beside the law."""

from dataclasses import replace

import numpy as np
import pytest

from emlinit.finetune.law.choice import choose, description_lengths, rivals
from emlinit.finetune.law.finding import Finding
from emlinit.finetune.law.law import Law
from emlinit.generator.grammar import from_text
from emlinit.generator.program import programs_from_tokens

X = np.linspace(0.5, 4.0, 60)[:, None]
ROWS = np.arange(60)
SIGNAL = 2.37 * X[:, 0]


def law(text: str) -> Law:
    tokens, constants = from_text(text, 1)
    return Law.from_program(programs_from_tokens(tokens[None], constants[None], 1), ["x"], X)


def beside(law: Law, y: np.ndarray) -> Finding:
    return Finding.of(law, X, y, grammar="weighted")


def with_wiggles(share: float, *frequencies: float) -> Law:
    """2.37 x and waves: each frequency makes the law longer."""
    waves = "".join(f"+ w:{share!r} eml j:{frequency!r} x1 1 " for frequency in frequencies)
    return law(f"{waves}w:2.37 x1")


def test_numbers_equal_but_for_their_sign_are_one_constant() -> None:
    saturation = law("+ c:238.9 w:-238.9 eml w:-0.55 x1 1")
    assert saturation.formula == "238.9 - 238.9*exp(-0.55*x)"
    assert beside(saturation, SIGNAL).n_fitted == 2
    assert beside(law("w:2.0 x1"), SIGNAL).n_fitted == 0


def test_laws_that_are_nearly_as_likely_are_told_of_once_a_form() -> None:
    y = SIGNAL + 0.3 * np.random.default_rng(2).standard_normal(60)
    line, near, same, far = (
        beside(law(text), y) for text in ("w:2.37 x1", "+ c:0.02 w:2.36 x1", "+ c:0.03 w:2.355 x1", "c:5.3")
    )
    findings = [line, near, same, far]
    front, chosen = choose(findings, ROWS, ROWS)
    assert chosen is line
    lengths = description_lengths(findings)
    assert lengths[1] - lengths[0] > 3.0  # a constant that does nothing is dear
    assert rivals(findings, front, chosen) == []
    # Nearly as likely as the line, for what the network says of it: told of, and only in one of its spellings.
    line, other = replace(line, told_nats=20.0), replace(near, told_nats=0.0)
    lengths = description_lengths([line, other])
    other = replace(other, told_nats=2 * (1.0 - (lengths[1] - lengths[0])))  # half of what is told counts
    again = replace(other, law=same.law)
    assert rivals([line, other, again, far], [line], line) == [other]
    assert rivals([line, other, again, far], [line, other], line) == []
    assert rivals([beside(law("w:2.37 x1"), SIGNAL)], [], beside(law("w:2.37 x1"), SIGNAL)) == []


def test_an_exact_law_ends_the_front() -> None:
    laws = [law("c:5.3"), law("w:2.37 x1"), with_wiggles(1e-14, 3.1)]
    front, chosen = choose([beside(law, SIGNAL) for law in laws], ROWS[:40], ROWS[40:])
    assert chosen.is_exact
    assert [entry.law for entry in front] == laws[:2]
    assert chosen is front[-1]


def test_a_long_series_is_not_an_exact_law() -> None:
    """Eleven fitted terms are a decay to 1e-10 or so; the decay itself is exact at the same error."""
    y = 2.5 * np.exp(-0.7 * X[:, 0]) + 0.3
    coefficients = np.polynomial.polynomial.polyfit(X[:, 0], y, 10)
    # x**k = exp(-k (e - ln x)) exp(k e): the factor exp(k e) belongs to the coefficient.
    powers = "".join(
        f"+ w:{float(a * np.exp(k * np.e))!r} eml w:-{k}.0 eml 1 x1 1 " for k, a in enumerate(coefficients) if k > 1
    )
    series = law(f"{powers}+ c:{float(coefficients[0])!r} w:{float(coefficients[1])!r} x1")
    decay = law("+ c:0.3 w:2.5 eml w:-0.7 x1 1")
    long = beside(series, y)
    assert long.errors().relative < 1e-9
    assert long.n_fitted == 11
    assert not long.is_exact
    assert beside(decay, y + 1e-10 * np.cos(20 * X[:, 0])).is_exact


def test_beyond_the_chosen_law_the_front_shows_little() -> None:
    rng = np.random.default_rng(0)
    # Ever longer laws that fit a little more of the noise, as a search finds them.
    frequencies = [3.1, 5.3, 7.7, 11.9, 13.3, 17.1]
    waves = np.cos(X * frequencies)
    noise = rng.standard_normal(60)
    noise -= waves @ np.linalg.lstsq(waves, noise, rcond=None)[0]
    y = SIGNAL + 0.1 * noise + 0.01 * waves.sum(-1)
    laws = [law("c:5.3"), law("w:2.37 x1"), *(with_wiggles(0.01, *frequencies[: k + 1]) for k in range(6))]
    front, chosen = choose([beside(law, y) for law in laws], ROWS[:40], ROWS[40:])
    assert chosen.law is laws[1]
    assert [entry.law for entry in front] == laws[:3]  # one wave more is shown, two are too long


def test_what_is_too_long_is_chosen_only_if_there_is_nothing_else() -> None:
    """However good it is: the best short law stands."""
    y = SIGNAL + np.cos(3.1 * X[:, 0]) + np.cos(5.3 * X[:, 0])
    short, long = law("w:2.37 x1"), with_wiggles(1.0, 3.1, 5.3)
    findings = [beside(law, y) for law in (short, long)]
    assert choose(findings, ROWS[:40], ROWS[40:])[1].law is long
    front, chosen = choose(findings, ROWS[:40], ROWS[40:], max_complexity=10)
    assert chosen.law is short
    assert [entry.law for entry in front] == [short]
    assert choose(findings[1:], ROWS[:40], ROWS[40:], max_complexity=10)[1].law is long


def test_a_shape_with_a_name_is_not_dearer_for_its_symbols() -> None:
    """A saturation and an exponential that fit alike: the first has two constants, the other three, and both eight nodes."""
    y = 5.4 * X[:, 0] / (X[:, 0] + 0.44)
    noise = 0.1 * np.random.default_rng(1).standard_normal(60)
    saturation = law("w:5.4 eml eml 1 + c:1.0 w:0.44 eml w:-1.0 eml 1 x1 1 1")
    exponential = law("+ c:4.9 w:-4.4 eml w:-2.0 x1 1")
    found = [beside(one, y + noise) for one in (saturation, exponential)]
    assert [finding.complexity for finding in found] != [finding.description_nodes for finding in found]
    assert found[1].description_nodes == 6


@pytest.mark.parametrize("offset", [0.0, 50.0, -5000.0])
def test_the_choice_does_not_depend_on_where_y_lies(offset: float) -> None:
    """Eight points of a decay on a large constant: what it explains is counted against the spread of y."""
    x = np.linspace(0, 0.9, 8)[:, None]
    y = offset + 2.2 * np.exp(-2.6 * x[:, 0]) + 0.05 * np.array([1, -1, -1, 1, 1, -1, 1, -1])

    def law_of(text: str) -> Finding:
        tokens, constants = from_text(text, 1)
        return Finding.of(
            Law.from_program(programs_from_tokens(tokens[None], constants[None], 1), ["x"], x), x, y, grammar="weighted"
        )

    decay = law_of(f"+ c:{offset + 0.01} w:2.2 eml w:-2.6 x1 1")
    constant = law_of(f"c:{float(y.mean())}")
    assert choose([constant, decay], np.arange(8), np.arange(8))[1] is decay


def test_copies_of_rows_are_no_further_evidence() -> None:
    """Twenty points of a line, rounded, each three times: a wave that fits the rounding pays for sixty, not for twenty."""
    x = np.repeat(np.linspace(0.5, 4.0, 20), 3)[:, None]
    line, wave = law("w:2.37 x1"), with_wiggles(0.001, 3.1, 5.3)
    wiggles = wave.predict(x) - line.predict(x)
    y = line.predict(x) + wiggles + 0.0006 * np.cos(40 * x[:, 0])
    findings = [Finding.of(one, x, y, grammar="weighted") for one in (line, wave)]
    rows = np.arange(60)
    assert choose(findings, rows, rows)[1].law is wave
    assert choose(findings, rows, rows, n_points=20)[1].law is line
    # Held out are copies of rows that were fitted: that a law holds there says nothing for it.
    assert choose(findings, rows[::3], rows[1::3], n_points=20, n_unseen=0)[1].law is line
