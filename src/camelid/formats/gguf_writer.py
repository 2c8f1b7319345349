"""Writes GGUF files, version 3, tensor by tensor.

The header is written first, from shapes and types alone; then each tensor is produced, written and dropped, so that
memory holds one chunk at a time, however large the model. What this file writes, `gguf_header.py` reads back without
complaint: a name or shape that it would refuse is refused here. It knows no key's meaning.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from camelid.errors import InvalidRequest

from .atomic import replace_file
from .blocks import BlockType, encode, row_bytes
from .gguf_header import (
    ALIGNMENT_KEY,
    DEFAULT_ALIGNMENT,
    MAGIC,
    MAX_ALIGNMENT,
    MAX_DIMENSIONS,
    MAX_NAME_BYTES,
    MAX_STRING_BYTES,
)
from .gguf_strings import MAX_ARRAY_STRING_BYTES
from .gguf_values import SCALARS, NumberArray, StringArray, Typed, ValueType

VERSION = 3

Chunks = Iterable[NDArray[np.uint8]]


@dataclass(frozen=True)
class TensorSource:
    """A tensor to be written: what it is, and how to make its bytes when its turn comes.

    `shape` is row-major, as in TensorInfo. `produce` returns the bytes in chunks of whole rows or any other size.
    """

    name: str
    shape: tuple[int, ...]
    block_type: BlockType
    produce: Callable[[], Chunks]

    @property
    def size_bytes(self) -> int:
        """The size in the file, without padding. Raises InvalidRequest when rows are no whole number of blocks."""
        return math.prod(self.shape[:-1]) * row_bytes(self.block_type, self.shape[-1])


def tensor_from_values(name: str, values: NDArray[np.floating[Any]], block_type: BlockType) -> TensorSource:
    """Return a tensor that encodes `values`, of any shape, when it is written."""

    def produce() -> Chunks:
        yield encode(np.asarray(values, dtype=np.float32).reshape(-1, values.shape[-1]), block_type)

    return TensorSource(name, values.shape, block_type, produce)


def tensor_from_raw(name: str, shape: tuple[int, ...], block_type: BlockType, rows: NDArray[np.uint8]) -> TensorSource:
    """Return a tensor that is written as the bytes it already has, such as `Checkpoint.raw` gives."""
    return TensorSource(name, shape, block_type, lambda: [rows])


def write_gguf(path: Path | str, metadata: Mapping[str, Any], tensors: Iterable[TensorSource]) -> None:
    """Write a GGUF file, which appears at `path` once it is whole.

    Metadata: str, bool, int (as UINT32, or INT32 when negative, or 64 bits when larger), float (as FLOAT32), sequences
    of one of these (ints as INT32 arrays), numpy arrays, or `Typed` to choose the type, as a `GgufCheckpoint` gives it.
    Raises InvalidRequest for a name, value or shape that GGUF cannot hold, and ValueError when a tensor produces
    another number of bytes than its shape asks for.
    """
    sources = list(tensors)
    alignment = _alignment(metadata)
    header = _header(metadata, sources, alignment)
    with replace_file(Path(path)) as file:
        file.write(header)
        _pad(file, len(header), alignment)
        for source in sources:
            write_source(file, source)
            _pad(file, source.size_bytes, alignment)


def write_source(file: BinaryIO, source: TensorSource) -> None:
    """Write a tensor's bytes as they are made. Raises ValueError when there are more or fewer than its shape says."""
    written = 0
    for chunk in source.produce():
        if chunk.dtype != np.uint8:
            raise ValueError(f"tensor {source.name!r} produced {chunk.dtype}, not uint8")
        file.write(np.ascontiguousarray(chunk).data)
        written += chunk.nbytes
    if written != source.size_bytes:
        raise ValueError(f"tensor {source.name!r} produced {written} bytes, and its shape asks for {source.size_bytes}")


def _pad(file: BinaryIO, size_bytes: int, alignment: int) -> None:
    file.write(bytes(-size_bytes % alignment))


def _alignment(metadata: Mapping[str, Any]) -> int:
    alignment = metadata.get(ALIGNMENT_KEY, DEFAULT_ALIGNMENT)
    alignment = alignment.value if isinstance(alignment, Typed) else alignment
    if not isinstance(alignment, int) or not 8 <= alignment <= MAX_ALIGNMENT or alignment & (alignment - 1):
        raise InvalidRequest(f"{ALIGNMENT_KEY} is {alignment!r}, but it is a power of two from 8 to {MAX_ALIGNMENT}")
    return alignment


def _header(metadata: Mapping[str, Any], sources: Sequence[TensorSource], alignment: int) -> bytes:
    parts = [MAGIC, struct.pack("<IQQ", VERSION, len(sources), len(metadata))]
    for key, value in metadata.items():
        parts += [_name(key), _value(key, value)]
    _check_names(sources)
    offset = 0
    for source in sources:
        parts.append(_tensor_entry(source, offset))
        offset += source.size_bytes + -source.size_bytes % alignment
    return b"".join(parts)


