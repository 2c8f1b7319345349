"""What the first bytes of a GGUF file say, for a file that is still far away.

Separate from the strict reader, because here the end is missing by design: what is there is taken, nothing is trusted
further than to be shown, and whatever does not make sense ends the reading. Numbers, flags and short texts only.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from .gguf_header import MAGIC, MAX_NAME_BYTES
from .gguf_values import SCALARS, ValueType

MAX_TEXT_BYTES = 1 << 16


def peek_gguf(head: bytes) -> dict[str, Any]:
    """Return the metadata that the first bytes of a file hold, without arrays; nothing for another format."""
    found: dict[str, Any] = {}
    if head[:4] != MAGIC or len(head) < 24:
        return found
    (count,) = struct.unpack_from("<Q", head, 16)
    at = 24
    try:
        for _ in range(min(count, 1 << 12)):
            key, at = _text(head, at, MAX_NAME_BYTES)
            kind = ValueType(struct.unpack_from("<I", head, at)[0])
            if kind is ValueType.STRING:
                found[key], at = _text(head, at + 4, MAX_TEXT_BYTES)
            elif kind in SCALARS:
                dtype = SCALARS[kind]
                found[key] = np.frombuffer(head, dtype, 1, at + 4)[0].item()
                at += 4 + dtype.itemsize
            else:
                at = _behind_array(head, at + 4)
    except (struct.error, ValueError, UnicodeDecodeError):
        return found
    return found


def _text(head: bytes, at: int, most_bytes: int) -> tuple[str, int]:
    """Return a string and where it ends. Raises ValueError where it is cut off or too long."""
    (length,) = struct.unpack_from("<Q", head, at)
    end = at + 8 + length
    if length > most_bytes or end > len(head):
        raise ValueError("cut off")
    return head[at + 8 : end].decode("utf-8"), int(end)


def _behind_array(head: bytes, at: int) -> int:
    """Return where an array ends. Raises ValueError, struct.error where it is cut off."""
    kind, count = struct.unpack_from("<IQ", head, at)
    at += 12
    if ValueType(kind) in SCALARS:
        return int(at + count * SCALARS[ValueType(kind)].itemsize)
    if ValueType(kind) is not ValueType.STRING or count > len(head):
        raise ValueError("an array of arrays, or one that is cut off")
    for _ in range(count):
        _, at = _text(head, at, MAX_TEXT_BYTES)
    return at
