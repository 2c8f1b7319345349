"""What only models that read need, in numpy: layer norms, GELU, attention without pages.

Such models are small, and these steps are a small part of their time; the products, which are most of it, are the
extension's. Each sequence is worked on by itself and in pieces whose size follows from its own length, so what else is
in the batch changes no bit. Unlike the extension's, these bits are those of this machine's numpy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ..base import AttentionSpec, Batch, RopePairs

Floats = NDArray[np.float32]

PIECE = 1 << 16  # elements worked on at once where several passes are made: 256 KiB, which a cache holds
SCORES = 1 << 21  # scores of a sequence at once: 8 MiB

# erfc(z) ≈ (a1·t + … + a5·t⁵)·exp(−z²), t = 1 / (1 + p·z), z ≥ 0, within 1.5e-7.
# Source: Abramowitz and Stegun 1964, 7.1.26.
_P = np.float32(0.3275911)
_A = tuple(map(np.float32, (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)))


def layer_norm(parts: Sequence[Floats], weight: Floats, bias: Floats, epsilon: float) -> Floats:
    """Return the normed sum of `parts`, scaled and shifted (see `base.Ops`)."""
    total: Floats = parts[0].copy()
    for part in parts[1:]:
        total += part
    total -= total.mean(axis=1, keepdims=True)
    variance = np.einsum("td,td->t", total, total) / np.float32(total.shape[1])
    total *= (1 / np.sqrt(variance + np.float32(epsilon)))[:, None]
    total *= weight
    total += bias
    return total


def gelu(x: Floats) -> Floats:
    """Return x × Φ(x), in place."""
    flat = x.reshape(-1)
    for start in range(0, len(flat), PIECE):
        part = flat[start : start + PIECE]
        tail = _upper_tail(np.abs(part) * np.float32(math.sqrt(0.5)))
        np.multiply(part, np.where(part > 0, 1 - tail, tail), out=part)
    return x


def _upper_tail(z: Floats) -> Floats:
    """Return erfc(z) / 2 for z ≥ 0: how much of a normal distribution lies beyond z·√2."""
    t = 1 / (1 + _P * z)
    sum_ = _A[0] * t
    for factor in _A[1:]:
        sum_ += factor
        sum_ *= t
    z *= z
    sum_ *= np.exp(-z)
    sum_ *= np.float32(0.5)
    return np.asarray(sum_, np.float32)


def attend_whole(q: Floats, k: Floats, v: Floats, attention: AttentionSpec, batch: Batch) -> Floats:
    """Rotate q and k, and let every token attend to all tokens of its sequence (see `base.Ops`)."""
    turned = [_rotated(_heads(part, attention), attention, batch) for part in (q, k)]
    queries, keys, values = (part.transpose(1, 0, 2) for part in (*turned, _heads(v, attention)))  # (heads, T, D)
    out = np.empty_like(q)
    written = _heads(out, attention).transpose(1, 0, 2)
    for start, end in pairwise(batch.row_starts.tolist()):
        rows = slice(start, end)
        _attend_one(queries[:, rows], keys[:, rows], values[:, rows], attention, written[:, rows])
    return out


def _attend_one(queries: Floats, keys: Floats, values: Floats, attention: AttentionSpec, out: Floats) -> None:
    """Attend within one sequence. queries, out: (H, T, D); keys, values: (K, T, D)."""
    group = attention.num_heads // attention.num_kv_heads
    if group > 1:
        keys, values = keys.repeat(group, axis=0), values.repeat(group, axis=0)
    num_tokens = keys.shape[1]
    keys = np.ascontiguousarray(keys).transpose(0, 2, 1)  # (H, D, T)
    values, scaled = np.ascontiguousarray(values), queries * np.float32(attention.softmax_scale)
    step = max(1, SCORES // (attention.num_heads * num_tokens))
    for start in range(0, num_tokens, step):
        scores = scaled[:, start : start + step] @ keys  # (H, step, T)
        scores -= scores.max(axis=2, keepdims=True)
        np.exp(scores, out=scores)
        sums = scores.sum(axis=2, keepdims=True)
        out[:, start : start + step] = (scores @ values) / sums


def _rotated(heads: Floats, attention: AttentionSpec, batch: Batch) -> Floats:
    """Return heads (T, heads, D) turned by their positions; angles are taken in float64."""
    num_pairs = len(attention.inverse_frequencies)
    if num_pairs == 0:
        return heads
    angles = batch.positions[:, None, None] * attention.inverse_frequencies  # (T, 1, pairs)
    amplitude = attention.rope_amplitude
    cosines, sines = ((part * amplitude).astype(np.float32) for part in (np.cos(angles), np.sin(angles)))
    is_interleaved = attention.rope_pairs is RopePairs.INTERLEAVED
    first = slice(0, 2 * num_pairs, 2) if is_interleaved else slice(0, num_pairs)
    second = slice(1, 2 * num_pairs, 2) if is_interleaved else slice(num_pairs, 2 * num_pairs)
    turned = heads.copy()
    turned[..., first] = heads[..., first] * cosines - heads[..., second] * sines
    turned[..., second] = heads[..., first] * sines + heads[..., second] * cosines
    return turned


def _heads(x: Floats, attention: AttentionSpec) -> Floats:
    return x.reshape(len(x), -1, attention.head_dim)
