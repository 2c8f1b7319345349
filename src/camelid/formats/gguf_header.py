"""The header of a GGUF file, parsed with nothing taken on trust.

The header says how many keys and tensors there are, how long each string is and where each tensor lies. Every one of
these numbers is checked against the bytes that are there, and against a limit, before anything is allocated for it: a
hostile file costs no more than its own size. This file ends where the tensors' bytes begin; `gguf.py` hands those out.

Format: docs/gguf.md of ggml, in this order: magic, version, counts, keys with values, tensor entries, padding, tensor
data.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from camelid.errors import FormatError, TruncatedFile, UnsupportedFormat

from .blocks import BY_GGML_ID, REMOVED_GGML_IDS, BlockType
from .checkpoint import TensorInfo
from .gguf_strings import MAX_ARRAY_STRING_BYTES, locate_strings
from .gguf_values import SCALARS, NumberArray, StringArray, Typed, ValueType

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32
ALIGNMENT_KEY = "general.alignment"

# Far above any real file (the largest have some thousands of tensors and 300,000 merges), far below what hurts.
MAX_HEADER_BYTES = 256 << 20
MAX_KEYS = 1 << 16
MAX_TENSORS = 1 << 16
MAX_ARRAY_LENGTH = 16 << 20
MAX_STRING_BYTES = 1 << 20
MAX_NAME_BYTES = 1 << 10  # of a key or tensor
MAX_DIMENSIONS = 4
MAX_ALIGNMENT = 1 << 20
# The least that a key with its value, and a tensor's entry, can take: lengths, types and offsets, names of one byte.
MIN_KEY_BYTES = 8 + 1 + 4 + 1
MIN_TENSOR_BYTES = 8 + 1 + 4 + 8 + 4 + 8

_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")


@dataclass(frozen=True)
class Header:
    """What a GGUF file announces, checked. `starts` are the tensors' first bytes, counted from the file's first."""

    version: int
    metadata: dict[str, Typed]
    tensors: dict[str, TensorInfo]
    starts: dict[str, int]


def parse_header(path: Path, data: NDArray[np.uint8]) -> Header:
    """Parse and check the header of a mapped file.

    Raises FormatError, and its subclasses TruncatedFile and UnsupportedFormat, naming field, value and rule.
    """
    cursor = _Cursor(path, data)
    version = _read_version(cursor)
    num_tensors = cursor.count("number of tensors", MAX_TENSORS, MIN_TENSOR_BYTES)
    num_keys = cursor.count("number of keys", MAX_KEYS, MIN_KEY_BYTES)
    metadata = _read_metadata(cursor, num_keys)
    alignment = _alignment(path, metadata)
    tensors, offsets = _read_tensors(cursor, num_tensors)
    data_start = -(-cursor.at // alignment) * alignment
    _check_layout(path, tensors, offsets, alignment, len(data) - data_start)
    return Header(version, metadata, tensors, {name: data_start + offset for name, offset in offsets.items()})


class _Cursor:
    """A place in the header that moves on as fields are read, and never past the end."""

    def __init__(self, path: Path, data: NDArray[np.uint8]) -> None:
        self.path = path
        self.array = data
        self.data = data.data
        self.at = 0
        self.end = min(len(data), MAX_HEADER_BYTES)

    @property
    def left(self) -> int:
        return self.end - self.at

    def error(
        self, field: str, value: object, rule: str, kind: type[FormatError] = FormatError, hint: str | None = None
    ) -> FormatError:
        return kind(self.path, f"{field} (before byte {self.at})", value, rule, hint=hint)

    def need(self, num_bytes: int, field: str, value: object = None) -> None:
        """Refuse a field that does not fit into what is left of the file, or of the room a header may take."""
        if num_bytes <= self.left:
            return
        value = f"{num_bytes} bytes long" if value is None else value
        if self.end == MAX_HEADER_BYTES:
            raise self.error(field, value, f"a header ends within {MAX_HEADER_BYTES} bytes")
        rule = f"only {self.left} bytes follow" if self.left else "the file ends here"
        raise self.error(field, value, rule, TruncatedFile, "download or convert the file again")

    def take(self, num_bytes: int, field: str) -> int:
        """Step over `num_bytes` and return where they start."""
        self.need(num_bytes, field)
        start = self.at
        self.at += num_bytes
        return start

    def u32(self, field: str) -> int:
        number: int = _U32.unpack_from(self.data, self.take(4, field))[0]
        return number

    def u64(self, field: str) -> int:
        number: int = _U64.unpack_from(self.data, self.take(8, field))[0]
        return number

    def count(self, field: str, limit: int, least_bytes: int) -> int:
        """Read how many things follow, each of at least `least_bytes`."""
        number = self.u64(field)
        if number > limit:
            raise self.error(field, number, f"at most {limit} are read")
        self.need(number * least_bytes, field, number)
        return number

    def length(self, field: str, limit: int) -> int:
        num_bytes = self.u64(f"length of {field}")
        if num_bytes > limit:
            raise self.error(f"length of {field}", num_bytes, f"at most {limit} bytes are read")
        return num_bytes

    def string(self, field: str, limit: int = MAX_STRING_BYTES) -> str:
        start = self.take(self.length(field, limit), field)
        raw = bytes(self.data[start : self.at])
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise self.error(field, raw, "a string is UTF-8") from error

    def name(self, field: str) -> str:
        name = self.string(field, MAX_NAME_BYTES)
        if not name:
            raise self.error(field, name, "a name is not empty")
        return name


def _read_version(cursor: _Cursor) -> int:
    magic = bytes(cursor.data[cursor.take(4, "magic") : 4])
    if magic != MAGIC:
        raise cursor.error("magic", magic, "a GGUF file begins with b'GGUF'", UnsupportedFormat)
    version = cursor.u32("version")
    if version in VERSIONS:
        return version
    if version and version & 0xFFFF == 0:
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
        raise cursor.error(
            "byte order",
            f"big-endian (version {swapped})",
            "only little-endian files are read",
            UnsupportedFormat,
            "convert the model again without --bigendian",
        )
    hint = "convert the model again" if version < VERSIONS[0] else "update camelid"
    raise cursor.error("version", version, "versions 2 and 3 are read", UnsupportedFormat, hint)


def _read_metadata(cursor: _Cursor, num_keys: int) -> dict[str, Typed]:
    metadata: dict[str, Typed] = {}
    for index in range(num_keys):
        key = cursor.name(f"name of key {index}")
        if key in metadata:
            raise cursor.error(f"name of key {index}", key, "no two keys have the same name")
        metadata[key] = _read_value(cursor, key)
    return metadata


def _read_value(cursor: _Cursor, key: str) -> Typed:
    value_type = _read_value_type(cursor, f"type of {key!r}")
    if value_type is ValueType.ARRAY:
        return _read_array(cursor, key)
    if value_type is ValueType.STRING:
        return Typed(value_type, cursor.string(f"value of {key!r}"))
    return Typed(value_type, _read_numbers(cursor, key, value_type, 1)[0].item())


def _read_value_type(cursor: _Cursor, field: str) -> ValueType:
    number = cursor.u32(field)
    if number > max(ValueType):
        raise cursor.error(field, number, f"value types are 0 to {max(ValueType):d}", UnsupportedFormat)
    return ValueType(number)


def _read_array(cursor: _Cursor, key: str) -> Typed:
    value_type = _read_value_type(cursor, f"element type of {key!r}")
    if value_type is ValueType.ARRAY:
        raise cursor.error(f"element type of {key!r}", "array", "arrays of arrays are not read", UnsupportedFormat)
    least_bytes = 8 if value_type is ValueType.STRING else SCALARS[value_type].itemsize
    length = cursor.count(f"length of {key!r}", MAX_ARRAY_LENGTH, least_bytes)
    if value_type is ValueType.STRING:
        return Typed(value_type, _read_strings(cursor, key, length))
    return Typed(value_type, NumberArray(value_type, _read_numbers(cursor, key, value_type, length)))


def _read_numbers(cursor: _Cursor, key: str, value_type: ValueType, count: int) -> NDArray[Any]:
    """Return `count` numbers as a view of the mapping. A byte that is no bool would be undefined behaviour later."""
    dtype = SCALARS[value_type]
    start = cursor.take(count * dtype.itemsize, f"value of {key!r}")
    raw = cursor.array[start : cursor.at]
    if value_type is ValueType.BOOL and raw.max(initial=0) > 1:
        raise cursor.error(f"value of {key!r}", int(raw.max()), "a bool is 0 or 1")
    return raw.view(dtype)


def _read_strings(cursor: _Cursor, key: str, count: int) -> StringArray:
    bounds = locate_strings(cursor.array[: cursor.end], cursor.at, count)
    cursor.at = int(bounds[-1]) - 8
    if len(bounds) <= count:
        field = f"string {len(bounds) - 1} of {key!r}"
        cursor.take(cursor.length(field, MAX_ARRAY_STRING_BYTES), field)
    strings = StringArray(cursor.data, bounds)
    _check_utf8(cursor, key, bounds)
    return strings


def _check_utf8(cursor: _Cursor, key: str, bounds: NDArray[np.int64]) -> None:
    """Validate all strings in one pass: with the lengths between them zeroed, they are UTF-8 together or not at all.

    A zero byte is a character of its own, so that no character can reach across it from one string into the next.
    """
    first = bounds[0] - 8
    span = cursor.array[first : bounds[-1] - 8].copy()
    lengths = bounds[:-1] - 8 - first
    for byte in range(2):  # the other six are zero
        span[lengths + byte] = 0
    try:
        span.tobytes().decode()
    except UnicodeDecodeError as error:
        index = int(np.searchsorted(lengths, error.start, side="right")) - 1
        raw = bytes(cursor.data[bounds[index] : bounds[index + 1] - 8])
        raise cursor.error(f"string {index} of {key!r}", raw, "a string is UTF-8") from error


def _alignment(path: Path, metadata: dict[str, Typed]) -> int:
    typed = metadata.get(ALIGNMENT_KEY, Typed(ValueType.UINT32, DEFAULT_ALIGNMENT))
    if typed.value_type is not ValueType.UINT32:
        raise FormatError(path, f"type of {ALIGNMENT_KEY!r}", typed.value_type.name, "it is UINT32")
    alignment: int = typed.value
    if not 8 <= alignment <= MAX_ALIGNMENT or alignment & (alignment - 1):
        raise FormatError(path, ALIGNMENT_KEY, alignment, f"it is a power of two from 8 to {MAX_ALIGNMENT}")
    return alignment


def _read_tensors(cursor: _Cursor, num_tensors: int) -> tuple[dict[str, TensorInfo], dict[str, int]]:
    """Return the tensors and their offsets, counted from the start of the tensor data."""
    tensors: dict[str, TensorInfo] = {}
    offsets: dict[str, int] = {}
    for index in range(num_tensors):
        name = cursor.name(f"name of tensor {index}")
        if name in tensors:
            raise cursor.error(f"name of tensor {index}", name, "no two tensors have the same name")
        shape = _read_shape(cursor, name)
        block_type = _read_block_type(cursor, name)
        tensors[name] = TensorInfo(name, shape, block_type, _size_bytes(cursor, name, shape, block_type))
        offsets[name] = cursor.u64(f"offset of tensor {name!r}")
    return tensors, offsets


def _read_shape(cursor: _Cursor, name: str) -> tuple[int, ...]:
    """Return the shape in row-major order, the reverse of the file's."""
    num_dimensions = cursor.u32(f"number of dimensions of tensor {name!r}")
    if not 1 <= num_dimensions <= MAX_DIMENSIONS:
        raise cursor.error(f"number of dimensions of tensor {name!r}", num_dimensions, f"it is 1 to {MAX_DIMENSIONS}")
    dimensions = [cursor.u64(f"dimension {axis} of tensor {name!r}") for axis in range(num_dimensions)]
    if 0 in dimensions:
        raise cursor.error(f"dimension {dimensions.index(0)} of tensor {name!r}", 0, "a dimension is at least 1")
    return tuple(reversed(dimensions))


