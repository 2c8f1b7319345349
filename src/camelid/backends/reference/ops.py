"""The operations of `base.Ops` in plain numpy.

Weights are dequantized anew at each use, a slab of rows at a time, so a model of any size needs little more memory than
its file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from camelid.formats.blocks import decode

from ..base import AttentionSpec, Batch, RopePairs, RowChange, Tensor
from .pages import Floats, Pages

SLAB_WEIGHTS = 1 << 20  # weights dequantized at once: 8 MiB in float64, which a cache holds
QUERY_ROWS = 256  # queries of a head that attend at once: 256 MiB of float64 scores over 128K positions


class ReferenceOps:
    """The operations over one cache. Arrays are numpy, in the type of `embed`'s result."""

    def __init__(self, dtype: np.dtype[np.floating], attention: AttentionSpec | None, pages: Pages | None) -> None:
        self._dtype = dtype
        self._attention = attention
        self._pages = pages

    def embed(self, ids: NDArray[np.int32], table: Tensor) -> Floats:
        """Return the rows `ids` of the embedding table: (T, dim)."""
        return decode(table.rows[ids], table.block_type).astype(self._dtype)

    def norm(self, x: Floats, weight: Floats, epsilon: float) -> Floats:
        """Return x / sqrt(mean(x²) + epsilon) × weight, row by row."""
        scale: Floats = 1 / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + self._dtype.type(epsilon))
        return x * scale * weight

    def add_norm(self, x: Floats, delta: Floats, weight: Floats, epsilon: float) -> tuple[Floats, Floats]:
        """Return (x + delta, norm(x + delta))."""
        total = x + delta
        return total, self.norm(total, weight, epsilon)

    def linear(self, x: Floats, weights: Sequence[Tensor], biases: Sequence[Floats | None] = ()) -> tuple[Floats, ...]:
        """Return x · Wᵀ (+ bias) for each weight."""
        outputs = [self._multiply(x, weight) for weight in weights]
        for output, bias in zip(outputs, biases, strict=False):
            if bias is not None:
                output += bias
        return tuple(outputs)

    def add_low_rank(self, outputs: Sequence[Floats], x: Floats, changes: Sequence[RowChange]) -> tuple[Floats, ...]:
        """Return `outputs` with what `changes` add."""
        for change in changes:
            for output, pair in zip(outputs, change.pairs, strict=True):
                if pair is not None:
                    down, up, scale = pair
                    output[change.rows] += x[change.rows] @ down.T * scale @ up.T
        return tuple(outputs)

    def attend(self, q: Floats, k: Floats, v: Floats, layer: int, batch: Batch) -> Floats:
        """Rotate q and k, write k and v to this layer's pages, and attend causally, one sequence after the other."""
        if self._attention is None or self._pages is None:
            raise RuntimeError("attend needs pages: call open_pages before run")
        spec, pages = self._attention, self._pages
        queries = rotate(_heads(q, spec.head_dim), batch.positions, spec)
        keys = rotate(_heads(k, spec.head_dim), batch.positions, spec)
        values = _heads(v, spec.head_dim)
        output = np.empty_like(queries)  # (T, H, D)
        for sequence, table in enumerate(batch.page_table):
            rows = slice(batch.row_starts[sequence], batch.row_starts[sequence + 1])
            positions = batch.positions[rows]
            if not len(positions):
                continue
            pages.write(layer, table, positions, keys[rows], values[rows])
            past_keys, past_values = pages.read(layer, table, int(positions[-1]) + 1)
            output[rows] = _attend_causally(queries[rows], past_keys, past_values, positions, spec.softmax_scale)
        return output.reshape(len(q), -1)

    def gate(self, gate: Floats, up: Floats) -> Floats:
        """Return silu(gate) × up."""
        with np.errstate(over="ignore"):  # exp(−z) may be infinite, and z / infinity is the 0 that is wanted
            gated: Floats = gate / (1 + np.exp(-gate)) * up
        return gated

    def layer_norm(self, parts: Sequence[Floats], weight: Floats, bias: Floats, epsilon: float) -> Floats:
        """Return the normed sum of `parts`, scaled and shifted."""
        total = np.sum(parts, axis=0)
        centred = total - np.mean(total, axis=-1, keepdims=True)
        scale: Floats = 1 / np.sqrt(np.mean(centred * centred, axis=-1, keepdims=True) + self._dtype.type(epsilon))
        normed: Floats = centred * scale * weight + bias
        return normed

    def gelu(self, x: Floats) -> Floats:
        """Return x × Φ(x), with the C library's error function, element by element."""
        erf = np.frompyfunc(math.erf, 1, 1)(x / math.sqrt(2)).astype(self._dtype)
        gated: Floats = x * (1 + erf) / 2
        return gated

    def attend_whole(self, q: Floats, k: Floats, v: Floats, attention: AttentionSpec, batch: Batch) -> Floats:
        """Let every token attend to all of its sequence, one sequence and head after the other."""
        queries = rotate(_heads(q, attention.head_dim), batch.positions, attention)
        keys = rotate(_heads(k, attention.head_dim), batch.positions, attention)
        values = _heads(v, attention.head_dim)
        group = attention.num_heads // attention.num_kv_heads
        output = np.empty_like(queries)  # (T, H, D)
        for start, end in pairwise(batch.row_starts):
            for head in range(attention.num_heads):
                scores = queries[start:end, head] @ keys[start:end, head // group].T * attention.softmax_scale
                output[start:end, head] = softmax(scores) @ values[start:end, head // group]
        return output.reshape(len(q), -1)

    def rows(self, x: Floats, indexes: NDArray[np.int32]) -> Floats:
        """Return the rows `indexes` of x."""
        return x[indexes]

    def tanh(self, x: Floats) -> Floats:
        """Return tanh(x)."""
        found: Floats = np.tanh(x)
        return found

    def logits(self, x: Floats, head: Tensor, wanted: NDArray[np.int32]) -> Floats:
        """Return the scores of all vocabulary entries for the rows `wanted`: (W, V)."""
        return self._multiply(x[wanted], head)

    def _multiply(self, x: Floats, weight: Tensor) -> Floats:
        output = np.empty((len(x), weight.shape[0]), self._dtype)
        for rows in _slabs(weight):
            output[:, rows] = x @ decode(weight.rows[rows], weight.block_type).astype(self._dtype).T
        return output


def rotate(heads: Floats, positions: NDArray[np.int32], spec: AttentionSpec) -> Floats:
    """Return `heads` turned by their positions. heads: (T, heads, D); positions: (T,).

    The pair i of a head turns by position × inverse_frequencies[i]. Angles are taken in float64 whatever the type of
    `heads`.
    Source: Su et al. 2021 (RoFormer), equation 34.
    """
    angles = positions[:, None, None] * spec.inverse_frequencies  # (T, 1, R / 2)
    cos, sin = np.cos(angles) * spec.rope_amplitude, np.sin(angles) * spec.rope_amplitude
    first, second = _pair_indexes(len(spec.inverse_frequencies), spec.rope_pairs)
    a, b = heads[..., first], heads[..., second]
    rotated = heads.copy()
    rotated[..., first] = a * cos - b * sin
    rotated[..., second] = a * sin + b * cos
    return rotated


def _pair_indexes(num_pairs: int, pairs: RopePairs) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    counts = np.arange(num_pairs)
    if pairs is RopePairs.INTERLEAVED:
        return 2 * counts, 2 * counts + 1
    return counts, counts + num_pairs


def _attend_causally(
    queries: Floats, keys: Floats, values: Floats, positions: NDArray[np.int32], softmax_scale: float
) -> Floats:
    """Return softmax(q · kᵀ × scale) · v over the keys at or before each query. queries: (T, H, D); keys, values: (P,
    K, D).
    """
    num_kv_heads = keys.shape[1]
    group = queries.shape[1] // num_kv_heads
    output = np.empty_like(queries)
    keys, values = keys.astype(queries.dtype, copy=False), values.astype(queries.dtype, copy=False)
    for start in range(0, len(queries), QUERY_ROWS):
        rows = slice(start, start + QUERY_ROWS)
        is_hidden = np.arange(len(keys)) > positions[rows, None]  # (rows, P)
        for head in range(queries.shape[1]):
            scores = queries[rows, head] @ keys[:, head // group].T * softmax_scale
            output[rows, head] = softmax(np.where(is_hidden, -np.inf, scores)) @ values[:, head // group]
    return output


def softmax(scores: Floats) -> Floats:
    """Return exp(x) / sum(exp(x)) over the last dimension."""
    weights: Floats = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return weights


def _heads(x: Floats, head_dim: int) -> Floats:
    return x.reshape(len(x), -1, head_dim)


def _slabs(weight: Tensor) -> Iterator[slice]:
    num_rows = max(1, SLAB_WEIGHTS // weight.shape[1])
    return (slice(start, start + num_rows) for start in range(0, weight.shape[0], num_rows))
