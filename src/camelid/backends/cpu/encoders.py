"""What only models that read need, in numpy: layer norms, GELU, attention without pages.

Such models are small, and these steps are a small part of their time; the products, which are most of it, are the
extension's. Each sequence is worked on by itself and in pieces whose size follows from its own length, so what else is
in the batch changes no bit. Unlike the extension's, these bits are those of this machine's numpy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..base import AttentionSpec, Batch, RopePairs

Floats = NDArray[np.float32]
_Share = TypeVar("_Share")

PIECE = 1 << 14  # elements worked on at once where several passes are made: 64 KiB, which a cache holds
PRODUCT = 1 << 18  # multiplications in one product: with more, OpenBLAS wakes threads of its own beside ours
BLOCKS = 8  # such products in one call

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


class Workers:
    """Threads that share such work; numpy lets them run side by side. They start when they are first needed."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool = ThreadPoolExecutor(count, "camelid numpy")

    def run(self, work: Callable[[_Share], None], shares: Sequence[_Share]) -> None:
        """Do all shares of some work."""
        if len(shares) == 1:
            work(shares[0])
        else:
            list(self._pool.map(work, shares))


def gelu(x: Floats, workers: Workers) -> Floats:
    """Return x × Φ(x), in place."""
    flat = x.reshape(-1)
    workers.run(_gelu, [flat[start : start + PIECE] for start in range(0, len(flat), PIECE)])
    return x


def _gelu(part: Floats) -> None:
    tail = _upper_tail(np.abs(part) * np.float32(math.sqrt(0.5)))
    np.multiply(part, np.where(part > 0, 1 - tail, tail), out=part)


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


def attend_whole(q: Floats, k: Floats, v: Floats, attention: AttentionSpec, batch: Batch, workers: Workers) -> Floats:
    """Rotate q and k, and let every token attend to all tokens of its sequence (see `base.Ops`)."""
    turned = [_rotated(_heads(part, attention), attention, batch) for part in (q, k)]
    by_head = [part.transpose(1, 0, 2) for part in (*turned, _heads(v, attention))]  # (heads, T, D)
    out = np.empty_like(q)
    written = _heads(out, attention).transpose(1, 0, 2)
    group = attention.num_heads // attention.num_kv_heads
    scale = np.float32(attention.softmax_scale)

    def attend(share: tuple[slice, list[tuple[int, int]]]) -> None:
        heads, sequences = share
        shared = slice(heads.start // group, -(-heads.stop // group))
        for start, end in sequences:
            rows = slice(start, end)
            queries, keys, values = by_head[0][heads, rows], by_head[1][shared, rows], by_head[2][shared, rows]
            if group > 1:
                first = heads.start - shared.start * group
                keys, values = (part.repeat(group, axis=0)[first : first + len(queries)] for part in (keys, values))
            _attend_one(queries * scale, keys, values, written[heads, rows])

    workers.run(attend, _shares(attention.num_heads, batch, workers.count))
    return out


def _shares(num_heads: int, batch: Batch, count: int) -> list[tuple[slice, list[tuple[int, int]]]]:
    """Return what each worker does: some of the sequences, or, where there are few, some of the heads of all."""
    sequences = list(pairwise(batch.row_starts.tolist()))
    if len(sequences) >= 2 * count:
        return [(slice(0, num_heads), sequences[index::count]) for index in range(count)]
    bounds = np.linspace(0, num_heads, min(count, num_heads) + 1).astype(int).tolist()
    return [(slice(*pair), sequences) for pair in pairwise(bounds)]


def _attend_one(queries: Floats, keys: Floats, values: Floats, out: Floats) -> None:
    """Attend within one sequence: all are (H, T, D)."""
    num_heads, num_tokens, head_dim = queries.shape
    step = min(max(1, PRODUCT // (num_tokens * head_dim)), num_tokens)
    whole = num_tokens - num_tokens % step
    keys, values = np.ascontiguousarray(keys.transpose(0, 2, 1)), np.ascontiguousarray(values)
    for start in range(0, whole, step * BLOCKS):
        end = min(start + step * BLOCKS, whole)
        blocks = np.ascontiguousarray(queries[:, start:end]).reshape(num_heads, -1, step, head_dim)
        out[:, start:end] = _weighted(blocks, keys, values).reshape(num_heads, end - start, head_dim)
    if whole < num_tokens:
        rest = np.ascontiguousarray(queries[:, None, whole:])
        out[:, whole:] = _weighted(rest, keys, values)[:, 0]


def _weighted(queries: Floats, keys: Floats, values: Floats) -> Floats:
    """Return softmax(q · k) · v. queries: (H, blocks, step, D); keys: (H, D, T); values: (H, T, D)."""
    scores = queries @ keys[:, None]  # (H, blocks, step, T)
    scores -= scores.max(axis=3, keepdims=True)
    np.exp(scores, out=scores)
    sums = scores.sum(axis=3, keepdims=True)
    found: Floats = (scores @ values[:, None]) / sums
    return found


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
