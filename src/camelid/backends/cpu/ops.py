"""The operations of `base.Ops` as calls into the extension.

One instance serves one batch: it keeps what the batch's attention works out once for all layers. Arrays are float32.

Operations are asked for first and done later, many at a time: what one returns is not filled yet. Whoever looks into an
array calls `finish` first. Why: docs/decisions/0072.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from camelid.formats.blocks import BlockType

from ..base import AttentionSpec, Batch, RopePairs, RowChange
from . import encoders
from ._native import Cache, Processor, Queue, Step, Weight

Floats = NDArray[np.float32]


class Placed:
    """A weight as the extension sees it, with its shape."""

    def __init__(self, rows: NDArray[np.uint8], ggml_id: int, columns: int, is_turned: bool = False) -> None:
        self.rows = len(rows)
        self.columns = columns
        self.weight = Weight(rows, ggml_id, columns, is_turned)


PANEL_COLUMNS = 32  # ops.h: outputs whose `up` weights lie together


class PlacedPair:
    """What an adapter adds to a product, as the extension sees it: `up` in panels of outputs, zeros behind the last."""

    def __init__(self, down: NDArray[np.floating], up: NDArray[np.floating], scale: float) -> None:
        num_outputs, rank = up.shape
        panels = np.zeros((-(-num_outputs // PANEL_COLUMNS) * PANEL_COLUMNS, rank), up.dtype)
        panels[:num_outputs] = up
        panels = panels.reshape(-1, PANEL_COLUMNS, rank).transpose(0, 2, 1).reshape(-1, rank * PANEL_COLUMNS)
        self.down, self.up = _float_weight(down), _float_weight(panels)
        self.scale = scale


def _float_weight(matrix: NDArray[np.floating]) -> Weight:
    kind = BlockType.F16 if matrix.dtype == np.float16 else BlockType.F32
    return Weight(np.ascontiguousarray(matrix).view(np.uint8), kind.ggml_id, matrix.shape[1])


class Pages:
    """The cache and the attention that it was opened for."""

    def __init__(self, spec: AttentionSpec, num_pages: int, bits: int) -> None:
        self.spec = spec
        self.num_pages = num_pages
        self.cache = Cache(spec.num_layers, num_pages, spec.num_kv_heads, spec.head_dim, bits)

    def step(self, batch: Batch) -> Step:
        """Check the batch against the cache and work out its angles."""
        return Step(
            np.ascontiguousarray(batch.positions, np.int32),
            np.ascontiguousarray(batch.row_starts, np.int32),
            np.ascontiguousarray(batch.page_table, np.int32),
            self.num_pages,
            np.ascontiguousarray(self.spec.inverse_frequencies, np.float64),
            self.spec.rope_amplitude,
        )


MOST_WAITING_BYTES = 16 << 20  # of results of operations that wait: none of these is freed before they are done


class CpuOps:
    """The operations on one batch."""

    def __init__(self, processor: Processor, pages: Pages | None, workers: encoders.Workers) -> None:
        self._queue = Queue(processor)
        self._waiting_bytes = 0
        self._workers = workers
        self._pages = pages
        self._step: tuple[Batch, Step] | None = None

    def finish(self) -> None:
        """Do what was asked for: all arrays hold what they should."""
        self._queue.run()
        self._waiting_bytes = 0

    def _result(self, rows: int, columns: int) -> Floats:
        """Return an array for the result of the next operation. So that they do not pile up, this may do the others."""
        out = np.empty((rows, columns), np.float32)
        self._waiting_bytes += out.nbytes
        if self._waiting_bytes > MOST_WAITING_BYTES:
            self.finish()
        return out

    def embed(self, ids: NDArray[np.int32], table: Placed) -> Floats:
        """Return the rows `ids` of the embedding table: (T, dim)."""
        out = self._result(len(ids), table.columns)
        self._queue.embed(np.ascontiguousarray(ids, np.int32), table.weight, out)
        return out

    def norm(self, x: Floats, weight: Floats, epsilon: float) -> Floats:
        """Return x / sqrt(mean(x²) + epsilon) × weight, row by row."""
        out = self._result(*x.shape)
        self._queue.norm(x, None, weight, epsilon, out)
        return out

    def add_norm(self, x: Floats, delta: Floats, weight: Floats, epsilon: float) -> tuple[Floats, Floats]:
        """Return (x + delta, norm(x + delta)); the sum replaces x."""
        out = self._result(*x.shape)
        self._queue.norm(x, delta, weight, epsilon, out)
        return x, out

    def linear(self, x: Floats, weights: Sequence[Placed], biases: Sequence[Floats | None] = ()) -> tuple[Floats, ...]:
        """Return x · Wᵀ (+ bias) for each weight; x is quantized once for all of them."""
        outs = tuple(self._result(len(x), weight.rows) for weight in weights)
        self._queue.linear(x, [weight.weight for weight in weights], biases, outs)
        return outs

    def add_low_rank(self, outputs: Sequence[Floats], x: Floats, changes: Sequence[RowChange]) -> tuple[Floats, ...]:
        """Add what `changes` say to `outputs`, in place."""
        added = [
            (pair, change.rows, output)
            for change in changes
            for output, pair in zip(outputs, change.pairs, strict=True)
            if pair is not None
        ]
        pairs: list[PlacedPair] = [pair for pair, _, _ in added]
        self._queue.add_low_rank(
            x,
            [pair.down for pair in pairs],
            [pair.up for pair in pairs],
            [pair.scale for pair in pairs],
            [rows for _, rows, _ in added],
            [output for _, _, output in added],
        )
        return tuple(outputs)

    def attend(self, q: Floats, k: Floats, v: Floats, layer: int, batch: Batch) -> Floats:
        """Rotate q and k, write k and v to this layer's pages, and attend causally."""
        if self._pages is None:
            raise RuntimeError("attend needs pages: call open_pages before run")
        if self._step is None or self._step[0] is not batch:
            self._step = (batch, self._pages.step(batch))
        spec, out = self._pages.spec, self._result(*q.shape)
        interleaved = spec.rope_pairs is RopePairs.INTERLEAVED
        self._queue.attend(
            q, k, v, self._pages.cache, layer, self._step[1], spec.num_heads, spec.softmax_scale, interleaved, out
        )
        return out

    def gate(self, gate: Floats, up: Floats) -> Floats:
        """Return silu(gate) × up, in place of gate."""
        self._queue.gate(gate, up)
        return gate

    def layer_norm(self, parts: Sequence[Floats], weight: Floats, bias: Floats, epsilon: float) -> Floats:
        """Return the normed sum of `parts`, scaled and shifted."""
        self.finish()
        return encoders.layer_norm(parts, weight, bias, epsilon)

    def gelu(self, x: Floats) -> Floats:
        """Return x × Φ(x), in place."""
        self.finish()
        return encoders.gelu(x, self._workers)

    def attend_whole(self, q: Floats, k: Floats, v: Floats, attention: AttentionSpec, batch: Batch) -> Floats:
        """Rotate q and k, and let every token attend to all tokens of its sequence."""
        self.finish()
        return encoders.attend_whole(q, k, v, attention, batch, self._workers)

    def rows(self, x: Floats, indexes: NDArray[np.int32]) -> Floats:
        """Return the rows `indexes` of x."""
        self.finish()
        return x[indexes]

    def tanh(self, x: Floats) -> Floats:
        """Return tanh(x), in place."""
        self.finish()
        return np.tanh(x, out=x)

    def logits(self, x: Floats, head: Placed, wanted: NDArray[np.int32]) -> Floats:
        """Return the scores of all vocabulary entries for the rows `wanted`: (W, V)."""
        all_are_wanted = len(wanted) == len(x)  # as a rule, and then in order: the table says so
        return self.linear(x if all_are_wanted else self.rows(x, wanted), [head])[0]
