"""Meta's weights cut into another number of files, byte for byte: no weight is computed, only put elsewhere.

Apart from `convert` because nothing is converted: each new file holds pieces of the old ones, which are read at that
place and nowhere else. Only one piece is in memory at a time, of one tensor for one file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from camelid.errors import InvalidRequest
from camelid.formats.checkpoint import Checkpoint, Piece, TensorInfo, read_piece
from camelid.formats.gguf_writer import TensorSource
from camelid.formats.meta_folder import ROWS, cut_of
from camelid.formats.pth import write_pth

from .slabs import SLAB_WEIGHTS, Bytes, Progress


def file_name(number: int, count: int, *, is_merged: bool) -> str:
    """Return the name of a file of weights: Meta's, or the one that AIME's worker looks for."""
    return f"merged.{count}GPUs.{number:02d}.pth" if is_merged else f"consolidated.{number:02d}.pth"


def reshard(checkpoint: Checkpoint, folder: Path, dim: int, names: Sequence[str], progress: Progress) -> None:
    """Write the tensors of Meta's files into files of these names. `dim`: the model's width.

    Raises InvalidRequest for a number of files that does not divide a tensor.
    """
    for number, name in enumerate(names):
        infos = checkpoint.tensors.values()
        write_pth(folder / name, [_piece(checkpoint, info, dim, number, len(names), progress) for info in infos])


def _piece(
    checkpoint: Checkpoint, info: TensorInfo, dim: int, number: int, count: int, progress: Progress
) -> TensorSource:
    """Return what a file has of a tensor: all of it, or its rows or columns."""
    axis = cut_of(info.name, info.shape, dim) if count > 1 else None
    if axis is None:
        return TensorSource(info.name, info.shape, info.block_type, partial(_whole, checkpoint, info, progress))
    if info.shape[axis] % count:
        raise InvalidRequest(f"{count} files are not possible: {info.name} has the shape {info.shape}")
    length = info.shape[axis] // count
    shape = tuple(length if place == axis else size for place, size in enumerate(info.shape))
    span = (number * length, (number + 1) * length)
    return TensorSource(info.name, shape, info.block_type, partial(_cut, checkpoint, info, axis, span, progress))


def _whole(checkpoint: Checkpoint, info: TensorInfo, progress: Progress) -> Iterator[Bytes]:
    rows = checkpoint.raw(info.name)
    yield rows
    progress(rows.nbytes)


def _cut(
    checkpoint: Checkpoint, info: TensorInfo, axis: int, span: tuple[int, int], progress: Progress
) -> Iterator[Bytes]:
    """Yield a part slab by slab: of rows some at a time, of columns those of some rows."""
    first, last = span if axis == ROWS else (0, info.shape[0])
    step = max(1, SLAB_WEIGHTS // math.prod(info.shape[1:]))
    for start in range(first, last, step):
        rows = (start, min(start + step, last))
        slab = read_piece(checkpoint, info.name, Piece(rows, None if axis == ROWS else span))
        yield slab
        progress(slab.nbytes)
