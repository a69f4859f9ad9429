"""A Hub on the loopback, with an empty cache and nobody logged in; tables of functions cached for the tests alone;
devices."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from hub_server import HubServer
from huggingface_hub import close_session

torch.set_num_threads(1)  # of each of pytest's processes
# A shell's background job is started with these ignored, and so would be the processes that tests start and interrupt.
for _number, _handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _handler)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Where a test works: the same test on the CPU, and on a GPU if it is asked for and there."""
    return torch.device(request.param)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """What is for a GPU is skipped where there is none."""
    if item.get_closest_marker("gpu") is not None and not torch.cuda.is_available():
        pytest.skip("no CUDA device")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """The one Hub that `huggingface_hub` knows during a test."""
    server = HubServer()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_ETAG_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {
        "ENDPOINT": server.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": server.url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(tmp_path / "hub-cache"),
        "HF_TOKEN_PATH": str(tmp_path / "no-token"),
        "HF_HUB_DISABLE_TELEMETRY": True,
        "HF_HUB_DISABLE_XET": True,  # large files go by plain HTTP, which the server knows
        "HF_HUB_OFFLINE": False,
    }.items():
        monkeypatch.setattr(huggingface_hub.constants, name, value)
    close_session()
    yield server
    server.stop()
    close_session()


@pytest.fixture(scope="session", autouse=True)
def _own_table_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests, and the processes that they start, share one cache of tables and leave the user's alone."""
    before = os.environ.get("EMLINIT_CACHE")
    os.environ["EMLINIT_CACHE"] = str(tmp_path_factory.mktemp("tables"))
    yield
    if before is None:
        del os.environ["EMLINIT_CACHE"]
    else:
        os.environ["EMLINIT_CACHE"] = before
