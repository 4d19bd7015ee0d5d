"""A stand-in for the Hugging Face hub: the part of its HTTP interface that its own client speaks when models are
written and read. It keeps repositories in memory, checks what the real one checks of a card, and has no network.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from huggingface_hub import constants

TOKEN = "hf_of_the_stand_in"
Files = dict[str, bytes]


@dataclass
class Repository:
    """A repository: its commits by hash, and where its branches are."""

    private: bool = False
    gated: bool = False
    commits: dict[str, Files] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.add("main", {})

    def add(self, branch: str, files: Files, *, ignored: str | None = None) -> str:
        """A commit on a branch, over what was there."""
        before = self.commits.get(self.branches.get(branch, ""), {})
        new = {**before, **{name: content for name, content in files.items() if name != ignored}}
        content = "".join(f"{name}{_oid(content)}" for name, content in sorted(new.items()))
        sha = hashlib.sha1(f"{len(self.commits)}{content}".encode()).hexdigest()
        self.commits[sha] = new
        self.branches[branch] = sha
        return sha

    def at(self, revision: str) -> str | None:
        return self.branches.get(revision, revision if revision in self.commits else None)

    @property
    def files(self) -> Files:
        return self.commits[self.branches["main"]]


@dataclass
class Hub:
    """The stand-in and what was asked of it."""

    address: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    fail_at: str | None = None
    ignores: str | None = None

    def written(self) -> list[str]:
        """Requests that may change something."""
        return [line for line in self.requests if not line.startswith(("GET", "HEAD"))]


def _oid(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Refusal(Exception):
    def __init__(self, status: int, message: str, code: str = "", **more: str) -> None:
        super().__init__(message)
        self.status, self.code, self.more = status, code, more


class Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else b""
        try:
            if self.hub.fail_at is not None and self.hub.fail_at in path:
                raise Refusal(500, "out of order")
            for method, pattern, answer in ROUTES:
                found = re.fullmatch(pattern, path)
                if found and self.command in method:
                    self._send(200, *answer(self, body, *found.groups()))
                    return
            raise Refusal(404, f"nothing at {path}", "EntryNotFound")
        except Refusal as refusal:
            content = json.dumps(
                {"error": str(refusal), "errors": [{"message": str(refusal)}], **refusal.more}
            ).encode()
            self._send(refusal.status, content, {"X-Error-Code": refusal.code, "X-Error-Message": str(refusal)})

    do_GET = do_HEAD = do_POST = do_PUT = _answer

    def _send(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    @property
    def logged_in(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def repository(self, name: str) -> Repository:
        found = self.hub.repositories.get(name)
        if found is None or (found.private and not self.logged_in):
            raise Refusal(404 if self.logged_in else 401, "Repository not found", "RepoNotFound")
        return found

    def readable(self, name: str, revision: str) -> tuple[Repository, str]:
        found = self.repository(name)
        sha = found.at(revision)
        if sha is None:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return found, sha

    def writable(self, name: str) -> Repository:
        if not self.logged_in:
            raise Refusal(401, "Invalid username or password.")
        if not name.startswith("user/"):
            raise Refusal(403, "You don't have the rights to create a model under this namespace")
        return self.repository(name)


Sent = tuple[Any, dict[str, str]] | tuple[Any]


def _create(handler: Handler, body: bytes) -> Sent:
    asked = json.loads(body)
    name = f"{asked.get('organization') or 'user'}/{asked['name']}"
    known = handler.hub.repositories
    if name in known:
        raise Refusal(409, "You already created this model repo", url=f"{handler.hub.address}/{name}")
    known[name] = Repository(private="private" in (asked.get("visibility"), asked.get("private") and "private"))
    try:
        handler.writable(name)
    except Refusal:
        del known[name]
        raise
    return ({"url": f"{handler.hub.address}/{name}", "name": name},)


def _validate(handler: Handler, body: bytes) -> Sent:
    """What the hub refuses of a card: nulls and paths where names of models belong, and configs that are no texts."""
    block = re.match(r"---\n(.*?)\n---\n", json.loads(body)["content"], flags=re.DOTALL)
    card = yaml.safe_load(block[1]) if block else {}
    bases = card.get("base_model") or []
    for base in [bases] if isinstance(bases, str) else bases:
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", base):
            raise Refusal(400, f'"base_model" with value "{base}" is not valid. Use a model id.')
    if None in (card.get("datasets") or [""]):
        raise Refusal(400, '"datasets[0]" must be a string')
    for model in card.get("model-index") or []:
        for result in model["results"]:
            if not isinstance(result["dataset"].get("config", ""), str) or not result["dataset"].get("type"):
                raise Refusal(400, '"model-index[0].results[0].dataset.config" must be a string')
    return ({"errors": [], "warnings": []},)


def _preupload(handler: Handler, body: bytes, name: str, _: str) -> Sent:
    handler.writable(name)
    large = (".safetensors", ".gz")
    return (
        {
            "files": [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(large) else "regular",
                    "shouldIgnore": file["path"] == handler.hub.ignores,
                }
                for file in json.loads(body)["files"]
            ]
        },
    )


def _batch(handler: Handler, body: bytes, name: str) -> Sent:
    handler.writable(name)
    place = {"href": f"{handler.hub.address}/lfs/"}
    return (
        {
            "transfer": "basic",
            "objects": [
                {**one, "actions": {"upload": {"href": place["href"] + one["oid"]}}}
                for one in json.loads(body)["objects"]
            ],
        },
    )


def _put(handler: Handler, body: bytes, oid: str) -> Sent:
    if _oid(body) != oid:
        raise Refusal(400, "the content is not what its hash says")
    handler.hub.blobs[oid] = body
    return ({},)


def _commit(handler: Handler, body: bytes, name: str, revision: str) -> Sent:
    repository = handler.writable(name)
    files: Files = {}
    for line in map(json.loads, body.splitlines()):
        value = line["value"]
        if line["key"] == "file":
            files[value["path"]] = base64.b64decode(value["content"])
        elif line["key"] == "lfsFile":
            files[value["path"]] = handler.hub.blobs[value["oid"]]
    proposed = "create_pr=1" in handler.path
    sha = repository.add("refs/pr/1" if proposed else revision, files)
    address = f"{handler.hub.address}/{name}"
    return ({"commitUrl": f"{address}/commit/{sha}", "commitOid": sha, "pullRequestUrl": f"{address}/discussions/1"},)


def _branch(handler: Handler, _: bytes, name: str, branch: str) -> Sent:
    repository = handler.writable(name)
    if branch in repository.branches:
        raise Refusal(409, "the branch exists")
    repository.branches[branch] = repository.branches["main"]
    return ({},)


def _info(handler: Handler, _: bytes, name: str, revision: str | None = None) -> Sent:
    repository, sha = handler.readable(name, revision or "main")
    siblings = [{"rfilename": file} for file in sorted(repository.commits[sha])]
    return ({"id": name, "modelId": name, "sha": sha, "private": repository.private, "siblings": siblings},)


def _tree(handler: Handler, _: bytes, name: str, revision: str) -> Sent:
    repository, sha = handler.readable(name, revision)
    return (
        [
            {"type": "file", "path": file, "size": len(content), "oid": _oid(content)[:40]}
            for file, content in sorted(repository.commits[sha].items())
        ],
    )


def _resolve(handler: Handler, _: bytes, name: str, revision: str, file: str) -> Sent:
    repository, sha = handler.readable(name, revision)
    if repository.gated and not handler.logged_in:
        raise Refusal(401, "Access to this model is restricted", "GatedRepo")
    if file not in repository.commits[sha]:
        raise Refusal(404, "Entry not found", "EntryNotFound")
    content = repository.commits[sha][file]
    return content, {"ETag": f'"{_oid(content)}"', "X-Repo-Commit": sha, "Content-Type": "application/octet-stream"}


NAME = r"([\w.-]+/[\w.-]+)"
ROUTES: list[tuple[str, str, Any]] = [
    ("GET HEAD", "/?", lambda handler, body: (b"",)),
    ("POST", "/api/repos/create", _create),
    ("POST", "/api/validate-yaml", _validate),
    ("POST", f"/api/models/{NAME}/preupload/(.+)", _preupload),
    ("POST", f"/{NAME}\\.git/info/lfs/objects/batch", _batch),
    ("PUT", "/lfs/([0-9a-f]+)", _put),
    ("POST", f"/api/models/{NAME}/commit/(.+)", _commit),
    ("POST", f"/api/models/{NAME}/branch/(.+)", _branch),
    ("GET", f"/api/models/{NAME}/tree/(.+)", _tree),
    ("GET", f"/api/models/{NAME}(?:/revision/(.+))?", _info),
    ("GET HEAD", f"/{NAME}/resolve/([^/]+)/(.+)", _resolve),
]


@contextmanager
def serving(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A stand-in that the hub's client takes for the hub, with a cache in `folder`."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("OfThisHub", (Handler,), {"hub": hub}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    hub.address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", hub.address)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
