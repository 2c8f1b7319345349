"""What a disk may hold after a power cut: operations of a store are recorded, and every legal loss is played back.

The rules are the weakest that a POSIX file system may keep. Data written to a file are safe once the file was synced;
until then each write may be there, be missing, or be there by half, whatever happened to the others. A name that was
made, changed or deleted is safe once its folder was synced; until then each of these may be lost, but a change of a
name never without those of the same name before it. Renaming is one change. Nothing else is ever lost.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from camelid.store.files import Disk


@dataclass(frozen=True)
class Operation:
    """One change. `names` are the names that it makes, changes or deletes; data have a file's number instead."""

    kind: str
    names: tuple[Path, ...] = ()
    file: int = -1
    at: int = 0
    content: bytes = b""

    @property
    def is_data(self) -> bool:
        return self.kind in ("write", "resize")


class RecordingDisk(Disk):
    """A disk that remembers what was done to it."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self._numbers: dict[int, int] = {}  # of files, by inode
        self._open: dict[int, int] = {}  # numbers of files, by descriptor

    def create(self, path: Path) -> int:
        is_new = not path.exists()
        descriptor = super().create(path)
        number = self._open[descriptor] = self._number(path)
        if is_new:
            self._note("create", path, file=number)
        return descriptor

    def write(self, file: int, content: bytes | memoryview, at: int) -> None:
        super().write(file, content, at)
        self._note("write", file=self._open[file], at=at, content=bytes(content))

    def resize(self, file: int, size: int) -> None:
        super().resize(file, size)
        self._note("resize", file=self._open[file], at=size)

    def sync(self, file: int) -> None:
        super().sync(file)
        self._note("sync", file=self._open[file])

    def rename(self, old: Path, new: Path) -> None:
        super().rename(old, new)
        self._note("rename", old, new)

    def unlink(self, path: Path) -> None:
        was_there = path.is_symlink() or path.exists()
        super().unlink(path)
        if was_there:
            self._note("unlink", path)

    def link(self, source: Path, path: Path) -> bool:
        content, is_linked = source.read_bytes(), super().link(source, path)
        if is_linked:
            number = self._number(path)
            self._note("create", path, file=number)
            self._note("write", file=number, content=content)  # nobody synced it yet
        return is_linked

    def make_folder(self, folder: Path) -> None:
        is_new = not folder.exists()
        super().make_folder(folder)
        if is_new:
            self._note("make_folder", folder)

    def remove_folder(self, folder: Path) -> bool:
        is_gone = super().remove_folder(folder)
        if is_gone:
            self._note("remove_folder", folder)
        return is_gone

    def sync_folder(self, folder: Path) -> None:
        super().sync_folder(folder)
        self._note("sync_folder", folder)

    def _note(self, kind: str, *names: Path, file: int = -1, at: int = 0, content: bytes = b"") -> None:
        self.operations.append(Operation(kind, names, file, at, content))

    def _number(self, path: Path) -> int:
        return self._numbers.setdefault(os.stat(path).st_ino, len(self._numbers))


@dataclass
class Contents:
    """A folder as it may be: folders, and files with their contents, by paths."""

    folders: set[Path] = field(default_factory=set)
    files: dict[Path, bytes] = field(default_factory=dict)

    def build(self, old: Path, new: Path) -> None:
        """Write it to the disk at `new`, recorded at `old`; what lies in a folder that is not there is lost."""
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        for folder in sorted(self.folders):
            target = new / folder.relative_to(old)
            if target.parent.is_dir():
                target.mkdir(exist_ok=True)
        for path, content in self.files.items():
            target = new / path.relative_to(old)
            if target.parent.is_dir():
                target.write_bytes(content)

    def key(self) -> int:
        return hash((frozenset(self.folders), frozenset(self.files.items())))


def contents_of(folder: Path) -> Contents:
    """Return what is in a folder now."""
    paths = [folder, *folder.rglob("*")] if folder.exists() else []
    return Contents({path for path in paths if path.is_dir()}, {p: p.read_bytes() for p in paths if p.is_file()})


def crash_states(
    before: Contents, operations: Sequence[Operation], most_per_point: int, rng: random.Random
) -> Iterator[Contents]:
    """Yield what a crash may leave, at every point: all legal losses, or so many of them drawn by chance."""
    for point in range(len(operations) + 1):
        done = operations[:point]
        pending = [index for index in range(point) if not _is_safe(index, done)]
        for lost in _losses(done, pending, most_per_point, rng):
            yield _replay(before, done, lost)


def _is_safe(index: int, done: Sequence[Operation]) -> bool:
    """Whether an operation cannot be lost any more."""
    operation, later = done[index], done[index + 1 :]
    if operation.kind in ("sync", "sync_folder"):
        return True
    if operation.is_data:
        return any(other.kind == "sync" and other.file == operation.file for other in later)
    folders = {name.parent for name in operation.names}
    synced = {other.names[0] for other in later if other.kind == "sync_folder"}
    return folders <= synced


def _losses(
    done: Sequence[Operation], pending: Sequence[int], most: int, rng: random.Random
) -> Iterator[dict[int, str]]:
    """Yield sets of operations that are lost, whole or (writes) by half."""
    choices = [("kept", "lost", "half") if done[index].kind == "write" else ("kept", "lost") for index in pending]
    count = 1
    for choice in choices:
        count *= len(choice)
    if count <= most:
        drawn: Iterator[tuple[str, ...]] = itertools.product(*choices)
    else:
        plain = [tuple("kept" for _ in pending), tuple("lost" for _ in pending)]
        drawn = iter([*plain, *(tuple(map(rng.choice, choices)) for _ in range(most - 2))])
    for fates in drawn:
        yield _with_what_depends(
            done, {index: fate for index, fate in zip(pending, fates, strict=True) if fate != "kept"}
        )


def _with_what_depends(done: Sequence[Operation], lost: dict[int, str]) -> dict[int, str]:
    """Return the losses with those that follow: a change of a name goes with an earlier one of the same name."""
    gone: set[Path] = set()
    found = dict(lost)
    for index, operation in enumerate(done):
        if not operation.is_data and operation.kind not in ("sync", "sync_folder"):
            if index in found or gone.intersection(operation.names) or _is_full(operation, gone):
                found[index] = "lost"
                gone.update(operation.names)
            if operation.kind == "create" and index not in found:
                gone.difference_update(operation.names)
    return found


def _is_full(operation: Operation, gone: set[Path]) -> bool:
    """Whether a folder cannot be gone, because the deletion of something in it was lost."""
    return operation.kind == "remove_folder" and any(operation.names[0] in name.parents for name in gone)


def _replay(before: Contents, done: Sequence[Operation], lost: dict[int, str]) -> Contents:
    state = Contents(set(before.folders), {})
    names: dict[Path, int | bytes] = dict(before.files)
    data: dict[int, bytearray] = {}
    for index, operation in enumerate(done):
        if lost.get(index) != "lost":
            _apply(operation, state, names, data, is_half=lost.get(index) == "half")
    state.files = {
        path: bytes(data.get(found, b"")) if isinstance(found, int) else found for path, found in names.items()
    }
    return state


def _apply(
    operation: Operation, state: Contents, names: dict[Path, int | bytes], data: dict[int, bytearray], is_half: bool
) -> None:
    match operation.kind:
        case "create":
            names[operation.names[0]] = operation.file
        case "write":
            content = operation.content[: len(operation.content) // 2] if is_half else operation.content
            held = data.setdefault(operation.file, bytearray())
            held.extend(bytes(max(operation.at - len(held), 0)))
            held[operation.at : operation.at + len(content)] = content
        case "resize":
            held = data.setdefault(operation.file, bytearray())
            held[:] = held[: operation.at].ljust(operation.at, b"\0")
        case "rename":
            old, new = operation.names
            if old in names:
                names[new] = names.pop(old)
        case "unlink":
            names.pop(operation.names[0], None)
        case "make_folder":
            state.folders.add(operation.names[0])
        case "remove_folder":
            state.folders.discard(operation.names[0])
