"""Odd checkpoints, as many as wanted: a tiny one, damaged or forged in one place, the hashes right where that is nastier.

for what, folder in odd_checkpoints(Path("build/odd"), seed=0, n=100):
    ...
"""

import hashlib
import json
import math
import os
import random
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from emlinit.model import EMLInitialiser, InitialiserConfig
from emlinit.model.weights.checkpoint import CONFIG_FILE, WEIGHTS_FILE, architecture_sha256

TINY = InitialiserConfig(
    d_model=8, n_heads=2, n_encoder_blocks=1, n_inducing=2, n_latents=2, n_decoder_layers=1, max_tokens=12
)
"""What all of them are made of."""
_ABOUT: dict[str, Any] = {
    "pretraining": {"out": "runs/x", "minutes": 4.0, "stream": {"grammar": "exact"}},
    "reached": {"step": 3, "examples": 48, "skipped": 0, "minutes": 0.5, "held_out_loss": 0.75},
    "corpus": {"version": 1},
    "stages_before": [{"reached": {"step": 1}, "sha256": "ab"}],
}
_VALUES = [
    *["null", "true", "false", "0", "1", "-1", "2", "3.5", "1e999", "-0.0", "NaN", "Infinity", "-Infinity"],
    *[str(2**31), str(2**62), str(2**63), str(-(2**63)), str(2**64), "9" * 5000, "1" + "0" * 400 + ".5"],
    *['""', '"2"', '"x\\u0000y"', '"\\ud800"', '"../../etc"', '"a\\nb"', f'"{"x" * 100_000}"'],
    *["[]", "{}", "[[[1]]]", '{"a": {"b": []}}', "[" * 100_000, "[" * 50 + "]" * 50, "[" * 500 + "]" * 500, "", "{"],
]
"""JSON, and what only looks like it, to put in the place of a value."""
_DTYPES = ["F64", "F16", "BF16", "I8", "U8", "BOOL", "I32", "I64", "F8_E4M3", "C64", "X", "", 3, None]
_SHAPES: list[Any] = [[], [0], [-1], [1], [2**62, 2**62], [2**63], "8", None, [None], [1.5], [True], [[8]]]


def odd_checkpoints(folder: Path, seed: int, n: int) -> Iterator[tuple[str, Path]]:
    """`n` odd checkpoints, each in a folder of its own below `folder`, with what is odd about it.

    The one that they are made of is in `folder/plain`; a folder is removed when the next one is asked for.
    """
    draw = random.Random(seed)
    model = EMLInitialiser(TINY, torch.Generator().manual_seed(seed))
    model.about = _ABOUT
    model.save(folder / "plain")
    for number in range(n):
        name, mutate = _KINDS[number % len(_KINDS)]
        place = folder / f"odd-{number}"
        shutil.copytree(folder / "plain", place)
        said = mutate(place, draw)
        yield f"{number}, {name}: {said[:100]}", place
        if place.is_symlink():
            place.unlink()
        else:
            shutil.rmtree(place)


# ---- the configuration ----


def _config(place: Path) -> dict[str, Any]:
    return json.loads((place / CONFIG_FILE).read_text())  # type: ignore[no-any-return]


def _sign(place: Path, config: dict[str, Any]) -> dict[str, Any]:
    """Both hashes made right."""
    sha256 = hashlib.sha256((place / WEIGHTS_FILE).read_bytes()).hexdigest()
    return config | {"sha256": sha256, "architecture_sha256": architecture_sha256(config["architecture"], sha256)}


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in nested JSON."""
    if path:
        yield path
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from _places(item, (*path, key))


def _change_a_value(place: Path, draw: random.Random) -> str:
    """Raw text, so that it need not be JSON; where it is, the architecture's hash is made right."""
    config, text = _config(place), draw.choice(_VALUES)
    path = draw.choice([*_places(config)])
    parent: Any = config
    for key in path[:-1]:
        parent = parent[key]
    # With its own hash, another grammar or number of heads would be another checkpoint, and a right one.
    signed = path[0] == "architecture" and len(path) == 2 and path[1] not in ("n_heads", "grammar")
    try:
        parent[path[-1]] = json.loads(text)
        written = json.dumps(_sign(place, config) if signed else config)
    except (ValueError, RecursionError):
        parent[path[-1]] = "@here"
        written = json.dumps(config).replace('"@here"', text)
    (place / CONFIG_FILE).write_text(written)
    return f"{path} = {text[:40]}"


