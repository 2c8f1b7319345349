"""The block types of weights: what each is called, how large its blocks are, and which can be decoded and encoded.

A row of a tensor is a run of blocks; a block holds a fixed number of weights in a fixed number of bytes. This file is
the table and the two doors, `decode` and `encode`; the layouts are in `block_decoders.py` and `block_encoders.py`. It
knows no files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from camelid.errors import InvalidRequest, UnsupportedModel

from . import block_decoders as decoders
from . import block_encoders as encoders

# Rows are worked on in slabs of this many weights: 1 MiB of float32, so that the intermediate arrays stay in the cache
# and memory stays bounded whatever the tensor.
SLAB_WEIGHTS = 1 << 18


class BlockType(Enum):
    """A GGML block type. The ids and sizes are GGML's own (ggml.h, ggml-common.h) and never change."""

    F32 = (0, 1, 4)
    F16 = (1, 1, 2)
    Q4_0 = (2, 32, 18)
    Q4_1 = (3, 32, 20)
    Q5_0 = (6, 32, 22)
    Q5_1 = (7, 32, 24)
    Q8_0 = (8, 32, 34)
    Q8_1 = (9, 32, 36)
    Q2_K = (10, 256, 84)
    Q3_K = (11, 256, 110)
    Q4_K = (12, 256, 144)
    Q5_K = (13, 256, 176)
    Q6_K = (14, 256, 210)
    Q8_K = (15, 256, 292)
    IQ2_XXS = (16, 256, 66)
    IQ2_XS = (17, 256, 74)
    IQ3_XXS = (18, 256, 98)
    IQ1_S = (19, 256, 50)
    IQ4_NL = (20, 32, 18)
    IQ3_S = (21, 256, 110)
    IQ2_S = (22, 256, 82)
    IQ4_XS = (23, 256, 136)
    I8 = (24, 1, 1)
    I16 = (25, 1, 2)
    I32 = (26, 1, 4)
    I64 = (27, 1, 8)
    F64 = (28, 1, 8)
    IQ1_M = (29, 256, 56)
    BF16 = (30, 1, 2)
    TQ1_0 = (34, 256, 54)
    TQ2_0 = (35, 256, 66)
    MXFP4 = (39, 32, 17)
    NVFP4 = (40, 64, 36)
    Q1_0 = (41, 128, 18)

    def __init__(self, ggml_id: int, weights_per_block: int, bytes_per_block: int) -> None:
        self.ggml_id = ggml_id
        self.weights_per_block = weights_per_block
        self.bytes_per_block = bytes_per_block

    @property
    def is_decodable(self) -> bool:
        """Whether `decode` reads this type."""
        return self in _DECODERS

    @property
    def is_encodable(self) -> bool:
        """Whether `encode` writes this type."""
        return self in _ENCODERS

    def __repr__(self) -> str:
        return f"BlockType.{self.name}"


BY_GGML_ID = {block_type.ggml_id: block_type for block_type in BlockType}

# Ids that GGML once used and took back: named, so that an old file gets a better answer than "unknown".
REMOVED_GGML_IDS = {
    4: "Q4_2",
    5: "Q4_3",
    31: "Q4_0_4_4",
    32: "Q4_0_4_8",
    33: "Q4_0_8_8",
    36: "IQ4_NL_4_4",
    37: "IQ4_NL_4_8",
    38: "IQ4_NL_8_8",
}

_DECODERS: dict[BlockType, Callable[[NDArray[np.uint8]], NDArray[np.float32]]] = {
    BlockType.F32: decoders.decode_f32,
    BlockType.F16: decoders.decode_f16,
    BlockType.BF16: decoders.decode_bf16,
    BlockType.Q4_0: decoders.decode_q4_0,
    BlockType.Q4_1: decoders.decode_q4_1,
    BlockType.Q5_0: decoders.decode_q5_0,
    BlockType.Q5_1: decoders.decode_q5_1,
    BlockType.Q8_0: decoders.decode_q8_0,
    BlockType.Q2_K: decoders.decode_q2_k,
    BlockType.Q3_K: decoders.decode_q3_k,
    BlockType.Q4_K: decoders.decode_q4_k,
    BlockType.Q5_K: decoders.decode_q5_k,
    BlockType.Q6_K: decoders.decode_q6_k,
    BlockType.IQ4_NL: decoders.decode_iq4_nl,
    BlockType.IQ4_XS: decoders.decode_iq4_xs,
}

