"""Products with weights that stay in GGML's blocks: few tokens times many rows, read once.

One program computes ROWS outputs for TOKENS tokens. It walks along the columns, unpacks 32 of them for all its rows in
registers, and multiplies on the tensor cores. With so few tokens the time goes into reading the weight, at 4.5 to 8.5
bits each: up to 64 tokens it is read once, in tiles of 16, 32 or 64 tokens, and where the rows are too few to keep the
device busy, the columns are split over several programs, whose sums a second step adds in their order.
Twin: `twin.multiply`. Layouts: ggml-common.h.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from camelid.formats.blocks import BlockType

from .device import processors

ROWS = 32
LEAST_TOKENS, MOST_TOKENS = 16, 64  # of a tile: what a tensor core takes, and what registers hold
MOST_SPLITS = 8
WAVES = 4  # programs for each multiprocessor that are wanted


@triton.jit
def _half(halves, at):
    """The float16 number at byte `at` (even) of rows whose pointers are `halves`."""
    return tl.load(halves + at // 2).to(tl.float32)


@triton.jit
def _accumulate(total, x, x_rows, is_token, column, weights):
    """Add x[:, column : column + 32] · weightsᵀ. weights: (ROWS, 32) float32."""
    columns = column + tl.arange(0, 32)
    part = tl.load(x + x_rows[:, None] + columns[None, :], mask=is_token[:, None], other=0.0)
    return tl.dot(part, tl.trans(weights.to(part.dtype)), total, input_precision="ieee")


@triton.jit
def _six_bits(packed, place: tl.constexpr):
    """Scale and min number `place` of eight, out of 12 bytes per row at `packed`."""
    if place < 4:
        scale = tl.load(packed + place) & 63
        least = tl.load(packed + place + 4) & 63
    else:
        high = tl.load(packed + place + 4)
        scale = (high & 15) | (tl.load(packed + place - 4) >> 6 << 4)
        least = (high >> 4) | (tl.load(packed + place) >> 6 << 4)
    return scale.to(tl.float32), least.to(tl.float32)


@triton.jit
def _q8_0(total, x, x_rows, is_token, rows, halves, block):
    lanes = tl.arange(0, 32)
    at = block * 34
    numbers = tl.load((rows + at + 2)[:, None] + lanes[None, :]).to(tl.int8, bitcast=True).to(tl.float32)
    return _accumulate(total, x, x_rows, is_token, block * 32, _half(halves, at)[:, None] * numbers)


@triton.jit
def _q4_0(total, x, x_rows, is_token, rows, halves, block):
    lanes = tl.arange(0, 32)
    at = block * 18
    packed = tl.load((rows + at + 2)[:, None] + (lanes % 16)[None, :])
    numbers = ((packed >> (lanes // 16 * 4)[None, :]) & 15).to(tl.float32) - 8.0
    return _accumulate(total, x, x_rows, is_token, block * 32, _half(halves, at)[:, None] * numbers)


@triton.jit
def _q4_k(total, x, x_rows, is_token, rows, halves, block):
    lanes = tl.arange(0, 32)
    at = block * 144
    step, offset = _half(halves, at), _half(halves, at + 2)
    for group in tl.static_range(4):
        packed = tl.load((rows + at + 16 + 32 * group)[:, None] + lanes[None, :])
        for part in tl.static_range(2):
            scale, least = _six_bits(rows + at + 4, 2 * group + part)
            numbers = ((packed >> (4 * part)) & 15).to(tl.float32)
            weights = (step * scale)[:, None] * numbers - (offset * least)[:, None]
            total = _accumulate(total, x, x_rows, is_token, block * 256 + 64 * group + 32 * part, weights)
    return total


@triton.jit
def _q5_k(total, x, x_rows, is_token, rows, halves, block):
    lanes = tl.arange(0, 32)
    at = block * 176
    step, offset = _half(halves, at), _half(halves, at + 2)
    high = tl.load((rows + at + 16)[:, None] + lanes[None, :])
    for group in tl.static_range(4):
        packed = tl.load((rows + at + 48 + 32 * group)[:, None] + lanes[None, :])
        for part in tl.static_range(2):
            scale, least = _six_bits(rows + at + 4, 2 * group + part)
            fifth = (high >> (2 * group + part)) & 1
            numbers = (((packed >> (4 * part)) & 15) | (fifth << 4)).to(tl.float32)
            weights = (step * scale)[:, None] * numbers - (offset * least)[:, None]
            total = _accumulate(total, x, x_rows, is_token, block * 256 + 64 * group + 32 * part, weights)
    return total


@triton.jit
def _q6_k(total, x, x_rows, is_token, rows, halves, block):
    lanes = tl.arange(0, 32)
    at = block * 210
    step = _half(halves, at + 208)
    for group in tl.static_range(2):
        high = tl.load((rows + at + 128 + 32 * group)[:, None] + lanes[None, :])
        for part in tl.static_range(4):
            low = tl.load((rows + at + 64 * group + 32 * (part % 2))[:, None] + lanes[None, :])
            bits = ((low >> (4 * (part // 2))) & 15) | (((high >> (2 * part)) & 3) << 4)
            place = 192 + 8 * group + 2 * part
            scale = tl.load((rows + at + place)[:, None] + (lanes // 16)[None, :]).to(tl.int8, bitcast=True)
            weights = step[:, None] * scale.to(tl.float32) * (bits.to(tl.float32) - 32.0)
            total = _accumulate(total, x, x_rows, is_token, block * 256 + 128 * group + 32 * part, weights)
    return total


@triton.jit
def _multiply(
    x, weight, halves, out, num_tokens, num_rows, columns, row_bytes,
    BLOCK: tl.constexpr, STEP: tl.constexpr, ROWS: tl.constexpr, TOKENS: tl.constexpr,
):  # fmt: skip
    """Compute out[t, n] for ROWS values of n, TOKENS values of t and one split of the columns.

    STEP: the function that adds one block. out: (splits, T, N).
    """
    numbers = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    tokens = tl.program_id(1) * TOKENS + tl.arange(0, TOKENS)
    is_row, is_token = numbers < num_rows, tokens < num_tokens
    starts = tl.where(is_row, numbers, 0).to(tl.int64) * row_bytes  # rows beyond the end read the first one
    total = tl.zeros((TOKENS, ROWS), tl.float32)
    split, num_blocks = tl.program_id(2), columns // BLOCK
    each = (num_blocks + tl.num_programs(2) - 1) // tl.num_programs(2)
    for block in range(split * each, tl.minimum((split + 1) * each, num_blocks)):
        total = STEP(total, x, tokens * columns, is_token, weight + starts, halves + starts // 2, block)
    targets = out + split * num_tokens * num_rows + tokens[:, None] * num_rows + numbers[None, :]
    tl.store(targets, total.to(out.dtype.element_ty), mask=is_token[:, None] & is_row[None, :])


STEPS = {
    BlockType.Q8_0: _q8_0,
    BlockType.Q4_0: _q4_0,
    BlockType.Q4_K: _q4_k,
    BlockType.Q5_K: _q5_k,
    BlockType.Q6_K: _q6_k,
}


def multiply(x: Tensor, rows: Tensor, block_type: BlockType, splits: int | None = None) -> Tensor:
    """Return x · Wᵀ for a quantized weight: x (T, columns), rows (N, bytes) → (T, N) in the type of x.

    splits: over how many programs the columns of a row are split; None: as many as the device needs.
    """
    num_tokens, columns = x.shape
    num_rows, row_bytes = rows.shape
    num_blocks = columns // block_type.weights_per_block
    assert rows.is_contiguous()
    assert row_bytes == num_blocks * block_type.bytes_per_block
    tokens = min(MOST_TOKENS, max(LEAST_TOKENS, triton.next_power_of_2(num_tokens)))
    tiles = triton.cdiv(num_rows, ROWS), triton.cdiv(num_tokens, tokens)
    count = splits or wanted_splits(tiles[0] * tiles[1], num_blocks, processors(x))
    dtype = x.dtype if count == 1 else torch.float32
    out = torch.empty((count, num_tokens, num_rows), dtype=dtype, device=x.device)
    _multiply[*tiles, count](
        x.contiguous(), rows, rows.view(torch.float16), out, num_tokens, num_rows, columns, row_bytes,
        BLOCK=block_type.weights_per_block, STEP=STEPS[block_type], ROWS=ROWS, TOKENS=tokens,
    )  # fmt: skip
    return out[0] if count == 1 else out.sum(0).to(x.dtype)


def wanted_splits(num_programs: int, num_blocks: int, num_processors: int) -> int:
    """Return over how many programs columns are split: 1 where the programs fill the device as it is."""
    return max(1, min(WAVES * num_processors // num_programs, num_blocks // 2, MOST_SPLITS))
