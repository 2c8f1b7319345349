"""GGUF files spelled out byte by byte, so that a test can make any part of them lie."""

import struct
from collections.abc import Sequence

UINT32, STRING, ARRAY, BOOL = 4, 8, 9, 7
F32 = 0


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def key(name: str | bytes, value_type: int, value: bytes) -> bytes:
    return text(name) + struct.pack("<I", value_type) + value


def array(element_type: int, count: int, elements: bytes) -> bytes:
    return struct.pack("<IQ", element_type, count) + elements


def tensor(name: str | bytes = "t", shape: Sequence[int] = (4, 2), type_id: int = F32, offset: int = 0) -> bytes:
    """An entry; `shape` is in the file's order, the contiguous dimension first."""
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, type_id, offset)


def header(num_tensors: int, num_keys: int, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, num_tensors, num_keys)


def gguf(keys: Sequence[bytes] = (), tensors: Sequence[bytes] = (), data: bytes = b"", alignment: int = 32) -> bytes:
    raw = header(len(tensors), len(keys)) + b"".join(keys) + b"".join(tensors)
    return raw + bytes(-len(raw) % alignment) + data
