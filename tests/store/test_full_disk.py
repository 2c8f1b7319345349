"""A disk that fills up in the middle: a clear error, nothing that was there is lost, and the pull goes on later."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from camelid.errors import StoreFull
from camelid.store import blobs as blobs_module
from camelid.store import download as download_module
from camelid.store.blobs import digest_of
from camelid.store.download import Piece
from camelid.store.manifests import DOCKER_MANIFEST, OLLAMA_LAYER, Layer, Manifest, write_manifest
from camelid.store.names import parse_name
from camelid.store.store import Store
from camelid.store.transfer import Watcher, pull

CHUNK = 4096
WEIGHTS, CONFIG = os.urandom(30 * CHUNK + 100), b"{}"
OLD, NEW = parse_name("ns/old"), parse_name("ns/new")
LEVELS = 20


class Origin:
    """A registry in memory with one model, that counts what it sends."""

    def __init__(self) -> None:
        self.sent_bytes = 0

    def manifest(self) -> Manifest:
        config = Layer("application/vnd.docker.container.image.v1+json", digest_of(CONFIG), len(CONFIG))
        layers = (Layer(f"{OLLAMA_LAYER}model", digest_of(WEIGHTS), len(WEIGHTS)),)
        return write_manifest(DOCKER_MANIFEST, config, layers)

    @contextmanager
    def piece(self, layer: Layer, start: int, end: int) -> Iterator[Piece]:
        content = WEIGHTS if layer.size > 2 else CONFIG
        yield Piece(start, self._slices(content[start:end]))

    def _slices(self, content: bytes) -> Iterator[bytes]:
        for at in range(0, len(content), 1000):
            self.sent_bytes += len(content[at : at + 1000])
            yield content[at : at + 1000]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download_module, "CHUNK_BYTES", CHUNK)
    monkeypatch.setattr(download_module, "SPAN_CHUNKS", 4)
    monkeypatch.setattr(blobs_module.Blobs, "check_space", lambda self, size: None)  # there was room when it began


def with_a_model(folder: Path) -> Store:
    store = Store(folder)
    digest = store.blobs.add(b"old weights")
    config = Layer("application/vnd.docker.container.image.v1+json", store.blobs.add(CONFIG), len(CONFIG))
    store.list_model(OLD, write_manifest(DOCKER_MANIFEST, config, (Layer(f"{OLLAMA_LAYER}model", digest, 11),)))
    return store


def pull_fails_and_goes_on(store: Store, free: object) -> None:
    """Pull into a full disk, look, call `free`, pull again, and look."""
    origin = Origin()
    with pytest.raises(StoreFull, match="the disk is full") as told:
        pull(store, NEW, Watcher(), lambda *_: None, origin)
    assert "prune" in (told.value.hint or "")
    assert [entry.name for entry in store.entries()] == [OLD]
    store.verify(store.entry(OLD))
    first, done = origin.sent_bytes, progress(store)
    free()  # type: ignore[operator]
    pull(store, NEW, Watcher(), lambda *_: None, origin)
    store.verify(store.entry(NEW))
    store.verify(store.entry(OLD))
    assert origin.sent_bytes - first <= len(WEIGHTS) + len(CONFIG) - done
    assert list(store.blobs.folder.glob("*partial*")) == []


def progress(store: Store) -> int:
    """Return the bytes that a list of chunks says are done."""
    lines = [line for file in store.blobs.folder.glob("*-done") for line in file.read_bytes().split(b"\n")]
    chunks = {int(line[:-1]) for line in lines if line.endswith(b".")}
    return sum(min(CHUNK, len(WEIGHTS) - chunk * CHUNK) for chunk in chunks)


@pytest.mark.parametrize("level", range(LEVELS))
def test_a_pull_into_a_full_disk_says_so_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: int
) -> None:
    store = with_a_model(tmp_path / "store")
    left, really, lock = [len(WEIGHTS) * level // LEVELS + 50 * (level % 3)], os.pwrite, threading.Lock()

    def pwrite(file: int, content: bytes, at: int) -> int:
        """Write what there is room for."""
        with lock:
            if left[0] == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            written = really(file, content[: left[0]], at)
            left[0] -= written
            return written

    monkeypatch.setattr(os, "pwrite", pwrite)
    pull_fails_and_goes_on(store, lambda: monkeypatch.setattr(os, "pwrite", really))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 192 KiB; only root can make one."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=192k", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no small file system can be mounted here (it takes root)")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_really_is_full_loses_nothing(small_disk: Path) -> None:
    for left in range(0, 120 << 10, 12 << 10):
        store = with_a_model(small_disk / "store")
        filler = small_disk / "filler"
        filler.write_bytes(bytes(shutil.disk_usage(small_disk).free - left))
        pull_fails_and_goes_on(store, filler.unlink)
        shutil.rmtree(store.folder)
