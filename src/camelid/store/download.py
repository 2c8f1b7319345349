"""A blob arrives: in parts, over several connections, and from where it stopped last time.

What is done is written down beside the partial file (`…-partial-done`, a line for each CHUNK_BYTES) once it is on the
disk: after a crash, or a power cut, at most the chunk under way is fetched again on each connection. Whatever a
registry sends, the blob gets its name only when its content is the one that its digest names; it is hashed while it
arrives. Knows no protocol: a `Source` yields bytes.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from camelid.errors import CamelidError, DamagedBlob, RegistryError, StoreError

from .blobs import Blobs, Digest
from .following import Follower, Hash
from .manifests import Layer

CHUNK_BYTES = 4 << 20
SPAN_CHUNKS = 16  # asked for at once
STREAMS = 4
ATTEMPTS = 7
LONGEST_WAIT_S = 30.0
TRANSIENT = frozenset({401, 408, 425, 429, 500, 502, 503, 504, None})  # None: the connection broke
# A line of the list: a new line before, a full stop behind. What a crash cut off lacks one of them.
_LINE = re.compile(rb"\n(\d{1,12})\.(?=\n|\Z)")

Progress = Callable[[int], object]  # told how many bytes were done since the last call; fewer than 0 if they were lost


@dataclass(frozen=True)
class Piece:
    """Bytes of a blob from `start` on, as they arrive; more than was asked for may come."""

    start: int
    content: Iterator[bytes]


class Source(Protocol):
    """Where blobs come from."""

    def piece(self, layer: Layer, start: int, end: int) -> AbstractContextManager[Piece]:
        """Yield bytes [start, end) of a blob, or all of it. Raises RegistryError."""


def download(blobs: Blobs, layer: Layer, source: Source, progress: Progress) -> None:
    """Fetch a blob into the store. The caller holds its lock. Raises RegistryError, DamagedBlob, StoreError."""
    if blobs.has(layer.digest):
        progress(layer.size)
        return
    sha256 = hashlib.sha256()
    was_resumed = arrive(blobs, layer, source, progress, [sha256])
    if sha256.hexdigest() != layer.digest.hex and was_resumed:  # an old part may be at fault: once more, all of it
        discard(blobs, layer)
        progress(-layer.size)
        sha256 = hashlib.sha256()
        arrive(blobs, layer, source, progress, [sha256])
    if sha256.hexdigest() != layer.digest.hex:
        discard(blobs, layer)
        raise DamagedBlob(f"{layer.digest} arrived as {Digest(sha256.hexdigest())}", hint="fetch the model again")
    keep(blobs, layer, layer.digest)


def arrive(blobs: Blobs, layer: Layer, source: Source, progress: Progress, hashes: Sequence[Hash]) -> bool:
    """Fetch all of a content into its partial file, and tell `hashes` of it; the file is on the disk then.

    Returns whether some of it was there already. Raises RegistryError, StoreError.
    """
    blobs.disk.make_folders(blobs.folder)
    arriving = _Arriving(blobs, layer, progress)
    blobs.check_space(layer.size - arriving.num_bytes_done)
    was_resumed = arriving.num_bytes_done > 0
    arriving.fetch(source, hashes)
    return was_resumed


def keep(blobs: Blobs, layer: Layer, digest: Digest) -> None:
    """Give what arrived its name."""
    blobs.name(digest, blobs.partial(layer.digest))
    blobs.disk.unlink(_list_of(blobs, layer))


def discard(blobs: Blobs, layer: Layer) -> None:
    """Delete what arrived, the list of chunks first: without it, no chunk counts."""
    for path in (_list_of(blobs, layer), blobs.partial(layer.digest)):
        blobs.disk.unlink(path)
        blobs.disk.sync_folder(blobs.folder)


def _list_of(blobs: Blobs, layer: Layer) -> Path:
    partial = blobs.partial(layer.digest)
    return partial.with_name(f"{partial.name}-done")


class _Arriving:
    """A partial file and the list of its chunks that are done."""

    def __init__(self, blobs: Blobs, layer: Layer, progress: Progress) -> None:
        self._disk = blobs.disk
        self._layer, self._size = layer, layer.size
        self._path, self._list_path = blobs.partial(layer.digest), _list_of(blobs, layer)
        self._progress = progress
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._failures: list[CamelidError] = []  # the first is the cause of the others
        self._done = self._read_list()
        self._first_missing = 0
        self._list_end = self._list_path.stat().st_size if self._done else 0
        progress(self.num_bytes_done)

    @property
    def num_bytes_done(self) -> int:
        """Bytes that need not be fetched."""
        return sum(self._end(chunk) - chunk * CHUNK_BYTES for chunk in self._done)

    def fetch(self, source: Source, hashes: Sequence[Hash]) -> None:
        """Fetch what is missing, over several connections. Raises RegistryError, StoreError."""
        if not self._done:
            self._begin_anew()
        self._file, self._list = self._disk.create(self._path), self._disk.create(self._list_path)
        try:
            self._disk.resize(self._file, self._size)
            self._disk.sync_folder(self._path.parent)  # without its name, what has arrived would be lost
            self._follower = Follower(self._file, hashes)
            try:
                self._reach()
                self._fetch_spans(source)
                self._disk.sync(self._file)
                self._follower.finish()
            finally:
                self._follower.abandon()
        finally:
            self._disk.close(self._file)
            self._disk.close(self._list)

    def _begin_anew(self) -> None:
        """Delete a list that speaks of other chunks than those that are going to be here, before they are."""
        if self._list_path.exists():
            self._disk.unlink(self._list_path)
            self._disk.sync_folder(self._list_path.parent)

    def _fetch_spans(self, source: Source) -> None:
        """Fetch all spans; the first failure, or Ctrl-C, ends them all soon."""
        pool = ThreadPoolExecutor(STREAMS)
        try:
            futures = [pool.submit(self._span, span, source) for span in self._spans()]
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            self._is_over.set()
            pool.shutdown(cancel_futures=True)
        if self._failures:
            raise self._failures[0]  # the others gave up because of it
        for future in futures:
            future.result()

    def _span(self, chunks: range, source: Source) -> None:
        """Fetch the chunks of one span, again from where it broke off."""
        attempt = 0
        while missing := [chunk for chunk in chunks if chunk not in self._done]:
            try:
                self._stream(missing, source)
            except RegistryError as error:
                left = sum(chunk not in self._done for chunk in chunks)
                attempt = 1 if left < len(missing) else attempt + 1
                if error.status not in TRANSIENT or attempt >= ATTEMPTS or self._is_over.is_set():
                    self._failures.append(error)
                    raise
                self._is_over.wait(min(2.0 ** (attempt - 2), LONGEST_WAIT_S))
            except StoreError as error:
                self._failures.append(error)
                raise

    def _stream(self, missing: list[int], source: Source) -> None:
        """Ask for the first run of missing chunks and write what comes. Raises RegistryError when less comes."""
        first = missing[0]
        run = next((index for index, chunk in enumerate(missing) if chunk != first + index), len(missing))
        start, end = first * CHUNK_BYTES, self._end(first + run - 1)
        with source.piece(self._layer, start, end) as piece:
            position = piece.start
            for content in piece.content:
                if self._is_over.is_set():
                    raise RegistryError("given up, because another part failed")
                position = self._write(position, content[: max(end - position, 0)], start)
                if position >= end:
                    return
        if position < end:
            raise RegistryError(f"{self._layer.digest} broke off {end - position} bytes before its end")

    def _write(self, position: int, content: bytes, start: int) -> int:
        """Write what lies behind `start`, note the chunks that are full now, and return the new position."""
        useful = content[max(start - position, 0) :]
        at = position + len(content) - len(useful)
        if useful:
            self._disk.write(self._file, useful, at)
            full = [chunk for chunk in self._chunks(at) if start <= chunk * CHUNK_BYTES]
            self._note([chunk for chunk in full if self._end(chunk) <= at + len(useful)])
        return position + len(content)

    def _chunks(self, at: int) -> range:
        return range(at // CHUNK_BYTES, -(-self._size // CHUNK_BYTES))

    def _note(self, chunks: list[int]) -> None:
        """Write down that chunks are done, once they are on the disk."""
        if not any(chunk not in self._done for chunk in chunks):
            return
        self._disk.sync(self._file)
        with self._lock:
            new = [chunk for chunk in chunks if chunk not in self._done]
            line = b"".join(b"\n%d." % chunk for chunk in new)
            self._disk.write(self._list, line, self._list_end)
            self._list_end += len(line)
            self._done.update(new)
            self._reach()
            for chunk in new:
                self._progress(self._end(chunk) - chunk * CHUNK_BYTES)

    def _reach(self) -> None:
        """Tell how far the content is whole from its beginning."""
        while self._first_missing in self._done:
            self._first_missing += 1
        self._follower.reach(min(self._first_missing * CHUNK_BYTES, self._size))

    def _spans(self) -> list[range]:
        count = -(-self._size // CHUNK_BYTES)
        return [range(first, min(first + SPAN_CHUNKS, count)) for first in range(0, count, SPAN_CHUNKS)]

    def _end(self, chunk: int) -> int:
        return min((chunk + 1) * CHUNK_BYTES, self._size)

    def _read_list(self) -> set[int]:
        """Return the chunks that are done; a partial file of another size counts for nothing."""
        if not self._path.is_file() or self._path.stat().st_size != self._size or not self._list_path.is_file():
            return set()
        count = -(-self._size // CHUNK_BYTES)
        found = {int(number) for number in _LINE.findall(self._list_path.read_bytes())}
        return {chunk for chunk in found if chunk < count}