_ENCODERS: dict[BlockType, Callable[[NDArray[np.float32]], NDArray[np.uint8]]] = {
    BlockType.F32: encoders.encode_f32,
    BlockType.F16: encoders.encode_f16,
    BlockType.BF16: encoders.encode_bf16,
    BlockType.Q8_0: encoders.encode_q8_0,
    BlockType.Q4_0: encoders.encode_q4_0,
    BlockType.Q4_K: encoders.encode_q4_k,
    BlockType.Q5_K: encoders.encode_q5_k,
    BlockType.Q6_K: encoders.encode_q6_k,
}


def row_bytes(block_type: BlockType, num_weights: int) -> int:
    """Return the size of a row. Raises InvalidRequest when the row is not a whole number of blocks."""
    per_block = block_type.weights_per_block
    if num_weights < 0 or num_weights % per_block:
        raise InvalidRequest(
            f"a row of {num_weights} weights cannot be {block_type.name}, whose blocks hold {per_block}",
            hint="keep this tensor in F16, or in Q8_0 where its rows are a multiple of 32",
        )
    return num_weights // per_block * block_type.bytes_per_block


def decode(rows: NDArray[np.uint8], block_type: BlockType) -> NDArray[np.float32]:
    """Dequantize rows, with the same bits as `gguf.quants.dequantize`.

    rows: (R, bytes per row). Returns (R, weights per row), freshly allocated.
    Raises UnsupportedModel for a type that is known but not decoded.
    """
    decoder = _DECODERS.get(block_type)
    if decoder is None:
        raise _unsupported(block_type, "decoded", _DECODERS)
    num_rows, num_bytes = rows.shape
    if num_bytes % block_type.bytes_per_block:
        raise ValueError(f"{num_bytes} bytes are not a whole number of {block_type.name} blocks")
    blocks = rows.reshape(-1, block_type.bytes_per_block)
    weights = np.empty((len(blocks), block_type.weights_per_block), dtype=np.float32)
    with np.errstate(invalid="ignore", over="ignore"):  # a scale that is NaN or infinite is passed on, not reported
        for slab in _slabs(len(blocks), block_type):
            weights[slab] = decoder(blocks[slab])
    return weights.reshape(num_rows, num_bytes // block_type.bytes_per_block * block_type.weights_per_block)


def encode(values: NDArray[np.float32], block_type: BlockType) -> NDArray[np.uint8]:
    """Quantize rows.

    values: (R, n), n a multiple of the block. Returns (R, bytes per row).
    Raises InvalidRequest for a row that is no whole number of blocks, for NaN or infinity in a quantized type, and for
    a value that float16 cannot hold; UnsupportedModel for a type that is not written.
    """
    encoder = _ENCODERS.get(block_type)
    if encoder is None:
        raise _unsupported(block_type, "encoded", _ENCODERS)
    num_rows, num_weights = values.shape
    num_bytes = row_bytes(block_type, num_weights)
    weights = np.ascontiguousarray(values, dtype=np.float32).reshape(-1, block_type.weights_per_block)
    blocks = np.empty((len(weights), block_type.bytes_per_block), dtype=np.uint8)
    for slab in _slabs(len(weights), block_type):
        _check_encodable(weights[slab], block_type)
        blocks[slab] = encoder(weights[slab])
    return blocks.reshape(num_rows, num_bytes)


def _slabs(num_blocks: int, block_type: BlockType) -> list[slice]:
    step = SLAB_WEIGHTS // block_type.weights_per_block
    return [slice(start, start + step) for start in range(0, num_blocks, step)]


def _check_encodable(weights: NDArray[np.float32], block_type: BlockType) -> None:
    """Refuse what the type would silently ruin: overflow of float16, and anything not finite once a scale is shared."""
    if block_type in (BlockType.F32, BlockType.BF16):
        return
    limit = float(np.finfo(np.float16).max)
    passes = np.abs(weights) <= limit
    if block_type is BlockType.F16:
        passes |= ~np.isfinite(weights)
    if not passes.all():
        value = weights[~passes][0]
        raise InvalidRequest(
            f"the value {value} cannot be written as {block_type.name}, which reaches from {-limit:.0f} to {limit:.0f}",
            hint="write this tensor as BF16 or F32",
        )


def _unsupported(block_type: BlockType, what: str, known: Iterable[BlockType]) -> UnsupportedModel:
    names = ", ".join(other.name for other in known)
    return UnsupportedModel(f"weights of type {block_type.name} cannot be {what}", hint=f"use one of {names}")
