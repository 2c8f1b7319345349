"""A blob that somebody sends us: written piece by piece, and named only when its content is the one announced.

Apart from `blobs.py` because the content comes from outside, in its own time, and may never end well.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from camelid.errors import DamagedBlob
from camelid.formats.atomic import sync_folder

from .blobs import Blobs, Digest


class Receiving:
    """The content of one blob as far as it has come."""

    def __init__(self, file: BinaryIO, digest: Digest) -> None:
        self._file = file
        self._digest = digest
        self._state = hashlib.sha256()

    def write(self, piece: bytes) -> None:
        """Take the next piece."""
        self._file.write(piece)
        self._state.update(piece)

    def check(self) -> None:
        """Bring the content to the disk. Raises DamagedBlob unless it is the one that was announced."""
        found = Digest(self._state.hexdigest())
        if found != self._digest:
            raise DamagedBlob(f'digest mismatch, expected "{self._digest}", got "{found}"')
        self._file.flush()
        os.fsync(self._file.fileno())


@contextmanager
def receive(blobs: Blobs, digest: Digest, announced_bytes: int = 0) -> Iterator[Receiving]:
    """Give something to write a blob to; it is there when the block ends, and not at all when it raises.

    Raises StoreFull before the first byte if `announced_bytes` do not fit, and DamagedBlob for another content.
    """
    blobs.check_space(announced_bytes)
    blobs.folder.mkdir(parents=True, exist_ok=True)
    partial = blobs.folder / f"{digest.file_name}-partial-{secrets.token_hex(4)}"  # others may send the same
    try:
        with partial.open("xb") as file:
            receiving = Receiving(file, digest)
            yield receiving
            receiving.check()
        partial.replace(blobs.path(digest))
        sync_folder(blobs.folder)
    finally:
        partial.unlink(missing_ok=True)
