"""Pushing to Ollama's registry: in parts, each to where it is sent, with credentials for the registry alone."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from camelid.errors import RegistryError
from camelid.store import uploads
from camelid.store.blobs import digest_of
from camelid.store.manifests import DOCKER_MANIFEST, OLLAMA_LAYER, Layer, write_manifest
from camelid.store.names import parse_name
from camelid.store.store import Store
from camelid.store.transfer import Watcher, push

WEIGHTS = os.urandom(2500)


class Uploads:
    """What a registry of Ollama's kind got, and what it does on the way."""

    def __init__(self) -> None:
        self.parts: dict[tuple[str, int], bytes] = {}  # by session, and where they begin
        self.blobs: dict[str, bytes] = {}
        self.manifest = b""
        self.sends_on = False
        self.faults: list[int] = []
        self.token = "sesame"
        self.elsewhere: list[str | None] = []  # the Authorization of what came to the storage
        self.port = 0
        self.num_sessions = 0


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    uploads: Uploads

    def do_GET(self) -> None:
        self.answer(200, f'{{"token": "{self.uploads.token}"}}'.encode())

    def do_HEAD(self) -> None:
        self.answer(200 if self.path.rsplit("/", 1)[1] in self.uploads.blobs else 404)

    def do_POST(self) -> None:
        if self.is_known():
            self.uploads.num_sessions += 1
            self.answer(202, headers={"Docker-Upload-Location": f"/session/{self.uploads.num_sessions}/0?state=a"})

    def do_PATCH(self) -> None:
        content, state = self.body(), self.uploads
        if not self.is_known():
            return
        if state.faults:
            self.answer(state.faults.pop())
            return
        _, _, session, number = urlsplit(self.path).path.split("/")
        following = {"Docker-Upload-Location": f"/session/{session}/{int(number) + 1}?state=b"}
        start = self.headers["Content-Range"].split("-")[0]
        if state.sends_on:
            place = f"http://localhost:{state.port}/storage/{session}/{start}"
            self.answer(307, headers={**following, "Location": place})
            return
        state.parts[session, int(start)] = content
        self.answer(202, headers=following)

    def do_PUT(self) -> None:
        content, state, parts = self.body(), self.uploads, self.path.split("/")
        if parts[1] == "storage":
            state.elsewhere.append(self.headers["Authorization"])
            state.parts[parts[2], int(parts[3])] = content
            self.answer(200)
        elif "/manifests/" in self.path:
            state.manifest = content
            self.answer(201)
        else:
            self.close_session(parts[2])

    def close_session(self, session: str) -> None:
        values = parse_qs(urlsplit(self.path).query)
        found = [part for (owner, _), part in sorted(self.uploads.parts.items()) if owner == session]
        sums = hashlib.md5(b"".join(hashlib.md5(part).digest() for part in found)).hexdigest()
        whole = b"".join(found)
        is_right = values["etag"] == [f"{sums}-{len(found)}"] and values["digest"] == [str(digest_of(whole))]
        if is_right:
            self.uploads.blobs[values["digest"][0]] = whole
        self.answer(201 if is_right else 400)

    def is_known(self) -> bool:
        """Say whether a request has the token; else answer that it must."""
        if self.headers["Authorization"] == f"Bearer {self.uploads.token}":
            return True
        realm = f'Bearer realm="http://127.0.0.1:{self.uploads.port}/token",service="s",scope="x"'
        self.answer(401, headers={"WWW-Authenticate": realm})
        return False

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"] or 0))

    def answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Uploads]:
    monkeypatch.setattr(uploads, "part_bytes", lambda size: 1000)
    monkeypatch.setenv("HOME", str(tmp_path))
    state = Uploads()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"uploads": state}))
    server.daemon_threads = True
    state.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


def send(state: Uploads, tmp_path: Path) -> bytes:
    store = Store(tmp_path / "store")
    config = Layer("c", store.blobs.add(b"{}"), 2)
    layers = (Layer(f"{OLLAMA_LAYER}model", store.blobs.add(WEIGHTS), len(WEIGHTS)),)
    entry = store.list_model(parse_name("mine"), write_manifest(DOCKER_MANIFEST, config, layers))
    push(entry, parse_name(f"127.0.0.1:{state.port}/me/mine"), Watcher())
    return entry.manifest.content


@pytest.mark.parametrize("sends_on", [False, True])
def test_all_parts_arrive_and_the_checksum_of_them_is_right(state: Uploads, tmp_path: Path, sends_on: bool) -> None:
    state.sends_on = sends_on
    content = send(state, tmp_path)
    assert state.blobs == {str(digest_of(blob)): blob for blob in (WEIGHTS, b"{}")}
    assert state.manifest == content
    assert state.elsewhere == [None] * (4 if sends_on else 0), "the storage gets no credentials"


def test_a_part_is_sent_again_after_a_fault_and_after_a_token_that_expired(state: Uploads, tmp_path: Path) -> None:
    state.faults = [503, 500]
    send(state, tmp_path)
    assert str(digest_of(WEIGHTS)) in state.blobs
    state.blobs.clear()
    state.faults = [403]
    with pytest.raises(RegistryError, match="403"):
        send(state, tmp_path)


@pytest.mark.parametrize(
    ("size", "expected"), [(1, 100_000_000), (4_000_000_000, 250_000_000), (10**12, 1_000_000_000)]
)
def test_parts_are_a_sixteenth_within_bounds(size: int, expected: int) -> None:
    assert uploads.part_bytes(size) == expected
