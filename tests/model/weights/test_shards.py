"""Weights in several files are the same weights, and nothing that an index or a configuration says leads elsewhere."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from hub_server import HubServer
from safetensors.torch import load_file, save_file

from emlinit.generator.errors import UserError
from emlinit.model import EMLInitialiser
from emlinit.model.initialiser import load_weights
from emlinit.model.publishing.publication import publish
from emlinit.model.weights.checkpoint import CONFIG_FILE, WEIGHTS_FILE, architecture_sha256
from emlinit.model.weights.saving import save_weights
from emlinit.model.weights.shards import INDEX_FILE, combined_sha256, shard_names, split_weights

MOST_BYTES = 40_000


def _save(model: EMLInitialiser, folder: Path, most_bytes: int | None) -> str:
    return save_weights(folder, dict(model.named_parameters()), asdict(model.config), {}, most_bytes=most_bytes)


@pytest.fixture
def folder(tmp_path: Path, tiny: Callable[[str], EMLInitialiser]) -> Path:
    _save(tiny("weighted"), tmp_path / "sharded", MOST_BYTES)
    return tmp_path / "sharded"


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_every_bit_comes_back_from_files_of_the_size(folder: Path, tiny: Callable[[str], EMLInitialiser]) -> None:
    model, loaded = tiny("weighted"), EMLInitialiser.load(f"local-dir:{folder}")
    named = dict(loaded.named_parameters())
    assert all(torch.equal(named[name], parameter) for name, parameter in model.named_parameters())
    stored = load_weights(f"local-dir:{folder}")
    n = len(stored.files) - 1
    assert n > 3
    assert _names(folder) == sorted([CONFIG_FILE, *stored.files]) == sorted([CONFIG_FILE, INDEX_FILE, *shard_names(n)])
    sizes = [(folder / name).stat().st_size for name in shard_names(n)]
    assert max(sizes) <= MOST_BYTES
    assert sorted(sizes)[1] > MOST_BYTES / 2  # no more files than need be
    index = json.loads((folder / INDEX_FILE).read_text())
    assert index["metadata"]["total_size"] == sum(4 * tensor.numel() for tensor in stored.tensors.values())
    for file in shard_names(n):
        assert {name for name, where in index["weight_map"].items() if where == file} == load_file(folder / file).keys()


def test_another_number_of_files_takes_the_place(folder: Path, tiny: Callable[[str], EMLInitialiser]) -> None:
    (folder / "mine.txt").write_text("mine")
    _save(tiny("weighted"), folder, 2 * MOST_BYTES)
    fewer = load_weights(f"local-dir:{folder}").files
    assert _names(folder) == sorted([CONFIG_FILE, "mine.txt", *fewer])
    sha256 = _save(tiny("weighted"), folder, None)
    assert _names(folder) == [CONFIG_FILE, "mine.txt", WEIGHTS_FILE]
    assert load_weights(f"local-dir:{folder}").sha256 == sha256


@pytest.mark.parametrize("most_bytes", [300, 500, 1000, 5000])
def test_no_file_is_too_large_whatever_the_tensors(most_bytes: int, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(most_bytes)
    tensors = {
        "layer." * int(torch.randint(1, 9, (), generator=generator)) + str(number): torch.zeros(
            *torch.randint(0, 5, (2,), generator=generator).tolist()
        )
        for number in range(60)
    }
    if most_bytes == 300:
        with pytest.raises(UserError, match=r"cannot be split .* bytes, and a file may have 300\): allow larger files"):
            save_weights(tmp_path, tensors, {}, {}, most_bytes=most_bytes)
        assert not list(tmp_path.iterdir())
        return
    save_weights(tmp_path, tensors, {}, {}, most_bytes=most_bytes)
    assert max(path.stat().st_size for path in tmp_path.glob("model-*")) <= most_bytes


def test_more_files_than_are_read_are_not_written() -> None:
    with pytest.raises(ValueError, match="there would be 1001 files"):
        split_weights({str(number): (10,) for number in range(1001)}, 400)


def _sign(folder: Path, config: dict[str, Any]) -> None:
    """The configuration with the hashes that go with what it says."""
    config["sha256"] = combined_sha256(config["shards"])
    config["architecture_sha256"] = architecture_sha256(config["architecture"], config["sha256"])
    (folder / CONFIG_FILE).write_text(json.dumps(config))


def _shards(change: Callable[[dict[str, str]], object]) -> Callable[[Path], None]:
    """Other files in the configuration, rightly signed."""

    def damage(folder: Path) -> None:
        config = json.loads((folder / CONFIG_FILE).read_text())
        changed = change(config["shards"])
        config["shards"] = config["shards"] if changed is None else changed
        _sign(folder, config)

    return damage


def _index(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        index = json.loads((folder / INDEX_FILE).read_text())
        changed = change(index["weight_map"])
        (folder / INDEX_FILE).write_text(json.dumps(index if changed is None else changed))

    return damage


def _exchange(folder: Path) -> None:
    """Two files that have changed places."""
    first, second = (folder / name for name in shard_names(len(list(folder.glob("model-*"))))[:2])
    contents = first.read_bytes(), second.read_bytes()
    first.write_bytes(contents[1])
    second.write_bytes(contents[0])


def _flip(folder: Path) -> None:
    path = sorted(folder.glob("model-*"))[1]
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)


def _more_in_a_file(folder: Path) -> None:
    path = sorted(folder.glob("model-*"))[-1]
    save_file({**load_file(path), "stranger": torch.zeros(1)}, path)


DAMAGES: list[tuple[Callable[[Path], object], str]] = [
    (lambda folder: sorted(folder.glob("model-*"))[1].unlink(), "has no model-00002-of-"),
    (lambda folder: (folder / INDEX_FILE).unlink(), "has no model.safetensors.index.json"),
    (lambda folder: (folder / INDEX_FILE).write_text("{"), "index.json of .* is not valid JSON"),
    (lambda folder: (folder / INDEX_FILE).write_text(" " * (17 << 20)), "index.json of .* cannot be read .larger than"),
    (lambda folder: (folder / INDEX_FILE).write_text("[]"), "index.json .* is not in order .it has no weight_map"),
    (_index(lambda weight_map: {"weight_map": list(weight_map)}), "it has no weight_map"),
    (_index(lambda weight_map: weight_map.pop("encoder.seeds") and None), "are not those of the .*'encoder.seeds'"),
    (_index(lambda weight_map: weight_map.update(more="x")), "are not those of the architecture: 'more'"),
    (
        _index(lambda weight_map: weight_map.update({"encoder.seeds": "../other/model.safetensors"})),
        "'encoder.seeds' in '../other/model.safetensors', which is none of the files",
    ),
    (_index(lambda weight_map: weight_map.update({"encoder.seeds": "/etc/passwd"})), "which is none of the files"),
    (_index(lambda weight_map: weight_map.update({"encoder.seeds": CONFIG_FILE})), "which is none of the files"),
    (_index(lambda weight_map: weight_map.update({"encoder.seeds": ["x"]})), "which is none of the files"),
    (
        _index(lambda weight_map: weight_map.update({"encoder.seeds": weight_map["decoder.classify.weight"]})),
        "of an architecture that this program cannot read .encoder.seeds",
    ),
    (_shards(lambda shards: shards.pop(min(shards)) and None), "is no name of one of"),
    (_shards(lambda shards: shards.update({"../x": "0" * 64})), r"'../x' is no name of one of \d+ files"),
    (_shards(lambda shards: shards.update({min(shards): "0"})), "has no sha256 of model-00001"),
    (_shards(lambda shards: shards.update({min(shards): "0" * 64})), "model-00001-of-.* is truncated or changed"),
    (_exchange, "model-00001-of-.* is truncated or changed"),
    (_flip, "model-00002-of-.* is truncated or changed"),
    (_more_in_a_file, "truncated or changed"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGES)
def test_what_is_not_in_order_is_one_line(damage: Callable[[Path], object], message: str, folder: Path) -> None:
    damage(folder)
    with pytest.raises(UserError, match=message) as refused:
        EMLInitialiser.load(f"local-dir:{folder}")
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize("shards", [None, 3, {}, [], {"model.safetensors": "0" * 64}])
def test_odd_files_in_a_configuration_are_one_line(shards: object, folder: Path) -> None:
    config = json.loads((folder / CONFIG_FILE).read_text())
    (folder / CONFIG_FILE).write_text(json.dumps({**config, "shards": shards}))
    with pytest.raises(UserError, match=r"config\.json of checkpoint .* is not in order .*: get it anew"):
        load_weights(f"local-dir:{folder}")


def test_they_come_from_the_hub_and_go_there(hub: HubServer, folder: Path, tmp_path: Path) -> None:
    done = publish(f"local-dir:{folder}", tmp_path / "hub")
    stored = load_weights(f"local-dir:{folder}")
    assert set(stored.files) < set(done.files)
    assert _names(tmp_path / "hub") == sorted(done.files)
    commit = hub.add("owner/name", tmp_path / "hub")
    loaded = load_weights(f"hf-hub:owner/name@{commit}")
    assert all(torch.equal(loaded.tensors[name], tensor) for name, tensor in stored.tensors.items())
    asked = len(hub.requests)
    again = load_weights(f"hf-hub:owner/name@{commit}")
    assert len(hub.requests) == asked
    damaged = again.folder / again.files[1]
    content = damaged.read_bytes()
    damaged.unlink()
    damaged.write_bytes(content[:-1])
    with pytest.raises(UserError, match="this copy was removed from the cache, try again"):
        load_weights(f"hf-hub:owner/name@{commit}")
    assert load_weights(f"hf-hub:owner/name@{commit}").sha256 == stored.sha256


def test_a_published_folder_can_change_its_number_of_files(
    folder: Path, tmp_path: Path, tiny: Callable[[str], EMLInitialiser]
) -> None:
    publish(f"local-dir:{folder}", tmp_path / "hub")
    tiny("weighted").save(tmp_path / "whole")
    publish(f"local-dir:{tmp_path / 'whole'}", tmp_path / "hub")
    assert [name for name in _names(tmp_path / "hub") if name.startswith("model")] == [WEIGHTS_FILE]
