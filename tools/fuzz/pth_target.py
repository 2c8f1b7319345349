"""PyTorch's archives for the fuzz campaign, read by us and by torch itself (with `weights_only`)."""

from __future__ import annotations

import io
import pickle
import pickletools
import random
import re
import warnings
import zipfile
from pathlib import Path

import torch

from camelid.formats.blocks import BlockType
from camelid.formats.pth import PthCheckpoint
from camelid.formats.torch_names import StoredTensor, write_names

from .mutation import Field, mutate

TYPES = (BlockType.BF16, BlockType.F16, BlockType.F32)
NAMES = (b"ctorch\nDoubleStorage\n", b"cos\nsystem\n", b"cbuiltins\neval\n", b"ccollections\nOrderedDict\n")


def make(chance: random.Random) -> bytes:
    """Return an archive, mutated in its program's operations, in its members, or in its bytes."""
    tensors = _tensors(chance)
    program = write_names(tensors)
    way = chance.random()
    if 0.15 < way < 0.6:
        program = mutate(_operations(program), chance)
    if 0.6 < way < 0.65:
        program = chance.choice(NAMES).join((program[:3], program[3:]))
    raw = _archive(program, tensors, chance)
    return mutate(_places(raw), chance) if way > 0.75 else raw


def check(path: Path) -> None:
    """Open a file; where torch accepts it as well, it must read the same. Raises AssertionError."""
    with PthCheckpoint(path) as ours:
        held = {name: ours.raw(name).tobytes() for name in ours.tensors}
        try:
            with warnings.catch_warnings(action="ignore"):  # torch warns of protocols that it does not know
                theirs = torch.load(path, weights_only=True)
        except (RuntimeError, pickle.UnpicklingError, ValueError, TypeError, EOFError, OSError, AttributeError):
            return  # torch looks at checksums and versions, too
        assert {name: _bytes(tensor) for name, tensor in theirs.items()} == held


def _bytes(tensor: torch.Tensor) -> bytes:
    """Return a tensor's elements, whatever its strides say of dimensions of one."""
    return torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor).view(-1).view(torch.uint8).numpy().tobytes()


def _tensors(chance: random.Random) -> dict[str, StoredTensor]:
    found = {}
    for number in range(chance.randrange(4)):
        shape = tuple(chance.randrange(1, 5) for _ in range(chance.randrange(1, 4)))
        size = 1
        for length in shape:
            size *= length
        offset = chance.choice((0, 0, 0, 2))
        found[f"layer.{number}"] = StoredTensor(str(number), chance.choice(TYPES), size + offset, offset, shape)
    return found


def _archive(program: bytes, tensors: dict[str, StoredTensor], chance: random.Random) -> bytes:
    file = io.BytesIO()
    is_odd = chance.random() < 0.05
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED if is_odd else zipfile.ZIP_STORED) as archive:
        archive.writestr("x/data.pkl", program)
        archive.writestr("x/byteorder", chance.choice((b"little",) * 9 + (b"big",)))
        for tensor in tensors.values():
            size = tensor.storage_size * tensor.block_type.bytes_per_block + chance.choice((0,) * 20 + (1, -1))
            archive.writestr(f"x/data/{tensor.key}", chance.randbytes(size))
        archive.writestr("x/version", b"3\n")
    return file.getvalue()


def _operations(program: bytes) -> list[Field]:
    """Take a program apart at its operations."""
    starts = [at for _, _, at in pickletools.genops(program) if at is not None]
    ends = [*starts[1:], len(program)]
    return [Field("text", program[start:end]) for start, end in zip(starts, ends, strict=True)]


def _places(raw: bytes) -> list[Field]:
    """Take an archive apart at its headers, whose numbers are fields of their own."""
    fields, start = [], 0
    for found in re.finditer(rb"PK(\x03\x04|\x01\x02|\x05\x06)", raw):
        fields += [Field("data", raw[start : found.start()]), Field("text", found[0])]
        start = found.end()
        for width in (2, 2, 2, 4, 4, 4, 4, 2, 2):
            fields.append(Field.number(int.from_bytes(raw[start : start + width], "little"), width))
            start += width
    return [field for field in (*fields, Field("data", raw[start:])) if field.raw]
