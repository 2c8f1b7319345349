"""Pulling from a registry on loopback that is sound, and from one that is not."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from camelid.errors import DamagedBlob, DamagedManifest, NotFound, RegistryError, StoreFull
from camelid.store import blobs as blobs_module
from camelid.store import download as download_module
from camelid.store.blobs import digest_of
from camelid.store.manifests import DOCKER_MANIFEST, OLLAMA_LAYER, Layer, write_manifest
from camelid.store.names import Name, parse_name
from camelid.store.store import Store
from camelid.store.transfer import Watcher, pull
from tests.store.registry_server import Served, busy, cut, flip, loop, other_part, registry

CHUNK = 1000  # bytes, in the place of 4 MiB
WEIGHTS = os.urandom(20_500)
CONFIG = b'{"model_format":"gguf"}'


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download_module, "CHUNK_BYTES", CHUNK)
    monkeypatch.setattr(download_module, "LONGEST_WAIT_S", 0.01)


@pytest.fixture
def served() -> Served:
    layers = (Layer(f"{OLLAMA_LAYER}model", digest_of(WEIGHTS), len(WEIGHTS)),)
    config = Layer("application/vnd.docker.container.image.v1+json", digest_of(CONFIG), len(CONFIG))
    manifest = write_manifest(DOCKER_MANIFEST, config, layers)
    contents = {str(digest_of(content)): content for content in (WEIGHTS, CONFIG)}
    return Served({"ns/m:latest": manifest.content}, contents)


@pytest.fixture
def name(served: Served) -> Iterator[Name]:
    with registry(served) as host:
        yield parse_name(f"{host}/ns/m")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def fetch(store: Store, name: Name, confirm: Callable[..., object] = lambda *_: None) -> None:
    pull(store, name, Watcher(), confirm)


def assert_whole(store: Store, name: Name) -> None:
    entry = store.entry(name)
    store.verify(entry)
    assert store.weights(entry).read_bytes() == WEIGHTS
    assert list(store.blobs.folder.glob("*partial*")) == []


def assert_absent(store: Store) -> None:
    assert list(store.entries()) == []
    assert all(store.blobs.path(digest).read_bytes() in (WEIGHTS, CONFIG) for digest in store.blobs)


def test_a_model_is_there_when_it_was_pulled(store: Store, name: Name, served: Served) -> None:
    told: list[tuple[int, int]] = []
    fetch(store, name, lambda manifest, need_bytes: told.append((manifest.size, need_bytes)))
    assert_whole(store, name)
    assert told == [(len(WEIGHTS) + len(CONFIG),) * 2]
    assert store.entry(name).manifest.content == served.manifests["ns/m:latest"]


def test_what_is_there_is_not_fetched_again(store: Store, name: Name, served: Served) -> None:
    fetch(store, name)
    seen = served.seen["GET blobs"]
    fetch(store, name)
    assert served.seen["GET blobs"] == seen


@pytest.mark.parametrize("fault", [cut, busy, other_part])
def test_a_fault_now_and_then_is_got_over(store: Store, name: Name, served: Served, fault: Callable[..., bool]) -> None:
    served.faults = [fault, fault, lambda *_: False, fault]
    fetch(store, name)
    assert_whole(store, name)


def test_a_registry_without_ranges_will_do(store: Store, name: Name, served: Served) -> None:
    served.has_ranges = False
    fetch(store, name)
    assert_whole(store, name)


@pytest.mark.parametrize(("fault", "error"), [(busy, RegistryError), (cut, RegistryError), (loop, RegistryError)])
def test_a_registry_that_never_gets_better_is_given_up(
    store: Store, name: Name, served: Served, fault: Callable[..., bool], error: type[Exception]
) -> None:
    served.faults = [fault] * 200
    with pytest.raises(error):
        fetch(store, name)
    assert_absent(store)


def test_a_flipped_bit_is_seen_and_the_next_pull_starts_afresh(store: Store, name: Name, served: Served) -> None:
    served.faults = [flip]
    with pytest.raises(DamagedBlob):
        fetch(store, name)
    assert_absent(store)
    fetch(store, name)
    assert_whole(store, name)


def test_a_pull_goes_on_where_the_last_one_broke_off(store: Store, name: Name, served: Served) -> None:
    def stop(handler: object, content: bytes) -> bool:
        served.faults.insert(0, stop)
        return busy(handler, content)  # type: ignore[arg-type]

    served.faults = [lambda *_: False, stop]  # one span arrives, nothing after it does
    with pytest.raises(RegistryError):
        fetch(store, name)
    served.faults, served.sent_bytes = [], 0
    fetch(store, name)
    assert_whole(store, name)
    manifest_bytes = len(served.manifests["ns/m:latest"])
    # Fifteen of the span's sixteen chunks: a thread of the first pull may still be told that the server is busy.
    assert served.sent_bytes - manifest_bytes <= len(WEIGHTS) + len(CONFIG) - 15 * CHUNK


def test_a_blob_whose_length_is_a_lie_is_refused(store: Store, name: Name, served: Served) -> None:
    digest = str(digest_of(WEIGHTS))
    served.blobs[digest] = WEIGHTS[:-1]
    with pytest.raises(RegistryError):
        fetch(store, name)
    served.blobs[digest] = WEIGHTS + b"more"
    with pytest.raises(RegistryError):
        fetch(store, name)
    assert_absent(store)


def test_a_manifest_that_is_too_long_or_no_manifest_is_refused(store: Store, name: Name, served: Served) -> None:
    served.manifests["ns/m:latest"] = b" " * (5 << 20)
    with pytest.raises(RegistryError, match="more than"):
        fetch(store, name)
    for content in (
        b"",
        b"[]",
        b"{" * 5000,
        b'{"schemaVersion":2,"layers":[]}',
        b'{"schemaVersion":2,"layers":[1],"config":{}}',
    ):
        served.manifests["ns/m:latest"] = content
        with pytest.raises(DamagedManifest):
            fetch(store, name)
    assert_absent(store)


def test_an_unknown_tag_is_not_found(store: Store, name: Name) -> None:
    with pytest.raises(NotFound, match="has no model"):
        fetch(store, Name(name.host, name.namespace, name.model, "other"))


def test_a_token_is_asked_for_where_the_registry_says(store: Store, name: Name, served: Served) -> None:
    served.token = "sesame"
    fetch(store, name)
    assert_whole(store, name)
    assert served.seen["GET /token"] >= 1


def test_a_token_is_not_asked_for_at_another_host(store: Store, name: Name, served: Served) -> None:
    served.token, served.realm = "sesame", "http://localhost:1/token"
    with pytest.raises(RegistryError, match="refused"):
        fetch(store, name)


def test_a_full_disk_is_said_before_the_first_byte(
    store: Store, name: Name, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blobs_module, "SPARE_BYTES", 1 << 60)
    with pytest.raises(StoreFull, match="are needed"):
        fetch(store, name)
    assert served.seen["GET blobs"] == 0
    assert_absent(store)


def test_a_confirmation_that_is_refused_fetches_nothing(store: Store, name: Name, served: Served) -> None:
    def refuse(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(store, name, refuse)
    assert served.seen["GET blobs"] == 0


def test_plain_http_is_only_for_this_machine() -> None:
    from camelid.store.http import check_url

    assert check_url("https://example.com/", may_be_plain=False)
    assert check_url("http://localhost:5000/", may_be_plain=False)
    assert check_url("http://example.com/", may_be_plain=True)
    for url in ("http://example.com/", "ftp://example.com/", "https://user:pw@example.com/", "file:///etc/passwd"):
        with pytest.raises(RegistryError):
            check_url(url, may_be_plain=False)
