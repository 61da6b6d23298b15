"""A hub on loopback: Hugging Face's and Civitai's documents, and a store of another address that they lead to."""

from __future__ import annotations

import hashlib
import http.server
import json
import re
import threading
from typing import Any


class FakeHub:
    """``files`` by repository and name; ``asked`` are the requests as (path, Authorization, Range).

    :ivar cut: bytes after which the store breaks the connection, for its next answers.
    """

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.versions: dict[str, dict[str, Any]] = {}
        self.asked: list[tuple[str, str | None, str | None]] = []
        self.cut: list[int] = []
        self.lies: dict[str, str] = {}
        self.statuses: list[int] = []
        self._hub, self._store = (_served(self, kind) for kind in (_Hub, _Store))
        self.url = f"http://127.0.0.1:{self._hub.server_address[1]}"
        # Another name for the same address: a store of another host.
        self.store = f"http://localhost:{self._store.server_address[1]}"

    def close(self) -> None:
        for server in (self._hub, self._store):
            server.shutdown()
            server.server_close()

    def document(self, repository: str) -> dict[str, Any]:
        siblings = [
            {
                "rfilename": name,
                "size": len(data),
                "blobId": "0" * 40,
                "lfs": {"sha256": self.digest(repository, name), "size": len(data), "pointerSize": 134},
            }
            for name, data in self.files[repository].items()
        ]
        return {
            "id": repository,
            "modelId": repository,
            "sha": "c0ffee",
            "siblings": siblings,
            "tags": [],
            "private": False,
        }

    def digest(self, repository: str, name: str) -> str:
        return self.lies.get(name) or hashlib.sha256(self.files[repository][name]).hexdigest()


def _served(hub: FakeHub, kind: type[_Handler]) -> http.server.ThreadingHTTPServer:
    handler = type("Handler", (kind,), {"hub": hub})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


class _Handler(http.server.BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *said: object) -> None:
        pass

    def note(self) -> None:
        self.hub.asked.append((self.path, self.headers.get("Authorization"), self.headers.get("Range")))

    def send(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)


class _Hub(_Handler):
    def do_GET(self) -> None:
        self.note()
        path = self.path.partition("?")[0]
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+?)(/revision/[^/]+)?", path):
            known = found[1] in self.hub.files
            body = json.dumps(self.hub.document(found[1]) if known else {"error": "Repository not found"}).encode()
            more = {} if known else {"X_Error_Code": "RepoNotFound"}
            self.send(200 if known else 404, body, Content_Type="application/json", **more)
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
            self.send(302, Location=f"{self.hub.store}/{found[1]}/{found[2]}")
        elif found := re.fullmatch(r"/api/v1/model-versions/(\d+)", path):
            document = self.hub.versions.get(found[1])
            self.send(200 if document else 404, json.dumps(document).encode(), Content_Type="application/json")
        elif found := re.fullmatch(r"/api/download/models/(\d+)", path):
            self.send(302, Location=f"{self.hub.store}/civitai/{found[1]}")
        else:
            self.send(404)


class _Store(_Handler):
    def do_GET(self) -> None:
        self.note()
        if self.hub.statuses:
            self.send(self.hub.statuses.pop(0))
            return
        repository, _, name = self.path.lstrip("/").partition("/")
        if repository not in self.hub.files:
            owner, _, rest = self.path.lstrip("/").partition("/")
            repository, _, name = rest.partition("/")
            repository = f"{owner}/{repository}"
        data = self.hub.files.get(repository, {}).get(name)
        if data is None:
            self.send(404)
            return
        tag = f'"{hashlib.sha256(data).hexdigest()}"'
        start = 0
        if (wanted := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")) and self.headers.get(
            "If-Range", tag
        ) == tag:
            start = int(wanted[1])
        if start >= len(data) > 0:
            self.send(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.send_header("ETag", tag)
        self.end_headers()
        if self.hub.cut:
            self.wfile.write(data[start : start + self.hub.cut.pop(0)])
            self.close_connection = True
        else:
            self.wfile.write(data[start:])
