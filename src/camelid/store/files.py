"""The disk as a store changes it: a handful of operations, and what is built of them.

Separate so that nothing in the room writes in any other way: a test records these operations and replays every crash
that they allow, and a full disk is one error with one text. It knows no blob and no manifest. Reading needs no layer.
(Lock files, in `locks.py`, hold nothing and are the one exception.)
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from camelid.errors import StoreError, StoreFull
from camelid.formats.atomic import sync_folder

FULL = (errno.ENOSPC, errno.EDQUOT)
FREE_SPACE = "free space (camelid prune shows what is not used), or set CAMELID_MODELS to another disk"

# macOS has no fdatasync; fsync does more, never less
_sync_data = getattr(os, "fdatasync", os.fsync)


class Disk:
    """The operations. Every one raises StoreFull where the disk has no room, and StoreError for any other failure."""

    # ── files, by descriptor ──

    def create(self, path: Path) -> int:
        """Open a file for reading and writing; it is made, empty, where there is none."""
        with _told(path):
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)

    def write(self, file: int, content: bytes | memoryview, at: int) -> None:
        """Write all of `content` at a position."""
        with _told(None):
            view = memoryview(content)
            while view:
                written = os.pwrite(file, view, at)
                if written == 0:
                    raise OSError(errno.EIO, "the disk takes no more")
                view, at = view[written:], at + written

    def resize(self, file: int, size: int) -> None:
        """Cut a file off, or extend it by zeros that take no space."""
        with _told(None):
            os.ftruncate(file, size)

    def sync(self, file: int) -> None:
        """Return when what was written to a file is on the disk."""
        with _told(None):
            _sync_data(file)

    def close(self, file: int) -> None:
        """Give a descriptor back."""
        with _told(None):
            os.close(file)

    # ── names ──

    def rename(self, old: Path, new: Path) -> None:
        """Give a file another name in its folder, in the place of what has that name."""
        with _told(new):
            old.replace(new)

    def unlink(self, path: Path) -> None:
        """Delete a file, if it is there."""
        with _told(path):
            path.unlink(missing_ok=True)

    def link(self, source: Path, path: Path) -> bool:
        """Give a file of any folder a second name. Returns False where the file system cannot."""
        try:
            os.link(source, path)
        except OSError as error:
            if error.errno in FULL:
                raise _full(path) from error
            return False
        return True

    def symlink(self, target: Path, path: Path) -> None:
        """Make a symbolic link."""
        with _told(path):
            path.symlink_to(target)

    def make_folder(self, folder: Path) -> None:
        """Make a folder, if it is not there."""
        with _told(folder):
            folder.mkdir(exist_ok=True)

    def remove_folder(self, folder: Path) -> bool:
        """Delete a folder. Returns False where it is not empty."""
        try:
            folder.rmdir()
        except OSError:
            return False
        return True

    def sync_folder(self, folder: Path) -> None:
        """Return when names that were made, changed and deleted in a folder are so on the disk."""
        with _told(folder):
            sync_folder(folder)

    # ── built of these ──

    def make_folders(self, folder: Path) -> None:
        """Make a folder and those above it, so that they survive a power cut."""
        missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
        for new in reversed(missing):
            self.make_folder(new)
            self.sync_folder(new.parent)

    def write_new(self, path: Path, content: bytes) -> None:
        """Write a file whole and onto the disk; its name is not safe yet."""
        file = self.create(path)
        try:
            self.resize(file, 0)
            self.write(file, content, 0)
            self.sync(file)
        finally:
            self.close(file)

    def put(self, path: Path, content: bytes) -> None:
        """Put a file in the place of `path`, whole or not at all, with the folders above it."""
        self.make_folders(path.parent)
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            self.write_new(part, content)
            self.rename(part, path)
        except StoreError:
            self.unlink(part)
            raise
        self.sync_folder(path.parent)


DISK = Disk()


@contextmanager
def _told(path: Path | None) -> Iterator[None]:
    """Turn what the system says into the house's errors."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise _full(path) from error
        what = f"{path}: " if path is not None else "the store cannot be written: "
        raise StoreError(f"{what}{error.strerror}", hint="check the folder, its owner and its disk") from error


def _full(path: Path | None) -> StoreFull:
    where = f" while writing {path}" if path is not None else ""
    return StoreFull(f"the disk is full{where}; what was fetched so far is kept", hint=FREE_SPACE)
