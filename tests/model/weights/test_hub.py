"""Checkpoints come from a Hub bit for bit, stay in the cache, and every failure is one line that says what to do."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from hub_server import HubServer

from emlinit.generator.errors import UserError
from emlinit.model import EMLInitialiser
from emlinit.model.initialiser import load_weights
from emlinit.model.weights.checkpoint import CONFIG_FILE, WEIGHTS_FILE

NAME = "owner/name"


@pytest.fixture
def folder(tmp_path: Path, tiny: Callable[[str], EMLInitialiser]) -> Path:
    tiny("weighted").save(tmp_path / "saved")
    return tmp_path / "saved"


@pytest.fixture
def commit(hub: HubServer, folder: Path) -> str:
    """Published as `owner/name`; the hash of the commit."""
    return hub.add(NAME, folder)


def _refusal(source: str) -> str:
    with pytest.raises(UserError) as refused:
        load_weights(source)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_checkpoint_comes_back_bit_for_bit_and_then_needs_no_network(
    hub: HubServer, commit: str, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    here = EMLInitialiser.load(f"local-dir:{folder}")
    first = EMLInitialiser.load(f"hf-hub:{NAME}@{commit}")
    asked = len(hub.requests)
    assert asked > 0
    again = EMLInitialiser.load(f"hf-hub:{NAME}@{commit}")
    assert len(hub.requests) == asked
    hub.stop()
    down = EMLInitialiser.load(f"hf-hub:{NAME}@{commit}")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    offline = EMLInitialiser.load(f"hf-hub:{NAME}@{commit}")
    expected = dict(here.named_parameters())
    for loaded in (first, again, down, offline):
        parameters = dict(loaded.named_parameters())
        assert parameters.keys() == expected.keys()
        assert all(torch.equal(parameters[name], tensor) for name, tensor in expected.items())
        assert loaded.config == here.config
        assert loaded.source == (f"hf-hub:{NAME}@{commit}", here.source[1])
        assert loaded.revision == commit
    assert here.revision is None
    assert not caplog.records


@pytest.mark.parametrize("name", ["main", "v1.0", "feature/one"])
def test_a_tag_or_branch_stays_where_it_was_first_seen_and_the_log_says_so(
    name: str, hub: HubServer, folder: Path, tiny: Callable[[str], EMLInitialiser], caplog: pytest.LogCaptureFixture
) -> None:
    first = hub.add(NAME, folder)
    hub.repositories[NAME].names[name] = first
    source = f"hf-hub:{NAME}@{name}"
    assert load_weights(source).revision == first
    tiny("exact").save(folder)
    second = hub.repositories[NAME].commit({path.name: path.read_bytes() for path in folder.iterdir()}, name)
    assert second != first
    again = EMLInitialiser.load(source)
    assert (again.revision, again.config.grammar) == (first, "weighted")
    assert (again.source[0], load_weights(f"hf-hub:{NAME}@{second}").revision) == (source, second)
    said = [record.getMessage() for record in caplog.records]
    pin = f"{source} is not pinned, '{name}' may name another commit elsewhere: write hf-hub:{NAME}@{first}"
    assert said == [pin, pin]


BREAKS: list[tuple[str, str, int, str]] = [
    (WEIGHTS_FILE, "cut", 10**7, "peer closed connection"),
    # After whole chunks have come; clients that do not try again by themselves say what they say above.
    (WEIGHTS_FILE, "cut", 100, "(cut off 3 times, and the server cannot resume|peer closed connection)"),
    (WEIGHTS_FILE, "short", 10**7, "file should be of size"),
    (
        WEIGHTS_FILE,
        "flipped",
        10**7,
        r"is truncated or changed \(sha256 differs\): this copy was removed from the cache",
    ),
    (CONFIG_FILE, "cut", 10**7, "peer closed connection"),
    (CONFIG_FILE, "short", 10**7, "is not valid JSON .*: this copy was removed from the cache"),
]


@pytest.mark.parametrize(("file", "fault", "chunk", "message"), BREAKS)
def test_a_broken_download_is_caught_and_not_in_the_way_of_the_next(
    *,
    file: str,
    fault: str,
    chunk: int,
    message: str,
    hub: HubServer,
    commit: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", chunk)
    monkeypatch.setattr("time.sleep", lambda _: None)  # the client waits between its attempts
    hub.faults[file] = fault
    said = _refusal(f"hf-hub:{NAME}@{commit}")
    assert re.search(f"{message}.*try again", said), said
    hub.faults.clear()
    assert load_weights(f"hf-hub:{NAME}@{commit}").revision == commit
    assert not caplog.records


def test_a_file_damaged_in_the_cache_is_replaced(hub: HubServer, commit: str) -> None:
    source = f"hf-hub:{NAME}@{commit}"
    weights = load_weights(source).folder / WEIGHTS_FILE
    weights.write_bytes(weights.read_bytes()[:-1])
    hub.stop()
    assert "removed from the cache, try again" in _refusal(source)
    assert not weights.exists()
    assert "is not in the cache" in _refusal(source)


def _damage_behind_a_link(folder: Path, elsewhere: Path) -> None:
    """The weights of a cached commit become a link to a damaged file of the user's."""
    entry = folder / WEIGHTS_FILE
    elsewhere.write_bytes(entry.read_bytes()[:-1])
    entry.unlink()
    entry.symlink_to(elsewhere)


