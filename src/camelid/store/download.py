"""A blob arrives: in parts, over several connections, and from where it stopped last time.

What is done is written down beside the partial file (`…-partial-done`, a line for each CHUNK_BYTES): after a crash at
most the chunk under way is fetched again on each connection. Whatever a registry sends, the blob gets its name only
when its content is the one that its digest names. Knows no protocol: a `Source` yields bytes.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from camelid.errors import DamagedBlob, RegistryError, StoreError

from .blobs import Blobs
from .manifests import Layer

CHUNK_BYTES = 4 << 20
SPAN_CHUNKS = 16  # asked for at once
STREAMS = 4
ATTEMPTS = 7
LONGEST_WAIT_S = 30.0
TRANSIENT = frozenset({401, 408, 425, 429, 500, 502, 503, 504, None})  # None: the connection broke

Progress = Callable[[int], object]  # told how many bytes were done since the last call


@dataclass(frozen=True)
class Piece:
    """Bytes of a blob from `start` on, as they arrive; more than was asked for may come."""

    start: int
    content: Iterator[bytes]


class Source(Protocol):
    """Where blobs come from."""

    def piece(self, layer: Layer, start: int, end: int) -> AbstractContextManager[Piece]:
        """Yield bytes [start, end) of a blob, or all of it. Raises RegistryError."""


def download(
    blobs: Blobs, layer: Layer, source: Source, progress: Progress, sleep: Callable[[float], object] = time.sleep
) -> None:
    """Fetch a blob into the store. The caller holds its lock. Raises RegistryError, DamagedBlob, StoreError."""
    if blobs.has(layer.digest):
        progress(layer.size)
        return
    blobs.folder.mkdir(parents=True, exist_ok=True)
    arriving = _Arriving(blobs.partial(layer.digest), layer.size, progress)
    blobs.check_space(layer.size - arriving.num_bytes_done)
    try:
        arriving.fetch(layer, source, sleep)
        blobs.commit(layer.digest)
    except OSError as error:
        raise StoreError(
            f"{blobs.folder} cannot be written: {error.strerror}", hint="free space and pull again"
        ) from error
    except DamagedBlob:
        arriving.forget()
        raise
    arriving.forget()


class _Arriving:
    """A partial file and the list of its chunks that are done."""

    def __init__(self, path: Path, size: int, progress: Progress) -> None:
        self._path = path
        self._journal = path.with_name(f"{path.name}-done")
        self._size = size
        self._progress = progress
        self._lock = threading.Lock()
        self._done = self._read_journal()
        self._failed = threading.Event()
        progress(self.num_bytes_done)

    @property
    def num_bytes_done(self) -> int:
        """Bytes that need not be fetched."""
        return sum(self._end(chunk) - chunk * CHUNK_BYTES for chunk in self._done)

    def forget(self) -> None:
        """Delete the list."""
        self._journal.unlink(missing_ok=True)

    def fetch(self, layer: Layer, source: Source, sleep: Callable[[float], object]) -> None:
        """Fetch what is missing, over several connections. Raises RegistryError, OSError."""
        with self._path.open("r+b" if self._path.exists() else "w+b") as file, self._journal.open("a") as journal:
            file.truncate(self._size)
            with ThreadPoolExecutor(STREAMS) as pool:
                spans = self._spans()
                list(pool.map(lambda span: self._span(span, layer, source, file.fileno(), journal, sleep), spans))

    def _span(
        self, chunks: range, layer: Layer, source: Source, file: int, journal: object, sleep: Callable[[float], object]
    ) -> None:
        """Fetch the chunks of one span, again from where it broke off."""
        attempt = 0
        while missing := [chunk for chunk in chunks if chunk not in self._done]:
            before = len(missing)
            try:
                self._stream(missing, layer, source, file, journal)
            except RegistryError as error:
                left = sum(chunk not in self._done for chunk in chunks)
                attempt = 1 if left < before else attempt + 1
                if error.status not in TRANSIENT or attempt >= ATTEMPTS or self._failed.is_set():
                    self._failed.set()
                    raise
                sleep(min(2.0 ** (attempt - 2), LONGEST_WAIT_S))
            except BaseException:
                self._failed.set()
                raise

    def _stream(self, missing: list[int], layer: Layer, source: Source, file: int, journal: object) -> None:
        """Ask for the first run of missing chunks and write what comes. Raises RegistryError when less comes."""
        first = missing[0]
        run = next((index for index, chunk in enumerate(missing) if chunk != first + index), len(missing))
        start, end = first * CHUNK_BYTES, self._end(first + run - 1)
        with source.piece(layer, start, end) as piece:
            position = piece.start
            for content in piece.content:
                if self._failed.is_set():
                    raise RegistryError("given up, because another part failed")
                position = self._write(file, position, content[: max(end - position, 0)], start, journal)
                if position >= end:
                    return
        if position < end:
            raise RegistryError(f"{layer.digest} broke off {end - position} bytes before its end")

    def _write(self, file: int, position: int, content: bytes, start: int, journal: object) -> int:
        """Write what lies behind `start`, note the chunks that are full now, and return the new position."""
        useful = content[max(start - position, 0) :]
        at = position + len(content) - len(useful)
        written = 0
        while written < len(useful):
            written += os.pwrite(file, useful[written:], at + written)
        for chunk in range(at // CHUNK_BYTES, -(-self._size // CHUNK_BYTES)):
            if self._end(chunk) > at + len(useful):
                break
            if useful and chunk * CHUNK_BYTES >= start:
                self._note(chunk, journal)
        return position + len(content)

    def _note(self, chunk: int, journal: object) -> None:
        with self._lock:
            if chunk in self._done:
                return
            self._done.add(chunk)
            print(chunk, file=journal, flush=True)  # type: ignore[call-overload]
            self._progress(self._end(chunk) - chunk * CHUNK_BYTES)

    def _spans(self) -> list[range]:
        count = -(-self._size // CHUNK_BYTES)
        return [range(first, min(first + SPAN_CHUNKS, count)) for first in range(0, count, SPAN_CHUNKS)]

    def _end(self, chunk: int) -> int:
        return min((chunk + 1) * CHUNK_BYTES, self._size)

    def _read_journal(self) -> set[int]:
        """Return the chunks that are done; a partial file of another size counts for nothing."""
        if not self._path.exists() or self._path.stat().st_size != self._size or not self._journal.exists():
            self._journal.unlink(missing_ok=True)
            return set()
        lines = self._journal.read_text().split("\n")[:-1]  # the last line may be cut off
        count = -(-self._size // CHUNK_BYTES)
        return {int(line) for line in lines if line.isdecimal() and int(line) < count}
