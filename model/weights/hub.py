"""The Hugging Face Hub: where `hf-hub:OWNER/NAME@REV` comes from, and where a published folder goes.

REV is a commit hash, a tag or a branch. What is in the local cache is used without any network, so a tag or a branch stays
at the commit that it had when it was first loaded here; since it may be another one elsewhere, a warning is logged that
names the commit to pin. Addresses, cache and login are those of `huggingface_hub` (HF_ENDPOINT, HF_HOME, HF_HUB_CACHE,
HF_HUB_OFFLINE, HF_TOKEN or `hf auth login`).

Without an answer from the Hub loading ends within `SECONDS_TO_ANSWER`, name lookup and all addresses included (or after
HF_HUB_ETAG_TIMEOUT seconds where that is set): `huggingface_hub` alone would try again for a minute or more.
"""

import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from threading import Thread
from typing import TypeVar

from huggingface_hub import (
    CommitOperationAdd,
    HfApi,
    constants,
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils.tqdm import (
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
    tqdm,
)

from emlinit.generator.errors import UserError
from emlinit.generator.foreign import reason

SECONDS_TO_ANSWER = 3.0
"""How long the Hub may take to say which commit a revision is."""
SECONDS_TO_CREATE = 20.0
"""How long the Hub may take to make a repository."""
_RESTARTS = 3
_COMMIT = re.compile(r"[0-9a-f]{40}")
_REVISION = re.compile(r"(?!/)(?!.*\.\.)[^\s\\:?*~^\[\x00-\x1f]+")  # what git allows, and no way out of the cache
_LOGIN = "log in with 'hf auth login' or set HF_TOKEN"
_Answer = TypeVar("_Answer")
_log = logging.getLogger(__name__)


def fetch(name: str, first: str, rest: Callable[[Path], Sequence[str]]) -> Path:
    """Folder of the local cache with the files of a commit, downloaded if they are not there; its name is the commit's hash.

    Args:
        name: `OWNER/NAME@REV`.
        first: the file that is asked for first, a small one.
        rest: names of the other files, given where the first one is.

    Raises:
        UserError: not of that form, no such repository, revision or file, no permission, no network, broken download.
    """
    repository, at, revision = name.partition("@")
    if not at or not revision:
        raise UserError(f"'hf-hub:{name}' names no revision: write hf-hub:{repository}@REV with a commit hash or tag")
    if repository.count("/") != 1 or not _REVISION.fullmatch(revision):
        raise UserError(f"'hf-hub:{name}' is not of the form hf-hub:OWNER/NAME@REV")
    try:
        folder = _cached(repository, revision, first, rest) or _download(repository, revision, first, rest)
    except HFValidationError as problem:
        raise UserError(f"'{repository}' cannot be the name of a repository: {_reason(problem)}") from problem
    except (OSError, UnicodeDecodeError) as problem:
        raise UserError(
            f"the cache '{constants.HF_HUB_CACHE}' cannot be used ({reason(problem)}): mend it or set HF_HUB_CACHE"
        ) from problem
    if folder.name != revision:
        _log.warning(
            "hf-hub:%s is not pinned, '%s' may name another commit elsewhere: write hf-hub:%s@%s",
            *(name, revision, repository, folder.name),
        )
    return folder


def discard(folder: Path, files: Sequence[str]) -> None:
    """Remove files from the cache, so that the next `fetch` downloads them anew.

    An entry of a commit's folder is a link to a blob of the same repository. Nothing outside the repository's own folder of
    the cache is removed, wherever links may point.

    Raises:
        UserError: the folder is not one of the cache, or the cache cannot be written.
    """
    try:
        repository = folder.parent.parent.resolve()
        if folder.parent.name != "snapshots" or folder.resolve().parent != repository / "snapshots":
            raise OSError("it is not a folder of the cache")
        for path in (folder / name for name in files):
            blob = path.resolve() if path.is_symlink() else None
            path.unlink(missing_ok=True)
            if blob is not None and blob.parent == repository / "blobs":
                blob.unlink(missing_ok=True)
    except (OSError, RuntimeError) as problem:  # RuntimeError: a circle of links
        raise UserError(
            f"'{folder}' holds a damaged checkpoint that cannot be removed ({reason(problem)}): remove it"
        ) from None


def push(folder: Path, repository: str, *, private: bool, endpoint: str | None) -> str:
    """Upload all files of a folder as one commit to the main branch, making the repository if needed; returns its hash.

    One commit, unlike `upload_folder`, which may make several: the hash stands for the whole checkpoint.

    Args:
        folder: files only.
        repository: `OWNER/NAME`.
        private: make a private repository, and upload to no other.
        endpoint: address of the Hub; None means the one of `huggingface_hub`.

    Raises:
        UserError: no permission, no network, a public repository where a private one is asked for.
    """
    api = HfApi(endpoint=endpoint)
    try:
        with _quiet(), _without_bars():
            _within(
                SECONDS_TO_CREATE, lambda: api.create_repo(repository, private=True if private else None, exist_ok=True)
            )
            if private and not api.model_info(repository).private:
                raise UserError(f"'{repository}' exists and is public: make it private on its page, or drop --private")
            additions = [CommitOperationAdd(path.name, path) for path in sorted(folder.iterdir())]
            return str(api.create_commit(repository, additions, commit_message="Checkpoint of emlinit").oid)
    except UserError:
        raise
    except Exception as problem:  # the client raises its own errors and those of the libraries below it
        raise UserError(_explain(problem, repository, None, api.endpoint, SECONDS_TO_CREATE)) from problem


def _cached(repository: str, revision: str, first: str, rest: Callable[[Path], Sequence[str]]) -> Path | None:
    """Folder of a revision in the cache, if it has all files; asks nobody."""
    path = try_to_load_from_cache(repository, first, revision=revision)
    if not isinstance(path, str):
        return None
    others = [try_to_load_from_cache(repository, name, revision=revision) for name in rest(Path(path))]
    if not all(isinstance(other, str) for other in others):
        return None
    folder = Path(path).parent
    # Which commit a name is, a file of the cache says: it should not lead elsewhere.
    return folder if _COMMIT.fullmatch(folder.name) and folder.parent.name == "snapshots" else None


def _download(repository: str, revision: str, first: str, rest: Callable[[Path], Sequence[str]]) -> Path:
    seconds = float(constants.HF_HUB_ETAG_TIMEOUT) if "HF_HUB_ETAG_TIMEOUT" in os.environ else SECONDS_TO_ANSWER
    try:
        with _quiet():
            url = hf_hub_url(repository, first, revision=revision)
            commit = _within(seconds, lambda: get_hf_file_metadata(url, timeout=seconds + 1)).commit_hash
            if commit is None:
                raise FileMetadataError
    except Exception as problem:  # as in `push`
        raise UserError(_explain(problem, repository, revision, constants.ENDPOINT, seconds)) from problem
    if _COMMIT.fullmatch(revision) and commit != revision:
        raise UserError(f"{constants.ENDPOINT} gave commit {commit} of '{repository}' where {revision} was asked for")
    try:
        with _quiet():
            # The first file by the revision's name, so that the cache knows which commit that is; the others by the
            # commit, in case the name has just moved.
            path = Path(hf_hub_download(repository, first, revision=revision, tqdm_class=_Bar))
            for name in rest(path):
                hf_hub_download(repository, name, revision=path.parent.name, tqdm_class=_Bar)
            return path.parent
    except (HfHubHTTPError, LocalEntryNotFoundError) as problem:
        raise UserError(_explain(problem, repository, revision, constants.ENDPOINT, seconds)) from problem
    except Exception as problem:
        raise UserError(
            f"the download of '{repository}' from {constants.ENDPOINT} broke off ({_reason(problem)}): nothing "
            "incomplete was kept, try again"
        ) from problem


class _Bar(tqdm):
    """Progress of a download; gives up on a server that cannot resume and breaks off time and again.

    `huggingface_hub` starts such a file over, for which it sets the bar back, without end.
    """

    restarts = 0

    def update(self, n: int | float | None = 1) -> bool | None:
        self.restarts += n is not None and n < 0
        if self.restarts >= _RESTARTS:
            raise OSError(f"cut off {_RESTARTS} times, and the server cannot resume")
        return super().update(n)


def _within(seconds: float, ask: Callable[[], _Answer]) -> _Answer:
    """The result of `ask`, given up after some seconds.

    The clients' timeouts hold for each address of a host, and not for the lookup of its name.

    Raises:
        TimeoutError: no result yet; `ask` is left to end by itself.
    """
    answer: Future[_Answer] = Future()

    def work() -> None:
        try:
            answer.set_result(ask())
        except BaseException as problem:
            answer.set_exception(problem)

    Thread(target=work, daemon=True).start()
    return answer.result(seconds)


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave the telling of what went wrong to one exception: the Hub's client also logs every attempt."""
    client_log = logging.getLogger("huggingface_hub")
    before = client_log.level
    client_log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        client_log.setLevel(before)


@contextmanager
def _without_bars() -> Iterator[None]:
    """The client's uploads show bars wherever standard error goes; an error would be written into them."""
    shown = not are_progress_bars_disabled()
    if shown:
        disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            enable_progress_bars()


def _explain(problem: BaseException, repository: str, revision: str | None, endpoint: str, seconds: float) -> str:
    """What went wrong and what to do about it, in one line; `revision` is None when uploading."""
    if isinstance(problem, LocalEntryNotFoundError | RuntimeError) and problem.__cause__ is not None:
        problem = problem.__cause__  # that it is not in the cache, or which file it was, says less than why
    what = f"'{repository}' at '{revision}'" if revision else f"'{repository}'"
    absent = f", and {what} is not in the cache" if revision else ""
    if isinstance(problem, HFValidationError):
        return f"'{repository}' cannot be the name of a repository: {_reason(problem)}"
    if isinstance(problem, OfflineModeIsEnabled):
        return f"HF_HUB_OFFLINE is set{absent}: unset it to use the network"
    if isinstance(problem, GatedRepoError):
        return f"'{repository}' is gated: ask for access at {endpoint}/{repository} and {_LOGIN}"
    if isinstance(problem, RepositoryNotFoundError):
        return f"{endpoint} has no repository '{repository}', or it is private: check the name, or {_LOGIN}"
    if isinstance(problem, RevisionNotFoundError):
        return f"'{repository}' has no revision '{revision}': name a commit hash, a tag or a branch that it has"
    if isinstance(problem, EntryNotFoundError) and isinstance(problem, HfHubHTTPError):
        file = str(problem.response.url).rpartition("/")[2]
        return f"{what} has no {file}: it is no checkpoint of emlinit, name another repository or revision"
    if isinstance(problem, HfHubHTTPError):
        status, said = problem.response.status_code, shorten(problem.server_message or "", 200)
        advice = {401: _LOGIN, 403: f"ask its owner, or {_LOGIN}", 404: "check HF_ENDPOINT"}.get(
            status, "try again later"
        )
        refused = "gives no permission" if status in (401, 403) else f"answers with status {status}"
        return f"{endpoint} {refused} for {what}{f' ({said})' if said else ''}: {advice}"
    if isinstance(problem, FileMetadataError):
        return f"{endpoint} does not answer like a Hub: check HF_ENDPOINT"
    if isinstance(problem, TimeoutError):
        longer = ", or set HF_HUB_ETAG_TIMEOUT to more seconds" if revision else ""
        return f"no answer from {endpoint} within {seconds:g} s{absent}: check the network{longer}"
    if {"TransportError", "ConnectionError"} & {
        kind.__name__ for kind in type(problem).__mro__
    }:  # of either HTTP library
        return f"cannot reach {endpoint} ({_reason(problem)}){absent}: check the network and HF_ENDPOINT"
    return f"{endpoint} was of no help ({_reason(problem)}){absent}: check HF_ENDPOINT, or try again later"


def _reason(problem: BaseException) -> str:
    lines = str(problem).strip().splitlines() or [type(problem).__name__]
    return shorten(lines[0].rstrip(".:"), 200)
