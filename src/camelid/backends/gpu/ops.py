"""The operations of `base.Ops` on PyTorch tensors, with kernels of our own where PyTorch has none.

The running sum `x` stays float32; products run in the type of the weights. One instance serves one batch: what its
attention needs is put on the device once for all layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from camelid.formats.blocks import BlockType

from ..base import AttentionSpec, Axis, Batch, RopePairs, RowChange
from .kernels.blocks import decode
from .kernels.eight_bits import multiply_fp8
from .kernels.spans import Spans
from .pages import Kept, Pages
from .parallel import ALONE, Group
from .step import FixedStep, Step
from .weights import Dense, Fp8, Placed

DECODED_ROWS = 64  # from so many tokens on, decoding a weight once and multiplying densely is the quicker way


class Kernels(Protocol):
    """What `kernels/` offers: see `kernels/twin.py`."""

    def multiply(self, x: Tensor, rows: Tensor, block_type: BlockType) -> Tensor:
        """Return x · Wᵀ for a quantized weight."""

    def attend(self, queries: Tensor, kept: Kept, spans: Spans, scale: float) -> Tensor:
        """Return causal attention over pages."""


class GpuOps:
    """The operations on one batch."""

    def __init__(
        self,
        device: torch.device,
        dtype: torch.dtype,
        kernels: Kernels,
        pages: Pages | None,
        group: Group = ALONE,
        step: Step | FixedStep | None = None,
    ) -> None:
        """Be ready for a batch; `step`: what is known of it on the device already."""
        self._group = group
        self._device = device
        self._dtype = dtype
        self._kernels = kernels
        self._pages = pages
        self._step = step
        self._row_lists: dict[int, tuple[NDArray[np.int32], Tensor]] = {}  # by identity of the array, which is kept

    def embed(self, ids: NDArray[np.int32], table: Placed) -> Tensor:
        """Return the rows `ids` of the embedding table: (T, dim) float32."""
        index = self._index(ids)
        if table.part is None:
            return _rows_of_table(index, table)
        own = index - table.part.start
        is_own = (own >= 0) & (index < table.part.stop)
        found = _rows_of_table(torch.where(is_own, own, 0), table)
        return self._group.total(torch.where(is_own[:, None], found, 0.0))

    def norm(self, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        """Return x / sqrt(mean(x²) + epsilon) × weight, row by row, in the type of the products."""
        return functional.rms_norm(x, (x.shape[-1],), weight, epsilon).to(self._dtype)

    def add_norm(self, x: Tensor, delta: Tensor, weight: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
        """Return (x + delta, norm(x + delta))."""
        x = x + delta
        return x, self.norm(x, weight, epsilon)

    def linear(self, x: Tensor, weights: Sequence[Placed], biases: Sequence[Tensor | None] = ()) -> tuple[Tensor, ...]:
        """Return x · Wᵀ (+ bias) for each weight."""
        x = x.to(self._dtype)
        outputs = [self._multiply(x, weight) for weight in weights]
        for index, bias in enumerate(biases):
            if bias is not None:
                outputs[index] = outputs[index] + bias.to(self._dtype)
        return tuple(outputs)

    def add_low_rank(self, outputs: Sequence[Tensor], x: Tensor, changes: Sequence[RowChange]) -> tuple[Tensor, ...]:
        """Add what `changes` say to `outputs`, in place: products in the type of the weights, sums in float32."""
        for change in changes:
            rows = self._rows_of(change)
            picked = x[rows].to(self._dtype)
            for output, pair in zip(outputs, change.pairs, strict=True):
                if pair is not None:
                    inner = functional.linear(picked, pair.down) * pair.scale
                    output.index_add_(0, rows, functional.linear(inner, pair.up).to(output.dtype))
        return tuple(outputs)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, layer: int, batch: Batch) -> Tensor:
        """Rotate q and k, write k and v to this layer's pages, and attend causally."""
        if self._pages is None:
            raise RuntimeError("attend needs pages: call open_pages before run")
        step, spec = self._step_of(batch, self._pages.spec), self._pages.spec
        queries, keys = (rotate(_heads(part, spec), *step.turns, spec.rope_pairs) for part in (q, k))
        self._pages.write(layer, step.pages, step.slots, keys, _heads(v, spec))
        attended = self._kernels.attend(
            queries.to(self._dtype),
            self._pages.layer(layer),
            step.spans,
            spec.softmax_scale,
        )
        return attended.reshape(len(q), -1)

    def gate(self, gate: Tensor, up: Tensor) -> Tensor:
        """Return silu(gate) × up."""
        return functional.silu(gate) * up

    def layer_norm(self, parts: Sequence[Tensor], weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
        """Return the normed sum of `parts`, scaled and shifted: float32, for the running sum stays so."""
        total = parts[0].float()
        for part in parts[1:]:
            total = total + part
        return functional.layer_norm(total, (total.shape[-1],), weight, bias, epsilon)

    def gelu(self, x: Tensor) -> Tensor:
        """Return x × Φ(x)."""
        return functional.gelu(x)

    def attend_whole(self, q: Tensor, k: Tensor, v: Tensor, attention: AttentionSpec, batch: Batch) -> Tensor:
        """Let every token attend to all of its sequence, one sequence after the other."""
        step = self._step_of(batch, attention)
        queries, keys = (rotate(_heads(part, attention), *step.turns, attention.rope_pairs) for part in (q, k))
        turned = [part.to(self._dtype).transpose(0, 1) for part in (queries, keys, _heads(v, attention))]
        attended = []
        for start, end in pairwise(batch.row_starts.tolist()):
            q_one, k_one, v_one = (part[:, start:end] for part in turned)
            attended.append(
                functional.scaled_dot_product_attention(
                    q_one, k_one, v_one, scale=attention.softmax_scale, enable_gqa=True
                )
            )
        return torch.cat(attended, dim=1).transpose(0, 1).reshape(len(q), -1)

    def rows(self, x: Tensor, indexes: NDArray[np.int32]) -> Tensor:
        """Return the rows `indexes` of x."""
        return x[self._index(indexes)]

    def tanh(self, x: Tensor) -> Tensor:
        """Return tanh(x)."""
        return torch.tanh(x)

    def logits(self, x: Tensor, head: Placed, wanted: NDArray[np.int32]) -> Tensor:
        """Return the scores of all vocabulary entries for the rows `wanted`: (W, V) float32."""
        rows = self._index(wanted)
        scores = self._product(x[rows].to(self._dtype), head).float()
        return scores if head.part is None else self._group.joined(scores, head.part.whole)

    def _multiply(self, x: Tensor, weight: Placed) -> Tensor:
        """Return x · Wᵀ; of a weight that is cut by columns, the sum of what all ranks' parts give."""
        product = self._product(x, weight)
        is_summed = weight.part is not None and weight.part.axis is Axis.COLUMNS
        return self._group.total(product) if is_summed else product

    def _product(self, x: Tensor, weight: Placed) -> Tensor:
        if isinstance(weight, Dense):
            return functional.linear(x, weight.matrix)
        if isinstance(weight, Fp8):
            return multiply_fp8(x, weight.codes, weight.scales)
        if len(x) >= DECODED_ROWS:
            return functional.linear(x, decode(weight.rows, weight.block_type).to(x.dtype))
        return self._kernels.multiply(x, weight.rows, weight.block_type)

    def _index(self, values: NDArray[np.int32]) -> Tensor:
        """Return indexes on the device: those of a step's own arrays may be there."""
        found = self._step.find(values) if self._step is not None else None
        return torch.from_numpy(values.astype(np.int64)).to(self._device) if found is None else found

    def _rows_of(self, change: RowChange) -> Tensor:
        """Return the rows of a change on the device: copied once for all layers of a batch."""
        key = id(change.rows)
        found = self._row_lists.get(key)
        if found is None:
            rows = torch.from_numpy(change.rows.astype(np.int64)).to(self._device)
            found = self._row_lists[key] = (change.rows, rows)
        return found[1]

    def _step_of(self, batch: Batch, spec: AttentionSpec) -> Step | FixedStep:
        if self._step is None or self._step.batch is not batch:
            self._step = Step(batch, self._device, spec)
        return self._step


def _rows_of_table(index: Tensor, table: Placed) -> Tensor:
    if isinstance(table, Dense):
        return table.matrix[index].float()
    if isinstance(table, Fp8):
        return table.codes[index].float() * table.scales[index, None]
    return decode(table.rows[index], table.block_type)


def rotate(heads: Tensor, cosines: Tensor, sines: Tensor, pairs: RopePairs) -> Tensor:
    """Return heads (T, heads, D) turned in float32; elements beyond the rotary ones stay.

    cosines, sines: (T, 1, pairs).

    Source: Su et al. 2021 (RoFormer), equation 34.
    """
    heads = heads.float()
    num_pairs = cosines.shape[-1]
    turned, rest = heads[..., : 2 * num_pairs], heads[..., 2 * num_pairs :]
    split = (num_pairs, 2) if pairs is RopePairs.INTERLEAVED else (2, num_pairs)
    axis = -1 if pairs is RopePairs.INTERLEAVED else -2
    first, second = turned.reshape(*turned.shape[:-1], *split).unbind(axis)
    both = torch.stack((first * cosines - second * sines, first * sines + second * cosines), axis).flatten(-2)
    return torch.cat((both, rest), dim=-1)


def _heads(x: Tensor, spec: AttentionSpec) -> Tensor:
    return x.reshape(len(x), -1, spec.head_dim)
