"""GGUF files for the fuzz campaign: made field by field, mutated, and read by us and by the `gguf` package."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader

from camelid.formats import BlockType, GgufCheckpoint, decode
from camelid.formats.gguf_values import SCALARS, NumberArray, StringArray, ValueType

from .mutation import Field, join, mutate

SCALAR_TYPES = list(SCALARS)
BLOCK_TYPES = list(BlockType)


def make(chance: random.Random) -> bytes:
    """Return a file, mutated in 19 cases of 20."""
    fields = document(chance)
    return join(fields) if chance.random() < 0.05 else mutate(fields, chance)


def document(chance: random.Random) -> list[Field]:
    """Return the fields of a well-formed file: any value types, any block types, small tensors."""
    keys = [f"key.{i}" for i in range(chance.randrange(6))]
    tensors = [(f"blk.{i}.weight", *_tensor(chance)) for i in range(chance.randrange(5))]
    alignment = chance.choice((32, 32, 32, 8, 64))
    fields = [Field("data", b"GGUF"), Field.number(chance.choice((2, 3)), 4)]
    fields += [Field.number(len(tensors), 8), Field.number(len(keys) + (alignment != 32), 8)]
    if alignment != 32:
        fields += [*_text(b"general.alignment"), Field.number(ValueType.UINT32, 4), Field.number(alignment, 4)]
    for key in keys:
        fields += [*_text(key.encode()), *_value(chance)]
    offset, data = 0, []
    for name, shape, block_type, size_bytes in tensors:
        fields += _entry(name, shape, block_type, offset)
        data += [Field("data", chance.randbytes(size_bytes)), Field("data", bytes(-size_bytes % alignment))]
        offset += size_bytes + -size_bytes % alignment
    return [*fields, Field("data", bytes(-len(join(fields)) % alignment)), *data]


def check(path: Path) -> None:
    """Open a file; where that succeeds, the `gguf` package must read the same from it. Raises AssertionError."""
    with GgufCheckpoint(path) as ours:
        if any(info.block_type is BlockType.Q8_1 for info in ours.tensors.values()):
            return  # the package has its size wrong; no file uses it
        theirs = GGUFReader(path)
        values = {key: field.contents() for key, field in theirs.fields.items() if not key.startswith("GGUF.")}
        assert values.keys() == ours.metadata.keys()
        for key, value in ours.metadata.items():
            assert _same(value, values[key]), f"{key}: {value!r} is {values[key]!r} to the gguf package"
        assert {tensor.name for tensor in theirs.tensors} == ours.tensors.keys()
        for tensor in theirs.tensors:
            info = ours.tensors[tensor.name]
            assert info.shape == tuple(reversed(tensor.shape.tolist()))
            assert info.block_type.ggml_id == tensor.tensor_type
            raw = ours.raw(tensor.name)
            assert raw.tobytes() == tensor.data.tobytes()
            if info.block_type.is_decodable:
                decode(raw, info.block_type)


def _same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, NumberArray | StringArray):
        return _same(list(ours), [] if theirs is None else theirs)
    if isinstance(ours, list):
        return len(ours) == len(theirs) and all(map(_same, ours, theirs))
    return bool(ours == theirs or (ours != ours and theirs != theirs))


def _text(raw: bytes) -> list[Field]:
    return [Field.number(len(raw), 8), Field("text", raw)]


def _value(chance: random.Random) -> list[Field]:
    if chance.random() < 0.3:
        return [Field.number(ValueType.STRING, 4), *_text(_words(chance))]
    if chance.random() < 0.5:
        value_type = chance.choice(SCALAR_TYPES)
        return [Field.number(value_type, 4), _scalar(value_type, chance)]
    return [Field.number(ValueType.ARRAY, 4), *_array(chance)]


def _array(chance: random.Random) -> list[Field]:
    length = chance.choice((0, 1, 2, 5, 40)) if chance.random() < 0.99 else 1500  # which is read by leaps
    if chance.random() < 0.5:
        texts = [part for _ in range(length) for part in _text(_words(chance))]
        return [Field.number(ValueType.STRING, 4), Field.number(length, 8), *texts]
    value_type = chance.choice(SCALAR_TYPES)
    numbers = [_scalar(value_type, chance) for _ in range(length)]
    return [Field.number(value_type, 4), Field.number(length, 8), *numbers]


def _scalar(value_type: ValueType, chance: random.Random) -> Field:
    if value_type is ValueType.BOOL:
        return Field.number(chance.randrange(2), 1)
    raw = np.array(chance.randrange(100), SCALARS[value_type]).tobytes()
    return Field("number", raw)


def _words(chance: random.Random) -> bytes:
    return "".join(chance.choices("abcĠé漢🦙 \n", k=chance.choice((0, 1, 3, 12, 300)))).encode()


def _tensor(chance: random.Random) -> tuple[list[int], BlockType, int]:
    block_type = chance.choice(BLOCK_TYPES)
    row = block_type.weights_per_block * chance.randrange(1, 4)
    others = [chance.randrange(1, 4) for _ in range(chance.randrange(4))]
    blocks = row // block_type.weights_per_block
    return [row, *others], block_type, int(np.prod(others, dtype=int)) * blocks * block_type.bytes_per_block


def _entry(name: str, shape: list[int], block_type: BlockType, offset: int) -> list[Field]:
    dimensions = [Field.number(size, 8) for size in shape]
    place = [Field.number(block_type.ggml_id, 4), Field.number(offset, 8)]
    return [*_text(name.encode()), Field.number(len(shape), 4), *dimensions, *place]