def _remove_a_value(place: Path, draw: random.Random) -> str:
    config = _config(place)
    path = draw.choice([*_places(config)])
    parent: Any = config
    for key in path[:-1]:
        parent = parent[key]
    del parent[path[-1]]
    signed = path[0] == "architecture" and len(path) == 2
    (place / CONFIG_FILE).write_text(json.dumps(_sign(place, config) if signed else config))
    return str(path)


def _add_a_value(place: Path, draw: random.Random) -> str:
    config = _config(place)
    name, inside = draw.choice(["more", "", "n_heads ", "x" * 5000, "\0", "__class__"]), draw.random() < 0.7
    target = config["architecture"] if inside else config
    target[name] = draw.choice([0, None, [], "x", 2**40])
    (place / CONFIG_FILE).write_text(json.dumps(_sign(place, config)))
    return f"{name} in {'the architecture' if inside else 'the file'}"


def _write_a_key_twice(place: Path, draw: random.Random) -> str:
    text = (place / CONFIG_FILE).read_text()
    name = draw.choice([*_config(place), *_config(place)["architecture"]])
    (place / CONFIG_FILE).write_text(text.replace(f'"{name}":', f'"{name}": 4, "{name}":', 1))
    return str(name)


def _other_heads(place: Path, draw: random.Random) -> str:
    config = _config(place)
    config["architecture"] |= draw.choice([{"n_heads": 1}, {"n_heads": 4}, {"n_heads": 8}, {"grammar": "weighted"}])
    (place / CONFIG_FILE).write_text(json.dumps(config))
    return str(config["architecture"])


def _whole_config(place: Path, draw: random.Random) -> str:
    content = draw.choice(
        [b"", b"\0" * 100, b"\xff\xfe{}", b"[]", b"3", b"null", b'"' * 9, b" " * (17 << 20), b"{" * 99_999]
    )
    (place / CONFIG_FILE).write_bytes(content)
    return repr(content[:20])


# ---- the weights ----


def _parts(place: Path) -> tuple[dict[str, Any], bytes]:
    data = (place / WEIGHTS_FILE).read_bytes()
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def _write_parts(place: Path, head: Any, body: bytes) -> None:
    text = json.dumps(head).encode()
    (place / WEIGHTS_FILE).write_bytes(struct.pack("<Q", len(text)) + text + body)
    (place / CONFIG_FILE).write_text(json.dumps(_sign(place, _config(place))))


def _change_a_head(place: Path, draw: random.Random) -> str:
    head, body = _parts(place)
    name = draw.choice([key for key in head if key != "__metadata__"])
    begin, end = head[name]["data_offsets"]
    near = [[end, begin], [begin - 4, end], [begin, end + 4], [begin + 4, end], [begin]]
    offsets = [*near, [0, 2**63], [2**40, 2**41], [-4, end], "x", None]
    field, values = draw.choice([("dtype", _DTYPES), ("shape", _SHAPES), ("data_offsets", offsets)])
    value: Any = draw.choice(values)
    head[name][field] = value
    _write_parts(place, head, body)
    return f"{field} of {name} is {value}"


def _change_the_header(place: Path, draw: random.Random) -> str:
    head, body = _parts(place)
    name = draw.choice([key for key in head if key != "__metadata__"])
    kind = draw.choice(["missing", "renamed", "extra", "no object", "entry", "metadata", "twice"])
    if kind in ("missing", "renamed"):
        entry = head.pop(name)
        if kind == "renamed":
            head[f"{name}\n"] = entry
    elif kind == "extra":
        head["stranger"] = {"dtype": "F32", "shape": [1], "data_offsets": [len(body), len(body) + 4]}
        body += b"\0\0\0\0"
    elif kind == "no object":
        head = draw.choice([[], 3, None, "x"])
    elif kind == "entry":
        head[name] = draw.choice([3, None, [], {}, "x"])
    elif kind == "metadata":
        head["__metadata__"] = draw.choice([{"a": 3}, [], 3, {"a": {"b": []}}])
    else:
        _write_parts(place, head, body)
        data = (place / WEIGHTS_FILE).read_bytes()
        text = data[8 : -len(body)].replace(b"{", b'{"' + name.encode() + b'": 3, ', 1)
        (place / WEIGHTS_FILE).write_bytes(struct.pack("<Q", len(text)) + text + body)
        (place / CONFIG_FILE).write_text(json.dumps(_sign(place, _config(place))))
        return f"{name} twice"
    _write_parts(place, head, body)
    return f"{kind} {name}"


