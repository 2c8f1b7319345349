"""A registry on loopback that misbehaves on demand: answers cut short or flipped, 429, redirects, tokens."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

Fault = Callable[["Handler", bytes], bool]  # answers by itself and returns True, or leaves it to the handler


@dataclass
class Served:
    """What a server has, and what it saw. `faults` are used up one a request for a blob."""

    manifests: dict[str, bytes] = field(default_factory=dict)  # by "repository:tag"
    blobs: dict[str, bytes] = field(default_factory=dict)  # by digest
    faults: list[Fault] = field(default_factory=list)
    token: str | None = None  # requests must carry it
    realm: str | None = None
    signers: dict[str, Ed25519PublicKey] | None = None  # whose signature a token takes, by OpenSSH's writing
    signed: set[str] = field(default_factory=set)
    has_ranges: bool = True
    seen: Counter[str] = field(default_factory=Counter)  # "METHOD kind"
    sent_bytes: int = 0
    port: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Handler(BaseHTTPRequestHandler):
    """GET of manifests and blobs, and of a token."""

    protocol_version = "HTTP/1.1"
    served: Served

    def handle(self) -> None:
        with suppress(ConnectionError):  # a client that was killed
            super().handle()

    def do_GET(self) -> None:
        kind = self.path.rsplit("/", 2)[1] if self.path.startswith("/v2/") else self.path.partition("?")[0]
        with self.served.lock:
            self.served.seen[f"GET {kind}"] += 1
            fault = self.served.faults.pop(0) if kind == "blobs" and self.served.faults else None
        if kind == "/token" and self.served.signers is not None and not self.is_signed():
            self.answer(401, b"who are you?")
        elif kind == "/token":
            self.answer(200, f'{{"token": "{self.served.token}"}}'.encode())
        elif self.served.token and self.headers["Authorization"] != f"Bearer {self.served.token}":
            realm = self.served.realm or f"http://127.0.0.1:{self.served.port}/token"
            self.answer(401, b"", {"WWW-Authenticate": f'Bearer realm="{realm}",service="s",scope="repository:x:pull"'})
        elif kind == "manifests":
            repository, tag = self.path[4:].split("/manifests/")
            self.content(self.served.manifests.get(f"{repository}:{tag}"))
        elif kind == "tags":
            repository = self.path[4:].split("/tags/")[0]
            tags = [key.split(":")[1] for key in self.served.manifests if key.startswith(f"{repository}:")]
            self.answer(200 if tags else 404, json.dumps({"name": repository, "tags": tags}).encode())
        elif kind == "blobs":
            content = self.served.blobs.get(self.path.rsplit("/", 1)[1])
            if fault is None or content is None or not fault(self, content):
                self.blob(content)
        else:
            self.answer(404, b"")

    def is_signed(self) -> bool:
        """Say whether a request carries the signature of a known key over its URL, and one that was not seen before."""
        public, _, signature = (self.headers["Authorization"] or "").partition(":")
        url = f"http://{self.headers['Host']}{self.path}"
        values = parse_qs(urlsplit(url).query)
        if public not in (self.served.signers or {}) or url in self.served.signed or not {"ts", "nonce"} <= set(values):
            return False
        self.served.signed.add(url)
        said = f"GET,{url},{base64.b64encode(hashlib.sha256(b'').hexdigest().encode()).decode()}".encode()
        try:
            (self.served.signers or {})[public].verify(base64.b64decode(signature), said)
        except InvalidSignature:
            return False
        return True

    def content(self, content: bytes | None) -> None:
        self.answer(404 if content is None else 200, content or b"")

    def blob(self, content: bytes | None) -> None:
        """Answer a blob, or the range of it that is asked for."""
        if content is None:
            return self.answer(404, b"")
        if not self.served.has_ranges or "Range" not in self.headers:
            return self.answer(200, content)
        start, end = (int(number) for number in self.headers["Range"].removeprefix("bytes=").split("-"))
        part = content[start : end + 1]
        return self.answer(206, part, {"Content-Range": f"bytes {start}-{end}/{len(content)}"})

    def answer(
        self, status: int, body: bytes, headers: dict[str, str] | None = None, length: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body) if length is None else length)}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        with self.served.lock:
            self.served.sent_bytes += len(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def registry(served: Served) -> Iterator[str]:
    """Serve, and yield `127.0.0.1:port`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"served": served}))
    server.daemon_threads = True
    served.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


# ── faults ──


def cut(handler: Handler, content: bytes) -> bool:
    """Break off in the middle."""
    start = int(handler.headers["Range"].removeprefix("bytes=").split("-")[0])
    part = content[start : start + _length(handler) // 2]
    handler.answer(206, part, _range_of(handler, content), length=_length(handler))
    handler.close_connection = True
    return True


def flip(handler: Handler, content: bytes) -> bool:
    """Send bits wrong, whatever range was asked for."""
    handler.blob(bytes(byte ^ 1 for byte in content))
    return True


def busy(handler: Handler, content: bytes) -> bool:
    """Send 429."""
    handler.answer(429, b"slow down", {"Retry-After": "1"})
    return True


def other_part(handler: Handler, content: bytes) -> bool:
    """Send another range than was asked for."""
    handler.answer(206, content[: _length(handler)], {"Content-Range": f"bytes 1-{_length(handler)}/{len(content)}"})
    return True


def loop(handler: Handler, content: bytes) -> bool:
    """Redirect to itself."""
    handler.answer(307, b"", {"Location": handler.path})
    handler.served.faults.insert(0, loop)
    return True


def _length(handler: Handler) -> int:
    start, end = (int(number) for number in handler.headers["Range"].removeprefix("bytes=").split("-"))
    return end - start + 1


def _range_of(handler: Handler, content: bytes) -> dict[str, str]:
    return {"Content-Range": f"{handler.headers['Range'].replace('=', ' ')}/{len(content)}"}
