"""Fast copies of weights on the disk: their names, and which of them are of no use any more.

They lie in our own store whatever store the weights are in, as other programs' are never written. What is in them is
the business of `formats/fast_copy.py`; when one is made, of the runtime.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from camelid.errors import CamelidError, InvalidRequest
from camelid.formats.fast_copy import open_fast_copy

from .blobs import parse_digest
from .stamps import stamp

FOLDER = "fast"
SUFFIX = ".fast"
PART_AGE_S = 3600.0  # as old as no copy that is still being written


@dataclass(frozen=True)
class CopyPlace:
    """Where the copy of a weights file lies or would lie. `identity` tells the file's content from others."""

    path: Path
    lock: Path
    source: Path
    identity: str


def place_of(weights: Path, store: Path) -> CopyPlace:
    """Return the place in a store's folder for the copy of a weights file. Raises NotFound when the file is gone."""
    source = weights.resolve()
    identity = identity_of(source)
    is_blob = identity.startswith("sha256:")
    key = source.name if is_blob else f"file-{hashlib.sha256(str(source).encode()).hexdigest()[:32]}"
    return CopyPlace(store / FOLDER / f"{key}{SUFFIX}", store / "locks" / f"{key}{SUFFIX}", source, identity)


def identity_of(source: Path) -> str:
    """Return a blob's digest, or a file's size, time and inode. Raises NotFound when it is gone."""
    try:
        digest = parse_digest(source.name)
    except InvalidRequest:
        return stamp(source)
    return str(digest) if source.parent.name == "blobs" else stamp(source)


def useless_copies(folder: Path, now_s: float | None = None) -> Iterator[Path]:
    """Yield the copies in a store's folder of them whose weights are gone or changed, and those left half written."""
    old_s = (time.time() if now_s is None else now_s) - PART_AGE_S
    for path in sorted(folder.glob(f"*{SUFFIX}*")):
        is_part = path.name.startswith(".")
        if path.stat().st_mtime < old_s if is_part else not _is_of_use(path):
            yield path


def is_sound(path: Path) -> bool:
    """Read a copy, and say whether it is what was written."""
    try:
        return open_fast_copy(path).is_sound()
    except CamelidError:
        return False


def begun_copies(path: Path) -> Iterator[Path]:
    """Yield what processes have begun to write for a copy, without saying whether they are still at it."""
    yield from path.parent.glob(f".{path.name}.*.part")


def _is_of_use(path: Path) -> bool:
    try:
        origin = open_fast_copy(path).origin
        source = Path(origin.source)
        return source.is_file() and identity_of(source) == origin.identity
    except CamelidError:
        return False