def _read_block_type(cursor: _Cursor, name: str) -> BlockType:
    ggml_id = cursor.u32(f"type of tensor {name!r}")
    block_type = BY_GGML_ID.get(ggml_id)
    if block_type is not None:
        return block_type
    field = f"type of tensor {name!r}"
    if ggml_id in REMOVED_GGML_IDS:
        value = f"{REMOVED_GGML_IDS[ggml_id]} ({ggml_id})"
        raise cursor.error(field, value, "GGML has removed this type", UnsupportedFormat, "quantize the model again")
    rule = f"the types up to {max(BY_GGML_ID)} are known"
    raise cursor.error(
        field, ggml_id, rule, UnsupportedFormat, "update camelid, or take the model in another quantization"
    )


def _size_bytes(cursor: _Cursor, name: str, shape: tuple[int, ...], block_type: BlockType) -> int:
    per_block = block_type.weights_per_block
    if shape[-1] % per_block:
        rule = f"a row of {block_type.name} is a multiple of {per_block}"
        raise cursor.error(f"row length of tensor {name!r}", shape[-1], rule)
    return math.prod(shape) // per_block * block_type.bytes_per_block  # Python's integers do not overflow


def _check_layout(
    path: Path, tensors: dict[str, TensorInfo], offsets: dict[str, int], alignment: int, data_bytes: int
) -> None:
    """Refuse data that is misaligned, overlaps, leaves a hole, or reaches beyond the file.

    Laid out by offset, every tensor begins where the one before ends, rounded up to the alignment.
    """
    expected = 0
    for name in sorted(offsets, key=offsets.__getitem__):
        field, offset = f"offset of tensor {name!r}", offsets[name]
        if offset % alignment:
            raise FormatError(path, field, offset, f"it is a multiple of the alignment, {alignment}")
        if offset != expected:
            what = "overlaps the tensor" if offset < expected else "leaves a hole after the data"
            raise FormatError(path, field, offset, f"that {what} before it: {expected} is the next free byte")
        end = offset + tensors[name].size_bytes
        if end > data_bytes:
            rule = f"only {max(data_bytes, 0)} bytes of tensor data are there"
            raise TruncatedFile(path, f"end of tensor {name!r}", end, rule, hint="download the file again")
        expected = -(-end // alignment) * alignment
    if data_bytes > expected:
        raise FormatError(path, "size of the tensor data", data_bytes, f"its tensors take {expected} bytes")
