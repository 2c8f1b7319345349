"""Computed prompts on disk: one file a page, so that a prompt which an earlier run has read need not be read again.

Apart from the engine because it is files and a thread. Everything here may fail without harm: a page that cannot be
read is computed, one that cannot be written is written another time. Several processes may use a folder at once: a file
appears whole by renaming, and its checksum tells what a power cut left of it.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections.abc import Iterator
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from tempfile import NamedTemporaryFile

import numpy as np
from numpy.typing import NDArray

CHECKSUM_BYTES = 16
QUEUED_PAGES = 64  # beyond, pages are not saved: the disk is slower than the engine
CLOSE_S = 5.0
SUFFIX = ".page"

_log = logging.getLogger(__name__)


class PrefixFiles:
    """A `PageStore` in a folder of its own for each model and way of keeping pages, at most `max_bytes` in each.

    identity: all that makes one page's bytes mean the same as another's. page_bytes: the only size there is.
    """

    def __init__(self, folder: Path, identity: str, page_bytes: int, max_bytes: int) -> None:
        self._folder = folder / blake2b(identity.encode(), digest_size=16).hexdigest()
        self._file_bytes = page_bytes + CHECKSUM_BYTES
        self._max_files = max(max_bytes // self._file_bytes, 1)
        self._known = set(self._digests())
        self._queue: queue.Queue[tuple[bytes, NDArray[np.uint8]] | None] = queue.Queue(QUEUED_PAGES)  # None ends it
        self._writer = threading.Thread(target=self._write_all, name="camelid prefix files", daemon=True)
        self._writer.start()

    def has(self, digest: bytes) -> bool:
        """Say whether there is a file, as far as this process knows."""
        return digest in self._known

    def load(self, digest: bytes) -> NDArray[np.uint8] | None:
        """Return a page's content, None where its file is gone or damaged; mark it as used."""
        path = self._path(digest)
        try:
            data = path.read_bytes()
            os.utime(path)
        except OSError:
            self._known.discard(digest)
            return None
        content = data[CHECKSUM_BYTES:]
        if len(data) != self._file_bytes or data[:CHECKSUM_BYTES] != _checksum(content):
            self._known.discard(digest)
            path.unlink(missing_ok=True)
            return None
        return np.frombuffer(content, np.uint8)

    def save(self, digest: bytes, content: NDArray[np.uint8]) -> None:
        """Have a page written, unless too many wait already."""
        with suppress(queue.Full):
            self._queue.put_nowait((digest, content))
            self._known.add(digest)

    def close(self) -> None:
        """Write what waits, as far as the disk gets in a few seconds."""
        with suppress(queue.Full):
            self._queue.put(None, timeout=CLOSE_S)
        self._writer.join(CLOSE_S)

    def _write_all(self) -> None:
        while (waiting := self._queue.get()) is not None:
            digest, content = waiting
            try:
                self._write(digest, content.tobytes())
            except OSError as error:
                _log.warning("a page of a prompt is not kept in %s: %s", self._folder, error.strerror or error)
                self._known.discard(digest)

    def _write(self, digest: bytes, content: bytes) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=self._folder, delete=False) as file:
            try:
                file.write(_checksum(content) + content)
                file.close()
                os.replace(file.name, self._path(digest))
            except BaseException:
                with suppress(OSError):
                    os.unlink(file.name)
                raise
        self._make_room()

    def _make_room(self) -> None:
        """Delete what was unused for longest."""
        if len(self._known) <= self._max_files:
            return
        files = sorted(self._folder.glob(f"*{SUFFIX}"), key=_used_at)
        for path in files[: max(len(files) - self._max_files, 0)]:
            path.unlink(missing_ok=True)
        self._known = set(self._digests())

    def _digests(self) -> Iterator[bytes]:
        for path in self._folder.glob(f"*{SUFFIX}"):
            with suppress(ValueError):
                yield bytes.fromhex(path.stem)

    def _path(self, digest: bytes) -> Path:
        return self._folder / f"{digest.hex()}{SUFFIX}"


def _checksum(content: bytes) -> bytes:
    return blake2b(content, digest_size=CHECKSUM_BYTES).digest()


def _used_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # another process was quicker
        return 0.0
