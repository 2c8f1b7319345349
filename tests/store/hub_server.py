"""A Hugging Face hub on loopback: its API for a model, its files, and another host for the large ones."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = (".gguf", ".safetensors")


@dataclass
class Hub:
    """What it has, and what it saw. A repository with a `token` is shown to its holder only."""

    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    token: str | None = None
    is_gated: bool = False
    spoiled: str | None = None  # a file that is sent with a bit wrong
    seen: list[tuple[str, str, str | None]] = field(default_factory=list)  # host, path, authorization
    port: int = 0


class Handler(BaseHTTPRequestHandler):
    """GET of what a model is, and of files."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_GET(self) -> None:
        path, _, _ = self.path.partition("?")
        self.hub.seen.append((self.headers["Host"].split(":")[0], path, self.headers["Authorization"]))
        if path.startswith("/cdn/"):
            repository, file = unquote(path.removeprefix("/cdn/")).split("//")
            return self.content(self.file(repository, file))
        if self.hub.token and self.headers["Authorization"] != f"Bearer {self.hub.token}":
            code = "GatedRepo" if self.hub.is_gated else "RepoNotFound"
            return self.answer(401, b"", {"X-Error-Code": code})
        if path.startswith("/api/models/"):
            return self.model(path.removeprefix("/api/models/"))
        repository, _, rest = unquote(path)[1:].partition("/resolve/")
        file = rest.removeprefix(f"{COMMIT}/")
        if file not in self.hub.repositories.get(repository, {}):
            return self.answer(404, b"", {"X-Error-Code": "EntryNotFound"})
        if file.endswith(LARGE):
            place = f"http://localhost:{self.hub.port}/cdn/{repository}//{file}"
            return self.answer(302, b"", {"Location": place})
        return self.content(self.file(repository, file))

    def model(self, repository: str) -> None:
        files = self.hub.repositories.get(repository)
        if files is None:
            return self.answer(404, b"", {"X-Error-Code": "RepoNotFound"})
        siblings = [_sibling(path, content) for path, content in files.items()]
        model = {"_id": "1", "id": repository, "sha": COMMIT, "siblings": siblings, "cardData": {"license": "llama3.1"}}
        return self.answer(200, json.dumps(model).encode(), {"Content-Type": "application/json"})

    def file(self, repository: str, file: str) -> bytes:
        content = self.hub.repositories[repository][file]
        return bytes([content[0] ^ 1]) + content[1:] if file == self.hub.spoiled else content

    def content(self, content: bytes) -> None:
        if "Range" not in self.headers:
            return self.answer(200, content)
        start, end = (int(number) for number in self.headers["Range"].removeprefix("bytes=").split("-"))
        headers = {"Content-Range": f"bytes {start}-{end}/{len(content)}"}
        return self.answer(206, content[start : end + 1], headers)

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _sibling(path: str, content: bytes) -> dict[str, object]:
    git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    known: dict[str, object] = {"rfilename": path, "size": len(content), "blobId": git}
    if path.endswith(LARGE):
        sha256 = hashlib.sha256(content).hexdigest()
        known["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 130}
    return known


@contextmanager
def serve(hub: Hub) -> Iterator[str]:
    """Serve, and yield the endpoint."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
