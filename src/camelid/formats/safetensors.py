"""Safetensors files as checkpoints: one file, or a folder of shards with an index.

The header is JSON that says of each tensor its type, shape and place; every claim is checked against the file before a
view is handed out. It knows no architecture: a folder's config.json is passed on as it is.

Format: the README of huggingface/safetensors. Layout: 8 bytes of header length, the header, the tensors without gaps.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from camelid.errors import FormatError, InvalidRequest, TruncatedFile, UnsupportedFormat

from .atomic import replace_file
from .blocks import BlockType
from .checkpoint import TensorInfo, as_rows, no_such_tensor
from .gguf_writer import TensorSource, write_source
from .json_file import parse_json
from .mapping import map_file

MAX_HEADER_BYTES = 100_000_000  # the same as the safetensors library
MAX_TENSORS = 1 << 16
METADATA_KEY = "__metadata__"

# The dtypes that weights of a Llama-class model come in, and those that may lie beside them.
DTYPES = {
    "F32": BlockType.F32,
    "F16": BlockType.F16,
    "BF16": BlockType.BF16,
    "F64": BlockType.F64,
    "I64": BlockType.I64,
    "I32": BlockType.I32,
    "I16": BlockType.I16,
    "I8": BlockType.I8,
}


class SafetensorsCheckpoint:
    """One opened safetensors file."""

    def __init__(self, path: Path, metadata: Mapping[str, Any] | None = None) -> None:
        """Map and check a file. `metadata` takes the place of the header's own, as a folder's config.json does.

        Raises NotFound, or FormatError with the field, its value and the rule it breaks.
        """
        self._path = path
        self._data: NDArray[np.uint8] | None = map_file(path)
        header, data_start = _read_header(path, self._data)
        own = _take_metadata(path, header)
        self._metadata = MappingProxyType(dict(own if metadata is None else metadata))
        tensors, begins = _read_tensors(path, header, len(self._data) - data_start)
        self._tensors = MappingProxyType(tensors)
        self._starts = {name: data_start + begin for name, begin in begins.items()}

    @property
    def path(self) -> Path:
        return self._path

    @property
    def metadata(self) -> Mapping[str, Any]:
        return self._metadata

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

    def __enter__(self) -> SafetensorsCheckpoint:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _read_header(path: Path, data: NDArray[np.uint8]) -> tuple[dict[str, Any], int]:
    """Return the parsed header and where the tensors begin."""
    if len(data) < 8:
        raise TruncatedFile(path, "size", len(data), "a safetensors file begins with 8 bytes of header length")
    num_bytes = int.from_bytes(data[:8].tobytes(), "little")
    if num_bytes > MAX_HEADER_BYTES:
        raise FormatError(path, "header length", num_bytes, f"at most {MAX_HEADER_BYTES} bytes are read")
    if num_bytes > len(data) - 8:
        rule = f"only {len(data) - 8} bytes follow"
        raise TruncatedFile(path, "header length", num_bytes, rule, hint="download the file again")
    raw = data[8 : 8 + num_bytes].tobytes()
    if raw[:1] != b"{":
        raise FormatError(path, "first byte of the header", raw[:1], "it is b'{'")
    return parse_json(path, "header", raw), 8 + num_bytes


def _take_metadata(path: Path, header: dict[str, Any]) -> dict[str, str]:
    metadata = header.pop(METADATA_KEY, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise FormatError(path, METADATA_KEY, metadata, "it maps strings to strings")
    return metadata


def _read_tensors(path: Path, header: dict[str, Any], data_bytes: int) -> tuple[dict[str, TensorInfo], dict[str, int]]:
    """Return the tensors in file order, and where each begins, counted from the first byte after the header."""
    if len(header) > MAX_TENSORS:
        raise FormatError(path, "number of tensors", len(header), f"at most {MAX_TENSORS} are read")
    places = {name: _read_entry(path, name, entry) for name, entry in header.items()}
    ordered = sorted(places, key=lambda name: places[name][1:])
    reached = 0
    for name in ordered:
        _, begin, end = places[name]
        if begin != reached:
            what = "overlaps the tensor" if begin < reached else "leaves a hole after the data"
            rule = f"that {what} before it: {reached} is the next free byte"
            raise FormatError(path, f"begin of tensor {name!r}", begin, rule)
        if end > data_bytes:
            rule = f"only {data_bytes} bytes of tensor data are there"
            raise TruncatedFile(path, f"end of tensor {name!r}", end, rule, hint="download the file again")
        reached = end
    if reached != data_bytes:
        raise FormatError(path, "size of the tensor data", data_bytes, f"its tensors take {reached} bytes")
    return {name: places[name][0] for name in ordered}, {name: places[name][1] for name in ordered}


def _read_entry(path: Path, name: str, entry: Any) -> tuple[TensorInfo, int, int]:
    """Check one tensor's entry by itself. Returns the tensor and the offsets of its begin and end."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise FormatError(
            path, f"entry of tensor {name!r}", entry, "it has dtype, shape and data_offsets, nothing else"
        )
    block_type = _block_type(path, name, entry["dtype"])
    shape = _sizes(path, f"shape of tensor {name!r}", entry["shape"])
    offsets = _sizes(path, f"data_offsets of tensor {name!r}", entry["data_offsets"])
    if math.prod(max(size, 1) for size in shape) * block_type.bytes_per_block >= 2**63:  # a 0 among them hides it
        raise FormatError(path, f"shape of tensor {name!r}", list(shape), "its dimensions together are less than 2**63")
    size_bytes = math.prod(shape) * block_type.bytes_per_block
    if len(offsets) != 2 or offsets[1] - offsets[0] != size_bytes:
        rule = f"the shape {list(shape)} in {entry['dtype']} takes {size_bytes} bytes"
        raise FormatError(path, f"data_offsets of tensor {name!r}", list(offsets), rule)
    return TensorInfo(name, shape, block_type, size_bytes), offsets[0], offsets[1]


