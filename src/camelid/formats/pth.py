"""PyTorch's `.pth` files as checkpoints, and as files to write: a zip archive with one member for each tensor's bytes.

The archive's directory is read, its members must be stored without compression, and a tensor is a view of the mapped
file. What the tensors are called is read by `torch_names.py`, which runs nothing.
"""

from __future__ import annotations

import math
import struct
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from camelid.errors import FormatError, InvalidRequest, TruncatedFile, UnsupportedFormat

from .atomic import replace_file
from .blocks import BlockType
from .checkpoint import TensorInfo, as_rows, no_such_tensor
from .gguf_writer import TensorSource
from .mapping import map_file
from .torch_names import MAX_PROGRAM_BYTES, MAX_TENSORS, STORAGES, StoredTensor, read_names, write_names

ZIP_MAGIC = b"PK\x03\x04"
_LOCAL_HEADER_BYTES = 30
_ALIGNMENT = 64  # as torch.save aligns
_ZIP64_BYTES = 20  # the extra field that Python's writer puts first into a large member's header


class PthCheckpoint:
    """One opened `.pth` file."""

    def __init__(self, path: Path) -> None:
        """Map and check a file. Raises NotFound, or FormatError with the field, its value and the rule it breaks."""
        self._path = path
        self._data: NDArray[np.uint8] | None = map_file(path)
        members = _members(path, self._data)
        stored = read_names(path, _program(path, self._data, members))
        self._tensors = MappingProxyType({name: _info(path, name, tensor) for name, tensor in stored.items()})
        self._starts = {name: _start(path, name, tensor, members) for name, tensor in stored.items()}

    @property
    def path(self) -> Path:
        return self._path

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Nothing: such a file holds tensors alone."""
        return MappingProxyType({})

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        return self._tensors

    def raw(self, name: str) -> NDArray[np.uint8]:
        if name not in self._tensors:
            raise no_such_tensor(self, name)
        if self._data is None:
            raise ValueError(f"{self._path} is closed")
        return as_rows(self._data, self._starts[name], self._tensors[name])

    def close(self) -> None:
        self._data = None

    def __enter__(self) -> PthCheckpoint:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _members(path: Path, data: NDArray[np.uint8]) -> dict[str, tuple[int, int]]:
    """Return where each member's bytes begin and how many there are, by the name below the archive's own folder."""
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            listed = archive.infolist()
    except (zipfile.BadZipFile, ValueError, struct.error, NotImplementedError) as error:
        raise FormatError(
            path, "zip directory", repr(error)[:100], "it is the list of the archive's members"
        ) from error
    if len(listed) > MAX_TENSORS:
        raise FormatError(path, "number of members", len(listed), f"at most {MAX_TENSORS} are read")
    found = {
        member.filename.partition("/")[2]: (_content_start(path, data, member), member.file_size) for member in listed
    }
    if len(found) != len(listed):
        raise FormatError(path, "zip directory", f"{len(listed)} members", "their names differ")
    return found


def _content_start(path: Path, data: NDArray[np.uint8], member: zipfile.ZipInfo) -> int:
    """Check one member, and return where its bytes begin: the local header has lengths of its own."""
    what = f"member {member.filename!r:.80}"
    if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
        raise UnsupportedFormat(path, what, "compressed", "only members that are stored as they are can be mapped")
    head = data[member.header_offset : member.header_offset + _LOCAL_HEADER_BYTES].tobytes()
    if len(head) < _LOCAL_HEADER_BYTES or head[:4] != ZIP_MAGIC:
        raise FormatError(path, what, member.header_offset, "its header is there")
    name_bytes, extra_bytes = struct.unpack("<HH", head[26:30])
    start = member.header_offset + _LOCAL_HEADER_BYTES + name_bytes + extra_bytes
    if start + member.file_size > len(data):
        rule = f"the file has {len(data)} bytes"
        raise TruncatedFile(path, f"end of {what}", start + member.file_size, rule, hint="download the file again")
    return int(start)


def _program(path: Path, data: NDArray[np.uint8], members: Mapping[str, tuple[int, int]]) -> bytes:
    order_start, order_size = members.get("byteorder", (0, 0))
    order = data[order_start : order_start + min(order_size, 16)].tobytes()
    if order not in (b"", b"little"):
        raise UnsupportedFormat(path, "byteorder", order, "only little-endian files are read")
    if "data.pkl" not in members:
        raise UnsupportedFormat(path, "content", "no data.pkl", "torch.save writes one into its archive")
    start, size = members["data.pkl"]
    return data[start : start + min(size, MAX_PROGRAM_BYTES + 1)].tobytes()


def _info(path: Path, name: str, tensor: StoredTensor) -> TensorInfo:
    if not tensor.shape or min(tensor.shape) < 1:
        raise UnsupportedFormat(
            path, f"shape of tensor {name!r:.80}", tensor.shape, "it has dimensions, none of them 0"
        )
    size_bytes = math.prod(tensor.shape) * tensor.block_type.bytes_per_block
    return TensorInfo(name, tensor.shape, tensor.block_type, size_bytes)


def _start(path: Path, name: str, tensor: StoredTensor, members: Mapping[str, tuple[int, int]]) -> int:
    start, size = members.get(f"data/{tensor.key}", (0, -1))
    width = tensor.block_type.bytes_per_block
    if size != tensor.storage_size * width:
        rule = f"its storage of {tensor.storage_size} elements takes {tensor.storage_size * width}"
        raise FormatError(path, f"bytes of tensor {name!r:.80}", size, rule, hint="download the file again")
    if tensor.offset + math.prod(tensor.shape) > tensor.storage_size:
        rule = f"its storage has {tensor.storage_size} elements"
        raise FormatError(path, f"end of tensor {name!r:.80}", tensor.offset + math.prod(tensor.shape), rule)
    return start + tensor.offset * width


def write_pth(path: Path, sources: Iterable[TensorSource]) -> None:
    """Write a `.pth` file, which appears at `path` once it is whole. Types: BF16, F16, F32. Raises InvalidRequest."""
    listed = list(sources)
    tensors = {source.name: _stored(number, source) for number, source in enumerate(listed)}
    folder = path.name.removesuffix(".pth")
    with replace_file(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        _write_member(archive, file, f"{folder}/data.pkl", [write_names(tensors)])
        _write_member(archive, file, f"{folder}/byteorder", [b"little"])
        for number, source in enumerate(listed):
            chunks = (np.ascontiguousarray(chunk).data for chunk in source.produce())
            written = _write_member(archive, file, f"{folder}/data/{number}", chunks)
            if written != source.size_bytes:
                raise ValueError(
                    f"tensor {source.name!r} produced {written} bytes, its shape asks for {source.size_bytes}"
                )
        _write_member(archive, file, f"{folder}/version", [b"3\n"])


def _stored(number: int, source: TensorSource) -> StoredTensor:
    if source.block_type not in STORAGES.values():
        known = ", ".join(kind.name for kind in STORAGES.values())
        raise InvalidRequest(f"a .pth file cannot hold {source.block_type.name}", hint=f"use one of {known}")
    return StoredTensor(str(number), source.block_type, math.prod(source.shape), 0, source.shape)


def _write_member(archive: zipfile.ZipFile, file: IO[bytes], name: str, chunks: Iterable[bytes | memoryview]) -> int:
    """Write a member whose content begins at a multiple of 64 bytes. Returns its size."""
    member, written = zipfile.ZipInfo(name), 0
    header = _LOCAL_HEADER_BYTES + len(name.encode()) + _ZIP64_BYTES + 4
    padding = -(file.tell() + header) % _ALIGNMENT
    member.extra = b"FB" + struct.pack("<H", padding) + bytes(padding)  # the field that torch itself pads with
    with archive.open(member, "w", force_zip64=True) as content:
        for chunk in chunks:
            content.write(chunk)
            written += len(chunk) if isinstance(chunk, bytes) else chunk.nbytes
    return written


def is_writable(block_type: BlockType) -> bool:
    """Whether such a file can hold weights of a type."""
    return block_type in STORAGES.values()
