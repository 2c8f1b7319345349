"""A second copy of a checkpoint's matrices, in the layout that a backend reads fastest: made once, mapped from then on.

One file: a head, a header in JSON that says of what it is a copy and where each matrix lies, the matrices. Whoever
makes one gives their bytes: this file knows a layout by its name only. A copy is never needed, so whoever finds
something wrong with one does without it.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from camelid.errors import FormatError

from .atomic import replace_file
from .json_file import parse_json
from .mapping import map_file

MAGIC = b"camelid copy 1\n\0"
_HEAD = struct.Struct("<16sQ")  # magic, bytes of the header
ALIGNMENT = 4096  # where matrices begin: a page of the system
MAX_HEADER_BYTES = 16 << 20
SLAB_BYTES = 4 << 20  # filled and written at a time

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Matrix:
    """One matrix: the name of its tensor, GGML's number of its block type, and its size."""

    name: str
    ggml_id: int
    num_rows: int
    row_bytes: int

    @property
    def size_bytes(self) -> int:
        """Bytes of all rows."""
        return self.num_rows * self.row_bytes


@dataclass(frozen=True)
class Origin:
    """What is copied: the file, what tells its content from another's, and how its bytes are laid out."""

    source: str
    identity: str
    layout: str


Fill = Callable[[Matrix, int, Bytes], None]
"""Writes rows of a matrix, from the given one on, into the array: (rows, row_bytes)."""


@dataclass(frozen=True)
class FastCopy:
    """An opened copy."""

    path: Path
    origin: Origin
    matrices: Mapping[str, tuple[Matrix, int, int]]  # with the position in the file and the CRC-32 of their bytes
    data: Bytes

    def rows(self, matrix: Matrix) -> Bytes | None:
        """Return a matrix's bytes as a view of the mapped file, (rows, row_bytes); None if it is not there as such."""
        found, at, _ = self.matrices.get(matrix.name, (None, 0, 0))
        if found != matrix:
            return None
        return self.data[at : at + matrix.size_bytes].reshape(matrix.num_rows, matrix.row_bytes)

    def is_sound(self, progress: Callable[[int], object] = lambda _: None) -> bool:
        """Read all of it, and say whether it is what was written."""
        for matrix, at, expected in self.matrices.values():
            found = 0
            for start in range(at, at + matrix.size_bytes, SLAB_BYTES):
                piece = self.data[start : min(start + SLAB_BYTES, at + matrix.size_bytes)]
                found = zlib.crc32(piece.data, found)
                progress(len(piece))
            if found != expected:
                return False
        return True


def open_fast_copy(path: Path) -> FastCopy:
    """Map a copy. Raises NotFound, and FormatError for a file that is none or not whole."""
    data = map_file(path)
    head = data[: _HEAD.size].tobytes()
    magic, header_bytes = _HEAD.unpack(head) if len(head) == _HEAD.size else (head, 0)
    if magic != MAGIC:
        raise FormatError(path, "magic", magic[:16], "this is no copy of a checkpoint's matrices")
    if not 0 < header_bytes <= min(MAX_HEADER_BYTES, len(data) - _HEAD.size):
        raise FormatError(path, "size of the header", header_bytes, f"the file has {len(data)} bytes")
    fields = parse_json(path, "header", data[_HEAD.size : _HEAD.size + header_bytes].tobytes())
    try:
        origin = Origin(*(str(fields[key]) for key in ("source", "identity", "layout")))
        listed = [_listed(row) for row in fields["matrices"]]
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(path, "header", repr(error)[:80], "a field is missing or of another kind") from error
    for matrix, at, _ in listed:
        if min(at, matrix.num_rows, matrix.row_bytes) <= 0 or at % ALIGNMENT or at + matrix.size_bytes > len(data):
            raise FormatError(path, f"place of {matrix.name}", at, f"the file has {len(data)} bytes")
    return FastCopy(path, origin, {matrix.name: (matrix, at, crc) for matrix, at, crc in listed}, data)


def _listed(row: Mapping[str, Any]) -> tuple[Matrix, int, int]:
    matrix = Matrix(str(row["name"]), int(row["ggml_id"]), int(row["num_rows"]), int(row["row_bytes"]))
    return matrix, int(row["at"]), int(row["crc"], 16)


def copy_bytes(matrices: Sequence[Matrix]) -> int:
    """Return the size of a copy, but for its header of some kilobytes."""
    return sum(_padded(matrix.size_bytes) for matrix in matrices)


def write_fast_copy(path: Path, origin: Origin, matrices: Sequence[Matrix], fill: Fill) -> None:
    """Write a copy, whole or not at all. Raises OSError when the disk does not take it."""
    sums = [0] * len(matrices)
    start = _padded(_HEAD.size + len(_header(origin, matrices, sums, 0)))
    with replace_file(path) as file:
        file.seek(start)
        for index, matrix in enumerate(matrices):
            sums[index] = _write_matrix(file, matrix, fill)
        header = _header(origin, matrices, sums, start)
        file.seek(0)
        file.write(_HEAD.pack(MAGIC, len(header)) + header)


def _header(origin: Origin, matrices: Sequence[Matrix], sums: Sequence[int], start: int) -> bytes:
    """Return the header; its length does not depend on `sums` and `start`."""
    rows, at = [], start
    for matrix, crc in zip(matrices, sums, strict=True):
        rows.append({**asdict(matrix), "at": f"{at:016d}", "crc": f"{crc:08x}"})
        at += _padded(matrix.size_bytes)
    return json.dumps({**asdict(origin), "matrices": rows}).encode()


def _write_matrix(file: BinaryIO, matrix: Matrix, fill: Fill) -> int:
    """Write a matrix and zeros to the next page; return the CRC-32 of its bytes."""
    crc, step = 0, max(16, SLAB_BYTES // matrix.row_bytes // 16 * 16)
    for begin in range(0, matrix.num_rows, step):
        slab = np.empty((min(step, matrix.num_rows - begin), matrix.row_bytes), np.uint8)
        fill(matrix, begin, slab)
        crc = zlib.crc32(slab.data, crc)
        file.write(slab.data)
    file.write(bytes(_padded(matrix.size_bytes) - matrix.size_bytes))
    return crc


def _padded(size_bytes: int) -> int:
    return -(-size_bytes // ALIGNMENT) * ALIGNMENT