def _check_names(sources: Sequence[TensorSource]) -> None:
    seen: set[str] = set()
    for source in sources:
        if source.name in seen:
            raise InvalidRequest(f"two tensors are named {source.name!r}")
        seen.add(source.name)


def _tensor_entry(source: TensorSource, offset: int) -> bytes:
    shape = source.shape
    if not 1 <= len(shape) <= MAX_DIMENSIONS or min(shape) < 1:
        raise InvalidRequest(
            f"tensor {source.name!r} has the shape {shape}, but GGUF has 1 to {MAX_DIMENSIONS} dimensions, none 0"
        )
    dimensions = struct.pack(f"<I{len(shape)}Q", len(shape), *reversed(shape))
    return _name(source.name) + dimensions + struct.pack("<IQ", source.block_type.ggml_id, offset)


def _name(name: str) -> bytes:
    if not name:
        raise InvalidRequest("the name of a key or tensor is empty")
    return _string(name, MAX_NAME_BYTES)


def _string(text: str, limit: int) -> bytes:
    raw = text.encode()
    if len(raw) > limit:
        raise InvalidRequest(f"the string {text[:40]!r}… has {len(raw)} bytes, but at most {limit} can be written here")
    return struct.pack("<Q", len(raw)) + raw


def _value(key: str, value: Any) -> bytes:
    """Return a value with its type in front."""
    value_type, is_array, value = _classify(key, value)
    if is_array:
        length = struct.pack("<IIQ", ValueType.ARRAY, value_type, len(value))
        if value_type is ValueType.STRING:
            return length + b"".join(_string(text, MAX_ARRAY_STRING_BYTES) for text in value)
        return length + _numbers(key, value_type, value)
    if value_type is ValueType.STRING:
        return struct.pack("<I", value_type) + _string(value, MAX_STRING_BYTES)
    return struct.pack("<I", value_type) + _numbers(key, value_type, [value])


def _classify(key: str, value: Any) -> tuple[ValueType, bool, Any]:
    """Return the type of a value, or of its elements, whether it is an array, and the value itself."""
    if isinstance(value, Typed):
        return value.value_type, _is_array(value.value), value.value
    if isinstance(value, NumberArray | StringArray):
        return value.value_type, True, value
    if isinstance(value, np.ndarray):
        return _type_of_dtype(key, value.dtype), True, value.ravel()
    if _is_array(value):
        return _type_of_elements(key, value), True, value
    return _type_of_scalar(key, value), False, value


def _is_array(value: Any) -> bool:
    return isinstance(value, Sequence | np.ndarray) and not isinstance(value, str | bytes)


def _type_of_dtype(key: str, dtype: np.dtype[Any]) -> ValueType:
    for value_type, known in SCALARS.items():
        if known == dtype:
            return value_type
    raise InvalidRequest(f"{key!r} is an array of {dtype}, which GGUF metadata cannot hold")


def _type_of_elements(key: str, values: Sequence[Any]) -> ValueType:
    """Return the one type that all elements have. Integers are INT32 where they fit, as in the arrays of published
    files."""
    kinds = {type(value) for value in values}
    if kinds <= {int} and all(-(2**31) <= value < 2**31 for value in values):
        return ValueType.INT32
    if kinds == {int}:
        return ValueType.INT64
    if len(kinds) == 1:
        return _type_of_scalar(key, values[0])
    raise InvalidRequest(f"{key!r} is an array of {sorted(kind.__name__ for kind in kinds)}, but its type must be one")


def _type_of_scalar(key: str, value: Any) -> ValueType:
    if isinstance(value, bool):
        return ValueType.BOOL
    if isinstance(value, str):
        return ValueType.STRING
    if isinstance(value, float):
        return ValueType.FLOAT32
    if not isinstance(value, int):
        raise InvalidRequest(f"{key!r} is of type {type(value).__name__}, which GGUF metadata cannot hold")
    if value < 0:
        return ValueType.INT32 if value >= -(2**31) else ValueType.INT64
    return ValueType.UINT32 if value < 2**32 else ValueType.UINT64


def _numbers(key: str, value_type: ValueType, values: Any) -> bytes:
    dtype, given = SCALARS[value_type], np.asarray(values)
    try:
        with np.errstate(over="raise"):
            numbers = np.asarray(values, dtype=dtype)
    except (ArithmeticError, ValueError, TypeError) as error:
        raise InvalidRequest(f"{key!r} holds a value that is no {value_type.name}: {error}") from error
    if dtype.kind in "iu" and given.dtype.kind == "f" and given.size:
        raise InvalidRequest(f"{key!r} holds a fraction, which is no {value_type.name}")
    return numbers.tobytes()
