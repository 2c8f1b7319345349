"""A batch on the device: what its operations read, put there once for all layers.

A `Step` is made for one batch. A `FixedStep` is made for a number of sequences with one token each, and filled for each
batch of that kind: its tensors never move, so that a recorded run can be played again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..base import PAGE_TOKENS, AttentionSpec, Batch
from .kernels.spans import Spans


@dataclass(frozen=True)
class Step:
    """A batch on the device: page and slot of each token (T,), cosines and sines (T, 1, pairs)."""

    batch: Batch
    device: torch.device
    spec: AttentionSpec

    def find(self, values: NDArray[np.int32]) -> Tensor | None:
        """Return nothing: each array is copied when it is asked for."""

    @cached_property
    def spans(self) -> Spans:
        """What attention is told."""
        positions = self._long(self.batch.positions)
        return Spans(self._long(self.batch.page_table), self.batch.row_starts.tolist(), positions)

    @cached_property
    def pages(self) -> Tensor:
        """The page that each token is written to: (T,)."""
        return self._long(pages_of(self.batch))

    @cached_property
    def slots(self) -> Tensor:
        """The slot within its page: (T,)."""
        return self.spans.positions % PAGE_TOKENS

    @cached_property
    def turns(self) -> tuple[Tensor, Tensor]:
        """Cosines and sines of the angles."""
        cosines, sines = turns_of(self.batch.positions, self.spec)
        return torch.from_numpy(cosines).to(self.device), torch.from_numpy(sines).to(self.device)

    def _long(self, values: NDArray[np.int32]) -> Tensor:
        return torch.from_numpy(values.astype(np.int64)).to(self.device)


@dataclass(frozen=True, eq=False)
class FixedStep:
    """Room on the device for a batch of `size` sequences with one token each.

    Rows that a batch does not fill are sequences at position 0 of `spare_page`, which is nobody's.
    """

    size: int
    spare_page: int
    batch: Batch  # what a recorded run is made with; its numbers are not looked at
    spec: AttentionSpec
    ids: Tensor
    wanted: Tensor
    pages: Tensor
    slots: Tensor
    turns: tuple[Tensor, Tensor]
    spans: Spans
    _staged: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, size: int, most_pages: int, spare_page: int, spec: AttentionSpec, device: torch.device) -> FixedStep:
        """Make room."""

        def long(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.int64, device=device)

        counts = np.arange(size + 1, dtype=np.int32)
        zeros = np.zeros(size, np.int32)
        batch = Batch(zeros.copy(), zeros, counts, zeros[:, None], counts[:size].copy())
        turned = (size, 1, len(spec.inverse_frequencies))
        return cls(
            size, spare_page, batch, spec, long(size), torch.arange(size, device=device), long(size), long(size),
            (torch.zeros(turned, device=device), torch.zeros(turned, device=device)),
            Spans(long(size, most_pages), counts.tolist(), long(size), is_fixed=True),
        )  # fmt: skip

    def find(self, values: NDArray[np.int32]) -> Tensor | None:
        """Return where the batch's ids or wanted rows are on the device."""
        if values is self.batch.ids:
            return self.ids
        return self.wanted if values is self.batch.wanted else None

    def fill(self, batch: Batch) -> None:
        """Put a batch of at most `size` sequences in."""
        positions = self._padded(batch.positions, 0)
        cosines, sines = turns_of(positions, self.spec)
        self._put("ids", self.ids, self._padded(batch.ids, 0))
        self._put("positions", self.spans.positions, positions)
        self._put("pages", self.pages, self._padded(pages_of(batch), self.spare_page))
        self._put("slots", self.slots, positions % PAGE_TOKENS)
        self._put("cosines", self.turns[0], cosines)
        self._put("sines", self.turns[1], sines)
        self._put("table", self.spans.table, self._table(batch))

    def _padded(self, values: NDArray[np.int32], filler: int) -> NDArray[np.int64]:
        found = np.full(self.size, filler, np.int64)
        found[: len(values)] = values
        return found

    def _table(self, batch: Batch) -> NDArray[np.int64]:
        table = np.full(self.spans.table.shape, self.spare_page, np.int64)
        num_rows, width = batch.page_table.shape
        table[:num_rows, :width] = batch.page_table
        return table

    def _put(self, name: str, target: Tensor, values: NDArray[np.generic]) -> None:
        """Copy to the device without waiting: through memory that the device reads by itself, one piece for each."""
        if target.device.type != "cuda":
            target.copy_(torch.from_numpy(values))
            return
        if name not in self._staged:
            self._staged[name] = torch.empty(target.shape, dtype=target.dtype, pin_memory=True)
        self._staged[name].copy_(torch.from_numpy(values))
        target.copy_(self._staged[name], non_blocking=True)


def pages_of(batch: Batch) -> NDArray[np.int32]:
    """Return the page that each token of a batch is written to: (T,)."""
    lengths = np.diff(batch.row_starts)
    rows = np.repeat(np.arange(len(lengths)), lengths)
    found: NDArray[np.int32] = batch.page_table[rows, batch.positions // PAGE_TOKENS]
    return found


def turns_of(positions: NDArray[np.integer], spec: AttentionSpec) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return cosines and sines of the angles, which are taken in float64: (T, 1, pairs) each."""
    angles = positions[:, None, None] * spec.inverse_frequencies
    amplitude = spec.rope_amplitude
    return (np.cos(angles) * amplitude).astype(np.float32), (np.sin(angles) * amplitude).astype(np.float32)
