"""What lies beside the weights of a checkpoint and is published with them: the card and the picture of the held-out loss.

A checkpoint may come from anybody, and what is published goes to everybody. So a link that leads out of the checkpoint's
folder is refused, a picture has to be one, from its first byte to its last, and the metadata of a card have to be such as
the Hub takes. The cache of the Hub's client is made of links, from a commit's folder to the blobs of the same repository:
these are followed.
"""

import io
import re
import zlib
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard
from matplotlib import image

from emlinit.generator.errors import UserError
from emlinit.generator.foreign import kind_of_path, read_bounded, reason, shown

MOST_CARD_BYTES = 1 << 20
"""Longest card that is read."""
MOST_PICTURE_BYTES = 8 << 20
"""Largest file of a picture."""
MOST_PIXELS = 1 << 24
"""Most pixels of a picture."""
_MOST_METADATA = 1 << 16
_PNG = b"\x89PNG\r\n\x1a\n"
_METADATA = re.compile(r"\s*---[ \t]*\r?\n(.*?)\r?\n---", re.DOTALL)
_ALIAS = re.compile(r"(?:^|[\s\[{,:?-])[&*][^\s*]", re.MULTILINE)  # of YAML: a few of them stand for gigabytes


def file_of_checkpoint(folder: Path, name: str) -> Path | None:
    """A file of a checkpoint's folder that may be published; None if there is none.

    Raises:
        UserError: it is something else than a file, or a link that leads out of the folder.
    """
    path = folder / name
    kind = kind_of_path(path)
    if kind == "missing" and not path.is_symlink():
        return None
    if kind != "file":
        raise UserError(f"'{path}' is no file: remove it, or put a file in its place")
    home = folder.resolve()
    allowed = {home}
    if home.parent.name == "snapshots" and home.parent.parent.name.startswith("models--"):
        allowed.add(home.parent.parent / "blobs")
    target = path.resolve()
    if target.parent not in allowed:
        raise UserError(
            f"'{path}' is a link out of the checkpoint, to '{target}': put a copy in its place to publish it"
        )
    return path


def read_card(path: Path) -> str:
    """The text of a card.

    Raises:
        UserError: it cannot be read, is too long, or is no text.
    """
    try:
        return read_bounded(path, MOST_CARD_BYTES).decode("utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise UserError(f"'{path}' cannot be published ({reason(problem)}): mend or remove it") from problem


def read_picture(path: Path) -> bytes:
    """The bytes of a picture.

    Raises:
        UserError: it cannot be read, is too large, or is no PNG.
    """
    try:
        data = read_bounded(path, MOST_PICTURE_BYTES)
        _check_png(data)
    except (OSError, ValueError) as problem:
        raise UserError(f"'{path}' cannot be published ({reason(problem)}): mend or remove it") from problem
    return data


def parse_card(text: str, name: str) -> ModelCard:
    """A card with its metadata.

    Args:
        text: the whole card.
        name: what to call it in messages.

    Raises:
        UserError: the metadata are not YAML, or not such as the Hub takes.
    """
    try:
        found = _METADATA.match(text)
        if found is not None and len(found[1]) > _MOST_METADATA:
            raise ValueError("they are too long")
        if found is not None and _ALIAS.search(found[1]):
            raise ValueError(
                "they have an anchor or alias, & or *: write values out, or put them in quotes after a letter"
            )
        card = ModelCard(text)
        _check_fields(card)
        str(card)
    except Exception as problem:  # what the parsers of the Hub's client raise
        raise UserError(
            f"the metadata at the top of '{name}' are not in order ({reason(problem)}): correct them"
        ) from problem
    return card


def _check_fields(card: ModelCard) -> None:
    fields: dict[Any, Any] = vars(card.data)
    for name in fields:
        if not isinstance(name, str) or hasattr(type(card.data), name):
            raise ValueError(f"{shown(name)} cannot be the name of a field")
    for name in ("license", "library_name", "pipeline_tag"):
        if not isinstance(fields.get(name), str | None):
            raise ValueError(f"{name} should be text, not {shown(fields[name])}")
    tags = fields.get("tags")
    if not (tags is None or (isinstance(tags, list) and all(isinstance(tag, str) for tag in tags))):
        raise ValueError(f"tags should be a list of texts, not {shown(tags)}")


def _check_png(data: bytes) -> None:
    """Chunks from the first byte to the last, then the pixels.

    Raises:
        ValueError: it is no PNG.
    """
    if not data.startswith(_PNG):
        raise ValueError("it is no PNG picture")
    place = len(_PNG)
    kinds: list[bytes] = []
    while place < len(data) and (not kinds or kinds[-1] != b"IEND"):
        length = int.from_bytes(data[place : place + 4])
        kind, content = data[place + 4 : place + 8], data[place + 8 : place + 8 + length]
        checksum = data[place + 8 + length : place + 12 + length]
        if len(checksum) != 4 or int.from_bytes(checksum) != zlib.crc32(kind + content):
            raise ValueError("it is a damaged PNG picture")
        if not kinds:
            width, height = int.from_bytes(content[:4]), int.from_bytes(content[4:8])
            if kind != b"IHDR" or not 0 < width * height <= MOST_PIXELS:
                raise ValueError(f"it is a PNG picture of {width} x {height} pixels")
        kinds.append(kind)
        place += 12 + length
    if not kinds or kinds[-1] != b"IEND" or place != len(data):
        raise ValueError("it is a PNG picture with something missing or added at its end")
    try:
        image.imread(io.BytesIO(data), format="png")
    except Exception as problem:  # what the decoder raises
        raise ValueError(f"it is a damaged PNG picture: {reason(problem)}") from problem
