"""A Hub on a local socket, small but whole enough for the real huggingface_hub client: downloads, uploads, refusals."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".ckpt", ".bin", ".onnx", ".pth")
TOKEN = "hf_test"


@dataclass
class Fault:
    """What goes wrong with an answer.

    Attributes:
        status, code: of a refusal, with its X-Error-Code.
        cut: bytes of the body after which the connection ends.
        flip: the last byte of the body is another.
        whole: a Range is not honoured.
        headers, body: of another answer in its place; ``endless``, the body comes again and again.
    """

    status: int | None = None
    code: str = ""
    cut: int | None = None
    flip: bool = False
    whole: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    endless: bool = False


@dataclass
class Repo:
    """Attributes: commits: hash -> path -> content; refs: branch -> hash; gated: needs a token."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    gated: bool = False
    private: bool = False
    messages: list[str] = field(default_factory=list)


class FakeHub:
    """The server: fill it with ``add``, break it with ``fail``, look at ``requests``."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.large: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.ranges: list[str] = []
        self._faults: list[tuple[str, Fault]] = []
        self._connections: set[socket.socket] = set()
        hub = self

        class Handler(_Handler):
            def setup(self) -> None:
                super().setup()
                hub._connections.add(self.connection)

            def handle_any(self) -> None:
                hub.answer(self)

            do_GET = do_HEAD = do_POST = do_PUT = handle_any

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: Any, client_address: Any) -> None:
                """Say nothing of a client that has gone: what a command prints is read."""
                if not isinstance(sys.exception(), ConnectionError):
                    super().handle_error(request, client_address)

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.elsewhere = f"http://localhost:{self._server.server_port}"  # large files lie on another host

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        for connection in self._connections:  # else those that are kept alive would go on answering
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def add(self, repo_id: str, files: Mapping[str, bytes], *, gated: bool = False, commit: str = "") -> str:
        """Commit files to a repository's main branch; the commit's hash, which may be given."""
        repo = self.repos.setdefault(repo_id, Repo())
        repo.gated = gated
        return self._commit(repo, "main", {**self._tree(repo, "main"), **files}, commit)

    def fail(self, pattern: str, times: int = 1, **fault: Any) -> None:
        """Let the next answers to requests that match (``"GET .*weights"``) go wrong."""
        self._faults += [(pattern, Fault(**fault))] * times

    def gets(self) -> list[str]:
        return [request for request in self.requests if request.startswith("GET")]

    def _tree(self, repo: Repo, revision: str) -> dict[str, bytes]:
        return repo.commits.get(repo.refs.get(revision, revision), {})

    def _commit(self, repo: Repo, branch: str, tree: dict[str, bytes], commit: str = "") -> str:
        commit = commit or hashlib.sha1(f"{len(repo.commits)} {sorted(tree)} {id(repo)}".encode()).hexdigest()
        repo.commits[commit], repo.refs[branch] = tree, commit
        return commit

    def _fault(self, request: str) -> Fault:
        for entry in self._faults:
            if re.match(entry[0], request):
                self._faults.remove(entry)
                return entry[1]
        return Fault()

    def answer(self, handler: _Handler) -> None:
        path = unquote(urlsplit(handler.path).path)
        request = f"{handler.command} {path}"
        self.requests.append(request)
        self.ranges.append(handler.headers.get("Range", ""))
        body = handler.body()
        fault = self._fault(request)
        if fault.body is not None:
            return handler.send_other(fault, fault.body)
        if fault.status is not None:
            return handler.refuse(fault.status, fault.code)
        allowed = handler.headers.get("Authorization") == f"Bearer {TOKEN}"
        for pattern, method in ROUTES:
            if match := re.fullmatch(pattern, path):
                return method(self, handler, match, body, allowed, fault)
        return handler.refuse(404)

    def download(self, handler: _Handler, match: re.Match[str], body: bytes, allowed: bool, fault: Fault) -> None:
        repo_id, revision, name = match.groups()
        repo = self.repos.get(repo_id)
        if repo is None:
            return handler.refuse(404 if allowed else 401, "RepoNotFound")
        if repo.gated and not allowed:
            return handler.refuse(401, "GatedRepo")
        commit = repo.refs.get(revision, revision)
        if commit not in repo.commits:
            return handler.refuse(404, "RevisionNotFound")
        if name not in repo.commits[commit]:
            return handler.refuse(404, "EntryNotFound")
        content = repo.commits[commit][name]
        headers = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if not name.endswith(LARGE):
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            return handler.send(200, content, {**headers, "ETag": f'"{blob}"'}, fault)
        sha256 = hashlib.sha256(content).hexdigest()
        self.large[sha256] = content
        headers |= {"X-Linked-Etag": f'"{sha256}"', "X-Linked-Size": str(len(content))}
        if fault != Fault():  # of the body: the next request is the one that has it
            self._faults.insert(0, (f"{handler.command} /_cdn/", fault))
        return handler.send(302, b"", {**headers, "Location": f"{self.elsewhere}/_cdn/{sha256}"})

    def cdn(self, handler: _Handler, match: re.Match[str], body: bytes, allowed: bool, fault: Fault) -> None:
        assert "Authorization" not in handler.headers, "the token is for the Hub alone"
        handler.send(200, self.large[match[1]], {"ETag": f'"{match[1]}"', "Accept-Ranges": "bytes"}, fault)

    def model(self, handler: _Handler, match: re.Match[str], body: bytes, allowed: bool, fault: Fault) -> None:
        repo_id, verb, revision = match.groups()
        repo = self.repos.get(repo_id)
        if repo is None:
            return handler.refuse(404 if allowed else 401, "RepoNotFound")
        if verb in {"preupload", "commit"} and not allowed:
            return handler.refuse(403)
        if verb == "preupload":
            files = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
                    "shouldIgnore": False,
                }
                for file in json.loads(body)["files"]
            ]
            return handler.send_json({"files": files})
        if verb == "commit":
            return self.commit(handler, repo_id, repo, revision, body)
        commit = repo.refs.get(revision or "main", revision)
        if commit not in repo.commits:
            return handler.refuse(404, "RevisionNotFound")
        siblings = [{"rfilename": name} for name in repo.commits[commit]]
        return handler.send_json({"id": repo_id, "modelId": repo_id, "_id": "0", "sha": commit, "siblings": siblings})

    def commit(self, handler: _Handler, repo_id: str, repo: Repo, branch: str, body: bytes) -> None:
        tree = dict(self._tree(repo, branch))
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            match line["key"]:
                case "header":
                    repo.messages.append(value["summary"])
                case "file":
                    tree[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    tree[value["path"]] = self.large[value["oid"]]
        commit = self._commit(repo, branch, tree)
        address = f"{self.url}/{repo_id}/commit/{commit}"
        handler.send_json({"success": True, "commitOid": commit, "commitUrl": address, "pullRequestUrl": None})

    def create(self, handler: _Handler, match: re.Match[str], body: bytes, allowed: bool, fault: Fault) -> None:
        if not allowed:
            return handler.refuse(401)
        wanted = json.loads(body)
        repo_id = f"{wanted.get('organization') or 'me'}/{wanted['name']}"
        if repo_id in self.repos:
            return handler.send_json({"url": f"{self.url}/{repo_id}", "error": "exists"}, 409)
        repo = self.repos[repo_id] = Repo(private=bool(wanted.get("private") or wanted.get("visibility") == "private"))
        self._commit(repo, "main", {})
        return handler.send_json({"url": f"{self.url}/{repo_id}", "name": repo_id, "id": "0"})

    def who(self, handler: _Handler, match: re.Match[str], body: bytes, allowed: bool, fault: Fault) -> None:
        if not allowed:
            return handler.refuse(401)
        return handler.send_json({"type": "user", "name": "me"})

    def batch(self, handler: _Handler, match: re.Match[str], body: bytes, allowed: bool, fault: Fault) -> None:
        objects = [
            {**item, "actions": {"upload": {"href": f"{self.url}/_lfs/{item['oid']}"}}}
            for item in json.loads(body)["objects"]
        ]
        handler.send_json({"transfer": "basic", "objects": objects})

    def receive(self, handler: _Handler, match: re.Match[str], body: bytes, allowed: bool, fault: Fault) -> None:
        assert hashlib.sha256(body).hexdigest() == match[1]
        self.large[match[1]] = body
        handler.send(200)

    def yaml(self, handler: _Handler, match: re.Match[str], body: bytes, allowed: bool, fault: Fault) -> None:
        handler.send_json({"errors": [], "warnings": []})


ROUTES: list[tuple[str, Callable[..., None]]] = [
    (r"/api/models/([^/]+/[^/]+)(?:/(revision|preupload|commit)/([^/]+))?", FakeHub.model),
    (r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", FakeHub.download),
    (r"/_cdn/([0-9a-f]{64})", FakeHub.cdn),
    (r"/api/repos/create", FakeHub.create),
    (r"/api/whoami-v2", FakeHub.who),
    (r"/.*\.git/info/lfs/objects/batch", FakeHub.batch),
    (r"/_lfs/([0-9a-f]{64})", FakeHub.receive),
    (r"/api/validate-yaml", FakeHub.yaml),
]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        pass

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def refuse(self, status: int, code: str = "") -> None:
        headers = {"X-Error-Message": code or "refused", **({"X-Error-Code": code} if code else {})}
        self.send_json({"error": code}, status, headers)

    def send_other(self, fault: Fault, body: bytes) -> None:
        self.send_response(fault.status or 200)
        length = {} if fault.endless else {"Content-Length": str(len(body))}
        for name, value in {**length, **fault.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.close_connection = True
        with contextlib.suppress(OSError):  # whoever asked has heard enough
            while self.command != "HEAD":
                self.wfile.write(body)
                if not fault.endless:
                    break

    def send_json(self, tree: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        self.send(status, json.dumps(tree).encode(), {**(headers or {}), "Content-Type": "application/json"})

    def send(
        self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None, fault: Fault | None = None
    ) -> None:
        fault = fault or Fault()
        headers = dict(headers or {})
        if fault.flip:
            body = body[:-1] + bytes([body[-1] ^ 1])
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked and status == 200 and not fault.whole:
            status, start = 206, int(asked[1])
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
            body = body[start:]
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(body[: fault.cut])
        self.wfile.flush()
        if fault.cut is not None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
