"""Blobs: files named by the SHA-256 of their content, in Ollama's layout (`blobs/sha256-<64 hex digits>`).

A blob has its name only when its content was checked against it and is on disk, so whatever is there is whole. What is
still arriving lies beside it as `sha256-<hex>-partial`.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from camelid.errors import DamagedBlob, InvalidRequest, StoreError, StoreFull

from .files import DISK, FREE_SPACE, Disk

_DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})", re.ASCII)
_READ_BYTES = 8 << 20
SPARE_BYTES = 64 << 20  # left free on the disk: a full one breaks other programs


@dataclass(frozen=True, order=True)
class Digest:
    """A SHA-256, as 64 lower-case hex digits."""

    hex: str

    def __str__(self) -> str:
        """As manifests write it."""
        return f"sha256:{self.hex}"

    @property
    def file_name(self) -> str:
        """As the store's files are called."""
        return f"sha256-{self.hex}"


def parse_digest(text: object) -> Digest:
    """Return the digest that `text` writes, with a colon or a dash. Raises InvalidRequest."""
    found = _DIGEST.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise InvalidRequest(f"{str(text)[:100]!r} is no digest", hint="digests look like sha256: and 64 hex digits")
    return Digest(found[1])


def digest_of(content: bytes) -> Digest:
    """Return the digest of a content."""
    return Digest(hashlib.sha256(content).hexdigest())


class Blobs:
    """The blobs of one store. Every path is made from a `Digest`, never from a text."""

    def __init__(self, folder: Path, disk: Disk = DISK) -> None:
        self.folder = folder
        self.disk = disk

    def path(self, digest: Digest) -> Path:
        """Return where the blob lies or would lie."""
        return self.folder / digest.file_name

    def partial(self, digest: Digest) -> Path:
        """Return where the blob's content arrives."""
        return self.folder / f"{digest.file_name}-partial"

    def has(self, digest: Digest) -> bool:
        """Say whether the blob is there."""
        return self.path(digest).is_file()

    def add(self, content: bytes) -> Digest:
        """Store a small content and return its digest."""
        digest = digest_of(content)
        if not self.has(digest):
            self.check_space(len(content))
            self.disk.make_folders(self.folder)
            self.disk.write_new(self.partial(digest), content)
            self.name(digest)
        return digest

    def add_file(self, source: Path, progress: Callable[[int], object] = lambda _: None) -> Digest:
        """Store a file's content, by a hard link where the file system has them, and return its digest."""
        digest = hash_file(source, progress)
        if self.has(digest):
            return digest
        self.disk.make_folders(self.folder)
        partial = self.partial(digest)
        self.disk.unlink(partial)
        if not self.disk.link(source.resolve(), partial):
            self.check_space(source.stat().st_size)
            self._copy(source, partial)
        self.commit(digest)
        return digest

    def commit(self, digest: Digest, progress: Callable[[int], object] = lambda _: None) -> None:
        """Give the partial file its name. Raises DamagedBlob, and deletes the file, when its content is another one."""
        found = hash_file(self.partial(digest), progress)
        if found != digest:
            self.disk.unlink(self.partial(digest))
            raise DamagedBlob(f"{digest} arrived as {found}", hint="fetch the model again")
        file = self.disk.create(self.partial(digest))
        try:
            self.disk.sync(file)
        finally:
            self.disk.close(file)
        self.name(digest)

    def name(self, digest: Digest, partial: Path | None = None) -> None:
        """Give a file that was checked, and is on the disk, its name, for good."""
        self.disk.rename(partial or self.partial(digest), self.path(digest))
        self.disk.sync_folder(self.folder)

    def _copy(self, source: Path, target: Path) -> None:
        file, at = self.disk.create(target), 0
        try:
            self.disk.resize(file, 0)
            with source.open("rb") as content:
                while piece := content.read(_READ_BYTES):
                    self.disk.write(file, piece, at)
                    at += len(piece)
        except StoreError:
            self.disk.unlink(target)
            raise
        finally:
            self.disk.close(file)

    def check_space(self, need_bytes: int) -> None:
        """Raise StoreFull unless so many bytes fit on the disk."""
        folder = next(parent for parent in (self.folder, *self.folder.parents) if parent.exists())
        free_bytes = shutil.disk_usage(folder).free - SPARE_BYTES
        if need_bytes > free_bytes:
            free = max(free_bytes, 0) / 1e9
            raise StoreFull(
                f"{need_bytes / 1e9:.2f} GB are needed in {self.folder}, and {free:.2f} GB are free",
                hint=FREE_SPACE,
            )

    def __iter__(self) -> Iterator[Digest]:
        """Yield the blobs that are there."""
        for path in sorted(self.folder.glob("sha256-*")) if self.folder.is_dir() else ():
            if _DIGEST.fullmatch(path.name) and path.is_file():
                yield Digest(path.name.removeprefix("sha256-"))


def hash_file(path: Path, progress: Callable[[int], object] = lambda _: None) -> Digest:
    """Return the digest of a file's content; `progress` is told how many bytes were read since the last call."""
    state = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_READ_BYTES):
            state.update(piece)
            progress(len(piece))
    return Digest(state.hexdigest())
