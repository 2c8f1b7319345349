"""Quantized blocks to float32, one function per block type.

Each function takes blocks as bytes, (n, bytes per block), and returns their weights, (n, weights per block). They are
separate from the table in `blocks.py` so that a layout can be read, and tested, on its own; they know nothing of rows,
files or slabs.

The order of the float32 operations is part of the contract: every function gives the same bits as
`gguf.quants.dequantize`, infinities and NaN included. So the scale of a sub-block is rounded to float32 before it meets
a weight, and nothing is fused.

Layouts: ggml-common.h and ggml-quants.c of ggml. `d` is a block's scale, `m` its minimum, both float16 in the file.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Scalar = TypeVar("Scalar", bound=np.generic)

# The 16 values of the non-linear 4-bit types: a fixed codebook, denser around zero (ggml's kvalues_iq4nl).
IQ4_CODEBOOK = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], dtype=np.float32)


def decode_f32(blocks: Bytes) -> Floats:
    return blocks.view("<f4").astype(np.float32, copy=True)


def decode_f16(blocks: Bytes) -> Floats:
    return blocks.view("<f2").astype(np.float32)


def decode_bf16(blocks: Bytes) -> Floats:
    return (blocks.view("<u2").astype(np.uint32) << np.uint32(16)).view(np.float32)


def decode_q8_0(blocks: Bytes) -> Floats:
    return blocks[:, 2:].view(np.int8).astype(np.float32) * _half(blocks, 0)


def decode_q4_0(blocks: Bytes) -> Floats:
    return _half(blocks, 0) * (_flat(_nibbles(blocks[:, 2:], 16)).astype(np.float32) - np.float32(8))


def decode_q4_1(blocks: Bytes) -> Floats:
    return _half(blocks, 0) * _flat(_nibbles(blocks[:, 4:], 16)).astype(np.float32) + _half(blocks, 2)


def decode_q5_0(blocks: Bytes) -> Floats:
    return _half(blocks, 0) * (_five_bits(blocks[:, 2:6], blocks[:, 6:]).astype(np.float32) - np.float32(16))


def decode_q5_1(blocks: Bytes) -> Floats:
    return _half(blocks, 0) * _five_bits(blocks[:, 4:8], blocks[:, 8:]).astype(np.float32) + _half(blocks, 2)


def decode_q2_k(blocks: Bytes) -> Floats:
    """256 weights of 2 bits; 16 sub-blocks of 16, each with a 4-bit scale and a 4-bit minimum."""
    scale = _half(blocks, 80) * (blocks[:, :16] & np.uint8(15)).astype(np.float32)  # (n, 16)
    minimum = _half(blocks, 82) * (blocks[:, :16] >> np.uint8(4)).astype(np.float32)
    q = _fields(blocks[:, 16:80], 32, 2).reshape(-1, 16, 16).astype(np.float32)
    return _flat(scale[:, :, None] * q - minimum[:, :, None])


def decode_q3_k(blocks: Bytes) -> Floats:
    """256 weights of 3 bits, the third in a mask (a clear bit subtracts 4); 16 sub-blocks with signed 6-bit scales."""
    scale = _half(blocks, 108) * _q3_k_scales(blocks[:, 96:108])  # (n, 16)
    low = _fields(blocks[:, 32:96], 32, 2).reshape(-1, 16, 16).astype(np.float32)
    third = _fields(blocks[:, :32], 32, 1).reshape(-1, 16, 16)
    q = low - ((third ^ np.uint8(1)) << np.uint8(2)).astype(np.float32)
    return _flat(scale[:, :, None] * q)


def decode_q4_k(blocks: Bytes) -> Floats:
    """256 weights of 4 bits; 8 sub-blocks of 32, each with a 6-bit scale and a 6-bit minimum."""
    scale, minimum = _scaled_by_six_bits(blocks)
    q = _nibbles(blocks[:, 16:], 32).reshape(-1, 8, 32).astype(np.float32)
    return _flat(scale * q - minimum)


def decode_q5_k(blocks: Bytes) -> Floats:
    """Q4_K with a fifth bit per weight: bit j of byte i belongs to weight i of sub-block j."""
    scale, minimum = _scaled_by_six_bits(blocks)
    low = _nibbles(blocks[:, 48:], 32).reshape(-1, 8, 32)
    fifth = _fields(blocks[:, 16:48], 32, 1).reshape(-1, 8, 32)
    return _flat(scale * (low | (fifth << np.uint8(4))).astype(np.float32) - minimum)


def decode_q6_k(blocks: Bytes) -> Floats:
    """256 weights of 6 bits, offset by 32; 16 sub-blocks of 16 with signed 8-bit scales and no minimum."""
    scale = _half(blocks, 208) * blocks[:, 192:208].view(np.int8).astype(np.float32)  # (n, 16)
    low = _nibbles(blocks[:, :128], 64).reshape(-1, 256)
    high = _fields(blocks[:, 128:192], 32, 2).reshape(-1, 256)
    q = (low | (high << np.uint8(4))).astype(np.float32) - np.float32(32)
    return _flat(scale[:, :, None] * q.reshape(-1, 16, 16))


def decode_iq4_nl(blocks: Bytes) -> Floats:
    q: Floats = IQ4_CODEBOOK[_flat(_nibbles(blocks[:, 2:], 16))]
    return _half(blocks, 0) * q


def decode_iq4_xs(blocks: Bytes) -> Floats:
    """256 codebook indices of 4 bits; 8 sub-blocks of 32 with 6-bit scales, offset by 32, split in 4 and 2 bits."""
    low = _nibbles(blocks[:, 4:8], 1).reshape(-1, 8)
    high = blocks[:, 2:4].view("<u2") >> np.arange(0, 16, 2, dtype=np.uint16)  # (n, 8)
    scale = (low | ((high.astype(np.uint8) & np.uint8(3)) << np.uint8(4))).astype(np.float32) - np.float32(32)
    q: Floats = IQ4_CODEBOOK[_nibbles(blocks[:, 8:], 16).reshape(-1, 8, 32)]
    return _flat((_half(blocks, 0) * scale)[:, :, None] * q)


def _half(blocks: Bytes, at: int) -> Floats:
    """Return the float16 at byte `at` of every block as a column, (n, 1)."""
    return blocks[:, at : at + 2].view("<f2").astype(np.float32)


def _nibbles(packed: Bytes, width: int) -> Bytes:
    """Return all low, then all high halves of each run of `width` bytes: (n, runs, 2, width)."""
    return _fields(packed, width, 4)


def _fields(packed: Bytes, width: int, bits: int) -> Bytes:
    """Return the fields of `bits` bits, lowest first, of each run of `width` bytes: (n, runs, 8 / bits, width)."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    runs = packed.reshape(packed.shape[0], -1, 1, width)
    fields: Bytes = (runs >> shifts[:, None]) & np.uint8((1 << bits) - 1)
    return fields


