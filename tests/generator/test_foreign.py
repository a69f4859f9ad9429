"""What comes from outside is read without waiting, up to a limit, and JSON means one thing."""

import os
from pathlib import Path

import pytest

from emlinit.generator.errors import UserError
from emlinit.generator.foreign import MOST_NESTING, kind_of_path, parse_json, read_bounded, shown


def test_kinds_of_paths(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "circle").symlink_to("circle")
    kinds = {"file": "file", "": "folder", "pipe": "other", "none": "missing", "file/below": "missing"}
    assert {name: kind_of_path(tmp_path / name) for name in kinds} == kinds
    for name in ("circle", "x" * 300, "nul\0"):
        with pytest.raises(UserError, match="cannot be looked at") as refused:
            kind_of_path(tmp_path / name)
        assert len(str(refused.value).splitlines()) == 1


def test_files_are_read_up_to_a_limit_and_pipes_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    os.mkfifo(tmp_path / "pipe")
    assert read_bounded(tmp_path / "file", 5) == b"12345"
    with pytest.raises(OSError, match="larger than 4 bytes"):
        read_bounded(tmp_path / "file", 4)
    for place in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(OSError, match="not a regular file"):
            read_bounded(place, 10)


def test_usual_json_is_read() -> None:
    deep = "[" * (MOST_NESTING - 1) + "1" + "]" * (MOST_NESTING - 1)
    assert parse_json(b'{"a": [1, -2.5, null, true, "\xc3\xbc"], "b": {"a": 9223372036854775807}}') == {
        "a": [1, -2.5, None, True, "ü"],
        "b": {"a": 2**63 - 1},
    }
    assert str(parse_json(deep)) == deep


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Expecting value"),
        (b"\xff", "can't decode"),
        ('{"a": 1, "a": 2}', "'a' is there twice"),
        ("NaN", "NaN is not finite"),
        ("-1e999", "-1e999 is not finite"),
        (str(2**63), "beyond 64 bits"),
        ("9" * 5000, "beyond 64 bits"),
        ('"\\ud800"', "surrogates"),
        ('{"\\ud800": 1}', "surrogates"),
        ("[" * 100_000, "nested too deeply"),
        ("[" * 65 + "1" + "]" * 65, "nested too deeply"),
    ],
)
def test_odd_json_is_refused(text: str | bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        parse_json(text)
    assert len(str(refused.value).splitlines()) == 1


def test_values_in_messages_are_short_and_one_line() -> None:
    assert shown("a\nb") == "'a\\nb'"
    assert len(shown("x" * 10_000)) < 120
