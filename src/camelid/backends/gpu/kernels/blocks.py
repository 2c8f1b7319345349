"""GGML's quantized blocks as PyTorch reads them: the plain twin of the Triton readers, and what fills an embedding row.

Only the types that Camelid keeps quantized on a device are here; others are decoded on the host when they are loaded.
Layouts: ggml-common.h; the same as `formats/block_decoders.py`, which the tests hold these against.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from camelid.formats.blocks import BlockType

Decoder = Callable[[Tensor], Tensor]


def decode(rows: Tensor, block_type: BlockType) -> Tensor:
    """Return rows of blocks (N, bytes), uint8, as (N, columns) float32. Raises KeyError for types not in DECODERS."""
    blocks = rows.reshape(-1, block_type.bytes_per_block)
    return DECODERS[block_type](blocks).reshape(len(rows), -1)


def _half(blocks: Tensor, start: int) -> Tensor:
    """Return the float16 number at byte `start` of each block, as a column."""
    return blocks[:, start : start + 2].contiguous().view(torch.float16).float()


def _nibbles(packed: Tensor) -> Tensor:
    """Return low nibbles, then high ones, of the last axis, as a new axis before it: (..., 2, n)."""
    return torch.stack((packed & 15, packed >> 4), dim=-2)


def _q8_0(blocks: Tensor) -> Tensor:
    return _half(blocks, 0) * blocks[:, 2:].view(torch.int8).float()


def _q4_0(blocks: Tensor) -> Tensor:
    return _half(blocks, 0) * (_nibbles(blocks[:, 2:]).reshape(-1, 32).float() - 8)


def _scales_and_mins(packed: Tensor) -> tuple[Tensor, Tensor]:
    """Return eight 6-bit scales and eight mins of each block's 12 bytes: (blocks, 8) each."""
    low, middle, high = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    scales = torch.cat((low & 63, (high & 15) | (low >> 6 << 4)), dim=1)
    mins = torch.cat((middle & 63, (high >> 4) | (middle >> 6 << 4)), dim=1)
    return scales.float(), mins.float()


def _with_mins(blocks: Tensor, numbers: Tensor) -> Tensor:
    """Return d × scale × number − dmin × min. numbers: (blocks, 8, 32)."""
    scales, mins = _scales_and_mins(blocks[:, 4:16])
    steps, offsets = _half(blocks, 0) * scales, _half(blocks, 2) * mins
    return (steps[:, :, None] * numbers.float() - offsets[:, :, None]).reshape(-1, 256)


def _q4_k(blocks: Tensor) -> Tensor:
    return _with_mins(blocks, _nibbles(blocks[:, 16:].reshape(-1, 4, 32)).reshape(-1, 8, 32))


def _q5_k(blocks: Tensor) -> Tensor:
    low = _nibbles(blocks[:, 48:].reshape(-1, 4, 32)).reshape(-1, 8, 32)
    shifts = torch.arange(8, dtype=torch.uint8, device=blocks.device)[:, None]
    high = (blocks[:, None, 16:48] >> shifts) & 1
    return _with_mins(blocks, low | high << 4)


def _q6_k(blocks: Tensor) -> Tensor:
    low = _nibbles(blocks[:, :128].reshape(-1, 2, 2, 32)).transpose(2, 3).reshape(-1, 2, 4, 32)
    shifts = torch.tensor([0, 2, 4, 6], dtype=torch.uint8, device=blocks.device)[:, None]
    high = (blocks[:, 128:192].reshape(-1, 2, 1, 32) >> shifts) & 3
    numbers = (low | high << 4).reshape(-1, 16, 16).float() - 32
    scales = blocks[:, 192:208].view(torch.int8).float()
    return (_half(blocks, 208)[:, :, None] * scales[:, :, None] * numbers).reshape(-1, 256)


DECODERS: dict[BlockType, Decoder] = {
    BlockType.Q8_0: _q8_0,
    BlockType.Q4_0: _q4_0,
    BlockType.Q4_K: _q4_k,
    BlockType.Q5_K: _q5_k,
    BlockType.Q6_K: _q6_k,
}