def _five_bits(fifth: Bytes, low: Bytes) -> Bytes:
    """Join 32 low nibbles with their fifth bits, bit i of a little-endian 32-bit word for weight i: (n, 32)."""
    high = np.unpackbits(fifth, axis=1, bitorder="little")
    return _flat(_nibbles(low, 16)) | (high << np.uint8(4))


def _q3_k_scales(packed: Bytes) -> Floats:
    """Unpack 16 signed 6-bit scales from 12 bytes: low halves in the first 8, two high bits each in the last 4."""
    low = _nibbles(packed[:, :8], 8).reshape(-1, 16)
    high = _fields(packed[:, 8:], 4, 2).reshape(-1, 16)
    return (low | (high << np.uint8(4))).astype(np.float32) - np.float32(32)


def _scaled_by_six_bits(blocks: Bytes) -> tuple[Floats, Floats]:
    """Return the scales and minimums of the sub-blocks of a Q4_K or Q5_K block, each (n, 8, 1)."""
    scales, minimums = unpack_six_bits(blocks[:, 4:16])
    scale = _half(blocks, 0) * scales.astype(np.float32)
    minimum = _half(blocks, 2) * minimums.astype(np.float32)
    return scale[:, :, None], minimum[:, :, None]


def unpack_six_bits(packed: Bytes) -> tuple[Bytes, Bytes]:
    """Unpack 8 scales and 8 minimums of 6 bits from 12 bytes, each (n, 8).

    Bytes 0-3 hold the scales 0-3 and bytes 4-7 the minimums 0-3 in their low six bits. The low nibbles of bytes 8-11
    are the scales 4-7 and the high ones the minimums 4-7, whose top two bits sit in the top two bits of bytes 0-3 and
    4-7.
    """
    first, second, last = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    top = np.uint8(0x30)
    scales = np.concatenate([first & np.uint8(63), (last & np.uint8(15)) | ((first >> np.uint8(2)) & top)], axis=1)
    minimums = np.concatenate([second & np.uint8(63), (last >> np.uint8(4)) | ((second >> np.uint8(2)) & top)], axis=1)
    return scales, minimums


def _flat(weights: NDArray[Scalar]) -> NDArray[Scalar]:
    return weights.reshape(weights.shape[0], -1)
