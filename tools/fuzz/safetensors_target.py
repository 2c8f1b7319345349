"""Safetensors files for the fuzz campaign, read by us and by the `safetensors` package."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from safetensors import deserialize

from camelid.formats import SafetensorsCheckpoint

from .mutation import EDGES, HUGE, Field, join, mutate

SIZES = {"F32": 4, "F16": 2, "BF16": 2, "F64": 8, "I64": 8, "I32": 4, "I16": 2, "I8": 1}
STRANGE: tuple[Any, ...] = (None, True, -1, 0.5, "F32", [], {}, [[]], 1e400, "\ud800", "BOOL", "F8_E4M3", *EDGES, *HUGE)


def make(chance: random.Random) -> bytes:
    """Return a file, mutated in its header's values, in its header's text, or in its bytes."""
    header, data = document(chance)
    way = chance.random()
    if 0.05 < way < 0.6:
        _change_value(header, chance)
    text = json.dumps(header).encode()
    if way > 0.85:
        text = mutate(_tokens(text), chance)
    if chance.random() < 0.2:
        text += b" " * chance.randrange(9)
    fields = [Field.number(len(text), 8), Field("data", text), Field("data", data)]
    return mutate(fields, chance) if 0.6 < way < 0.85 else join(fields)


def document(chance: random.Random) -> tuple[dict[str, Any], bytes]:
    """Return the header and the data of a well-formed file."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}} if chance.random() < 0.5 else {}
    begin = 0
    for i in range(chance.randrange(6)):
        dtype = chance.choice(list(SIZES))
        shape = [
            chance.randrange(4) if chance.random() < 0.2 else chance.randrange(1, 5) for _ in range(chance.randrange(4))
        ]
        end = begin + SIZES[dtype]
        for size in shape:
            end = begin + (end - begin) * size
        header[f"layer.{i}"] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
        begin = end
    return header, chance.randbytes(begin)


def check(path: Path) -> None:
    """Open a file; where that succeeds, the `safetensors` package must read the same. Raises AssertionError."""
    with SafetensorsCheckpoint(path) as ours:
        theirs = dict(deserialize(path.read_bytes()))  # type: ignore[no-untyped-call]
        assert theirs.keys() == ours.tensors.keys()
        for name, tensor in theirs.items():
            info = ours.tensors[name]
            assert list(info.shape) == tensor["shape"]
            assert info.block_type.name == tensor["dtype"]
            assert ours.raw(name).tobytes() == bytes(tensor["data"])


def _change_value(header: dict[str, Any], chance: random.Random) -> None:
    """Change one value somewhere in the header, or the key that it stands under."""
    value: Any = header
    while True:
        keys = list(value) if isinstance(value, dict) else range(len(value))
        if not keys:
            return
        key = chance.choice(keys)
        if isinstance(value[key], dict | list) and value[key] and chance.random() < 0.8:
            value = value[key]
            continue
        break
    if isinstance(value, dict) and chance.random() < 0.2:
        value[chance.choice(("layer.0", "dtype", "", "\ud800", "x" * 5000))] = value.pop(key)
    elif isinstance(value[key], int) and chance.random() < 0.5:
        value[key] += chance.choice((-1, 1, 2, 8, -8))
    else:
        value[key] = chance.choice(STRANGE)


def _tokens(text: bytes) -> list[Field]:
    """Take JSON text apart at its marks, roughly."""
    fields, start = [], 0
    for at, byte in enumerate(text):
        if byte in b'{}[],:"':
            fields += [Field("text", text[start:at]), Field("text", text[at : at + 1])]
            start = at + 1
    return [*(field for field in fields if field.raw), Field("text", text[start:])]