def test_what_a_link_in_the_cache_points_to_is_not_removed(hub: HubServer, commit: str, tmp_path: Path) -> None:
    source = f"hf-hub:{NAME}@{commit}"
    folder = load_weights(source).folder
    _damage_behind_a_link(folder, tmp_path / "mine")
    assert "removed from the cache, try again" in _refusal(source)
    assert (tmp_path / "mine").exists()
    assert not (folder / WEIGHTS_FILE).is_symlink()
    assert load_weights(source).revision == commit
    # By way of a blob, and of another repository's.
    blob = (folder / WEIGHTS_FILE).resolve()
    other = tmp_path / "hub-cache" / "models--other--name" / "blobs" / "0"
    other.parent.mkdir(parents=True)
    other.write_bytes(blob.read_bytes()[:-1])
    blob.unlink()
    blob.symlink_to(other)
    assert "removed from the cache, try again" in _refusal(source)
    assert other.exists()
    assert not (folder / WEIGHTS_FILE).is_symlink()


def test_a_folder_that_is_not_of_the_cache_is_left_alone(hub: HubServer, commit: str, tmp_path: Path) -> None:
    source = f"hf-hub:{NAME}@{commit}"
    folder = load_weights(source).folder
    mine = tmp_path / "mine"
    mine.mkdir()
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        (mine / name).write_bytes((folder / name).read_bytes()[:-1])
        (folder / name).unlink()
    folder.rmdir()
    folder.symlink_to(mine)
    assert "cannot be removed (it is not a folder of the cache)" in _refusal(source)
    assert sorted(path.name for path in mine.iterdir()) == [CONFIG_FILE, WEIGHTS_FILE]


def test_a_name_in_the_cache_that_leads_elsewhere_is_asked_for_anew(
    hub: HubServer, commit: str, folder: Path, tmp_path: Path
) -> None:
    hub.repositories[NAME].names["main"] = commit
    source = f"hf-hub:{NAME}@main"
    named = load_weights(source).folder.parent.parent / "refs" / "main"
    named.write_text(str(folder))
    assert load_weights(source).revision == commit
    named.write_bytes(b"\xff")
    assert "cannot be used" in _refusal(source)


REFUSALS: list[tuple[str, str, str]] = [
    ("owner/none@main", "", "has no repository 'owner/none', or it is private: check the name, or log in"),
    ("owner/none@main", "token", "has no repository 'owner/none', or it is private"),
    ("owner/private@main", "", "has no repository 'owner/private', or it is private: check the name, or log in"),
    ("owner/gated@main", "", "'owner/gated' is gated: ask for access at http://127.0.0.1:"),
    ("owner/gated@main", "token", "'owner/gated' is gated: ask for access"),
    ("owner/name@main", "wrong", "gives no permission for 'owner/name' at 'main' (Invalid credentials in Auth"),
    ("owner/name@v9", "", "'owner/name' has no revision 'v9': name a commit hash, a tag or a branch"),
    (f"owner/name@{'0' * 40}", "", f"'owner/name' has no revision '{'0' * 40}'"),
    ("owner/empty@main", "", "'owner/empty' at 'main' has no config.json: it is no checkpoint of emlinit"),
    ("owner/half@main", "", "has no model.safetensors: it is no checkpoint of emlinit"),
    ("owner/na..me@main", "", "'owner/na..me' cannot be the name of a repository"),
    ("owner/name@../main", "", "is not of the form hf-hub:OWNER/NAME@REV"),
    ("owner/name@a b", "", "is not of the form hf-hub:OWNER/NAME@REV"),
]


