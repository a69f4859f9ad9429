"""What a user may choose fits what there is, and is known without loading torch."""

import math
import subprocess
import sys
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from emlinit.finetune.options import (
    GRAMMAR_CHOICES,
    checked_choice,
    checked_complexity,
    checked_names,
    checked_seconds,
    checked_seed,
    in_one_line,
)
from emlinit.generator.errors import UserError
from emlinit.generator.grammar import GRAMMARS


def test_every_grammar_can_be_asked_for() -> None:
    assert ("auto", *GRAMMARS) == GRAMMAR_CHOICES


def test_options_do_not_wait_for_torch() -> None:
    code = "import sys, emlinit.finetune.options; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("value", [5, 0.5, np.float32(0.5), np.int64(3), Fraction(1, 2), 1e9])
def test_any_real_number_is_a_time(value: Any) -> None:
    assert checked_seconds(value) == float(value)
    assert type(checked_seconds(value)) is float


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("5", "seconds must be a number, got '5'"),
        (None, "seconds must be a number, got None"),
        (True, "seconds must be a number, got True"),
        (1j, "seconds must be a number, got 1j"),
        ([5], r"seconds must be a number, got \[5\]"),
        (np.arange(999), r"seconds must be a number, got array\(\[ 0, 1, 2, .{30,45}\.\.\.$"),
        (0, "seconds must be positive, got 0"),
        (-0.5, "seconds must be positive, got -0.5"),
        (math.nan, "seconds must be positive, got nan"),
        (math.inf, r"seconds must be at most 1e\+09, got inf"),
    ],
)
def test_what_is_no_time_is_refused(value: Any, message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}"):
        checked_seconds(value)


@pytest.mark.parametrize("value", [0, 7, 2**63 - 1, np.int8(3), np.uint64(5)])
def test_any_whole_number_is_a_seed(value: Any) -> None:
    assert checked_seed(value) == int(value)
    assert type(checked_seed(value)) is int


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (-1, r"seed must be from 0 to 2\^63 - 1, got -1"),
        (2**63, r"seed must be from 0 to 2\^63 - 1, got 9223372036854775808"),
        (2**64, r"seed must be from 0 to 2\^63 - 1, got 18446744073709551616"),
        (1.5, "seed must be a whole number, got 1.5"),
        ("x", "seed must be a whole number, got 'x'"),
        (None, "seed must be a whole number, got None"),
        (False, "seed must be a whole number, got False"),
    ],
)
def test_what_is_no_seed_is_refused(value: Any, message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}$"):
        checked_seed(value)


@pytest.mark.parametrize("value", [None, 3, ["exact"], np.array(["exact", "auto"]), "Exact", ""])
def test_what_is_no_choice_is_refused(value: Any) -> None:
    assert checked_choice("exact", "grammar", GRAMMAR_CHOICES) == "exact"
    with pytest.raises(UserError, match=r"^unknown grammar .*: use one of auto, exact, weighted$"):
        checked_choice(value, "grammar", GRAMMAR_CHOICES)


def test_names_are_texts_one_a_column() -> None:
    assert checked_names(None, 2) == ("x1", "x2")
    assert checked_names(np.array(["a", "b"]), 2) == ("a", "b")
    assert checked_names(["", "\n"], 2) == ("", "\n")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("ab", "names must be a list of texts, one a column: got 'ab'"),
        (["a", 1], "names must be a list of texts, one a column: got 1"),
        (["a", None], "names must be a list of texts, one a column: got None"),
        (["a"], r"names must be a list of 2 texts, one a column: got \['a'\]"),
        (5, "names must be a list of 2 texts, one a column: got 5"),
        (["a", "a"], "names must be all different: 'a' is there twice"),
    ],
)
def test_wrong_names_are_refused(value: Any, message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}$"):
        checked_names(value, 2)


def test_numbers_of_thousands_of_digits_are_not_printed() -> None:
    with pytest.raises(UserError, match=r"^seconds must be at most 1e\+09, got an int that is too long to print$"):
        checked_seconds(10**5000)
    with pytest.raises(UserError, match=r"^seed must be from 0 to 2\^63 - 1, got an int that is too long to print$"):
        checked_seed(-(10**5000))


def test_what_is_shown_is_one_short_line() -> None:
    assert in_one_line("a\nb") == r"'a\nb'"
    assert len(in_one_line("x" * 1000)) == 60
    assert "\n" not in in_one_line(np.ones((20, 20)))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0, "max_complexity must be at least 1, got 0"),
        (2.5, r"max_complexity must be a whole number, got 2\.5"),
        ("30", "max_complexity must be a whole number, got '30'"),
        (True, "max_complexity must be a whole number, got True"),
    ],
)
def test_a_largest_complexity_is_a_whole_number_of_nodes(value: Any, message: str) -> None:
    assert checked_complexity(np.int64(12)) == 12
    with pytest.raises(UserError, match=message):
        checked_complexity(value)
