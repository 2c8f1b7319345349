"""Float32 to quantized blocks, one function per block type that Camelid writes.

Each function takes finite weights, (n, weights per block), and returns blocks as bytes, (n, bytes per block): the
reverse of `block_decoders.py`, where the layouts are told. It is separate because it chooses: which scale is best is a
search (`scale_search.py`). It knows nothing of rows, files, or which tensor deserves which type.

F16, BF16, Q8_0 and Q4_0 round as ggml's reference code does and give the same bytes. The K types have no reference
bytes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .scale_search import search_scale, search_scale_and_minimum

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]


def encode_f32(weights: Floats) -> Bytes:
    return weights.astype("<f4", copy=False).view(np.uint8)


def encode_f16(weights: Floats) -> Bytes:
    return weights.astype("<f2").view(np.uint8)


def encode_bf16(weights: Floats) -> Bytes:
    """Round to the nearest, ties to even; a NaN stays a NaN, made quiet."""
    bits = weights.view(np.uint32)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    rounded = (bits + np.uint32(0x7FFF) + odd) >> np.uint32(16)
    quiet = (bits >> np.uint32(16)) | np.uint32(0x40)
    return np.where(np.isnan(weights), quiet, rounded).astype("<u2").view(np.uint8)


def encode_q8_0(weights: Floats) -> Bytes:
    """Scale the largest magnitude to 127 and round half away from zero, as C's roundf does."""
    scale = np.abs(weights).max(axis=1, keepdims=True) / np.float32(127)
    scaled = weights * _inverse(scale)
    magnitude = np.abs(scaled)
    whole = np.floor(magnitude)
    whole += (magnitude - whole) >= np.float32(0.5)
    q = np.copysign(np.minimum(whole, 127), scaled).astype(np.int8)
    return np.concatenate([_half_bytes(scale), q.view(np.uint8)], axis=1)


def encode_q4_0(weights: Floats) -> Bytes:
    """Scale the weight of largest magnitude to -8, so that it is met exactly, and round half up."""
    largest = np.take_along_axis(weights, np.abs(weights).argmax(axis=1, keepdims=True), axis=1)
    scale = largest / np.float32(-8)
    q = np.clip(np.trunc(weights * _inverse(scale) + np.float32(8.5)), 0, 15).astype(np.uint8)
    return np.concatenate([_half_bytes(scale), _join_nibbles(q, 16)], axis=1)


def encode_q4_k(weights: Floats) -> Bytes:
    header, q = _quantize_with_minimum(weights, 15)
    return np.concatenate([header, _join_nibbles(q, 32)], axis=1)


def encode_q5_k(weights: Floats) -> Bytes:
    header, q = _quantize_with_minimum(weights, 31)
    fifth = _join_fields(q >> np.uint8(4), 32, 1)
    return np.concatenate([header, fifth, _join_nibbles(q & np.uint8(15), 32)], axis=1)


def encode_q6_k(weights: Floats) -> Bytes:
    groups = weights.reshape(-1, 16)
    wanted = search_scale(groups, -32, 31).reshape(-1, 16)  # one per sub-block, signed
    largest = np.take_along_axis(wanted, np.abs(wanted).argmax(axis=1, keepdims=True), axis=1)
    scale = _half_away(largest / np.float32(-128))  # the largest scale becomes -128, int8's longer side
    step = scale.astype(np.float32)
    scales = np.clip(np.rint(wanted * _inverse(step)), -128, 127)
    q = np.rint(groups * _inverse((step * scales).reshape(-1, 1)))
    q = (np.clip(q, -32, 31) + 32).astype(np.uint8).reshape(-1, 256)
    low, high = _join_nibbles(q & np.uint8(15), 64), _join_fields(q >> np.uint8(4), 32, 2)
    return np.concatenate([low, high, scales.astype(np.int8).view(np.uint8), scale.view(np.uint8)], axis=1)


def _quantize_with_minimum(weights: Floats, top: int) -> tuple[Bytes, Bytes]:
    """Quantize blocks of 8 sub-blocks with 6-bit scales and minimums, to 0..top.

    Returns the 16 bytes of scales that open a Q4_K or Q5_K block, (n, 16), and the quantized weights, (n, 256).
    """
    groups = weights.reshape(-1, 32)
    scale, minimum = search_scale_and_minimum(groups, top)
    d, scales = _to_six_bits(scale.reshape(-1, 8))
    m, minimums = _to_six_bits(minimum.reshape(-1, 8))
    step = (d.astype(np.float32) * scales).reshape(-1, 1)
    offset = (m.astype(np.float32) * minimums).reshape(-1, 1)
    q = np.clip(np.rint((groups + offset) * _inverse(step)), 0, top).astype(np.uint8)
    header = np.concatenate([d.view(np.uint8), m.view(np.uint8), pack_six_bits(scales, minimums)], axis=1)
    return header, q.reshape(-1, 256)


def _to_six_bits(values: Floats) -> tuple[NDArray[np.float16], Bytes]:
    """Return a float16 unit per row and the values in that unit, 0..63: (n, 1) and (n, 8)."""
    unit = _half_away(values.max(axis=1, keepdims=True) / np.float32(63))
    return unit, np.clip(np.rint(values * _inverse(unit.astype(np.float32))), 0, 63).astype(np.uint8)


def pack_six_bits(scales: Bytes, minimums: Bytes) -> Bytes:
    """Pack 8 scales and 8 minimums of 6 bits into 12 bytes, the reverse of `unpack_six_bits`."""
    top = np.uint8(0x30)
    first = scales[:, :4] | ((scales[:, 4:] & top) << np.uint8(2))
    second = minimums[:, :4] | ((minimums[:, 4:] & top) << np.uint8(2))
    last = (scales[:, 4:] & np.uint8(15)) | (minimums[:, 4:] << np.uint8(4))
    return np.concatenate([first, second, last], axis=1)


def _inverse(scale: Floats) -> Floats:
    """Return 1 / scale, and 0 for a scale so small that its inverse overflows: such weights round to 0."""
    with np.errstate(divide="ignore", over="ignore"):
        inverse = np.float32(1) / scale
    return np.where(np.isfinite(inverse), inverse, np.float32(0))


def _half_away(values: Floats) -> NDArray[np.float16]:
    """Round to float16, never towards zero: a unit too small could not reach the value that it was derived from."""
    nearest = values.astype("<f2")
    is_short = np.abs(nearest.astype(np.float32)) < np.abs(values)
    return np.where(is_short, np.nextafter(nearest, np.copysign(np.float16(np.inf), nearest)), nearest)


def _half_bytes(values: Floats) -> Bytes:
    return values.astype("<f2").view(np.uint8)


def _join_nibbles(q: Bytes, width: int) -> Bytes:
    return _join_fields(q, width, 4)


def _join_fields(q: Bytes, width: int, bits: int) -> Bytes:
    """Pack fields of `bits` bits, runs of `width` after each other filling bytes from the lowest bit: (n, bytes)."""
    fields = q.reshape(q.shape[0], -1, 8 // bits, width)
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    joined: Bytes = np.bitwise_or.reduce(fields << shifts[:, None], axis=2)
    return joined.reshape(q.shape[0], -1)
