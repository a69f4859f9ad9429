"""Only files of the checkpoint itself are published, a picture is a picture, and metadata are such as the Hub takes."""

import os
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from emlinit.checkpoints import BUILTIN_DIR
from emlinit.generator.errors import UserError
from emlinit.model.publishing.beside import (
    MOST_CARD_BYTES,
    MOST_PICTURE_BYTES,
    file_of_checkpoint,
    parse_card,
    read_card,
    read_picture,
)

PICTURE = (BUILTIN_DIR / "exact" / "held_out_loss.png").read_bytes()


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _wide(pixels: int) -> bytes:
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", pixels, pixels, 8, 0, 0, 0, 0))
    return PICTURE[:8] + head + _chunk(b"IDAT", zlib.compress(b"")) + _chunk(b"IEND", b"")


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (tmp_path / "secret").write_text("mine")
    (folder / "own").write_text("own")
    (folder / "README.md").symlink_to(tmp_path / "secret")
    (folder / "inside").symlink_to("own")
    (folder / "broken").symlink_to("nothing")
    (folder / "circle").symlink_to("circle")
    os.mkfifo(folder / "pipe")
    assert file_of_checkpoint(folder, "none") is None
    assert file_of_checkpoint(folder, "own") == folder / "own"
    assert file_of_checkpoint(folder, "inside") == folder / "inside"
    with pytest.raises(UserError, match=r"README.md' is a link out of the checkpoint, to '.*secret': put a copy"):
        file_of_checkpoint(folder, "README.md")
    for name in ("broken", "pipe"):
        with pytest.raises(UserError, match="is no file: remove it"):
            file_of_checkpoint(folder, name)
    with pytest.raises(UserError, match="cannot be looked at"):
        file_of_checkpoint(folder, "circle")


def test_links_of_a_commit_in_the_cache_lead_to_blobs_of_its_repository(tmp_path: Path) -> None:
    repository = tmp_path / "models--owner--name"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    for blob in (repository / "blobs" / "1", tmp_path / "models--other--name" / "blobs" / "1"):
        blob.parent.mkdir(parents=True)
        blob.write_text("content")
    (snapshot / "right").symlink_to("../../blobs/1")
    (snapshot / "wrong").symlink_to("../../../models--other--name/blobs/1")
    assert file_of_checkpoint(snapshot, "right") == snapshot / "right"
    with pytest.raises(UserError, match="is a link out of the checkpoint"):
        file_of_checkpoint(snapshot, "wrong")


def test_the_shipped_picture_is_one(tmp_path: Path) -> None:
    (tmp_path / "curve.png").write_bytes(PICTURE)
    assert read_picture(tmp_path / "curve.png") == PICTURE


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "it is no PNG picture"),
        (b"GIF89a" + PICTURE, "it is no PNG picture"),
        (PICTURE[:8], "something missing or added"),
        (PICTURE[:-1], "it is a damaged PNG picture"),
        (PICTURE[:-12], "something missing or added"),
        (PICTURE + b"secret", "something missing or added"),
        (PICTURE[:100] + bytes([PICTURE[100] ^ 1]) + PICTURE[101:], "it is a damaged PNG picture"),
        (_wide(10), "it is a damaged PNG picture"),
        (_wide(0), "of 0 x 0 pixels"),
        (_wide(100_000), "of 100000 x 100000 pixels"),
        (PICTURE[:8] + _chunk(b"IEND", b""), "of 0 x 0 pixels"),
        (b" " * (MOST_PICTURE_BYTES + 1), "larger than 8,388,608 bytes"),
    ],
)
def test_what_is_no_picture_is_not_published(data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "curve.png").write_bytes(data)
    with pytest.raises(UserError, match=message) as refused:
        read_picture(tmp_path / "curve.png")
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize("data", [b"\xff\xfe", b" " * (MOST_CARD_BYTES + 1)])
def test_what_is_no_text_is_no_card(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_bytes(data)
    with pytest.raises(UserError, match=r"README.md' cannot be published \(.*\): mend or remove it"):
        read_card(tmp_path / "README.md")


def _bomb() -> str:
    levels = "\n".join(f"a{k + 1}: &a{k + 1} [{', '.join([f'*a{k}'] * 9)}]" for k in range(9))
    return f"a0: &a0 [x]\n{levels}\ntags: *a9"


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (_bomb(), "an anchor or alias"),
        ("license: &a mit", "an anchor or alias"),
        ("license: [", "are not in order"),
        ("[" * 5000, "are not in order"),
        ("a: " + "x" * 70_000, "they are too long"),
        ("- a list", "should be a dict"),
        ("license: 3", "license should be text, not 3"),
        ("license: [mit]", r"license should be text, not \['mit'\]"),
        ("tags: 3", "are not in order"),
        ("tags: [1, 2]", r"tags should be a list of texts, not \[1, 2\]"),
        ("to_dict: 3", "'to_dict' cannot be the name of a field"),
        ("get: 3", "'get' cannot be the name of a field"),
        ("2024: x", "are not in order"),
        (f"year: {'9' * 5000}", "are not in order"),
        ("model-index: 3", "are not in order"),
        ("model-index: [{name: x, results: [3]}]", "are not in order"),
        ("eval_results: 3", "are not in order"),
        ("x: !!python/object/apply:os.getcwd []", "are not in order"),
    ],
)
def test_odd_metadata_are_one_line(metadata: str, message: str) -> None:
    began = time.monotonic()
    with pytest.raises(UserError, match=message) as refused:
        parse_card(f"---\n{metadata}\n---\n\n# Card\n", "README.md")
    assert len(str(refused.value).splitlines()) == 1
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "make",
    [lambda: "# no metadata\n", lambda: "---\nlicense: mit\nauthors: R&D, AT & T\nmath: 2 * 3\n---\n\ntext & *more*\n"],
)
def test_usual_cards_are_read(make: Callable[[], str]) -> None:
    assert str(parse_card(make(), "README.md")).strip().endswith(make().strip().splitlines()[-1])