@pytest.mark.parametrize(("name", "login", "message"), REFUSALS)
def test_refusals_are_told_apart(
    name: str, login: str, message: str, hub: HubServer, commit: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("owner/private", folder, private=True)
    hub.add("owner/gated", folder, gated=True)
    for repository, file in (("empty", "other.txt"), ("half", CONFIG_FILE)):
        (folder.parent / repository).mkdir()
        (folder.parent / repository / file).write_text((folder / CONFIG_FILE).read_text())
        hub.add(f"owner/{repository}", folder.parent / repository)
    if login:
        monkeypatch.setenv("HF_TOKEN", hub.token if login == "token" else "hf_wrong_but_still_secret")
    said = _refusal(f"hf-hub:{name}")
    assert message in said
    assert "hf_" not in said.replace("hf-hub", "")


def test_a_private_repository_opens_with_a_login(hub: HubServer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = hub.add("owner/private", folder, private=True)
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert load_weights(f"hf-hub:owner/private@{commit}").revision == commit


def test_a_server_that_is_out_of_order_or_no_hub(hub: HubServer, commit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.faults[CONFIG_FILE] = "503"
    assert "answers with status 503 for 'owner/name'" in _refusal(f"hf-hub:{NAME}@{commit}")
    hub.faults.clear()
    monkeypatch.setattr("hub_server._Handler._resolve", lambda self, *_: self._send(200, b"hello", {}))
    assert "does not answer like a Hub: check HF_ENDPOINT" in _refusal(f"hf-hub:{NAME}@{commit}")
    monkeypatch.undo()


def test_another_commit_than_asked_for_is_refused(hub: HubServer, commit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repositories[NAME].names["f" * 40] = commit
    assert f"gave commit {commit} of 'owner/name' where {'f' * 40} was asked for" in _refusal(
        f"hf-hub:{NAME}@{'f' * 40}"
    )


def test_offline_and_not_in_the_cache(hub: HubServer, commit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    said = _refusal(f"hf-hub:{NAME}@{commit}")
    assert (
        said
        == f"HF_HUB_OFFLINE is set, and 'owner/name' at '{commit}' is not in the cache: unset it to use the network"
    )
    assert hub.requests == []


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def full_port() -> Iterator[int]:
    """Like a firewall that drops packets: connecting takes as long as one is ready to wait."""
    with socket.socket() as server, socket.socket() as first, socket.socket() as second:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for waiting in (first, second):
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        yield server.getsockname()[1]


def _seconds_without_network(hub: HubServer, host: str, monkeypatch: pytest.MonkeyPatch, message: str) -> float:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://{host}")
    template = f"http://{host}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    began = time.monotonic()
    said = _refusal(f"hf-hub:{NAME}@{'0' * 40}")
    took = time.monotonic() - began
    assert re.search(message, said), said
    assert f"'owner/name' at '{'0' * 40}' is not in the cache: check the network" in said
    return took


def test_a_closed_port_ends_at_once(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.stop()
    refused = "cannot reach .* \\(.*refused\\)"
    assert _seconds_without_network(hub, f"127.0.0.1:{hub.port}", monkeypatch, refused) < 2


def test_an_address_that_swallows_everything_ends_in_five_seconds(
    hub: HubServer, silent_port: int, full_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emlinit.model.weights.hub.SECONDS_TO_ANSWER", 1.0)
    for port in (silent_port, full_port):
        took = _seconds_without_network(hub, f"127.0.0.1:{port}", monkeypatch, "no answer from .* within 1 s")
        assert 0.9 < took < 2
    monkeypatch.setenv("HF_HUB_ETAG_TIMEOUT", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_ETAG_TIMEOUT", 2)
    assert 1.9 < _seconds_without_network(hub, f"127.0.0.1:{silent_port}", monkeypatch, "within 2 s") < 3


def test_an_unroutable_address_and_an_unknown_host_end_in_five_seconds(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for host in ("192.0.2.1", "hub.invalid"):  # reserved by RFC 5737 and RFC 2606
        assert _seconds_without_network(hub, host, monkeypatch, "no answer from|cannot reach") < 5


def test_the_environment_is_obeyed_by_a_fresh_process(
    hub: HubServer, commit: str, silent_port: int, tmp_path: Path
) -> None:
    code = (
        "import sys, time; from emlinit.model.initialiser import load_weights; began = time.monotonic()\n"
        "try: print(load_weights(sys.argv[1]).revision)\n"
        "except ValueError as error: print(error)\n"
        "print(time.monotonic() - began)"
    )
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))},
        **{"HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": hub.url, "NO_PROXY": "*", "OMP_NUM_THREADS": "1"},
    }

    def load(**more: str) -> list[str]:
        command = [sys.executable, "-c", code, f"hf-hub:{NAME}@main"]
        done = subprocess.run(command, env=environment | more, capture_output=True, text=True, check=True, timeout=60)
        assert "Traceback" not in done.stderr
        return done.stdout.splitlines()

    nowhere = load(HF_ENDPOINT=f"http://127.0.0.1:{silent_port}")
    assert "check the network" in nowhere[0]
    assert 2 < float(nowhere[1]) < 5
    assert load()[0] == commit


def test_the_hub_may_be_asked_for_json_only(hub: HubServer, commit: str) -> None:
    """No other file is downloaded, whatever else a repository holds."""
    hub.repositories[NAME].commits[commit]["pytorch_model.bin"] = b"a pickle"
    folder = load_weights(f"hf-hub:{NAME}@{commit}").folder
    assert sorted(path.name for path in folder.iterdir()) == [CONFIG_FILE, WEIGHTS_FILE]
    assert json.loads((folder / CONFIG_FILE).read_text())["sha256"]
