"""A small Hugging Face Hub on the loopback: what downloading a file and pushing a commit need, and what can go wrong.

Weights and pictures are large files, as on the Hub: `resolve` answers with a redirect to another host. Every answer
closes its connection, so that after `stop` nothing is served any more.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote

LARGE = (".safetensors", ".png")


@dataclass
class Repository:
    """Commits by hash, each with all its files, and names of commits."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    private: bool = False
    gated: bool = False

    def commit(self, files: Mapping[str, bytes], name: str = "main") -> str:
        content = self.commits.get(self.names.get(name, ""), {}) | dict(files)
        text = "\n".join(f"{path} {_sha256(data)}" for path, data in sorted(content.items()))
        commit = hashlib.sha1(f"{len(self.commits)}\n{text}".encode()).hexdigest()
        self.commits[commit] = content
        self.names[name] = commit
        return commit


class HubServer:
    """Repositories, an account, faults that can be switched on, and a record of the requests."""

    token = "hf_a_token_that_must_never_be_shown"

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.large: dict[str, bytes] = {}
        self.faults: dict[str, str] = {}
        """By file: `cut` (the connection ends halfway), `short` (a shorter file), `flipped` (a changed byte), or a
        status such as `503`."""
        self.requests: list[str] = []
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._http.daemon_threads = True
        self._http.hub = self  # type: ignore[attr-defined]
        self.port = self._http.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        self._running = True

    def add(self, name: str, folder: Path, **access: bool) -> str:
        """Make a repository of a folder's files; returns the commit."""
        repository = self.repositories.setdefault(name, Repository(**access))
        files = [path for path in folder.rglob("*") if path.is_file()]
        return repository.commit({path.relative_to(folder).as_posix(): path.read_bytes() for path in files})

    def stop(self) -> None:
        if self._running:
            self._running = False
            self._http.shutdown()
            self._http.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def hub(self) -> HubServer:
        return self.server.hub  # type: ignore[attr-defined, no-any-return]

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        parts = unquote(self.path.partition("?")[0]).strip("/").split("/")
        self.hub.requests.append(f"{self.command} {self.path}")
        if parts[0] == "cdn":
            self._send_file(self.hub.large[parts[1]], parts[2], {})
        elif parts[:2] == ["api", "models"] and (repository := self._readable("/".join(parts[2:4]))) is not None:
            sha = repository.names.get("main")
            self._send_json({"id": "/".join(parts[2:4]), "sha": sha, "private": repository.private, "siblings": []})
        elif (
            len(parts) > 4 and parts[2] == "resolve" and (repository := self._readable("/".join(parts[:2]))) is not None
        ):
            self._resolve(repository, "/".join(parts[3:-1]), parts[-1])
        elif parts[:2] == ["api", "datasets"]:
            if (repository := self._readable("/".join(parts[2:4]))) is not None:
                self._send_data_set("/".join(parts[2:4]), repository, parts[4], parts[5])
        elif parts[0] == "datasets":
            if (repository := self._readable("/".join(parts[1:3]))) is not None:
                self._resolve(repository, parts[4], "/".join(parts[5:]))
        elif parts[0] == "api" and parts[1] != "models":
            self._fail(404, "NotFound", "no such page")

    do_HEAD = do_GET

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        parts = self.path.partition("?")[0].strip("/").split("/")
        self.hub.requests.append(f"{self.command} {self.path}")
        if self._token() != self.hub.token:
            return self._fail(401, "", "Invalid username or password.")
        if parts == ["api", "repos", "create"]:
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            if asked["organization"] != "owner":
                return self._fail(403, "", f"You don't have the rights to create a model under {asked['organization']}")
            if name in self.hub.repositories:
                return self._fail(409, "", "You already created this model repo", url=f"{self.hub.url}/{name}")
            private = bool(asked.get("private")) or asked.get("visibility") == "private"
            self.hub.repositories[name] = Repository(private=private)
            return self._send_json({"url": f"{self.hub.url}/{name}"})
        if parts == ["api", "validate-yaml"]:
            return self._send_json({"errors": [], "warnings": []})
        if parts[-2:] == ["objects", "batch"]:
            return self._send_json(
                {"transfer": "basic", "objects": [self._place(o) for o in json.loads(body)["objects"]]}
            )
        if parts[4] == "preupload":
            files = [
                {
                    "path": f["path"],
                    "uploadMode": "lfs" if f["path"].endswith(LARGE) else "regular",
                    "shouldIgnore": False,
                }
                for f in json.loads(body)["files"]
            ]
            return self._send_json({"files": files})
        if parts[4] == "commit":
            repository = "/".join(parts[2:4])
            commit = self.hub.repositories[repository].commit(
                self._files([json.loads(line) for line in body.splitlines()])
            )
            return self._send_json({"commitOid": commit, "commitUrl": f"{self.hub.url}/{repository}/commit/{commit}"})
        return self._fail(404, "NotFound", "no such page")

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        self.hub.requests.append(f"{self.command} {self.path}")
        self.hub.large[_sha256(content)] = content
        self._send_json({})

    def _place(self, wanted: dict[str, Any]) -> dict[str, Any]:
        href = f"{self.hub.url}/upload/{wanted['oid']}"
        return {**wanted, "actions": {"upload": {"href": href}}}

    def _files(self, operations: list[dict[str, Any]]) -> dict[str, bytes]:
        files = {}
        for operation in operations[1:]:
            value = operation["value"]
            large = operation["key"] == "lfsFile"
            files[value["path"]] = self.hub.large[value["oid"]] if large else base64.b64decode(value["content"])
        return files

    def _readable(self, name: str) -> Repository | None:
        """The repository, or None after the answer that the Hub gives where it may not be read."""
        token, repository = self._token(), self.hub.repositories.get(name)
        if token not in ("", self.hub.token):
            self._fail(401, "", "Invalid credentials in Authorization header")
        elif repository is None or (repository.private and not token):
            self._fail(404 if token else 401, "RepoNotFound", "Repository not found")
        elif repository.gated:
            self._fail(403 if token else 401, "GatedRepo", "Access to this model is restricted")
        else:
            return repository
        return None

    def _send_data_set(self, name: str, repository: Repository, asked: str, revision: str) -> None:
        """What a data set is (`revision`), or which files it has (`tree`)."""
        commit = repository.names.get(revision, revision)
        if commit not in repository.commits:
            return self._fail(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        if asked == "revision":
            return self._send_json({"id": name, "sha": commit, "private": repository.private, "siblings": []})
        files = [
            {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
            for path, data in repository.commits[commit].items()
        ]
        return self._send_json(files)

    def _resolve(self, repository: Repository, revision: str, file: str) -> None:
        commit = repository.names.get(revision, revision)
        if commit not in repository.commits:
            return self._fail(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        headers = {"X-Repo-Commit": commit}
        content = repository.commits[commit].get(file)
        if content is None:
            return self._fail(404, "EntryNotFound", "Entry not found", **headers)
        if not file.endswith(LARGE):
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            return self._send_file(content, file, headers | {"ETag": f'"{blob}"'})
        sha256 = _sha256(content)
        self.hub.large[sha256] = content
        headers |= {"X-Linked-Etag": f'"{sha256}"', "X-Linked-Size": str(len(content))}
        return self._send(302, b"", headers | {"Location": f"http://localhost:{self.hub.port}/cdn/{sha256}/{file}"})

    def _send_file(self, content: bytes, file: str, headers: dict[str, str]) -> None:
        fault = self.hub.faults.get(file, "")
        if fault.isdecimal():
            return self._fail(int(fault), "", "out of order")
        half = content[: len(content) // 2]
        if fault == "flipped":
            content = half + bytes([content[len(half)] ^ 1]) + content[len(half) + 1 :]
        elif fault == "short":
            content = half
        return self._send(200, content, headers, cut=fault == "cut")

    def _send_json(self, content: object) -> None:
        self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _fail(self, status: int, code: str, message: str, **more: str) -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": message} if code else {"X-Error-Message": message}
        headers |= {name: value for name, value in more.items() if name != "url"}
        self._send(
            status, json.dumps({"error": message, **more}).encode(), headers | {"Content-Type": "application/json"}
        )

    def _send(self, status: int, body: bytes, headers: Mapping[str, str], cut: bool = False) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), "Connection": "close", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if cut else body)

    def _token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
