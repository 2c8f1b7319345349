"""Meta's signed URLs: every file against the checklist, a link that expires, and one that goes on."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import camelid
from camelid.errors import DamagedBlob, InvalidRequest, NotFound, RegistryError, StoreError
from camelid.models.synth import write_synthetic
from camelid.runtime.converting import Layout, convert_model
from camelid.store import download as download_module
from camelid.store.meta import pull_meta
from camelid.store.names import Name, parse_name
from camelid.store.store import Entry, Store
from camelid.store.transfer import Watcher, pull, push

CHUNK = 1000


class Site:
    """A folder of files behind links; a link is good for as many answers as it says."""

    def __init__(self, folder: str, files: dict[str, bytes]) -> None:
        self.files = {f"{folder}/{path}": content for path, content in files.items()} | {"LICENSE": b"Be kind."}
        self.links: dict[str, int] = {}  # by signature: answers left
        self.sent_bytes = 0
        self.asked: list[str] = []
        self.expired_body = b"<Error>Request has expired</Error>"
        self.port = 0

    def link(self, signature: str, answers: int = 1 << 30) -> str:
        self.links[signature] = answers
        return f"http://127.0.0.1:{self.port}/*?Policy=x&Signature={signature}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Site

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        site, signature = self.site, query.rpartition("=")[2]
        site.asked.append(path)
        if site.links.get(signature, 0) <= 0 or path[1:] not in site.files:
            return self.answer(403, site.expired_body, {})
        site.links[signature] -= 1
        content = site.files[path[1:]]
        if "Range" not in self.headers:
            return self.answer(200, content, {})
        start, end = (int(number) for number in self.headers["Range"].removeprefix("bytes=").split("-"))
        part = content[start : end + 1]
        site.sent_bytes += len(part)
        return self.answer(206, part, {"Content-Range": f"bytes {start}-{end}/{len(content)}"})

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def model(num_shards: int, size: int = 20_500) -> dict[str, bytes]:
    files = {f"consolidated.{number:02d}.pth": os.urandom(size + number) for number in range(num_shards)}
    files |= {"params.json": b'{"dim": 8}', "tokenizer.model": b"IQ== 0\n"}
    lines = [f"{hashlib.md5(content).hexdigest()}  {path}\n" for path, content in files.items()]
    return {**files, "checklist.chk": "".join(lines).encode()}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download_module, "CHUNK_BYTES", CHUNK)
    monkeypatch.setattr(download_module, "SPAN_CHUNKS", 4)


@pytest.fixture
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    site: Site = Site(*request.param)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"site": site}))
    server.daemon_threads = True
    site.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield site
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


NAME = parse_name("meta:8b-instruct")
FOLDER = "8b_instruction_tuned"


def fetch(store: Store, url: str, name: Name = NAME) -> list[str]:
    said: list[str] = []
    pull_meta(store, name, url, Watcher(say=said.append), lambda *_: None)
    return said


def assert_whole(store: Store, site: Site, name: Name = NAME) -> None:
    entry = store.entry(name)
    store.verify(entry)
    folder = store.weights(entry)
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    sent = {path.rpartition("/")[2]: content for path, content in site.files.items()}
    assert found == {path: content for path, content in sent.items() if path not in ("LICENSE", "checklist.chk")}
    assert store.text(entry, "license") == "Be kind."


@pytest.mark.parametrize("site", [(FOLDER, model(1)), (FOLDER, model(2)), (FOLDER, model(8, 3000))], indirect=True)
def test_all_shards_are_fetched_and_checked(store: Store, site: Site) -> None:
    assert fetch(store, site.link("a")) == ["fetching the list of files"]
    assert_whole(store, site)
    assert str(NAME) == "meta:Meta-Llama-3-8B-Instruct"


@pytest.mark.parametrize("site", [(FOLDER, model(2))], indirect=True)
def test_an_expired_link_is_said_and_a_new_one_goes_on(store: Store, site: Site) -> None:
    with pytest.raises(RegistryError, match="the link has expired") as told:
        fetch(store, site.link("a", answers=12))
    assert "Signature" not in str(told.value)
    assert "--url" in (told.value.hint or "")
    assert list(store.entries()) == []
    arrived = site.sent_bytes
    fetch(store, site.link("b"))
    assert_whole(store, site)
    weights = sum(len(content) for path, content in site.files.items() if path.endswith(".pth"))
    assert site.sent_bytes <= weights + 4 + arrived // 2, "most of what arrived is not fetched again"


@pytest.mark.parametrize("site", [(FOLDER, model(2))], indirect=True)
def test_a_shard_that_is_there_is_not_fetched_again(store: Store, site: Site) -> None:
    fetch(store, site.link("a"))
    store.manifests.remove(NAME)
    site.sent_bytes = 0
    fetch(store, site.link("b"))
    assert site.sent_bytes == 2, "one byte of each, to learn its size"
    assert_whole(store, site)


@pytest.mark.parametrize("site", [(FOLDER, model(1))], indirect=True)
@pytest.mark.parametrize("path", ["consolidated.00.pth", "tokenizer.model"])
def test_a_file_that_is_not_what_the_checklist_says_is_refused(store: Store, site: Site, path: str) -> None:
    site.files[f"{FOLDER}/{path}"] = site.files[f"{FOLDER}/{path}"][:-1] + b"\xff"
    with pytest.raises(DamagedBlob, match="MD5"):
        fetch(store, site.link("a"))
    assert list(store.entries()) == []


@pytest.mark.parametrize("site", [("Llama3.1-8B", model(1))], indirect=True)
def test_a_model_without_a_checklist_is_fetched_and_that_is_said(store: Store, site: Site) -> None:
    del site.files["Llama3.1-8B/checklist.chk"]
    name = parse_name("meta:Llama3.1-8B")
    assert "no checksums" in fetch(store, site.link("a"), name)[1]
    assert_whole(store, site, name)


@pytest.mark.parametrize("site", [(FOLDER, {**model(1), "checklist.chk": b"<html>Sign in</html>"})], indirect=True)
def test_a_page_in_the_place_of_a_file_is_no_file(store: Store, site: Site) -> None:
    with pytest.raises(RegistryError, match="no checksums"):
        fetch(store, site.link("a"))
    del site.files[f"{FOLDER}/checklist.chk"]
    site.files[f"{FOLDER}/params.json"] = b"<html>Sign in</html>"
    with pytest.raises(StoreError, match="web page"):
        fetch(store, site.link("b"))


@pytest.mark.parametrize(
    "url", ["https://example.com/a?x=1", "https://example.com/*", "https://*.example.com/*?x", "https://*/?x", ""]
)
def test_what_is_no_signed_url_is_refused(store: Store, url: str) -> None:
    with pytest.raises(InvalidRequest, match="no signed URL"):
        fetch(store, url)
    with pytest.raises(RegistryError, match="not safe"):
        fetch(store, "http://example.com/*?Policy=x")
    with pytest.raises((NotFound, InvalidRequest)):
        parse_name("meta:../x")


def test_without_a_url_the_way_to_one_is_told(store: Store) -> None:
    with pytest.raises(InvalidRequest, match="signed URL"):
        pull(store, NAME, Watcher(), lambda *_: None)
    with pytest.raises(InvalidRequest, match="nothing can be pushed to meta"):
        push(Entry(NAME, None, 0.0, store), NAME, Watcher())  # type: ignore[arg-type]


@pytest.mark.parametrize("site", [(FOLDER, {})], indirect=True)
def test_what_was_fetched_runs(store: Store, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download_module, "CHUNK_BYTES", 4 << 20)
    write_synthetic(tmp_path / "tiny.gguf", "tiny", "F16", num_layers=1)
    convert_model(tmp_path / "tiny.gguf", tmp_path / "tiny", Layout.META, num_files=2)
    files = {path.name: path.read_bytes() for path in (tmp_path / "tiny").iterdir()}
    sums = "".join(f"{hashlib.md5(content).hexdigest()}  {path}\n" for path, content in files.items())
    site.files |= {f"{FOLDER}/{path}": content for path, content in (files | {"checklist.chk": sums.encode()}).items()}
    fetch(store, site.link("a"))
    with camelid.load(str(NAME), models=str(store.folder), threads=1, context_length=256) as model:
        assert model.chat("Hello!", max_tokens=3).usage.completion_tokens > 0
