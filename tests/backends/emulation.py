"""The arithmetic of the cpu backend (native/ops.h) once more, in numpy, to the last bit.

Slow and obvious: no vectors, no threads, one rounding at a time. Integers come from the blocks through a decoder of its
own, which `unpack` holds against `formats.blocks.decode`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from camelid.formats.blocks import BlockType, decode

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

LANES = 16
CODEBOOK = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113])
SCALED_BY_16 = (BlockType.Q2_K, BlockType.Q3_K, BlockType.Q6_K)


def fused(a: Floats, b: Floats, c: Floats) -> Floats:
    """Return a · b + c rounded once to float32.

    The product of two float32 is exact in float64. Their sum with c is rounded there to odd: then the second rounding,
    to float32, cannot be misled by the first (Boldo and Melquiond 2008).
    """
    product = np.asarray(a, np.float64) * np.asarray(b, np.float64)
    addend = np.asarray(c, np.float64)
    total = product + addend
    virtual = total - product
    error = (product - (total - virtual)) + (addend - virtual)  # exact (Knuth's two-sum)
    even = (np.atleast_1d(total).view(np.int64) & 1).reshape(total.shape) == 0
    towards = np.where(error > 0, np.inf, -np.inf)
    odd = np.where((error != 0) & even & np.isfinite(total), np.nextafter(total, towards), total)
    return odd.astype(np.float32)


def lane_sum(lanes: Floats) -> Floats:
    """Add the 16 lanes of the last axis: i and i + 8, then + 4, + 2, + 1."""
    for width in (8, 4, 2, 1):
        lanes = lanes[..., :width] + lanes[..., width : 2 * width]
    return np.asarray(lanes[..., 0], np.float32)


def in_lanes(values: Floats) -> Floats:
    """Pad the last axis with zeros and fold it: (…, steps, 16)."""
    padded = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, -values.shape[-1] % LANES)])
    return padded.reshape(*values.shape[:-1], -1, LANES)


# ── blocks to integers ──


@dataclass(frozen=True)
class Codes:
    """A weight is d · scale · code + m · minimum. codes: (R, blocks, n); scales, minimums: (R, blocks, n / 16)."""

    codes: Ints
    scales: Ints
    minimums: Ints
    d: Floats  # (R, blocks)
    m: Floats
    has_minimum: bool


def unpack(rows: NDArray[np.uint8], kind: BlockType) -> Codes:
    """Take blocks apart, and check against `decode` that nothing else is in them."""
    blocks = rows.reshape(len(rows), -1, kind.bytes_per_block)
    codes = _UNPACKERS[kind](blocks)
    spread = [np.repeat(part, 16, axis=-1).astype(np.float64) for part in (codes.scales, codes.minimums)]
    values = codes.d[..., None] * spread[0] * codes.codes + codes.m[..., None] * spread[1]
    expected = decode(rows, kind).reshape(values.shape)
    np.testing.assert_allclose(values, expected, rtol=1e-6, atol=1e-6 * float(np.abs(expected).max()))
    return codes


def _half(blocks: NDArray[np.uint8], at: int) -> Floats:
    return np.ascontiguousarray(blocks[..., at : at + 2]).view(np.float16)[..., 0].astype(np.float32)


def _bits(blocks: NDArray[np.uint8], first: int, last: int, width: int, shift: int, mask: int) -> Ints:
    """Return a field of the bytes first … last − 1, in runs of `width` bytes: (R, blocks, runs, width)."""
    part = blocks[..., first:last].astype(np.int64)
    return (part.reshape(*part.shape[:-1], -1, width) >> shift) & mask


def _simple(blocks: NDArray[np.uint8], codes: Ints, d: Floats, m: Floats | None = None) -> Codes:
    ones = np.ones((*codes.shape[:-1], 2), np.int64)
    return Codes(codes, ones, ones, d, np.zeros_like(d) if m is None else m, m is not None)


def _four(blocks: NDArray[np.uint8], at: int) -> Ints:
    parts = [_bits(blocks, at, at + 16, 16, shift, 15)[..., 0, :] for shift in (0, 4)]
    return np.concatenate(parts, axis=-1)


def _fifth(blocks: NDArray[np.uint8], at: int) -> Ints:
    return np.unpackbits(blocks[..., at : at + 4], axis=-1, bitorder="little").astype(np.int64) << 4


def _six_bit_pairs(blocks: NDArray[np.uint8]) -> tuple[Ints, Ints]:
    first, second, last = (blocks[..., at : at + 4].astype(np.int64) for at in (4, 8, 12))
    scales = np.concatenate([first & 63, (last & 15) | (first >> 6 << 4)], axis=-1)
    minimums = np.concatenate([second & 63, (last >> 4) | (second >> 6 << 4)], axis=-1)
    return np.repeat(scales, 2, axis=-1), np.repeat(minimums, 2, axis=-1)


def _runs(parts: list[Ints]) -> Ints:
    """Put fields (R, blocks, runs, width), in the order of the weights within each run, in one row."""
    stacked = np.stack(parts, axis=-2)
    return stacked.reshape(*stacked.shape[:2], -1)


def _q2_k(blocks: NDArray[np.uint8]) -> Codes:
    codes = _runs([_bits(blocks, 16, 80, 32, shift, 3) for shift in (0, 2, 4, 6)])
    scales, minimums = (_bits(blocks, 0, 16, 16, shift, 15)[..., 0, :] for shift in (0, 4))
    return Codes(codes, scales, minimums, _half(blocks, 80), -_half(blocks, 82), True)


def _signed(codes: Ints, scales: Ints, d: Floats) -> Codes:
    return Codes(codes, scales, np.zeros_like(scales), d, np.zeros_like(d), False)


def _q3_k(blocks: NDArray[np.uint8]) -> Codes:
    low = _runs([_bits(blocks, 32, 96, 32, shift, 3) for shift in (0, 2, 4, 6)])
    third = _runs([_bits(blocks, 0, 32, 32, shift, 1) for shift in range(8)])
    low_scales = _runs([_bits(blocks, 96, 104, 8, shift, 15) for shift in (0, 4)])
    high_scales = _runs([_bits(blocks, 104, 108, 4, shift, 3) for shift in (0, 2, 4, 6)])
    return _signed(low + 4 * third - 4, low_scales + 16 * high_scales - 32, _half(blocks, 108))


def _q4_k(blocks: NDArray[np.uint8]) -> Codes:
    codes = _runs([_bits(blocks, 16, 144, 32, shift, 15) for shift in (0, 4)])
    return Codes(codes, *_six_bit_pairs(blocks), _half(blocks, 0), -_half(blocks, 2), True)


def _q5_k(blocks: NDArray[np.uint8]) -> Codes:
    low = _runs([_bits(blocks, 48, 176, 32, shift, 15) for shift in (0, 4)])
    fifth = _runs([_bits(blocks, 16, 48, 32, shift, 1) for shift in range(8)])
    return Codes(low + 16 * fifth, *_six_bit_pairs(blocks), _half(blocks, 0), -_half(blocks, 2), True)


def _q6_k(blocks: NDArray[np.uint8]) -> Codes:
    low = _runs([_bits(blocks, 0, 128, 64, shift, 15) for shift in (0, 4)])
    high = _runs([_bits(blocks, 128, 192, 32, shift, 3) for shift in (0, 2, 4, 6)])
    scales = blocks[..., 192:208].view(np.int8).astype(np.int64)
    return _signed(low + 16 * high - 32, scales, _half(blocks, 208))


def _iq4_xs(blocks: NDArray[np.uint8]) -> Codes:
    codes = CODEBOOK[_runs([_bits(blocks, 8, 136, 16, shift, 15) for shift in (0, 4)])]
    low = _runs([_bits(blocks, 4, 8, 1, shift, 15) for shift in (0, 4)])
    high = _runs([_bits(blocks, 2, 4, 1, shift, 3) for shift in (0, 2, 4, 6)])
    return _signed(codes, np.repeat(low + 16 * high - 32, 2, axis=-1), _half(blocks, 0))


_UNPACKERS = {
    BlockType.Q4_0: lambda b: _simple(b, _four(b, 2) - 8, _half(b, 0)),
    BlockType.Q4_1: lambda b: _simple(b, _four(b, 4), _half(b, 0), _half(b, 2)),
    BlockType.Q5_0: lambda b: _simple(b, (_four(b, 6) | _fifth(b, 2)) - 16, _half(b, 0)),
    BlockType.Q5_1: lambda b: _simple(b, _four(b, 8) | _fifth(b, 4), _half(b, 0), _half(b, 2)),
    BlockType.Q8_0: lambda b: _simple(b, b[..., 2:].view(np.int8).astype(np.int64), _half(b, 0)),
    BlockType.IQ4_NL: lambda b: _simple(b, CODEBOOK[_four(b, 2)], _half(b, 0)),
    BlockType.Q2_K: _q2_k,
    BlockType.Q3_K: _q3_k,
    BlockType.Q4_K: _q4_k,
    BlockType.Q5_K: _q5_k,
    BlockType.Q6_K: _q6_k,
    BlockType.IQ4_XS: _iq4_xs,
}


# ── products ──


def quantize(x: Floats) -> tuple[Ints, Floats]:
    """Return int8 codes (T, blocks, 32) and scales (T, blocks)."""
    blocks = x.reshape(len(x), -1, 32)
    amax = np.abs(blocks).max(axis=-1)
    inverse = np.where(amax == 0, np.float32(0), np.float32(127) / np.where(amax == 0, np.float32(1), amax))
    codes = np.rint(blocks * inverse.astype(np.float32)[..., None]).astype(np.int64)
    return np.clip(codes, -127, 127), amax / np.float32(127)


def linear(x: Floats, rows: NDArray[np.uint8], kind: BlockType, bias: Floats | None = None) -> Floats:
    """Return x · Wᵀ (+ bias), (T, R)."""
    if kind.weights_per_block == 1:
        acc = _float_product(x, decode(rows, kind))
    else:
        acc = _quantized_product(x, unpack(rows, kind), 16 if kind in SCALED_BY_16 else 32)
    return acc if bias is None else acc + bias


def _float_product(x: Floats, weights: Floats) -> Floats:
    steps, others = in_lanes(weights), in_lanes(x)
    acc = np.zeros((len(x), len(weights), LANES), np.float32)
    for step in range(steps.shape[1]):
        acc = fused(steps[None, :, step], others[:, None, step], acc)
    return lane_sum(acc)


def _quantized_product(x: Floats, w: Codes, width: int) -> Floats:
    """Multiply in sub-blocks of `width` weights, each with a scale of its own."""
    activations, factors = quantize(x)
    per_sixteen = [part.reshape(len(part), -1)[:, :: width // 16].astype(np.float32) for part in (w.scales, w.minimums)]
    blocks = w.codes.shape[-1] // width  # sub-blocks of a block
    scales, minimums = (np.repeat(d, blocks, axis=1) * part for d, part in zip((w.d, w.m), per_sixteen, strict=True))
    codes = w.codes.reshape(len(w.codes), -1, width)
    others = activations.reshape(len(x), -1, width)
    dots = np.einsum("tsk,rsk->trs", others, codes)
    lows = factors.repeat(32 // width, axis=1) * others.sum(axis=-1).astype(np.float32)
    acc = np.zeros(dots.shape[:2], np.float32)
    for s in range(codes.shape[1]):
        factor = factors[:, None, s * width // 32]
        acc = fused(scales[None, :, s] * factor, dots[..., s].astype(np.float32), acc)
        if w.has_minimum:
            acc = fused(minimums[None, :, s], lows[:, None, s], acc)
    return acc


# ── rows ──


def exp(x: Floats) -> Floats:
    """The polynomial of native/kernels/math.inl."""
    one, magic = np.float32(1), np.float32(1.5 * 2**23)
    clamped = np.minimum(np.float32(89), np.maximum(np.float32(-86.6), x))
    n = fused(clamped, np.float32(float.fromhex("0x1.715476p+0")), np.full_like(clamped, magic)) - magic
    r = fused(n, np.float32(-float.fromhex("0x1.62e4p-1")), clamped)
    r = fused(n, np.float32(-float.fromhex("0x1.7f7d1cp-20")), r)
    p = np.full_like(r, one / np.float32(5040))
    for divisor in (720, 120, 24, 6, 2, 1, 1):
        p = fused(p, r, np.full_like(r, one / np.float32(divisor)))
    with np.errstate(over="ignore"):
        result = p * np.ldexp(one, n.astype(np.int64) - 1).astype(np.float32) * np.float32(2)
    return np.where(x < np.float32(-86.6), np.float32(0), result).astype(np.float32)


def norm(x: Floats, weight: Floats, epsilon: float) -> Floats:
    lanes = in_lanes(x)
    acc = np.zeros((len(x), LANES), np.float32)
    for step in range(lanes.shape[1]):
        acc = fused(lanes[:, step], lanes[:, step], acc)
    mean = lane_sum(acc) / np.float32(x.shape[1])
    scale = np.float32(1) / np.sqrt(mean + np.float32(epsilon))
    return x * scale[:, None] * weight


def gate(gate: Floats, up: Floats) -> Floats:
    with np.errstate(over="ignore"):
        return gate / (np.float32(1) + exp(np.float32(0) - gate)) * up


# ── attention ──


def attend(q: Floats, keys: Floats, values: Floats, scale: float) -> Floats:
    """Attend with one rotated query (D,) to all of `keys` and `values`, (positions, D), as the cache holds them."""
    return _in_segments(FloatPages(q, keys, values, np.float32(scale)), len(keys))


def attend_codes(q: Floats, keys: Floats, values: Floats, scale: float) -> Floats:
    """Attend with one rotated query (D,) to all of `keys` and `values`, (positions, D), which the cache rounds."""
    return _in_segments(CodedPages(q, keys, values, np.float32(scale)), len(keys))


@dataclass(frozen=True)
class FloatPages:
    """A past that is kept as floats."""

    q: Floats
    keys: Floats
    values: Floats
    scale: np.float32

    def scores(self, page: slice) -> Floats:
        scores = np.zeros(len(self.keys[page]), np.float32)
        for d in range(len(self.q)):
            scores = fused(self.q[d], self.keys[page, d], scores)
        return scores * self.scale

    def add_values(self, acc: Floats, weights: Floats, page: slice) -> Floats:
        for weight, value in zip(weights, self.values[page], strict=True):
            acc = fused(weight, value, acc)
        return acc


@dataclass(frozen=True)
class CodedPages:
    """A past that is kept in 8 bits: whole numbers are multiplied."""

    q: Floats
    keys: Floats
    values: Floats
    scale: np.float32

    def scores(self, page: slice) -> Floats:
        codes, scales = to_codes(self.keys[page])
        query, step = to_fine_codes(self.q)
        return (codes @ query).astype(np.float32) * scales * (step * self.scale)

    def add_values(self, acc: Floats, weights: Floats, page: slice) -> Floats:
        codes, scales = to_codes(self.values[page])
        fine, step = to_fine_codes(weights * scales)
        return fused((fine @ codes).astype(np.float32), step, acc)


def to_codes(x: Floats) -> tuple[Ints, Floats]:
    """Return keys or values (positions, D) as the cache keeps them: codes (positions, D) and scales (positions,)."""
    scales = (np.abs(x).max(axis=1) / np.float32(127)).astype(np.float16).astype(np.float32)
    codes = np.rint(x * (np.float32(1) / scales)[:, None]).astype(np.int64)
    return np.clip(codes, -127, 127), scales


def to_fine_codes(x: Floats) -> tuple[Ints, np.float32]:
    """Return what keys or values are multiplied with, in 15 bits, and its step."""
    amax = np.abs(x).max()
    return np.rint(x * (np.float32(16383) / amax)).astype(np.int64), amax / np.float32(16383)


State = tuple[Floats, Floats, Floats]  # the highest score, the sum of weights, the sum of weighted values


def _in_segments(past: FloatPages | CodedPages, length: int) -> Floats:
    merged = None
    for first in range(0, length, 1024):
        part = _segment(past, first, min(first + 1024, length))
        merged = part if merged is None else _merge(merged, part)
    assert merged is not None
    return merged[2] / merged[1]


def _segment(past: FloatPages | CodedPages, start: int, end: int) -> State:
    highest, total = np.float32(-np.inf), np.float32(0)
    acc = np.zeros(past.values.shape[1], np.float32)
    for first in range(start, end, 32):
        page = slice(first, min(first + 32, end))
        scores = past.scores(page)
        now = max(highest, scores.max())
        weights = np.zeros(32, np.float32)
        weights[: len(scores)] = exp(scores - now)
        correction = exp(np.atleast_1d(highest - now))[0]
        total = fused(total, correction, lane_sum(weights[:16] + weights[16:]))
        acc = past.add_values(acc * correction, weights[: len(scores)], page)
        highest = now
    return highest, total, acc


def _merge(one: State, other: State) -> State:
    now = max(one[0], other[0])
    mine, its = (exp(np.atleast_1d(part[0] - now))[0] for part in (one, other))
    return now, fused(one[1], mine, other[1] * its), fused(one[2], mine, other[2] * its)
