"""What every weights file offers, whatever its format: metadata, and tensors by name.

A checkpoint maps its file; nothing is copied until a caller asks. It knows shapes and block types, not what a tensor is
for. `open_checkpoint`, in `opening.py`, looks at the content, never at the file's name, to choose the reader.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from camelid.errors import NotFound

from .blocks import BlockType, decode, row_bytes


@dataclass(frozen=True)
class TensorInfo:
    """One tensor as the file announces it.

    `shape` is row-major (numpy order): the last dimension is the one that is contiguous in the file and that blocks
    run along. GGUF's own order is the reverse.
    """

    name: str
    shape: tuple[int, ...]
    block_type: BlockType
    size_bytes: int


class Checkpoint(Protocol):
    """An opened weights file or set of files. Close it, or use it in a `with` statement, to unmap."""

    @property
    def path(self) -> Path:
        """The file, or the folder of a sharded set."""

    @property
    def metadata(self) -> Mapping[str, Any]:
        """GGUF key-values as Python values, or, for a safetensors folder, the content of its config.json."""

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """All tensors by name, in file order."""

    def raw(self, name: str) -> NDArray[np.uint8]:
        """Return the tensor's bytes as a read-only view of the mapping: (rows, bytes per row), row-major.

        A tensor of n dimensions has the product of all but its last dimension as rows. Raises NotFound.
        """

    def close(self) -> None:
        """Unmap. Views handed out keep their part of the mapping alive."""

    def __enter__(self) -> Checkpoint: ...
    def __exit__(self, *exc: object) -> None: ...


@dataclass(frozen=True)
class Piece:
    """Some rows or some columns of a matrix, first and one behind the last; columns begin and end with a block."""

    rows: tuple[int, int] | None = None
    columns: tuple[int, int] | None = None


@runtime_checkable
class Pieces(Protocol):
    """A checkpoint that would have to copy a whole matrix for a view of it, and can copy less."""

    def piece(self, name: str, piece: Piece) -> NDArray[np.uint8]:
        """Return what `read_piece` does."""


def read_piece(checkpoint: Checkpoint, name: str, piece: Piece) -> NDArray[np.uint8]:
    """Return the bytes of a part of a matrix: (rows, bytes per row). Usually a view. Raises NotFound."""
    if isinstance(checkpoint, Pieces):
        return checkpoint.piece(name, piece)
    rows = checkpoint.raw(name)
    return cut_piece(rows, checkpoint.tensors[name].block_type, piece)


def cut_piece(rows: NDArray[np.uint8], block_type: BlockType, piece: Piece) -> NDArray[np.uint8]:
    """Return a view of some rows and columns of (rows, bytes per row)."""
    first, last = piece.rows or (0, len(rows))
    if piece.columns is None:
        return rows[first:last]
    start, stop = (row_bytes(block_type, column) for column in piece.columns)
    return rows[first:last, start:stop]


def read(checkpoint: Checkpoint, name: str) -> NDArray[np.float32]:
    """Return a tensor dequantized to float32, in its full shape. Raises NotFound."""
    rows = checkpoint.raw(name)  # first, since it raises for a name that is not there
    info = checkpoint.tensors[name]
    return decode(rows, info.block_type).reshape(info.shape)


def as_rows(data: NDArray[np.uint8], start: int, info: TensorInfo) -> NDArray[np.uint8]:
    """Return the bytes of a tensor that begin at `start` as (rows, bytes per row), without a copy."""
    num_rows = math.prod(info.shape[:-1])
    return data[start : start + info.size_bytes].reshape(num_rows, info.size_bytes // max(num_rows, 1))


def no_such_tensor(checkpoint: Checkpoint, name: str) -> NotFound:
    """Return the error for a name that a checkpoint does not hold, with the nearest that it does."""
    near = get_close_matches(name, checkpoint.tensors, n=3)
    hint = f"the nearest names are {', '.join(near)}" if near else None
    return NotFound(f"{checkpoint.path} holds no tensor {name!r}", hint=hint)