def _change_the_length(place: Path, draw: random.Random) -> str:
    data = (place / WEIGHTS_FILE).read_bytes()
    length = draw.choice([0, 1, 7, 2**20, 2**27, 2**32, 2**63, 2**64 - 1, len(data), len(data) - 8])
    (place / WEIGHTS_FILE).write_bytes(struct.pack("<Q", length) + data[8:])
    (place / CONFIG_FILE).write_text(json.dumps(_sign(place, _config(place))))
    return str(length)


def _spoil_a_weight(place: Path, draw: random.Random) -> str:
    """NaN and infinities in a file with the right hash."""
    head, body = _parts(place)
    at = 4 * draw.randrange(len(body) // 4)
    value = draw.choice([math.nan, math.inf, -math.inf])
    _write_parts(place, head, body[:at] + struct.pack("<f", value) + body[at + 4 :])
    return f"{value} at {at}"


def _cut(place: Path, draw: random.Random) -> str:
    path = place / draw.choice([CONFIG_FILE, WEIGHTS_FILE])
    data = path.read_bytes()
    length = draw.choice([0, 1, 7, 8, 9, len(data) // 2, len(data) - 1, draw.randrange(len(data) - 2)])
    path.write_bytes(data[:length])
    if path.name == WEIGHTS_FILE and draw.random() < 0.7:
        (place / CONFIG_FILE).write_text(json.dumps(_sign(place, _config(place))))
    return f"{path.name} to {length}"


def _lengthen(place: Path, draw: random.Random) -> str:
    path = place / WEIGHTS_FILE
    data = path.read_bytes()
    more = draw.choice([1, 4, 1000, 1 << 40])
    with path.open("r+b") as file:
        file.truncate(len(data) + more)
    if more < 1 << 20:
        (place / CONFIG_FILE).write_text(json.dumps(_sign(place, _config(place))))
    return f"by {more}"


def _flip(place: Path, draw: random.Random) -> str:
    path = place / draw.choice([CONFIG_FILE, WEIGHTS_FILE, WEIGHTS_FILE])
    data = bytearray(path.read_bytes())
    at = draw.choice([draw.randrange(len(data)), draw.randrange(min(len(data), 2000))])
    data[at] ^= 1 << draw.randrange(8)
    path.write_bytes(data)
    return f"{path.name} at {at}"


# ---- what stands in the place of a file ----


def _replace_a_file(place: Path, draw: random.Random) -> str:
    path = place / draw.choice([CONFIG_FILE, WEIGHTS_FILE])
    kinds: dict[str, Callable[[], object]] = {
        "nothing": lambda: None,
        "a folder": path.mkdir,
        "a pipe": lambda: os.mkfifo(path),
        "/dev/zero": lambda: path.symlink_to("/dev/zero"),
        "/dev/null": lambda: path.symlink_to("/dev/null"),
        "a broken link": lambda: path.symlink_to("nowhere"),
        "a circle": lambda: path.symlink_to(path.name),
        "a link to the folder": lambda: path.symlink_to("."),
        "a link to the right file": lambda: path.symlink_to(place.parent / "plain" / path.name),
        "the other file": lambda: path.symlink_to(CONFIG_FILE if path.name == WEIGHTS_FILE else WEIGHTS_FILE),
    }
    kind = draw.choice([*kinds])
    path.unlink()
    kinds[kind]()
    return f"{kind} for {path.name}"


def _replace_the_folder(place: Path, draw: random.Random) -> str:
    kind = draw.choice(["a link to the right one", "a circle", "an empty one", "a link to a file"])
    shutil.rmtree(place)
    if kind == "an empty one":
        place.mkdir()
    else:
        targets = {"a circle": place.name, "a link to a file": f"plain/{CONFIG_FILE}"}
        place.symlink_to(targets.get(kind, "plain"))
    return kind


_KINDS: list[tuple[str, Callable[[Path, random.Random], str]]] = [
    ("a value changed", _change_a_value),
    ("a value of the configuration gone", _remove_a_value),
    ("a head changed", _change_a_head),
    ("a value added", _add_a_value),
    ("a value changed", _change_a_value),
    ("the header changed", _change_the_header),
    ("a key twice", _write_a_key_twice),
    ("other heads", _other_heads),
    ("a value changed", _change_a_value),
    ("another configuration", _whole_config),
    ("another length of the header", _change_the_length),
    ("a weight spoilt", _spoil_a_weight),
    ("cut off", _cut),
    ("a value changed", _change_a_value),
    ("lengthened", _lengthen),
    ("a bit flipped", _flip),
    ("another file", _replace_a_file),
    ("another folder", _replace_the_folder),
]
