"""A weight on a device: dense in the type that is computed in, or in its blocks, as the file has it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from camelid.formats.blocks import BlockType, decode

from ..base import Part, Tensor
from .kernels.blocks import DECODERS
from .kernels.eight_bits import to_fp8
from .staging import to_device

FLOATS = {BlockType.F32: torch.float32, BlockType.F16: torch.float16, BlockType.BF16: torch.bfloat16}
SLAB_BYTES = 64 << 20  # decoded on the host at once


@dataclass(frozen=True, eq=False)
class Dense:
    """(rows, columns) in one float type. `part`: which rows or columns these are, None for all."""

    matrix: torch.Tensor
    part: Part | None = None


@dataclass(frozen=True, eq=False)
class Blocks:
    """(rows, bytes per row), uint8. `part` as above."""

    rows: torch.Tensor
    block_type: BlockType
    part: Part | None = None


@dataclass(frozen=True, eq=False)
class Fp8:
    """(rows, columns) float8_e4m3fn, to be multiplied by scales (rows,) float32. `part` as above."""

    codes: torch.Tensor
    scales: torch.Tensor
    part: Part | None = None


Placed = Dense | Blocks | Fp8


@dataclass(frozen=True, eq=False)
class Pair:
    """What an adapter adds to a product: scale × up (rows, rank) · down (rank, columns)."""

    down: torch.Tensor
    up: torch.Tensor
    scale: float


def place(tensor: Tensor, device: torch.device, dtype: torch.dtype, *, is_fp8: bool = False) -> Placed:
    """Copy a weight to the device. Types without a kernel are decoded, which takes more memory and no accuracy.

    is_fp8: round floats to 8 bits, with a scale for each row.
    """
    if tensor.block_type in DECODERS:
        return Blocks(to_device(tensor.rows, device), tensor.block_type, tensor.part)
    if tensor.block_type in FLOATS:
        floats = to_device(tensor.rows, device).view(FLOATS[tensor.block_type])
        return Fp8(*to_fp8(floats), tensor.part) if is_fp8 else Dense(floats.to(dtype), tensor.part)
    return Dense(_decoded(tensor, device, dtype), tensor.part)


def _decoded(tensor: Tensor, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    matrix = torch.empty(tensor.shape, dtype=dtype, device=device)
    step = max(1, SLAB_BYTES // (4 * tensor.shape[-1]))
    for start in range(0, len(tensor.rows), step):
        slab = decode(tensor.rows[start : start + step], tensor.block_type)
        matrix[start : start + step] = torch.from_numpy(np.ascontiguousarray(slab)).to(device=device, dtype=dtype)
    return matrix
