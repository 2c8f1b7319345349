"""A blob that somebody sends us: written piece by piece, and named only when its content is the one announced.

Apart from `blobs.py` because the content comes from outside, in its own time, and may never end well.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from camelid.errors import DamagedBlob

from .blobs import Blobs, Digest
from .files import Disk


class Receiving:
    """The content of one blob as far as it has come."""

    def __init__(self, disk: Disk, file: int, digest: Digest) -> None:
        self._disk = disk
        self._file = file
        self._digest = digest
        self._state = hashlib.sha256()
        self._num_bytes = 0

    def write(self, piece: bytes) -> None:
        """Take the next piece. Raises StoreError."""
        self._disk.write(self._file, piece, self._num_bytes)
        self._num_bytes += len(piece)
        self._state.update(piece)

    def check(self) -> None:
        """Bring the content to the disk. Raises DamagedBlob unless it is the one that was announced."""
        found = Digest(self._state.hexdigest())
        if found != self._digest:
            raise DamagedBlob(f'digest mismatch, expected "{self._digest}", got "{found}"')
        self._disk.sync(self._file)


@contextmanager
def receive(blobs: Blobs, digest: Digest, announced_bytes: int = 0) -> Iterator[Receiving]:
    """Give something to write a blob to; it is there when the block ends, and not at all when it raises.

    Raises StoreFull before the first byte if `announced_bytes` do not fit, and DamagedBlob for another content.
    """
    blobs.check_space(announced_bytes)
    disk = blobs.disk
    disk.make_folders(blobs.folder)
    partial = blobs.folder / f"{digest.file_name}-partial-{secrets.token_hex(4)}"  # others may send the same
    file = disk.create(partial)
    try:
        receiving = Receiving(disk, file, digest)
        yield receiving
        receiving.check()
        disk.rename(partial, blobs.path(digest))
        disk.sync_folder(blobs.folder)
    finally:
        disk.close(file)
        disk.unlink(partial)