def _block_type(path: Path, name: str, dtype: Any) -> BlockType:
    block_type = DTYPES.get(dtype) if isinstance(dtype, str) else None
    if block_type is None:
        hint = "take the model in BF16 or F16, or as a GGUF file"
        rule = f"only {', '.join(DTYPES)} are read"
        raise UnsupportedFormat(path, f"dtype of tensor {name!r}", dtype, rule, hint=hint)
    return block_type


def _sizes(path: Path, field: str, values: Any) -> tuple[int, ...]:
    """Return a list of JSON as sizes: whole, not negative, and of 64 bits at most."""
    if not isinstance(values, list) or not all(type(value) is int and 0 <= value < 2**64 for value in values):
        raise FormatError(path, field, values, "it is a list of whole numbers from 0 to 2**64 - 1")
    return tuple(values)


def write_safetensors(path: Path | str, tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> None:
    """Write one safetensors file, which appears at `path` once it is whole.

    tensors: arrays of float32, float16, float64 or signed integers; uint16 is taken as the bits of BF16.
    """
    entries = {name: (_dtype_name(array.dtype), array.shape, array.nbytes) for name, array in tensors.items()}
    with replace_file(Path(path)) as file:
        file.write(_header_of(entries, metadata))
        for array in tensors.values():
            file.write(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes())


def stream_safetensors(path: Path, sources: Iterable[TensorSource], metadata: Mapping[str, str]) -> None:
    """Write one safetensors file, which appears at `path` once it is whole, tensor by tensor.

    Raises InvalidRequest for a type that the format has no name for.
    """
    listed, names = list(sources), {block_type: name for name, block_type in DTYPES.items()}
    for source in listed:
        if source.block_type not in names:
            raise InvalidRequest(f"safetensors cannot hold {source.block_type.name}", hint="use BF16, F16 or F32")
    entries = {source.name: (names[source.block_type], source.shape, source.size_bytes) for source in listed}
    with replace_file(path) as file:
        file.write(_header_of(entries, metadata))
        for source in listed:
            write_source(file, source)


def _header_of(entries: Mapping[str, tuple[str, tuple[int, ...], int]], metadata: Mapping[str, str]) -> bytes:
    """Return the header, with its length, for tensors of a dtype, shape and size each."""
    header: dict[str, Any] = {METADATA_KEY: dict(metadata)} if metadata else {}
    begin = 0
    for name, (dtype, shape, size_bytes) in entries.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, begin + size_bytes]}
        begin += size_bytes
    raw = json.dumps(header, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)  # the library's own padding, so that the tensors are aligned
    return len(raw).to_bytes(8, "little") + raw


def _dtype_name(dtype: np.dtype[Any]) -> str:
    names = {"u2": "BF16", "f4": "F32", "f2": "F16", "f8": "F64", "i8": "I64", "i4": "I32", "i2": "I16", "i1": "I8"}
    return names[dtype.str[1:]]
