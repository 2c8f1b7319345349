"""A folder as Meta hands it out, as one checkpoint: `consolidated.NN.pth`, one for each process, and `params.json`.

With several files, most matrices are cut: some by rows, some by columns, each process having one part; vectors are in
every file. Which way a matrix is cut is part of the layout and stands here. One file is mapped as it is; parts are put
together when a tensor is asked for, which copies it.

Source: Meta's llama-models, the parallel layers of models/llama3/model.py.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from camelid.errors import FormatError, UnsupportedFormat

from .checkpoint import Piece, TensorInfo, cut_piece, no_such_tensor
from .json_file import load_json
from .pth import PthCheckpoint

PARAMS = "params.json"
MAX_FILES = 64
ORIGINAL = "original"
FILE = re.compile(r"consolidated\.(\d\d)\.pth")
MERGED = re.compile(r"merged\.(\d{1,2})GPUs\.(\d\d)\.pth")
ROWS, COLUMNS = 0, 1
_BY_COLUMNS = (".attention.wo.weight", ".feed_forward.w2.weight")


def weights_files(folder: Path) -> list[Path]:
    """Return a folder's weights in their order, none if it is not of this layout.

    Meta's own names come before those of AIME's converter, `merged.{count}GPUs.{number}.pth`, which lie beside them.
    Raises FormatError for a set with a gap.
    """
    names = sorted(path.name for path in folder.iterdir())
    found = [name for name in names if FILE.fullmatch(name)]
    expected = [f"consolidated.{number:02d}.pth" for number in range(len(found))]
    if not found and (counts := sorted(int(match[1]) for name in names if (match := MERGED.fullmatch(name)))):
        count = min(counts[0], MAX_FILES)
        found = [name for name in names if name.startswith(f"merged.{count}GPUs.")]
        expected = [f"merged.{count}GPUs.{number:02d}.pth" for number in range(count)]
    if found != expected:
        rule = "they are numbered from 00 without a gap"
        raise FormatError(folder, "weights", found[:8], rule, hint="download what is missing")
    return [folder / name for name in found]


def own_folder(folder: Path) -> Path | None:
    """Return where Meta's files are: the folder itself, or `original` in it as in Hugging Face's repositories."""
    for place in (folder, folder / ORIGINAL):
        if (place / PARAMS).is_file() and weights_files(place):
            return place
    return None


def cut_of(name: str, shape: tuple[int, ...], dim: int) -> int | None:
    """Return along which dimension a tensor of one file is cut, None where every file has all of it.

    Llama 3 cuts the embedding by rows; Llama 2 by columns, which shows in its width.
    """
    if len(shape) < 2:
        return None
    if name == "tok_embeddings.weight":
        return ROWS if shape[1] == dim else COLUMNS
    return COLUMNS if name.endswith(_BY_COLUMNS) else ROWS


class MetaCheckpoint:
    """The files of one model."""

    def __init__(self, folder: Path) -> None:
        """Map and check all files. Raises NotFound, FormatError."""
        self._path = folder
        self._metadata = MappingProxyType(load_json(folder / PARAMS))
        files = weights_files(folder)
        if len(files) > MAX_FILES:
            raise FormatError(folder, "number of files", len(files), f"at most {MAX_FILES} are read")
        self._parts = [PthCheckpoint(file) for file in files]
        self._cuts = {name: self._cut(name, info) for name, info in self._parts[0].tensors.items()}
        self._tensors = MappingProxyType({name: self._whole(name) for name in self._parts[0].tensors})

    @property
    def path(self) -> Path:
        return self._path

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The content of params.json."""
        return self._metadata

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        return self._tensors

    def raw(self, name: str) -> NDArray[np.uint8]:
        if name not in self._tensors:
            raise no_such_tensor(self, name)
        cut = self._cuts[name]
        if cut is None:
            return self._parts[0].raw(name)
        whole = np.concatenate([part.raw(name) for part in self._parts], axis=cut)
        whole.flags.writeable = False
        return whole

    def piece(self, name: str, piece: Piece) -> NDArray[np.uint8]:
        """Return some rows or columns, put together out of the files that they lie in and no other."""
        if name not in self._tensors:
            raise no_such_tensor(self, name)
        info, axis = self._tensors[name], self._cuts[name]
        if axis is None:
            return cut_piece(self._parts[0].raw(name), info.block_type, piece)
        asked = piece.rows if axis == ROWS else piece.columns
        first, last = asked or (0, info.shape[axis])
        length = info.shape[axis] // len(self._parts)
        found = [
            cut_piece(part.raw(name), info.block_type, _within(piece, axis, first - start, last - start, length))
            for start, part in zip(range(0, info.shape[axis], length), self._parts, strict=True)
            if first < start + length and start < last
        ]
        return found[0] if len(found) == 1 else np.concatenate(found, axis=axis)

    def close(self) -> None:
        for part in self._parts:
            part.close()

    def __enter__(self) -> MetaCheckpoint:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _cut(self, name: str, info: TensorInfo) -> int | None:
        dim = self._metadata.get("dim")
        if len(self._parts) == 1 or not isinstance(dim, int):
            return None
        return cut_of(name, info.shape, dim)

    def _whole(self, name: str) -> TensorInfo:
        """Return a tensor as it is put together. Raises FormatError where the files do not fit together."""
        infos = [part.tensors.get(name) for part in self._parts]
        first, cut = self._parts[0].tensors[name], self._cuts[name]
        for number, info in enumerate(infos):
            if info is None or (info.shape, info.block_type) != (first.shape, first.block_type):
                found = None if info is None else (info.shape, info.block_type.name)
                rule = f"{self._parts[0].path.name} has {first.shape} in {first.block_type.name}"
                raise FormatError(self._path, f"tensor {name!r:.80} of file {number:02d}", found, rule)
        if len(first.shape) > 2:
            raise UnsupportedFormat(self._path, f"shape of {name!r:.80}", first.shape, "it has one or two dimensions")
        if cut is None:
            return first
        shape = tuple(size * len(self._parts) if axis == cut else size for axis, size in enumerate(first.shape))
        return TensorInfo(name, shape, first.block_type, math.prod(shape) * first.block_type.bytes_per_block)


def _within(piece: Piece, axis: int, first: int, last: int, length: int) -> Piece:
    """Return what one file has of a piece, counted from the file's own beginning."""
    own = (max(first, 0), min(last, length))
    return Piece(own, piece.columns) if axis == ROWS else Piece(piece.rows, own)
